//! Which step of the reference did how much of a submission's update, from sampled weights.
//!
//! `Δw`, what the submission changed, is fitted by the updates `u_k` that the reference made in
//! its steps: `Δw ≈ Σ c_k u_k` in weighted least squares. Who did each step has every `c_k` near
//! 1; who left one out has its coefficient near 0. Only sampled elements are known, so each
//! counts for as many as its tensor has for each that was sampled, and every norm estimates the
//! norm over all elements.
//!
//! It never gives coefficients that noise could have made: see [`Conditioning`].

use serde::Serialize;
use thiserror::Error;

use crate::conditioning::Conditioning;
use crate::least_squares::CorrelationFactor;
use crate::samples::{RecordedTensor, SampledTensor, Samples, dot};
use crate::tensor::{CompareError, TensorBytes};
use crate::weights::{WeightComparison, compare_weights, relative_error};

/// What the reference did in each step, ready to attribute submissions. Built once for a run.
pub struct StepBasis {
    samples: Samples,
    /// `‖Δw_ref‖` over the attributed tensors.
    update_norm: f64,
    conditioning: Conditioning,
    /// Of the normalised updates; only where all steps are attributable.
    factor: Option<CorrelationFactor>,
}

/// What was measured of one submission. An infinity stands for what has no number, and is what
/// no limit admits; JSON has none and writes `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attribution {
    /// For each step how much of the reference's update the submission made, 1 for all of it.
    /// None where a step is unattributable or the submission has an element that is not finite.
    pub coefficients: Option<Vec<f64>>,
    /// Whether the reference's steps can be told apart.
    pub conditioning: Conditioning,
    /// `‖Δw - Σ c_k u_k‖ / ‖Δw_ref‖` over the attributed tensors; infinite without coefficients.
    pub residual: f64,
    /// `‖Δw - Δw_ref‖ / ‖Δw_ref‖`, estimated for all elements of the attributed tensors. 0 for 0/0,
    /// infinite for anything else over 0, when an element of the submission is not finite, and when
    /// no tensor is attributed.
    pub update_error: f64,
    /// `‖w - w_ref‖ / ‖w_ref‖`, in the same way.
    pub weight_error: f64,
    /// The share of all elements that the submission changed, estimated; from 0 to 1.
    pub changed_ratio: f64,
    /// The share of all elements that the reference changed, estimated; from 0 to 1.
    pub reference_changed_ratio: f64,
    /// Sampled elements of the submission that are NaN or infinite.
    pub non_finite: u64,
    /// Each tensor by itself, in the order that the basis was given.
    pub tensors: Vec<TensorUpdate>,
}

/// What was measured of one tensor of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TensorUpdate {
    /// `‖Δw - Δw_ref‖ / ‖Δw_ref‖`, with the same meaning of 0 and infinity as for all tensors.
    pub update_error: f64,
    /// The share of its elements that the submission changed, estimated.
    pub changed_ratio: f64,
    /// The share of its elements that the reference changed, estimated.
    pub reference_changed_ratio: f64,
    /// Its sampled elements that are NaN or infinite.
    pub non_finite: u64,
}

/// Why nothing can be attributed: a fault of the caller, of the reference or of a submission's
/// form.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum AttributionError {
    /// There is no tensor, so the number of steps is not known.
    #[error("no tensor was sampled")]
    NoTensor,
    /// There is nothing to attribute to.
    #[error("tensor {tensor} has {states} recorded states, but one step takes two")]
    NoStep {
        /// Index of the tensor.
        tensor: usize,
        /// How many states it has.
        states: usize,
    },
    /// Two tensors differ in their number of states.
    #[error("tensor {tensor} has {found} recorded states but the first tensor has {expected}")]
    StateCount {
        /// Index of the tensor.
        tensor: usize,
        /// How many states it has.
        found: usize,
        /// How many the first tensor has.
        expected: usize,
    },
    /// A state holds a part of an element.
    #[error("state {state} of tensor {tensor} cannot be read")]
    State {
        /// Index of the tensor.
        tensor: usize,
        /// Index of the state, 0 before the first step.
        state: usize,
        /// What is wrong.
        #[source]
        source: CompareError,
    },
    /// Two states of a tensor differ in their number of elements.
    #[error(
        "state {state} of tensor {tensor} has {found} elements but its first state has {expected}"
    )]
    StateLength {
        /// Index of the tensor.
        tensor: usize,
        /// Index of the state, 0 before the first step.
        state: usize,
        /// Its number of elements.
        found: usize,
        /// That of the first state.
        expected: usize,
    },
    /// A tensor is sampled at more positions than it has, or at none although it has some, so
    /// nothing can be estimated of it.
    #[error("tensor {tensor} has {population} elements but was sampled at {sampled}")]
    SampleSize {
        /// Index of the tensor.
        tensor: usize,
        /// How many positions were sampled.
        sampled: u64,
        /// How many elements the tensor has.
        population: u64,
    },
    /// The reference recorded a NaN or an infinity.
    #[error("state {state} of tensor {tensor} has an element of the reference that is not finite")]
    ReferenceNotFinite {
        /// Index of the tensor.
        tensor: usize,
        /// Index of the state, 0 before the first step.
        state: usize,
    },
    /// The admitted error is not a positive number.
    #[error("the admitted update error is {value}, but it must be finite and above 0")]
    AdmittedError {
        /// What was given.
        value: f64,
    },
    /// The submission has another number of tensors than the reference.
    #[error("the submission has {found} tensors but the reference has {expected}")]
    TensorCount {
        /// How many the submission has.
        found: usize,
        /// How many the reference has.
        expected: usize,
    },
    /// A tensor of the submission does not fit the reference's.
    #[error("tensor {tensor} of the submission cannot be compared")]
    Submission {
        /// Index of the tensor.
        tensor: usize,
        /// What is wrong.
        #[source]
        source: CompareError,
    },
}

impl std::fmt::Debug for StepBasis {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StepBasis")
            .field("tensors", &self.samples.tensors.len())
            .field("steps", &self.samples.steps)
            .field("conditioning", &self.conditioning)
            .finish_non_exhaustive()
    }
}

impl StepBasis {
    /// Takes the reference's records of all tensors. `admitted_error` is the largest update error
    /// that the caller lets pass anyway, such as [`DEFAULT_ADMITTED_ERROR`]: coefficients are
    /// given only if noise of that size leaves them meaningful.
    ///
    /// # Errors
    ///
    /// When the records do not fit each other, are not finite, or are too few to estimate from.
    pub fn new(
        tensors: &[SampledTensor<'_>],
        admitted_error: f64,
    ) -> Result<Self, AttributionError> {
        if !(admitted_error.is_finite() && admitted_error > 0.0) {
            return Err(AttributionError::AdmittedError {
                value: admitted_error,
            });
        }
        let samples = Samples::new(tensors)?;
        let steps = samples.steps;
        let products = samples.sum_stretches(steps * steps, |stretch, updates, products| {
            let weight = samples.tensors[stretch.tensor].weight();
            for (row, update) in updates.iter().enumerate() {
                for (column, other) in updates[..=row].iter().enumerate() {
                    products[row * steps + column] += weight * dot(update, other);
                }
            }
        });
        let squared_update = samples.sum_stretches(1, |stretch, _, sum| {
            let recorded = &samples.tensors[stretch.tensor];
            let change = samples.change(stretch, &recorded.state(steps));
            sum[0] += recorded.weight() * dot(&change, &change);
        });
        let update_norm = squared_update[0].sqrt();
        let deviation = admitted_error * update_norm / samples.effective_size().sqrt();
        let (conditioning, factor) = Conditioning::of(&products, steps, admitted_error, deviation);
        Ok(Self {
            samples,
            update_norm,
            conditioning,
            factor,
        })
    }

    /// How many steps the reference made.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.samples.steps
    }

    /// Whether the reference's steps can be told apart, which no submission changes.
    #[must_use]
    pub fn conditioning(&self) -> &Conditioning {
        &self.conditioning
    }

    /// Measures a submission, given its final values at the sampled positions of each tensor, in
    /// the order of the basis. Dtypes may differ from the reference's.
    ///
    /// # Errors
    ///
    /// When tensors are missing, or one has another number of elements than was sampled.
    pub fn attribute(
        &self,
        submission: &[TensorBytes<'_>],
    ) -> Result<Attribution, AttributionError> {
        if submission.len() != self.samples.tensors.len() {
            return Err(AttributionError::TensorCount {
                found: submission.len(),
                expected: self.samples.tensors.len(),
            });
        }
        let mut totals = Totals::default();
        let mut updates = Vec::with_capacity(self.samples.tensors.len());
        for (tensor, (recorded, values)) in self.samples.tensors.iter().zip(submission).enumerate()
        {
            let measured =
                compare_weights(recorded.state(0), recorded.state(self.steps()), *values)
                    .map_err(|source| AttributionError::Submission { tensor, source })?;
            totals.add(&measured, recorded);
            updates.push(TensorUpdate {
                update_error: measured.update_relative_error(),
                changed_ratio: measured.changed_ratio(),
                reference_changed_ratio: measured.reference_changed_ratio(),
                non_finite: measured.non_finite,
            });
        }
        let fit = match &self.factor {
            Some(factor) if totals.non_finite == 0 => Some(self.fit(factor, submission)),
            _ => None,
        };
        let (coefficients, residual) = fit.map_or((None, f64::INFINITY), |(values, residual)| {
            (Some(values), residual)
        });
        Ok(Attribution {
            coefficients,
            conditioning: self.conditioning.clone(),
            residual,
            update_error: totals.error_relative_to(totals.squared_update),
            weight_error: totals.error_relative_to(totals.squared_reference),
            changed_ratio: totals.share(totals.changed),
            reference_changed_ratio: totals.share(totals.reference_changed),
            non_finite: totals.non_finite,
            tensors: updates,
        })
    }

    /// The coefficients and the relative residual of a submission that is finite.
    fn fit(&self, factor: &CorrelationFactor, submission: &[TensorBytes<'_>]) -> (Vec<f64>, f64) {
        let norms = self.conditioning.steps.iter().map(|step| step.update_norm);
        let mut coefficients =
            self.samples
                .sum_stretches(self.steps(), |stretch, updates, products| {
                    let change = self.samples.change(stretch, &submission[stretch.tensor]);
                    for (product, update) in products.iter_mut().zip(updates) {
                        *product +=
                            self.samples.tensors[stretch.tensor].weight() * dot(update, &change);
                    }
                });
        for (product, norm) in coefficients.iter_mut().zip(norms.clone()) {
            *product /= norm;
        }
        factor.solve(&mut coefficients);
        for (coefficient, norm) in coefficients.iter_mut().zip(norms) {
            *coefficient /= norm;
        }
        let unexplained = self.samples.sum_stretches(1, |stretch, updates, sum| {
            let mut rest = self.samples.change(stretch, &submission[stretch.tensor]);
            for (update, coefficient) in updates.iter().zip(&coefficients) {
                for (rest, update) in rest.iter_mut().zip(update) {
                    *rest -= coefficient * update;
                }
            }
            sum[0] += self.samples.tensors[stretch.tensor].weight() * dot(&rest, &rest);
        });
        let residual = relative_error(unexplained[0], self.update_norm * self.update_norm);
        (coefficients, residual)
    }
}

/// Sums over all elements of all tensors, estimated.
#[derive(Default)]
struct Totals {
    non_finite: u64,
    any_attributed: bool,
    population: f64,
    changed: f64,
    reference_changed: f64,
    squared_error: f64,
    squared_reference: f64,
    squared_update: f64,
}

impl Totals {
    fn add(&mut self, measured: &WeightComparison, recorded: &RecordedTensor) {
        let weight = recorded.weight();
        self.non_finite += measured.non_finite;
        self.population += recorded.population as f64;
        self.changed += weight * measured.changed as f64;
        self.reference_changed += weight * measured.reference_changed as f64;
        if recorded.attributed {
            self.any_attributed = true;
            self.squared_error += weight * measured.squared_error;
            self.squared_reference += weight * measured.squared_reference;
            self.squared_update += weight * measured.squared_update;
        }
    }

    fn error_relative_to(&self, squared_norm: f64) -> f64 {
        if self.non_finite > 0 || !self.any_attributed {
            f64::INFINITY
        } else {
            relative_error(self.squared_error, squared_norm)
        }
    }

    fn share(&self, part: f64) -> f64 {
        if self.population == 0.0 {
            0.0
        } else {
            part / self.population
        }
    }
}
