//! What belongs to the workspace: its crates, as cargo sees them, and its files, as git does.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::command::{self, Failed};

/// The root of the checkout that this program was built from.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// The part of `cargo metadata` that is used here.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    /// The crates of the workspace.
    pub(crate) packages: Vec<Package>,
    /// Where cargo builds.
    pub(crate) target_directory: PathBuf,
}

/// A crate of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its `Cargo.toml`.
    manifest_path: PathBuf,
    /// All it depends on, for its tests and its build too.
    pub(crate) dependencies: Vec<Dependency>,
    /// What is built from it.
    pub(crate) targets: Vec<Target>,
}

impl Package {
    /// The folder of the crate, relative to the root.
    pub(crate) fn folder(&self) -> PathBuf {
        let folder = self.manifest_path.parent().unwrap_or(Path::new(""));
        relative(folder)
    }
}

/// One dependency of a crate.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    /// The name of the crate that is depended on.
    pub(crate) name: String,
}

/// One library, program, test or example.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    /// Such as `lib`, `bin` and `test`.
    kind: Vec<String>,
    /// The file that it begins with.
    src_path: PathBuf,
}

impl Target {
    /// The first file, relative to the root, of a library or program.
    pub(crate) fn crate_root(&self) -> Option<PathBuf> {
        let shipped = self.kind.iter().any(|kind| kind == "lib" || kind == "bin");
        shipped.then(|| relative(&self.src_path))
    }
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix(root()).unwrap_or(path).to_owned()
}

/// Asks cargo about the workspace.
pub(crate) fn metadata() -> Result<Metadata, Failed> {
    let arguments = ["metadata", "--no-deps", "--format-version", "1"];
    let json = command::output(command::cargo(&arguments))?;
    serde_json::from_slice(&json)
        .map_err(|error| format!("cannot read the answer of `cargo metadata`: {error}").into())
}

/// A text file of the project.
#[derive(Debug)]
pub(crate) struct TextFile {
    /// Relative to the root.
    pub(crate) path: PathBuf,
    /// All of it.
    pub(crate) content: String,
}

impl TextFile {
    /// True for a file whose name ends with one of these.
    pub(crate) fn has_extension(&self, extensions: &[&str]) -> bool {
        let extension = self.path.extension().and_then(|it| it.to_str());
        extension.is_some_and(|extension| extensions.contains(&extension))
    }
}

/// Every text file that git tracks, or would track after `git add`.
pub(crate) fn text_files() -> Result<Vec<TextFile>, Failed> {
    let mut git = Command::new("git");
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let list = command::output(git)?;
    let mut files = Vec::new();
    for path in String::from_utf8_lossy(&list).split_terminator('\0') {
        let path = Path::new(path);
        let full = root().join(path);
        // A tracked file may have been deleted; a link is checked where it leads to.
        if !full.symlink_metadata().is_ok_and(|it| it.is_file()) {
            continue;
        }
        let bytes = std::fs::read(&full)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        if let Ok(content) = String::from_utf8(bytes)
            && !content.contains('\0')
        {
            let path = path.to_owned();
            files.push(TextFile { path, content });
        }
    }
    Ok(files)
}
