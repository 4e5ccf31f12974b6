//! The flags of every command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::TypedValueParser as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use crusades_core::hparams::Profile;

use crate::exit_code;

/// Runs a competition in which the fastest honest PyTorch training code wins.
#[derive(Debug, Parser)]
#[command(name = "crusades", version, about, after_help = exit_code::HELP)]
#[command(propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Judge a train.py as a validator does: scan, run, verify, score
    #[command(after_help = exit_code::HELP)]
    Verify(Verify),
    /// Measure the speed of a train.py against the baseline, without verifying it
    #[command(after_help = exit_code::HELP)]
    Bench(Bench),
    /// Look for what a validator refuses without running anything
    #[command(after_help = exit_code::HELP)]
    Scan(Scan),
    /// Judge six example submissions, three of them honest, and show the leaderboard
    #[command(after_help = exit_code::HELP)]
    Demo(Demo),
    /// Find the limits of the verification for a benchmark, by what honest training and cheats come to
    #[command(after_help = exit_code::HELP)]
    Calibrate(Calibrate),
    /// Try the judge: submissions whose verdicts are known
    #[command(subcommand, after_help = exit_code::HELP)]
    Corpus(Corpus),
    /// Try the sandbox: run a program in it, or attack it
    #[command(subcommand, after_help = exit_code::HELP)]
    Sandbox(Sandbox),
    /// Set up or examine the Python environment of the worker
    #[command(subcommand, after_help = exit_code::HELP)]
    Env(Env),
}

/// Flags of all commands that run something.
#[derive(Debug, Args)]
pub(crate) struct Evaluation {
    /// Rules of the competition: a file, or `tiny` for the small profile that ships with the program
    #[arg(long, value_name = "FILE", default_value = "tiny")]
    pub(crate) hparams: PathBuf,
    /// An existing Python with torch, transformers and safetensors, in place of the environment that
    /// this program makes
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,
    /// CPU threads of the worker [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) threads: Option<u32>,
    /// Repeat a round: its seed as 64 hexadecimal digits [default: drawn at random]
    #[arg(long, value_name = "HEX")]
    pub(crate) seed: Option<String>,
    /// Run even where submissions cannot be isolated well
    #[arg(long)]
    pub(crate) allow_weak_sandbox: bool,
    /// Isolate as a weaker machine would (2 or 3), to try it out
    #[arg(long, value_name = "TIER", hide = true, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub(crate) force_sandbox_tier: Option<u8>,
    /// Print results only
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Flags of `verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The submission
    #[arg(value_name = "train.py")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) evaluation: Evaluation,
    /// Run the file as it is, without the scan: for tests of the verification alone; a validator
    /// never does
    #[arg(long)]
    pub(crate) no_scan: bool,
    /// Number of timed runs [default: evaluation_runs of the hparams]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: Option<u32>,
    /// Print one JSON document (schema/report.json) on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Write report, log, hparams and the code that ran to this folder, which must be new or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// Flags of `bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The submission
    #[arg(value_name = "train.py")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) evaluation: Evaluation,
    /// Pairs of runs: baseline, submission, baseline, submission, ...
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) pairs: u32,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `scan`.
#[derive(Debug, Args)]
pub(crate) struct Scan {
    /// The submissions; `-` for standard input
    #[arg(value_name = "train.py", required_unless_present = "explain")]
    pub(crate) files: Vec<PathBuf>,
    /// Explain a rule, such as CRU201, instead of scanning
    #[arg(long, value_name = "RULE", conflicts_with = "files")]
    pub(crate) explain: Option<String>,
    /// Number of GPUs of an evaluation; more than one needs get_strategy()
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) num_gpus: u32,
    /// A policy file in place of the built-in policy
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Form of the findings
    #[arg(long, value_name = "FORM", value_enum, default_value_t = FindingsForm::Text)]
    pub(crate) format: FindingsForm,
    /// Short for --format json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FindingsForm {
    /// For people, with source lines
    Text,
    /// One JSON document
    Json,
    /// SARIF 2.1.0, for code scanners
    Sarif,
    /// Annotations of a GitHub workflow
    Github,
}

/// Flags of `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    #[command(flatten)]
    pub(crate) evaluation: Evaluation,
    /// Number of timed runs of each submission [default: evaluation_runs of the hparams]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: Option<u32>,
    /// SQLite database that keeps the results [default: demo.db in the user's data folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) db: Option<PathBuf>,
}

/// Flags of `calibrate`.
#[derive(Debug, Args)]
pub(crate) struct Calibrate {
    #[command(flatten)]
    pub(crate) evaluation: Evaluation,
    /// Say which limits of this profile honest runs would break [default: the hparams' own limits]
    #[arg(long, value_name = "PROFILE", value_enum)]
    pub(crate) profile: Option<ProfileName>,
    /// Number of runs of each variant; they differ in their batches
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: u32,
    /// File to write, which hparams can name as verification.calibration
    #[arg(long, value_name = "FILE", default_value = "calibration.json")]
    pub(crate) out: PathBuf,
    /// Drawing of what was measured [default: beside the file, with the suffix .svg]
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Folder with more honest submissions (*.py) that differ from the baseline in their numerics
    #[arg(long, value_name = "DIR")]
    pub(crate) variants: Option<PathBuf>,
    /// Besides the baseline only variants whose name holds this text; may be given more than once
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Vec<String>,
    /// Variants that are measured at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64).map(usize::from))]
    pub(crate) jobs: usize,
    /// Write over files that exist
    #[arg(long)]
    pub(crate) force: bool,
    /// Take limits that do not find every cheat
    #[arg(long)]
    pub(crate) allow_unseparated: bool,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// A profile of the hparams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProfileName {
    /// Loss, share of changed elements, error of the weights
    Crusades,
    /// Logits and loss within 1e-3
    Tournament,
}

impl From<ProfileName> for Profile {
    fn from(name: ProfileName) -> Self {
        match name {
            ProfileName::Crusades => Self::Crusades,
            ProfileName::Tournament => Self::Tournament,
        }
    }
}

/// Commands on a corpus of submissions.
#[derive(Debug, Subcommand)]
pub(crate) enum Corpus {
    /// Judge every submission of a folder, scan and verification apart, and compare with what is
    /// expected of it
    Run(CorpusRun),
}

/// Flags of `corpus run`.
#[derive(Debug, Args)]
pub(crate) struct CorpusRun {
    #[command(flatten)]
    pub(crate) evaluation: Evaluation,
    /// Folder with submissions and expectations.toml
    #[arg(long, value_name = "DIR", default_value = "corpus")]
    pub(crate) dir: PathBuf,
    /// Only this family; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub(crate) family: Vec<String>,
    /// Only submissions whose path holds this text; may be given more than once
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Vec<String>,
    /// Submissions that are judged at the same time; with more than one, times mean nothing
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64).map(usize::from))]
    pub(crate) jobs: usize,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// Commands on the sandbox.
#[derive(Debug, Subcommand)]
pub(crate) enum Sandbox {
    /// Run a program in a sandbox and print what it printed
    Run(SandboxRun),
    /// Make every attack of the escape suite on this machine's sandbox
    Selftest(SandboxSelftest),
}

/// Whose sandbox it is.
#[derive(Debug, Args)]
pub(crate) struct SandboxBackend {
    /// Who isolates the program
    #[arg(long, value_name = "BACKEND", value_enum, default_value_t = BackendName::Native)]
    pub(crate) backend: BackendName,
    /// The image of the container: `name@sha256:...`, an id `sha256:...` or a tag, which the engine has
    #[arg(long, value_name = "IMAGE", required_if_eq("backend", "docker"))]
    pub(crate) image: Option<String>,
    /// The socket of the engine [default: DOCKER_HOST, or else unix:///var/run/docker.sock]
    #[arg(long, value_name = "unix:///PATH", requires = "image")]
    pub(crate) docker_host: Option<String>,
}

/// Who isolates a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendName {
    /// This program itself
    Native,
    /// A Docker engine on this machine
    Docker,
}

/// Flags of `sandbox run`.
#[derive(Debug, Args)]
pub(crate) struct SandboxRun {
    #[command(flatten)]
    pub(crate) backend: SandboxBackend,
    /// A policy file in place of the standard policy (see `crusades env policy`)
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Run even where the program cannot be isolated well
    #[arg(long)]
    pub(crate) allow_weak_sandbox: bool,
    /// Seconds after which the program is killed
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
    /// The program, found in /usr/bin and /bin unless it is a path, and its arguments; in a container it
    /// must be a path
    #[arg(value_name = "COMMAND", required = true, last = true)]
    pub(crate) command: Vec<OsString>,
}

/// Flags of `sandbox selftest`.
#[derive(Debug, Args)]
pub(crate) struct SandboxSelftest {
    #[command(flatten)]
    pub(crate) backend: SandboxBackend,
    /// The tier to attack, 1 to 3 [default: the strongest that this machine has]
    #[arg(long, value_name = "TIER", value_parser = clap::value_parser!(u8).range(1..=3))]
    pub(crate) tier: Option<u8>,
    /// Only attacks whose name holds this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// Commands on the environment.
#[derive(Debug, Subcommand)]
pub(crate) enum Env {
    /// Download and install what the worker needs; repeats nothing that is there
    Setup(EnvSetup),
    /// Say what is there: versions, GPU, sandbox, disk
    Check(EnvCheck),
    /// Print the sandbox's policy as TOML: what every wall is made from
    Policy,
}

/// Flags of `env setup`.
#[derive(Debug, Args)]
pub(crate) struct EnvSetup {
    /// The interpreter to build the environment with [default: the newest supported one on PATH]
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,
    /// Print results only
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Also print what the installer prints
    #[arg(long, short, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
}

/// Flags of `env check`.
#[derive(Debug, Args)]
pub(crate) struct EnvCheck {
    /// An existing interpreter to examine in place of the environment
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub(crate) json: bool,
}
