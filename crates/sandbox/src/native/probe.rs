//! Finding out what this machine can give, by doing it once: namespaces are made and a root is built in
//! them, control groups are made and removed. Reading versions or settings would tell less.

use std::io::PipeReader;

use rustix::process::WaitId;

use crate::error::{During, Fault};
use crate::native::birth::Newborn;
use crate::native::cgroup::{self, Group};
use crate::native::identity::Identity;
use crate::native::init::{self, Habitat};
use crate::native::protocol::{InitReport, Lines, Report};
use crate::policy::Policy;

/// Room that the rehearsed sandbox gets to store things: it stores nothing.
const STORAGE_BYTES: u64 = 1 << 20;

/// What a supervisor with the rights of this process can do.
pub(crate) fn report(host_pid: u32) -> Report {
    let own = rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    let (group, reason) = Group::create(&cgroup::directory_name(host_pid, own));
    Report::Probed {
        namespaces: rehearse(),
        control_groups: if group.limits() { Ok(()) } else { Err(reason) },
        freezer: group.freezer().unwrap_or("signals").to_owned(),
    }
}

fn rehearse() -> Result<(), Fault> {
    let group = Group::default();
    let newborn = Habitat::prepare(
        Policy::standard().files,
        Vec::new(),
        Vec::new(),
        STORAGE_BYTES,
        Identity::choose(),
        &group,
    )?
    .populate(&group, |habitat, pipes| init::rehearse(habitat, pipes))?;
    let Newborn {
        pidfd,
        reports,
        tie,
        ..
    } = newborn;
    let outcome = first_report(reports);
    drop(tie);
    // It has said its last word; whatever its status is tells nothing more.
    let _status = rustix::process::waitid(
        WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)),
        rustix::process::WaitIdOptions::EXITED,
    );
    outcome
}

fn first_report(mut reports: PipeReader) -> Result<(), Fault> {
    let mut lines = Lines::default();
    let rehearsal = || "rehearse a sandbox";
    while lines.read(&mut reports).during(rehearsal)? {}
    match lines.next().during(rehearsal)? {
        Some(InitReport::Running) => Ok(()),
        Some(InitReport::Failed(fault)) => Err(fault),
        Some(InitReport::Ended(_)) | None => {
            Err(Fault::plain(rehearsal(), "its init ended without a word"))
        }
    }
}
