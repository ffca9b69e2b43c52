//! A relay process, and the ends of everything it is connected to.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bulkhead_vchan::seqpacket::{pair, recv_packet, send_packet};
use bulkhead_wire::end::{Carrier, End};
use bulkhead_wire::qrexec::control::{AgentEvent, AgentLink};
use bulkhead_wire::qrexec::trigger::Trigger;
use bulkhead_wire::qrexec::{Ident, Version};
use bulkhead_wire::relay::{FromRelay, PACKET_MAX, ToRelay, decode, encode};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use tempfile::TempDir;

/// Nothing here takes long; a wait past this is a failure and not a hang.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Relay {
    pub(crate) daemon: OwnedFd,
    pub(crate) child: Child,
    pub(crate) dir: TempDir,
    pub(crate) confinement: String,
}

/// Starts the program with one end of a pair as descriptor 3.
pub(crate) fn start() -> (OwnedFd, Child) {
    let (ours, theirs) = pair().unwrap();
    set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE)).unwrap();
    // The shell moves it there: no descriptor of this process is ever open across an exec.
    let program = env!("CARGO_BIN_EXE_bulkhead-relay");
    let child = Command::new("sh")
        .args(["-c", "exec \"$0\" --fd 3 3<&0 </dev/null", program])
        .stdin(Stdio::from(theirs))
        .spawn()
        .unwrap();
    (ours, child)
}

impl Relay {
    pub(crate) fn new() -> Self {
        let (daemon, child) = start();
        let dir = tempfile::tempdir().unwrap();
        let database = UnixListener::bind(dir.path().join("111")).unwrap();
        let clients = UnixListener::bind(dir.path().join("qrexec")).unwrap();
        let mut relay = Self {
            daemon,
            child,
            dir,
            confinement: String::new(),
        };
        let setup = ToRelay::Setup {
            qube: "work".into(),
            domid: 7,
            default_user: "user".into(),
            serve_clients: true,
            carrier: Carrier::Sockets,
        };
        relay.send(&setup, &[database.as_fd(), clients.as_fd()]);
        let FromRelay::Ready { confinement } = relay.receive() else {
            panic!("not ready")
        };
        relay.confinement = confinement;
        relay
    }

    pub(crate) fn send(&self, message: &ToRelay, fds: &[BorrowedFd<'_>]) {
        send_packet(&self.daemon, &encode(message).unwrap(), fds).unwrap();
    }

    pub(crate) fn receive(&self) -> FromRelay {
        let mut buffer = vec![0; PACKET_MAX];
        let len = recv_packet(&self.daemon, &mut buffer, &mut Vec::new()).unwrap();
        assert!(len > 0, "the relay is gone");
        decode(&buffer[..len]).unwrap()
    }

    pub(crate) fn connect(&self, socket: &str) -> UnixStream {
        patient(UnixStream::connect(self.dir.path().join(socket)).unwrap())
    }

    /// A control channel on which nothing was said.
    pub(crate) fn attach(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.send(&ToRelay::AttachControl(End::Socket), &[theirs.as_fd()]);
        patient(ours)
    }

    pub(crate) fn agent(&self) -> Agent {
        let (link, hello) = AgentLink::start();
        let mut agent = Agent {
            stream: self.attach(),
            link,
        };
        agent.stream.write_all(&hello).unwrap();
        assert_eq!(self.receive(), FromRelay::AgentConnected { version: 4 });
        assert_eq!(
            agent.next(),
            AgentEvent::Connected {
                version: Version::V4
            }
        );
        agent
    }

    pub(crate) fn status(&self, field: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(field)).unwrap();
        line[field.len()..].trim().to_owned()
    }

    /// Most memory it ever had, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.status("VmHWM:")
            .trim_end_matches(" kB")
            .parse()
            .unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // A child of ours that was not waited for, so its id is still its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn patient(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) struct Agent {
    pub(crate) stream: UnixStream,
    link: AgentLink,
}

impl Agent {
    /// The next event; reads byte by byte, so that none is lost between calls.
    pub(crate) fn next(&mut self) -> AgentEvent {
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            if let Some(event) = self.link.push(&mut &byte[..]).unwrap() {
                return event;
            }
        }
    }

    pub(crate) fn ask(&mut self, slot: u32) {
        self.stream
            .write_all(&trigger(slot, "qubes.Filecopy"))
            .unwrap();
    }
}

pub(crate) fn trigger(slot: u32, service: &str) -> Vec<u8> {
    let mut trigger = Trigger::ask("", "vault", service);
    trigger.ident = Ident::for_slot(slot);
    trigger.encode(Version::V4).unwrap()
}
