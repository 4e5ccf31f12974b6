//! The seccomp filters that enforce the declared policy. A filter, once loaded, holds for the thread
//! and all it starts, and can only become stricter.

use std::collections::BTreeMap;
use std::io;

use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::error::Fault;
use crate::native::policy::{SystemCall, SystemCallPolicy};

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

fn compile(policy: &SystemCallPolicy) -> Result<Filters, seccompiler::BackendError> {
    let whole = |calls: &[SystemCall]| -> Rules {
        calls.iter().map(|call| (call.number, Vec::new())).collect()
    };
    let mut refused = whole(&policy.refused);
    refused.insert(libc::SYS_clone, any_flag(policy.clone_flags)?);
    refused.insert(libc::SYS_socket, none_of(0, &policy.socket_families)?);
    refused.insert(libc::SYS_ioctl, one_of(1, &policy.ioctl_commands)?);
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

fn program(rules: Rules, action: SeccompAction) -> Result<BpfProgram, seccompiler::BackendError> {
    SeccompFilter::new(rules, SeccompAction::Allow, action, ARCHITECTURE)?.try_into()
}

fn any_flag(flags: u64) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    (0..u64::BITS)
        .map(|bit| 1 << bit)
        .filter(|flag| flags & flag != 0)
        .map(|flag| {
            rule(
                0,
                SeccompCmpArgLen::Qword,
                SeccompCmpOp::MaskedEq(flag),
                flag,
            )
        })
        .collect()
}

fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    values
        .iter()
        .map(|value| rule(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *value))
        .collect()
}

/// One rule that matches when the argument is none of the values; the whole call if there are none.
fn none_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let conditions = values
        .iter()
        .map(|value| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *value)
        })
        .collect::<Result<_, _>>()?;
    Ok(vec![SeccompRule::new(conditions)?])
}

fn rule(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(
        argument, length, operator, value,
    )?])
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
