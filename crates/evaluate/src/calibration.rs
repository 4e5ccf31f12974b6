//! A calibration: limits for one benchmark on one kind of machine, and the runs that they come from.
//!
//! `crusades calibrate` makes one (see [`crate::calibrate`]); hparams name it. Nothing is measured here, and a
//! file that is not of this form or for another benchmark is never used.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crusades_core::Hparams;
use crusades_core::hparams::ModelDtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version of the file's form.
pub const SCHEMA_VERSION: u32 = 1;

/// The name of the calibration of [`TINY_MODEL`](crate::benchmark::TINY_MODEL) that ships with the
/// program. It was measured with one thread; with several, PyTorch's sums differ from run to run, and
/// its limits for single tensors refuse honest runs.
pub const TINY_CALIBRATION: &str = "builtin:tiny";

const TINY: &str = include_str!("../calibrations/tiny.json");

/// Largest file that is read.
const MAX_BYTES: u64 = 64 << 20;

/// Limits for one benchmark, and where they come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Version of the program that wrote it.
    pub program_version: String,
    /// What it holds for.
    pub benchmark: CalibratedBenchmark,
    /// What it was measured on.
    pub machine: CalibratedMachine,
    /// The limits.
    pub limits: CalibratedLimits,
    /// How far the limits are from what was measured on either side.
    pub margins: Margins,
    /// Cheats that the limits do not find in every run.
    pub not_found: Vec<String>,
    /// Variants that did not run here.
    pub left_out: Vec<LeftOut>,
    /// For each tensor the largest update error in an honest run, relative to its own update; 1
    /// where it was infinite in one, which means that the tensor has no limit of its own.
    pub tensors: BTreeMap<String, f64>,
    /// Every run that was measured.
    pub evidence: Vec<MeasuredRun>,
}

/// What a calibration holds for. With more steps, other data or another model noise is not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalibratedBenchmark {
    /// `benchmark_model_name`.
    pub model: String,
    /// `dtype`.
    pub dtype: ModelDtype,
    /// Number of trained parameters.
    pub parameters: u64,
    /// `eval_steps`.
    pub steps: u32,
    /// `benchmark_batch_size`.
    pub batch_size: u32,
    /// `benchmark_sequence_length`.
    pub sequence_length: u32,
}

/// What a calibration was measured on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalibratedMachine {
    /// `cpu`, or the name of the accelerator.
    pub device: String,
    /// CPU threads of a worker.
    pub threads: u32,
    /// Version of PyTorch.
    pub torch: String,
    /// Version of transformers.
    pub transformers: String,
}

/// Limits that were found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalibratedLimits {
    /// Largest ‖Δw - Δw_ref‖ / ‖Δw_ref‖.
    pub update_relative_error_max: f64,
    /// Largest |c - 1| of a step.
    pub step_coefficient_max_deviation: f64,
}

/// How many times as large as the other one of two numbers is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Margins {
    /// The update error's limit over the largest honest value.
    pub update_error_over_honest: f64,
    /// The step coefficient's limit over the largest honest value; none where the steps could not be
    /// told apart in any honest run.
    pub coefficient_over_honest: Option<f64>,
    /// The cheat that is found with the least certainty; none where no cheat was found.
    pub weakest_cheat: Option<WeakestCheat>,
}

/// The cheat that is found with the least certainty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeakestCheat {
    /// Its name.
    pub variant: String,
    /// Its value over the limit, for the metric that finds it best, in the run that shows it least.
    pub over_limit: f64,
}

/// A variant that did not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Its name.
    pub variant: String,
    /// Why it did not.
    pub reason: String,
}

/// Whether a run was of an honest variant of the baseline or of a cheat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Differs from the baseline in its numerics only.
    Honest,
    /// Leaves work out.
    Cheat,
}

/// What was measured in one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeasuredRun {
    /// Name of the variant.
    pub variant: String,
    /// What it is.
    pub kind: Kind,
    /// The run, from 1; runs differ in their batches.
    pub run: u32,
    /// ‖Δw - Δw_ref‖ / ‖Δw_ref‖.
    pub update_error: f64,
    /// Largest |c - 1|, where the steps could be told apart.
    pub coefficient_deviation: Option<f64>,
    /// Largest update error of one tensor, relative to the limit that its noise in this calibration
    /// gives it; none where no tensor has a limit of its own.
    pub tensor_error_over_limit: Option<f64>,
    /// ‖w - w_ref‖ / ‖w_ref‖.
    pub weight_error: f64,
    /// |loss - reference loss|.
    pub loss_difference: f64,
    /// Largest difference of the logits that were asked for.
    pub logits_difference: Option<f64>,
    /// Changed elements, as a share of those that the reference changed.
    pub changed_share: f64,
}

/// Why a calibration cannot be used.
#[derive(Debug, Error)]
pub enum CalibrationError {
    /// The file could not be read.
    #[error("{path} could not be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file is absurdly large.
    #[error("{path} has {bytes} bytes, and at most {MAX_BYTES} are read")]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The file is not a calibration.
    #[error("{path} is not a calibration that this version of crusades reads")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A number in it cannot be a limit.
    #[error("{path}: {key} is {value}, and must be a finite number above 0")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        value: f64,
    },
    /// It was made for another benchmark.
    #[error(
        "{path} was made for {key} {found}, and the hparams say {expected}; run `crusades calibrate` with them"
    )]
    OtherBenchmark {
        /// The file.
        path: PathBuf,
        /// What differs.
        key: &'static str,
        /// In the calibration.
        found: String,
        /// In the hparams.
        expected: String,
    },
    /// It lacks a tensor of the model.
    #[error("it has no noise for the tensor `{0}`; run `crusades calibrate` with these hparams")]
    Tensor(String),
    /// It calls the update of every tensor noise, and would leave nothing to compare.
    #[error("every tensor in it is as noisy as its update; run `crusades calibrate` again")]
    NoiseAlone,
    /// It was made with another model of the same name, or on another kind of device.
    #[error("it was made with {found}, and here is {expected}; run `crusades calibrate` here")]
    OtherWorker {
        /// What it was made with.
        found: String,
        /// What the worker has.
        expected: String,
    },
}

impl Calibration {
    /// The calibration that `hparams` name, if they name one; a relative path starts at `base`.
    ///
    /// # Errors
    /// [`CalibrationError`] if it is not there, no calibration, or for another benchmark.
    pub fn of(hparams: &Hparams, base: &Path) -> Result<Option<Self>, CalibrationError> {
        let Some(name) = &hparams.verification.calibration else {
            return Ok(None);
        };
        let (calibration, path) = if name == TINY_CALIBRATION {
            (Self::tiny()?, PathBuf::from(name))
        } else {
            let path = base.join(name);
            (Self::parse(&read(&path)?, &path)?, path)
        };
        calibration.check_benchmark(hparams, &path)?;
        Ok(Some(calibration))
    }

    /// The calibration that ships with the program, for [`TINY_MODEL`](crate::benchmark::TINY_MODEL) in
    /// float32 on a CPU.
    ///
    /// # Errors
    /// [`CalibrationError`] if it is not of its form.
    pub fn tiny() -> Result<Self, CalibrationError> {
        Self::parse(TINY, Path::new(TINY_CALIBRATION))
    }

    fn parse(text: &str, path: &Path) -> Result<Self, CalibrationError> {
        let calibration: Self =
            serde_json::from_str(text).map_err(|source| CalibrationError::Form {
                path: path.to_owned(),
                source,
            })?;
        let limits = &calibration.limits;
        let limits = [
            (
                "limits.update_relative_error_max",
                limits.update_relative_error_max,
            ),
            (
                "limits.step_coefficient_max_deviation",
                limits.step_coefficient_max_deviation,
            ),
        ];
        for (key, value) in limits {
            if !(value.is_finite() && value > 0.0) {
                return Err(CalibrationError::Value {
                    path: path.to_owned(),
                    key: key.to_owned(),
                    value,
                });
            }
        }
        for (name, value) in &calibration.tensors {
            if !(value.is_finite() && *value >= 0.0) {
                return Err(CalibrationError::Value {
                    path: path.to_owned(),
                    key: format!("tensors.{name}"),
                    value: *value,
                });
            }
        }
        Ok(calibration)
    }

    fn check_benchmark(&self, hparams: &Hparams, path: &Path) -> Result<(), CalibrationError> {
        let found = &self.benchmark;
        let values = [
            (
                "benchmark_model_name",
                found.model.clone(),
                hparams.benchmark_model_name.clone(),
            ),
            (
                "dtype",
                format!("{:?}", found.dtype),
                format!("{:?}", hparams.dtype),
            ),
            (
                "eval_steps",
                found.steps.to_string(),
                hparams.eval_steps.to_string(),
            ),
            (
                "benchmark_batch_size",
                found.batch_size.to_string(),
                hparams.benchmark_batch_size.to_string(),
            ),
            (
                "benchmark_sequence_length",
                found.sequence_length.to_string(),
                hparams.benchmark_sequence_length.to_string(),
            ),
        ];
        match values
            .into_iter()
            .find(|(_, found, expected)| found != expected)
        {
            None => Ok(()),
            Some((key, found, expected)) => Err(CalibrationError::OtherBenchmark {
                path: path.to_owned(),
                key,
                found,
                expected,
            }),
        }
    }

    /// That it was made with a model of `parameters` parameters, and on a CPU if `device` is one: other
    /// types are computed with on an accelerator.
    ///
    /// # Errors
    /// [`CalibrationError::OtherWorker`] if it was not.
    pub(crate) fn check_worker(
        &self,
        device: &str,
        parameters: u64,
    ) -> Result<(), CalibrationError> {
        let kind = |device: &str| {
            if device == "cpu" {
                "a CPU"
            } else {
                "an accelerator"
            }
        };
        let with =
            |device: &str, parameters: u64| format!("{parameters} parameters on {}", kind(device));
        let found = with(&self.machine.device, self.benchmark.parameters);
        let expected = with(device, parameters);
        if found == expected {
            return Ok(());
        }
        Err(CalibrationError::OtherWorker { found, expected })
    }

    /// Honest noise of the tensor `name`.
    ///
    /// # Errors
    /// [`CalibrationError::Tensor`] if it is not in the calibration.
    pub(crate) fn noise_of(&self, name: &str) -> Result<f64, CalibrationError> {
        let noise = self.tensors.get(name).copied();
        noise.ok_or_else(|| CalibrationError::Tensor(name.to_owned()))
    }
}

fn read(path: &Path) -> Result<String, CalibrationError> {
    let failed = |source| CalibrationError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > MAX_BYTES {
        return Err(CalibrationError::Size {
            path: path.to_owned(),
            bytes,
        });
    }
    fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use crusades_core::Hparams;
    use crusades_core::hparams::ModelDtype;

    use std::collections::BTreeSet;

    use crate::calibrate::{Separation, separate};

    use super::{
        CalibratedBenchmark, CalibratedLimits, CalibratedMachine, Calibration, Kind, Margins,
        SCHEMA_VERSION,
    };

    /// A calibration of the default benchmark with this noise.
    pub(crate) fn calibration(tensors: &[(&str, f64)]) -> Calibration {
        let hparams = Hparams::default();
        Calibration {
            schema_version: SCHEMA_VERSION,
            program_version: "0".to_owned(),
            benchmark: CalibratedBenchmark {
                model: hparams.benchmark_model_name,
                dtype: ModelDtype::Auto,
                parameters: 1,
                steps: hparams.eval_steps,
                batch_size: hparams.benchmark_batch_size,
                sequence_length: hparams.benchmark_sequence_length,
            },
            machine: CalibratedMachine {
                device: "cpu".to_owned(),
                threads: 1,
                torch: "0".to_owned(),
                transformers: "0".to_owned(),
            },
            limits: CalibratedLimits {
                update_relative_error_max: 0.001,
                step_coefficient_max_deviation: 0.002,
            },
            margins: Margins {
                update_error_over_honest: 3.0,
                coefficient_over_honest: Some(3.0),
                weakest_cheat: None,
            },
            not_found: Vec::new(),
            left_out: Vec::new(),
            tensors: tensors
                .iter()
                .map(|(name, noise)| ((*name).to_owned(), *noise))
                .collect(),
            evidence: Vec::new(),
        }
    }

    fn hparams(calibration: &str) -> Hparams {
        let mut hparams = Hparams::default();
        hparams.verification.calibration = Some(calibration.to_owned());
        hparams
    }

    /// What is said of a file with this text, or nothing if it is taken.
    fn refusal(text: &str, hparams: &Hparams) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c.json"), text).unwrap();
        let error = Calibration::of(hparams, folder.path()).err()?;
        let source = std::error::Error::source(&error).map(ToString::to_string);
        Some(format!("{error}: {}", source.unwrap_or_default()))
    }

    #[test]
    fn a_calibration_for_the_same_benchmark_is_taken_and_one_for_another_is_not() {
        let text = serde_json::to_string(&calibration(&[("a", 0.1)])).unwrap();
        let mut hparams = hparams("c.json");
        assert_eq!(refusal(&text, &hparams), None);
        hparams.eval_steps += 1;
        let refused = refusal(&text, &hparams).unwrap();
        assert!(
            refused.contains("eval_steps 5, and the hparams say 6"),
            "{refused}"
        );
    }

    #[test]
    fn a_calibration_holds_for_the_model_and_the_kind_of_device_that_it_was_made_with() {
        let calibration = calibration(&[("a", 0.1)]);
        let parameters = calibration.benchmark.parameters;
        assert!(calibration.check_worker("cpu", parameters).is_ok());
        for (device, parameters) in [("NVIDIA H100", parameters), ("cpu", parameters + 1)] {
            let refused = calibration.check_worker(device, parameters).unwrap_err();
            assert!(refused.to_string().contains("parameters on a"), "{refused}");
        }
    }

    #[test]
    fn what_is_no_calibration_is_named() {
        let good = calibration(&[("a", 0.1)]);
        let text = |change: &dyn Fn(&mut Calibration)| {
            let mut changed = good.clone();
            change(&mut changed);
            serde_json::to_string(&changed).unwrap()
        };
        for (text, expected) in [
            (String::new(), "is not a calibration"),
            ("{}".to_owned(), "missing field"),
            (
                text(&|file| file.limits.update_relative_error_max = 0.0),
                "limits.update_relative_error_max is 0",
            ),
            (
                text(&|file| *file.tensors.get_mut("a").unwrap() = -1.0),
                "tensors.a is -1",
            ),
        ] {
            let refused = refusal(&text, &hparams("c.json")).unwrap();
            assert!(refused.contains(expected), "{refused}");
        }
        let missing = Calibration::of(&hparams("none.json"), Path::new("/nowhere")).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/none.json"));
        assert_eq!(
            Calibration::of(&Hparams::default(), Path::new("/")).unwrap(),
            None
        );
    }
    #[test]
    fn the_calibration_that_ships_is_for_the_hparams_that_ship_and_follows_from_its_evidence() {
        let text = include_str!("../../../hparams/tiny.json");
        let mut hparams = Hparams::parse(text).unwrap().hparams;
        hparams.verification.calibration = Some(super::TINY_CALIBRATION.to_owned());
        let shipped = Calibration::of(&hparams, Path::new("/")).unwrap().unwrap();
        let Separation {
            limits,
            margins,
            not_found,
        } = separate(&shipped.evidence);
        assert_eq!(shipped.limits, limits);
        assert_eq!(shipped.margins, margins);
        assert_eq!(shipped.not_found, not_found);
        assert!(not_found.is_empty(), "{not_found:?}");
        for (kind, least) in [(Kind::Honest, 15), (Kind::Cheat, 12)] {
            let runs = shipped.evidence.iter().filter(|run| run.kind == kind);
            let names: BTreeSet<_> = runs.map(|run| &run.variant).collect();
            assert!(names.len() >= least, "{names:?}");
        }
        assert!(!shipped.tensors.is_empty());
    }
}
