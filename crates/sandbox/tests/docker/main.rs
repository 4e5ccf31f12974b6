//! The Docker backend against a real engine: the same promises as natively, told by the same attacks, bombs
//! and looks at what is left. Containers take long to start, so that several things are seen in one
//! where that does not weaken what is shown.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

mod control;
mod images;
mod isolation;
mod limits;
#[path = "../support/mod.rs"]
mod support;

use crusades_sandbox::{Backend, DockerSettings, SandboxRequest, Tier};

/// Requests for containers of the test image; `None`, after saying so, where there is no engine.
fn image() -> Option<DockerSettings> {
    support::engine::image().map(DockerSettings::new)
}

/// A request for a container in place of one for a native sandbox.
fn contain(mut request: SandboxRequest, settings: &DockerSettings) -> SandboxRequest {
    request.backend = Backend::Docker(settings.clone());
    request
}

fn shell(settings: &DockerSettings, script: &str) -> SandboxRequest {
    contain(support::shell(Tier::One, script), settings)
}

/// The host's Python, which the image does not have, in the container.
fn python(settings: &DockerSettings, script: &str) -> Option<SandboxRequest> {
    let mut request = contain(support::python(Tier::One, script)?, settings);
    request
        .mounts
        .push(crusades_sandbox::Mount::in_place("/usr"));
    Some(request)
}
