//! How well the updates of the reference's steps can be told apart.
//!
//! Decided from the reference alone, before any submission is looked at, so that no submission can
//! make itself unattributable.

use serde::Serialize;

use crate::least_squares::CorrelationFactor;

/// The update error that honest bf16 runs stay below in the study that the method rests on
/// (their largest was 0.040): what to admit where nothing was calibrated.
pub const DEFAULT_ADMITTED_ERROR: f64 = 0.05;

/// The largest standard deviation of a coefficient, under noise of the admitted size, at which
/// a step still counts as attributable: a step left out is then ten of them away from 1.
pub const EXPECTED_DEVIATION_MAX: f64 = 0.1;

/// No variance inflation above this is trusted, however small the admitted error: the part of
/// such an update that no other step explains is below a thousandth of it.
pub const VARIANCE_INFLATION_CEILING: f64 = 1e6;

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

    /// Judges the steps whose updates have these scalar products, row after row (only the lower
    /// triangle is read), against an error of `admitted` times the norm of the whole update, of
    /// which `deviation` is the share that falls on a single direction. Gives also the factor of
    /// the correlations, if every step can be attributed.
    pub(crate) fn of(
        products: &[f64],
        steps: usize,
        admitted: f64,
        deviation: f64,
    ) -> (Self, Option<CorrelationFactor>) {
        let norm = |step: usize| products[step * steps + step].sqrt();
        let moving: Vec<usize> = (0..steps).filter(|&step| norm(step) > 0.0).collect();
        let mut correlations = vec![0.0; moving.len() * moving.len()];
        for (row, &step) in moving.iter().enumerate() {
            for (column, &other) in moving[..row].iter().enumerate() {
                correlations[row * moving.len() + column] =
                    products[step * steps + other] / (norm(step) * norm(other));
            }
            correlations[row * moving.len() + row] = 1.0;
        }
        let factor = CorrelationFactor::of(correlations, moving.len());

        let inflation_max = VARIANCE_INFLATION_CEILING.min(admitted.powi(-2));
        let mut conditioning = vec![StepConditioning::WITHOUT_UPDATE; steps];
        for (&step, variance_inflation) in moving.iter().zip(factor.inverse_diagonal()) {
            let expected_deviation = deviation / norm(step) * variance_inflation.sqrt();
            conditioning[step] = StepConditioning {
                update_norm: norm(step),
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
        let conditioning = Self {
            steps: conditioning,
        };
        let factor = conditioning.is_well_conditioned().then_some(factor);
        (conditioning, factor)
    }
}

impl StepConditioning {
    const WITHOUT_UPDATE: Self = Self {
        update_norm: 0.0,
        variance_inflation: f64::INFINITY,
        expected_deviation: f64::INFINITY,
        obstacle: Some(Obstacle::NoUpdate),
    };
}
