//! The smallest program that can start a sandbox: for tests, and to try things by hand.
//! `sandbox-launcher [--tier N] [--image IMAGE] PROGRAM [ARGUMENT...]` runs a program, in a container if
//! there is an image, and prints its log and its end.

use std::process::ExitCode;
use std::time::Duration;

use crusades_sandbox::{Backend, DockerSettings, Sandbox, SandboxRequest, Tier};

fn main() -> ExitCode {
    crusades_sandbox::run_if_supervisor();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandbox-launcher: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let mut tier = None;
    if arguments.next_if(|argument| argument == "--tier").is_some() {
        let number = arguments
            .next()
            .and_then(|text| text.to_str()?.parse().ok());
        tier = Some(
            number
                .and_then(Tier::from_number)
                .ok_or("--tier needs 1, 2 or 3")?,
        );
    }
    let mut backend = Backend::Native;
    if arguments
        .next_if(|argument| argument == "--image")
        .is_some()
    {
        let image = arguments.next().and_then(|text| text.into_string().ok());
        backend = Backend::Docker(DockerSettings::new(image.ok_or("--image needs a name")?));
    }
    let program = arguments.next().ok_or("a program is needed")?;
    let mut request = SandboxRequest::new(program);
    request.arguments = arguments.collect();
    request.minimum_tier = tier.unwrap_or(request.minimum_tier);
    request.force_tier = tier;
    request.backend = backend;
    let sandbox = Sandbox::start(request)?;
    println!("{} {}", sandbox.tier(), sandbox.pid());
    loop {
        if let Some(exit) = sandbox.wait(Duration::from_secs(3600)) {
            print!("{}", sandbox.log().to_text());
            println!("{:?}", exit.cause);
            return Ok(());
        }
    }
}
