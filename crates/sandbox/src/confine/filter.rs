//! The system calls that a confined process may still make.
//!
//! Two filters. The first allows what is listed and answers anything else with `EPERM`: a C library
//! that probes for something new must not take every relay down. The second kills for what no
//! honest relay ever asks for, however its libraries change: whoever calls `execve` here has taken
//! the process over, and a dead relay is noticed where a failed call is not. The kernel obeys the
//! stricter answer.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};
use thiserror::Error;

use super::MemoryFiles;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Why there is no filter.
#[derive(Debug, Error)]
pub enum FilterError {
    /// A rule does not compile.
    #[error("a seccomp rule does not compile")]
    Compile(#[from] BackendError),
    /// The kernel refused it.
    #[error("the kernel refused a seccomp filter")]
    Install(#[from] seccompiler::Error),
}

/// Allowed with any arguments: descriptors that are open, own memory, time, signals to itself.
const ALLOWED: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];

#[cfg(target_arch = "x86_64")]
const ALLOWED_OLD: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[i64] = &[];

/// What a descriptor may be asked to do by `fcntl`.
const FCNTL_ALLOWED: &[libc::c_int] = &[libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];

/// How a file of memory may be made: of pages of the usual size, and to be sealed.
const MEMORY_FILE_FLAGS: libc::c_uint = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;

/// Calls that end the process.
const KILLED: &[i64] = &[
    // Files.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_open_by_handle_at,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    // Sockets.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    // Programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_kcmp,
    // Identity, namespaces, mounts.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    // Large, young or privileged parts of the kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_personality,
    libc::SYS_shmget,
    libc::SYS_shmat,
];

#[cfg(target_arch = "x86_64")]
const KILLED_OLD: &[i64] = &[
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
];
#[cfg(not(target_arch = "x86_64"))]
const KILLED_OLD: &[i64] = &[];

/// Installs both filters for the calling thread. `no_new_privs` must be set. `requests` are those
/// that `ioctl` may make.
pub(super) fn install(requests: &[u32], files: MemoryFiles) -> Result<(), FilterError> {
    apply_filter(&compile(
        killed(files)?,
        SeccompAction::Allow,
        SeccompAction::KillProcess,
    )?)?;
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    apply_filter(&compile(
        allowed(requests, files)?,
        refuse,
        SeccompAction::Allow,
    )?)?;
    Ok(())
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, otherwise, matched, arch)?.try_into()
}

fn allowed(requests: &[u32], files: MemoryFiles) -> Result<Rules, BackendError> {
    let mut rules = unconditional(&[ALLOWED, ALLOWED_OLD]);
    let seals: &[libc::c_int] = match files {
        MemoryFiles::None => &[],
        MemoryFiles::Checked => {
            rules.insert(libc::SYS_fstatfs, Vec::new());
            &[libc::F_GET_SEALS]
        }
        MemoryFiles::Made { .. } => {
            rules.insert(libc::SYS_fstatfs, Vec::new());
            rules.insert(libc::SYS_pread64, Vec::new());
            let flags = u64::from(MEMORY_FILE_FLAGS);
            let make = rule(1, SeccompCmpOp::Eq, flags)?;
            rules.insert(libc::SYS_memfd_create, vec![make]);
            &[libc::F_GET_SEALS, libc::F_ADD_SEALS]
        }
    };
    let commands = FCNTL_ALLOWED.iter().chain(seals);
    let commands = commands.map(|c| u64::from(c.unsigned_abs()));
    let commands = commands
        .map(|c| rule(1, SeccompCmpOp::Eq, c))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_fcntl, commands);
    // No rule at all would mean any request.
    if !requests.is_empty() {
        let requests = requests
            .iter()
            .map(|r| rule(1, SeccompCmpOp::Eq, (*r).into()));
        rules.insert(libc::SYS_ioctl, requests.collect::<Result<_, _>>()?);
    }
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![rule(2, SeccompCmpOp::MaskedEq(exec_bit()), 0)?]);
    }
    // A panic aborts by a signal to the own process.
    rules.insert(
        libc::SYS_tgkill,
        vec![rule(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?],
    );
    Ok(rules)
}

fn killed(files: MemoryFiles) -> Result<Rules, BackendError> {
    let mut rules = unconditional(&[KILLED, KILLED_OLD]);
    if !matches!(files, MemoryFiles::Made { .. }) {
        rules.insert(libc::SYS_memfd_create, Vec::new());
    }
    let executable = rule(2, SeccompCmpOp::MaskedEq(exec_bit()), exec_bit())?;
    for call in [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
        rules.insert(call, vec![executable.clone()]);
    }
    rules.insert(
        libc::SYS_tgkill,
        vec![rule(0, SeccompCmpOp::Ne, u64::from(std::process::id()))?],
    );
    Ok(rules)
}

fn unconditional(lists: &[&[i64]]) -> Rules {
    lists
        .iter()
        .flat_map(|list| list.iter())
        .map(|call| (*call, Vec::new()))
        .collect()
}

fn exec_bit() -> u64 {
    u64::from(libc::PROT_EXEC.unsigned_abs())
}

fn rule(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)?;
    SeccompRule::new(vec![condition])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_both_allowed_and_killed() {
        let killed = [KILLED, KILLED_OLD].concat();
        for call in [ALLOWED, ALLOWED_OLD].concat() {
            assert!(!killed.contains(&call), "system call {call}");
        }
    }

    #[test]
    fn both_filters_compile() {
        for (requests, files) in [
            (&[][..], MemoryFiles::None),
            (&[1, 2], MemoryFiles::Checked),
            (&[], MemoryFiles::Made { bytes_max: 1 }),
        ] {
            let killed = killed(files).unwrap();
            compile(killed, SeccompAction::Allow, SeccompAction::KillProcess).unwrap();
            compile(
                allowed(requests, files).unwrap(),
                SeccompAction::Trap,
                SeccompAction::Allow,
            )
            .unwrap();
        }
    }
}
