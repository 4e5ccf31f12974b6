//! A worker: the process in the sandbox, and the conversation with it.
//!
//! Until [`Worker::load_code`] the worker is trusted (it has run nothing but this project's Python);
//! after it nothing that it says is believed.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant as Timer};

use crusades_core::hparams::{ModelDtype, OptimizerHparams};
use crusades_sandbox::{
    ControlError, EmbeddedFile, Exit, Limits, LogSnapshot, Mount, Sandbox, SandboxRequest,
    SealedMemory, SharedMemory, StartError, Tier,
};
use thiserror::Error;
use zip::result::ZipError;

use crate::bundle;
use crate::clock::{Instant, Span};
use crate::layout::Layout;
use crate::load::CpuLoad;
use crate::protocol::{
    self, Answer, Channel, ChannelError, Failed, ModelSource, Ready, Reply, Request, Trained,
};
use crate::question::QuestionShape;
use crate::report::Phase;

/// Where the archive of the worker lies in the sandbox.
const ARCHIVE: &str = "/crusades/worker.zip";

/// Number of the control socket in the worker.
const CONTROL_DESCRIPTOR: i32 = 3;

/// Imports and model load, before any submitted code runs.
const START_TIMEOUT: Duration = Duration::from_secs(600);

/// Requests that the worker answers at once.
const SHORT_TIMEOUT: Duration = Duration::from_secs(60);

/// Freezing, thawing and killing.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(20);

/// What every worker of an evaluation has in common.
#[derive(Clone, Debug)]
pub struct WorkerSetup {
    /// The Python interpreter.
    pub python: PathBuf,
    /// Files of the host that it needs.
    pub read_only_paths: Vec<PathBuf>,
    /// Files of the model.
    pub model_mounts: Vec<Mount>,
    /// The model.
    pub model: ModelSource,
    /// Its element type.
    pub dtype: ModelDtype,
    /// The optimizer for submissions, if they get one.
    pub optimizer: Option<OptimizerHparams>,
    /// CPU threads.
    pub threads: u32,
    /// What the sandbox may use.
    pub limits: Limits,
    /// The weakest sandbox that will do.
    pub minimum_tier: Tier,
    /// Exactly this tier, for tests.
    pub force_tier: Option<Tier>,
    /// Seconds for each phase in which submitted code runs.
    pub phase_timeout: Duration,
    /// Accelerators.
    pub num_gpus: u32,
}

/// Why a worker did not do what it was asked.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// The sandbox did not start.
    #[error("the sandbox did not start")]
    Start(#[source] StartError),
    /// A pipe, socket or shared memory could not be made.
    #[error("{what} could not be made")]
    Resources {
        /// What was to be made.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The worker's archive could not be written.
    #[error("the worker's archive could not be written")]
    Archive(#[source] ZipError),
    /// The worker said nothing within the time limit.
    #[error("no reply within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The worker's process has ended.
    #[error("the process ended: {0:?}")]
    Ended(Exit),
    /// The worker closed its end of the socket and lives on.
    #[error("the control socket was closed")]
    Disconnected,
    /// The worker's message was wrong.
    #[error("the worker broke the protocol: {0}")]
    Protocol(String),
    /// Something raised in the worker.
    #[error("{}", .0.message)]
    Failed(Failed),
    /// The sandbox could not be frozen or thawed.
    #[error("the sandbox did not obey")]
    Control(#[source] ControlError),
    /// The host could not talk to the worker.
    #[error("the control socket failed")]
    Channel(#[source] ChannelError),
}

/// What one run asks for.
#[derive(Clone, Copy, Debug)]
pub struct RunOrder<'a> {
    /// Noise on the initial weights, for a warm-up.
    pub noise_seed: Option<u64>,
    /// The batches: 64-bit little-endian tokens, step by step, row by row.
    pub batches: &'a [u8],
    /// Training steps.
    pub steps: u32,
    /// Rows per batch.
    pub batch_size: u32,
    /// Tokens per row.
    pub sequence_length: u32,
    /// Rows of the last logits to ask for.
    pub logit_rows: &'a [u64],
    /// What to ask of the weights: [`Question::to_bytes`](crate::question::Question::to_bytes).
    pub question: &'a [u8],
    /// Where all weights are to be written when the clock has stopped, if they are wanted.
    pub dump: Option<&'a Layout>,
    /// What has to be repeated in the replies to run and question.
    pub nonces: [&'a str; 2],
    /// Time limit of the run.
    pub timeout: Duration,
}

/// What one run gave.
#[derive(Debug)]
pub struct RunOutput {
    /// Said when training had ended.
    pub trained: Trained,
    /// Said when the results were written.
    pub answer: Answer,
    /// A copy of the results, made while the worker was frozen.
    pub results: Vec<u8>,
    /// All weights, if they were wanted.
    pub dump: Option<Vec<u8>>,
    /// From the release of the batches to the freeze.
    pub span: Span,
    /// Times of the parts of the run.
    pub phases: Vec<Phase>,
    /// CPU time of the sandbox in the timed region.
    pub cpu_seconds: Option<f64>,
    /// Share of the machine's CPU time that went to other work.
    pub foreign_cpu_share: Option<f64>,
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    sandbox: Sandbox,
    channel: Channel,
    ready: Ready,
    memory: Option<Memory>,
    num_gpus: u32,
    phase_timeout: Duration,
    frozen: bool,
}

#[derive(Debug)]
struct Memory {
    batches: SharedMemory,
    question: SharedMemory,
    results: SharedMemory,
    /// Where in the results the rows of logits begin, in bytes.
    logits_offset: u64,
}

/// What the trusted worker writes down during one run: what will be asked of the weights, before the
/// first step and after some or all of them.
#[derive(Debug)]
pub struct Recording {
    memory: SharedMemory,
    /// Bytes of one state.
    stride: usize,
}

impl Recording {
    /// A copy of what was written: one region for each state, laid out as the results are,
    /// without logits.
    ///
    /// # Errors
    /// [`WorkerError::Resources`] if there is no memory for it.
    pub fn states(&self) -> Result<Vec<Vec<u8>>, WorkerError> {
        let all = copy(&self.memory)?;
        Ok(all.chunks_exact(self.stride).map(<[u8]>::to_vec).collect())
    }
}

impl Worker {
    /// Starts a worker and waits until its model is loaded.
    ///
    /// # Errors
    /// [`WorkerError`] if the sandbox cannot be started or the model cannot be loaded.
    pub fn start(setup: &WorkerSetup) -> Result<Self, WorkerError> {
        let (host, worker) = UnixStream::pair().map_err(|source| WorkerError::Resources {
            what: "the control socket",
            source,
        })?;
        let mut request = SandboxRequest::new(&setup.python);
        request.arguments = ["-I", "-u", ARCHIVE, &CONTROL_DESCRIPTOR.to_string()]
            .map(OsString::from)
            .to_vec();
        request.environment = environment();
        request.mounts = setup
            .read_only_paths
            .iter()
            .map(Mount::in_place)
            .chain(setup.model_mounts.iter().cloned())
            .collect();
        request.embedded = vec![EmbeddedFile {
            target: PathBuf::from(ARCHIVE),
            contents: bundle::worker_archive().map_err(WorkerError::Archive)?,
        }];
        request.inherit = vec![(OwnedFd::from(worker), CONTROL_DESCRIPTOR)];
        request.limits = setup.limits.clone();
        request.minimum_tier = setup.minimum_tier;
        request.force_tier = setup.force_tier;
        let sandbox = Sandbox::start(request).map_err(WorkerError::Start)?;
        let mut started = Self {
            sandbox,
            channel: Channel::new(host),
            ready: Ready::default(),
            memory: None,
            num_gpus: setup.num_gpus,
            phase_timeout: setup.phase_timeout,
            frozen: false,
        };
        let hello = Request::Hello {
            protocol: protocol::VERSION,
            // CUDA needs devices and libraries that the sandbox does not show yet.
            device: "cpu",
            threads: setup.threads,
            model: &setup.model,
            dtype: setup.dtype,
            optimizer: setup.optimizer,
        };
        match started.ask(&hello, &[], START_TIMEOUT)? {
            Reply::Ready(ready) if ready.protocol == protocol::VERSION => started.ready = ready,
            other => return Err(unexpected(&hello, &other)),
        }
        Ok(started)
    }

    /// What the worker said of itself and the model.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// How well it is isolated.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.sandbox.tier()
    }

    /// What it printed.
    #[must_use]
    pub fn log(&self) -> LogSnapshot {
        self.sandbox.log()
    }

    /// Rate of a large matrix product on this machine, in TFLOP/s.
    ///
    /// # Errors
    /// [`WorkerError`] if the worker fails.
    pub fn measure_peak(&mut self) -> Result<f64, WorkerError> {
        match self.ask(&Request::MeasurePeak, &[], SHORT_TIMEOUT)? {
            Reply::Peak { tflops } if tflops.is_finite() && tflops > 0.0 => Ok(tflops),
            other => Err(unexpected(&Request::MeasurePeak, &other)),
        }
    }

    /// Makes the memory for batches, question and results, and hands it over.
    ///
    /// # Errors
    /// [`WorkerError`] if there is not enough memory or the worker fails.
    pub fn share_memory(
        &mut self,
        shape: &QuestionShape,
        batch_bytes: usize,
    ) -> Result<(), WorkerError> {
        let memory = Memory {
            batches: shared("shared memory for batches", batch_bytes)?,
            question: shared("shared memory for the question", shape.bytes())?,
            results: shared("shared memory for results", shape.layout().bytes())?,
            logits_offset: shape.layout().tensor_bytes() as u64,
        };
        let request = Request::Memory {
            asked: shape.asked(),
        };
        let descriptors = [&memory.batches, &memory.question, &memory.results].map(AsFd::as_fd);
        let reply = exchange(
            &mut self.channel,
            &self.sandbox,
            &request,
            &descriptors,
            SHORT_TIMEOUT,
        )?;
        self.memory = Some(memory);
        expect(&request, reply, &Reply::Mapped)
    }

    /// Hands over the initial weights.
    ///
    /// # Errors
    /// [`WorkerError`] if the worker fails.
    pub fn give_initial_weights(
        &mut self,
        layout: &Layout,
        initial: &SealedMemory,
    ) -> Result<(), WorkerError> {
        let request = Request::Initial {
            layout: layout.slots(),
        };
        let reply = self.ask(&request, &[initial.as_fd()], SHORT_TIMEOUT)?;
        expect(&request, reply, &Reply::Mapped)
    }

    /// All weights that the worker has now, laid out as `layout`.
    ///
    /// # Errors
    /// [`WorkerError`] if the worker fails or there is not enough memory.
    pub fn dump_weights(&mut self, layout: &Layout) -> Result<Vec<u8>, WorkerError> {
        let mut memory = shared("shared memory for all weights", layout.bytes())?;
        spoil(&mut memory)?;
        let request = Request::Dump {
            layout: layout.slots(),
        };
        let reply = self.ask(&request, &[memory.as_fd()], self.phase_timeout)?;
        expect(&request, reply, &Reply::Dumped)?;
        copy(&memory)
    }

    /// Has the trusted worker record its next run: what `question` asks of its weights, after these
    /// numbers of steps.
    ///
    /// # Errors
    /// [`WorkerError`] if the worker fails or there is not enough memory.
    pub fn record_next_run(
        &mut self,
        shape: &QuestionShape,
        question: &[u8],
        after_steps: &[u32],
    ) -> Result<Recording, WorkerError> {
        let stride = shape.layout().tensor_bytes();
        let bytes = stride.saturating_mul(after_steps.len());
        let recording = Recording {
            memory: shared("shared memory for the record of a run", bytes)?,
            stride,
        };
        self.thaw()?;
        write(&mut self.memory_mut()?.question, question, "the question")?;
        let request = Request::Record {
            after_steps,
            stride: stride as u64,
        };
        let reply = self.ask(&request, &[recording.memory.as_fd()], SHORT_TIMEOUT)?;
        expect(&request, reply, &Reply::Mapped)?;
        Ok(recording)
    }

    /// Hands over the submission. From here on the worker is not trusted.
    ///
    /// # Errors
    /// [`WorkerError`] if the code cannot be loaded.
    pub fn load_code(&mut self, source: &str) -> Result<(), WorkerError> {
        let request = Request::Code { source };
        let reply = self.ask(&request, &[], self.phase_timeout)?;
        expect(&request, reply, &Reply::Loaded)
    }

    /// Makes one run and leaves the worker frozen.
    ///
    /// # Errors
    /// [`WorkerError`] if the worker fails, takes too long, or lies about its messages. It is of no
    /// further use then.
    pub fn run(&mut self, order: &RunOrder<'_>) -> Result<RunOutput, WorkerError> {
        let began = Timer::now();
        self.thaw()?;
        let reset = Request::Reset {
            perturbation_seed: order.noise_seed,
        };
        let reply = self.ask(&reset, &[], self.phase_timeout)?;
        expect(&reset, reply, &Reply::Restored)?;
        spoil(&mut self.memory_mut()?.results)?;
        let reset_seconds = began.elapsed().as_secs_f64();

        let run = Request::Run {
            nonce: order.nonces[0],
            steps: order.steps,
            batch_size: order.batch_size,
            sequence_length: order.sequence_length,
            num_gpus: self.num_gpus,
        };
        let question = Request::Question {
            nonce: order.nonces[1],
            logit_rows: order.logit_rows,
            vocabulary: self.ready.vocabulary,
            logits_offset: self.memory()?.logits_offset,
        };
        let cpu_before = self.sandbox.usage(SHORT_TIMEOUT).cpu_time;
        let load_before = CpuLoad::now();
        let deadline = Timer::now() + order.timeout;
        let left = || deadline.saturating_duration_since(Timer::now());

        // The clock starts before the first byte of a batch is in reach of the worker...
        let released = Instant::now();
        write(
            &mut self.memory_mut()?.batches,
            order.batches,
            "the batches",
        )?;
        let late = |error| match error {
            WorkerError::Timeout(_) => WorkerError::Timeout(order.timeout),
            error => error,
        };
        let reply = self.ask(&run, &[], left()).map_err(late)?;
        let Reply::Trained(trained) = reply else {
            return Err(unexpected(&run, &reply));
        };
        let trained_at = Instant::now();
        // Not before now: nobody can know what will be asked.
        write(
            &mut self.memory_mut()?.question,
            order.question,
            "the question",
        )?;
        let reply = self.ask(&question, &[], left()).map_err(late)?;
        let Reply::Answer(answer) = reply else {
            return Err(unexpected(&question, &reply));
        };
        let answered_at = Instant::now();
        // ... and stops when nothing can be changed any more.
        self.freeze()?;
        let frozen_at = Instant::now();

        if trained.nonce != order.nonces[0] || answer.nonce != order.nonces[1] {
            return Err(WorkerError::Protocol(
                "a reply does not belong to its question".to_owned(),
            ));
        }
        let load_after = CpuLoad::now();
        let cpu_after = self.sandbox.usage(SHORT_TIMEOUT).cpu_time;
        let copying = Timer::now();
        let results = copy(&self.memory()?.results)?;
        let copied = copying.elapsed().as_secs_f64();
        let dumping = Timer::now();
        let dump = order
            .dump
            .map(|layout| self.dump_after_run(layout))
            .transpose()?;
        let dumped = dumping.elapsed().as_secs_f64();
        let cpu_seconds = cpu_before
            .zip(cpu_after)
            .map(|(before, after)| after.saturating_sub(before).as_secs_f64());
        let phase = |name: &str, seconds| Phase {
            name: name.to_owned(),
            seconds,
        };
        let mut phases = vec![
            phase("reset", reset_seconds),
            phase("train", released.until(trained_at).seconds()),
            phase("answer", trained_at.until(answered_at).seconds()),
            phase("freeze", answered_at.until(frozen_at).seconds()),
            phase("copy", copied),
        ];
        if dump.is_some() {
            phases.push(phase("dump", dumped));
        }
        Ok(RunOutput {
            trained,
            answer,
            results,
            dump,
            span: released.until(frozen_at),
            phases,
            cpu_seconds,
            foreign_cpu_share: CpuLoad::foreign_share(load_before, load_after, cpu_seconds),
        })
    }

    /// All weights of a run that has ended, from a worker that is frozen before and after.
    fn dump_after_run(&mut self, layout: &Layout) -> Result<Vec<u8>, WorkerError> {
        self.thaw()?;
        let weights = self.dump_weights(layout)?;
        self.freeze()?;
        Ok(weights)
    }

    /// Stops the worker where it is, until its next run.
    ///
    /// # Errors
    /// [`WorkerError::Control`] if the sandbox cannot be frozen, [`WorkerError::Ended`] if there is
    /// nothing left to freeze.
    pub fn freeze(&mut self) -> Result<(), WorkerError> {
        match self.sandbox.freeze(CONTROL_TIMEOUT) {
            Ok(()) => {
                self.frozen = true;
                Ok(())
            }
            Err(error) => Err(ended(&self.sandbox).unwrap_or(WorkerError::Control(error))),
        }
    }

    fn thaw(&mut self) -> Result<(), WorkerError> {
        if self.frozen {
            self.sandbox
                .thaw(CONTROL_TIMEOUT)
                .map_err(WorkerError::Control)?;
            self.frozen = false;
        }
        Ok(())
    }

    /// Ends the worker and all that it started, and returns what it printed.
    ///
    /// # Errors
    /// [`WorkerError::Control`] if something of it is left.
    pub fn stop(self) -> Result<LogSnapshot, WorkerError> {
        self.sandbox
            .kill(CONTROL_TIMEOUT)
            .map_err(WorkerError::Control)?;
        Ok(self.sandbox.log())
    }

    fn ask(
        &mut self,
        request: &Request<'_>,
        descriptors: &[std::os::fd::BorrowedFd<'_>],
        timeout: Duration,
    ) -> Result<Reply, WorkerError> {
        exchange(
            &mut self.channel,
            &self.sandbox,
            request,
            descriptors,
            timeout,
        )
    }

    fn memory(&self) -> Result<&Memory, WorkerError> {
        self.memory.as_ref().ok_or_else(no_memory)
    }

    fn memory_mut(&mut self) -> Result<&mut Memory, WorkerError> {
        self.memory.as_mut().ok_or_else(no_memory)
    }
}

fn no_memory() -> WorkerError {
    WorkerError::Protocol("a run was asked for before there was memory for it".to_owned())
}

/// The whole environment of a worker. Caches go to the only writable places.
fn environment() -> Vec<(OsString, OsString)> {
    [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/scratch"),
        ("TMPDIR", "/tmp"),
        ("LANG", "C.UTF-8"),
        ("HF_HUB_OFFLINE", "1"),
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ]
    .map(|(name, value)| (OsString::from(name), OsString::from(value)))
    .to_vec()
}

/// Sends a request and waits for the reply.
fn exchange(
    channel: &mut Channel,
    sandbox: &Sandbox,
    request: &Request<'_>,
    descriptors: &[std::os::fd::BorrowedFd<'_>],
    timeout: Duration,
) -> Result<Reply, WorkerError> {
    let deadline = Timer::now() + timeout;
    let outcome = channel
        .send(request, descriptors, timeout)
        .and_then(|()| channel.receive(deadline.saturating_duration_since(Timer::now())));
    match outcome {
        Ok(Reply::Failed(failed)) => Err(WorkerError::Failed(failed)),
        Ok(reply) => Ok(reply),
        Err(ChannelError::Timeout(_)) => Err(WorkerError::Timeout(timeout)),
        Err(ChannelError::Closed) => Err(ended(sandbox).unwrap_or(WorkerError::Disconnected)),
        Err(ChannelError::FrameSize(bytes)) => Err(WorkerError::Protocol(format!(
            "it announced a frame of {bytes} bytes"
        ))),
        Err(ChannelError::Malformed(error)) => Err(WorkerError::Protocol(format!(
            "its reply is no message ({error})"
        ))),
        Err(error) => Err(WorkerError::Channel(error)),
    }
}

/// How the worker's process ended, if it did within a short while.
fn ended(sandbox: &Sandbox) -> Option<WorkerError> {
    sandbox.wait(Duration::from_secs(2)).map(WorkerError::Ended)
}

fn expect(request: &Request<'_>, reply: Reply, wanted: &Reply) -> Result<(), WorkerError> {
    if reply == *wanted {
        return Ok(());
    }
    Err(unexpected(request, &reply))
}

fn unexpected(request: &Request<'_>, reply: &Reply) -> WorkerError {
    WorkerError::Protocol(format!(
        "it answered `{}` with `{}`",
        request.name(),
        reply.name()
    ))
}

fn shared(what: &'static str, bytes: usize) -> Result<SharedMemory, WorkerError> {
    SharedMemory::create(what, bytes).map_err(|source| WorkerError::Resources { what, source })
}

fn write(memory: &mut SharedMemory, bytes: &[u8], what: &'static str) -> Result<(), WorkerError> {
    memory
        .write_at(0, bytes)
        .map_err(|source| WorkerError::Resources { what, source })
}

fn copy(memory: &SharedMemory) -> Result<Vec<u8>, WorkerError> {
    memory.snapshot().map_err(|source| WorkerError::Resources {
        what: "a copy of the results",
        source,
    })
}

/// Fills the memory with NaN, so that a worker that writes nothing does not leave the last run's
/// results there.
fn spoil(memory: &mut SharedMemory) -> Result<(), WorkerError> {
    static BLOCK: [u8; 1 << 16] = [0xff; 1 << 16];
    let mut offset = 0;
    while offset < memory.len() {
        let length = BLOCK.len().min(memory.len() - offset);
        memory
            .write_at(offset, &BLOCK[..length])
            .map_err(|source| WorkerError::Resources {
                what: "the memory for results",
                source,
            })?;
        offset += length;
    }
    Ok(())
}
