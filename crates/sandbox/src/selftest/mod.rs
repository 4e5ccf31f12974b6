//! The escape suite: every attack of a table is made from inside a sandbox and must be refused in the
//! declared way, and its harmless twin must succeed, or nothing is proven. It is the same for this
//! crate's tests and for an operator who wants to know about a machine. The attacker is the
//! launcher itself, started again inside the sandbox; it tells its outcome by its exit status
//! alone, so that nothing a payload prints is ever interpreted.

mod attacker;
mod attacks;
mod calls;
mod scene;
mod several;
mod touch;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::error::StartError;
use crate::outcome::ExitCause;
use crate::policy::Policy;
use crate::tier::Tier;
use attacks::{ATTACKS, Attack, Control, Expected, Moment, NOT_APPLICABLE};
use scene::{MEMORY_BYTES, Role, Scene, Stage};

pub(crate) use attacker::run_if_attacker;
pub use calls::{ARGUMENTS, CallMade, CallOutcome, make_every_call};

/// How long one attack may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long memory is watched after a freeze.
const FROZEN_WATCH: Duration = Duration::from_millis(50);

/// What to attack.
#[derive(Clone, Debug)]
pub struct SelftestOptions {
    /// The executable whose `main` calls [`crate::run_if_supervisor`]; the running one if `None`.
    pub launcher: Option<PathBuf>,
    /// Whose sandboxes to attack.
    pub backend: Backend,
    /// The tiers to attack.
    pub tiers: Vec<Tier>,
    /// The policy to attack.
    pub policy: Policy,
    /// Only attacks whose name holds this text.
    pub only: Option<String>,
}

impl SelftestOptions {
    /// The standard policy in one tier, all attacks.
    #[must_use]
    pub fn new(tier: Tier) -> Self {
        Self {
            launcher: None,
            backend: Backend::Native,
            tiers: vec![tier],
            policy: Policy::standard(),
            only: None,
        }
    }
}

/// What became of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was refused as it must be, and its harmless twin succeeded.
    Held,
    /// It succeeded, or was stopped by something else than what is declared.
    Broken,
    /// The harmless twin failed too, so that the refusal proves nothing.
    Unproven,
    /// It cannot be made here.
    NotApplicable,
}

/// One attack in one tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttackResult {
    /// The attack's name.
    pub name: String,
    /// What it attacks.
    pub target: String,
    /// Where it was made.
    pub tier: Tier,
    /// What became of it.
    pub verdict: Verdict,
    /// What happened to the attack, in words.
    pub attempt: String,
    /// What happened to its harmless twin, in words; empty where the attack was not made.
    pub control: String,
}

/// Why the suite could not be run.
#[derive(Debug, thiserror::Error)]
#[error("prepare the escape suite: {operation}")]
pub struct SelftestError {
    operation: &'static str,
    #[source]
    source: io::Error,
}

/// Makes every attack in every tier asked for, and tells each result as soon as it is known. Takes
/// some seconds for each tier. Tiers that this machine does not have give results that are not applicable.
///
/// # Errors
///
/// [`SelftestError`] if the things to be attacked, such as a file and a socket, could not be made.
pub fn run(
    options: &SelftestOptions,
    mut on_result: impl FnMut(&AttackResult),
) -> Result<Vec<AttackResult>, SelftestError> {
    let mut scene = Scene::set(options)?;
    let wanted = |name: &str| {
        options
            .only
            .as_deref()
            .is_none_or(|text| name.contains(text))
    };
    let mut results = Vec::new();
    for tier in &options.tiers {
        let attacks: Vec<&Attack> = ATTACKS.iter().filter(|one| wanted(one.name)).collect();
        // A container takes long to start.
        let mut judged = match options.backend {
            Backend::Native => several::Judged::default(),
            Backend::Docker(_) => several::judge(&mut scene, *tier, &attacks),
        };
        for attack in attacks {
            let (verdict, attempt, control) = match judged.remove(attack.name) {
                Some(known) => known,
                None => judge(&mut scene, *tier, attack),
            };
            results.push(AttackResult {
                name: attack.name.into(),
                target: attack.target.into(),
                tier: *tier,
                verdict,
                attempt,
                control,
            });
            results.iter().last().into_iter().for_each(&mut on_result);
        }
        for (name, target, reason) in NOT_APPLICABLE.iter().filter(|row| wanted(row.0)) {
            results.push(AttackResult {
                name: (*name).into(),
                target: (*target).into(),
                tier: *tier,
                verdict: Verdict::NotApplicable,
                attempt: (*reason).into(),
                control: String::new(),
            });
            results.iter().last().into_iter().for_each(&mut on_result);
        }
    }
    Ok(results)
}

/// What was seen of one attempt.
enum Seen {
    /// As it must be.
    Refused(String),
    Otherwise(String),
    /// The sandbox could not be started.
    NotStarted(StartError),
}

/// The verdict, and what happened to the attempt and to its harmless twin.
type Judgement = (Verdict, String, String);

fn judge(scene: &mut Scene, tier: Tier, attack: &Attack) -> Judgement {
    if let Some(reason) = attack.cannot_be_made(&scene.bait_in(tier)) {
        return (Verdict::NotApplicable, reason.into(), String::new());
    }
    let seen = match attack.expected {
        Expected::Killed | Expected::Errors(_) | Expected::Ends(_) => ends(scene, tier, attack),
        Expected::Dies(moment, voices) => dies(scene, tier, attack, moment, voices),
        Expected::Freezes(voices) => freezes(scene, tier, attack, voices),
    };
    verdict(scene, seen, |scene| control(scene, tier, attack))
}

/// What follows from what was seen, and from the harmless twin.
fn verdict(
    scene: &mut Scene,
    seen: Seen,
    control: impl FnOnce(&Scene) -> Result<String, String>,
) -> Judgement {
    let (held, attempt) = match seen {
        Seen::Refused(text) => (true, text),
        Seen::Otherwise(text) => (false, text),
        Seen::NotStarted(error @ StartError::TooWeak { .. }) => {
            return (Verdict::NotApplicable, error.to_string(), String::new());
        }
        Seen::NotStarted(error) => return (Verdict::Unproven, error.to_string(), String::new()),
    };
    if !scene.victim_lives() {
        let text = format!("{attempt}, but a process of the host was killed");
        return (Verdict::Broken, text, String::new());
    }
    match (held, control(scene)) {
        (false, Ok(text) | Err(text)) => (Verdict::Broken, attempt, text),
        (true, Ok(text)) => (Verdict::Held, attempt, text),
        (true, Err(text)) => (Verdict::Unproven, attempt, text),
    }
}

fn control(scene: &Scene, tier: Tier, attack: &Attack) -> Result<String, String> {
    match attack.control {
        Control::Inside(_) => {
            let stage = scene
                .start(tier, attack.name, Role::Control)
                .map_err(|error| error.to_string())?;
            twin(stage.sandbox.wait(PATIENCE).map(|exit| exit.cause))
        }
        Control::Outside(made) => match made(scene.bait()) {
            Ok(()) => Ok("the host itself can do it".into()),
            Err(error) => Err(format!("the host cannot do it either: {error}")),
        },
        Control::SeenBefore => Ok("it was seen to work before it was ended".into()),
    }
}

/// What the end of a harmless twin that was made inside proves.
fn twin(end: Option<ExitCause>) -> Result<String, String> {
    match end {
        Some(ExitCause::Exited(0)) => Ok("the same without harm succeeds inside".into()),
        other => Err(format!("the harmless twin failed: {}", in_words(other))),
    }
}

/// Makes an attempt and looks how it ends.
fn ends(scene: &Scene, tier: Tier, attack: &Attack) -> Seen {
    let stage = match scene.start(tier, attack.name, Role::Attempt) {
        Ok(stage) => stage,
        Err(error) => return Seen::NotStarted(error),
    };
    attempted(attack, stage.sandbox.wait(PATIENCE).map(|exit| exit.cause))
}

/// What the end of an attempt proves.
fn attempted(attack: &Attack, end: Option<ExitCause>) -> Seen {
    let text = in_words(end);
    if end.is_some_and(|cause| attack.expected.allows(cause)) {
        Seen::Refused(text)
    } else {
        Seen::Otherwise(text)
    }
}

/// Starts an attempt and waits until all its processes have told that they are ready.
fn until_ready(scene: &Scene, tier: Tier, attack: &Attack, voices: usize) -> Result<Stage, Seen> {
    let mut stage = scene
        .start(tier, attack.name, Role::Attempt)
        .map_err(Seen::NotStarted)?;
    match stage.hear(voices, PATIENCE) {
        Ok(()) => Ok(stage),
        Err(error) => Err(Seen::Otherwise(format!("it did not get ready: {error}"))),
    }
}

/// Lets processes hide, ends the sandbox, and looks whether one of them still holds its pipe.
fn dies(scene: &Scene, tier: Tier, attack: &Attack, moment: Moment, voices: usize) -> Seen {
    let mut stage = match until_ready(scene, tier, attack, voices) {
        Ok(stage) => stage,
        Err(seen) => return seen,
    };
    let ended = match moment {
        Moment::End => stage.sandbox.wait(PATIENCE).map(drop).ok_or("end"),
        Moment::Kill => stage.sandbox.kill(PATIENCE).map_err(|_| "kill"),
        Moment::FrozenKill => stage
            .sandbox
            .freeze(PATIENCE)
            .and_then(|()| stage.sandbox.kill(PATIENCE))
            .map_err(|_| "freeze and kill"),
    };
    if let Err(what) = ended {
        return Seen::Otherwise(format!("the {what} did not happen within {PATIENCE:?}"));
    }
    // Whatever lives at this moment has outlived its sandbox, so there is nothing to wait for.
    match stage.silent() {
        Ok(()) => Seen::Refused("every process of it was gone at once".into()),
        Err(error) => Seen::Otherwise(format!("a process of it was left: {error}")),
    }
}

/// Lets processes change shared memory, freezes them, and looks whether it changes.
fn freezes(scene: &Scene, tier: Tier, attack: &Attack, voices: usize) -> Seen {
    let stage = match until_ready(scene, tier, attack, voices) {
        Ok(stage) => stage,
        Err(seen) => return seen,
    };
    let look = || stage.memory.copy(0..MEMORY_BYTES);
    let changes = |between: &dyn Fn()| -> io::Result<bool> {
        let first = look()?;
        between();
        Ok(first != look()?)
    };
    let watch: &dyn Fn() = &|| std::thread::sleep(FROZEN_WATCH);
    let seen = || -> Result<(bool, bool, bool), String> {
        let text = |error: io::Error| error.to_string();
        let before = changes(watch).map_err(text)?;
        let refused = |error: crate::error::ControlError| error.to_string();
        stage.sandbox.freeze(PATIENCE).map_err(refused)?;
        let frozen = changes(watch).map_err(text)?;
        stage.sandbox.thaw(PATIENCE).map_err(refused)?;
        Ok((before, frozen, changes(watch).map_err(text)?))
    };
    match seen() {
        Ok((true, false, true)) => {
            Seen::Refused("it changed before and after, but not while frozen".into())
        }
        Ok((before, frozen, after)) => Seen::Otherwise(format!(
            "changes before {before}, while frozen {frozen}, after {after}"
        )),
        Err(text) => Seen::Otherwise(text),
    }
}

fn in_words(cause: Option<ExitCause>) -> String {
    match cause {
        None => format!("it did not end within {PATIENCE:?}"),
        Some(ExitCause::Exited(0)) => "it succeeded".into(),
        Some(ExitCause::Exited(code)) if code < attacker::NOT_AN_ERROR => {
            format!("refused: {}", io::Error::from_raw_os_error(code))
        }
        Some(ExitCause::Exited(code)) => format!("it could not be made (code {code})"),
        Some(ExitCause::Signaled(libc::SIGSYS)) => "killed at the call".into(),
        Some(ExitCause::Signaled(signal)) => format!("ended by signal {signal}"),
        Some(ExitCause::OutOfMemory) => "ended: out of memory".into(),
        Some(ExitCause::LogFlood) => "ended: it printed too much".into(),
        Some(ExitCause::Killed) => "ended by the host".into(),
        Some(ExitCause::SupervisorLost) => "ended: its supervisor was lost".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{ATTACKS, NOT_APPLICABLE};

    #[test]
    fn no_name_is_used_twice() {
        let names: std::collections::HashSet<_> = ATTACKS
            .iter()
            .map(|attack| attack.name)
            .chain(NOT_APPLICABLE.iter().map(|row| row.0))
            .collect();
        assert_eq!(names.len(), ATTACKS.len() + NOT_APPLICABLE.len());
    }
}
