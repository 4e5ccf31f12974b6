//! The container engine, asked over its Unix socket. Every request is bounded in time; what fails is told
//! in one line with what can be done about it. Nothing here decides how a container is isolated.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ImageInspect, SystemInfo};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::error::{Fault, chain};
use crate::native::landlock_abi;
use crate::tier::Capabilities;

/// How long the engine may take for one request.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the engine may take to forget a container that has ended.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(20);

/// The pause between two looks at a state that the engine is about to reach.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The oldest interface that has all that is asked for: of Docker 20.10.
const OLDEST_INTERFACE: (usize, usize) = (1, 41);

/// The only transport.
const UNIX: &str = "unix://";

/// What an engine can give, and the image that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) capabilities: Capabilities,
    /// The image by its content.
    pub(crate) image_id: String,
    /// Names of the variables that the image sets.
    pub(crate) image_variables: Vec<String>,
    /// Whether users in containers are others than the same numbers outside.
    pub(crate) maps_users: bool,
}

/// Asks the engine at `host` what it can give and looks for `image`.
pub(crate) fn probe(host: &str, image: &str) -> Result<Offer, Fault> {
    let engine = Engine::connect(host)?;
    let info = engine.info()?;
    let image = engine.image(image)?;
    let config = image.config.unwrap_or_default();
    if let Some(folder) = config.volumes.as_deref().and_then(<[_]>::first) {
        return Err(Fault::plain(
            "use the image",
            format!("it declares the volume {folder}, where no limit of storage would hold"),
        ));
    }
    let variables = config.env.unwrap_or_default();
    Ok(Offer {
        maps_users: has_option(&info, "userns") || has_option(&info, "rootless"),
        capabilities: capabilities(&info),
        image_id: image
            .id
            .ok_or_else(|| Fault::plain("look for the image", "the engine gives it no id"))?,
        image_variables: variables
            .iter()
            .filter_map(|variable| variable.split('=').next())
            .map(str::to_owned)
            .collect(),
    })
}

fn has_option(info: &SystemInfo, name: &str) -> bool {
    let options = info.security_options.iter().flatten();
    options
        .flat_map(|option| option.split(','))
        .any(|part| part.strip_prefix("name=") == Some(name))
}

fn capabilities(info: &SystemInfo) -> Capabilities {
    let (memory, processes) = (info.memory_limit, info.pids_limit);
    let limits = memory == Some(true) && processes == Some(true);
    let filters = has_option(info, "seccomp");
    let landlock_abi = landlock_abi();
    Capabilities {
        // Without both nothing is started.
        namespaces: filters && limits,
        control_groups: filters && limits,
        landlock_abi: if filters && limits { landlock_abi } else { 0 },
        freezer: "cgroup of the container, or the engine's pause".into(),
        reasons: [
            (!filters).then(|| "the engine cannot filter system calls".into()),
            (!limits).then(|| "the engine cannot limit memory and processes".into()),
            (landlock_abi == 0).then(|| "the kernel has no Landlock, or not at boot".into()),
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

/// A container that the engine has.
#[derive(Debug)]
pub(crate) struct Labelled {
    pub(crate) id: String,
    pub(crate) labels: HashMap<String, String>,
}

/// A connection to an engine, with the one thread of this process to drive it.
#[derive(Debug)]
pub(crate) struct Engine {
    runtime: Runtime,
    client: Docker,
}

impl Engine {
    /// Finds out that an engine of a usable version listens there.
    pub(crate) fn connect(host: &str) -> Result<Self, Fault> {
        let reach = || format!("reach the container engine at {host}");
        let Some(path) = host.strip_prefix(UNIX).filter(|path| path.starts_with('/')) else {
            return Err(Fault::plain(
                reach(),
                "only unix:///PATH is supported: what a container is shown must be on this machine",
            ));
        };
        try_connecting(Path::new(path)).map_err(|detail| Fault::plain(reach(), detail))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Fault::new("start the engine's client", &error))?;
        let client =
            Docker::connect_with_unix(path, PATIENCE.as_secs(), bollard::API_DEFAULT_VERSION)
                .map_err(|error| fault(reach(), &error))?;
        let client = runtime
            .block_on(client.negotiate_version())
            .map_err(|error| fault(reach(), &error))?;
        let found = client.client_version();
        if (found.major_version, found.minor_version) < OLDEST_INTERFACE {
            let (major, minor) = OLDEST_INTERFACE;
            return Err(Fault::plain(
                reach(),
                format!(
                    "it is too old: it speaks version {found} of its interface, \
                     and {major}.{minor} (Docker 20.10) is needed"
                ),
            ));
        }
        Ok(Self { runtime, client })
    }

    fn ask<T>(
        &self,
        operation: impl FnOnce() -> String,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Fault> {
        // The client's own bound holds for the head of an answer only.
        let bounded = async { tokio::time::timeout(PATIENCE, request).await };
        match self.runtime.block_on(bounded) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(fault(operation(), &error)),
            Err(_) => Err(Fault::plain(
                operation(),
                format!("the engine did not answer within {PATIENCE:?}"),
            )),
        }
    }

    fn info(&self) -> Result<SystemInfo, Fault> {
        self.ask(
            || "ask the container engine about itself".into(),
            self.client.info(),
        )
    }

    fn image(&self, name: &str) -> Result<ImageInspect, Fault> {
        let operation = || format!("look for the image {name}");
        let inspect = self.client.inspect_image(name);
        match self.runtime.block_on(inspect) {
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => Err(Fault::plain(
                operation(),
                format!("the engine does not have it; get it by `docker pull {name}`"),
            )),
            found => found.map_err(|error| fault(operation(), &error)),
        }
    }

    /// Makes a container and returns its id.
    pub(crate) fn create(&self, name: &str, body: ContainerCreateBody) -> Result<String, Fault> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let request = self.client.create_container(Some(options), body);
        let made = self.ask(|| "make the container".into(), request)?;
        Ok(made.id)
    }

    /// Starts the first process of a container.
    pub(crate) fn start(&self, id: &str) -> Result<(), Fault> {
        let request = self.client.start_container(id, None);
        self.ask(|| "start the container".into(), request)
    }

    /// Why a container does not run; `None` if it does, or if nobody knows.
    pub(crate) fn why_ended(&self, id: &str) -> Option<String> {
        let request = self.client.inspect_container(id, None);
        match self.runtime.block_on(request) {
            Ok(found) => {
                let state = found.state.unwrap_or_default();
                (state.running != Some(true)).then(|| {
                    format!(
                        "its first process ended with {}{}",
                        state.exit_code.unwrap_or_default(),
                        state
                            .error
                            .map(|text| format!(" {text}"))
                            .unwrap_or_default()
                    )
                })
            }
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => Some("it has ended".into()),
            Err(_) => None,
        }
    }

    /// Freezes a container. `Ok(false)` if that was not done by the deadline.
    pub(crate) fn pause(&self, id: &str, deadline: Instant) -> io::Result<bool> {
        self.by(deadline, self.client.pause_container(id))
    }

    /// Lets a container run again. `Ok(false)` if that was not done by the deadline.
    pub(crate) fn unpause(&self, id: &str, deadline: Instant) -> io::Result<bool> {
        self.by(deadline, self.client.unpause_container(id))
    }

    fn by(
        &self,
        deadline: Instant,
        request: impl Future<Output = Result<(), Error>>,
    ) -> io::Result<bool> {
        let bounded = async { tokio::time::timeout_at(deadline.into(), request).await };
        match self.runtime.block_on(bounded) {
            Ok(Ok(())) => Ok(true),
            Ok(Err(error)) => Err(io::Error::other(in_one_line(&error))),
            Err(_) => Ok(false),
        }
    }

    /// Kills the processes of a container, also if it is paused.
    pub(crate) fn kill(&self, id: &str) -> Result<(), Fault> {
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        let request = self.client.kill_container(id, Some(options));
        self.ask(|| "kill the container".into(), request)
    }

    /// Removes a container, whatever its state, and waits until the engine has forgotten it.
    pub(crate) fn remove(&self, id: &str) -> Result<(), Fault> {
        let deadline = Instant::now() + REMOVAL_PATIENCE;
        loop {
            let options = RemoveContainerOptionsBuilder::new()
                .force(true)
                .v(true)
                .build();
            let request = self.client.remove_container(id, Some(options));
            match self.runtime.block_on(request) {
                Ok(()) => return Ok(()),
                Err(Error::DockerResponseServerError {
                    status_code: 404, ..
                }) => return Ok(()),
                // The engine is at it already, as it was told when the container was made.
                Err(Error::DockerResponseServerError {
                    status_code: 409, ..
                }) if Instant::now() < deadline => std::thread::sleep(LOOK_AGAIN),
                Err(error) => return Err(fault("remove the container".into(), &error)),
            }
        }
    }

    /// All containers with a label, whatever their state.
    pub(crate) fn labelled(&self, label: &str) -> Result<Vec<Labelled>, Fault> {
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let request = self.client.list_containers(Some(options));
        let found = self.ask(|| "list containers".into(), request)?;
        Ok(found
            .into_iter()
            .filter_map(|one| {
                Some(Labelled {
                    id: one.id?,
                    labels: one.labels.unwrap_or_default(),
                })
            })
            .collect())
    }
}

/// Tells why nobody can be reached by a socket, and what to do about it.
fn try_connecting(path: &Path) -> Result<(), String> {
    use std::io::ErrorKind;
    UnixStream::connect(path).map(drop).map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::NotFound => "; is Docker installed and running?",
            ErrorKind::ConnectionRefused => "; nobody listens there: is Docker running?",
            ErrorKind::PermissionDenied => "; is this user in the group `docker`?",
            _ => "",
        };
        format!("{error}{advice}")
    })
}

fn fault(operation: String, error: &Error) -> Fault {
    Fault::plain(operation, in_one_line(error))
}

/// The error of a request with all its causes.
fn in_one_line(error: &Error) -> String {
    let text = match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        other => chain(other),
    };
    text.trim().replace('\n', " ")
}
