//! The escape suite on every tier, as root and as an ordinary user: every attack is refused in the
//! declared way while its harmless twin succeeds. And the suite itself is tested: behind a weaker
//! policy it must see attacks succeed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use crusades_sandbox::selftest::{AttackResult, SelftestOptions, Verdict, run};
use crusades_sandbox::{Policy, SystemCallPolicy, Tier};
use support::{chain, in_each_tier, in_tiers, launcher};

#[test]
fn all_of_this_holds_for_an_ordinary_user_too() {
    support::run_again_as_ordinary_user();
}

fn attack(tier: Tier, policy: Policy, only: Option<&str>) -> Vec<AttackResult> {
    let mut options = SelftestOptions::new(tier);
    options.launcher = Some(launcher());
    options.policy = policy;
    options.only = only.map(str::to_owned);
    let print = |result: &AttackResult| {
        println!(
            "{:?} {} ({}): {} / {}",
            result.verdict, result.name, result.target, result.attempt, result.control
        );
    };
    run(&options, print).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

#[test]
fn every_attack_is_refused_and_its_harmless_twin_is_not() {
    in_each_tier(|tier| {
        let results = attack(tier, Policy::standard(), None);
        let of = |verdict| results.iter().filter(|one| one.verdict == verdict).count();
        println!(
            "{tier}: {} held, {} not applicable",
            of(Verdict::Held),
            of(Verdict::NotApplicable)
        );
        let bad: Vec<_> = results
            .iter()
            .filter(|one| matches!(one.verdict, Verdict::Broken | Verdict::Unproven))
            .collect();
        assert!(bad.is_empty(), "{bad:#?}");
        assert!(of(Verdict::Held) > 100, "{} held", of(Verdict::Held));
        assert!(results.iter().all(|one| one.tier == tier));
    });
}

#[test]
fn behind_a_policy_without_system_calls_the_suite_sees_attacks_succeed() {
    in_tiers(&[Tier::One, Tier::Two], |tier| {
        let mut policy = Policy::standard();
        policy.system_calls = SystemCallPolicy::unrestricted();
        let seen: BTreeMap<String, Verdict> = [
            "clone-user",
            "unshare-user",
            "socket-diagnosis",
            "multipath",
            "personality",
            "ptrace",
            "read-host-file",
        ]
        .into_iter()
        .flat_map(|only| attack(tier, policy.clone(), Some(only)))
        .map(|result| (result.name, result.verdict))
        .collect();
        for name in [
            "netlink-socket-diagnosis",
            "personality",
            // Not by SIGSYS any more.
            "ptrace",
        ] {
            assert_eq!(seen.get(name), Some(&Verdict::Broken), "{name}: {seen:?}");
        }
        // Another wall.
        assert_eq!(seen.get("read-host-file"), Some(&Verdict::Held));
    });
}

#[test]
fn behind_a_policy_that_shows_too_much_the_suite_sees_it() {
    in_tiers(&[Tier::One, Tier::Two], |tier| {
        let mut policy = Policy::standard();
        policy.files.system.push("/etc".into());
        policy.environment.insert("PATH".into(), "/bin".into());
        let results = [
            attack(tier, policy.clone(), Some("own-environment")),
            attack(tier, policy, Some("read-password-file")),
        ]
        .concat();
        assert_eq!(results.len(), 2);
        assert_eq!(results[0].verdict, Verdict::Broken);
        // Readable for the mounts; the file's own owner still guards it.
        assert_eq!(results[1].verdict, Verdict::Held);
    });
}

#[test]
fn an_attacker_that_no_filter_holds_does_nothing() {
    let output = std::process::Command::new(launcher())
        .args(["sandbox-attacker", "attempt", "read-password-file", "{}"])
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(210));
}
