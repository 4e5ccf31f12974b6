//! Reading what the user names: submissions, hparams, policies.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crusades_core::Hparams;
use crusades_evaluate::{Seed, Submission, base_of};
use crusades_scan::Policy;

use crate::complaint::Complaint;
use crate::console::Console;

/// The rules that need no download.
const TINY: &str = include_str!("../../../hparams/tiny.json");

/// Largest hparams or policy file.
const MAX_TEXT_BYTES: u64 = 4 << 20;

/// A submission, as much of it as is needed.
#[derive(Debug)]
pub(crate) struct SubmissionFile {
    /// Its name, without folders.
    pub(crate) name: String,
    /// Its contents; of a file that is too long just enough to see that it is.
    pub(crate) source: Vec<u8>,
    /// Its length in bytes.
    pub(crate) length: u64,
}

impl SubmissionFile {
    /// The file as the evaluation takes it.
    pub(crate) fn submission(&self) -> Submission<'_> {
        Submission {
            file: &self.name,
            source: &self.source,
            length: self.length,
        }
    }

    /// Reads it; `-` is standard input.
    pub(crate) fn read(path: &Path, most_bytes: usize) -> Result<Self, Complaint> {
        let (file, length): (Box<dyn Read>, u64) = if path == Path::new("-") {
            (Box::new(io::stdin()), 0)
        } else {
            let (file, length) = open(path)?;
            (Box::new(file), length)
        };
        let mut source = Vec::new();
        file.take(most_bytes as u64 + 1)
            .read_to_end(&mut source)
            .map_err(|error| unreadable(path, &error))?;
        // Whoever wrote to the file meanwhile gets what was read.
        let length = length.max(source.len() as u64);
        let name = path.file_name().map_or_else(
            || path.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        );
        Ok(Self {
            name,
            source,
            length,
        })
    }
}

/// The rules and the folder that their relative paths start at.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) hparams: Hparams,
    pub(crate) base: PathBuf,
    pub(crate) policy: Policy,
}

impl Rules {
    /// Reads the rules from `path`, or takes the shipped ones; `runs` replaces the number of runs.
    pub(crate) fn read(
        path: &Path,
        runs: Option<u32>,
        console: &Console,
    ) -> Result<Self, Complaint> {
        let (text, base) = if path == Path::new("tiny") {
            (TINY.to_owned(), PathBuf::from("."))
        } else {
            (read_text(path)?, base_of(path))
        };
        let parsed = Hparams::parse(&text).map_err(|error| {
            Complaint::usage(format!("{} is not usable", path.display())).because(&error)
        })?;
        for key in &parsed.unknown_keys {
            console.say(&format!(
                "warning: {}: the key `{key}` is not known and means nothing",
                path.display()
            ));
        }
        let mut hparams = parsed.hparams;
        hparams.evaluation_runs = runs.unwrap_or(hparams.evaluation_runs);
        let policy = match &hparams.scan.policy {
            None => Policy::builtin(),
            Some(name) => read_policy(&base.join(name))?,
        };
        Ok(Self {
            hparams,
            base,
            policy,
        })
    }
}

/// The policy in a file.
pub(crate) fn read_policy(path: &Path) -> Result<Policy, Complaint> {
    Policy::from_toml(&read_text(path)?).map_err(|error| {
        Complaint::usage(format!("{} is not a usable policy", path.display())).because(&error)
    })
}

/// The seed that the user gave, or a random one.
pub(crate) fn seed(given: Option<&str>) -> Result<Seed, Complaint> {
    match given {
        Some(text) => Seed::from_hex(text).ok_or_else(|| {
            Complaint::usage("--seed is not 64 hexadecimal digits")
                .help("take the seed from a report: .plan.seed")
        }),
        None => Seed::random().map_err(|error| {
            Complaint::infrastructure("the system gave no random numbers").because(&error)
        }),
    }
}

/// The text of a file of settings.
pub(crate) fn read_text(path: &Path) -> Result<String, Complaint> {
    let (file, length) = open(path)?;
    let too_long = length > MAX_TEXT_BYTES;
    if too_long {
        return Err(Complaint::usage(format!(
            "{} has {length} bytes, and at most {MAX_TEXT_BYTES} are read",
            path.display()
        )));
    }
    let mut text = String::new();
    file.take(MAX_TEXT_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(path, &error))?;
    Ok(text)
}

/// Opens a regular file and says how long it is.
fn open(path: &Path) -> Result<(File, u64), Complaint> {
    // Asked before opening: to open a pipe is to wait for its writer.
    let metadata = path.metadata().map_err(|error| unreadable(path, &error))?;
    if metadata.is_dir() {
        return Err(Complaint::usage(format!(
            "{} is a folder, not a file",
            path.display()
        )));
    }
    if !metadata.is_file() {
        return Err(Complaint::usage(format!(
            "{} is not a regular file",
            path.display()
        )));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    Ok((file, metadata.len()))
}

fn unreadable(path: &Path, error: &io::Error) -> Complaint {
    match error.kind() {
        io::ErrorKind::NotFound => Complaint::usage(format!("there is no file {}", path.display())),
        io::ErrorKind::InvalidData => {
            Complaint::usage(format!("{} is not UTF-8 text", path.display()))
        }
        _ => Complaint::usage(format!("{} could not be read", path.display())).because(error),
    }
}
