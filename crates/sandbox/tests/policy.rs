//! The declared policy against what the kernel really enforces.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

mod support;

use crusades_sandbox::selftest::{CallMade, SelftestOptions, make_every_call};
use crusades_sandbox::{ExitCause, Policy, Sandbox, SystemCall, Tier};
use support::calls::{require_declared, unrestricted};
use support::{capabilities, chain, in_each_tier, in_tiers, launcher, output, run, shell};

#[test]
fn all_of_this_holds_for_an_ordinary_user_too() {
    support::run_again_as_ordinary_user();
}

fn make_calls(tier: Tier, policy: &Policy) -> Vec<CallMade> {
    let mut options = SelftestOptions::new(tier);
    options.launcher = Some(launcher());
    options.policy = policy.clone();
    make_every_call(&options, tier).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

#[test]
fn every_system_call_there_is_meets_exactly_what_is_declared() {
    in_each_tier(|tier| {
        let policy = Policy::standard();
        let surroundings = capabilities().surroundings(tier).expect("this tier");
        let declared = policy.system_calls_in(surroundings);
        let filtered = make_calls(tier, &policy);
        // The control: what the kernel answers by itself.
        let plain = make_calls(tier, &unrestricted());
        require_declared(&declared, filtered, &plain);
    });
}

#[test]
fn a_policy_that_allows_more_calls_than_the_standard_is_never_called_strong() {
    in_tiers(&[Tier::One, Tier::Two], |tier| {
        let mut request = shell(tier, "exit 0");
        request.policy = unrestricted();
        let error = Sandbox::start(request).expect_err("it starts");
        assert!(chain(&error).contains("policy allows"), "{}", chain(&error));
        let mut allowed = shell(tier, "exit 0");
        allowed.policy = unrestricted();
        allowed.minimum_tier = Tier::Three;
        assert_eq!(support::start(allowed).tier(), Tier::Three);
        let mut stricter = shell(tier, "exit 0");
        let more = SystemCall::named("mremap").expect("a call");
        stricter.policy.system_calls.refused.push(more);
        assert_eq!(support::start(stricter).tier(), tier);
    });
}

#[test]
fn a_policy_that_was_read_is_the_one_that_holds() {
    in_each_tier(|tier| {
        let text = Policy::standard().to_toml().expect("print");
        let text = text.replace(
            "[environment]\n",
            "[environment]\nGREETING = \"hello\"\nPATH = \"/nowhere\"\n",
        );
        let policy = Policy::from_toml(&text).expect("read");
        let mut request = shell(tier, "echo $GREETING $PATH");
        request.policy = policy;
        // What the request says of a variable wins.
        assert_eq!(output(request), "hello /usr/bin:/bin\n");
        let mut refusing = shell(tier, "mkdir x; exit 0");
        let calls = ["mkdir", "mkdirat"];
        refusing
            .policy
            .system_calls
            .fatal
            .extend(calls.into_iter().filter_map(SystemCall::named));
        let (cause, log) = run(refusing);
        assert_eq!(cause, ExitCause::Exited(0));
        assert!(
            log.to_text().contains("Bad system call"),
            "{}",
            log.to_text()
        );
    });
}

#[test]
fn folders_and_devices_are_those_of_the_policy() {
    in_tiers(&[Tier::One, Tier::Two], |tier| {
        let mut request = shell(
            tier,
            "pwd; for i in a b; do (echo x > /work-$i/file) 2>/dev/null && echo $i; done; \
             ls /dev; (cat /dev/zero | head -c 1) 2>/dev/null | wc -c",
        );
        let files = &mut request.policy.files;
        files.devices.retain(|path| path.ends_with("null"));
        files.writable[0].path = "/work-a".into();
        files.working_folder = "/work-a".into();
        assert_eq!(
            output(request),
            "/work-a\na\nfd\nnull\nshm\nstderr\nstdin\nstdout\n0\n"
        );
    });
}
