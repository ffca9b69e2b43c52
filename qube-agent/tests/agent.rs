//! The agent as a program, against a dom0 and local programs that mean it no good.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_vchan::{Channel, DomId, Port, SocketChannel, SocketDir};
use bulkhead_wire::qrexec::announced::Announced;
use bulkhead_wire::qrexec::control::{DaemonEvent, DaemonLink};
use bulkhead_wire::qrexec::data::{DataDecoder, DataEvent, Role};
use bulkhead_wire::qrexec::trigger::Trigger;
use bulkhead_wire::qrexec::{CONTROL_PORT, Endpoint, Version, hello};

const OWN: u32 = 42;
const HERE: Endpoint = Endpoint {
    domain: 43,
    port: 513,
};

struct Agent {
    dir: tempfile::TempDir,
    child: Child,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn own_name() -> String {
    let users = bulkhead_qrexec::users::Users::read().unwrap();
    users
        .by_uid(rustix::process::geteuid().as_raw())
        .unwrap()
        .name
}

impl Agent {
    fn start() -> Self {
        Self::start_saying(Stdio::inherit())
    }

    /// Starts it with `errors` as its standard error.
    fn start_saying(errors: Stdio) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_qube-agent"))
            .args(["qrexec-agent", "--no-fork-server", "--agent-socket"])
            .arg(dir.path().join("agent"))
            .env("VCHAN_DOMAIN", OWN.to_string())
            .env("VCHAN_SOCKET_DIR", dir.path())
            .env("QREXEC_SERVICE_PATH", dir.path())
            .env("XDG_RUNTIME_DIR", dir.path())
            .env_remove("WAYLAND_DISPLAY")
            .env_remove("DISPLAY")
            .stderr(errors)
            .spawn()
            .unwrap();
        Self { dir, child }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn line(&self) -> SocketChannel {
        let dom0 = SocketDir::new(self.path(), DomId::DOM0);
        dom0.connect(DomId::new(OWN).unwrap(), Port::new(CONTROL_PORT), soon())
            .unwrap()
    }

    fn dom0(&self) -> Dom0 {
        let mut it = Dom0 {
            channel: self.line(),
            link: DaemonLink::new(),
        };
        assert_eq!(
            it.event(),
            Some(DaemonEvent::Connected {
                version: Version::V4
            })
        );
        it
    }

    fn program(&self) -> UnixStream {
        UnixStream::connect(self.path().join("agent")).unwrap()
    }

    /// Runs a command in the "qube"; its output and exit code.
    fn run(&self, dom0: &mut Dom0, cmdline: &str) -> (Vec<u8>, Option<i32>) {
        let caller = SocketDir::new(self.path(), DomId::new(HERE.domain).unwrap());
        let listener = caller
            .listen(DomId::new(OWN).unwrap(), Port::new(HERE.port))
            .unwrap();
        let order = dom0.link.execute(HERE, cmdline.as_bytes(), false).unwrap();
        dom0.say(&order);
        let mut channel = listener.accept(Some(soon())).unwrap();
        channel.write(&[IoSlice::new(&hello(Version::V4))]).unwrap();
        let (mut decoder, mut out, mut code) = (DataDecoder::new(Role::Caller), Vec::new(), None);
        let mut buffer = [0; 4096];
        loop {
            let n = match wait(&mut channel, &mut buffer) {
                0 => return (out, code),
                n => n,
            };
            let mut rest = &buffer[..n];
            while let Some(event) = decoder.push(&mut rest).unwrap() {
                match event {
                    DataEvent::Bytes(_, bytes) => out.extend_from_slice(bytes),
                    DataEvent::Exit(exit) => code = Some(exit),
                    _ => {}
                }
            }
        }
    }
}

fn wait(channel: &mut SocketChannel, buffer: &mut [u8]) -> usize {
    loop {
        match channel.read(buffer) {
            Ok(n) => return n,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

struct Dom0 {
    channel: SocketChannel,
    link: DaemonLink,
}

impl Dom0 {
    fn say(&mut self, bytes: &[u8]) {
        assert_eq!(
            self.channel.write(&[IoSlice::new(bytes)]).unwrap(),
            bytes.len()
        );
    }

    /// One byte at a time, so that no second event is lost.
    fn event(&mut self) -> Option<DaemonEvent> {
        let mut byte = [0];
        loop {
            if wait(&mut self.channel, &mut byte) == 0 {
                return None;
            }
            let mut reply = Vec::new();
            let event = self.link.push(&mut &byte[..], &mut reply).unwrap();
            self.say(&reply);
            if event.is_some() {
                return event;
            }
        }
    }
}

#[test]
fn a_line_that_breaks_the_protocol_is_offered_again() {
    let agent = Agent::start();
    for bytes in [
        &[0xff; 64][..],
        &hello(Version::V4)[..5],
        &[0, 3, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0],
    ] {
        let mut line = agent.line();
        line.write(&[IoSlice::new(bytes)]).unwrap();
        if bytes.len() == 5 {
            // Half a message, then hang up, on a line that was taken: what waits behind one that
            // was not is lost with it.
            assert!(wait(&mut line, &mut [0; 64]) > 0);
            drop(line);
        } else {
            let mut rest = [0; 64];
            while wait(&mut line, &mut rest) > 0 {}
        }
    }
    let mut dom0 = agent.dom0();
    let line = format!("{}:echo still here", own_name());
    assert_eq!(
        agent.run(&mut dom0, &line),
        (b"still here\n".to_vec(), Some(0))
    );
    assert_eq!(dom0.event(), Some(DaemonEvent::Terminated(HERE)));
}

#[test]
fn what_runs_finds_the_session_once_there_is_one() {
    let agent = Agent::start();
    let mut dom0 = agent.dom0();
    let line = format!("{}:echo $WAYLAND_DISPLAY $DISPLAY $INJECTED", own_name());
    assert_eq!(agent.run(&mut dom0, &line), (b"\n".to_vec(), Some(0)));
    assert_eq!(dom0.event(), Some(DaemonEvent::Terminated(HERE)));
    let session = agent.path().join("qube-gui-session");
    let text = "WAYLAND_DISPLAY=wayland-0\nDISPLAY=:7\nINJECTED=/x\n";
    std::fs::write(session, text).unwrap();
    let said = b"wayland-0 :7\n".to_vec();
    assert_eq!(agent.run(&mut dom0, &line), (said, Some(0)));
}

#[test]
fn a_line_that_cannot_be_offered_is_offered_later() {
    let mut agent = Agent::start_saying(Stdio::piped());
    let mut errors = BufReader::new(agent.child.stderr.take().unwrap());
    drop(agent.dom0());
    // Once more, so that it is about to offer again when there is nowhere to do so.
    let dom0 = agent.dom0();
    let away = agent.path().with_extension("away");
    std::fs::rename(agent.path(), &away).unwrap();
    drop(dom0);
    let mut said = String::new();
    errors.read_line(&mut said).unwrap();
    assert!(said.contains("cannot offer dom0 a line"), "{said}");
    std::fs::rename(&away, agent.path()).unwrap();
    let mut dom0 = agent.dom0();
    let line = format!("{}:echo back", own_name());
    assert_eq!(agent.run(&mut dom0, &line), (b"back\n".to_vec(), Some(0)));
}

#[test]
fn a_service_name_of_four_kibibytes_and_other_users_are_refused() {
    let agent = Agent::start();
    let mut dom0 = agent.dom0();
    let user = own_name();
    let name = "s".repeat(4096);
    for line in [
        format!("{user}:QUBESRPC {name} work"),
        format!("{user}:QUBESRPC ../../bin/true work"),
        "no-such-user:true".into(),
        "no user at all".into(),
    ] {
        assert_eq!(agent.run(&mut dom0, &line).1, Some(125), "{line:.40}");
        assert_eq!(dom0.event(), Some(DaemonEvent::Terminated(HERE)));
    }
    let argument = format!("{user}:QUBESRPC none+{name} work");
    assert_eq!(agent.run(&mut dom0, &argument).1, Some(127));
}

#[test]
fn programs_that_flood_or_stall_do_not_keep_others_from_calling() {
    let agent = Agent::start();
    let mut dom0 = agent.dom0();
    // They connect and say nothing.
    let stalled: Vec<_> = (0..200).map(|_| agent.program()).collect();
    for round in 0..2000 {
        let mut garbage = agent.program();
        let _ = garbage.write_all(&[0xfe; 32]);
        let mut byte = [0];
        assert_eq!(garbage.read(&mut byte).unwrap_or(0), 0, "{round}");
    }
    let mut program = agent.program();
    let ask = Trigger::ask("", "work", "qubes.X");
    program
        .write_all(&ask.encode(Version::V4).unwrap())
        .unwrap();
    let Some(DaemonEvent::Request(request)) = dom0.event() else {
        panic!("no request")
    };
    assert_eq!(request.service, "qubes.X");
    let refusal = dom0.link.refuse(&request.ident).unwrap();
    dom0.say(&refusal);
    assert_eq!(program.read(&mut [0]).unwrap(), 0);
    drop(stalled);
}

#[test]
fn requests_without_dom0_are_refused_at_once() {
    let agent = Agent::start();
    drop(agent.dom0());
    let mut program = agent.program();
    let ask = Trigger::ask("", "work", "qubes.X");
    program
        .write_all(&ask.encode(Version::V4).unwrap())
        .unwrap();
    assert_eq!(program.read(&mut [0]).unwrap_or(0), 0);
}

/// `qrexec-client-vm` with an announcement, on the socket at `agent`.
fn announcing(agent: &Path, announcement: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_qube-agent"))
        .args(["qrexec-client-vm", "--agent-socket"])
        .arg(agent)
        .args([&format!("--announce={announcement}"), "vault", "qubes.X"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn what_a_program_announces_comes_with_its_request_and_leaves_with_it() {
    let agent = Agent::start();
    let mut dom0 = agent.dom0();
    let some = Announced {
        files: 3,
        folders: 1,
        bytes: 13_002_342,
        at_least: false,
    };
    let requested = |dom0: &mut Dom0| match dom0.event() {
        Some(DaemonEvent::Request(request)) => request.ident,
        other => panic!("{other:?}"),
    };
    let mut program = announcing(&agent.path().join("agent"), &some.encode());
    let ident = requested(&mut dom0);
    assert_eq!(ident.announced(), Some(some));
    let refusal = dom0.link.refuse(&ident).unwrap();
    dom0.say(&refusal);
    assert_eq!(program.wait().unwrap().code(), Some(126));
    // Taken back under the same name.
    let mut program = announcing(&agent.path().join("agent"), &some.encode());
    let ident = requested(&mut dom0);
    program.kill().unwrap();
    program.wait().unwrap();
    assert_eq!(dom0.event(), Some(DaemonEvent::Withdrawn(ident)));
    // Who announces nothing is named as ever.
    let mut program = agent.program();
    let ask = Trigger::ask("", "work", "qubes.X");
    program
        .write_all(&ask.encode(Version::V4).unwrap())
        .unwrap();
    let ident = requested(&mut dom0);
    assert!(ident.as_str().starts_with("SOCKET"), "{ident:?}");
    let mut wrong = announcing(&agent.path().join("agent"), "E1.2");
    assert_eq!(wrong.wait().unwrap().code(), Some(2));
}

#[test]
fn an_agent_that_knows_no_announcements_gets_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent");
    let listener = UnixListener::bind(&path).unwrap();
    let mut program = announcing(&path, "L3.1.7qoo6");
    let (mut stream, _) = listener.accept().unwrap();
    let plain = Trigger::ask("", "vault", "qubes.X");
    let expected = plain.encode(Version::V4).unwrap();
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, expected);
    // Nothing follows: such an agent would take it for the end.
    stream.set_nonblocking(true).unwrap();
    let more = stream.read(&mut [0]).unwrap_err();
    assert_eq!(more.kind(), std::io::ErrorKind::WouldBlock);
    drop(stream);
    assert_eq!(program.wait().unwrap().code(), Some(126));
}
