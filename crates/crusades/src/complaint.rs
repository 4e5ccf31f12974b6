//! The one place where errors are printed: what, why, and what to do.

use std::error::Error;

use anstyle::{AnsiColor, Style};

use crate::exit_code::Code;
use crate::output;

/// An error on its way to the terminal.
#[derive(Debug)]
pub(crate) struct Complaint {
    code: Code,
    what: String,
    causes: Vec<String>,
    help: Option<String>,
}

impl Complaint {
    /// A complaint about what the user gave.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Code::Usage, what)
    }

    /// A complaint about this machine.
    pub(crate) fn infrastructure(what: impl Into<String>) -> Self {
        Self::new(Code::InfrastructureFault, what)
    }

    pub(crate) fn new(code: Code, what: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            causes: Vec::new(),
            help: None,
        }
    }

    /// Adds an error and its sources as causes.
    pub(crate) fn because(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            self.causes.push(cause.to_string());
            next = cause.source();
        }
        self
    }

    /// Adds one cause.
    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds what to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// Prints it to standard error.
    pub(crate) fn print(&self) {
        let error = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        let note = Style::new().bold();
        output::note(&format!(
            "{error}error:{error:#} {}",
            output::printable(&self.what)
        ));
        for cause in &self.causes {
            // A cause may quote a submission, and may have several lines.
            for line in cause.lines() {
                output::note(&format!("{note}cause:{note:#} {}", output::printable(line)));
            }
        }
        if let Some(help) = &self.help {
            output::note(&format!("{note}help:{note:#} {help}"));
        }
    }
}
