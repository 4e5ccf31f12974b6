//! The limits of the checks on weights: those of the hparams, or of the calibration that they name.

use crusades_core::hparams::VerificationHparams;
use crusades_numerics::DEFAULT_ADMITTED_ERROR;

use crate::calibration::{Calibration, CalibrationError};

/// Honest noise, relative to a tensor's update, from which on the update of that tensor says nothing:
/// detection.md found a key bias at 0.53, whose gradient is rounding alone, and the others far below.
const NOISE_ALONE: f64 = 0.25;

/// Smallest limit for one tensor, however quiet it was in the calibration. detection.md.
const LEAST_TENSOR_LIMIT: f64 = 0.005;

/// What an update may differ from the reference's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Limits {
    /// Largest update error of all weights together.
    pub(crate) update_error: Option<f64>,
    /// Largest |c - 1| of a step.
    pub(crate) coefficient_deviation: Option<f64>,
    /// A tensor may be off by this many times its noise.
    tensor_factor: Option<f64>,
    /// Honest noise of each tensor, in the model's order; none without a calibration.
    noise: Option<Vec<f64>>,
}

impl Limits {
    /// The limits that hold for a model with tensors of these names.
    ///
    /// # Errors
    /// [`CalibrationError::Tensor`] if the calibration lacks one of them,
    /// [`CalibrationError::NoiseAlone`] if it finds no tensor quiet enough.
    pub(crate) fn new<'a>(
        hparams: &VerificationHparams,
        calibration: Option<&Calibration>,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Self, CalibrationError> {
        let noise = calibration
            .map(|calibration| {
                names
                    .map(|name| calibration.noise_of(name))
                    .collect::<Result<Vec<f64>, CalibrationError>>()
            })
            .transpose()?;
        let is_noise = |noise: &Vec<f64>| noise.iter().all(|noise| *noise >= NOISE_ALONE);
        if noise.as_ref().is_some_and(is_noise) {
            return Err(CalibrationError::NoiseAlone);
        }
        let limits = calibration.map(|calibration| &calibration.limits);
        Ok(Self {
            update_error: limits.map_or(hparams.update_relative_error_max, |limits| {
                Some(limits.update_relative_error_max)
            }),
            coefficient_deviation: limits
                .map_or(hparams.step_coefficient_max_deviation, |limits| {
                    Some(limits.step_coefficient_max_deviation)
                }),
            tensor_factor: hparams.tensor_noise_factor,
            noise,
        })
    }

    /// Whether tensor number `index` takes part in the error of all and when steps are told apart.
    pub(crate) fn attributed(&self, index: usize) -> bool {
        self.noise
            .as_ref()
            .and_then(|noise| noise.get(index))
            .is_none_or(|noise| *noise < NOISE_ALONE)
    }

    /// Largest update error of tensor number `index` by itself, if it has such a limit.
    pub(crate) fn tensor_error(&self, index: usize) -> Option<f64> {
        let noise = *self.noise.as_ref()?.get(index)?;
        tensor_limit(noise, self.tensor_factor?)
    }

    /// Update error that passes, which the attribution of steps has to bear.
    pub(crate) fn admitted_error(&self) -> f64 {
        self.update_error
            .filter(|limit| *limit > 0.0)
            .unwrap_or(DEFAULT_ADMITTED_ERROR)
    }
}

/// Largest update error of a tensor by itself that has this noise in honest runs, if the noise allows
/// for a limit.
pub(crate) fn tensor_limit(noise: f64, factor: f64) -> Option<f64> {
    (noise < NOISE_ALONE).then(|| LEAST_TENSOR_LIMIT.max(factor * noise))
}

#[cfg(test)]
mod tests {
    use crusades_core::Hparams;

    use super::Limits;
    use crate::calibration::tests::calibration as calibration_of;

    #[test]
    fn a_calibration_takes_the_place_of_the_limits_and_gives_each_tensor_its_own() {
        let hparams = Hparams::default().verification;
        let plain = Limits::new(&hparams, None, ["a", "b"].into_iter()).unwrap();
        assert_eq!(plain.update_error, Some(0.05));
        assert_eq!(plain.coefficient_deviation, Some(0.05));
        assert_eq!(plain.tensor_error(0), None);
        assert!(plain.attributed(1));

        let calibration = calibration_of(&[("a", 0.01), ("b", 1e-6), ("noise", 0.4)]);
        let names = ["a", "b", "noise"].into_iter();
        let limits = Limits::new(&hparams, Some(&calibration), names).unwrap();
        assert_eq!(limits.update_error, Some(0.001));
        assert_eq!(limits.coefficient_deviation, Some(0.002));
        assert_eq!(limits.tensor_error(0), Some(0.04));
        assert_eq!(limits.tensor_error(1), Some(0.005));
        assert_eq!(limits.tensor_error(2), None);
        assert!(limits.attributed(0));
        assert!(!limits.attributed(2));
    }

    #[test]
    fn a_tensor_that_the_calibration_does_not_know_is_an_error_that_names_it() {
        let hparams = Hparams::default().verification;
        let calibration = calibration_of(&[("a", 0.01)]);
        let error = Limits::new(&hparams, Some(&calibration), ["a", "b"].into_iter()).unwrap_err();
        assert!(error.to_string().contains("`b`"), "{error}");
        let noisy = calibration_of(&[("a", 0.3)]);
        assert!(Limits::new(&hparams, Some(&noisy), ["a"].into_iter()).is_err());
        assert!(Limits::new(&hparams, Some(&calibration), ["a"].into_iter()).is_ok());
    }
}
