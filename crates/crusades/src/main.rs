//! The command line of crusades: commands, printing and exit codes. The work is done in the
//! libraries; nothing here decides about a submission.

mod cli;
mod commands;
mod complaint;
mod console;
mod exit_code;
mod inputs;
mod output;
mod python;
mod render;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Sandboxes are started by running this program again.
    crusades_sandbox::run_if_supervisor();
    let arguments = cli::Arguments::parse();
    match commands::run(arguments.command) {
        Ok(code) => code.into(),
        Err(complaint) => {
            complaint.print();
            complaint.code().into()
        }
    }
}
