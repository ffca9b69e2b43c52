//! The pump against real processes, real pipes and hostile peers.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::io::{self, IoSlice, PipeReader, PipeWriter, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_qrexec::launch::{Diagnostics, Program, start};
use bulkhead_qrexec::pump::{
    Ending, Errors, Input, Options, Output, PumpError, Streams, Switch, exit_code, run,
};
use bulkhead_vchan::channel::Wants;
use bulkhead_vchan::xen::channel::RingChannel;
use bulkhead_vchan::xen::pair::PairedBell;
use bulkhead_vchan::xen::{RingSizes, pair};
use bulkhead_vchan::{Channel, SocketChannel};
use bulkhead_wire::qrexec::data::{Role, eof, exit_code as exit_message};
use bulkhead_wire::qrexec::{Header, Kind, Version, hello};
use rustix::event::PollFlags;

type Served = Result<Ending, PumpError>;

/// A service under a shell; the far end of its channel.
fn service(script: &str) -> (UnixStream, thread::JoinHandle<Served>) {
    let (near, far) = UnixStream::pair().unwrap();
    let mut command = Program::new("/bin/sh");
    command.args(["-c", script]);
    let served = thread::spawn(move || {
        let (streams, child) = start(&command, Diagnostics::Stream).unwrap();
        let mut options = Options::new(Role::Service);
        options.switch = Some(Switch::new().unwrap());
        let mut channel = SocketChannel::new(near.into()).unwrap();
        run(&mut channel, streams, Some(child), options)
    });
    (far, served)
}

/// A caller that reads `input`; its outputs, and the far end of its channel.
fn caller(
    input: &'static [u8],
    options: Options,
) -> (UnixStream, PipeReader, thread::JoinHandle<Served>) {
    let (near, far) = UnixStream::pair().unwrap();
    let (stdin, mut feed) = io::pipe().unwrap();
    let (out, stdout) = io::pipe().unwrap();
    thread::spawn(move || feed.write_all(input));
    let served = thread::spawn(move || {
        let streams = Streams {
            input: Some(Input::new(stdin.into()).unwrap()),
            output: Some(Output::new(stdout.into()).unwrap()),
            errors: Errors::None,
        };
        let mut channel = SocketChannel::new(near.into()).unwrap();
        run(&mut channel, streams, None, options)
    });
    (far, out, served)
}

fn message(kind: Kind, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap();
    [&Header { kind, len }.encode()[..], body].concat()
}

/// Everything the other side sends after its HELLO, by kind.
fn messages(far: &mut UnixStream) -> Vec<(Kind, Vec<u8>)> {
    let mut bytes = Vec::new();
    // A peer that left bytes of ours unread resets the connection after the last of its own.
    let _ = far.read_to_end(&mut bytes);
    let mut rest = bytes
        .strip_prefix(&hello(Version::V4))
        .expect("a HELLO comes first");
    let mut out = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk() {
        let header = Header::decode(*head).unwrap();
        let (body, after) = after.split_at(header.len as usize);
        out.push((header.kind, body.to_vec()));
        rest = after;
    }
    out
}

fn of(kind: Kind, all: &[(Kind, Vec<u8>)]) -> Vec<u8> {
    all.iter()
        .filter(|(k, _)| *k == kind)
        .flat_map(|(_, body)| body.clone())
        .collect()
}

#[test]
fn a_service_gets_its_input_and_tells_everything() {
    let (mut far, served) = service("cat; echo problem >&2; exit 3");
    far.write_all(&hello(Version::V4)).unwrap();
    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut writer = far.try_clone().unwrap();
    let sent = data.clone();
    let writing = thread::spawn(move || {
        for chunk in sent.chunks(65_536) {
            writer.write_all(&message(Kind::Stdin, chunk)).unwrap();
        }
        writer.write_all(&eof(Kind::Stdin)).unwrap();
    });
    let all = messages(&mut far);
    writing.join().unwrap();
    assert!(of(Kind::Stdout, &all) == data);
    assert_eq!(of(Kind::Stderr, &all), b"problem\n");
    assert_eq!(all.last().unwrap(), &(Kind::ExitCode, vec![3, 0, 0, 0]));
    for kind in [Kind::Stdout, Kind::Stderr] {
        let ends = all
            .iter()
            .filter(|(k, body)| *k == kind && body.is_empty())
            .count();
        assert_eq!(ends, 1, "{kind:?}");
    }
    assert_eq!(served.join().unwrap().unwrap().local, Some(3));
}

#[test]
fn a_killed_service_is_told_as_128_and_the_signal() {
    let (mut far, _served) = service("kill -KILL $$");
    far.write_all(&hello(Version::V4)).unwrap();
    let all = messages(&mut far);
    assert_eq!(of(Kind::ExitCode, &all), 137u32.to_le_bytes());
}

#[test]
fn chunks_respect_an_old_peer() {
    let (mut far, _served) = service("head -c 100000 /dev/zero");
    far.write_all(&hello(Version::V2)).unwrap();
    let all = messages(&mut far);
    assert_eq!(of(Kind::Stdout, &all).len(), 100_000);
    assert!(all.iter().all(|(_, body)| body.len() <= 4096));
}

#[test]
fn output_on_standard_input_counts_without_any_signal() {
    let (mut far, _served) = service("read x; exec 1>&-; echo \"got $x\" >&0");
    far.write_all(&hello(Version::V4)).unwrap();
    far.write_all(&message(Kind::Stdin, b"word\n")).unwrap();
    let text = String::from_utf8(of(Kind::Stdout, &messages(&mut far))).unwrap();
    // Closed output ends the stream unless the other descriptor was used by then.
    assert!(text == "got word\n" || text.is_empty(), "{text}");
}

#[test]
fn a_peer_that_vanishes_ends_the_call_and_the_service() {
    for part in [
        &b""[..],
        &hello(Version::V4)[..7],
        &hello(Version::V4)[..],
        b"\0\x03\0\0",
    ] {
        let (mut far, served) = service("cat >/dev/null; exit 0");
        far.write_all(part).unwrap();
        drop(far);
        assert!(served.join().unwrap().unwrap().cut, "{part:?}");
    }
    let (mut far, served) = service("cat >/dev/null");
    far.write_all(&hello(Version::V4)).unwrap();
    far.write_all(&message(Kind::Stdin, &[1; 100])[..50])
        .unwrap();
    drop(far);
    assert!(served.join().unwrap().unwrap().cut);
}

#[test]
fn hostile_frames_end_the_call() {
    let long = Header {
        kind: Kind::Stdin,
        len: 65_537,
    }
    .encode();
    let huge = Header {
        kind: Kind::Stdin,
        len: u32::MAX,
    }
    .encode();
    let wrong = message(Kind::ExecCmdline, b"root:rm");
    for bytes in [&long[..], &huge[..], &wrong[..], &[0xff; 64][..]] {
        let (mut far, served) = service("cat >/dev/null");
        far.write_all(&hello(Version::V4)).unwrap();
        far.write_all(bytes).unwrap();
        assert!(
            matches!(served.join().unwrap(), Err(PumpError::Data(_))),
            "{bytes:?}"
        );
    }
    let (mut far, served) = service("cat >/dev/null");
    far.write_all(&message(Kind::Stdin, b"no hello")).unwrap();
    assert!(matches!(served.join().unwrap(), Err(PumpError::Data(_))));
}

#[test]
fn a_reader_that_stalls_is_not_buffered_for() {
    let (mut far, mut out, served) = caller(b"", Options::new(Role::Caller));
    far.write_all(&hello(Version::V4)).unwrap();
    let mut pushing = far.try_clone().unwrap();
    pushing.set_nonblocking(true).unwrap();
    let chunk = message(Kind::Stdout, &[7; 65_536]);
    let mut sent = Vec::new();
    let mut idle = 0;
    // Nobody reads the caller's output: what it takes must come to an end.
    while idle < 50 {
        let at = sent.len() % chunk.len();
        match pushing.write(&chunk[at..]) {
            Ok(n) => {
                sent.extend_from_slice(&chunk[at..at + n]);
                idle = 0;
            }
            Err(_) => {
                idle += 1;
                thread::sleep(Duration::from_millis(2));
            }
        }
        assert!(sent.len() < 8 << 20, "{}", sent.len());
    }
    far.set_nonblocking(false).unwrap();
    let at = sent.len() % chunk.len();
    let reading = thread::spawn(move || {
        let mut all = Vec::new();
        out.read_to_end(&mut all).map(|_| all)
    });
    far.write_all(&chunk[at..]).unwrap();
    far.write_all(&eof(Kind::Stdout)).unwrap();
    far.write_all(&exit_message(0)).unwrap();
    let whole = sent.len() / chunk.len() + 1;
    assert_eq!(reading.join().unwrap().unwrap().len(), whole * 65_536);
    assert_eq!(served.join().unwrap().unwrap().remote, Some(0));
}

#[test]
fn a_caller_sends_its_prefix_and_input_and_one_end() {
    let mut options = Options::new(Role::Caller);
    options.prefix = b"first ".to_vec();
    let (mut far, _out, served) = caller(b"then", options);
    far.write_all(&hello(Version::V4)).unwrap();
    far.write_all(&eof(Kind::Stdout)).unwrap();
    let mut near = far.try_clone().unwrap();
    let mut head = vec![0; 12 + 8 + 6 + 8 + 4 + 8];
    near.read_exact(&mut head).unwrap();
    assert_eq!(&head[20..26], b"first ");
    assert_eq!(&head[34..38], b"then");
    assert_eq!(&head[38..], eof(Kind::Stdin));
    far.write_all(&exit_message(42)).unwrap();
    let ending = served.join().unwrap().unwrap();
    assert_eq!((exit_code(&ending), ending.cut), (42, false));
    let mut rest = Vec::new();
    near.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn terminals_are_spared_what_could_act_on_them() {
    let mut options = Options::new(Role::Caller);
    options.filter_main = true;
    let (mut far, mut out, _served) = caller(b"", options);
    far.write_all(&hello(Version::V4)).unwrap();
    far.write_all(&message(Kind::Stdout, b"a\x1b[31m\0\xff\tb\n"))
        .unwrap();
    far.write_all(&eof(Kind::Stdout)).unwrap();
    let mut text = Vec::new();
    out.read_to_end(&mut text).unwrap();
    assert_eq!(text, b"a_[31m__\tb\n");
}

#[test]
fn a_caller_without_an_exit_code_fails() {
    let (mut far, _out, served) = caller(b"", Options::new(Role::Caller));
    far.write_all(&hello(Version::V4)).unwrap();
    far.write_all(&eof(Kind::Stdout)).unwrap();
    drop(far);
    let ending = served.join().unwrap().unwrap();
    assert_eq!((exit_code(&ending), ending.cut), (255, true));
}

#[test]
fn a_local_program_that_fails_fails_a_call_that_did_not() {
    let ending = |remote, local| Ending {
        remote,
        local,
        ..Ending::default()
    };
    assert_eq!(exit_code(&ending(Some(0), Some(1))), 1);
    assert_eq!(exit_code(&ending(Some(42), Some(1))), 42);
    assert_eq!(exit_code(&ending(Some(0), None)), 0);
    assert_eq!(exit_code(&ending(None, Some(0))), 255);
}

/// Both ends of a call over a ring, which has no half close and no hang-up to poll for.
#[test]
fn a_call_over_rings_gets_its_input_and_tells_everything() {
    for sizes in [RingSizes { left: 0, right: 0 }, RingSizes::DATA] {
        let (mut server, mut client, _memory) = pair::pair(sizes).unwrap();
        let served = thread::spawn(move || {
            let mut command = Program::new("/bin/sh");
            command.args(["-c", "cat; exit 3"]);
            let (streams, child) = start(&command, Diagnostics::Stream).unwrap();
            run(
                &mut client,
                streams,
                Some(child),
                Options::new(Role::Service),
            )
        });
        let (stdin, mut feed) = io::pipe().unwrap();
        let (mut out, stdout) = io::pipe().unwrap();
        let data: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let sent = data.clone();
        let feeding = thread::spawn(move || feed.write_all(&sent));
        let calling = thread::spawn(move || {
            let streams = Streams {
                input: Some(Input::new(stdin.into()).unwrap()),
                output: Some(Output::new(stdout.into()).unwrap()),
                errors: Errors::None,
            };
            run(&mut server, streams, None, Options::new(Role::Caller))
        });
        let mut back = Vec::new();
        out.read_to_end(&mut back).unwrap();
        assert!(back == data);
        feeding.join().unwrap().unwrap();
        assert_eq!(calling.join().unwrap().unwrap().remote, Some(3));
        assert_eq!(served.join().unwrap().unwrap().local, Some(3));
    }
}

/// A peer that is gone while what it sent before cannot be read yet ends the call over a ring too.
#[test]
fn a_caller_that_leaves_a_ring_hangs_up_on_a_service_that_does_not_read() {
    let (mut server, mut client, _memory) = pair::pair(RingSizes::DATA).unwrap();
    let served = thread::spawn(move || {
        let mut command = Program::new("/bin/sh");
        command.args(["-c", "exec sleep 1000"]);
        let (streams, child) = start(&command, Diagnostics::Stream).unwrap();
        let mut options = Options::new(Role::Service);
        options.hang_up = Some(Duration::from_millis(100));
        run(&mut client, streams, Some(child), options)
    });
    let mut bytes = hello(Version::V4).to_vec();
    for _ in 0..30 {
        bytes.extend(message(Kind::Stdin, &[7; 60_000]));
    }
    // Until the service's pipe and the ring are full.
    let mut rest = &bytes[..];
    let full = Instant::now() + Duration::from_millis(500);
    while Instant::now() < full {
        match server.write(&[IoSlice::new(rest)]) {
            Ok(n) => rest = &rest[n..],
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
    drop(server);
    let ending = served.join().unwrap().unwrap();
    assert!(ending.cut, "{ending:?}");
}

/// A ring of whose peer's end nothing tells: one has to look, and then finds it.
#[derive(Debug)]
struct Untold<C> {
    ring: C,
    due: Instant,
}

impl Channel for Untold<RingChannel<PairedBell>> {
    fn fd(&self) -> BorrowedFd<'_> {
        self.ring.fd()
    }

    fn poll_flags(&self, wants: Wants) -> PollFlags {
        self.ring.poll_flags(wants)
    }

    fn acknowledge(&mut self) -> io::Result<()> {
        if self.patience() == Some(Duration::ZERO) {
            self.ring.peer_died();
        }
        self.ring.acknowledge()
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.due.saturating_duration_since(Instant::now()))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ring.read(buffer)
    }

    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.ring.write(parts)
    }

    fn hung_up(&self, reported: PollFlags) -> bool {
        self.ring.hung_up(reported)
    }
}

#[test]
fn a_peer_of_whose_end_nothing_tells_is_looked_for() {
    // One service waits for more, the other does not even read.
    for (script, bytes) in [("cat", 0), ("exec sleep 1000", 250_000)] {
        let (mut server, ring, _memory) = pair::pair(RingSizes::both(512 * 1024)).unwrap();
        let mut say = |bytes: &[u8]| {
            assert_eq!(server.write(&[IoSlice::new(bytes)]).unwrap(), bytes.len());
        };
        say(&hello(Version::V4));
        for _ in 0..bytes / 50_000 {
            say(&message(Kind::Stdin, &[7; 50_000]));
        }
        let mut command = Program::new("/bin/sh");
        command.args(["-c", script]);
        let (streams, child) = start(&command, Diagnostics::Stream).unwrap();
        let mut options = Options::new(Role::Service);
        options.hang_up = Some(Duration::from_millis(100));
        let due = Instant::now() + Duration::from_millis(300);
        let ending = run(&mut Untold { ring, due }, streams, Some(child), options).unwrap();
        assert!(ending.cut, "{script}: {ending:?}");
    }
}

/// A caller over rings whose peer never signals its end; what it hears of the peer by, and its
/// far end after it was told hello and `sent`.
fn caller_of_a_domain(
    sent: &[u8],
) -> (
    PipeWriter,
    impl Channel,
    PipeReader,
    thread::JoinHandle<Served>,
) {
    let (near, mut far, _memory) = pair::pair(RingSizes::DATA).unwrap();
    let (peer, told) = io::pipe().unwrap();
    let (out, stdout) = io::pipe().unwrap();
    far.write(&[IoSlice::new(&hello(Version::V3)), IoSlice::new(sent)])
        .unwrap();
    let served = thread::spawn(move || {
        let mut near = near;
        let mut options = Options::new(Role::Caller);
        options.peer = Some(peer.into());
        let streams = Streams {
            input: None,
            output: Some(Output::new(stdout.into()).unwrap()),
            errors: Errors::None,
        };
        run(&mut near, streams, None, options)
    });
    (told, far, out, served)
}

#[test]
fn what_a_domain_sent_before_it_was_gone_arrives_and_then_the_call_is_cut() {
    let mut message = Header {
        kind: Kind::Stdout,
        len: 4,
    }
    .encode()
    .to_vec();
    message.extend(b"last");
    let (mut told, far, mut out, served) = caller_of_a_domain(&message);
    told.write_all(b"its domain is gone").unwrap();
    let mut said = String::new();
    out.read_to_string(&mut said).unwrap();
    assert_eq!(said, "last");
    let ending = served.join().unwrap().unwrap();
    assert!(ending.cut && ending.remote.is_none());
    drop(far);
}

#[test]
fn who_would_tell_of_a_domain_may_go_and_the_call_goes_on() {
    let (told, mut far, mut out, served) = caller_of_a_domain(&[]);
    drop(told);
    for message in [eof(Kind::Stdout).to_vec(), exit_message(7).to_vec()] {
        far.write(&[IoSlice::new(&message)]).unwrap();
    }
    let mut said = String::new();
    out.read_to_string(&mut said).unwrap();
    assert_eq!(served.join().unwrap().unwrap().remote, Some(7));
}
