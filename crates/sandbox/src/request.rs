//! What a caller asks for: the program, what it may see, what it may use. Plain values, the same for
//! every backend; nothing here touches the machine.

use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::error::StartError;
use crate::policy::{Policy, is_plain};
use crate::tier::Tier;

/// A file or folder of the host that the payload may read and execute, never write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is on the host; symbolic links are followed once, when the sandbox starts.
    pub source: PathBuf,
    /// Where the payload finds it; absolute, without `..`. Missing parents are made.
    pub target: PathBuf,
}

impl Mount {
    /// The same path inside as outside.
    #[must_use]
    pub fn in_place(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            source: path.clone(),
            target: path,
        }
    }
}

/// A read-only file in the sandbox whose contents are given by value, so that no file of the host
/// needs to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedFile {
    /// Where the payload finds it; absolute, without `..`.
    pub target: PathBuf,
    /// The bytes of the file.
    pub contents: Vec<u8>,
}

/// What the payload and all it starts may use together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory in bytes, swap included. Shared memory made and filled by the host is not counted
    /// where control groups are used.
    pub memory_bytes: u64,
    /// Processes and threads together. In tier 3 without a user of its own, all processes of the
    /// caller's user count.
    pub processes: u32,
    /// Open files of one process.
    pub open_files: u32,
    /// All that may be stored in `/scratch`, `/tmp` and `/dev/shm` together, in bytes. Counts
    /// against `memory_bytes` too, where control groups are used. In a container each of these folders
    /// has this bound, and all of them together that of the memory.
    pub storage_bytes: u64,
    /// Bytes that the payload may print before it is killed.
    pub log_bytes: u64,
}

impl Default for Limits {
    /// 4 GiB of memory, 512 processes, 4096 open files, 1 GiB of storage, 64 MiB of log.
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            processes: 512,
            open_files: 4096,
            storage_bytes: 1 << 30,
            log_bytes: 64 << 20,
        }
    }
}

/// One payload to run in a sandbox of its own.
#[derive(Debug)]
pub struct SandboxRequest {
    /// Who isolates it.
    pub backend: Backend,
    /// The program, as an absolute path inside the sandbox.
    pub program: PathBuf,
    /// Its arguments, without the name of the program.
    pub arguments: Vec<OsString>,
    /// Its environment: nothing is added but what the policy names, and nothing of the host's.
    pub environment: Vec<(OsString, OsString)>,
    /// What it may read, besides the system's programs and libraries (`/usr` and its kin), which are
    /// those of the image in a container.
    pub mounts: Vec<Mount>,
    /// Files given by value. In tier 3 they have no path: an argument or a value of the
    /// environment that equals a target is replaced by the path of a sealed descriptor.
    pub embedded: Vec<EmbeddedFile>,
    /// Descriptors for the payload, each at the number that it will have there (3 or more).
    pub inherit: Vec<(OwnedFd, RawFd)>,
    /// What it may use; at first what the policy gives.
    pub limits: Limits,
    /// All else that it may and may not do.
    pub policy: Policy,
    /// The weakest tier that is acceptable.
    pub minimum_tier: Tier,
    /// Exactly this tier, for tests of the weaker ones on a strong machine.
    pub force_tier: Option<Tier>,
    /// The executable whose `main` calls [`crate::run_if_supervisor`]; the running one if `None`.
    pub launcher: Option<PathBuf>,
    /// How long the start may take before it is given up.
    pub start_timeout: Duration,
}

impl SandboxRequest {
    /// A request to run `program` under the standard policy, with no mounts and an empty environment,
    /// refusing tier 3.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self::under(Policy::standard(), program)
    }

    /// The same under another policy.
    #[must_use]
    pub fn under(policy: Policy, program: impl Into<PathBuf>) -> Self {
        Self {
            backend: Backend::Native,
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            mounts: Vec::new(),
            embedded: Vec::new(),
            inherit: Vec::new(),
            limits: policy.limits.clone(),
            policy,
            minimum_tier: Tier::Two,
            force_tier: None,
            launcher: None,
            start_timeout: Duration::from_secs(30),
        }
    }

    /// Refuses what can be seen to be wrong without asking the machine.
    pub(crate) fn validate(&self) -> Result<(), StartError> {
        let refuse = |what: String| Err(StartError::InvalidRequest(what));
        self.policy
            .validate()
            .map_err(|error| StartError::InvalidRequest(error.to_string()))?;
        require_plain_path("program", &self.program)?;
        for mount in &self.mounts {
            require_plain_path("mount target", &mount.target)?;
            if !mount.source.is_absolute() {
                return refuse(format!(
                    "mount source {} is not absolute",
                    mount.source.display()
                ));
            }
        }
        for file in &self.embedded {
            require_plain_path("embedded file", &file.target)?;
        }
        let files = &self.policy.files;
        let mounted = self
            .mounts
            .iter()
            .map(|mount| (&mount.target, files.closed_to_mounts(&mount.target)));
        let embedded = self
            .embedded
            .iter()
            .map(|file| (&file.target, files.closed_to_embedded(&file.target)));
        for (target, place) in mounted.chain(embedded) {
            if let Some(place) = place {
                return refuse(format!(
                    "target {} lies in {}, which belongs to the sandbox",
                    target.display(),
                    place.display()
                ));
            }
        }
        let mut numbers: Vec<RawFd> = self.inherit.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        if let Some(pair) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
            return refuse(format!("descriptor {} is given twice", pair[0]));
        }
        // Each one is copied once more on its way.
        let highest = i64::from(self.limits.open_files)
            - RESERVED_DESCRIPTORS
            - i64::try_from(numbers.len()).unwrap_or(i64::MAX);
        if let Some(number) = numbers
            .iter()
            .find(|number| **number < 3 || i64::from(**number) >= highest)
        {
            return refuse(format!(
                "descriptor number {number} is not between 3 and {}",
                highest - 1
            ));
        }
        if self.inherit.len() > crate::descriptors::MOST_DESCRIPTORS - 1 {
            return refuse(format!("{} descriptors are too many", self.inherit.len()));
        }
        for (name, value) in [
            ("memory_bytes", self.limits.memory_bytes),
            ("processes", u64::from(self.limits.processes)),
            ("storage_bytes", self.limits.storage_bytes),
        ] {
            if value == 0 {
                return refuse(format!("limit {name} is zero"));
            }
        }
        Ok(())
    }
}

/// Descriptors that the start itself needs below the limit of open files.
const RESERVED_DESCRIPTORS: i64 = 16;

fn require_plain_path(what: &str, path: &Path) -> Result<(), StartError> {
    if is_plain(path) {
        return Ok(());
    }
    Err(StartError::InvalidRequest(format!(
        "{what} {} is not an absolute path without `..`",
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::{EmbeddedFile, Mount, SandboxRequest};

    fn refusal(change: impl FnOnce(&mut SandboxRequest)) -> Option<String> {
        let mut request = SandboxRequest::new("/usr/bin/true");
        change(&mut request);
        request.validate().err().map(|error| error.to_string())
    }

    #[test]
    fn a_plain_request_is_valid() {
        assert_eq!(refusal(|_| ()), None);
        assert_eq!(
            refusal(|request| request.mounts.push(Mount::in_place("/opt"))),
            None
        );
    }

    #[test]
    fn paths_that_could_climb_out_are_refused() {
        for path in ["relative", "/opt/../etc", "/"] {
            assert!(
                refusal(|request| request.program = path.into()).is_some(),
                "{path}"
            );
            assert!(
                refusal(|request| request.mounts.push(Mount {
                    source: "/opt".into(),
                    target: path.into()
                }))
                .is_some(),
                "{path}"
            );
        }
    }

    #[test]
    fn places_of_the_sandbox_itself_cannot_be_replaced() {
        let found = refusal(|request| {
            request.embedded.push(EmbeddedFile {
                target: "/dev/null".into(),
                contents: Vec::new(),
            });
        });
        assert!(found.is_some_and(|text| text.contains("/dev")));
    }

    #[test]
    fn descriptors_must_have_free_numbers_of_their_own() {
        let null = || {
            std::fs::File::open("/dev/null")
                .expect("open /dev/null")
                .into()
        };
        assert_eq!(refusal(|request| request.inherit.push((null(), 3))), None);
        assert!(refusal(|request| request.inherit.push((null(), 2))).is_some());
        assert!(refusal(|request| request.inherit.push((null(), 4090))).is_some());
        assert!(
            refusal(|request| {
                request.inherit.push((null(), 3));
                request.inherit.push((null(), 3));
            })
            .is_some()
        );
    }

    #[test]
    fn a_limit_of_zero_is_refused() {
        assert!(refusal(|request| request.limits.memory_bytes = 0).is_some());
        assert!(refusal(|request| request.limits.processes = 0).is_some());
    }
}
