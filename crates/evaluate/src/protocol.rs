//! What host and worker say to each other, and the frames it travels in.
//!
//! A frame is the length of its body (4 bytes, little endian) and the body: one JSON object with a
//! `type`. Whatever comes from a worker is untrusted: a frame is bounded in size, an unknown type or
//! field is a violation, and a number means nothing before it has been checked.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crusades_core::hparams::{ModelDtype, OptimizerHparams};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// Version of the protocol. Host and worker ship in one binary; the number guards against a stale
/// worker in an image.
pub const VERSION: u32 = 2;

/// Largest body of a frame, in bytes.
pub const MAX_FRAME_BYTES: u32 = 4 << 20;

/// One tensor of the model, as the worker describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorDescription {
    /// Its name in the model's state dict.
    pub name: String,
    /// Its dtype as PyTorch calls it, such as `float32`.
    pub dtype: String,
    /// Its extents.
    pub shape: Vec<u64>,
    /// False for a saved buffer.
    pub parameter: bool,
}

/// Where a tensor, or what was chosen of it, lies in a region of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// Name in the state dict.
    pub name: String,
    /// `float32`, `bfloat16` or `float16`.
    pub dtype: String,
    /// Extents.
    pub shape: Vec<u64>,
    /// Bytes from the start of the region.
    pub offset: u64,
}

/// A tensor of which a sketch is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SketchSlot {
    /// Its number in the model's order.
    pub tensor: usize,
    /// Rows of the tensor as a matrix: its first extent.
    pub rows: u64,
    /// Columns: the product of the others.
    pub columns: u64,
    /// Where in the results the sketch goes, in bytes.
    pub offset: u64,
}

/// What is asked of the weights, in every run, and where the answer goes. Which elements, and which
/// signs, is in memory when the question is asked.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Asked<'a> {
    /// Where the chosen elements of each tensor go; each shape is their number.
    pub sampled: &'a [Slot],
    /// The tensors that are sketched.
    pub sketched: &'a [SketchSlot],
    /// Numbers in a sketch.
    pub projections: u64,
    /// Rows of the left signs.
    pub sketch_rows: u64,
    /// Rows of the right signs.
    pub sketch_columns: u64,
}

/// Where a worker gets its model from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelSource {
    /// A model with random weights.
    Config {
        /// Its `config.json`.
        config: serde_json::Map<String, serde_json::Value>,
        /// Seed of its weights.
        seed: u64,
    },
    /// A model with the weights in its folder.
    Folder {
        /// The folder, the same inside the sandbox as outside.
        folder: PathBuf,
    },
}

/// A message of the host.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request<'a> {
    /// Asks for the model. Answered by `Ready`.
    Hello {
        /// [`VERSION`].
        protocol: u32,
        /// `cpu` or `cuda`.
        device: &'a str,
        /// CPU threads.
        threads: u32,
        /// The model and its first weights.
        model: &'a ModelSource,
        /// Element type of the model.
        dtype: ModelDtype,
        /// The optimizer that submissions get, or none.
        optimizer: Option<OptimizerHparams>,
    },
    /// Asks the trusted worker for the machine's peak. Answered by `Peak`.
    MeasurePeak,
    /// Hands over the memory for batches, for the question and for results. Answered by `Mapped`.
    Memory {
        /// What will be asked of the weights.
        asked: Asked<'a>,
    },
    /// Hands over the initial weights. Answered by `Mapped`.
    Initial {
        /// Where each tensor is.
        layout: &'a [Slot],
    },
    /// Tells the trusted worker to write, during its next run, what is asked of its weights to the
    /// memory that comes with this. Answered by `Mapped`.
    Record {
        /// Numbers of steps after which it writes, ascending; 0 is before the first.
        after_steps: &'a [u32],
        /// Bytes from one writing to the next; each is laid out as the results are.
        stride: u64,
    },
    /// Asks for all weights, in the memory that comes with this. Answered by `Dumped`.
    Dump {
        /// Where each tensor goes.
        layout: &'a [Slot],
    },
    /// The submission. Answered by `Loaded`.
    Code {
        /// Its source, as the scan left it.
        source: &'a str,
    },
    /// Puts back the weights and makes a new optimizer. Answered by `Restored`.
    Reset {
        /// Seed of the noise for a warm-up.
        perturbation_seed: Option<u64>,
    },
    /// Releases the batches. Answered by `Trained`.
    Run {
        /// To be repeated in the answer.
        nonce: &'a str,
        /// Training steps.
        steps: u32,
        /// Rows per batch.
        batch_size: u32,
        /// Tokens per row.
        sequence_length: u32,
        /// Accelerators.
        num_gpus: u32,
    },
    /// Asks for rows of the logits, and of the final weights for what is in memory now. Answered by
    /// `Answer`.
    Question {
        /// To be repeated in the answer.
        nonce: &'a str,
        /// Rows of the logits, flattened over batch and position.
        logit_rows: &'a [u64],
        /// Length of a row.
        vocabulary: u64,
        /// Where in the results the rows go, in bytes.
        logits_offset: u64,
    },
}

impl Request<'_> {
    /// The `type` of the message.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::MeasurePeak => "measure_peak",
            Self::Memory { .. } => "memory",
            Self::Initial { .. } => "initial",
            Self::Record { .. } => "record",
            Self::Dump { .. } => "dump",
            Self::Code { .. } => "code",
            Self::Reset { .. } => "reset",
            Self::Run { .. } => "run",
            Self::Question { .. } => "question",
        }
    }
}

/// Versions of what the worker runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// Of Python.
    pub python: String,
    /// Of PyTorch.
    pub torch: String,
    /// Of transformers.
    pub transformers: String,
}

/// Dtype and shape of a tensor that a submission produced.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorForm {
    /// As PyTorch calls it; cut after 64 characters.
    #[serde(deserialize_with = "cut::<64, _>")]
    pub dtype: String,
    /// Extents; at most 64 of them, as many as PyTorch allows.
    #[serde(deserialize_with = "extents")]
    pub shape: Vec<u64>,
}

/// A text of which the first `MOST` characters are kept: it comes from a worker and goes into reports.
fn cut<'de, const MOST: usize, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(match text.char_indices().nth(MOST) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    })
}

/// The extents of a tensor that can exist.
fn extents<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    const MOST: usize = 64;
    let extents = Vec::deserialize(deserializer)?;
    if extents.len() > MOST {
        return Err(serde::de::Error::invalid_length(
            extents.len(),
            &"at most 64 extents",
        ));
    }
    Ok(extents)
}

/// `Ready`: the model is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// The worker's [`VERSION`].
    pub protocol: u32,
    /// `cpu`, or the name of the accelerator.
    pub device: String,
    /// Number of trained parameters.
    pub parameters: u64,
    /// Number of tokens in the vocabulary.
    pub vocabulary: u64,
    /// The model's tensors.
    pub tensors: Vec<TensorDescription>,
    /// Versions.
    pub versions: Versions,
}

/// `Trained`: `inner_steps` returned.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trained {
    /// The run's nonce.
    pub nonce: String,
    /// Bits of the reported loss (IEEE 754 binary64).
    pub loss_bits: u64,
    /// Reported number of tokens.
    pub total_tokens: u64,
    /// Form of the returned logits, if there are any.
    pub logits: Option<TensorForm>,
    /// The worker's own timing in seconds. For information only.
    pub seconds: f64,
    /// Peak memory as the worker sees it, in bytes. For information only.
    pub peak_memory_bytes: u64,
}

/// `Answer`: the results are in shared memory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The question's nonce.
    pub nonce: String,
    /// Rows of logits that were written: all that were asked for, or none.
    pub logit_rows: u64,
    /// For each tensor of the model the form of what was found under its name.
    pub tensors: Vec<Option<TensorForm>>,
    /// Elements of parameters that require a gradient.
    pub trainable_parameters: u64,
}

/// `Failed`: something raised.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// What kind of failure.
    pub kind: FailedKind,
    /// The exception; cut after 2,000 characters.
    #[serde(deserialize_with = "cut::<2_000, _>")]
    pub message: String,
    /// Its traceback, for the submission's author; cut after 16,000 characters.
    #[serde(deserialize_with = "cut::<16_000, _>")]
    pub traceback: String,
}

/// Kinds of failure that a worker tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedKind {
    /// The submission raised.
    Raised,
    /// It raised what says that memory is used up.
    OutOfMemory,
    /// Its source does not compile.
    SyntaxError,
    /// It has no `inner_steps`.
    MissingInnerSteps,
    /// It returned something else than an `InnerStepsResult`.
    InvalidReturnType,
    /// `total_tokens` is no number of tokens.
    TokenCountMismatch,
    /// The model could not be loaded.
    Model,
    /// Host and worker are of different versions.
    Protocol,
}

/// A message of a worker.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// The model is loaded.
    Ready(Ready),
    /// The measured peak.
    Peak {
        /// In TFLOP/s.
        tflops: f64,
    },
    /// Shared memory is mapped.
    Mapped,
    /// All weights are in the memory that came with the request.
    Dumped,
    /// The submission is loaded.
    Loaded,
    /// The initial weights are back.
    Restored,
    /// `inner_steps` returned.
    Trained(Trained),
    /// The results are in shared memory.
    Answer(Answer),
    /// Something raised.
    Failed(Failed),
}

impl Reply {
    /// The `type` of the message.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ready(_) => "ready",
            Self::Peak { .. } => "peak",
            Self::Mapped => "mapped",
            Self::Dumped => "dumped",
            Self::Loaded => "loaded",
            Self::Restored => "restored",
            Self::Trained(_) => "trained",
            Self::Answer(_) => "answer",
            Self::Failed(_) => "failed",
        }
    }
}

/// Why no reply was had.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// The worker said nothing in time.
    #[error("no reply within {0:?}")]
    Timeout(Duration),
    /// The other end is closed.
    #[error("the connection was closed")]
    Closed,
    /// A frame is empty or too long.
    #[error("a frame of {0} bytes was announced, and 1 to {MAX_FRAME_BYTES} are allowed")]
    FrameSize(u32),
    /// A body is not a known message.
    #[error("a frame is not a message of this protocol")]
    Malformed(#[source] serde_json::Error),
    /// A message could not be written as JSON.
    #[error("a message could not be serialised")]
    Serialise(#[source] serde_json::Error),
    /// The message of the host is too long to send.
    #[error("a message of {0} bytes exceeds the frame limit of {MAX_FRAME_BYTES}")]
    RequestTooLong(usize),
    /// The socket failed.
    #[error("the socket failed")]
    Socket(#[source] io::Error),
}

/// The host's end of the control socket.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
}

impl Channel {
    /// A channel over a connected socket.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// Sends one message, with descriptors if there are any, in at most `timeout`.
    ///
    /// # Errors
    /// [`ChannelError`] if the message is too long, time runs out or the socket fails.
    pub fn send(
        &mut self,
        request: &Request<'_>,
        descriptors: &[BorrowedFd<'_>],
        timeout: Duration,
    ) -> Result<(), ChannelError> {
        let body = serde_json::to_vec(request).map_err(ChannelError::Serialise)?;
        let length = u32::try_from(body.len())
            .ok()
            .filter(|length| *length <= MAX_FRAME_BYTES)
            .ok_or(ChannelError::RequestTooLong(body.len()))?;
        let deadline = Deadline::after(timeout);
        let header = length.to_le_bytes();
        if descriptors.is_empty() {
            self.write_exactly(&header, &deadline)?;
        } else {
            // Four bytes always fit: the worker has read all earlier messages, or answered none.
            crusades_sandbox::send_with_descriptors(&self.stream, &header, descriptors)
                .map_err(|error| deadline.explain(error))?;
        }
        self.write_exactly(&body, &deadline)
    }

    /// The next message, which must have arrived whole within `timeout`.
    ///
    /// # Errors
    /// [`ChannelError`] if time runs out, the worker hung up, or what it sent is no message.
    pub fn receive(&mut self, timeout: Duration) -> Result<Reply, ChannelError> {
        let deadline = Deadline::after(timeout);
        let mut header = [0; 4];
        self.read_exactly(&mut header, &deadline)?;
        let length = u32::from_le_bytes(header);
        if length == 0 || length > MAX_FRAME_BYTES {
            return Err(ChannelError::FrameSize(length));
        }
        let mut body = vec![0; length as usize];
        self.read_exactly(&mut body, &deadline)?;
        serde_json::from_slice(&body).map_err(ChannelError::Malformed)
    }

    fn write_exactly(&mut self, bytes: &[u8], deadline: &Deadline) -> Result<(), ChannelError> {
        let mut written = 0;
        while written < bytes.len() {
            // Anew for each write, as in `read_exactly`.
            self.stream
                .set_write_timeout(Some(deadline.left()?))
                .map_err(ChannelError::Socket)?;
            match self.stream.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(deadline.explain(error)),
            }
        }
        Ok(())
    }

    fn read_exactly(&mut self, buffer: &mut [u8], deadline: &Deadline) -> Result<(), ChannelError> {
        let mut filled = 0;
        while filled < buffer.len() {
            // Anew for each read: a worker that drips bytes gets no more time than one that does
            // not.
            self.stream
                .set_read_timeout(Some(deadline.left()?))
                .map_err(ChannelError::Socket)?;
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => return Err(ChannelError::Closed),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(deadline.explain(error)),
            }
        }
        Ok(())
    }
}

/// A point in time, and the whole span for messages.
struct Deadline {
    end: Instant,
    span: Duration,
}

impl Deadline {
    fn after(span: Duration) -> Self {
        Self {
            end: Instant::now() + span,
            span,
        }
    }

    fn left(&self) -> Result<Duration, ChannelError> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ChannelError::Timeout(self.span));
        }
        Ok(left)
    }

    fn explain(&self, error: io::Error) -> ChannelError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ChannelError::Timeout(self.span),
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected => ChannelError::Closed,
            _ => ChannelError::Socket(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{Channel, ChannelError, MAX_FRAME_BYTES, Reply};

    fn receive(bytes: &[u8]) -> Result<Reply, ChannelError> {
        let (host, mut worker) = UnixStream::pair().unwrap();
        let bytes = bytes.to_vec();
        let writer = thread::spawn(move || {
            let _ = worker.write_all(&bytes);
        });
        let reply = Channel::new(host).receive(Duration::from_secs(5));
        writer.join().unwrap();
        reply
    }

    fn frame(body: &str) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap();
        [&length.to_le_bytes()[..], body.as_bytes()].concat()
    }

    #[test]
    fn a_message_is_read_and_near_misses_are_refused() {
        let trained = r#"{"type":"trained","nonce":"a","loss_bits":1,"total_tokens":2,"logits":null,"seconds":0.5,"peak_memory_bytes":3}"#;
        assert!(matches!(receive(&frame(trained)), Ok(Reply::Trained(_))));
        for wrong in [
            trained.replace("\"nonce\"", "\"nounce\""),
            trained.replace("\"seconds\":0.5", "\"seconds\":NaN"),
            trained.replace("\"total_tokens\":2", "\"total_tokens\":-2"),
            trained.replace("\"total_tokens\":2", "\"total_tokens\":2,\"extra\":1"),
            trained.replace("trained", "promoted"),
            "[]".to_owned(),
            "{".to_owned(),
            "[".repeat(100_000),
            "\u{0}".to_owned(),
        ] {
            assert!(
                matches!(receive(&frame(&wrong)), Err(ChannelError::Malformed(_))),
                "{wrong:.80}"
            );
        }
    }

    #[test]
    fn frames_of_forbidden_sizes_are_refused_before_memory_is_taken() {
        assert!(matches!(receive(&[0; 4]), Err(ChannelError::FrameSize(0))));
        let too_long = (MAX_FRAME_BYTES + 1).to_le_bytes();
        assert!(matches!(
            receive(&too_long),
            Err(ChannelError::FrameSize(_))
        ));
        assert!(matches!(
            receive(&[0xff; 4]),
            Err(ChannelError::FrameSize(_))
        ));
    }

    #[test]
    fn a_frame_that_ends_early_is_a_closed_connection() {
        assert!(matches!(receive(&[]), Err(ChannelError::Closed)));
        assert!(matches!(receive(&[1, 0]), Err(ChannelError::Closed)));
        assert!(matches!(
            receive(&[9, 0, 0, 0, b'{']),
            Err(ChannelError::Closed)
        ));
    }

    #[test]
    fn a_worker_that_drips_bytes_gets_no_more_time_than_a_silent_one() {
        let (host, mut worker) = UnixStream::pair().unwrap();
        let dripper = thread::spawn(move || {
            for byte in frame(&" ".repeat(1000)) {
                if worker.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        let began = Instant::now();
        let reply = Channel::new(host).receive(Duration::from_millis(200));
        assert!(matches!(reply, Err(ChannelError::Timeout(_))));
        assert!(began.elapsed() < Duration::from_secs(5));
        dripper.join().unwrap();
    }
}
