//! The one declared policy: what a payload may do, see, store and use. The seccomp filters, the
//! Landlock rules, the mounts, the resource limits and the environment are all derived from this
//! value; no other place states any of them. It is a plain value and knows nothing of how a
//! backend enforces it.

mod call_table;
mod files;
mod names;
mod nvidia;
mod system_calls;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::request::Limits;

pub(crate) use files::is_plain;
pub use files::{FilePolicy, WritableFolder};
pub use names::{
    InternetProtocol, IoctlCommand, Namespace, NetlinkProtocol, SocketFamily, SystemCall,
};
pub use nvidia::{DeviceInventory, GpuPolicy};
pub use system_calls::{Answer, StricterCalls, SystemCallPolicy};

/// What a payload may do, see, store and use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What it may use if its request asks for nothing else.
    pub limits: Limits,
    /// What each of its processes may use, whatever the request asks for.
    pub resources: ResourcePolicy,
    /// Variables that it gets besides those of its request, whose values win. Nothing of the host's
    /// environment is ever added.
    pub environment: BTreeMap<String, String>,
    /// What it sees of the host's file system, and where it may write.
    pub files: FilePolicy,
    /// What system calls it may make.
    pub system_calls: SystemCallPolicy,
    /// What is refused besides where there are no namespaces (tier 3).
    pub system_calls_without_namespaces: StricterCalls,
    /// What is refused besides where no control group counts memory (tiers 2 and 3).
    pub system_calls_without_counted_memory: StricterCalls,
    /// What a payload needs besides to use GPUs; none where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuPolicy>,
}

/// Limits of one process that no request can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourcePolicy {
    /// Size of a core dump, in bytes.
    pub core_bytes: u64,
    /// Room for POSIX message queues, in bytes.
    pub message_queue_bytes: u64,
    /// The highest real-time priority.
    pub real_time_priority: u64,
    /// Memory that may be locked, in bytes; less where the host's own limit is lower.
    pub locked_memory_bytes: u64,
}

/// Whether something besides the system calls stands between a payload and these things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The payload has a process table, a network stack and a System V name space of its own.
    pub namespaces: bool,
    /// All memory is counted, mapped or not.
    pub counted_memory: bool,
}

/// Why a text is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is not TOML, or has a key or a name that does not exist, or lacks one.
    #[error("read the sandbox policy")]
    Parse(#[source] Box<toml::de::Error>),
    /// It contradicts itself.
    #[error("use the sandbox policy: {0}")]
    Invalid(String),
    /// It cannot be written as TOML.
    #[error("print the sandbox policy")]
    Print(#[source] toml::ser::Error),
}

/// How much memory a payload without a GPU may lock: the kernel's own default.
const LOCKED_MEMORY_BYTES: u64 = 8 << 20;

impl Policy {
    /// The policy for a stranger's code on a machine without a GPU.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            limits: Limits::default(),
            resources: ResourcePolicy {
                core_bytes: 0,
                message_queue_bytes: 0,
                real_time_priority: 0,
                locked_memory_bytes: LOCKED_MEMORY_BYTES,
            },
            environment: BTreeMap::new(),
            files: FilePolicy::standard(),
            system_calls: SystemCallPolicy::strongest(),
            system_calls_without_namespaces: StricterCalls::without_namespaces(),
            system_calls_without_counted_memory: StricterCalls::without_counted_memory(),
            gpu: None,
        }
    }

    /// The policy as TOML, which [`Self::from_toml`] reads again.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Print`] if a path is not UTF-8 or a number above 2^63 - 1.
    pub fn to_toml(&self) -> Result<String, PolicyError> {
        toml::to_string_pretty(self).map_err(PolicyError::Print)
    }

    /// Reads a policy. Keys and names that do not exist are refused, and so is a missing one: what a
    /// policy says must be read in it, not guessed. Names of system calls are those of this architecture.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Parse`] or [`PolicyError::Invalid`].
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let policy: Self =
            toml::from_str(text).map_err(|error| PolicyError::Parse(Box::new(error)))?;
        policy.validate()?;
        Ok(policy)
    }

    /// Refuses what can be seen to be wrong without asking the machine.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Invalid`] with the field, its value and what is allowed.
    pub fn validate(&self) -> Result<(), PolicyError> {
        self.effective_files().validate()?;
        for name in self.effective_environment().keys() {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(PolicyError::Invalid(format!(
                    "environment has a variable named {name:?}"
                )));
            }
        }
        Ok(())
    }

    /// What system calls a payload may not make in these surroundings.
    #[must_use]
    pub fn system_calls_in(&self, surroundings: Surroundings) -> SystemCallPolicy {
        let mut calls = self.system_calls.clone();
        if !surroundings.namespaces {
            calls = calls.and(&self.system_calls_without_namespaces);
        }
        if !surroundings.counted_memory {
            calls = calls.and(&self.system_calls_without_counted_memory);
        }
        calls
    }

    /// Whether it refuses all system calls that the standard policy refuses, in all surroundings.
    #[must_use]
    pub fn is_as_strict_as_standard(&self) -> bool {
        let standard = Self::standard();
        [true, false].into_iter().all(|namespaces| {
            [true, false].into_iter().all(|counted_memory| {
                let surroundings = Surroundings {
                    namespaces,
                    counted_memory,
                };
                self.system_calls_in(surroundings)
                    .is_as_strict_as(&standard.system_calls_in(surroundings))
            })
        })
    }

    /// The files with those that a GPU needs.
    pub(crate) fn effective_files(&self) -> FilePolicy {
        let mut files = self.files.clone();
        if let Some(gpu) = &self.gpu {
            files.devices.extend_from_slice(&gpu.devices);
            files.system.extend_from_slice(&gpu.driver_files);
        }
        files
    }

    /// The limits of each process with those that a GPU needs.
    pub(crate) fn effective_resources(&self) -> ResourcePolicy {
        let mut resources = self.resources;
        if let Some(gpu) = &self.gpu {
            resources.locked_memory_bytes =
                resources.locked_memory_bytes.max(gpu.locked_memory_bytes);
        }
        resources
    }

    /// What a request asks for, with what a GPU needs at least.
    pub(crate) fn effective_limits(&self, asked: &Limits) -> Limits {
        let mut limits = asked.clone();
        if let Some(gpu) = &self.gpu {
            limits.storage_bytes = limits.storage_bytes.max(gpu.least_storage_bytes);
        }
        limits
    }

    /// The variables with those that a GPU needs.
    pub(crate) fn effective_environment(&self) -> BTreeMap<String, String> {
        let mut environment = self.environment.clone();
        if let Some(gpu) = &self.gpu {
            for (name, value) in &gpu.environment {
                environment.insert(name.clone(), value.clone());
            }
        }
        environment
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::standard()
    }
}

#[cfg(test)]
mod tests {
    use super::{Policy, PolicyError, SystemCallPolicy};

    #[test]
    fn the_printed_policy_is_the_policy() {
        let policy = Policy::standard();
        let text = policy.to_toml().expect("print");
        assert_eq!(Policy::from_toml(&text).expect("read"), policy);
        for wanted in ["\"ptrace\"", "\"/dev/null\"", "memory_bytes = 4294967296"] {
            assert!(text.contains(wanted), "{wanted} is not in\n{text}");
        }
    }

    fn refusal(change: impl FnOnce(String) -> String) -> String {
        let text = change(Policy::standard().to_toml().expect("print"));
        match Policy::from_toml(&text).expect_err("it is read") {
            PolicyError::Parse(cause) => cause.to_string(),
            other => other.to_string(),
        }
    }

    #[test]
    fn unknown_keys_unknown_names_and_missing_keys_are_refused() {
        let text = refusal(|text| format!("surprise = 1\n{text}"));
        assert!(text.contains("surprise"), "{text}");
        let text = refusal(|text| text.replace("processes = ", "proceses = "));
        assert!(text.contains("proceses"), "{text}");
        let text = refusal(|text| text.replace("\"ptrace\"", "\"ptraze\""));
        assert!(text.contains("ptraze"), "{text}");
        let text = refusal(|text| text.replace("core_bytes = 0\n", ""));
        assert!(text.contains("core_bytes"), "{text}");
        let text = refusal(|text| text.replace("\"/dev/null\"", "\"dev/null\""));
        assert!(text.contains("dev/null"), "{text}");
    }

    #[test]
    fn only_what_refuses_as_much_is_as_strict() {
        let mut policy = Policy::standard();
        assert!(policy.is_as_strict_as_standard());
        policy.system_calls_without_namespaces.sockets = true;
        assert!(!policy.is_as_strict_as_standard());
        policy = Policy::standard();
        policy.system_calls = SystemCallPolicy::unrestricted();
        assert!(!policy.is_as_strict_as_standard());
    }
}
