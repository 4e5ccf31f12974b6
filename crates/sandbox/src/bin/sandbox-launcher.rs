//! The smallest program that can start a sandbox: for tests, and to try things by hand.
//! `sandbox-launcher [--tier N] PROGRAM [ARGUMENT...]` runs a program and prints its log and its end.

use std::process::ExitCode;
use std::time::Duration;

use crusades_sandbox::{Sandbox, SandboxRequest, Tier};

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
    let program = arguments.next().ok_or("a program is needed")?;
    let mut request = SandboxRequest::new(program);
    request.arguments = arguments.collect();
    request.minimum_tier = tier.unwrap_or(request.minimum_tier);
    request.force_tier = tier;
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
