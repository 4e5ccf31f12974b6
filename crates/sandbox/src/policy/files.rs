//! The part of the policy for files: what of the host a payload sees, and where it may write. The
//! mounts and the Landlock rules are both derived from it, so that they cannot contradict each other.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::PolicyError;

/// What a payload sees of the host's file system, and where it may write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePolicy {
    /// Folders, files and links of the host that may be read and executed, where they exist.
    pub system: Vec<PathBuf>,
    /// Device nodes of the host.
    pub devices: Vec<PathBuf>,
    /// Where it starts; one of `writable`. Without namespaces it starts in `/`.
    pub working_folder: PathBuf,
    /// The home folder that its user has in `/etc/passwd`.
    pub home: PathBuf,
    /// The most files and folders that it may make: about 1 KiB of the kernel's memory each.
    pub most_files: u64,
    /// Where it may write; all share one bounded file system in memory. Without namespaces there is
    /// no such place.
    pub writable: Vec<WritableFolder>,
}

/// A folder that the payload may write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WritableFolder {
    /// Its path for the payload.
    pub path: PathBuf,
    /// Whether a request may show files of the host below it.
    pub may_hold_mounts: bool,
}

/// Places that every sandbox makes itself.
const OWN_PLACES: [&str; 3] = ["/dev", "/proc", "/etc/passwd"];

impl FilePolicy {
    pub(super) fn standard() -> Self {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        let writable = |path: &str, may_hold_mounts| WritableFolder {
            path: path.into(),
            may_hold_mounts,
        };
        Self {
            // The first ones are links into `/usr` on a modern host and folders on an older one. The
            // files are for the dynamic loader and for programs started through alternatives.
            system: paths(&[
                "/usr",
                "/bin",
                "/sbin",
                "/lib",
                "/lib32",
                "/lib64",
                "/libx32",
                "/etc/ld.so.cache",
                "/etc/alternatives",
            ]),
            devices: paths(&[
                "/dev/null",
                "/dev/zero",
                "/dev/full",
                "/dev/random",
                "/dev/urandom",
            ]),
            working_folder: "/scratch".into(),
            home: "/tmp".into(),
            most_files: 65_536,
            writable: vec![
                writable("/scratch", false),
                // An interpreter of the host may live here.
                writable("/tmp", true),
                writable("/dev/shm", false),
            ],
        }
    }

    /// The place of the sandbox itself that a file of the host cannot be shown in, if `target` is in one.
    pub(crate) fn closed_to_mounts(&self, target: &Path) -> Option<&Path> {
        let writable = self.writable.iter().filter(|one| !one.may_hold_mounts);
        self.place_of(target, writable)
    }

    /// The place of the sandbox itself that a file by value cannot stand in, because the payload could
    /// replace it, if `target` is in one.
    pub(crate) fn closed_to_embedded(&self, target: &Path) -> Option<&Path> {
        self.place_of(target, self.writable.iter())
    }

    fn place_of<'a>(
        &self,
        target: &Path,
        writable: impl Iterator<Item = &'a WritableFolder>,
    ) -> Option<&'a Path> {
        OWN_PLACES
            .iter()
            .map(Path::new)
            .chain(writable.map(|one| one.path.as_path()))
            .find(|place| target.starts_with(place))
    }

    pub(super) fn validate(&self) -> Result<(), PolicyError> {
        let refuse = |what: String| Err(PolicyError::Invalid(what));
        let writable = self.writable.iter().map(|one| &one.path);
        for path in self
            .system
            .iter()
            .chain(&self.devices)
            .chain(writable.clone())
        {
            if !is_plain(path) || path.to_str().is_none() {
                return refuse(format!(
                    "files name {}, which is not an absolute UTF-8 path without `..`",
                    path.display()
                ));
            }
        }
        if let Some(device) = self.devices.iter().find(|path| !path.starts_with("/dev")) {
            return refuse(format!(
                "files.devices has {}, which is not in /dev",
                device.display()
            ));
        }
        for path in [&self.working_folder, &self.home] {
            if !writable.clone().any(|one| one == path) {
                return refuse(format!(
                    "the folder {} is not one of files.writable",
                    path.display()
                ));
            }
        }
        Ok(())
    }
}

/// Whether a path is absolute, leads somewhere, and does not climb.
pub(crate) fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path.file_name().is_some()
        && path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::FilePolicy;
    use std::path::Path;

    #[test]
    fn the_standard_is_valid_and_climbing_paths_are_not() {
        assert!(FilePolicy::standard().validate().is_ok());
        for path in ["relative", "/usr/../etc", "/"] {
            let mut files = FilePolicy::standard();
            files.system.push(path.into());
            assert!(files.validate().is_err(), "{path}");
        }
        let mut files = FilePolicy::standard();
        files.devices.push("/etc/shadow".into());
        assert!(files.validate().is_err());
        files = FilePolicy::standard();
        files.working_folder = "/usr".into();
        assert!(files.validate().is_err());
    }

    #[test]
    fn places_of_the_sandbox_are_closed() {
        let files = FilePolicy::standard();
        let tmp = Path::new("/tmp/python");
        assert_eq!(files.closed_to_mounts(tmp), None);
        assert_eq!(files.closed_to_embedded(tmp), Some(Path::new("/tmp")));
        for path in ["/dev/null", "/proc", "/scratch/x", "/etc/passwd"] {
            assert!(files.closed_to_mounts(Path::new(path)).is_some(), "{path}");
        }
        assert_eq!(files.closed_to_mounts(Path::new("/opt")), None);
    }
}
