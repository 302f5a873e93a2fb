//! What this program gives up, from the outside in: resources, descriptors, identity, the file
//! system and the network, and last all system calls but a few.
//!
//! The layers overlap on purpose. Landlock is missing from some kernels, and is then done without:
//! the filter of system calls alone leaves nothing to open or connect. The filter itself has no
//! substitute; without it nothing is compiled.

use anyhow::Context as _;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, Scope,
};
use rustix::{
    process::{DumpableBehavior, Resource, Rlimit, geteuid, set_dumpable_behavior, setrlimit},
    thread::{Gid, Uid, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;
use windlass_runtime::aot::{HELPER_CPU_SECONDS, HELPER_MEMORY_BYTES};

/// The user and group that own nothing, on all Linux systems.
const NOBODY: u32 = 65534;

/// Everything but the filter of system calls. There is one thread still, and so these hold for
/// the whole process.
pub fn give_up_rights() -> anyhow::Result<()> {
    close_descriptors().context("closing inherited descriptors")?;
    set_no_new_privs(true).context("giving up new privileges")?;
    become_nobody().context("becoming nobody")?;
    // After the change of user, which would set it again.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("hiding from debuggers")?;
    give_up_files_and_network().context("setting up Landlock")?;
    // Last, since Landlock needs a descriptor for a moment.
    limit_resources().context("limiting resources")
}

fn close_descriptors() -> std::io::Result<()> {
    #[expect(unsafe_code, reason = "closing descriptors that nobody here owns has no safe form")]
    // SAFETY: called at the start of `main`; the only descriptors this program uses are 0 to 2.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
    let error = std::io::Error::last_os_error();
    // Older than Linux 5.9. The agent marks all of its own to be closed on exec anyway.
    if closed == 0 || error.raw_os_error() == Some(libc::ENOSYS) { Ok(()) } else { Err(error) }
}

fn limit_resources() -> rustix::io::Result<()> {
    for (resource, limit) in [
        (Resource::As, HELPER_MEMORY_BYTES),
        (Resource::Cpu, HELPER_CPU_SECONDS),
        // Pipes are not files: this holds for what it might create.
        (Resource::Fsize, 0),
        // No new descriptors and no new threads; the three that are open stay.
        (Resource::Nofile, 0),
        (Resource::Nproc, 0),
        (Resource::Core, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
    ] {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    Ok(())
}

fn become_nobody() -> rustix::io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)
}

fn give_up_files_and_network() -> anyhow::Result<()> {
    // No rule follows, so nothing of what is handled is allowed. What the kernel does not know is
    // left out.
    let newest = ABI::V6;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?
        .restrict_self()?;
    Ok(())
}

/// Leave only what a program needs that reads, computes, and writes.
pub fn give_up_system_calls() -> anyhow::Result<()> {
    let anything: Vec<SeccompRule> = Vec::new();
    let not_executable = || -> anyhow::Result<Vec<SeccompRule>> {
        // Compiled code is written, never run in here.
        let exec = u64::try_from(libc::PROT_EXEC)?;
        let condition = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(exec), 0)?;
        Ok(vec![SeccompRule::new(vec![condition])?])
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_clock_gettime,
        libc::SYS_sched_yield,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ]
    .into_iter()
    .map(|call| (call, anything.clone()))
    .collect();
    rules.insert(libc::SYS_mmap, not_executable()?);
    rules.insert(libc::SYS_mprotect, not_executable()?);
    let filter = SeccompFilter::new(
        rules,
        // Refused instead of killed: libraries ask for things they can do without.
        SeccompAction::Errno(u32::try_from(libc::EPERM)?),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program).context("setting up the filter of system calls")
}
