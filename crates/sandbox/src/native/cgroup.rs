//! Control groups of a sandbox: found, made, limited, frozen, read and removed. Version 2 is used for
//! what it can do here, version 1 for the rest. The directories made here are the only thing that a
//! native sandbox ever leaves on a file system of the host, and only until its end. Those that a
//! container engine has made are used and never removed; other programs' groups are never touched.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, Mode, OFlags};
use rustix::process::Pid;

use crate::error::{During, Fault};
use crate::request::Limits;

/// Every directory of this program begins so; the number of the host process follows.
const PREFIX: &str = "crusades-";

/// The version 1 controllers that a sandbox has a use for.
const LEGACY_CONTROLLERS: [&str; 4] = ["memory", "pids", "freezer", "cpuacct"];

/// How long the kernel may need until a group without processes can be removed.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(2);

/// The pause between two looks at a state that the kernel is about to reach.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// One mounted hierarchy and the group of this process in it.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    /// The version 1 controllers bound to it; `None` for version 2.
    controllers: Option<Vec<String>>,
    mount_point: PathBuf,
    /// The group of this process, as a directory below the mount point.
    own: PathBuf,
}

fn hierarchies(mountinfo: &str, membership: &str) -> Vec<Hierarchy> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut fields = before.split(' ').skip(3);
            let (root, mount_point) = (fields.next()?, fields.next()?);
            let mut fields = after.split(' ');
            let (kind, super_options) = (fields.next()?, fields.nth(1)?);
            let controllers = match kind {
                "cgroup2" => None,
                "cgroup" => Some(
                    super_options
                        .split(',')
                        .filter(|option| LEGACY_CONTROLLERS.contains(option))
                        .map(str::to_owned)
                        .collect::<Vec<_>>(),
                ),
                _ => return None,
            };
            let path = membership.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let (names, path) = (fields.next()?, fields.next()?);
                let same = match &controllers {
                    None => names.is_empty(),
                    Some(wanted) => names
                        .split(',')
                        .any(|name| wanted.iter().any(|w| w == name)),
                };
                same.then_some(path)
            })?;
            let mount_point = PathBuf::from(unescape(mount_point));
            let below = Path::new(path)
                .strip_prefix(unescape(root))
                .unwrap_or(Path::new(""));
            Some(Hierarchy {
                own: mount_point.join(below),
                controllers,
                mount_point,
            })
        })
        .collect()
}

/// Undoes the octal escapes of `/proc/self/mountinfo`.
fn unescape(field: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(field.to_owned(), |text, (code, plain)| {
        text.replace(code, plain)
    })
}

/// The version 2 directory of a sandbox.
#[derive(Debug)]
struct Unified {
    path: PathBuf,
    /// Memory and pids can be limited here.
    limits: bool,
    freezes: bool,
}

/// A version 1 directory of a sandbox, with the controllers that it has.
#[derive(Debug)]
struct Legacy {
    path: PathBuf,
    controllers: Vec<String>,
}

/// The control groups of one sandbox; none at all where none are writable.
#[derive(Debug, Default)]
pub(crate) struct Group {
    unified: Option<Unified>,
    legacy: Vec<Legacy>,
    /// Made here, and to be removed here.
    own: bool,
}

impl Group {
    /// The groups that an engine has made for a container, whose first process is `leader`: those that
    /// are named after it and can be seen from here. An engine's parent group is never taken for one.
    pub(crate) fn of_container(leader: Pid, container_id: &str) -> Result<Self, Fault> {
        let membership = format!("/proc/{leader}/cgroup");
        let membership = fs::read_to_string(&membership).during(|| format!("read {membership}"))?;
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").during(|| "read /proc/self/mountinfo")?;
        let mut group = Self::default();
        for hierarchy in hierarchies(&mounts, &membership) {
            let path = hierarchy.own;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.contains(container_id) || !path.is_dir() {
                continue;
            }
            match hierarchy.controllers {
                None => {
                    group.unified = Some(Unified {
                        limits: path.join("memory.max").exists(),
                        freezes: is_writable(&path.join("cgroup.freeze")),
                        path,
                    });
                }
                Some(mut controllers) => {
                    if !is_writable(&path.join("freezer.state")) {
                        controllers.retain(|name| name != "freezer");
                    }
                    group.legacy.push(Legacy { path, controllers });
                }
            }
        }
        Ok(group)
    }

    /// Refuses groups of an engine that do not limit as they were asked to.
    pub(crate) fn require_limits(&self, limits: &Limits) -> Result<(), Fault> {
        let processes = u64::from(limits.processes) + 1;
        let mut asked = Vec::new();
        if let Some(path) = self.unified(|unified| unified.limits) {
            asked.push((path.join("memory.max"), limits.memory_bytes));
            asked.push((path.join("memory.swap.max"), 0));
            asked.push((path.join("pids.max"), processes));
        }
        if let Some(path) = self.legacy("memory") {
            asked.push((path.join("memory.limit_in_bytes"), limits.memory_bytes));
            asked.push((
                path.join("memory.memsw.limit_in_bytes"),
                limits.memory_bytes,
            ));
        }
        if let Some(path) = self.legacy("pids") {
            asked.push((path.join("pids.max"), processes));
        }
        for (path, most) in asked {
            // A kernel that cannot account swap has no file for it.
            if path.exists() && number(&path).is_none_or(|limit| limit > most) {
                return Err(Fault::plain(
                    format!("find the limit {most} in {}", path.display()),
                    "the engine has not set it",
                ));
            }
        }
        Ok(())
    }

    /// Makes whatever groups can be made here, below this process's own groups where those are
    /// writable. Never fails; if they cannot limit, the second value tells why.
    pub(crate) fn create(name: &str) -> (Self, String) {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let found = hierarchies(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let mut closed = Vec::new();
        let mut group = Self::default();
        group.own = true;
        if let Some(hierarchy) = found.iter().find(|one| one.controllers.is_none()) {
            match Unified::create(hierarchy, name) {
                Ok(unified) => group.unified = Some(unified),
                Err(error) => closed.push((&hierarchy.mount_point, error)),
            }
        }
        for hierarchy in &found {
            let Some(bound) = &hierarchy.controllers else {
                continue;
            };
            let wanted: Vec<String> = bound
                .iter()
                .filter(|name| !group.has(name))
                .cloned()
                .collect();
            if wanted.is_empty() {
                continue;
            }
            match make_directory(hierarchy, name) {
                Ok(path) => group.legacy.push(Legacy {
                    path,
                    controllers: wanted,
                }),
                Err(error) => closed.push((&hierarchy.mount_point, error)),
            }
        }
        let reason = why_no_limits(&found, &closed);
        (group, reason)
    }

    fn has(&self, controller: &str) -> bool {
        let unified = self
            .unified
            .as_ref()
            .is_some_and(|unified| match controller {
                "freezer" => unified.freezes,
                "cpuacct" => true,
                _ => unified.limits,
            });
        unified || self.legacy(controller).is_some()
    }

    fn legacy(&self, controller: &str) -> Option<&Path> {
        self.legacy
            .iter()
            .find(|one| one.controllers.iter().any(|name| name == controller))
            .map(|one| one.path.as_path())
    }

    fn unified(&self, wanted: impl Fn(&Unified) -> bool) -> Option<&Path> {
        self.unified
            .as_ref()
            .filter(|unified| wanted(unified))
            .map(|unified| unified.path.as_path())
    }

    /// Whether memory and the number of processes are limited by these groups.
    pub(crate) fn limits(&self) -> bool {
        self.has("memory") && self.has("pids")
    }

    /// How these groups freeze: `cgroup v2`, `cgroup v1`, or not at all.
    pub(crate) fn freezer(&self) -> Option<&'static str> {
        if self.unified(|unified| unified.freezes).is_some() {
            return Some("cgroup v2");
        }
        self.legacy("freezer").map(|_| "cgroup v1")
    }

    /// Whether the kernel kills the whole sandbox when one of its processes runs out of memory.
    pub(crate) fn kills_together(&self) -> bool {
        self.own && self.unified(|unified| unified.limits).is_some()
    }

    /// Sets the limits of memory, with swap, and of processes.
    pub(crate) fn set_limits(&self, limits: &Limits) -> Result<(), Fault> {
        // The init of the sandbox is a process too.
        let processes = (u64::from(limits.processes) + 1).to_string();
        let memory = limits.memory_bytes.to_string();
        if let Some(path) = self.unified(|unified| unified.limits) {
            set(path, "memory.max", &memory)?;
            set_if_present(path, "memory.swap.max", "0")?;
            set_if_present(path, "memory.oom.group", "1")?;
            set(path, "pids.max", &processes)?;
        }
        if let Some(path) = self.legacy("memory") {
            set(path, "memory.limit_in_bytes", &memory)?;
            set_if_present(path, "memory.memsw.limit_in_bytes", &memory)?;
        }
        if let Some(path) = self.legacy("pids") {
            set(path, "pids.max", &processes)?;
        }
        Ok(())
    }

    /// The version 2 directory, for a process to be born in.
    pub(crate) fn birth_place(&self) -> Result<Option<OwnedFd>, Fault> {
        self.unified
            .as_ref()
            .map(|unified| {
                rustix::fs::open(
                    &unified.path,
                    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                )
                .during(|| format!("open {}", unified.path.display()))
            })
            .transpose()
    }

    /// The version 1 files in which a thread enters by writing `0`. A thread that moves itself needs
    /// no global lock, where moving another process waits for a grace period of the kernel.
    pub(crate) fn entrances(&self) -> Result<Vec<OwnedFd>, Fault> {
        self.legacy
            .iter()
            .map(|one| {
                let path = one.path.join("tasks");
                rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                    .during(|| format!("open {}", path.display()))
            })
            .collect()
    }

    /// Freezes every process of the sandbox. `Ok(false)` if it did not happen by the deadline.
    pub(crate) fn freeze(&self, deadline: Instant) -> io::Result<bool> {
        if let Some(path) = self.unified(|unified| unified.freezes) {
            fs::write(path.join("cgroup.freeze"), "1")?;
            return reached(deadline, || {
                Ok(counter(&path.join("cgroup.events"), "frozen")? == 1)
            });
        }
        let path = self.legacy("freezer").ok_or(ErrorKind::Unsupported)?;
        let state = path.join("freezer.state");
        reached(deadline, || {
            // Written again at each look: a process that was forked meanwhile delays the first.
            fs::write(&state, "FROZEN")?;
            Ok(fs::read_to_string(&state)?.trim() == "FROZEN")
        })
    }

    /// Lets every process of the sandbox run again. `Ok(false)` if it did not happen by the deadline.
    pub(crate) fn thaw(&self, deadline: Instant) -> io::Result<bool> {
        if let Some(path) = self.unified(|unified| unified.freezes) {
            fs::write(path.join("cgroup.freeze"), "0")?;
            return reached(deadline, || {
                Ok(counter(&path.join("cgroup.events"), "frozen")? == 0)
            });
        }
        let path = self.legacy("freezer").ok_or(ErrorKind::Unsupported)?;
        let state = path.join("freezer.state");
        fs::write(&state, "THAWED")?;
        reached(deadline, || {
            Ok(fs::read_to_string(&state)?.trim() == "THAWED")
        })
    }

    /// How many processes were killed because the memory was used up.
    pub(crate) fn out_of_memory_kills(&self) -> u64 {
        let unified = self
            .unified(|unified| unified.limits)
            .and_then(|path| counter(&path.join("memory.events"), "oom_kill").ok());
        let legacy = self
            .legacy("memory")
            .and_then(|path| counter(&path.join("memory.oom_control"), "oom_kill").ok());
        unified.or(legacy).unwrap_or(0)
    }

    /// Processor time of all that ever ran in the groups.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let unified = self.unified(|_| true).and_then(|path| {
            let used = counter(&path.join("cpu.stat"), "usage_usec").ok()?;
            Some(Duration::from_micros(used))
        });
        let legacy =
            || number(&self.legacy("cpuacct")?.join("cpuacct.usage")).map(Duration::from_nanos);
        unified.or_else(legacy)
    }

    /// The most memory that was used at one time, in bytes.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let unified = self
            .unified(|unified| unified.limits)
            .and_then(|path| number(&path.join("memory.peak")));
        let legacy = || number(&self.legacy("memory")?.join("memory.max_usage_in_bytes"));
        unified.or_else(legacy)
    }

    /// Processes and threads in the groups, without the sandbox's init.
    pub(crate) fn processes(&self) -> Option<u32> {
        let directory = self
            .unified(|unified| unified.limits)
            .or_else(|| self.legacy("pids"))?;
        let all = number(&directory.join("pids.current"))?;
        u32::try_from(all.saturating_sub(1)).ok()
    }

    /// The directories, for whoever must remove them if this process cannot.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        let unified = self.unified.iter().map(|one| one.path.clone());
        unified
            .chain(self.legacy.iter().map(|one| one.path.clone()))
            .collect()
    }
}

fn why_no_limits(found: &[Hierarchy], closed: &[(&PathBuf, io::Error)]) -> String {
    if found.is_empty() {
        return "no cgroup file system is mounted".into();
    }
    let Some((_, error)) = closed.first() else {
        return "no writable cgroup has the memory and pids controllers".into();
    };
    let paths: Vec<_> = closed
        .iter()
        .map(|(path, _)| path.display().to_string())
        .collect();
    format!("no cgroup can be made below {}: {error}", paths.join(", "))
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.own {
            return;
        }
        // What cannot be removed now is removed by the host, or by a later start.
        let _left = remove(&self.directories());
    }
}

impl Unified {
    fn create(hierarchy: &Hierarchy, name: &str) -> io::Result<Self> {
        let mut candidates: Vec<(&Path, bool)> = hierarchy
            .own
            .ancestors()
            .take_while(|path| path.starts_with(&hierarchy.mount_point))
            .map(|path| (path, delegates_limits(path)))
            .collect();
        // The nearest parent that can limit; failing that, the nearest at all, which can freeze.
        candidates.sort_by_key(|(_, limits)| !limits);
        let mut last = io::Error::from(ErrorKind::NotFound);
        for (parent, limits) in candidates {
            let path = parent.join(name);
            match fs::create_dir(&path) {
                Ok(()) => {
                    return Ok(Self {
                        freezes: path.join("cgroup.freeze").exists(),
                        limits: limits && path.join("memory.max").exists(),
                        path,
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Whether children of this version 2 group have the memory and pids controllers, or can be given
/// them, which the kernel allows only in a group without processes of its own and in the root.
fn delegates_limits(parent: &Path) -> bool {
    let lists = |file: &str| {
        let names = fs::read_to_string(parent.join(file)).unwrap_or_default();
        ["memory", "pids"]
            .iter()
            .all(|wanted| names.split_whitespace().any(|name| name == *wanted))
    };
    lists("cgroup.subtree_control")
        || (lists("cgroup.controllers")
            && fs::write(parent.join("cgroup.subtree_control"), "+memory +pids").is_ok())
}

/// Makes a version 1 directory below the own group, or else below the root of the hierarchy.
fn make_directory(hierarchy: &Hierarchy, name: &str) -> io::Result<PathBuf> {
    let own = hierarchy.own.join(name);
    if fs::create_dir(&own).is_ok() {
        return Ok(own);
    }
    let top = hierarchy.mount_point.join(name);
    fs::create_dir(&top).map(|()| top)
}

/// The name of the groups of one sandbox.
pub(crate) fn directory_name(host_pid: u32, unique: u32) -> String {
    format!("{PREFIX}{host_pid}-{unique}")
}

/// Removes these directories, waiting a moment for processes that are about to be gone.
pub(crate) fn remove(directories: &[PathBuf]) -> io::Result<()> {
    let deadline = Instant::now() + REMOVAL_PATIENCE;
    for path in directories {
        loop {
            match fs::remove_dir(path) {
                Err(error)
                    if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline =>
                {
                    std::thread::sleep(LOOK_AGAIN);
                }
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => break,
            }
        }
    }
    Ok(())
}

/// Removes what sandboxes left whose host and supervisor were both killed. The kernel refuses to
/// remove a group that still has a process, so that nothing alive can be hurt.
pub(crate) fn remove_stale(group: &Group) {
    for directory in group.directories() {
        let Some(entries) = directory
            .parent()
            .and_then(|parent| fs::read_dir(parent).ok())
        else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let host = name
                .to_str()
                .and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'))
                .and_then(|(host, _)| host.parse::<u32>().ok());
            if host.is_some_and(|host| !Path::new(&format!("/proc/{host}")).exists()) {
                // Refused while its supervisor is still at work; the next start will look again.
                let _refused = fs::remove_dir(entry.path());
            }
        }
    }
}

fn set(directory: &Path, file: &str, value: &str) -> Result<(), Fault> {
    let path = directory.join(file);
    fs::write(&path, value).during(|| format!("write {value} to {}", path.display()))
}

fn set_if_present(directory: &Path, file: &str, value: &str) -> Result<(), Fault> {
    if directory.join(file).exists() {
        set(directory, file, value)?;
    }
    Ok(())
}

fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, Access::WRITE_OK).is_ok()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The value behind `key` in a file of lines `key value`.
fn counter(path: &Path, key: &str) -> io::Result<u64> {
    fs::read_to_string(path)?
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
        .ok_or_else(|| {
            io::Error::new(
                ErrorKind::InvalidData,
                format!("no {key} in {}", path.display()),
            )
        })
}

fn reached(deadline: Instant, mut state: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    loop {
        if state()? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::{Hierarchy, hierarchies};

    fn hierarchy(controllers: Option<&[&str]>, mount_point: &str, own: &str) -> Hierarchy {
        Hierarchy {
            controllers: controllers.map(|names| names.iter().map(|n| (*n).to_owned()).collect()),
            mount_point: mount_point.into(),
            own: own.into(),
        }
    }

    #[test]
    fn a_hybrid_machine_has_both_versions() {
        let mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "5:devices:/\n4:memory:/service/one\n0::/\n";
        assert_eq!(
            hierarchies(mounts, own),
            [
                hierarchy(
                    Some(&["memory"]),
                    "/sys/fs/cgroup/memory",
                    "/sys/fs/cgroup/memory/service/one"
                ),
                hierarchy(None, "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified"),
            ]
        );
    }

    #[test]
    fn a_container_sees_only_its_part_of_a_hierarchy() {
        let mounts = "9 8 0:2 /docker/abc /sys/fs/cgroup/cpu\\040x ro shared:4 - cgroup cgroup rw,cpu,cpuacct\n\
                      7 8 0:3 / /sys/fs/cgroup rw shared:5 - cgroup2 cgroup rw,nsdelegate\n";
        let own = "3:cpu,cpuacct:/docker/abc/inner\n0::/user.slice\n";
        assert_eq!(
            hierarchies(mounts, own),
            [
                hierarchy(
                    Some(&["cpuacct"]),
                    "/sys/fs/cgroup/cpu x",
                    "/sys/fs/cgroup/cpu x/inner"
                ),
                hierarchy(None, "/sys/fs/cgroup", "/sys/fs/cgroup/user.slice"),
            ]
        );
    }

    #[test]
    fn a_machine_without_control_groups_has_none() {
        assert!(hierarchies("1 0 8:1 / / rw - ext4 /dev/vda rw\n", "").is_empty());
    }
}
