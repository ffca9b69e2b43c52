//! The system calls that nothing in a qube has any business with.
//!
//! A deny-list, as container engines use: guests run whole desktops. It closes what namespaces
//! and missing capabilities leave reachable and what has been a way out before.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::OwnedFd;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::{LaunchError, limits};

/// Why a filter could not be built.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The compiler refused a rule.
    #[error("a rule was refused")]
    Compiler(#[from] seccompiler::BackendError),
    /// This processor has no list.
    #[error("there is no list for this processor")]
    Processor,
}

/// Calls answered with `EPERM`.
const REFUSED: &[i64] = &[
    // Mounts: a new root for something that trusts its root.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    // The kernel's key rings are not in any namespace.
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // Large, young or privileged parts of the kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_lookup_dcookie,
    // The machine itself.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_vhangup,
    // Placement of memory on the machine's nodes.
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_set_mempolicy,
];

/// More of them on this processor.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// Calls said not to exist: the C library then uses `clone`, whose flags a filter can see.
const ABSENT: &[i64] = &[libc::SYS_clone3];

/// The last address family that qubes use; those above (vsock, XDP, ...) reach past namespaces.
const LAST_FAMILY: u64 = libc::AF_NETLINK as u64;
/// Families below it that qubes use. The others are amateur radio, Appletalk and their like.
const FAMILIES: [u64; 4] = [
    libc::AF_UNSPEC as u64,
    libc::AF_UNIX as u64,
    libc::AF_INET as u64,
    libc::AF_INET6 as u64,
];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// A rule for one argument.
fn when(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompRule, FilterError> {
    let length = SeccompCmpArgLen::Dword;
    let condition = SeccompCondition::new(argument, length, op, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

fn refused() -> Result<Rules, FilterError> {
    let calls = REFUSED.iter().chain(REFUSED_HERE);
    let mut rules: Rules = calls.map(|call| (*call, Vec::new())).collect();
    let new_user = libc::CLONE_NEWUSER as u64;
    let with_flag = SeccompCmpOp::MaskedEq(new_user);
    for call in [libc::SYS_clone, libc::SYS_unshare] {
        rules.insert(call, vec![when(0, with_flag.clone(), new_user)?]);
    }
    // Typing into somebody else's terminal.
    let typing = [libc::TIOCSTI, libc::TIOCLINUX];
    let typing = typing.map(|request| when(1, SeccompCmpOp::Eq, request));
    rules.insert(
        libc::SYS_ioctl,
        typing.into_iter().collect::<Result<_, _>>()?,
    );
    Ok(rules)
}

fn families() -> Result<Rules, FilterError> {
    let mut rules = vec![when(0, SeccompCmpOp::Gt, LAST_FAMILY)?];
    for family in 0..LAST_FAMILY {
        if !FAMILIES.contains(&family) {
            rules.push(when(0, SeccompCmpOp::Eq, family)?);
        }
    }
    Ok([(libc::SYS_socket, rules)].into())
}

/// The programs, as the kernel takes them. All are loaded; the strictest answer counts.
///
/// # Errors
/// Where the compiler refuses a rule or knows no such processor.
pub fn syscall_filters() -> Result<Vec<Vec<u8>>, FilterError> {
    let absent = ABSENT.iter().map(|call| (*call, Vec::new())).collect();
    [
        (refused()?, libc::EPERM),
        (absent, libc::ENOSYS),
        (families()?, libc::EAFNOSUPPORT),
    ]
    .into_iter()
    .map(|(rules, errno)| compile(rules, errno.unsigned_abs()))
    .collect()
}

fn compile(rules: Rules, errno: u32) -> Result<Vec<u8>, FilterError> {
    let arch: TargetArch = std::env::consts::ARCH
        .try_into()
        .map_err(|_| FilterError::Processor)?;
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        arch,
    )?;
    let program: BpfProgram = filter.try_into()?;
    Ok(foreign_numbers()
        .iter()
        .chain(&program)
        .flat_map(bytes)
        .collect())
}

/// On x86-64 the kernel may also know every call by a second number (x32), which no rule names:
/// refuse them all. Jumps are relative, so this may stand before any program.
fn foreign_numbers() -> Vec<sock_filter> {
    if !cfg!(target_arch = "x86_64") {
        return Vec::new();
    }
    const X32_BIT: u32 = 0x4000_0000;
    // BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JGE|BPF_K, BPF_RET|BPF_K; offset 0 is the call's number.
    let op = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    vec![
        op(0x20, 0, 0, 0),
        op(0x35, 0, 1, X32_BIT),
        op(0x06, 0, 0, refuse),
    ]
}

/// `struct sock_filter` in memory.
fn bytes(instruction: &sock_filter) -> [u8; 8] {
    let [c0, c1] = instruction.code.to_ne_bytes();
    let [k0, k1, k2, k3] = instruction.k.to_ne_bytes();
    [c0, c1, instruction.jt, instruction.jf, k0, k1, k2, k3]
}

/// Each program in a memory file that survives `exec`, at its start.
pub(super) fn inherited(programs: &[Vec<u8>]) -> Result<Vec<OwnedFd>, LaunchError> {
    let doing = || LaunchError::system::<std::io::Error>("writing the system call filter");
    let mut files = Vec::new();
    for program in programs {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let fd = rustix::fs::memfd_create("filter", flags)
            .map_err(LaunchError::system("making a memory file"))?;
        let mut file = std::fs::File::from(fd);
        file.write_all(program).map_err(doing())?;
        std::io::Seek::rewind(&mut file).map_err(doing())?;
        limits::keep_open(&file)?;
        files.push(OwnedFd::from(file));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_fits_what_the_kernel_takes() {
        /// `BPF_MAXINSNS`.
        const INSTRUCTIONS_MAX: usize = 4096;
        let programs = syscall_filters().unwrap();
        assert_eq!(programs.len(), 3);
        for program in programs {
            assert_eq!(program.len() % 8, 0);
            assert!(program.len() / 8 < INSTRUCTIONS_MAX);
        }
    }
}
