//! Programs that have to be there before a long task begins, and how to get them.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;

/// A program that a task needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    /// Programs of which one has to be there.
    programs: &'static [&'static str],
    /// What it is needed for.
    purpose: &'static str,
    /// Packages of Debian and Ubuntu that bring the first program.
    packages: &'static str,
}

/// The C compiler that SQLite and others are built with.
pub(crate) const C_COMPILER: Tool = Tool {
    programs: &["cc"],
    purpose: "compiles the libraries that are written in C",
    packages: "gcc libc6-dev",
};

/// The C++ compiler that libFuzzer is built with.
pub(crate) const CXX_COMPILER: Tool = Tool {
    programs: &["c++"],
    purpose: "compiles libFuzzer",
    packages: "g++",
};

/// What lists the files that tidy looks at.
pub(crate) const GIT: Tool = Tool {
    programs: &["git"],
    purpose: "lists the files of the project",
    packages: "git",
};

/// What the worker's environment is made with. Which versions serve is for `crusades env` to say.
pub(crate) const PYTHON: Tool = Tool {
    programs: &["python3", "uv"],
    purpose: "makes the Python environment of the worker",
    packages: "python3 python3-venv",
};

/// Says for each of these tools that is not found on the `PATH` what it is for and how to install
/// it.
pub(crate) fn missing(tools: &[Tool]) -> Result<(), String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let problems: Vec<String> = tools
        .iter()
        .filter(|tool| !tool.programs.iter().any(|program| is_on(&path, program)))
        .map(explain)
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n"))
    }
}

/// Whether a program is found on the `PATH`.
pub(crate) fn is_installed(program: &str) -> bool {
    is_on(&env::var_os("PATH").unwrap_or_default(), program)
}

fn is_on(path: &OsStr, program: &str) -> bool {
    env::split_paths(path).any(|folder| {
        let metadata = folder.join(program).metadata();
        metadata.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    })
}

fn explain(tool: &Tool) -> String {
    let Tool {
        programs,
        purpose,
        packages,
    } = tool;
    let programs = programs.join("` or `");
    format!(
        "`{programs}`, which {purpose}, is not on the PATH\n  \
         on Debian or Ubuntu: sudo apt-get install {packages}"
    )
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::{C_COMPILER, PYTHON, Tool, explain, is_on, missing};

    #[test]
    fn a_program_is_found_where_it_can_be_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().as_os_str();
        let program = folder.path().join("tool");
        assert!(!is_on(path, "tool"));
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, Permissions::from_mode(0o644)).unwrap();
        assert!(!is_on(path, "tool"));
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        assert!(is_on(path, "tool"));
    }

    #[test]
    fn a_missing_program_is_explained_and_one_of_several_is_enough() {
        const ABSENT: Tool = Tool {
            programs: &["crusades-no-such-program"],
            purpose: "does nothing",
            packages: "nothing",
        };
        const ONE_OF_TWO: Tool = Tool {
            programs: &["crusades-no-such-program", "sh"],
            purpose: "does something",
            packages: "dash",
        };
        assert_eq!(missing(&[ONE_OF_TWO]), Ok(()));
        assert_eq!(missing(&[ABSENT, ONE_OF_TWO]), Err(explain(&ABSENT)));
        assert_eq!(
            explain(&PYTHON),
            "`python3` or `uv`, which makes the Python environment of the worker, is not on the PATH\n  \
             on Debian or Ubuntu: sudo apt-get install python3 python3-venv"
        );
        assert!(explain(&C_COMPILER).contains("apt-get install gcc"));
    }
}
