//! Comparing what became of every system call with what a policy declares.

use std::collections::BTreeMap;

use crusades_sandbox::selftest::{CallMade, CallOutcome};
use crusades_sandbox::{Answer, Policy, StricterCalls, SystemCall, SystemCallPolicy};

/// The policy that lets every system call through that a name can be given.
pub(crate) fn unrestricted() -> Policy {
    let mut policy = Policy::standard();
    policy.system_calls = SystemCallPolicy::unrestricted();
    policy.system_calls_without_namespaces = StricterCalls::none();
    policy.system_calls_without_counted_memory = StricterCalls::none();
    policy
}

/// Fails unless each call met exactly what is declared. `plain` is what the kernel answers by itself.
pub(crate) fn require_declared(
    declared: &SystemCallPolicy,
    filtered: Vec<CallMade>,
    plain: &[CallMade],
) {
    let plain: BTreeMap<_, _> = plain
        .iter()
        .map(|made| ((made.number, made.argument), made.outcome))
        .collect();
    assert_eq!((filtered.len(), plain.len()), (1202, 1202));
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for made in filtered {
        let answer = declared.answer(made.number, [made.argument; 6]);
        let bare = plain[&(made.number, made.argument)];
        let expected = match answer {
            Answer::Killed => CallOutcome::Killed,
            Answer::Refused => CallOutcome::NotPermitted,
            Answer::Absent => CallOutcome::NotImplemented,
            Answer::Allowed => bare,
        };
        let name = SystemCall::numbered(made.number).map_or("?", |call| call.name);
        assert_eq!(
            made.outcome, expected,
            "{name} ({}) with arguments {:#x} is declared {answer:?}",
            made.number, made.argument
        );
        let count = counts.entry(format!("{answer:?}")).or_default();
        count.0 += 1;
        count.1 += usize::from(bare != made.outcome);
    }
    println!("answers, and how many differ from the bare kernel's: {counts:?}");
    // Without the filter it is not so: none is killed, and hardly any has the declared answer.
    assert!(
        plain
            .values()
            .all(|outcome| *outcome != CallOutcome::Killed)
    );
    let (killed, differing) = counts["Killed"];
    assert!(killed >= 90 && differing == killed, "{counts:?}");
    let (refused, differing) = counts["Refused"];
    assert!(differing * 2 > refused, "{counts:?}");
    assert_eq!(counts["Allowed"].1, 0);
}
