//! Progress on standard error: bars on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use crusades_evaluate::Event;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::output;

/// Whoever watches.
#[derive(Debug)]
pub(crate) struct Console {
    bar: Option<ProgressBar>,
    terminal: bool,
    quiet: bool,
}

impl Console {
    /// A console; `quiet` prints nothing but errors.
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            bar: None,
            terminal: io::stderr().is_terminal(),
            quiet,
        }
    }

    /// A line that stays.
    pub(crate) fn say(&self, line: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            Some(bar) => bar.suspend(|| output::note(line)),
            None => output::note(line),
        }
    }

    /// A line for logs: where there is a bar, that shows as much.
    pub(crate) fn milestone(&self, line: &str) {
        if !self.terminal {
            self.say(line);
        }
    }

    /// A line with its first word in green, and the time that it took.
    pub(crate) fn done(&mut self, what: &str, seconds: f64) {
        self.clear();
        let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
        let green = Style::new().bold().fg_color(Some(AnsiColor::Green.into()));
        let dim = Style::new().dimmed();
        self.say(&format!(
            "{green}{verb}{green:#} {rest} {dim}in {}{dim:#}",
            duration(seconds)
        ));
    }

    /// What an evaluation tells of itself.
    pub(crate) fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Started(what) => self.spin(what),
            Event::Progress(share) => self.share(share),
            Event::Finished { what, seconds } => self.done(what, seconds),
        }
    }

    /// Shows that something goes on, until the next line.
    pub(crate) fn spin(&mut self, what: &str) {
        if self.quiet || !self.terminal {
            return;
        }
        self.clear();
        let bar = ProgressBar::new_spinner().with_message(format!("{what} ..."));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {prefix} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        self.bar = Some(bar);
    }

    /// Shows bytes of an expected number.
    pub(crate) fn bytes(&mut self, what: &str, bytes: u64, expected: u64) {
        if self.quiet || !self.terminal {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| ProgressBar::new(expected));
        if let Ok(style) = ProgressStyle::with_template(
            "{spinner} {msg} [{bar:30}] {bytes}/{total_bytes} {elapsed}",
        ) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_length(expected);
        bar.set_message(what.to_owned());
        bar.set_position(bytes.min(expected));
    }

    fn share(&mut self, share: f64) {
        if let Some(bar) = &self.bar {
            bar.set_prefix(format!("{:.0} %", 100.0 * share));
        }
    }

    /// Takes away what moves.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// A time for people: `0.4 ms`, `21.8 s`, `3 min 5 s`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 0.1 {
        format!("{:.1} ms", 1000.0 * seconds)
    } else if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else {
        format!(
            "{:.0} min {:.0} s",
            (seconds / 60.0).floor(),
            seconds % 60.0
        )
    }
}

/// A size for people, in powers of 1024.
pub(crate) fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn times_are_short() {
        assert_eq!(duration(0.000_42), "0.4 ms");
        assert_eq!(duration(21.84), "21.8 s");
        assert_eq!(duration(185.0), "3 min 5 s");
    }
}
