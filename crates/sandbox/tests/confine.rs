//! A confined process tries what it must no longer be able to do. Each attempt runs in a process of
//! its own, once without confinement to show that the attempt itself works.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed helper fails its test"
)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use bulkhead_sandbox::confine::{Confinement, Layer, MemoryFiles, Report, confine};
use bulkhead_sandbox::inherit::{InheritError, close_uninvited, take_inherited};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

const HOW: Confinement = Confinement {
    uid: 0x7000_1234,
    files_max: 64,
    memory_max: 64 << 20,
    requests: &[libc::FIONREAD as u32],
    memory_files: MemoryFiles::None,
};

/// Exit codes of a child that was not killed.
const DONE: i32 = 0;
const FAILED: i32 = 10;
const REFUSED: i32 = 11;
const UNCONFINED: i32 = 12;

/// Runs `act` in a child process that has one thread.
fn in_child(act: impl FnOnce() -> i32) -> WaitStatus {
    waitpid(spawn(act), None).unwrap()
}

fn spawn(act: impl FnOnce() -> i32) -> Pid {
    // SAFETY: the child has this thread alone; the C library makes its allocator usable there, no
    // other lock is taken, and it ends in `_exit`.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let code = act();
            // SAFETY: ends the process, runs nothing else.
            unsafe { libc::_exit(code) }
        }
    }
}

fn in_confined_child(act: impl FnOnce() -> i32) -> WaitStatus {
    in_child(|| match confine(&HOW) {
        Ok(_) => act(),
        Err(_) => UNCONFINED,
    })
}

fn code(done: io::Result<()>) -> i32 {
    match done {
        Ok(()) => DONE,
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => REFUSED,
        Err(_) => FAILED,
    }
}

fn check(value: libc::c_long) -> i32 {
    code(if value < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    })
}

fn call(number: libc::c_long, a: i64, b: i64, c: i64) -> i32 {
    // SAFETY: the numbers and arguments below are valid for their calls or refused by the kernel.
    check(unsafe { libc::syscall(number, a, b, c) })
}

#[track_caller]
fn assert_killed(name: &str, act: impl Fn() -> i32) {
    let free = in_child(&act);
    assert!(
        matches!(free, WaitStatus::Exited(..)),
        "{name} works unconfined: {free:?}"
    );
    let confined = in_confined_child(&act);
    assert!(
        matches!(confined, WaitStatus::Signaled(_, Signal::SIGSYS, _)),
        "{name} ends a confined process: {confined:?}"
    );
}

#[track_caller]
fn assert_refused(name: &str, act: impl Fn() -> i32) {
    let free = in_child(&act);
    assert!(
        matches!(free, WaitStatus::Exited(_, DONE)),
        "{name} works unconfined: {free:?}"
    );
    let confined = in_confined_child(&act);
    assert!(
        matches!(confined, WaitStatus::Exited(_, REFUSED)),
        "{name} is refused: {confined:?}"
    );
}

#[test]
fn files_cannot_be_opened_made_or_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    assert_killed("reading a file", || {
        code(File::open("/proc/self/status").map(drop))
    });
    assert_killed("making a file", || code(File::create(&path).map(drop)));
    assert_killed("removing a file", || code(std::fs::remove_file(&path)));
    assert_killed("making a folder", || code(std::fs::create_dir(&path)));
    assert_killed("renaming", || code(std::fs::rename(&path, dir.path())));
    assert_killed("linking", || code(std::os::unix::fs::symlink("/", &path)));
    assert_killed("a memory file", || {
        call(libc::SYS_memfd_create, c"x".as_ptr() as i64, 0, 0)
    });
    assert_refused("looking at a file", || {
        code(std::fs::metadata("/").map(drop))
    });
}

#[test]
fn devices_are_asked_for_what_was_named_and_nothing_else() {
    let file = tempfile::tempfile().unwrap();
    let ask = |request| {
        let mut answer: libc::c_int = 0;
        let fd = file.as_raw_fd();
        // SAFETY: both requests take a pointer to one `int`.
        check(unsafe { libc::ioctl(fd, request, &raw mut answer) }.into())
    };
    let named = in_confined_child(|| ask(libc::FIONREAD));
    assert!(matches!(named, WaitStatus::Exited(_, DONE)), "{named:?}");
    assert_refused("another request", || ask(libc::FIONBIO));
}

#[test]
fn files_of_memory_are_looked_at_by_who_is_sent_some() {
    // SAFETY: a name and a flag.
    let fd = unsafe { libc::memfd_create(c"x".as_ptr(), libc::MFD_ALLOW_SEALING) };
    // SAFETY: takes no further argument.
    let seals = || check(unsafe { libc::fcntl(fd, libc::F_GET_SEALS) }.into());
    let system = || {
        let mut stat = std::mem::MaybeUninit::<libc::statfs>::uninit();
        // SAFETY: writes into that structure.
        check(unsafe { libc::fstatfs(fd, stat.as_mut_ptr()) }.into())
    };
    assert_refused("looking at seals", seals);
    assert_refused("looking at a file system", system);
    let how = Confinement {
        memory_files: MemoryFiles::Checked,
        ..HOW
    };
    let both = in_child(|| match confine(&how) {
        Ok(_) => seals().max(system()),
        Err(_) => UNCONFINED,
    });
    assert!(matches!(both, WaitStatus::Exited(_, DONE)), "{both:?}");
}

#[test]
fn files_of_memory_are_made_by_who_sends_some_and_end_at_their_limit() {
    let make = |flags: libc::c_uint| {
        // SAFETY: a name and flags.
        unsafe { libc::memfd_create(c"x".as_ptr(), flags) }
    };
    let how = Confinement {
        memory_files: MemoryFiles::Made { bytes_max: 100 },
        ..HOW
    };
    let confined = |act: &dyn Fn() -> i32| {
        in_child(|| match confine(&how) {
            Ok(_) => act(),
            Err(_) => UNCONFINED,
        })
    };
    let sealable = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let write = |len: usize, at: i64| {
        let fd = make(sealable);
        let bytes = [7_u8; 101];
        // SAFETY: the bytes are there.
        let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), len) };
        let seals = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK;
        // SAFETY: takes a number.
        let sealed = unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) };
        let mut byte = 0_u8;
        // SAFETY: there is room for a byte.
        let read = unsafe { libc::pread(fd, (&raw mut byte).cast(), 1, at) };
        i32::from((written, sealed, read, byte) != (100, 0, 1, 7))
    };
    let whole = confined(&|| write(100, 99));
    assert!(matches!(whole, WaitStatus::Exited(_, DONE)), "{whole:?}");
    // One more is not written, and no signal ends the process.
    let more = confined(&|| write(101, 99));
    assert!(matches!(more, WaitStatus::Exited(_, DONE)), "{more:?}");
    let other = || check(make(libc::MFD_CLOEXEC).into());
    let free = in_child(other);
    assert!(matches!(free, WaitStatus::Exited(_, DONE)), "{free:?}");
    let other = confined(&other);
    assert!(matches!(other, WaitStatus::Exited(_, REFUSED)), "{other:?}");
}

#[test]
fn sockets_cannot_be_made_connected_or_bound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = tcp.local_addr().unwrap();
    assert_killed("a Unix connection", || {
        code(UnixStream::connect(&path).map(drop))
    });
    assert_killed("a TCP connection", || {
        code(TcpStream::connect(at).map(drop))
    });
    assert_killed("a TCP listener", || {
        code(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop))
    });
    assert_killed("a pair", || code(UnixStream::pair().map(drop)));
    // Also through a descriptor that was open before.
    let fd = i64::from(tcp.as_raw_fd());
    assert_killed("connecting an inherited socket", || {
        call(libc::SYS_connect, fd, 0, 0)
    });
    assert_killed("binding an inherited socket", || {
        call(libc::SYS_bind, fd, 0, 0)
    });
    assert_killed("listening on an inherited socket", || {
        call(libc::SYS_listen, fd, 1, 0)
    });
}

#[test]
fn other_processes_cannot_be_seen_signalled_or_traced() {
    let parent = i64::from(std::process::id());
    assert_killed("asking for a process", || {
        call(libc::SYS_kill, parent, 0, 0)
    });
    assert_killed("signalling a thread", || {
        call(libc::SYS_tkill, parent, 0, 0)
    });
    assert_killed("signalling a foreign thread", || {
        call(libc::SYS_tgkill, parent, parent, 0)
    });
    // PTRACE_SEIZE: unlike PTRACE_ATTACH it does not stop the parent where it succeeds.
    assert_killed("tracing", || call(libc::SYS_ptrace, 0x4206, parent, 0));
    assert_killed("a process descriptor", || {
        call(libc::SYS_pidfd_open, parent, 0, 0)
    });
    assert_killed("reading memory", || {
        call(libc::SYS_process_vm_readv, parent, 0, 0)
    });
    assert_killed("listing processes", || {
        code(std::fs::read_dir("/proc").map(drop))
    });
    assert_refused("asking for the parent", || call(libc::SYS_getppid, 0, 0, 0));
}

#[test]
fn programs_threads_and_code_cannot_be_started() {
    assert_killed("a program", || {
        code(Command::new("/bin/true").status().map(drop))
    });
    assert_killed("exec", || {
        let argv = [c"/bin/true".as_ptr(), std::ptr::null()];
        call(libc::SYS_execve, argv[0] as i64, argv.as_ptr() as i64, 0)
    });
    assert_killed("fork", || {
        // SAFETY: the new process ends at once.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: as above.
            unsafe { libc::_exit(0) }
        }
        check(pid.into())
    });
    assert_killed("a thread", || {
        let thread = std::thread::Builder::new().spawn(|| ());
        code(thread.map(drop))
    });
    assert_killed("executable memory", || {
        call(
            libc::SYS_mprotect,
            0,
            0,
            i64::from(libc::PROT_EXEC | libc::PROT_READ),
        )
    });
}

#[test]
fn privilege_cannot_be_regained() {
    assert_killed("another user", || call(libc::SYS_setuid, 0, 0, 0));
    assert_killed("a user namespace", || {
        call(libc::SYS_unshare, 0x1000_0000, 0, 0)
    });
    assert_killed("a mount", || call(libc::SYS_mount, 0, 0, 0));
    assert_killed("a ring", || call(libc::SYS_io_uring_setup, 1, 0, 0));
    assert_killed("bpf", || call(libc::SYS_bpf, 0, 0, 0));
}

#[test]
fn what_a_relay_does_still_works() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"ping").unwrap();
    let status = in_confined_child(|| {
        let mut buffer = [0; 4];
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.read_exact(&mut buffer).unwrap();
        accepted.set_nonblocking(true).unwrap_err();
        let flags = rustix::fs::fcntl_getfl(&accepted).unwrap();
        rustix::fs::fcntl_setfl(&accepted, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
        let big = vec![1_u8; 8 << 20];
        theirs.write_all(&buffer).unwrap();
        i32::from(big.iter().map(|b| u64::from(*b)).sum::<u64>() != 8 << 20)
    });
    assert!(matches!(status, WaitStatus::Exited(_, DONE)), "{status:?}");
    let mut got = [0; 4];
    ours.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"ping");
}

#[test]
fn memory_past_the_limit_is_not_given() {
    let status = in_confined_child(|| {
        let mut more = Vec::<u8>::new();
        let within = more.try_reserve_exact(16 << 20).is_ok();
        let past = Vec::<u8>::new().try_reserve_exact(128 << 20).is_ok();
        i32::from(!within || past)
    });
    assert!(matches!(status, WaitStatus::Exited(_, DONE)), "{status:?}");
}

#[test]
fn an_abort_still_ends_the_process_by_its_own_signal() {
    let status = in_confined_child(|| std::process::abort());
    assert!(
        matches!(status, WaitStatus::Signaled(_, Signal::SIGABRT, _)),
        "{status:?}"
    );
}

#[test]
fn what_nobody_took_is_closed_and_what_is_owned_is_not() {
    // In a child of its own: it closes what other tests may be about to take.
    let status = in_child(|| {
        let owned = File::open("/dev/null").unwrap();
        let stray = File::open("/dev/null").unwrap().into_raw_fd();
        // SAFETY: it is open, and only its flags are changed.
        let borrowed = unsafe { BorrowedFd::borrow_raw(stray) };
        rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::empty()).unwrap();
        let closed = close_uninvited().unwrap();
        let gone = matches!(take_inherited(stray), Err(InheritError::Closed(..)));
        i32::from(closed == 0 || !gone || owned.metadata().is_err())
    });
    assert!(matches!(status, WaitStatus::Exited(_, DONE)), "{status:?}");
}

/// What the kernel says about a confined child, and what the child said.
fn inspect() -> (String, Report, bool) {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let pid = spawn(|| {
        let report = confine(&HOW).unwrap();
        let layers = [
            &report.namespaces,
            &report.empty_root,
            &report.own_uid,
            &report.landlock,
        ];
        let said: Vec<u8> = layers
            .map(|layer| u8::from(*layer == Layer::Holds))
            .to_vec();
        theirs.write_all(&said).unwrap();
        theirs.read_exact(&mut [0]).map_or(FAILED, |()| DONE)
    });
    let mut said = [0; 4];
    ours.read_exact(&mut said).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let net = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/net"));
    // Only root may look at the namespaces of a process that cannot be dumped.
    let apart = net(&pid.to_string()).map_or(true, |theirs| theirs != net("self").unwrap());
    ours.write_all(&[1]).unwrap();
    waitpid(pid, None).unwrap();
    let layer = |holds: u8| match holds {
        1 => Layer::Holds,
        _ => Layer::Missing(String::new()),
    };
    let [a, b, c, d] = said;
    let report = Report {
        namespaces: layer(a),
        empty_root: layer(b),
        own_uid: layer(c),
        landlock: layer(d),
    };
    (status, report, apart)
}

#[test]
fn the_kernel_confirms_what_the_report_says() {
    let (status, report, apart) = inspect();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..]
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(field("Seccomp:"), ["2"]);
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    for caps in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(caps), ["0000000000000000"], "{caps}");
    }
    if report.own_uid == Layer::Holds {
        let uid = HOW.uid.to_string();
        assert_eq!(field("Uid:"), vec![uid.clone(); 4]);
        assert_eq!(field("Gid:"), vec![uid; 4]);
        assert!(field("Groups:").is_empty());
    }
    if report.namespaces == Layer::Holds {
        assert!(apart, "the network namespace is its own");
    }
    let root = nix::unistd::geteuid().is_root();
    assert_eq!(
        report.own_uid == Layer::Holds,
        root && report.namespaces == Layer::Holds
    );
}
