//! The declared system calls as a profile of a container engine. It takes the place of the engine's
//! default profile and says the same as the native filter, by other means: the engine compares
//! each argument of a rule once, so that "none of these values" becomes a set of bit patterns.

use serde::Serialize;

use crate::policy::{SystemCall, SystemCallPolicy};

/// A profile as engines read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: &'static str,
    /// Calls by the conventions of all others are fatal.
    architectures: [&'static str; 1],
    syscalls: Vec<Rule>,
}

/// What happens to calls of these names whose arguments match.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<&'static str>,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<i32>,
    /// All must match; each argument stands here once at most.
    args: Vec<Argument>,
}

/// A comparison of some bits of an argument.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    /// The bits that are compared.
    value: u64,
    /// What they must be.
    value_two: u64,
    op: &'static str,
}

/// Some bits, and what they must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pattern {
    mask: u64,
    value: u64,
}

impl Pattern {
    /// The kernel takes the arguments that are compared so as 32 bits.
    fn exactly(value: u64) -> Self {
        Self {
            mask: u64::from(u32::MAX),
            value,
        }
    }

    fn of(self, index: u8) -> Argument {
        Argument {
            index,
            value: self.mask,
            value_two: self.value,
            op: "SCMP_CMP_MASKED_EQ",
        }
    }
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: &str = "SCMP_ARCH_X86_64";
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: &str = "SCMP_ARCH_AARCH64";

/// The profile for these calls, as JSON.
pub(crate) fn profile(policy: &SystemCallPolicy) -> serde_json::Result<String> {
    serde_json::to_string(&rules(policy))
}

fn rules(policy: &SystemCallPolicy) -> Profile {
    let mut syscalls = Vec::new();
    let mut decided: Vec<i64> = Vec::new();
    // A call has one answer without conditions: the sternest.
    for (calls, action, errno) in [
        (&policy.fatal, "SCMP_ACT_KILL_PROCESS", None),
        (&policy.refused, "SCMP_ACT_ERRNO", Some(libc::EPERM)),
        (&policy.absent, "SCMP_ACT_ERRNO", Some(libc::ENOSYS)),
    ] {
        let fresh: Vec<SystemCall> = calls
            .iter()
            .filter(|call| !decided.contains(&call.number))
            .copied()
            .collect();
        decided.extend(fresh.iter().map(|call| call.number));
        syscalls.push(Rule {
            names: fresh.iter().map(|call| call.name).collect(),
            action,
            errno_ret: errno,
            args: Vec::new(),
        });
    }
    let conditional = conditions(policy)
        .into_iter()
        .filter(|(call, _)| !decided.contains(&call.number));
    syscalls.extend(conditional.map(|(call, args)| Rule {
        names: vec![call.name],
        action: "SCMP_ACT_ERRNO",
        errno_ret: Some(libc::EPERM),
        args,
    }));
    syscalls.retain(|rule| !rule.names.is_empty());
    Profile {
        default_action: "SCMP_ACT_ALLOW",
        architectures: [ARCHITECTURE],
        syscalls,
    }
}

/// Calls that are refused for their arguments.
fn conditions(policy: &SystemCallPolicy) -> Vec<(SystemCall, Vec<Argument>)> {
    let mut found = Vec::new();
    let mut refuse = |name: &str, args: Vec<Argument>| {
        found.extend(SystemCall::named(name).map(|call| (call, args)));
    };
    for call in &policy.own_process_only {
        for pattern in all_but(&[0]) {
            refuse(call.name, vec![pattern.of(0)]);
        }
    }
    for namespace in &policy.refused_namespaces {
        let flag = Pattern {
            mask: namespace.number,
            value: namespace.number,
        };
        refuse("clone", vec![flag.of(0)]);
    }
    let numbers: Vec<u64> = policy
        .socket_families
        .iter()
        .map(|one| one.number)
        .collect();
    for family in all_but(&numbers) {
        refuse("socket", vec![family.of(0)]);
    }
    let netlink: Vec<u64> = policy.netlink_protocols.iter().map(|p| p.number).collect();
    let internet: Vec<u64> = policy.internet_protocols.iter().map(|p| p.number).collect();
    for (family, protocols) in [
        (libc::AF_NETLINK, &netlink),
        (libc::AF_INET, &internet),
        (libc::AF_INET6, &internet),
    ] {
        let family = Pattern::exactly(u64::from(family.unsigned_abs()));
        for protocol in all_but(protocols) {
            refuse("socket", vec![family.of(0), protocol.of(2)]);
        }
    }
    let pairs: Vec<u64> = policy
        .socket_pair_families
        .iter()
        .map(|one| one.number)
        .collect();
    for family in all_but(&pairs) {
        refuse("socketpair", vec![family.of(0)]);
    }
    for command in &policy.refused_ioctls {
        refuse("ioctl", vec![Pattern::exactly(command.number).of(1)]);
    }
    found
}

/// The fewest patterns that together match exactly the numbers of 32 bits that are not in `allowed`.
fn all_but(allowed: &[u64]) -> Vec<Pattern> {
    let mut found = Vec::new();
    split(allowed, Pattern { mask: 0, value: 0 }, 32, &mut found);
    found
}

/// Halves a set of numbers until none of a half is allowed, or only one number is left.
fn split(allowed: &[u64], set: Pattern, free_bits: u32, found: &mut Vec<Pattern>) {
    if !allowed.iter().any(|one| one & set.mask == set.value) {
        found.push(set);
    } else if free_bits > 0 {
        let bit = 1 << (free_bits - 1);
        for value in [set.value, set.value | bit] {
            let half = Pattern {
                mask: set.mask | bit,
                value,
            };
            split(allowed, half, free_bits - 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Profile, all_but, rules};
    use crate::policy::{
        Answer, Policy, StricterCalls, Surroundings, SystemCall, SystemCallPolicy,
    };

    #[test]
    fn all_but_some_numbers_are_matched_by_patterns_and_these_are_not() {
        for allowed in [vec![], vec![0], vec![1, 2, 10, 16], vec![0, 6, 17]] {
            let patterns = all_but(&allowed);
            let matches = |number: u64| {
                let hits = patterns.iter().filter(|p| number & p.mask == p.value);
                hits.count()
            };
            for number in (0..300).chain([1 << 31, u64::from(u32::MAX), (1 << 32) + 3]) {
                let low = number & u64::from(u32::MAX);
                let expected = usize::from(!allowed.contains(&low));
                assert_eq!(matches(number), expected, "{number} with {allowed:?}");
            }
        }
    }

    /// What an engine does with a call by this profile.
    fn answer(profile: &Profile, name: &str, arguments: [u64; 6]) -> Answer {
        let matching = profile.syscalls.iter().filter(|rule| {
            rule.names.contains(&name)
                && rule
                    .args
                    .iter()
                    .all(|one| arguments[usize::from(one.index)] & one.value == one.value_two)
        });
        let answers: Vec<Answer> = matching
            .map(|rule| match (rule.action, rule.errno_ret) {
                ("SCMP_ACT_KILL_PROCESS", None) => Answer::Killed,
                ("SCMP_ACT_ERRNO", Some(libc::EPERM)) => Answer::Refused,
                ("SCMP_ACT_ERRNO", Some(libc::ENOSYS)) => Answer::Absent,
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        answers.first().copied().unwrap_or(Answer::Allowed)
    }

    /// Arguments around everything that is compared.
    fn samples() -> Vec<[u64; 6]> {
        let mut found = vec![[0; 6], [u64::MAX; 6]];
        for first in (0..50).chain([0x1_0000_0001, 0x2000_0000, 0x1000_0011]) {
            for second in [0, 0x5412, 0x541C, 0x5401, 0x1_0000_5412] {
                for third in [0, 1, 4, 6, 12, 15, 16, 17, 132, 255, 262] {
                    found.push([first, second, third, 0, 0, 0]);
                }
            }
        }
        found
    }

    #[test]
    fn the_profile_says_of_every_call_what_the_policy_says() {
        let in_containers = Policy::standard().system_calls_in(Surroundings {
            namespaces: true,
            counted_memory: true,
        });
        let mut without_sockets = in_containers.clone();
        without_sockets.socket_families.clear();
        without_sockets
            .own_process_only
            .extend(SystemCall::named("prlimit64"));
        let mut counts = std::collections::BTreeMap::<_, usize>::new();
        for policy in [
            in_containers,
            without_sockets,
            SystemCallPolicy::unrestricted(),
        ] {
            let profile = rules(&policy);
            for number in 0..601 {
                let Some(call) = SystemCall::numbered(number) else {
                    continue;
                };
                for arguments in samples() {
                    let declared = policy.answer(number, arguments);
                    let found = answer(&profile, call.name, arguments);
                    assert_eq!(found, declared, "{} {arguments:x?}", call.name);
                    *counts.entry(format!("{declared:?}")).or_default() += 1;
                }
            }
        }
        assert_eq!(counts.len(), 4, "{counts:?}");
    }

    #[test]
    fn a_call_has_one_answer_without_conditions_and_no_argument_is_compared_twice_in_a_rule() {
        let policy = SystemCallPolicy::strongest()
            .and(&StricterCalls::none())
            .and(&StricterCalls {
                absent: SystemCall::named("ptrace").into_iter().collect(),
                refused: SystemCall::named("socket").into_iter().collect(),
                ..StricterCalls::none()
            });
        let profile = rules(&policy);
        let whole = profile.syscalls.iter().filter(|rule| rule.args.is_empty());
        let names: Vec<_> = whole.flat_map(|rule| &rule.names).collect();
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(names.len(), distinct.len());
        for rule in profile.syscalls.iter().filter(|rule| !rule.args.is_empty()) {
            assert!(!names.contains(&&rule.names[0]), "{rule:?}");
            let indexes: std::collections::HashSet<_> =
                rule.args.iter().map(|one| one.index).collect();
            assert_eq!(indexes.len(), rule.args.len(), "{rule:?}");
        }
    }
}
