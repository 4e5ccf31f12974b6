//! The declared policy as a request to a container engine. Whatever the engine would do by default and the
//! policy does not name is switched off here by name; whatever the image asks for is overridden.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, DeviceRequest, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, Mount as EngineMount, MountBindOptions, MountBindOptionsPropagationEnum,
    MountType, ResourcesUlimits,
};

use crate::docker::seccomp_profile;
use crate::error::Fault;
use crate::native::resource_limits;
use crate::policy::{Policy, Surroundings};
use crate::request::{Limits, Mount};

/// What a container is made of.
#[derive(Debug)]
pub(crate) struct ContainerPlan<'a> {
    pub(crate) image_id: &'a str,
    pub(crate) image_variables: &'a [String],
    pub(crate) policy: &'a Policy,
    pub(crate) limits: &'a Limits,
    /// Everything of the host that is shown.
    pub(crate) mounts: &'a [Mount],
    /// The first process and its arguments.
    pub(crate) command: Vec<String>,
    /// The user and group in the container.
    pub(crate) user: u32,
    pub(crate) labels: HashMap<String, String>,
}

/// Places of the kernel that no payload has a use for: those that engines hide by default in any
/// version, and the description of the machine's devices.
const HIDDEN: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys",
];

/// Where an engine puts a memory file system of its own unless it is told otherwise.
const SHARED_MEMORY: &str = "/dev/shm";

/// The request for a container.
pub(crate) fn create_body(plan: &ContainerPlan<'_>) -> Result<ContainerCreateBody, Fault> {
    let files = plan.policy.effective_files();
    let user = format!("{0}:{0}", plan.user);
    Ok(ContainerCreateBody {
        image: Some(plan.image_id.into()),
        user: Some(user),
        hostname: Some("sandbox".into()),
        entrypoint: Some(plan.command.clone()),
        cmd: Some(Vec::new()),
        // A name without a value is taken out: what the image sets could change the first process.
        env: Some(plan.image_variables.to_vec()),
        working_dir: Some("/".into()),
        labels: Some(plan.labels.clone()),
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..HealthConfig::default()
        }),
        attach_stdin: Some(false),
        attach_stdout: Some(false),
        attach_stderr: Some(false),
        open_stdin: Some(false),
        tty: Some(false),
        network_disabled: Some(true),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            // Without the engine's own folder for shared memory where the policy has none.
            ipc_mode: Some(
                if files
                    .writable
                    .iter()
                    .any(|one| one.path == Path::new(SHARED_MEMORY))
                {
                    "private"
                } else {
                    "none"
                }
                .into(),
            ),
            cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
            readonly_rootfs: Some(true),
            privileged: Some(false),
            cap_drop: Some(vec!["ALL".into()]),
            security_opt: Some(vec![
                "no-new-privileges".into(),
                format!("seccomp={}", profile(plan.policy)?),
            ]),
            masked_paths: Some(HIDDEN.map(Into::into).to_vec()),
            // The payload is the first to go when the whole machine runs out of memory.
            oom_score_adj: Some(1000),
            oom_kill_disable: Some(false),
            // Memory and swap together: no swap beyond the memory.
            memory: Some(signed(plan.limits.memory_bytes)),
            memory_swap: Some(signed(plan.limits.memory_bytes)),
            // The first process is one too.
            pids_limit: Some(i64::from(plan.limits.processes) + 1),
            ulimits: Some(
                resource_limits(plan.limits, &plan.policy.effective_resources())
                    .iter()
                    .map(|limit| ResourcesUlimits {
                        name: Some(limit.name.into()),
                        soft: Some(signed(limit.value)),
                        hard: Some(signed(limit.value)),
                    })
                    .collect(),
            ),
            tmpfs: Some(
                files
                    .writable
                    .iter()
                    .map(|folder| {
                        Ok((
                            text(&folder.path)?,
                            // Executable: compiled kernels are loaded from there, as natively. The
                            // owner is named because a folder that the image has at this place
                            // lends its mode to the new one.
                            format!(
                                "rw,exec,nosuid,nodev,mode=1777,uid={0},gid={0},size={1},nr_inodes={2}",
                                plan.user, plan.limits.storage_bytes, files.most_files
                            ),
                        ))
                    })
                    .collect::<Result<_, Fault>>()?,
            ),
            mounts: Some(plan.mounts.iter().map(bind).collect::<Result<_, _>>()?),
            device_requests: Some(gpus(plan.policy)),
            log_config: Some(HostConfigLogConfig {
                typ: Some("none".into()),
                config: None,
            }),
            init: Some(false),
            auto_remove: Some(true),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    })
}

fn profile(policy: &Policy) -> Result<String, Fault> {
    let calls = policy.system_calls_in(Surroundings {
        namespaces: true,
        counted_memory: true,
    });
    seccomp_profile::profile(&calls)
        .map_err(|error| Fault::plain("write the seccomp profile", error.to_string()))
}

/// A read-only view. What is mounted below the source is not shown: engines before version 25 would
/// leave it writable.
fn bind(mount: &Mount) -> Result<EngineMount, Fault> {
    Ok(EngineMount {
        typ: Some(MountType::BIND),
        source: Some(text(&mount.source)?),
        target: Some(text(&mount.target)?),
        read_only: Some(true),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            non_recursive: Some(true),
            ..MountBindOptions::default()
        }),
        ..EngineMount::default()
    })
}

/// All GPUs where the policy has them, and none at all otherwise.
fn gpus(policy: &Policy) -> Vec<DeviceRequest> {
    let all = policy.gpu.as_ref().map(|_| DeviceRequest {
        driver: Some("nvidia".into()),
        count: Some(-1),
        capabilities: Some(vec![["gpu", "compute", "utility"].map(Into::into).to_vec()]),
        ..DeviceRequest::default()
    });
    all.into_iter().collect()
}

fn text(path: &Path) -> Result<String, Fault> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Fault::plain(
            format!("show {}", path.display()),
            "an engine takes only paths that are UTF-8",
        )
    })
}

/// No limit of this size is ever reached.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{ContainerPlan, create_body};
    use crate::policy::{DeviceInventory, Policy};
    use crate::request::Mount;
    use std::collections::HashMap;

    fn body(policy: &Policy) -> bollard::models::ContainerCreateBody {
        let limits = policy.effective_limits(&policy.limits);
        create_body(&ContainerPlan {
            image_id: "sha256:0",
            image_variables: &["LD_PRELOAD".to_owned()],
            policy,
            limits: &limits,
            mounts: &[Mount::in_place("/opt")],
            command: vec!["/program".into()],
            user: 1234,
            labels: HashMap::new(),
        })
        .expect("a request")
    }

    #[test]
    fn gpus_are_asked_for_only_where_the_policy_has_them() {
        let asked = |policy: &Policy| {
            let host = body(policy).host_config.expect("options");
            host.device_requests.expect("a list")
        };
        assert!(asked(&Policy::standard()).is_empty());
        let inventory = DeviceInventory {
            device_nodes: vec!["/dev/nvidia0".into()],
            driver_files: Vec::new(),
        };
        let with_gpu = Policy::standard().with_nvidia(&inventory);
        let found = asked(&with_gpu);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].count, Some(-1));
        // And what they need: locked memory and storage.
        let host = body(&with_gpu).host_config.expect("options");
        let limits = host.ulimits.expect("a list");
        let locked = limits
            .iter()
            .find(|one| one.name.as_deref() == Some("memlock"));
        assert_eq!(locked.and_then(|one| one.hard), Some(1 << 40));
        let storage = &host.tmpfs.expect("a list")["/dev/shm"];
        assert!(
            storage.contains(&format!("size={}", 8u64 << 30)),
            "{storage}"
        );
    }

    #[test]
    fn without_a_folder_for_shared_memory_the_engine_makes_none() {
        let mode = |policy: &Policy| body(policy).host_config.and_then(|host| host.ipc_mode);
        let mut policy = Policy::standard();
        assert_eq!(mode(&policy).as_deref(), Some("private"));
        policy
            .files
            .writable
            .retain(|one| !one.path.ends_with("shm"));
        assert_eq!(mode(&policy).as_deref(), Some("none"));
    }

    #[test]
    fn every_view_is_read_only_and_what_the_image_sets_is_taken_out() {
        let body = body(&Policy::standard());
        assert_eq!(body.env, Some(vec!["LD_PRELOAD".to_owned()]));
        let mounts = body
            .host_config
            .and_then(|host| host.mounts)
            .expect("a list");
        assert!(mounts.iter().all(|mount| mount.read_only == Some(true)));
    }
}
