//! Which step of the reference did how much of a submission's update, from sampled weights.
//!
//! `Δw`, what the submission changed, is fitted by the updates `u_k` that the reference made in
//! its steps: `Δw ≈ Σ c_k u_k` in weighted least squares. Who did each step has every `c_k` near
//! 1; who left one out has its coefficient near 0. Only sampled elements are known, so each
//! counts for as many as its tensor has for each that was sampled, and every norm estimates the
//! norm over all elements.
//!
//! It never gives coefficients that noise could have made: see [`Conditioning`].

use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;
use serde::Serialize;
use thiserror::Error;

use crate::blocks::{LANES, sum_lanes};
use crate::least_squares::CorrelationFactor;
use crate::tensor::{CompareError, Dtype, Operand, TensorBytes};
use crate::weights::{WeightComparison, compare_weights, relative_error};

/// The update error that honest bf16 runs stay below in the study that the method rests on
/// (their largest was 0.040): what to admit where nothing was calibrated.
pub const DEFAULT_ADMITTED_ERROR: f64 = 0.05;

/// The largest standard deviation of a coefficient, under noise of the admitted size, at which
/// a step still counts as attributable: a step left out is then ten of them away from 1.
pub const EXPECTED_DEVIATION_MAX: f64 = 0.1;

/// No variance inflation above this is trusted, however small the admitted error: the part of
/// such an update that no other step explains is below a thousandth of it.
pub const VARIANCE_INFLATION_CEILING: f64 = 1e6;

/// Elements of one tensor that are widened at a time: 200 steps of them take 400 KiB.
const STRETCH_ELEMENTS: usize = 256;

/// The least number of stretches that one thread takes at a time, and the largest number of
/// partial results, each a matrix of steps by steps.
const STRETCHES_PER_PART: usize = 64;
const PARTS_MAX: usize = 64;

/// One tensor as the reference recorded it at sampled positions.
#[derive(Clone, Debug)]
pub struct SampledTensor<'a> {
    /// How many elements the whole tensor has.
    pub population: u64,
    /// Whether the tensor takes part in the least squares. One whose honest noise is as large as
    /// its update, such as a bias without a gradient, only disturbs them; its own error is
    /// measured all the same.
    pub attributed: bool,
    /// The values at the sampled positions before the first step and after each.
    pub states: Vec<TensorBytes<'a>>,
}

/// What the reference did in each step, ready to attribute submissions. Built once for a run.
pub struct StepBasis {
    tensors: Vec<RecordedTensor>,
    steps: usize,
    stretches: Vec<Stretch>,
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
    /// `‖Δw - Δw_ref‖ / ‖Δw_ref‖`, estimated for all elements of all tensors. 0 for 0/0, infinite
    /// for anything else over 0 and when an element of the submission is not finite.
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

/// Whether the steps of the reference can be told apart, given how far an honest submission may
/// be off.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conditioning {
    /// Each step, the first one first.
    pub steps: Vec<StepConditioning>,
}

/// How well the coefficient of one step can be known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepConditioning {
    /// `‖u_k‖` over the attributed tensors, estimated for all their elements.
    pub update_norm: f64,
    /// `1 / (1 - R²)` with `R²` of the regression of `u_k` on the updates of all other steps: 1
    /// when it is orthogonal to them. Infinite without an update.
    pub variance_inflation: f64,
    /// The standard deviation of `c_k` when the submission is off by the admitted error in a
    /// random direction. Infinite without an update.
    pub expected_deviation: f64,
    /// Why the step cannot be attributed, if it cannot.
    pub obstacle: Option<Obstacle>,
}

/// Why a coefficient would mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// The reference changed none of the sampled elements in this step.
    NoUpdate,
    /// The other steps make up the update but for a part smaller than the admitted error of the
    /// update itself, or than rounding.
    Collinear,
    /// The admitted error would move the coefficient by more than [`EXPECTED_DEVIATION_MAX`]:
    /// the update is too small against the whole, or too few elements were sampled.
    LostInNoise,
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

/// A tensor's states, owned.
struct RecordedTensor {
    sampled: usize,
    population: u64,
    attributed: bool,
    states: Vec<(Dtype, Vec<u8>)>,
}

/// Neighbouring elements of an attributed tensor.
#[derive(Clone, Copy)]
struct Stretch {
    tensor: usize,
    start: usize,
    length: usize,
}

/// One number for each element of a stretch; those past its end are zero.
type StretchValues = [f64; STRETCH_ELEMENTS];

impl Conditioning {
    /// Whether every step can be attributed.
    #[must_use]
    pub fn is_well_conditioned(&self) -> bool {
        self.steps.iter().all(|step| step.obstacle.is_none())
    }

    /// The steps that cannot be attributed, counted from 0, each with its reason.
    pub fn obstacles(&self) -> impl Iterator<Item = (usize, Obstacle)> + '_ {
        self.steps
            .iter()
            .enumerate()
            .filter_map(|(step, conditioning)| Some((step, conditioning.obstacle?)))
    }
}

impl std::fmt::Debug for StepBasis {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StepBasis")
            .field("tensors", &self.tensors.len())
            .field("steps", &self.steps)
            .field("conditioning", &self.conditioning)
            .finish_non_exhaustive()
    }
}

impl RecordedTensor {
    fn new(tensor: usize, sample: &SampledTensor<'_>) -> Result<Self, AttributionError> {
        let mut sampled = None;
        for (state, values) in sample.states.iter().enumerate() {
            let found = values.element_count(Operand::Reference).map_err(|source| {
                AttributionError::State {
                    tensor,
                    state,
                    source,
                }
            })?;
            let expected = *sampled.get_or_insert(found);
            if found != expected {
                return Err(AttributionError::StateLength {
                    tensor,
                    state,
                    found,
                    expected,
                });
            }
            if !values.all_finite() {
                return Err(AttributionError::ReferenceNotFinite { tensor, state });
            }
        }
        let sampled = sampled.unwrap_or(0);
        let population = sample.population;
        if sampled as u64 > population || (sampled == 0 && population > 0) {
            return Err(AttributionError::SampleSize {
                tensor,
                sampled: sampled as u64,
                population,
            });
        }
        Ok(Self {
            sampled,
            population,
            attributed: sample.attributed,
            states: sample
                .states
                .iter()
                .map(|state| (state.dtype, state.bytes.to_vec()))
                .collect(),
        })
    }

    fn state(&self, state: usize) -> TensorBytes<'_> {
        let (dtype, bytes) = &self.states[state];
        TensorBytes {
            dtype: *dtype,
            bytes,
        }
    }

    /// How many elements each sampled one stands for.
    fn weight(&self) -> f64 {
        if self.sampled == 0 {
            0.0
        } else {
            self.population as f64 / self.sampled as f64
        }
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
        let expected = tensors
            .first()
            .ok_or(AttributionError::NoTensor)?
            .states
            .len();
        if expected < 2 {
            return Err(AttributionError::NoStep {
                tensor: 0,
                states: expected,
            });
        }
        let mut recorded = Vec::with_capacity(tensors.len());
        for (tensor, sample) in tensors.iter().enumerate() {
            let found = sample.states.len();
            if found != expected {
                return Err(AttributionError::StateCount {
                    tensor,
                    found,
                    expected,
                });
            }
            recorded.push(RecordedTensor::new(tensor, sample)?);
        }
        let mut basis = Self {
            stretches: cut(&recorded),
            tensors: recorded,
            steps: expected - 1,
            update_norm: 0.0,
            conditioning: Conditioning { steps: Vec::new() },
            factor: None,
        };
        basis.prepare(admitted_error);
        Ok(basis)
    }

    /// How many steps the reference made.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
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
        if submission.len() != self.tensors.len() {
            return Err(AttributionError::TensorCount {
                found: submission.len(),
                expected: self.tensors.len(),
            });
        }
        let mut totals = Totals::default();
        let mut updates = Vec::with_capacity(self.tensors.len());
        for (tensor, (recorded, values)) in self.tensors.iter().zip(submission).enumerate() {
            let measured = compare_weights(recorded.state(0), recorded.state(self.steps), *values)
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
        let mut coefficients = self.sum_parts(self.steps, |stretch, updates, products| {
            let change = self.change(stretch, &submission[stretch.tensor]);
            for (product, update) in products.iter_mut().zip(updates) {
                *product += self.tensors[stretch.tensor].weight() * dot(update, &change);
            }
        });
        for (product, norm) in coefficients.iter_mut().zip(norms.clone()) {
            *product /= norm;
        }
        factor.solve(&mut coefficients);
        for (coefficient, norm) in coefficients.iter_mut().zip(norms) {
            *coefficient /= norm;
        }
        let unexplained = self.sum_parts(1, |stretch, updates, sum| {
            let mut rest = self.change(stretch, &submission[stretch.tensor]);
            for (update, coefficient) in updates.iter().zip(&coefficients) {
                for (rest, update) in rest.iter_mut().zip(update) {
                    *rest -= coefficient * update;
                }
            }
            sum[0] += self.tensors[stretch.tensor].weight() * dot(&rest, &rest);
        });
        let residual = relative_error(unexplained[0], self.update_norm * self.update_norm);
        (coefficients, residual)
    }

    /// Measures how well each step can be told from the others, and factorises if all can.
    fn prepare(&mut self, admitted_error: f64) {
        let steps = self.steps;
        let products = self.sum_parts(steps * steps, |stretch, updates, products| {
            let weight = self.tensors[stretch.tensor].weight();
            for (row, update) in updates.iter().enumerate() {
                for (column, other) in updates[..=row].iter().enumerate() {
                    products[row * steps + column] += weight * dot(update, other);
                }
            }
        });
        let squared_norm = |step: usize| products[step * steps + step];
        let moving: Vec<usize> = (0..steps)
            .filter(|&step| squared_norm(step) > 0.0)
            .collect();
        let mut correlations = vec![0.0; moving.len() * moving.len()];
        for (row, &step) in moving.iter().enumerate() {
            for (column, &other) in moving[..row].iter().enumerate() {
                correlations[row * moving.len() + column] = products[step * steps + other]
                    / (squared_norm(step).sqrt() * squared_norm(other).sqrt());
            }
            correlations[row * moving.len() + row] = 1.0;
        }
        let factor = CorrelationFactor::of(correlations, moving.len());

        self.update_norm = self.sum_parts(1, |stretch, _, sum| {
            let recorded = &self.tensors[stretch.tensor];
            let change = self.change(stretch, &recorded.state(steps));
            sum[0] += recorded.weight() * dot(&change, &change);
        })[0]
            .sqrt();
        let noise = admitted_error * self.update_norm / self.effective_sample_size().sqrt();
        let inflation_max = VARIANCE_INFLATION_CEILING.min(admitted_error.powi(-2));
        let mut conditioning: Vec<StepConditioning> = (0..steps)
            .map(|_| StepConditioning {
                update_norm: 0.0,
                variance_inflation: f64::INFINITY,
                expected_deviation: f64::INFINITY,
                obstacle: Some(Obstacle::NoUpdate),
            })
            .collect();
        for (&step, variance_inflation) in moving.iter().zip(factor.inverse_diagonal()) {
            let update_norm = squared_norm(step).sqrt();
            let expected_deviation = noise / update_norm * variance_inflation.sqrt();
            conditioning[step] = StepConditioning {
                update_norm,
                variance_inflation,
                expected_deviation,
                obstacle: if variance_inflation > inflation_max {
                    Some(Obstacle::Collinear)
                } else if expected_deviation > EXPECTED_DEVIATION_MAX {
                    Some(Obstacle::LostInNoise)
                } else {
                    None
                },
            };
        }
        self.conditioning = Conditioning {
            steps: conditioning,
        };
        self.factor = self.conditioning.is_well_conditioned().then_some(factor);
    }

    /// How many equally weighted elements would give estimates as good as the attributed sample
    /// does (Kish's effective sample size).
    fn effective_sample_size(&self) -> f64 {
        let mut weights = 0.0;
        let mut squared_weights = 0.0;
        for tensor in self.tensors.iter().filter(|tensor| tensor.attributed) {
            weights += tensor.population as f64;
            squared_weights += tensor.population as f64 * tensor.weight();
        }
        if squared_weights == 0.0 {
            0.0
        } else {
            weights * weights / squared_weights
        }
    }

    /// Adds up `terms` numbers over all stretches: `add` gets the updates of each step in a
    /// stretch. The parts that threads take depend only on the number of stretches, and are
    /// combined in order.
    fn sum_parts(
        &self,
        terms: usize,
        add: impl Fn(Stretch, &[StretchValues], &mut [f64]) + Sync,
    ) -> Vec<f64> {
        let part = STRETCHES_PER_PART.max(self.stretches.len().div_ceil(PARTS_MAX));
        let parts: Vec<Vec<f64>> = self
            .stretches
            .par_chunks(part)
            .map(|stretches| {
                let mut sums = vec![0.0; terms];
                let mut updates = vec![[0.0; STRETCH_ELEMENTS]; self.steps];
                for &stretch in stretches {
                    self.load_updates(stretch, &mut updates);
                    add(stretch, &updates, &mut sums);
                }
                sums
            })
            .collect();
        let mut total = vec![0.0; terms];
        for sums in parts {
            for (total, sum) in total.iter_mut().zip(sums) {
                *total += sum;
            }
        }
        total
    }

    /// The reference's update in each step.
    fn load_updates(&self, stretch: Stretch, updates: &mut [StretchValues]) {
        let recorded = &self.tensors[stretch.tensor];
        let mut before = widened(stretch, &recorded.state(0));
        for (step, update) in updates.iter_mut().enumerate() {
            let after = widened(stretch, &recorded.state(step + 1));
            for ((update, before), after) in update.iter_mut().zip(&before).zip(&after) {
                *update = f64::from(*after) - f64::from(*before);
            }
            before = after;
        }
    }

    /// What `values` are away from the initial ones.
    fn change(&self, stretch: Stretch, values: &TensorBytes<'_>) -> StretchValues {
        let initial = widened(stretch, &self.tensors[stretch.tensor].state(0));
        let values = widened(stretch, values);
        std::array::from_fn(|element| f64::from(values[element]) - f64::from(initial[element]))
    }
}

/// Sums over all elements of all tensors, estimated.
#[derive(Default)]
struct Totals {
    non_finite: u64,
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
        self.squared_error += weight * measured.squared_error;
        self.squared_reference += weight * measured.squared_reference;
        self.squared_update += weight * measured.squared_update;
    }

    fn error_relative_to(&self, squared_norm: f64) -> f64 {
        if self.non_finite > 0 {
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

fn cut(tensors: &[RecordedTensor]) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    for (tensor, recorded) in tensors.iter().enumerate() {
        if recorded.attributed {
            stretches.extend(
                (0..recorded.sampled)
                    .step_by(STRETCH_ELEMENTS)
                    .map(|start| Stretch {
                        tensor,
                        start,
                        length: STRETCH_ELEMENTS.min(recorded.sampled - start),
                    }),
            );
        }
    }
    stretches
}

fn widened(stretch: Stretch, values: &TensorBytes<'_>) -> [f32; STRETCH_ELEMENTS] {
    let mut widened = [0.0; STRETCH_ELEMENTS];
    values.widen_into(stretch.start, &mut widened[..stretch.length]);
    widened
}

fn dot(left: &StretchValues, right: &StretchValues) -> f64 {
    let mut lanes = [0.0; LANES];
    for (left, right) in left
        .as_chunks::<LANES>()
        .0
        .iter()
        .zip(right.as_chunks::<LANES>().0)
    {
        for lane in 0..LANES {
            lanes[lane] += left[lane] * right[lane];
        }
    }
    sum_lanes(lanes)
}
