use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::Command;

use bulkhead_vchan::seqpacket::recv_packet;
use bulkhead_wire::end::Carrier;
use bulkhead_wire::qrexec::control::{AgentEvent, AgentLink};
use bulkhead_wire::qrexec::local::{ClientCommand, ClientSide, DaemonAnswer};
use bulkhead_wire::qrexec::{Endpoint, Ident, Version};
use bulkhead_wire::qubesdb::message::{Kind, Value, encode as encode_key};
use bulkhead_wire::qubesdb::path::DbPath;
use bulkhead_wire::qubesdb::{daemon::GuestDaemon, link::LinkEvent};
use bulkhead_wire::relay::{FromRelay, RequestId, ToRelay, decode};

use super::bench::{Relay, start};

#[test]
fn calls_commands_and_their_ends() {
    let relay = Relay::new();
    let mut agent = relay.agent();
    agent.ask(5);
    let FromRelay::CallRequest {
        request,
        service,
        target,
        ..
    } = relay.receive()
    else {
        panic!()
    };
    assert_eq!(
        (service.as_str(), target.as_str()),
        ("qubes.Filecopy", "vault")
    );
    relay.send(
        &ToRelay::CallAllowed {
            request,
            connect_domain: 9,
            connect_port: 514,
        },
        &[],
    );
    let endpoint = Endpoint {
        domain: 9,
        port: 514,
    };
    let ident = Ident::for_slot(5);
    assert_eq!(agent.next(), AgentEvent::Connect { endpoint, ident });
    let cmdline = b"DEFAULT:QUBESRPC qubes.Filecopy+ work".to_vec();
    let run = ToRelay::Execute {
        connect_domain: 3,
        connect_port: 515,
        cmdline,
        just_exec: false,
    };
    relay.send(&run, &[]);
    let endpoint = Endpoint {
        domain: 3,
        port: 515,
    };
    let cmdline = b"user:QUBESRPC qubes.Filecopy+ work".to_vec();
    assert_eq!(
        agent.next(),
        AgentEvent::Execute {
            endpoint,
            cmdline,
            just_exec: false
        }
    );
    agent
        .stream
        .write_all(&AgentLink::terminated(endpoint))
        .unwrap();
    assert_eq!(
        relay.receive(),
        FromRelay::ConnectionTerminated {
            domain: 3,
            port: 515
        }
    );
    drop(agent);
    assert_eq!(
        relay.receive(),
        FromRelay::AgentLost {
            reason: String::new()
        }
    );
    // The same qube's agent comes back.
    relay.agent().ask(1);
    let asked = relay.receive();
    assert!(
        matches!(
            asked,
            FromRelay::CallRequest {
                request: RequestId(1),
                ..
            }
        ),
        "{asked:?}"
    );
}

#[test]
fn keys_are_mirrored_both_ways_and_again_after_a_reconnect() {
    let relay = Relay::new();
    let write = |path: &str| ToRelay::DbWrite {
        path: path.into(),
        value: b"work".to_vec(),
    };
    relay.send(&write("/name"), &[]);
    for _ in 0..2 {
        let (mut stream, mut guest) = (relay.connect("111"), GuestDaemon::default());
        guest.link_up();
        let hello = guest.link().unwrap().output().to_vec();
        stream.write_all(&hello).unwrap();
        guest.link_sent(hello.len()).unwrap();
        let mut buffer = [0; 4096];
        while !guest.link().unwrap().is_synchronised() {
            let n = stream.read(&mut buffer).unwrap();
            guest.link_receive(&buffer[..n]).unwrap();
        }
        assert_eq!(relay.receive(), FromRelay::DbSynchronised);
        let name = guest.store().get(&DbPath::new("/name").unwrap());
        assert_eq!(name, Some(&Value::new("work")));
        let mut bytes = Vec::new();
        encode_key(
            &mut bytes,
            Kind::Write,
            &DbPath::new("/mine").unwrap(),
            b"x",
        );
        stream.write_all(&bytes).unwrap();
        let changed = FromRelay::DbChanged {
            path: "/mine".into(),
            value: Some(b"x".to_vec()),
        };
        assert_eq!(relay.receive(), changed);
        relay.send(&write("/late"), &[]);
        let mut events = Vec::new();
        while events.is_empty() {
            let n = stream.read(&mut buffer).unwrap();
            events = guest.link_receive(&buffer[..n]).unwrap();
        }
        assert!(
            matches!(&events[..], [LinkEvent::Changed(change)] if change.path.as_str() == "/late")
        );
        drop(stream);
        assert_eq!(
            relay.receive(),
            FromRelay::DbLost {
                reason: String::new()
            }
        );
    }
}

#[test]
fn a_dom0_client_runs_a_command() {
    let relay = Relay::new();
    let mut agent = relay.agent();
    let mut stream = relay.connect("qrexec");
    let cmdline = b"DEFAULT:ls".to_vec();
    let endpoint = Endpoint { domain: 0, port: 0 };
    let command = ClientCommand::Execute {
        endpoint,
        cmdline,
        just_exec: false,
    };
    stream
        .write_all(&bulkhead_wire::qrexec::hello(Version::LOCAL))
        .unwrap();
    stream.write_all(&command.encode().unwrap()).unwrap();
    let FromRelay::ClientExec { client, .. } = relay.receive() else {
        panic!()
    };
    relay.send(
        &ToRelay::ClientPort {
            client,
            connect_port: Some(513),
        },
        &[],
    );
    let mut answers = [0; 28];
    stream.read_exact(&mut answers).unwrap();
    let (mut side, mut rest) = (ClientSide::new(), &answers[..]);
    assert_eq!(side.push(&mut rest).unwrap(), Some(DaemonAnswer::Hello));
    let endpoint = Endpoint {
        domain: 7,
        port: 513,
    };
    assert_eq!(
        side.push(&mut rest).unwrap(),
        Some(DaemonAnswer::Endpoint(endpoint))
    );
    let endpoint = Endpoint {
        domain: 0,
        port: 513,
    };
    let cmdline = b"user:ls".to_vec();
    assert_eq!(
        agent.next(),
        AgentEvent::Execute {
            endpoint,
            cmdline,
            just_exec: false
        }
    );
    agent
        .stream
        .write_all(&AgentLink::terminated(endpoint))
        .unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(
        relay.receive(),
        FromRelay::ConnectionTerminated {
            domain: 0,
            port: 513
        }
    );
}

#[test]
fn the_kernel_holds_it_and_it_says_so() {
    let relay = Relay::new();
    assert!(
        relay.confinement.starts_with("seccomp"),
        "{}",
        relay.confinement
    );
    assert_eq!(relay.status("Seccomp:"), "2");
    assert_eq!(relay.status("NoNewPrivs:"), "1");
    assert_eq!(relay.status("CapEff:"), "0000000000000000");
    assert_eq!(relay.status("CapPrm:"), "0000000000000000");
    assert_eq!(relay.status("Threads:"), "1");
    if relay.confinement.contains("own uid") && !relay.confinement.contains("without own uid") {
        let uid = 0x7000_0007_u32.to_string();
        assert_eq!(
            relay.status("Uid:").split_whitespace().collect::<Vec<_>>(),
            [&uid; 4]
        );
    }
    // The streams, the daemon, two listeners: nothing else is left open to be misused.
    let fds = std::fs::read_dir(format!("/proc/{}/fd", relay.child.id()));
    if let Ok(fds) = fds {
        assert_eq!(fds.count(), 6);
    }
}

#[test]
fn it_ends_with_the_daemon() {
    let mut relay = Relay::new();
    let _agent = relay.agent();
    let (unused, _) = bulkhead_vchan::seqpacket::pair().unwrap();
    drop(std::mem::replace(&mut relay.daemon, unused));
    assert_eq!(relay.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_start_without_what_it_needs_is_refused() {
    let program = env!("CARGO_BIN_EXE_bulkhead-relay");
    let code = |args: &[&str]| Command::new(program).args(args).status().unwrap().code();
    assert_eq!(code(&[]), Some(2));
    assert_eq!(code(&["--fd", "x"]), Some(2));
    assert_eq!(code(&["--fd", "1"]), Some(1));
    assert_eq!(code(&["--fd", "77"]), Some(1));
    let setup = |serve_clients, carrier| ToRelay::Setup {
        qube: "work".into(),
        domid: 7,
        default_user: "user".into(),
        serve_clients,
        carrier,
    };
    // Another message, no descriptor, one too few, one too many, hanging up.
    let null = std::fs::File::open("/dev/null").unwrap();
    let none = ToRelay::CallRefused {
        request: RequestId(0),
    };
    for (message, fds) in [
        (Some(none), 0),
        (Some(setup(false, Carrier::Sockets)), 0),
        (Some(setup(true, Carrier::Sockets)), 1),
        (Some(setup(true, Carrier::Rings)), 2),
        (None, 0),
    ] {
        let (daemon, mut child) = start();
        if let Some(message) = message {
            let packet = bulkhead_wire::relay::encode(&message).unwrap();
            bulkhead_vchan::seqpacket::send_packet(&daemon, &packet, &vec![null.as_fd(); fds])
                .unwrap();
            let mut buffer = [0; 64];
            let n = recv_packet(&daemon, &mut buffer, &mut Vec::new()).unwrap_or(0);
            assert!(
                decode::<FromRelay>(&buffer[..n]).is_err(),
                "it must not be ready"
            );
        }
        drop(daemon);
        assert_eq!(child.wait().unwrap().code(), Some(1));
    }
}
