//! The attacker inside a sandbox: the launcher, started there as the payload. It refuses to do
//! anything where no filter holds it, so that nobody attacks their own machine by a slip of the hand.

use std::io;

use super::attacks::{ATTACKS, Attack, Control};
use super::calls::make_each;
use super::scene::{Bait, Role};
use super::several::make_several;
use crate::native::exit_with;

/// The first argument that turns the launcher into an attacker.
pub(super) const ATTACKER_ARGUMENT: &str = "sandbox-attacker";

/// Exit codes from here on are no error numbers of the kernel.
pub(super) const NOT_AN_ERROR: i32 = 200;

/// The attacker was started where it must not run.
const UNCONFINED: i32 = 210;

/// It was told something that it does not understand.
const UNKNOWN: i32 = 211;

/// An attempt failed for a reason that the kernel did not give.
const OTHER: i32 = 212;

/// Becomes an attacker, and never returns, if this process was started as one.
pub(crate) fn run_if_attacker() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(ATTACKER_ARGUMENT) {
        return;
    }
    if !is_confined() {
        exit_with(UNCONFINED);
    }
    let (Some(role), Some(name), Some(bait)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        exit_with(UNKNOWN);
    };
    let Ok(bait) = serde_json::from_str::<Bait>(&bait) else {
        exit_with(UNKNOWN);
    };
    let attack = attack_named(&name);
    let act = match (Role::named(&role), attack) {
        (Some(Role::Several), _) => exit_with(code_of(make_several(&name, &bait))),
        (Some(Role::Calls), _) => make_each,
        (Some(Role::Attempt), Some(attack)) => attack.attempt,
        (Some(Role::Control), Some(attack)) => match attack.control {
            Control::Inside(control) => control,
            Control::Outside(_) | Control::SeenBefore => exit_with(UNKNOWN),
        },
        _ => exit_with(UNKNOWN),
    };
    exit_with(code_of(act(&bait)));
}

pub(super) fn attack_named(name: &str) -> Option<&'static Attack> {
    ATTACKS.iter().find(|attack| attack.name == name)
}

/// The exit code that tells how an act came out.
pub(super) fn code_of(outcome: io::Result<()>) -> i32 {
    match outcome {
        Ok(()) => 0,
        Err(error) => error
            .raw_os_error()
            .filter(|code| (1..NOT_AN_ERROR).contains(code))
            .unwrap_or(OTHER),
    }
}

/// Whether this process may gain no privileges and stands behind a filter of system calls.
fn is_confined() -> bool {
    const FILTERED: i32 = 2;
    // SAFETY: both calls read no memory and answer a number.
    unsafe {
        libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1
            && libc::prctl(libc::PR_GET_SECCOMP) == FILTERED
    }
}
