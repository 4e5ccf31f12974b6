//! One file per command.

mod bench;
mod calibrate;
mod corpus;
mod demo;
mod env;
mod evaluation;
mod sandbox;
mod scan;
mod verify;

use crate::cli::Command;
use crate::complaint::Complaint;
use crate::exit_code::Code;

/// Carries out a command.
pub(crate) fn run(command: Command) -> Result<Code, Complaint> {
    match command {
        Command::Verify(flags) => verify::run(&flags),
        Command::Bench(flags) => bench::run(&flags),
        Command::Scan(flags) => scan::run(&flags),
        Command::Calibrate(flags) => calibrate::run(&flags),
        Command::Corpus(command) => corpus::run(&command),
        Command::Demo(flags) => demo::run(&flags),
        Command::Sandbox(flags) => sandbox::run(&flags),
        Command::Env(flags) => env::run(&flags),
    }
}
