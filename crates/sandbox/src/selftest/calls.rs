//! Making every system call there is, to see what really becomes of it: each number in a short-lived
//! process of its own, with arguments that can do no harm. What is declared is one thing, what the
//! kernel does another; a test compares them.

use std::io;
use std::time::Duration;

use super::scene::{Bait, MEMORY, Role, Scene};
use super::touch::{call, fork_with_number, place, wait_status};
use super::{PATIENCE, SelftestError, SelftestOptions};
use crate::native::exit_with;
use crate::outcome::ExitCause;
use crate::tier::Tier;

/// Higher than any number that Linux uses.
pub(super) const CALLS: usize = 601;

/// Each call is made once with all arguments of one of these values: nothing, and everything.
pub const ARGUMENTS: [u64; 2] = [0, u64::MAX];

/// What became of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// The process was killed by SIGSYS.
    Killed,
    /// EPERM.
    NotPermitted,
    /// ENOSYS.
    NotImplemented,
    /// Anything else: success, another error, another end, or no answer for a while.
    Other,
}

/// One system call that was made in a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallMade {
    /// The number of the call.
    pub number: i64,
    /// The value of each of its arguments.
    pub argument: u64,
    /// What became of it.
    pub outcome: CallOutcome,
}

/// How outcomes are written into the memory that is shared with the host. Zero is none.
const CODES: [(CallOutcome, u8); 4] = [
    (CallOutcome::Killed, 1),
    (CallOutcome::NotPermitted, 2),
    (CallOutcome::NotImplemented, 3),
    (CallOutcome::Other, 4),
];

/// Exit codes of a process that has made a call.
const NOT_PERMITTED: i32 = 101;
const NOT_IMPLEMENTED: i32 = 102;
const OTHER: i32 = 103;

/// How long a call may block before that is its outcome.
const CALL_PATIENCE: Duration = Duration::from_millis(100);

/// Makes every system call in a sandbox of this tier and tells what became of each.
///
/// # Errors
///
/// [`SelftestError`] if the sandbox could not be started, or did not make them all.
pub fn make_every_call(
    options: &SelftestOptions,
    tier: Tier,
) -> Result<Vec<CallMade>, SelftestError> {
    let failed = |operation| move |source| SelftestError { operation, source };
    let scene = Scene::set(options)?;
    let stage = scene
        .start(tier, "", Role::Calls)
        .map_err(|error| failed("start a sandbox")(io::Error::other(error)))?;
    let end = stage.sandbox.wait(PATIENCE).map(|exit| exit.cause);
    let during = failed("make every system call");
    if end != Some(ExitCause::Exited(0)) {
        return Err(during(io::Error::other(format!("it ended so: {end:?}"))));
    }
    let bytes = stage
        .memory
        .copy(0..CALLS * ARGUMENTS.len())
        .map_err(&during)?;
    let numbers = (0i64..).flat_map(|number| ARGUMENTS.map(|argument| (number, argument)));
    numbers
        .zip(bytes)
        .map(|((number, argument), code)| {
            let found = CODES.iter().find(|(_, one)| *one == code);
            let outcome = found
                .map(|(outcome, _)| *outcome)
                .ok_or_else(|| during(io::Error::other(format!("call {number} was not made"))))?;
            Ok(CallMade {
                number,
                argument,
                outcome,
            })
        })
        .collect()
}

/// Makes every call, in the sandbox.
pub(super) fn make_each(_: &Bait) -> io::Result<()> {
    let mut position = 0;
    for number in 0..i64::try_from(CALLS).map_err(io::Error::other)? {
        for argument in ARGUMENTS {
            let outcome = make_one(number, argument)?;
            let code = CODES.iter().find(|(one, _)| *one == outcome);
            let code = code.map_or(0, |(_, code)| *code);
            let arguments = [MEMORY.into(), super::touch::address(&code), 1, position];
            call(libc::SYS_pwrite64, &arguments)?;
            position += 1;
        }
    }
    Ok(())
}

fn make_one(number: i64, argument: u64) -> io::Result<CallOutcome> {
    let Some(child) = fork_with_number()? else {
        give_up_after(CALL_PATIENCE);
        exit_with(match call(number, &[argument.cast_signed(); 6]) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => NOT_PERMITTED,
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => NOT_IMPLEMENTED,
            _ => OTHER,
        });
    };
    let status = wait_status(child)?;
    let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    Ok(match (signal, code) {
        (Some(libc::SIGSYS), _) => CallOutcome::Killed,
        (_, Some(NOT_PERMITTED)) => CallOutcome::NotPermitted,
        (_, Some(NOT_IMPLEMENTED)) => CallOutcome::NotImplemented,
        _ => CallOutcome::Other,
    })
}

/// Ends this process by a signal after a while.
pub(super) fn give_up_after(patience: Duration) {
    let mut timer = libc::itimerval {
        it_interval: libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        },
        it_value: libc::timeval {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_usec: patience.subsec_micros().into(),
        },
    };
    // Without the timer a call that blocks would end with the sandbox.
    let _unset = call(
        libc::SYS_setitimer,
        &[libc::ITIMER_REAL.into(), place(&mut timer), 0],
    );
}
