//! What the host and its supervisor say to each other over their socket, and the supervisor and the
//! sandbox's init over their pipe. All three are this program; the payload has none of these
//! descriptors. The first message carries the request and its descriptors, all others are lines.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::descriptors::{receive_with_descriptors, send_with_descriptors};
use crate::docker::Offer;
use crate::error::Fault;
use crate::outcome::{ExitCause, Usage};
use crate::policy::Policy;
use crate::request::{EmbeddedFile, Limits};
use crate::tier::Walls;

/// The first argument that turns the launcher into a supervisor.
pub(crate) const SUPERVISOR_ARGUMENT: &str = "sandbox-supervisor";

/// The first argument that turns the launcher into the first process of a container.
pub(crate) const CONTAINER_ARGUMENT: &str = "sandbox-container";

/// The longest header that is read: paths, arguments and environment of one payload.
const LONGEST_HEADER: u64 = 64 << 20;

/// What a supervisor is started for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    Launch(Box<Launch>),
    /// The same in a container.
    Contain(Box<Launch>, ContainerOrder),
    /// What the supervisor hands on to the first process of a container.
    Inside {
        launch: Box<Launch>,
        /// Whether no one else has the payload's user.
        own_user: bool,
    },
    /// Ask an engine what it can give, and for an image.
    ProbeEngine {
        host: String,
        image: String,
    },
    /// Find out whether namespaces and control groups can be made.
    Probe {
        host_pid: u32,
    },
}

/// A payload to start. The contents of embedded files follow the message in this order; the
/// descriptors that travel with it are the log and then those of `inherit`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Source and target of each mount. As all paths here, not a `PathBuf`, which refuses to be
    /// written if it is not UTF-8.
    pub(crate) mounts: Vec<(OsString, OsString)>,
    pub(crate) embedded: Vec<(OsString, u64)>,
    pub(crate) inherit: Vec<i32>,
    pub(crate) limits: Limits,
    pub(crate) policy: Policy,
    pub(crate) walls: Walls,
    /// Whether the walls must include limits by control groups.
    pub(crate) require_control_groups: bool,
    pub(crate) host_pid: u32,
}

/// Which container to make.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ContainerOrder {
    /// The engine's socket as `unix:///path`.
    pub(crate) host: String,
    /// What the engine was found to give.
    pub(crate) offer: Offer,
    /// The system's temporary folder, where run folders are made.
    pub(crate) run_folders: OsString,
}

/// What the supervisor learns of its start.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) order: Order,
    pub(crate) embedded: Vec<EmbeddedFile>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// A command of the host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Command {
    pub(crate) id: u64,
    pub(crate) action: Action,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Action {
    Freeze { timeout: Duration },
    Thaw { timeout: Duration },
    Usage,
    Kill(ExitCause),
}

/// What the supervisor tells the host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The answer to [`Order::Probe`].
    Probed {
        namespaces: Result<(), Fault>,
        control_groups: Result<(), String>,
        freezer: String,
    },
    /// The answer to [`Order::ProbeEngine`].
    EngineProbed(Result<Box<Offer>, Fault>),
    /// These directories exist from now on, and are to be removed by the host if the supervisor is lost.
    Groups(Vec<PathBuf>),
    /// The payload runs.
    Running { init: i32 },
    /// The payload was not started, and nothing is left.
    Failed(Fault),
    /// The answer to a command.
    Answer {
        id: u64,
        outcome: Result<Usage, Refusal>,
    },
    /// The payload has ended, and nothing is left.
    Ended { cause: ExitCause, usage: Usage },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Refusal {
    TimedOut,
    Failed(String),
}

/// What the init of a sandbox tells the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum InitReport {
    Failed(Fault),
    /// The payload's program runs.
    Running,
    /// The payload has ended by itself, or by a signal.
    Ended(ExitCause),
}

/// Sends the order that a supervisor is started for.
pub(crate) fn send_order(
    socket: &UnixStream,
    order: &Order,
    embedded: &[EmbeddedFile],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = serde_json::to_vec(order)?;
    let mut message = (body.len() as u64).to_le_bytes().to_vec();
    message.extend_from_slice(&body);
    for file in embedded {
        message.extend_from_slice(&file.contents);
    }
    send_with_descriptors(socket, &message, descriptors)
}

/// Receives the order that this supervisor was started for.
pub(crate) fn receive_order(socket: &UnixStream) -> io::Result<Received> {
    let mut length = [0; 8];
    let (count, descriptors) = receive_with_descriptors(socket, &mut length)?;
    let mut socket = socket;
    socket.read_exact(&mut length[count..])?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "the request is too long",
        ));
    }
    let mut body = Vec::new();
    socket.take(length).read_to_end(&mut body)?;
    let order: Order = serde_json::from_slice(&body)?;
    let mut embedded = Vec::new();
    if let Order::Launch(launch) | Order::Contain(launch, _) = &order {
        for (target, length) in &launch.embedded {
            let mut contents = Vec::new();
            socket.take(*length).read_to_end(&mut contents)?;
            if contents.len() as u64 != *length {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            embedded.push(EmbeddedFile {
                target: target.into(),
                contents,
            });
        }
    }
    Ok(Received {
        order,
        embedded,
        descriptors,
    })
}

/// A message as one line.
pub(crate) fn to_line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Cuts what arrives into messages.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Reads once. `Ok(false)` at the end of the stream.
    pub(crate) fn read(&mut self, mut source: impl Read) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            match source.read(&mut buffer) {
                Ok(count) => {
                    self.pending.extend_from_slice(&buffer[..count]);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next whole message.
    pub(crate) fn next<Message: DeserializeOwned>(&mut self) -> io::Result<Option<Message>> {
        let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let message = serde_json::from_slice(&self.pending[..end])?;
        self.pending.drain(..=end);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::{Launch, Lines, Order, receive_order, send_order, to_line};
    use crate::policy::Policy;
    use crate::request::{EmbeddedFile, Limits};
    use crate::tier::Walls;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn an_order_arrives_as_it_was_sent() {
        let (host, supervisor) = UnixStream::pair().expect("socket pair");
        let odd = OsString::from_vec(vec![b'a', 0xff, b'\n']);
        let embedded =
            [b"first".to_vec(), Vec::new(), vec![0; 100_000]].map(|contents| EmbeddedFile {
                target: "/worker.py".into(),
                contents,
            });
        let launch = Launch {
            program: "/usr/bin/true".into(),
            arguments: vec![odd.clone()],
            environment: vec![("A".into(), odd.clone())],
            mounts: vec![(odd.clone(), odd.clone())],
            embedded: embedded
                .iter()
                .map(|file| (file.target.clone().into(), file.contents.len() as u64))
                .collect(),
            inherit: vec![3],
            limits: Limits::default(),
            policy: Policy::standard(),
            walls: Walls {
                namespaces: true,
                control_groups: true,
                landlock: true,
            },
            require_control_groups: false,
            host_pid: 1,
        };
        let expected = embedded.clone();
        let sender = std::thread::spawn(move || {
            send_order(&host, &Order::Launch(Box::new(launch)), &embedded, &[])
        });
        let received = receive_order(&supervisor).expect("receive");
        sender.join().expect("join").expect("send");
        let Order::Launch(launch) = received.order else {
            panic!("another order arrived");
        };
        assert_eq!(launch.policy, Policy::standard());
        assert_eq!(launch.arguments, std::slice::from_ref(&odd));
        assert_eq!(launch.mounts, [(odd.clone(), odd)]);
        assert_eq!(received.embedded, expected);
    }

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let bytes = [to_line(&1u32), to_line(&22u32)]
            .map(Result::unwrap)
            .concat();
        for cut in 0..bytes.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                lines.read(part).expect("read");
                while let Some(number) = lines.next::<u32>().expect("parse") {
                    found.push(number);
                }
            }
            assert_eq!(found, [1, 22], "cut at {cut}");
        }
    }
}
