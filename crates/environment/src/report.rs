//! What is in an environment, as told by its interpreter.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::python::PythonVersion;

/// What an interpreter said of itself and of the packages that the worker needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentReport {
    /// Version of Python.
    pub python_version: PythonVersion,
    /// The interpreter to run, as it calls itself (`sys.executable`).
    pub executable: PathBuf,
    /// The same with all links resolved.
    pub real_executable: PathBuf,
    /// `sys.prefix`: the virtual environment, or the installation where there is none.
    pub prefix: PathBuf,
    /// `sys.base_prefix`: the installation below it.
    pub base_prefix: PathBuf,
    /// Version of torch, with its build ("2.14.1+cu130").
    pub torch: String,
    /// Version of transformers.
    pub transformers: String,
    /// Version of safetensors.
    pub safetensors: String,
    /// Version of numpy.
    pub numpy: String,
    /// What torch sees of NVIDIA devices.
    pub cuda: CudaReport,
    /// CPUs that the interpreter may run on.
    pub cpu_count: u32,
    /// Threads that torch uses for one operation if not told otherwise.
    pub torch_threads: u32,
    /// Every existing folder that the interpreter or its module search names: prefixes, standard
    /// library, packages.
    pub folders: Vec<PathBuf>,
    /// The existing folders in which modules are searched (`sys.path`), in order.
    pub search_path: Vec<PathBuf>,
    /// Shared libraries that were in memory once all was imported and CUDA was asked for.
    pub libraries: Vec<PathBuf>,
}

/// What torch sees of NVIDIA devices.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CudaReport {
    /// The CUDA version that torch was built for; none if it was built without.
    pub built_for: Option<String>,
    /// Whether torch can use a device now.
    pub available: bool,
    /// The devices, in torch's order.
    pub devices: Vec<CudaDevice>,
    /// Version of the NVIDIA driver, if one is loaded.
    pub driver: Option<String>,
    /// Why asking failed, if it did.
    pub fault: Option<String>,
}

/// One NVIDIA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CudaDevice {
    /// Its name as the driver tells it.
    pub name: String,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Its compute capability, major and minor.
    pub capability: [u32; 2],
}
