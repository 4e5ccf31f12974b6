//! Measures what honest training and cheats come to on this machine, and makes a [`Calibration`] of
//! it. Everything is run as a validator runs it, but without the scan and with no limit, so that every
//! run is measured; nothing here decides about a submission.

mod comparison;
mod separation;
mod variants;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::time::Instant as Timer;

use crusades_core::Hparams;
use crusades_core::hparams::{DisturbanceHparams, MfuHparams, VerificationHparams};
use thiserror::Error;

pub use comparison::{LimitComparison, compare};
pub use separation::{HONEST_FLOOR, SAFETY, Separation, separate};
pub use variants::{BASELINE_VARIANT, Variant, VariantsError, builtin_variants, read_variants};

use crate::calibration::{
    CalibratedBenchmark, CalibratedMachine, Calibration, Kind, LeftOut, MeasuredRun, SCHEMA_VERSION,
};
use crate::judge::{Admitted, Submission};
use crate::limits::tensor_limit;
use crate::parallel::{in_parallel, locked};
use crate::report::{Outcome, Report, RunRecord, TensorRecord};
use crate::round::{Event, Round};

/// Noise of a tensor whose update error was infinite in an honest run: the reference left it where it
/// was. From this much on a tensor has no limit of its own.
const NO_LIMIT: f64 = 1.0;

/// Why there is no calibration.
#[derive(Debug, Error)]
pub enum CalibrateError {
    /// The baseline did not run, so that nothing can be compared with it.
    #[error("the baseline did not run: {0}")]
    Baseline(String),
    /// The baseline was not among the variants.
    #[error("the baseline is not among the variants")]
    NoBaseline,
}

/// The hparams to measure with: those that are given, without any limit and with this many runs of
/// each variant.
#[must_use]
pub fn measuring(hparams: &Hparams, runs: u32) -> Hparams {
    Hparams {
        evaluation_runs: runs,
        verification: VerificationHparams {
            profile: hparams.verification.profile,
            weights: hparams.verification.weights,
            max_loss_difference: None,
            loss_tolerance: None,
            logits_atol: None,
            logits_rtol: None,
            min_params_changed_ratio: None,
            weight_relative_error_max: None,
            update_relative_error_max: None,
            step_coefficient_max_deviation: None,
            tensor_noise_factor: None,
            calibration: None,
            timer_divergence_threshold: None,
        },
        mfu: MfuHparams {
            // Speed is not looked at: the peak need not be measured.
            gpu_peak_tflops: Some(hparams.mfu.gpu_peak_tflops.unwrap_or(1.0)),
            max_plausible_mfu: None,
            min_mfu: 0.0,
        },
        disturbance: DisturbanceHparams {
            max_foreign_cpu_share: None,
            max_repeats: 0,
        },
        ..hparams.clone()
    }
}

/// Runs `variants`, the baseline among them, in a round that was prepared with [`measuring`] hparams,
/// `jobs` of them at a time, and makes limits of what they come to. `hparams` are those that the
/// calibration is for. What does not run is left out and named.
///
/// # Errors
/// [`CalibrateError`] if the baseline is not there or does not run.
pub fn calibrate(
    round: &Round,
    hparams: &Hparams,
    variants: &[Variant],
    jobs: usize,
    observer: &mut (dyn FnMut(Event<'_>) + Send),
) -> Result<Calibration, CalibrateError> {
    let mut observed = Vec::new();
    let mut left_out = Vec::new();
    let mut origin = None;
    for (variant, report) in variants
        .iter()
        .zip(run_all(round, variants, jobs, observer))
    {
        let is_baseline = variant.name == BASELINE_VARIANT;
        match observe(&report, variant) {
            Ok(runs) => observed.extend(runs),
            Err(reason) if is_baseline => return Err(CalibrateError::Baseline(reason)),
            Err(reason) => left_out.push(LeftOut {
                variant: variant.name.clone(),
                reason,
            }),
        }
        if is_baseline {
            origin = origin_of(&report, hparams);
        }
    }
    let (benchmark, machine) = origin.ok_or(CalibrateError::NoBaseline)?;
    let tensors = noise(&observed);
    let evidence: Vec<MeasuredRun> = observed
        .into_iter()
        .map(|observed| observed.measured_against(&tensors, hparams))
        .collect();
    let Separation {
        limits,
        margins,
        not_found,
    } = separate(&evidence);
    Ok(Calibration {
        schema_version: SCHEMA_VERSION,
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        benchmark,
        machine,
        limits,
        margins,
        not_found,
        left_out,
        tensors,
        evidence,
    })
}

/// The reports on all variants, in their order, `jobs` of them made at a time. Stops early where the
/// baseline does not run, since nothing can be compared with it.
fn run_all(
    round: &Round,
    variants: &[Variant],
    jobs: usize,
    observer: &mut (dyn FnMut(Event<'_>) + Send),
) -> Vec<Report> {
    let told = Mutex::new(observer);
    let tell = |event: Event<'_>| (locked(&told))(event);
    in_parallel(variants, jobs, |index, variant| {
        let number = index + 1;
        let name = format!("variant {number} of {}: {}", variants.len(), variant.name);
        tell(Event::Started(&format!("Measured {name}")));
        let began = Timer::now();
        let report = run(round, variant);
        let outcome = observe(&report, variant);
        let what = match &outcome {
            Ok(_) => format!("Measured {name}"),
            Err(reason) => format!("Left out {name} ({reason})"),
        };
        tell(Event::Finished {
            what: &what,
            seconds: began.elapsed().as_secs_f64(),
        });
        if outcome.is_err() && variant.name == BASELINE_VARIANT {
            ControlFlow::Break(report)
        } else {
            ControlFlow::Continue(report)
        }
    })
}

fn run(round: &Round, variant: &Variant) -> Report {
    let submission = Submission {
        file: &variant.name,
        source: &variant.source,
        length: variant.source.len() as u64,
    };
    match Admitted::unscanned(submission) {
        Ok(admitted) => round.judge(submission, &admitted, &mut |_| ()),
        Err(report) => *report,
    }
}

/// What the calibration is for and was measured on.
fn origin_of(
    report: &Report,
    hparams: &Hparams,
) -> Option<(CalibratedBenchmark, CalibratedMachine)> {
    let plan = report.plan.as_ref()?;
    let machine = report.machine.as_ref()?;
    Some((
        CalibratedBenchmark {
            model: plan.model.clone(),
            dtype: hparams.dtype,
            parameters: plan.parameters,
            steps: plan.steps,
            batch_size: plan.batch_size,
            sequence_length: plan.sequence_length,
        },
        CalibratedMachine {
            device: machine.device.clone(),
            threads: machine.threads,
            torch: machine.torch.clone(),
            transformers: machine.transformers.clone(),
        },
    ))
}

/// A run that was measured, and each tensor of it.
#[derive(Clone, Debug)]
struct Observed {
    run: MeasuredRun,
    tensors: Vec<TensorRecord>,
}

/// What the runs of a variant came to, or why they say nothing.
fn observe(report: &Report, variant: &Variant) -> Result<Vec<Observed>, String> {
    if report.outcome != Outcome::Accepted {
        return Err(report.summary.clone());
    }
    report
        .runs
        .iter()
        .map(|run| {
            observe_run(run, variant).ok_or_else(|| {
                let reason = run
                    .failure
                    .as_ref()
                    .map_or("what it computed is not finite", |failure| {
                        failure.headline.as_str()
                    });
                format!("run {}: {reason}", run.run)
            })
        })
        .collect()
}

fn observe_run(run: &RunRecord, variant: &Variant) -> Option<Observed> {
    let weights = run.weights.as_ref().filter(|_| run.success)?;
    let logits = run
        .checks
        .iter()
        .find(|check| check.name == "logits_difference");
    Some(Observed {
        run: MeasuredRun {
            variant: variant.name.clone(),
            kind: variant.kind,
            run: run.run,
            update_error: weights.update_error?,
            coefficient_deviation: weights
                .steps
                .iter()
                .map(|step| (step.share - 1.0).abs())
                .reduce(f64::max),
            tensor_error_over_limit: None,
            weight_error: weights.weight_error?,
            loss_difference: (run.loss? - run.reference_loss?).abs(),
            logits_difference: logits.and_then(|check| check.measured),
            changed_share: weights.changed_share,
        },
        tensors: weights.tensors.clone(),
    })
}

impl Observed {
    /// The run with its tensors' errors relative to the limits that the noise gives them.
    fn measured_against(self, noise: &BTreeMap<String, f64>, hparams: &Hparams) -> MeasuredRun {
        let over_limit = hparams.verification.tensor_noise_factor.and_then(|factor| {
            self.tensors
                .iter()
                .filter_map(|tensor| {
                    let limit = tensor_limit(*noise.get(&tensor.name)?, factor)?;
                    Some(tensor.update_error? / limit)
                })
                .reduce(f64::max)
        });
        MeasuredRun {
            tensor_error_over_limit: over_limit,
            ..self.run
        }
    }
}

/// The largest update error of each tensor in an honest run.
fn noise(observed: &[Observed]) -> BTreeMap<String, f64> {
    let mut noise = BTreeMap::new();
    for observed in observed {
        if observed.run.kind != Kind::Honest {
            continue;
        }
        for tensor in &observed.tensors {
            let error = tensor.update_error.unwrap_or(NO_LIMIT);
            noise
                .entry(tensor.name.clone())
                .and_modify(|largest: &mut f64| *largest = largest.max(error))
                .or_insert(error);
        }
    }
    noise
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crusades_core::Hparams;
    use crusades_core::hparams::{Profile, VerificationHparams};

    use super::{Observed, compare, measuring, noise};
    use crate::calibration::{Kind, MeasuredRun};
    use crate::report::TensorRecord;

    fn observed(kind: Kind, tensors: &[(&str, Option<f64>)]) -> Observed {
        Observed {
            run: MeasuredRun {
                variant: "a".to_owned(),
                kind,
                run: 1,
                update_error: 0.0,
                coefficient_deviation: None,
                tensor_error_over_limit: None,
                weight_error: 0.0,
                loss_difference: 0.0,
                logits_difference: None,
                changed_share: 1.0,
            },
            tensors: tensors
                .iter()
                .map(|(name, update_error)| TensorRecord {
                    name: (*name).to_owned(),
                    update_error: *update_error,
                })
                .collect(),
        }
    }

    #[test]
    fn nothing_is_refused_while_it_is_measured() {
        let mut hparams = Hparams::default();
        for profile in [Profile::Crusades, Profile::Tournament] {
            hparams.verification = VerificationHparams::of(profile);
            hparams.verification.calibration = Some("none.json".to_owned());
            assert!(!compare(&hparams.verification, &[]).is_empty());
            let open = measuring(&hparams, 7);
            assert_eq!(compare(&open.verification, &[]), []);
            assert_eq!(open.verification.calibration, None);
            assert_eq!(open.mfu.max_plausible_mfu, None);
            assert_eq!(open.evaluation_runs, 7);
            assert_eq!(open.eval_steps, hparams.eval_steps);
        }
    }

    #[test]
    fn the_noise_of_a_tensor_is_its_largest_error_in_an_honest_run() {
        let found = noise(&[
            observed(Kind::Honest, &[("a", Some(0.01)), ("still", Some(0.0))]),
            observed(Kind::Honest, &[("a", Some(0.02)), ("still", None)]),
            observed(Kind::Cheat, &[("a", Some(0.9)), ("still", Some(0.9))]),
        ]);
        let expected = [("a", 0.02), ("still", 1.0)];
        let expected = expected.map(|(name, noise)| (name.to_owned(), noise));
        assert_eq!(found, BTreeMap::from(expected));
    }

    #[test]
    fn a_tensor_is_measured_by_the_limit_that_its_noise_gives_it() {
        let noise = [("a", 0.01), ("quiet", 0.0), ("still", 1.0)];
        let noise = BTreeMap::from(noise.map(|(name, noise)| (name.to_owned(), noise)));
        let hparams = Hparams::default();
        let over_limit = |tensors: &[(&str, Option<f64>)]| {
            let run = observed(Kind::Cheat, tensors).measured_against(&noise, &hparams);
            run.tensor_error_over_limit
        };
        // 4 times the noise, 0.005 at least, and none for what is noise alone or did not move.
        assert_eq!(
            over_limit(&[("a", Some(0.08)), ("still", Some(9.0))]),
            Some(2.0)
        );
        assert_eq!(
            over_limit(&[("a", Some(0.0)), ("quiet", Some(0.01))]),
            Some(2.0)
        );
        assert_eq!(over_limit(&[("a", None), ("still", Some(9.0))]), None);
        assert_eq!(over_limit(&[]), None);
    }
}
