//! A round: one seed, one set of initial weights, and the reference's results, which all
//! submissions judged in the round share.
//!
//! The reference is the project's baseline, run by a worker of its own; that worker has ended before
//! any submission starts, and its results never leave this process.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant as Timer};

use crusades_core::hparams::WeightsDump;
use crusades_core::{ErrorCode, Hparams};
use crusades_corpus::{Corpus, Progress};
use crusades_numerics::{
    AttributionError, CompareError, SampledTensor, StepBasis, compare_weights,
};
use crusades_sandbox::{Limits, SealedMemory, Tier};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::benchmark::{self, BenchmarkError, Model};
use crate::bundle::BASELINE;
use crate::calibration::{Calibration, CalibrationError};
use crate::layout::{Layout, LayoutError};
use crate::limits::Limits as CheckLimits;
use crate::plan::{Plan, PlanError, PlanShape, RunPlan, Seed, WARM_UP_STEPS, hex};
use crate::protocol::{TensorDescription, Versions};
use crate::question::{Question, QuestionShape};
use crate::report::{Phase, PlanRecord};
use crate::verdict;
use crate::worker::{RunOrder, RunOutput, Worker, WorkerError, WorkerSetup};

/// The interpreter that workers run on.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// Its path.
    pub program: PathBuf,
    /// Files of the host that it needs.
    pub read_only_paths: Vec<PathBuf>,
}

/// How workers are run on this machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The interpreter.
    pub interpreter: Interpreter,
    /// CPU threads of a worker.
    pub threads: u32,
    /// The weakest sandbox that will do.
    pub minimum_tier: Tier,
    /// Exactly this tier, for tests.
    pub force_tier: Option<Tier>,
}

/// What a round tells about its progress.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Something begins that takes a while.
    Started(&'a str),
    /// How far it is, from 0 to 1.
    Progress(f64),
    /// It has ended.
    Finished {
        /// The name that it began with, in the past tense.
        what: &'a str,
        /// Seconds that it took.
        seconds: f64,
    },
}

/// Whoever wants to know.
pub type Observer<'a> = &'a mut dyn FnMut(Event<'_>);

/// Why there is no round.
#[derive(Debug, Error)]
pub enum RoundError {
    /// The model or the corpus is not there.
    #[error("the benchmark is not usable")]
    Model(#[source] BenchmarkError),
    /// The corpus is not there or not usable.
    #[error("the corpus is not usable")]
    Data(#[source] BenchmarkError),
    /// The corpus is too small.
    #[error("the corpus is not usable")]
    Plan(#[source] PlanError),
    /// A token is not in the model's vocabulary.
    #[error(
        "the corpus is not usable: it has token {token}, and the model's vocabulary ends at \
         {vocabulary}; tokenizer and model do not belong together"
    )]
    Vocabulary {
        /// The token.
        token: u32,
        /// Number of tokens that the model knows.
        vocabulary: u64,
    },
    /// The model's tensors are not supported.
    #[error("the model is not supported")]
    Layout(#[source] LayoutError),
    /// More than one accelerator is asked for.
    #[error("`docker.num_gpus` is {0}, and evaluation on several GPUs is not supported yet")]
    SeveralGpus(u32),
    /// The trusted worker failed.
    #[error("the reference failed: {stage}")]
    Reference {
        /// What it was doing.
        stage: &'static str,
        /// Why it failed.
        #[source]
        source: Box<WorkerError>,
    },
    /// The reference computed NaN or infinite values: nothing can be compared with them.
    #[error("the reference failed: its {what} in run {run} is not finite")]
    ReferenceNotFinite {
        /// Loss or final state.
        what: &'static str,
        /// The run, from 1.
        run: u32,
    },
    /// The reference's results do not have the size of their layout.
    #[error("the reference failed: its results could not be read")]
    Results(#[source] CompareError),
    /// What the reference recorded of its steps makes no sense.
    #[error("the reference failed: its record of run {run} could not be used")]
    Record {
        /// The run, from 1.
        run: u32,
        /// What is wrong with it.
        #[source]
        source: AttributionError,
    },
    /// What the reference recorded after its last step is not what it answered.
    #[error("the reference failed: in run {0} its record does not end with its answer")]
    RecordDiffers(u32),
    /// The calibration is not there or not for this benchmark.
    #[error("`verification.calibration` is not usable")]
    Calibration(#[source] CalibrationError),
    /// Shared memory for the initial weights could not be had.
    #[error("no memory for the initial weights")]
    Memory(#[source] std::io::Error),
    /// The hparams could not be written as JSON.
    #[error("the hparams could not be serialised")]
    Hparams(#[source] serde_json::Error),
}

impl RoundError {
    /// The code under which an evaluation records it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Model(_) | Self::Layout(_) | Self::SeveralGpus(_) => ErrorCode::ModelLoadFailed,
            Self::Data(_) | Self::Plan(_) | Self::Vocabulary { .. } => ErrorCode::DataLoadFailed,
            Self::Reference { source, .. } => match **source {
                WorkerError::Start(_) | WorkerError::Control(_) => ErrorCode::SandboxFailed,
                _ => ErrorCode::ReferenceFailed,
            },
            Self::ReferenceNotFinite { .. }
            | Self::Results(_)
            | Self::Record { .. }
            | Self::RecordDiffers(_)
            | Self::Calibration(_)
            | Self::Memory(_)
            | Self::Hparams(_) => ErrorCode::ReferenceFailed,
        }
    }
}

/// What is trained on what, in which order: all of a round that needs no worker.
#[derive(Debug)]
pub struct Task {
    pub(crate) hparams: Hparams,
    pub(crate) plan: Plan,
    pub(crate) corpus: Corpus,
    model: Model,
    calibration: Option<Calibration>,
    seconds: f64,
}

impl Task {
    /// Finds the model, loads the corpus and draws the plan of `hparams`. Relative paths in them start
    /// at `base`; tokenised corpora are kept in `cache`.
    ///
    /// # Errors
    /// [`RoundError`] if model or corpus are not there or do not suffice.
    pub fn load(
        hparams: Hparams,
        base: &Path,
        cache: &Path,
        seed: Seed,
        observer: Observer<'_>,
    ) -> Result<Self, RoundError> {
        if hparams.docker.num_gpus > 1 {
            return Err(RoundError::SeveralGpus(hparams.docker.num_gpus));
        }
        let began = Timer::now();
        let model = Model::find(&hparams, base).map_err(RoundError::Model)?;
        let calibration = Calibration::of(&hparams, base).map_err(RoundError::Calibration)?;
        let name = "Loaded the corpus";
        observer(Event::Started(name));
        let corpus = benchmark::load_corpus(&hparams, base, cache, &model, &mut |step| {
            if let Progress::Tokenising { share, .. } = step {
                observer(Event::Progress(share));
            }
        })
        .map_err(RoundError::Data)?;
        let shape = PlanShape {
            corpus_rows: corpus.rows() as u64,
            steps: hparams.eval_steps,
            batch_size: hparams.benchmark_batch_size,
            sequence_length: hparams.benchmark_sequence_length,
            runs: hparams.evaluation_runs,
        };
        let plan = Plan::new(seed, shape).map_err(RoundError::Plan)?;
        let seconds = began.elapsed().as_secs_f64();
        observer(Event::Finished {
            what: name,
            seconds,
        });
        Ok(Self {
            hparams,
            plan,
            corpus,
            model,
            calibration,
            seconds,
        })
    }
}

/// What the reference did in one run.
#[derive(Debug)]
pub(crate) struct ReferenceRun {
    /// Its loss.
    pub(crate) loss: f64,
    /// Its answer.
    pub(crate) results: Vec<u8>,
    /// What is asked of the weights.
    pub(crate) question: Question,
    /// Numbers of steps between which it is known what it did, from 0 to all.
    pub(crate) after_steps: Vec<u32>,
    /// What it did between them, in the sample.
    pub(crate) basis: StepBasis,
    /// The same in the sketches; none where the sample holds all there is.
    pub(crate) sketch_basis: Option<StepBasis>,
    /// All its final weights, where they are compared.
    pub(crate) dump: Option<Vec<u8>>,
}

/// The benchmark as it is loaded: what a worker needs before it can run anything.
#[derive(Debug)]
pub(crate) struct Benchmark {
    pub(crate) hparams: Hparams,
    pub(crate) settings: Settings,
    pub(crate) plan: Plan,
    pub(crate) corpus: Corpus,
    pub(crate) setup: WorkerSetup,
    /// Where each tensor lies in a whole state.
    pub(crate) layout: Layout,
    /// What is asked of the weights in every run, and where the answer lies.
    pub(crate) question: QuestionShape,
    /// Limits of the checks.
    pub(crate) limits: CheckLimits,
    pub(crate) initial: SealedMemory,
    pub(crate) parameters: u64,
    pub(crate) vocabulary: u64,
    pub(crate) device: String,
    pub(crate) versions: Versions,
    pub(crate) peak_tflops: f64,
    pub(crate) phases: Vec<Phase>,
}

/// A round, ready to judge.
#[derive(Debug)]
pub struct Round {
    pub(crate) benchmark: Benchmark,
    pub(crate) references: Vec<ReferenceRun>,
    pub(crate) record: PlanRecord,
}

impl Benchmark {
    /// Loads model and corpus, draws the plan, and starts the trusted worker, which fixes the
    /// initial weights. The worker has the baseline loaded when it is returned.
    pub(crate) fn prepare(
        task: Task,
        settings: Settings,
        observer: Observer<'_>,
    ) -> Result<(Self, Worker), RoundError> {
        let Task {
            hparams,
            plan,
            corpus,
            model,
            calibration,
            seconds,
        } = task;
        let mut phases = Phases {
            list: vec![Phase {
                name: "Loaded the corpus".to_owned(),
                seconds,
            }],
        };
        let setup = worker_setup(&hparams, &settings, &model, plan.initial_weights_seed)?;
        let reference = |stage| {
            move |source| RoundError::Reference {
                stage,
                source: Box::new(source),
            }
        };
        let mut worker = phases.time("Started the reference worker", observer, |_| {
            Worker::start(&setup).map_err(reference("its model did not load"))
        })?;
        let ready = worker.ready().clone();
        check_vocabulary(&corpus, &plan, ready.vocabulary)?;
        let layout = Layout::new(&ready.tensors, 0, 0).map_err(RoundError::Layout)?;
        let rows = asked_rows(&plan);
        let question = QuestionShape::new(&ready.tensors, &layout, rows, ready.vocabulary)
            .map_err(RoundError::Layout)?;
        if let Some(calibration) = &calibration {
            calibration
                .check_worker(&ready.device, ready.parameters)
                .map_err(RoundError::Calibration)?;
        }
        let names = layout.slots().iter().map(|slot| slot.name.as_str());
        let limits = CheckLimits::new(&hparams.verification, calibration.as_ref(), names)
            .map_err(RoundError::Calibration)?;
        let peak_tflops = match hparams.mfu.gpu_peak_tflops {
            Some(peak) => peak,
            None => phases.time("Measured the machine's peak", observer, |_| {
                worker
                    .measure_peak()
                    .map_err(reference("the peak was not measured"))
            })?,
        };
        let initial = phases.time("Fixed the initial weights", observer, |_| {
            let failed = || reference("the initial weights were not had");
            worker
                .share_memory(&question, batch_bytes(&hparams))
                .map_err(failed())?;
            let weights = worker.dump_weights(&layout).map_err(failed())?;
            let initial =
                SealedMemory::create("initial weights", &weights).map_err(RoundError::Memory)?;
            worker
                .give_initial_weights(&layout, &initial)
                .map_err(failed())?;
            worker.load_code(BASELINE).map_err(failed())?;
            Ok(initial)
        })?;
        let benchmark = Self {
            parameters: ready.parameters,
            vocabulary: ready.vocabulary,
            device: ready.device,
            versions: ready.versions,
            phases: phases.list,
            hparams,
            settings,
            plan,
            corpus,
            setup,
            layout,
            question,
            limits,
            initial,
            peak_tflops,
        };
        Ok((benchmark, worker))
    }

    /// A worker that has the initial weights and the submission.
    pub(crate) fn start_submission(&self) -> Result<Worker, WorkerError> {
        let mut worker = Worker::start(&self.setup)?;
        let tensors: &[TensorDescription] = &worker.ready().tensors;
        let slots = self.layout.slots();
        let same = tensors.len() == slots.len()
            && tensors.iter().zip(slots).all(|(tensor, slot)| {
                (&tensor.name, &tensor.dtype, &tensor.shape)
                    == (&slot.name, &slot.dtype, &slot.shape)
            });
        if !same {
            return Err(WorkerError::Protocol(
                "its model is not the reference's".to_owned(),
            ));
        }
        worker.share_memory(&self.question, batch_bytes(&self.hparams))?;
        worker.give_initial_weights(&self.layout, &self.initial)?;
        Ok(worker)
    }

    /// The batches of these rows, as a worker gets them.
    pub(crate) fn batches(&self, rows: &[u64]) -> Vec<u8> {
        let length = self.corpus.sequence_length();
        let mut bytes = Vec::with_capacity(rows.len() * length * size_of::<i64>());
        for &row in rows {
            // Rows of a plan exist in its corpus, whose length is a usize.
            for &token in self.corpus.row(usize::try_from(row).unwrap_or(usize::MAX)) {
                bytes.extend_from_slice(&i64::from(token).to_le_bytes());
            }
        }
        bytes
    }

    /// The untimed run before a worker's first timed one.
    pub(crate) fn warm_up(
        &self,
        worker: &mut Worker,
        run: &RunPlan,
    ) -> Result<RunOutput, WorkerError> {
        worker.run(&RunOrder {
            noise_seed: Some(run.warm_up_noise_seed),
            batches: &self.batches(&run.warm_up_rows),
            steps: WARM_UP_STEPS,
            logit_rows: &run.warm_up_logit_rows,
            question: &self.question.draw(run.warm_up_question_seed()).to_bytes(),
            nonces: [&run.nonce(0), &run.nonce(1)],
            dump: None,
            ..self.order()
        })
    }

    /// The timed run; `attempt` counts its repetitions. All weights are had where they are compared.
    pub(crate) fn timed(
        &self,
        worker: &mut Worker,
        run: &RunPlan,
        attempt: u32,
    ) -> Result<RunOutput, WorkerError> {
        worker.run(&RunOrder {
            batches: &self.batches(&run.rows),
            logit_rows: &run.logit_rows,
            question: &self.question.draw(run.question_seed()).to_bytes(),
            nonces: [&run.nonce(2 + 2 * attempt), &run.nonce(3 + 2 * attempt)],
            ..self.order()
        })
    }

    /// What all runs have in common.
    fn order(&self) -> RunOrder<'_> {
        let hparams = &self.hparams;
        let all_weights = hparams.verification.weights == WeightsDump::Full;
        RunOrder {
            noise_seed: None,
            batches: &[],
            steps: hparams.eval_steps,
            batch_size: hparams.benchmark_batch_size,
            sequence_length: hparams.benchmark_sequence_length,
            logit_rows: &[],
            question: &[],
            nonces: ["", ""],
            dump: all_weights.then_some(&self.layout),
            timeout: self.setup.phase_timeout,
        }
    }

    /// A run of the reference, with what it did in each step.
    fn reference_run(
        &self,
        worker: &mut Worker,
        run: &RunPlan,
    ) -> Result<ReferenceRun, RoundError> {
        let number = run.index + 1;
        let failed = |source| RoundError::Reference {
            stage: "a run did not end well",
            source: Box::new(source),
        };
        let question = self.question.draw(run.question_seed());
        let after_steps = recorded_steps(self.hparams.eval_steps);
        let recording = worker
            .record_next_run(&self.question, &question.to_bytes(), &after_steps)
            .map_err(failed)?;
        let output = self.timed(worker, run, 0).map_err(failed)?;
        let states = recording.states().map_err(failed)?;
        let not_finite = |what| RoundError::ReferenceNotFinite { what, run: number };
        let loss = verdict::reported_loss(&output.trained);
        if !loss.is_finite() {
            return Err(not_finite("loss"));
        }
        let layout = self.question.layout();
        let recorded = |place: usize, tensor: usize, population: u64| SampledTensor {
            population,
            attributed: self.limits.attributed(tensor),
            states: states
                .iter()
                .map(|state| layout.tensor(state, place))
                .collect(),
        };
        let populations = self.question.populations();
        let sampled: Vec<SampledTensor<'_>> = populations
            .iter()
            .enumerate()
            .map(|(index, population)| recorded(index, index, *population))
            .collect();
        let elements = layout.elements();
        let sketched: Vec<SampledTensor<'_>> = self
            .question
            .sketched()
            .iter()
            .zip(populations.len()..)
            .map(|(slot, place)| recorded(place, slot.tensor, elements[place]))
            .collect();
        let answered = sampled
            .iter()
            .chain(&sketched)
            .enumerate()
            .all(|(place, tensor)| {
                let last = tensor.states.last().map(|state| state.bytes);
                last == Some(layout.tensor(&output.results, place).bytes)
            });
        if !answered {
            return Err(RoundError::RecordDiffers(number));
        }
        let basis = |tensors: &[SampledTensor<'_>]| {
            StepBasis::new(tensors, self.limits.admitted_error()).map_err(|source| match source {
                AttributionError::ReferenceNotFinite { .. } => not_finite("state"),
                source => RoundError::Record {
                    run: number,
                    source,
                },
            })
        };
        let sketch_basis = (!sketched.is_empty())
            .then(|| basis(&sketched))
            .transpose()?;
        let basis = basis(&sampled)?;
        if let Some(dump) = &output.dump {
            for index in 0..self.layout.slots().len() {
                let initial = self.layout.tensor(self.initial.as_slice(), index);
                let reference = self.layout.tensor(dump, index);
                let compared = compare_weights(initial, reference, reference);
                if !compared.map_err(RoundError::Results)?.all_finite() {
                    return Err(not_finite("state"));
                }
            }
        }
        Ok(ReferenceRun {
            loss,
            results: output.results,
            question,
            after_steps,
            basis,
            sketch_basis,
            dump: output.dump,
        })
    }
}

/// Most parts that the training of a run is divided into.
const MOST_PARTS: u32 = 128;

/// After how many steps the reference writes down its weights: after each, or where there are more
/// than [`MOST_PARTS`], after as many as it takes to have fewer.
fn recorded_steps(steps: u32) -> Vec<u32> {
    let stride = steps.div_ceil(MOST_PARTS).max(1);
    (0..steps).step_by(stride as usize).chain([steps]).collect()
}

impl Round {
    /// Prepares a round: starts the trusted worker and makes all reference runs.
    ///
    /// # Errors
    /// [`RoundError`]; none of them is the fault of a submission.
    pub fn prepare(
        task: Task,
        settings: Settings,
        observer: Observer<'_>,
    ) -> Result<Self, RoundError> {
        let (mut benchmark, mut worker) = Benchmark::prepare(task, settings, observer)?;
        let runs = benchmark.plan.runs.len();
        let mut references = Vec::with_capacity(benchmark.plan.runs.len());
        let mut phases = Phases::default();
        for run in &benchmark.plan.runs {
            let number = run.index + 1;
            let name = format!("Made reference run {number} of {runs}");
            let reference = phases.time(&name, observer, |_| {
                benchmark.reference_run(&mut worker, run)
            })?;
            references.push(reference);
        }
        worker.stop().map_err(|source| RoundError::Reference {
            stage: "its worker did not end",
            source: Box::new(source),
        })?;
        benchmark.phases.append(&mut phases.list);
        let record = plan_record(&benchmark)?;
        Ok(Self {
            benchmark,
            references,
            record,
        })
    }

    /// Times of the preparation.
    #[must_use]
    pub fn phases(&self) -> &[Phase] {
        &self.benchmark.phases
    }
}

/// Times of named parts, told to an observer as they happen.
#[derive(Debug, Default)]
pub(crate) struct Phases {
    pub(crate) list: Vec<Phase>,
}

impl Phases {
    /// Does `work` and records its time under `name`, whether it succeeds or not.
    pub(crate) fn time<T, E>(
        &mut self,
        name: &str,
        observer: &mut dyn FnMut(Event<'_>),
        work: impl FnOnce(&mut dyn FnMut(Event<'_>)) -> Result<T, E>,
    ) -> Result<T, E> {
        observer(Event::Started(name));
        let began = Timer::now();
        let outcome = work(observer);
        let seconds = began.elapsed().as_secs_f64();
        self.list.push(Phase {
            name: name.to_owned(),
            seconds,
        });
        if outcome.is_ok() {
            observer(Event::Finished {
                what: name,
                seconds,
            });
        }
        outcome
    }
}

fn worker_setup(
    hparams: &Hparams,
    settings: &Settings,
    model: &Model,
    initial_weights_seed: u64,
) -> Result<WorkerSetup, RoundError> {
    Ok(WorkerSetup {
        python: settings.interpreter.program.clone(),
        read_only_paths: settings.interpreter.read_only_paths.clone(),
        model_mounts: model.mounts().map_err(RoundError::Model)?,
        model: model.source(initial_weights_seed),
        dtype: hparams.dtype,
        optimizer: hparams.optimizer_provided.then_some(hparams.optimizer),
        threads: settings.threads,
        limits: Limits {
            memory_bytes: hparams.memory_limit_bytes(),
            storage_bytes: hparams.shm_size_bytes(),
            ..Limits::default()
        },
        minimum_tier: settings.minimum_tier,
        force_tier: settings.force_tier,
        phase_timeout: Duration::from_secs(hparams.eval_timeout),
        num_gpus: hparams.docker.num_gpus,
    })
}

/// Every token that the plan hands out must be in the model's vocabulary: a lookup beyond it is
/// undefined on a GPU.
fn check_vocabulary(corpus: &Corpus, plan: &Plan, vocabulary: u64) -> Result<(), RoundError> {
    let rows = plan
        .runs
        .iter()
        .flat_map(|run| run.rows.iter().chain(&run.warm_up_rows));
    for &row in rows {
        let row = corpus.row(usize::try_from(row).unwrap_or(usize::MAX));
        if let Some(&token) = row.iter().find(|&&token| u64::from(token) >= vocabulary) {
            return Err(RoundError::Vocabulary { token, vocabulary });
        }
    }
    Ok(())
}

fn asked_rows(plan: &Plan) -> usize {
    plan.runs.first().map_or(0, |run| run.logit_rows.len())
}

/// Room for the batches of a timed run or of a warm-up, whichever is larger.
fn batch_bytes(hparams: &Hparams) -> usize {
    let steps = hparams.eval_steps.max(WARM_UP_STEPS) as usize;
    steps
        * hparams.benchmark_batch_size as usize
        * hparams.benchmark_sequence_length as usize
        * size_of::<i64>()
}

fn plan_record(benchmark: &Benchmark) -> Result<PlanRecord, RoundError> {
    let hparams = &benchmark.hparams;
    let text = serde_json::to_vec(hparams).map_err(RoundError::Hparams)?;
    Ok(PlanRecord {
        seed: benchmark.plan.seed.to_hex(),
        hparams_digest: sha256(&text),
        model: hparams.benchmark_model_name.clone(),
        parameters: benchmark.parameters,
        initial_state_digest: sha256(benchmark.initial.as_slice()),
        dataset: hparams.benchmark_dataset_name.clone(),
        data_digest: benchmark.corpus.digest(),
        steps: hparams.eval_steps,
        batch_size: hparams.benchmark_batch_size,
        sequence_length: hparams.benchmark_sequence_length,
        peak_tflops: benchmark.peak_tflops,
        peak_measured: hparams.mfu.gpu_peak_tflops.is_none(),
    })
}

/// SHA-256 in hexadecimal.
#[must_use]
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The folder that relative paths of the hparams in `file` start at.
#[must_use]
pub fn base_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
