//! What a payload needs besides to use NVIDIA GPUs, as a named addition to the policy. It opens device
//! nodes, and with them the GPU driver, to the payload; where there is no GPU it adds nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::is_plain;
use super::{FilePolicy, Policy};

/// The addition to a policy for a machine with GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuPolicy {
    /// The device nodes of the GPUs and their driver; `ioctl` is allowed on them.
    pub devices: Vec<PathBuf>,
    /// Files of the driver that lie outside the system's folders.
    pub driver_files: Vec<PathBuf>,
    /// Memory that may be locked, in bytes: the driver locks what the GPU reads.
    pub locked_memory_bytes: u64,
    /// The least storage, in bytes: processes that share GPUs exchange through `/dev/shm`.
    pub least_storage_bytes: u64,
    /// Where the dynamic loader finds `driver_files`.
    pub environment: BTreeMap<String, String>,
}

/// What a machine has of NVIDIA's: plain data, so that a policy can be made for any machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceInventory {
    /// Device nodes, such as `/dev/nvidia0` and `/dev/nvidiactl`.
    pub device_nodes: Vec<PathBuf>,
    /// Libraries and programs of the driver, wherever they lie.
    pub driver_files: Vec<PathBuf>,
}

/// More than any machine has: what is locked is memory too, and is bounded as such.
const LOCKED_MEMORY_BYTES: u64 = 1 << 40;

/// What NCCL takes for a node of eight GPUs, with room for the data loaders of a framework.
const LEAST_STORAGE_BYTES: u64 = 8 << 30;

/// Folders where an installed driver, or a container runtime, puts the driver's libraries.
const LIBRARY_FOLDERS: [&str; 7] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/local/nvidia/lib64",
    "/run/nvidia/driver/usr/lib/x86_64-linux-gnu",
    "/run/opengl-driver/lib",
    "/opt/nvidia/lib64",
];

/// How the names of the driver's libraries begin that computing needs.
const LIBRARY_NAMES: [&str; 4] = [
    "libcuda.so",
    "libnvidia-ml.so",
    "libnvidia-ptxjitcompiler.so",
    "libnvidia-nvvm",
];

impl DeviceInventory {
    /// What this machine has. A machine without a driver has nothing.
    #[must_use]
    pub fn detect() -> Self {
        Self::below(Path::new("/"))
    }

    /// The same for a machine whose root is at `root`; the paths are those that it has there.
    fn below(root: &Path) -> Self {
        let inside = |path: &Path| -> Option<PathBuf> {
            let path = Path::new("/").join(path.strip_prefix(root).ok()?);
            (is_plain(&path) && path.to_str().is_some()).then_some(path)
        };
        let entries = |folder: &Path| -> Vec<PathBuf> {
            let mut found: Vec<_> = fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .collect();
            found.sort();
            found
        };
        let name_starts_with = |path: &Path, start: &str| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(start))
        };
        let devices = root.join("dev");
        let device_nodes = entries(&devices)
            .into_iter()
            .chain(entries(&devices.join("nvidia-caps")))
            .filter(|path| name_starts_with(path, "nvidia"))
            .filter(|path| {
                path.metadata()
                    .is_ok_and(|metadata| metadata.file_type().is_char_device())
            })
            .filter_map(|path| inside(&path))
            .collect();
        let driver_files = LIBRARY_FOLDERS
            .iter()
            .flat_map(|folder| entries(&root.join(folder.trim_start_matches('/'))))
            .filter(|path| {
                LIBRARY_NAMES
                    .iter()
                    .any(|name| name_starts_with(path, name))
            })
            .filter_map(|path| inside(&path))
            .collect();
        Self {
            device_nodes,
            driver_files,
        }
    }
}

impl Policy {
    /// The policy with what these GPUs need. Unchanged if there is no device node.
    #[must_use]
    pub fn with_nvidia(mut self, inventory: &DeviceInventory) -> Self {
        if inventory.device_nodes.is_empty() {
            return self;
        }
        let driver_files = outside_of(&self.files, &inventory.driver_files);
        let mut folders: Vec<&str> = driver_files
            .iter()
            .filter_map(|path| path.parent()?.to_str())
            .collect();
        folders.dedup();
        let mut environment = BTreeMap::new();
        if !folders.is_empty() {
            environment.insert("LD_LIBRARY_PATH".to_owned(), folders.join(":"));
        }
        self.gpu = Some(GpuPolicy {
            devices: inventory.device_nodes.clone(),
            driver_files,
            locked_memory_bytes: LOCKED_MEMORY_BYTES,
            least_storage_bytes: LEAST_STORAGE_BYTES,
            environment,
        });
        self
    }
}

/// Those of `paths` that the payload does not see anyway.
fn outside_of(files: &FilePolicy, paths: &[PathBuf]) -> Vec<PathBuf> {
    let seen = |path: &PathBuf| files.system.iter().any(|folder| path.starts_with(folder));
    paths.iter().filter(|path| !seen(path)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::{DeviceInventory, Policy};
    use crate::request::Limits;

    /// A machine with two GPUs and a driver in a place of its own, as data.
    fn two_gpus() -> DeviceInventory {
        let paths = |paths: &[&str]| paths.iter().map(Into::into).collect();
        DeviceInventory {
            device_nodes: paths(&[
                "/dev/nvidia-uvm",
                "/dev/nvidia0",
                "/dev/nvidia1",
                "/dev/nvidiactl",
                "/dev/nvidia-caps/nvidia-cap1",
            ]),
            driver_files: paths(&[
                "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
                "/run/nvidia/driver/libcuda.so.1",
                "/run/nvidia/driver/libnvidia-ml.so.1",
            ]),
        }
    }

    #[test]
    fn without_a_gpu_nothing_is_added() {
        let libraries_only = DeviceInventory {
            device_nodes: Vec::new(),
            ..two_gpus()
        };
        for inventory in [DeviceInventory::default(), libraries_only] {
            let policy = Policy::standard().with_nvidia(&inventory);
            assert_eq!(policy, Policy::standard());
            assert!(!policy.to_toml().expect("print").contains("gpu"));
        }
    }

    #[test]
    fn with_gpus_exactly_what_they_need_is_added() {
        let standard = Policy::standard();
        let policy = standard.clone().with_nvidia(&two_gpus());
        policy.validate().expect("valid");
        let (files, before) = (policy.effective_files(), standard.effective_files());
        assert_eq!(
            files.devices[before.devices.len()..],
            two_gpus().device_nodes
        );
        assert_eq!(
            files.system[before.system.len()..],
            two_gpus().driver_files[1..]
        );
        assert_eq!(
            (&files.writable, files.most_files),
            (&before.writable, before.most_files)
        );
        let environment = policy.effective_environment();
        assert_eq!(environment.len(), 1);
        assert_eq!(environment["LD_LIBRARY_PATH"], "/run/nvidia/driver");
        assert_eq!(policy.effective_resources().locked_memory_bytes, 1 << 40);
        assert_eq!(standard.effective_resources().locked_memory_bytes, 8 << 20);
        // More storage than was asked for, but never less, and nothing else.
        let limits = policy.effective_limits(&Limits::default());
        assert_eq!(limits.storage_bytes, 8 << 30);
        assert_eq!(limits.memory_bytes, Limits::default().memory_bytes);
        // No system call is opened.
        assert!(policy.is_as_strict_as_standard());
        assert_eq!(policy.system_calls, standard.system_calls);
        let text = policy.to_toml().expect("print");
        assert_eq!(Policy::from_toml(&text).expect("read"), policy);
    }

    #[test]
    fn libraries_are_found_and_plain_files_are_no_devices() {
        let machine = tempfile::tempdir().expect("make a folder");
        for path in [
            "dev/nvidia0",
            "usr/lib64/libcuda.so.1",
            "usr/lib64/libc.so.6",
        ] {
            let path = machine.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("make a folder");
            std::fs::write(path, "").expect("write");
        }
        let found = DeviceInventory::below(machine.path());
        assert_eq!(found.device_nodes, [""; 0].map(std::path::PathBuf::from));
        assert_eq!(
            found.driver_files,
            [std::path::PathBuf::from("/usr/lib64/libcuda.so.1")]
        );
    }
}
