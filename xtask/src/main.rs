//! Development tasks: `cargo xtask tidy`, `cargo xtask test` and `cargo xtask fuzz`.
//!
//! Everything here works on the checkout that it was built from, needs no terminal, and changes
//! tracked files only where `--fix` asks for it.

mod command;
mod engine;
mod fuzz;
mod step;
mod test;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Development tasks of crusades.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    /// Check what the compiler does not: format, lints, dependency direction, generated files,
    /// sources, specification.
    Tidy {
        /// Rewrite what can be rewritten: the format and the generated files.
        #[arg(long)]
        fix: bool,
    },
    /// Run everything that has to pass: tidy, build, the Python environment, a container engine, all
    /// tests.
    ///
    /// The engine is the one that DOCKER_HOST names or that runs on this machine; where there is none,
    /// root starts a private one for the time of the tests. Without an engine the tests of the Docker
    /// backend are skipped.
    Test {
        /// Leave out tidy.
        #[arg(long)]
        no_tidy: bool,
        /// Do not set up the Python environment; tests that need PyTorch are skipped where there
        /// is none.
        #[arg(long)]
        skip_environment: bool,
        /// As root, install a container engine by apt-get (docker.io, iptables) where there is none.
        #[arg(long)]
        install: bool,
    },
    /// Run libFuzzer on the scanner for longer than `test` does.
    Fuzz {
        /// The target; all of them, one after another, when none is named.
        target: Option<String>,
        /// How long each target runs.
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    match Task::parse() {
        Task::Tidy { fix } => tidy::run(fix),
        Task::Test {
            no_tidy,
            skip_environment,
            install,
        } => test::run(&test::Wishes {
            tidy: !no_tidy,
            environment: !skip_environment,
            install,
        }),
        Task::Fuzz { target, seconds } => {
            fuzz::run(target.as_deref(), Duration::from_secs(seconds))
        }
    }
}
