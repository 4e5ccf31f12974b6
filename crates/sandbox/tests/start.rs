//! Starting: what is wrong is named, what is too weak is refused, and a refused start leaves nothing.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use crusades_sandbox::{EmbeddedFile, Mount, Sandbox, SandboxRequest, StartError, Tier};
use support::{capabilities, chain, in_each_tier, in_tiers, output, shell};

#[test]
fn all_of_this_holds_for_an_ordinary_user_too() {
    support::run_again_as_ordinary_user();
}

fn refusal(request: SandboxRequest) -> String {
    match Sandbox::start(request) {
        Ok(_) => panic!("it started"),
        Err(error) => chain(&error),
    }
}

#[test]
fn a_missing_program_is_named() {
    in_each_tier(|tier| {
        let text = refusal(support::request(tier, "/usr/bin/no-such-program"));
        assert!(
            text.contains("execute /usr/bin/no-such-program: No such file"),
            "{text}"
        );
        let text = refusal(support::request(tier, "/usr/share"));
        assert!(
            text.contains("execute /usr/share: Permission denied"),
            "{text}"
        );
    });
    support::await_no_control_groups();
}

#[test]
fn a_missing_source_of_a_mount_is_named() {
    in_each_tier(|tier| {
        let mut request = shell(tier, "exit 0");
        request.mounts.push(Mount::in_place("/no/such/folder"));
        let text = refusal(request);
        assert!(text.contains("/no/such/folder: No such file"), "{text}");
    });
    support::await_no_control_groups();
}

#[test]
fn two_things_at_one_place_are_named() {
    in_tiers(&[Tier::One, Tier::Two], |tier| {
        let mut request = shell(tier, "exit 0");
        for contents in ["one", "two"] {
            request.embedded.push(EmbeddedFile {
                target: "/worker.py".into(),
                contents: contents.into(),
            });
        }
        let text = refusal(request);
        assert!(
            text.contains("write /worker.py in the new root: File exists"),
            "{text}"
        );
    });
}

#[test]
fn a_memory_limit_that_nothing_can_start_in_is_named() {
    in_tiers(&[Tier::One], |tier| {
        let mut request = shell(tier, "exit 0");
        request.limits.memory_bytes = 4096;
        let text = refusal(request);
        assert!(
            text.contains("memory") || text.contains("Cannot allocate"),
            "{text}"
        );
    });
}

#[test]
fn a_launcher_that_is_none_is_named() {
    for (launcher, expected) in [
        ("/bin/true", "run_if_supervisor"),
        ("/no/such/launcher", "/no/such/launcher: No such file"),
    ] {
        let mut request = SandboxRequest::new("/bin/true");
        request.launcher = Some(PathBuf::from(launcher));
        request.force_tier = Some(Tier::Three);
        request.minimum_tier = Tier::Three;
        let text = refusal(request);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_start_that_takes_too_long_is_given_up() {
    in_each_tier(|tier| {
        let mut request = shell(tier, "exit 0");
        request.start_timeout = Duration::ZERO;
        assert!(matches!(
            Sandbox::start(request),
            Err(StartError::TimedOut(_))
        ));
    });
    support::await_no_control_groups();
}

#[test]
fn a_tier_that_is_too_weak_is_refused_with_its_reasons_unless_allowed() {
    let Some(best) = capabilities().tier() else {
        println!("skipped: {}", capabilities().reasons.join("; "));
        return;
    };
    let mut weak = shell(Tier::Three, "exit 0");
    weak.minimum_tier = Tier::Two;
    let text = refusal(weak);
    assert!(
        text.contains("at least tier 3") || text.contains("allow a weaker"),
        "{text}"
    );
    output(shell(Tier::Three, "exit 0"));
    if best > Tier::One {
        let mut strong = shell(Tier::Two, "exit 0");
        strong.force_tier = None;
        strong.minimum_tier = Tier::One;
        let text = refusal(strong);
        assert!(text.contains("cgroup"), "{text}");
        assert!(!capabilities().reasons.is_empty());
    }
}

#[test]
fn without_a_wish_the_strongest_tier_is_taken() {
    let Some(best) = capabilities().tier() else {
        println!("skipped: {}", capabilities().reasons.join("; "));
        return;
    };
    let mut request = shell(best, "exit 0");
    request.force_tier = None;
    let sandbox = support::start(request);
    assert_eq!(sandbox.tier(), best);
    println!("{:?}", capabilities());
}
