//! Who isolates a payload: this program itself, or a container engine. Plain values; nothing here
//! touches the machine.

use serde::{Deserialize, Serialize};

/// Who isolates a payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Backend {
    /// This program, started again; needs nothing else.
    #[default]
    Native,
    /// A container of a Docker engine on this machine.
    Docker(DockerSettings),
}

/// Where containers come from, and what is in them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DockerSettings {
    /// The image: `name@sha256:...`, an id `sha256:...`, or a tag, which is resolved once in the life
    /// of this process. It must be there already: nothing is ever downloaded.
    pub image: String,
    /// The engine's socket as `unix:///path`; if `None`, the variable `DOCKER_HOST`, and if that is
    /// not set, [`DEFAULT_DOCKER_HOST`].
    pub host: Option<String>,
}

/// Where an engine listens if nothing else is said.
pub const DEFAULT_DOCKER_HOST: &str = "unix:///var/run/docker.sock";

impl DockerSettings {
    /// An image of the usual engine.
    #[must_use]
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            host: None,
        }
    }

    /// The engine's socket, as the environment of this process has it where nothing is set.
    pub(crate) fn effective_host(&self) -> String {
        let given = self.host.clone();
        given
            .or_else(|| std::env::var("DOCKER_HOST").ok())
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| DEFAULT_DOCKER_HOST.into())
    }
}
