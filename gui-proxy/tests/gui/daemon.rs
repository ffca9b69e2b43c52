//! The line to the daemon, whose other end the test is.

use std::os::fd::{BorrowedFd, OwnedFd};

use bulkhead_vchan::seqpacket::{recv_packet, send_packet};
use bulkhead_wire::gui::Version;
use bulkhead_wire::proxy::{FromProxy, ToProxy};
use bulkhead_wire::relay::{decode, encode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::agent::{Agent, size};
use crate::session::{Proxy, Session};
use crate::windows::pattern;

/// How long a test waits for what must come, in seconds.
const PATIENCE: i64 = 60;

/// What the daemon would do.
pub(crate) struct Daemon(pub(crate) OwnedFd);

impl Daemon {
    /// Of a proxy that is confined and whose agent speaks the newest version.
    #[track_caller]
    pub(crate) fn start(session: &Session, name: &str, more: &[&str]) -> (Proxy, Agent, Self) {
        Self::start_old(session, name, Version::NEWEST, more)
    }

    /// The same where the agent speaks this one.
    #[track_caller]
    pub(crate) fn start_old(
        session: &Session,
        name: &str,
        version: Version,
        more: &[&str],
    ) -> (Proxy, Agent, Self) {
        let (proxy, agent, line) = session.qube_of_daemon(name, version, more);
        let it = Self(line);
        match it.hears() {
            (FromProxy::Ready { confinement }, files) => {
                assert!(confinement.starts_with("seccomp") && files.is_empty());
            }
            other => panic!("{other:?}"),
        }
        let pictures = version.has_pictures();
        let version = (1, version.minor().into());
        let connected = FromProxy::AgentConnected { version, pictures };
        assert_eq!(it.hears().0, connected);
        match it.hears().0 {
            FromProxy::Monitors(layout) => assert_eq!(layout.monitors().len(), 1),
            other => panic!("{other:?}"),
        }
        (proxy, agent, it)
    }

    /// The next message, and what it carries.
    #[track_caller]
    pub(crate) fn hears(&self) -> (FromProxy, Vec<OwnedFd>) {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let patience = Timespec {
            tv_sec: PATIENCE,
            tv_nsec: 0,
        };
        let ready = poll(&mut fds, Some(&patience)).expect("a wait");
        assert_eq!(ready, 1, "the proxy is silent");
        let (mut buffer, mut files) = ([0; 4096], Vec::new());
        let len = recv_packet(&self.0, &mut buffer, &mut files).expect("a packet");
        assert_ne!(len, 0, "the proxy has left");
        (decode(&buffer[..len]).expect("a message"), files)
    }

    pub(crate) fn say(&self, message: &ToProxy, files: &[BorrowedFd<'_>]) {
        let packet = encode(message).expect("a packet");
        send_packet(&self.0, &packet, files).expect("a proxy");
    }

    pub(crate) fn raw(&self, packet: &[u8]) {
        send_packet(&self.0, packet, &[]).expect("a proxy");
    }
}

#[test]
fn without_its_daemon_a_proxy_ends_in_order() {
    let session = Session::start();
    let (mut proxy, mut agent, daemon) = Daemon::start(&session, "work", &[]);
    agent.window(1, (100, 100), size(50, 50), pattern);
    agent.sync();
    drop(daemon);
    assert!(proxy.ended().success(), "{}", proxy.log());
    proxy.must_say("the daemon has gone");
}

#[test]
fn a_daemon_that_says_what_is_no_message_is_none() {
    let session = Session::start();
    let (mut proxy, _agent, daemon) = Daemon::start(&session, "work", &[]);
    daemon.raw(&[77, 1, 2]);
    let last = proxy.failed();
    assert!(last.contains("a packet is malformed"), "{last}");
}

#[test]
fn the_agents_end_is_one_that_the_daemon_sees() {
    let session = Session::start();
    let (mut proxy, agent, daemon) = Daemon::start(&session, "work", &[]);
    drop(agent);
    assert!(proxy.ended().success());
    let (mut buffer, mut files) = ([0; 64], Vec::new());
    let len = recv_packet(&daemon.0, &mut buffer, &mut files).expect("an end");
    assert_eq!(len, 0);
}
