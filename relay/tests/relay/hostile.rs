use std::io::{Read, Write};

use bulkhead_wire::qrexec::PENDING_REQUESTS_MAX;
use bulkhead_wire::qrexec::control::{AgentEvent, AgentLink};
use bulkhead_wire::relay::{FromRelay, RequestId, ToRelay};

use super::bench::{Relay, trigger};

/// A debug build with all its bounded queues full; no flood may take it further.
const PEAK_KIB: u64 = 16 * 1024;

fn lost(relay: &Relay) -> String {
    match relay.receive() {
        FromRelay::AgentLost { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn garbage_ends_the_link_and_the_next_one_works() {
    let relay = Relay::new();
    for bytes in [&[0xff; 4096][..], b"GET / HTTP/1.1\r\n\r\n", &[0; 8]] {
        let mut stream = relay.attach();
        stream.write_all(bytes).unwrap();
        assert!(!lost(&relay).is_empty());
        assert_eq!(stream.read(&mut [0; 64]).unwrap_or(0), 0);
    }
    relay.agent();
}

#[test]
fn half_a_message_and_hanging_up_is_reported() {
    let relay = Relay::new();
    let agent = relay.agent();
    let bytes = trigger(1, "qubes.Filecopy");
    (&agent.stream)
        .write_all(&bytes[..bytes.len() / 2])
        .unwrap();
    drop(agent);
    assert_eq!(lost(&relay), "agent hung up in the middle of a message");
    relay.agent();
}

#[test]
fn a_service_name_of_4_kib_passes_and_one_of_65001_bytes_does_not() {
    let relay = Relay::new();
    let agent = relay.agent();
    let name = format!("a+{}", "x".repeat(4094));
    (&agent.stream).write_all(&trigger(1, &name)).unwrap();
    let asked = relay.receive();
    assert!(matches!(asked, FromRelay::CallRequest { service, .. } if service == name));
    // The longest field there may be has 65,000 bytes with its NUL.
    let mut bytes = trigger(2, &format!("a+{}", "x".repeat(64_997)));
    let len = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
    bytes[4..8].copy_from_slice(&(len + 1).to_le_bytes());
    bytes.insert(200, b'x');
    (&agent.stream).write_all(&bytes).unwrap();
    assert!(lost(&relay).contains("has no valid length"));
}

#[test]
fn a_million_calls_stay_within_bounds_and_lose_none() {
    const CALLS: usize = 1_000_000;
    let relay = Relay::new();
    let agent = relay.agent();
    let mut writer = agent.stream.try_clone().unwrap();
    let flood = std::thread::spawn(move || {
        let batch = trigger(1, "qubes.Filecopy").repeat(1000);
        (0..CALLS / 1000).for_each(|_| writer.write_all(&batch).unwrap());
    });
    // Each refusal has 40 bytes; those asked for are not answered yet.
    let mut reader = &agent.stream;
    let mut refusals = vec![0; 40 * 1000];
    let mut left = 40 * (CALLS - PENDING_REQUESTS_MAX);
    while left > 0 {
        let most = left.min(refusals.len());
        // The socket has a time limit, so the system does not go on by itself after a signal.
        reader.read_exact(&mut refusals[..most]).unwrap();
        left -= most;
    }
    flood.join().unwrap();
    for n in 0..PENDING_REQUESTS_MAX {
        let id = RequestId(n as u64);
        assert!(matches!(relay.receive(), FromRelay::CallRequest { request, .. } if request == id));
    }
    assert!(relay.peak_kib() < PEAK_KIB, "{} KiB", relay.peak_kib());
    // And it still serves.
    relay.send(
        &ToRelay::CallRefused {
            request: RequestId(0),
        },
        &[],
    );
    let mut refusal = [0; 40];
    reader.read_exact(&mut refusal).unwrap();
    assert_eq!(u32::from_le_bytes(refusal[..4].try_into().unwrap()), 0x203);
}

#[test]
fn an_agent_that_floods_and_never_reads_stalls_nobody_else() {
    let relay = Relay::new();
    let agent = relay.agent();
    agent.stream.set_nonblocking(true).unwrap();
    let batch = trigger(1, "qubes.Filecopy").repeat(1000);
    let mut sent = 0;
    // Until the relay takes no more: it has filled its queue of answers and both sockets.
    let mut full = 0;
    while full < 20 {
        match (&agent.stream).write(&batch[sent % batch.len()..]) {
            Ok(n) => (sent, full) = (sent + n, 0),
            Err(_) => {
                full += 1;
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        assert!(sent < 64 << 20, "it reads without end");
    }
    assert!(relay.peak_kib() < PEAK_KIB, "{} KiB", relay.peak_kib());
    for _ in 0..PENDING_REQUESTS_MAX {
        assert!(matches!(relay.receive(), FromRelay::CallRequest { .. }));
    }
    // QubesDB goes on meanwhile.
    let mut guest = relay.connect("111");
    let mut hello = [0; 72];
    hello[0] = 2;
    guest.write_all(&hello).unwrap();
    assert_eq!(relay.receive(), FromRelay::DbSynchronised);
    // Commands it does not read either end its link.
    let cmdline = vec![b'x'; 65_000];
    for port in 513..600 {
        let cmdline = cmdline.clone();
        let run = ToRelay::Execute {
            connect_domain: 0,
            connect_port: port,
            cmdline,
            just_exec: true,
        };
        relay.send(&run, &[]);
    }
    assert_eq!(lost(&relay), "agent stopped reading");
    relay.agent();
}

#[test]
fn a_guest_that_never_reads_its_keys_is_dropped() {
    let relay = Relay::new();
    let mut guest = relay.connect("111");
    let mut hello = [0; 72];
    hello[0] = 2;
    guest.write_all(&hello).unwrap();
    assert_eq!(relay.receive(), FromRelay::DbSynchronised);
    let value = vec![b'x'; 3071];
    for _ in 0..1000 {
        relay.send(
            &ToRelay::DbWrite {
                path: "/a".into(),
                value: value.clone(),
            },
            &[],
        );
    }
    let reason = "the QubesDB peer stopped reading".into();
    assert_eq!(relay.receive(), FromRelay::DbLost { reason });
    assert!(relay.peak_kib() < PEAK_KIB, "{} KiB", relay.peak_kib());
    relay.connect("111").write_all(&hello).unwrap();
    assert_eq!(relay.receive(), FromRelay::DbSynchronised);
}

#[test]
fn ends_of_unknown_connections_are_told_and_calls_go_on() {
    let relay = Relay::new();
    let mut agent = relay.agent();
    for port in 513..=768 {
        let end = AgentLink::terminated(bulkhead_wire::qrexec::Endpoint { domain: 1, port });
        agent.stream.write_all(&end).unwrap();
    }
    agent.ask(1);
    // They may be from before this relay's time: only the daemon can tell.
    for port in 513..=768 {
        let told = FromRelay::ConnectionTerminated { domain: 1, port };
        assert_eq!(relay.receive(), told);
    }
    assert!(matches!(relay.receive(), FromRelay::CallRequest { .. }));
    relay.send(
        &ToRelay::CallRefused {
            request: RequestId(0),
        },
        &[],
    );
    assert!(matches!(agent.next(), AgentEvent::Refused { .. }));
}
