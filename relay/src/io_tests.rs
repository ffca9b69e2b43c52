use std::io::IoSlice;

use bulkhead_vchan::Channel;
use bulkhead_vchan::xen::RingChannel;
use bulkhead_vchan::xen::RingSizes;
use bulkhead_vchan::xen::pair::{PairedBell, pair};
use bulkhead_wire::end::Carrier;
use bulkhead_wire::qrexec::control::{AgentEvent, AgentLink};
use bulkhead_wire::qrexec::trigger::Trigger;
use bulkhead_wire::qrexec::{Ident, Version};
use bulkhead_wire::relay::FromRelay;

use super::*;
use crate::Setup;

/// A relay of rings, the daemon's end and both of the guest's.
struct Bench {
    io: Io,
    daemon: OwnedFd,
    agent: RingChannel<PairedBell>,
    database: RingChannel<PairedBell>,
}

fn bench() -> Bench {
    let (near, far) = seqpacket::pair().unwrap();
    let core = Core::new(Setup {
        qube: "work".into(),
        domid: 7,
        default_user: "user".into(),
        carrier: Carrier::Rings,
    });
    let sockets = Sockets {
        daemon: far,
        database: None,
        clients: None,
    };
    unblock(&near)
        .and_then(|()| unblock(&sockets.daemon))
        .unwrap();
    let mut io = Io::new(core, sockets);
    let (agent, control, _) = pair(RingSizes::DATA).unwrap();
    let (served, database, _) = pair(RingSizes::CONTROL).unwrap();
    io.core.control_up();
    io.control = Some(Line::rings(Box::new(control)));
    io.core.database_up();
    io.database = Some(Line::rings(Box::new(served)));
    Bench {
        io,
        daemon: near,
        agent,
        database,
    }
}

impl Bench {
    fn said(&self) -> Option<FromRelay> {
        let mut buffer = vec![0; PACKET_MAX];
        let len = seqpacket::recv_packet(&self.daemon, &mut buffer, &mut Vec::new()).ok()?;
        Some(relay::decode(&buffer[..len]).unwrap())
    }

    /// Turns, of which none may wait, until the relay says something.
    fn next(&mut self) -> FromRelay {
        for _ in 0..1000 {
            if let Some(message) = self.said() {
                return message;
            }
            assert!(self.io.turn().unwrap());
        }
        panic!("the relay says nothing");
    }

    fn write(&mut self, bytes: &[u8]) {
        assert_eq!(
            self.agent.write(&[IoSlice::new(bytes)]).unwrap(),
            bytes.len()
        );
    }

    fn connect(&mut self) {
        let (mut link, hello) = AgentLink::start();
        self.write(&hello);
        assert_eq!(self.next(), FromRelay::AgentConnected { version: 4 });
        let mut buffer = [0; 64];
        let n = self.agent.read(&mut buffer).unwrap();
        let event = link.push(&mut &buffer[..n]).unwrap();
        assert!(matches!(event, Some(AgentEvent::Connected { .. })));
    }
}

#[test]
fn an_agent_says_hello_and_calls_over_rings() {
    let mut bench = bench();
    bench.connect();
    let mut call = Trigger::ask("", "vault", "qubes.Filecopy");
    call.ident = Ident::for_slot(1);
    let request = call.encode(Version::V4).unwrap();
    // More than is read in one turn, and one event for all of it.
    for _ in 0..20 {
        bench.write(&request);
    }
    for _ in 0..20 {
        assert!(
            matches!(bench.next(), FromRelay::CallRequest { service, .. } if service == "qubes.Filecopy")
        );
    }
}

#[test]
fn one_turn_takes_a_chunk_of_a_guest_that_floods_and_looks_at_the_others() {
    let mut bench = bench();
    bench.connect();
    bench.write(&[0xff; 60_000]);
    // The start of a message of the other channel.
    bench.database.write(&[IoSlice::new(&[0; 7])]).unwrap();
    let room = |channel: &mut RingChannel<PairedBell>| {
        let mut sent = 0;
        while let Ok(n) = channel.write(&[IoSlice::new(&[0; 4096])]) {
            sent += n;
        }
        sent
    };
    bench.io.turn().unwrap();
    assert_eq!(room(&mut bench.database), 4096, "all of it was read");
    let taken = room(&mut bench.agent);
    assert!(taken < 60_000, "{taken} bytes were taken in one turn");
}

#[test]
fn rings_that_break_are_told_and_end_nothing_else() {
    let mut bench = bench();
    bench.connect();
    let database = std::mem::replace(&mut bench.database, pair(RingSizes::DATA).unwrap().0);
    drop(database);
    assert!(matches!(bench.next(), FromRelay::DbLost { .. }));
    assert!(bench.io.core.control_is_up());
    let agent = std::mem::replace(&mut bench.agent, pair(RingSizes::DATA).unwrap().0);
    drop(agent);
    assert_eq!(
        bench.next(),
        FromRelay::AgentLost {
            reason: String::new()
        }
    );
    assert!(bench.io.control.is_none() && bench.io.database.is_none());
}

#[test]
fn an_end_that_is_none_is_told_as_lost() {
    let mut bench = bench();
    bench.io.core.control_lost("a test begins".into());
    let _ = bench.next();
    bench.io.attach_control(End::Socket, Vec::new());
    let FromRelay::AgentLost { reason } = bench.next() else {
        panic!("not told");
    };
    assert_eq!(
        reason,
        "an end of a channel came with 0 descriptors, 1 belong to it"
    );
    bench.io.attach_database(End::Socket, Vec::new());
    let FromRelay::DbLost { reason } = bench.next() else {
        panic!("not told");
    };
    assert_eq!(reason, "another end of a channel came than was due");
}
