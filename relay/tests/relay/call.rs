//! The pump of a call, between a scripted daemon, a scripted service and a scripted caller.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_vchan::SocketChannel;
use bulkhead_vchan::seqpacket::{pair, send_packet};
use bulkhead_wire::end::{Carrier, End};
use bulkhead_wire::relay::encode;
use bulkhead_wire::service::{Report, ToPump};
use serde::Serialize;

use crate::bench::patient;

const SETUP: ToPump = ToPump::Setup {
    domid: 7,
    carrier: Carrier::Sockets,
};

const STDIN: u32 = 0x190;
const STDOUT: u32 = 0x191;
const STDERR: u32 = 0x192;
const EXIT: u32 = 0x193;
const HELLO: u32 = 0x300;

struct Pump {
    child: Child,
    daemon: OwnedFd,
    report: OwnedFd,
    stdin: UnixStream,
    stdout: Option<PipeWriter>,
    stderr: Option<PipeWriter>,
    said: PipeReader,
}

fn send(to: &OwnedFd, message: &impl Serialize, fds: &[&OwnedFd]) {
    let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    send_packet(to, &encode(message).unwrap(), &fds).unwrap();
}

impl Pump {
    fn new() -> Self {
        let (daemon, theirs) = pair().unwrap();
        let (said, errors) = std::io::pipe().unwrap();
        // The shell moves it there: no descriptor of this process is ever open across an exec.
        let program = env!("CARGO_BIN_EXE_bulkhead-relay");
        let child = Command::new("sh")
            .args(["-c", "exec \"$0\" --call --fd 3 3<&0 </dev/null", program])
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        let (report, reports) = pair().unwrap();
        let (stdin, stdin_near) = UnixStream::pair().unwrap();
        let (stdout_near, stdout) = std::io::pipe().unwrap();
        let (stderr_near, stderr) = std::io::pipe().unwrap();
        let near: [OwnedFd; 4] = [
            reports,
            stdin_near.into(),
            stdout_near.into(),
            stderr_near.into(),
        ];
        send(&daemon, &SETUP, &near.each_ref());
        Self {
            child,
            daemon,
            report,
            stdin: patient(stdin),
            stdout: Some(stdout),
            stderr: Some(stderr),
            said,
        }
    }

    /// The caller's end of the data channel.
    fn caller(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let theirs = SocketChannel::new(theirs.into()).unwrap().into_inner();
        send(&self.daemon, &ToPump::Channel(End::Socket), &[&theirs]);
        patient(ours)
    }

    fn tell(&self, report: Report, fds: &[&OwnedFd]) {
        send(&self.report, &report, fds);
    }

    fn status(&self, field: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(field)).unwrap();
        line[field.len()..].trim().to_owned()
    }

    fn ended(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // A child of ours that was not waited for, so its id is still its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(to: &mut UnixStream, kind: u32, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap();
    let message = [&kind.to_le_bytes()[..], &length.to_le_bytes(), body].concat();
    to.write_all(&message).unwrap();
}

fn hear(from: &mut UnixStream) -> (u32, Vec<u8>) {
    let mut header = [0; 8];
    from.read_exact(&mut header).unwrap();
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
    let mut body = vec![0; word(4) as usize];
    from.read_exact(&mut body).unwrap();
    (word(0), body)
}

fn greet(caller: &mut UnixStream) {
    say(caller, HELLO, &3u32.to_le_bytes());
    assert_eq!(hear(caller).0, HELLO);
}

#[test]
fn a_program_is_served_from_a_process_that_can_do_nothing_else() {
    let mut pump = Pump::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while pump.status("Seccomp:") != "2" || pump.status("Seccomp_filters:") != "2" {
        assert!(Instant::now() < deadline, "it is never confined");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(pump.status("NoNewPrivs:"), "1");
    assert_eq!(pump.status("CapEff:"), "0000000000000000");
    assert_eq!(pump.status("CapPrm:"), "0000000000000000");
    assert_eq!(pump.status("Threads:"), "1");
    if rustix::process::geteuid().is_root() {
        let uid = 0x7fff_0007_u32.to_string();
        let uids = pump.status("Uid:");
        assert_eq!(uids.split_whitespace().collect::<Vec<_>>(), [&uid; 4]);
        // Its own streams and another of its errors, the daemon, reports, and the service's three.
        let fds = std::fs::read_dir(format!("/proc/{}/fd", pump.child.id())).unwrap();
        assert_eq!(fds.count(), 9);
    }
    let mut caller = pump.caller();
    pump.tell(Report::Running, &[]);
    greet(&mut caller);
    say(&mut caller, STDIN, b"in");
    let mut got = [0; 2];
    pump.stdin.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"in");
    say(&mut caller, STDIN, b"");
    assert_eq!(pump.stdin.read(&mut got).unwrap(), 0);
    pump.stdout.as_mut().unwrap().write_all(b"out").unwrap();
    assert_eq!(hear(&mut caller), (STDOUT, b"out".to_vec()));
    pump.stderr.as_mut().unwrap().write_all(b"err\n").unwrap();
    assert_eq!(hear(&mut caller), (STDERR, b"err\n".to_vec()));
    (pump.stdout, pump.stderr) = (None, None);
    let mut ends = [hear(&mut caller), hear(&mut caller)];
    ends.sort();
    assert_eq!(ends, [(STDOUT, Vec::new()), (STDERR, Vec::new())]);
    pump.tell(Report::Ended { code: 7 }, &[]);
    assert_eq!(hear(&mut caller), (EXIT, vec![7, 0, 0, 0]));
    drop(caller);
    assert_eq!(pump.ended(), 0);
    let mut said = String::new();
    pump.said.read_to_string(&mut said).unwrap();
    assert_eq!(said, "err\n", "and it is in the log too");
}

#[test]
fn a_socket_service_is_taken_over_from_whoever_connected_it() {
    let mut pump = Pump::new();
    let (mut service, theirs) = UnixStream::pair().unwrap();
    let connected = Report::Connected {
        exit_on_client_eof: true,
        exit_on_service_eof: false,
    };
    pump.tell(connected, &[&theirs.into()]);
    let mut caller = pump.caller();
    greet(&mut caller);
    assert_eq!(hear(&mut caller), (STDERR, Vec::new()));
    say(&mut caller, STDIN, b"in");
    let mut got = [0; 2];
    service.read_exact(&mut got).unwrap();
    service.write_all(b"out").unwrap();
    assert_eq!(hear(&mut caller), (STDOUT, b"out".to_vec()));
    say(&mut caller, STDIN, b"");
    assert_eq!(hear(&mut caller), (STDOUT, Vec::new()));
    assert_eq!(hear(&mut caller), (EXIT, vec![0; 4]));
    drop(caller);
    assert_eq!(pump.ended(), 0);
}

#[test]
fn a_service_that_wants_its_input_for_both_directions_gets_that() {
    let mut pump = Pump::new();
    let mut caller = pump.caller();
    pump.tell(Report::Running, &[]);
    greet(&mut caller);
    pump.tell(Report::Switch, &[]);
    pump.stdout = None;
    pump.stdin.write_all(b"back").unwrap();
    assert_eq!(hear(&mut caller), (STDOUT, b"back".to_vec()));
    pump.tell(Report::Ended { code: 0 }, &[]);
    pump.stderr = None;
    pump.stdin.shutdown(std::net::Shutdown::Both).unwrap();
    let heard: Vec<u32> = (0..3).map(|_| hear(&mut caller).0).collect();
    assert!(heard.ends_with(&[EXIT]), "{heard:x?}");
}

#[test]
fn what_did_not_start_is_told_by_its_exit_code() {
    for (report, code) in [(Some(Report::Failed { code: 127 }), 127), (None, 125)] {
        let mut pump = Pump::new();
        let mut caller = pump.caller();
        match report {
            Some(report) => pump.tell(report, &[]),
            // Whoever should report is gone.
            None => drop(std::mem::replace(&mut pump.report, pair().unwrap().0)),
        }
        greet(&mut caller);
        assert_eq!(hear(&mut caller), (STDOUT, Vec::new()));
        assert_eq!(hear(&mut caller), (STDERR, Vec::new()));
        assert_eq!(hear(&mut caller), (EXIT, vec![code, 0, 0, 0]));
        drop(caller);
        assert_eq!(pump.ended(), 0);
    }
}

/// Whether the service would be hung up on: nobody takes reports any more.
fn is_hung_up_on(pump: &Pump) -> bool {
    let flags = rustix::event::PollFlags::empty();
    let mut fds = [rustix::event::PollFd::new(&pump.report, flags)];
    let wait = rustix::event::Timespec {
        tv_sec: 60,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut fds, Some(&wait)).unwrap();
    fds[0].revents().contains(rustix::event::PollFlags::HUP)
}

#[test]
fn a_caller_that_breaks_the_protocol_or_goes_ends_the_call() {
    let header = |kind: u32, len: u32| [kind.to_le_bytes(), len.to_le_bytes()].concat();
    let hello = [header(HELLO, 4), 3u32.to_le_bytes().to_vec()].concat();
    let cases: [(Vec<u8>, i32); 5] = [
        (vec![0xff; 64], 1),
        ([hello.clone(), header(STDIN, 0xffff_ffff)].concat(), 1),
        ([hello.clone(), header(0x999, 0)].concat(), 1),
        ([hello.clone(), hello.clone()].concat(), 1),
        (hello, 0),
    ];
    for (bytes, code) in cases {
        let mut pump = Pump::new();
        let mut caller = pump.caller();
        pump.tell(Report::Running, &[]);
        caller.write_all(&bytes).unwrap();
        if code == 0 {
            drop(caller);
        }
        assert!(is_hung_up_on(&pump), "{bytes:?}");
        assert_eq!(pump.ended(), code, "{bytes:?}");
    }
}

#[test]
fn the_end_of_the_daemon_or_of_its_patience_is_the_end_of_the_call() {
    // Before the caller has come, while the service is being started, and while it runs.
    for stage in 0..3 {
        let mut pump = Pump::new();
        let caller = (stage > 0).then(|| pump.caller());
        if stage > 1 {
            pump.tell(Report::Running, &[]);
            greet(&mut caller.as_ref().unwrap().try_clone().unwrap());
        }
        drop(std::mem::replace(&mut pump.daemon, pair().unwrap().0));
        assert!(is_hung_up_on(&pump));
        assert_eq!(pump.ended(), 0);
        drop(caller);
    }
}

#[test]
fn a_start_without_what_it_needs_is_refused() {
    let program = env!("CARGO_BIN_EXE_bulkhead-relay");
    let code = |args: &[&str]| Command::new(program).args(args).status().unwrap().code();
    assert_eq!(code(&["--call"]), Some(2));
    assert_eq!(code(&["--call", "--fd", "x"]), Some(2));
    assert_eq!(code(&["--call", "--fd", "77"]), Some(1));
}
