//! `cargo xtask fuzz`: libFuzzer on every target below `crates/*/fuzz`, built with the stable
//! toolchain.
//!
//! Coverage comes from LLVM's own pass, which needs no nightly compiler; there is no sanitizer, so
//! that what is found are panics, time and memory. Nothing is written outside of cargo's target
//! folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use crate::command::{self, Failed};
use crate::{step, tools, workspace};

/// How long all targets run together as a part of `cargo xtask test`.
const SHORT: Duration = Duration::from_secs(60);

/// Instruments every edge and comparison in the way that libFuzzer understands.
const INSTRUMENTATION: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Cdebuginfo=0",
];

/// Edges that any target covers with its first inputs, if there is any feedback.
const LEAST_COVERAGE: u64 = 100;

/// Lines of the log that are shown when a target fails.
const SHOWN_LINES: usize = 40;

/// A fuzz target of a crate.
#[derive(Debug)]
struct Target {
    name: String,
    /// The folder of the crate.
    owner: PathBuf,
}

impl Target {
    /// The workspace that builds the target.
    fn workspace(&self) -> PathBuf {
        self.owner.join("fuzz")
    }

    /// What the corpus begins with, where the crate has such files.
    fn seeds(&self) -> Option<PathBuf> {
        let fixtures = self.owner.join("fixtures");
        fixtures.is_dir().then_some(fixtures)
    }
}

/// Runs one target, or all of them one after another, each for this long.
pub(crate) fn run(target: Option<&str>, time: Duration) -> ExitCode {
    if let Err(missing) = tools::missing(&[tools::CXX_COMPILER]) {
        eprintln!("{missing}");
        return ExitCode::FAILURE;
    }
    match step::run("fuzz", || fuzz(&wanted(target)?, time)).result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => ExitCode::from(failed.exit_code),
    }
}

/// All targets for a short time.
pub(crate) fn short() -> Result<(), Failed> {
    let targets = wanted(None)?;
    let count = u32::try_from(targets.len()).unwrap_or(u32::MAX);
    fuzz(&targets, SHORT / count.max(1))
}

/// The target of a name, or all of them.
fn wanted(name: Option<&str>) -> Result<Vec<Target>, Failed> {
    let mut targets = all_targets(&workspace::root().join("crates"))
        .map_err(|error| format!("cannot list the fuzz targets: {error}"))?;
    let names: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
    targets.retain(|target| name.is_none_or(|wanted| wanted == target.name));
    if targets.is_empty() {
        return Err(format!("there is no such target; there are: {}", names.join(", ")).into());
    }
    Ok(targets)
}

/// Every `CRATE/fuzz/fuzz_targets/NAME.rs`, by crate and name.
fn all_targets(crates: &Path) -> io::Result<Vec<Target>> {
    let mut targets = Vec::new();
    for owner in sorted(crates)? {
        let sources = owner.join("fuzz/fuzz_targets");
        if !sources.is_dir() {
            continue;
        }
        for source in sorted(&sources)? {
            if let (Some("rs"), Some(name)) = (
                source.extension().and_then(OsStr::to_str),
                source.file_stem().and_then(OsStr::to_str),
            ) {
                targets.push(Target {
                    name: name.to_owned(),
                    owner: owner.clone(),
                });
            }
        }
    }
    Ok(targets)
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn fuzz(targets: &[Target], time: Duration) -> Result<(), Failed> {
    let folder = workspace::metadata()?.target_directory.join("fuzz");
    let host = host()?;
    for target in targets {
        build(target, &folder, &host)?;
    }
    for target in targets {
        let name = &target.name;
        let campaign = Campaign {
            target: name,
            program: folder.join(&host).join("release").join(name),
            seeds: target.seeds(),
            corpus: folder.join("corpus").join(name),
            artifacts: folder.join("artifacts").join(name),
            log: folder.join(format!("{name}.log")),
        };
        println!("{}", campaign.run(time)?);
    }
    Ok(())
}

/// The platform that is built for. Naming it keeps the instrumentation out of build scripts.
fn host() -> Result<String, Failed> {
    let mut rustc = Command::new("rustc");
    rustc.arg("-vV");
    let version = command::output(rustc)?;
    String::from_utf8_lossy(&version)
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| "`rustc -vV` names no host".to_owned().into())
}

fn build(target: &Target, folder: &Path, host: &str) -> Result<(), Failed> {
    let mut build = command::cargo(&["build", "--release", "--locked", "--target", host]);
    build
        .arg("--manifest-path")
        .arg(target.workspace().join("Cargo.toml"))
        .args(["--bin", &target.name])
        .env("CARGO_TARGET_DIR", folder)
        .env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTATION.join("\u{1f}"));
    command::run(build)
}

/// One target with the places it works in.
struct Campaign<'a> {
    target: &'a str,
    program: PathBuf,
    seeds: Option<PathBuf>,
    corpus: PathBuf,
    artifacts: PathBuf,
    log: PathBuf,
}

impl Campaign<'_> {
    /// Runs the target and says in a line what it did.
    fn run(&self, time: Duration) -> Result<String, Failed> {
        for folder in [&self.corpus, &self.artifacts] {
            fs::create_dir_all(folder)
                .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        }
        let target = self.target;
        let fault = |what: &str, error: io::Error| {
            Failed::from(format!("fuzz target {target}: {what}: {error}"))
        };
        let mut log = File::create(&self.log).map_err(|error| fault("no log", error))?;
        let mut child = Command::new(&self.program)
            .arg(&self.corpus)
            .args(&self.seeds)
            .arg(format!("-max_total_time={}", time.as_secs()))
            .arg(format!("-artifact_prefix={}/", self.artifacts.display()))
            .args(["-timeout=10", "-max_len=16384", "-print_final_stats=1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| fault("it does not start", error))?;
        let mut seen = Seen::default();
        let mut last_lines = Vec::new();
        if let Some(output) = child.stderr.take() {
            for line in BufReader::new(output).split(b'\n') {
                let line = line.map_err(|error| fault("its output cannot be read", error))?;
                let line = String::from_utf8_lossy(&line).into_owned();
                writeln!(log, "{line}").map_err(|error| fault("no log", error))?;
                seen.read(&line);
                last_lines.push(line);
                if last_lines.len() > 2 * SHOWN_LINES {
                    last_lines.drain(..SHOWN_LINES);
                }
            }
        }
        let status = child.wait().map_err(|error| fault("it is lost", error))?;
        if !status.success() {
            let shown = last_lines.len().saturating_sub(SHOWN_LINES);
            let input = seen.artifact.as_deref().unwrap_or("none was written");
            return Err(Failed::from(format!(
                "fuzz target {target} failed ({status})\ninput: {input}\n{}",
                last_lines[shown..].join("\n")
            )));
        }
        seen.summary(target).map_err(Failed::from)
    }
}

/// What libFuzzer has said so far.
#[derive(Debug, Default)]
struct Seen {
    first_coverage: Option<u64>,
    last_coverage: Option<u64>,
    runs: Option<u64>,
    artifact: Option<String>,
}

impl Seen {
    fn read(&mut self, line: &str) {
        if let Some(coverage) = number_after(line, "cov: ") {
            self.first_coverage.get_or_insert(coverage);
            self.last_coverage = Some(coverage);
        }
        if let Some(runs) = number_after(line, "stat::number_of_executed_units: ") {
            self.runs = Some(runs);
        }
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.artifact = Some(path.trim().to_owned());
        }
    }

    /// Without coverage a fuzzer only throws dice, so that its absence is a failure. It need not
    /// grow: a corpus of earlier runs may have reached all of it.
    fn summary(&self, target: &str) -> Result<String, String> {
        match (self.first_coverage, self.last_coverage, self.runs) {
            (Some(first), Some(last), Some(runs)) if last >= LEAST_COVERAGE => Ok(format!(
                "fuzz target {target}: {runs} inputs, coverage {first} to {last}, nothing found"
            )),
            (first, last, runs) => Err(format!(
                "fuzz target {target} ran without feedback: coverage {first:?} to {last:?}, \
                 inputs {runs:?}"
            )),
        }
    }
}

fn number_after(line: &str, label: &str) -> Option<u64> {
    let (_, rest) = line.split_once(label)?;
    let rest = rest.trim_start();
    let end = rest.find(|digit: char| !digit.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Seen, all_targets};
    use crate::workspace;

    #[test]
    fn the_targets_of_the_scanner_are_found_and_have_seeds() {
        let targets = all_targets(&workspace::root().join("crates")).unwrap();
        for name in ["main_guard", "scan"] {
            let target = targets.iter().find(|target| target.name == name).unwrap();
            assert!(target.owner.ends_with("crates/scan"));
            assert!(target.seeds().is_some());
        }
        assert!(
            all_targets(&workspace::root().join("docs"))
                .unwrap()
                .is_empty()
        );
    }

    fn seen(log: &str) -> Seen {
        let mut seen = Seen::default();
        log.lines().for_each(|line| seen.read(line));
        seen
    }

    #[test]
    fn a_log_with_coverage_is_summed_up() {
        let seen = seen(
            "#2\tINITED cov: 3100 ft: 3110 corp: 1/1b exec/s: 0 rss: 43Mb\n\
             #900\tNEW    cov: 5120 ft: 700 corp: 9/99b lim: 4 exec/s: 0 rss: 44Mb\n\
             stat::number_of_executed_units: 1024\n",
        );
        assert_eq!(
            seen.summary("scan").unwrap(),
            "fuzz target scan: 1024 inputs, coverage 3100 to 5120, nothing found"
        );
    }

    #[test]
    fn a_run_without_feedback_is_no_success() {
        assert!(seen("INFO: no counters\n").summary("scan").is_err());
        let stuck = seen("#2 INITED cov: 9 ft: 9\nstat::number_of_executed_units: 7\n");
        assert!(stuck.summary("scan").is_err());
    }

    #[test]
    fn the_input_that_failed_is_named() {
        let seen = seen("artifact_prefix='/x/'; Test unit written to /x/crash-1234\n");
        assert_eq!(seen.artifact.as_deref(), Some("/x/crash-1234"));
    }
}
