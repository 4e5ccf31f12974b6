//! Starting the programs that do the work.

use std::ffi::OsString;
use std::io;
use std::process::{Command, ExitStatus, Stdio};

use crate::workspace;

/// Why a step did not succeed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// What to tell a person.
    pub(crate) message: String,
    /// What to exit with.
    pub(crate) exit_code: u8,
}

impl From<String> for Failed {
    fn from(message: String) -> Self {
        Self {
            message,
            exit_code: 1,
        }
    }
}

/// The cargo that started this program, with these arguments.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(arguments);
    command
}

/// Runs a command at the root of the workspace with its output passed through. It cannot ask
/// anything.
pub(crate) fn run(mut command: Command) -> Result<(), Failed> {
    let name = written(&command);
    let status = command
        .current_dir(workspace::root())
        .stdin(Stdio::null())
        .status();
    outcome(&name, status)
}

/// Runs a command at the root of the workspace and returns what it writes to its standard output.
pub(crate) fn output(mut command: Command) -> Result<Vec<u8>, Failed> {
    let name = written(&command);
    let output = command
        .current_dir(workspace::root())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    match output {
        Ok(output) => outcome(&name, Ok(output.status)).map(|()| output.stdout),
        Err(error) => outcome(&name, Err(error)).map(|()| Vec::new()),
    }
}

fn outcome(name: &str, status: io::Result<ExitStatus>) -> Result<(), Failed> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failed {
            message: format!("`{name}` failed ({status})"),
            // A command that a signal ended has no exit code.
            exit_code: status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1),
        }),
        Err(error) => Err(format!("cannot start `{name}`: {error}").into()),
    }
}

/// The command as a person would type it.
fn written(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let mut text = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{output, run};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_that_fails_is_named_and_keeps_its_exit_code() {
        let failed = run(shell("exit 7")).unwrap_err();
        assert_eq!(failed.exit_code, 7);
        assert!(failed.message.starts_with("`sh -c exit 7` failed"));
        let killed = run(shell("kill -9 $$")).unwrap_err();
        assert_eq!(killed.exit_code, 1);
        let missing = run(Command::new("crusades-no-such-program")).unwrap_err();
        assert!(missing.message.contains("crusades-no-such-program"));
        assert!(run(shell("exit 0")).is_ok());
    }

    #[test]
    fn a_command_reads_nothing_and_its_output_comes_back() {
        assert_eq!(output(shell("cat; echo done")).unwrap(), b"done\n");
        assert_eq!(output(shell("echo x; exit 3")).unwrap_err().exit_code, 3);
    }
}
