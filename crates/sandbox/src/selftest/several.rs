//! Several attacks in one sandbox, for a backend that takes long to start one. Each attempt and each
//! harmless twin is made in a process of its own, whose end is written into the memory that is
//! shared with the host. Attacks that would leave something behind for the next, or that concern
//! the sandbox as a whole, are not made so.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use super::attacker::{attack_named, code_of};
use super::attacks::{Act, Attack, Control, Expected};
use super::calls::give_up_after;
use super::scene::{Bait, MEMORY, Role, Scene};
use super::touch::{address, call, fork_with_number, wait_status};
use super::{Judgement, Seen, attempted, control, twin, verdict};
use crate::native::exit_with;
use crate::outcome::ExitCause;
use crate::tier::Tier;

/// Where the ends are in the shared memory; harmless twins write before it.
const ENDS: usize = 1024;

/// Bytes of one end: how, and by which number.
const END_BYTES: usize = 2;

/// How an end is written. Zero is none.
const EXITED: u8 = 1;
const SIGNALED: u8 = 2;

/// How long one attempt may take, and all of them.
const PATIENCE: Duration = Duration::from_secs(10);
const WHOLE_PATIENCE: Duration = Duration::from_secs(90);

/// More processes than are started here. The victim's number must not be one of theirs.
const MOST_PROCESSES: i32 = 4096;

/// What became of attacks, by their names.
pub(super) type Judged = HashMap<&'static str, Judgement>;

/// Makes those of `attacks` together that can be. If the sandbox does not start, none is judged.
pub(super) fn judge(scene: &mut Scene, tier: Tier, attacks: &[&'static Attack]) -> Judged {
    let bait = scene.bait_in(tier);
    let chosen: Vec<&Attack> = attacks
        .iter()
        .filter(|attack| can_be_made_with_others(attack, &bait))
        .copied()
        .collect();
    let names: Vec<&str> = chosen.iter().map(|attack| attack.name).collect();
    let Ok(stage) = scene.start(tier, &names.join(","), Role::Several) else {
        return Judged::new();
    };
    // Whether it came to its end is seen by each of its parts.
    let _end = stage.sandbox.wait(WHOLE_PATIENCE);
    let mut judged = Judged::new();
    for (position, attack) in chosen.into_iter().enumerate() {
        let end = |which: usize| {
            let start = ENDS + (2 * position + which) * END_BYTES;
            let bytes = stage.memory.copy(start..start + END_BYTES).ok()?;
            match *bytes.as_slice() {
                [EXITED, code] => Some(ExitCause::Exited(code.into())),
                [SIGNALED, signal] => Some(ExitCause::Signaled(signal.into())),
                _ => None,
            }
        };
        let seen: Seen = attempted(attack, end(0));
        let judgement = verdict(scene, seen, |scene| match attack.control {
            Control::Inside(_) => twin(end(1)),
            Control::Outside(_) | Control::SeenBefore => control(scene, tier, attack),
        });
        judged.insert(attack.name, judgement);
    }
    judged
}

fn can_be_made_with_others(attack: &Attack, bait: &Bait) -> bool {
    matches!(attack.expected, Expected::Killed | Expected::Errors(_))
        && attack.cannot_be_made(bait).is_none()
        && attack.target != "filling up"
        && (attack.target != "other processes" || bait.victim > MOST_PROCESSES)
}

/// Makes the attacks of these names, in the sandbox.
pub(super) fn make_several(names: &str, bait: &Bait) -> io::Result<()> {
    let unknown = io::ErrorKind::InvalidInput;
    for (position, name) in names.split(',').enumerate() {
        let attack = attack_named(name).ok_or(unknown)?;
        let mut ends = end_of(attack.attempt, bait)?.to_vec();
        if let Control::Inside(control) = attack.control {
            ends.extend(end_of(control, bait)?);
        }
        let start = ENDS + 2 * position * END_BYTES;
        let number = |length: usize| i64::try_from(length).map_err(io::Error::other);
        let arguments = [
            MEMORY.into(),
            address(ends.as_slice()),
            number(ends.len())?,
            number(start)?,
        ];
        call(libc::SYS_pwrite64, &arguments)?;
    }
    Ok(())
}

/// Acts in a process of its own.
fn end_of(act: Act, bait: &Bait) -> io::Result<[u8; END_BYTES]> {
    let Some(child) = fork_with_number()? else {
        give_up_after(PATIENCE);
        exit_with(code_of(act(bait)));
    };
    let status = wait_status(child)?;
    let (how, number) = if libc::WIFEXITED(status) {
        (EXITED, libc::WEXITSTATUS(status))
    } else {
        (SIGNALED, libc::WTERMSIG(status))
    };
    Ok([how, u8::try_from(number).map_err(io::Error::other)?])
}
