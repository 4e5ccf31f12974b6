//! The seccomp filters that enforce the declared policy. A filter, once loaded, holds for the thread
//! and all it starts, and can only become stricter.

use std::collections::BTreeMap;
use std::io;

use rustix::io::Errno;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use crate::error::Fault;
use crate::policy::{SystemCall, SystemCallPolicy};

/// Compiled filters, ready to be loaded.
#[derive(Debug)]
pub(crate) struct Filters(Vec<BpfProgram>);

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

impl Filters {
    /// Compiles a policy. Calls of another architecture are killed by every filter.
    pub(crate) fn compile(policy: &SystemCallPolicy) -> Result<Self, Fault> {
        compile(policy)
            .map_err(|error| Fault::plain("compile the seccomp filters", error.to_string()))
    }

    /// Loads the filters into this thread. It must have no new privileges to gain.
    pub(crate) fn load(&self) -> Result<(), Fault> {
        for program in &self.0 {
            seccompiler::apply_filter(program)
                .map_err(|error| Fault::plain("load the seccomp filters", error.to_string()))?;
        }
        Ok(())
    }
}

fn compile(policy: &SystemCallPolicy) -> Result<Filters, BackendError> {
    let whole = |calls: &[SystemCall]| -> Rules {
        calls.iter().map(|call| (call.number, Vec::new())).collect()
    };
    let mut refused = whole(&policy.refused);
    let own_only = policy.own_process_only.iter();
    let by_arguments = own_only
        .map(|call| Ok((call.number, vec![rule(vec![is_not(0, 0)?])?])))
        .chain([
            Ok((libc::SYS_clone, refused_flags(policy)?)),
            Ok((libc::SYS_socket, refused_sockets(policy)?)),
            Ok((libc::SYS_socketpair, refused_pairs(policy)?)),
            Ok((libc::SYS_ioctl, refused_ioctls(policy)?)),
        ])
        .collect::<Result<Vec<_>, BackendError>>()?;
    for (call, rules) in by_arguments {
        match refused.get_mut(&call) {
            // Refused whatever its arguments are: that is what no rule means here.
            Some(others) if others.is_empty() => {}
            Some(others) => others.extend(rules),
            None if rules.is_empty() => {}
            None => drop(refused.insert(call, rules)),
        }
    }
    let errno = |code: Errno| SeccompAction::Errno(code.raw_os_error().unsigned_abs());
    let mut programs = vec![
        program(whole(&policy.absent), errno(Errno::NOSYS))?,
        program(refused, errno(Errno::PERM))?,
        program(whole(&policy.fatal), SeccompAction::KillProcess)?,
    ];
    if cfg!(target_arch = "x86_64") {
        programs.push(without_x32());
    }
    Ok(Filters(programs))
}

fn program(rules: Rules, action: SeccompAction) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, SeccompAction::Allow, action, ARCHITECTURE)?.try_into()
}

fn refused_flags(policy: &SystemCallPolicy) -> Result<Vec<SeccompRule>, BackendError> {
    let has = |flag| {
        let operator = SeccompCmpOp::MaskedEq(flag);
        SeccompCondition::new(0, SeccompCmpArgLen::Qword, operator, flag)
    };
    policy
        .refused_namespaces
        .iter()
        .map(|one| rule(vec![has(one.number)?]))
        .collect()
}

/// One rule for unknown families, and one for each family whose protocols are not all allowed.
fn refused_sockets(policy: &SystemCallPolicy) -> Result<Vec<SeccompRule>, BackendError> {
    let netlink: Vec<u64> = policy.netlink_protocols.iter().map(|p| p.number).collect();
    let internet: Vec<u64> = policy.internet_protocols.iter().map(|p| p.number).collect();
    let families: Vec<u64> = policy.socket_families.iter().map(|f| f.number).collect();
    if families.is_empty() {
        return always();
    }
    let mut rules = vec![rule(none_of(0, &families)?)?];
    for (family, protocols) in [
        (libc::AF_NETLINK, &netlink),
        (libc::AF_INET, &internet),
        (libc::AF_INET6, &internet),
    ] {
        let mut conditions = vec![is(0, u64::from(family.unsigned_abs()))?];
        conditions.extend(none_of(2, protocols)?);
        rules.push(rule(conditions)?);
    }
    Ok(rules)
}

fn refused_pairs(policy: &SystemCallPolicy) -> Result<Vec<SeccompRule>, BackendError> {
    let families: Vec<u64> = policy
        .socket_pair_families
        .iter()
        .map(|one| one.number)
        .collect();
    if families.is_empty() {
        return always();
    }
    Ok(vec![rule(none_of(0, &families)?)?])
}

fn refused_ioctls(policy: &SystemCallPolicy) -> Result<Vec<SeccompRule>, BackendError> {
    policy
        .refused_ioctls
        .iter()
        .map(|one| rule(vec![is(1, one.number)?]))
        .collect()
}

/// A rule that every call matches: a number is at least zero.
fn always() -> Result<Vec<SeccompRule>, BackendError> {
    Ok(vec![rule(vec![SeccompCondition::new(
        0,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::Ge,
        0,
    )?])?])
}

/// A rule matches when all its conditions do.
fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions)
}

fn none_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompCondition>, BackendError> {
    values
        .iter()
        .map(|value| is_not(argument, *value))
        .collect()
}

/// The kernel takes the arguments that are compared so as 32 bits.
fn is(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn is_not(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
}

/// Kills calls by the x32 convention. It shares the architecture mark of x86-64 and differs only by a
/// bit in the number, so that filters by number do not see it.
fn without_x32() -> BpfProgram {
    const X32_BIT: u32 = 0x4000_0000;
    /// The offset of the call's number in what a filter is given.
    const NUMBER: u32 = 0;
    let instruction = |code: u32, jump_true, jump_false, operand| seccompiler::sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt: jump_true,
        jf: jump_false,
        k: operand,
    };
    vec![
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, NUMBER),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32_BIT),
        instruction(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_KILL_PROCESS,
        ),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Forbids this thread and all it starts to gain privileges by executing a file.
pub(crate) fn forbid_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}
