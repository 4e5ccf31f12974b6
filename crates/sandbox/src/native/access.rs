//! The Landlock rules: a second wall behind the mounts, in case one of them is wrong, and the first one
//! where there are no namespaces. Rules can only ever take access away.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};

use crate::error::Fault;
use crate::policy::FilePolicy;

/// The newest set of rules that is used; an older kernel enforces those that it knows.
const NEWEST: ABI = ABI::V6;

/// What the rules stand in front of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// A root of the sandbox's own, with its own network.
    OwnRoot,
    /// The host's root: nothing may be written, and TCP is refused.
    HostRoot,
    /// The root of a container's image, which may have folders that the policy does not name.
    Image,
}

/// Takes away all access to files but reading below `readable`, and what the policy gives; cuts off signals and abstract sockets to processes outside.
pub(crate) fn restrict(
    readable: &[PathBuf],
    files: &FilePolicy,
    scene: Scene,
) -> Result<(), Fault> {
    match enforce(readable, files, scene) {
        Ok(RulesetStatus::NotEnforced) => Err(Fault::plain(
            "restrict files by Landlock",
            "the kernel did not enforce it",
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::plain(
            "restrict files by Landlock",
            error.to_string(),
        )),
    }
}

fn enforce(
    readable: &[PathBuf],
    files: &FilePolicy,
    scene: Scene,
) -> Result<RulesetStatus, landlock::RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?;
    if scene == Scene::HostRoot {
        ruleset = ruleset.handle_access(AccessNet::from_all(NEWEST))?;
    }
    let data = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut created = ruleset
        .create()?
        .add_rules(path_beneath_rules(readable, AccessFs::from_read(NEWEST)))?
        .add_rules(path_beneath_rules(["/proc"], data))?
        .add_rules(path_beneath_rules(
            &files.devices,
            data | AccessFs::WriteFile | AccessFs::IoctlDev,
        ))?;
    if scene == Scene::OwnRoot {
        // Its own small root: the names in it are no secret.
        created = created.add_rules(path_beneath_rules(["/"], AccessFs::ReadDir))?;
    }
    if scene != Scene::HostRoot {
        created = created
            .add_rules(path_beneath_rules(["/etc"], data))?
            .add_rules(path_beneath_rules(["/dev"], AccessFs::ReadDir))?
            .add_rules(path_beneath_rules(
                files.writable.iter().map(|folder| &folder.path),
                AccessFs::from_all(NEWEST),
            ))?;
    }
    Ok(created.restrict_self()?.ruleset)
}

/// The Landlock ABI of the running kernel; 0 where there is none.
pub(crate) fn landlock_abi() -> i32 {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the call reads no memory and answers a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    i32::try_from(version).unwrap_or(0).max(0)
}
