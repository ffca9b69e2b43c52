use bulkhead_wire::qrexec::announced::Announced;
use bulkhead_wire::qrexec::control::{AgentEvent, AgentLink};
use bulkhead_wire::qrexec::trigger::Trigger;
use bulkhead_wire::qrexec::{Ident, PENDING_REQUESTS_MAX, Version};
use bulkhead_wire::relay;
use proptest::prelude::*;

use super::*;
use crate::control::{CALL_BURST, CONTROL_OUTPUT_HIGH, CONTROL_OUTPUT_MAX};

const NOW: Duration = Duration::from_secs(5);

fn core() -> Core {
    Core::new(Setup {
        qube: "work".into(),
        domid: 7,
        default_user: "user".into(),
        carrier: Carrier::Sockets,
    })
}

fn packets(core: &mut Core) -> Vec<FromRelay> {
    let mut all = Vec::new();
    while let Some(packet) = core.packet() {
        all.push(relay::decode(packet).unwrap());
        core.packet_sent();
    }
    all
}

fn connected() -> (Core, AgentLink) {
    let mut core = core();
    core.control_up();
    let (mut agent, hello) = AgentLink::start();
    core.control_receive(&hello, NOW);
    assert_eq!(
        packets(&mut core),
        [FromRelay::AgentConnected { version: 4 }]
    );
    let events = agent_events(&mut core, &mut agent);
    assert!(matches!(
        events[..],
        [AgentEvent::Connected {
            version: Version::V4
        }]
    ));
    (core, agent)
}

fn agent_events(core: &mut Core, agent: &mut AgentLink) -> Vec<AgentEvent> {
    let bytes = core.control_output().to_vec();
    core.control_sent(bytes.len());
    let mut rest = &bytes[..];
    std::iter::from_fn(|| agent.push(&mut rest).unwrap()).collect()
}

fn ask(slot: u32) -> Vec<u8> {
    let mut trigger = Trigger::ask("", "vault", "qubes.Filecopy");
    trigger.ident = Ident::for_slot(slot);
    trigger.encode(Version::V4).unwrap()
}

fn endpoint(domain: u32, port: u32) -> Endpoint {
    Endpoint { domain, port }
}

#[test]
fn a_call_is_asked_for_and_answered_once() {
    let (mut core, mut agent) = connected();
    core.control_receive(&[ask(3), ask(4)].concat(), NOW);
    let asked = packets(&mut core);
    let FromRelay::CallRequest {
        request,
        service,
        target,
        ..
    } = &asked[0]
    else {
        panic!()
    };
    assert_eq!(
        (service.as_str(), target.as_str()),
        ("qubes.Filecopy", "vault")
    );
    let allowed = ToRelay::CallAllowed {
        request: *request,
        connect_domain: 9,
        connect_port: 514,
    };
    core.command(allowed.clone()).unwrap();
    core.command(ToRelay::CallRefused {
        request: RequestId(1),
    })
    .unwrap();
    core.command(allowed).unwrap();
    let expected = [
        AgentEvent::Connect {
            endpoint: endpoint(9, 514),
            ident: Ident::for_slot(3),
        },
        AgentEvent::Refused {
            ident: Ident::for_slot(4),
        },
    ];
    assert_eq!(agent_events(&mut core, &mut agent), expected);
}

#[test]
fn a_request_that_is_taken_back_is_told_once_and_an_answer_on_its_way_opens_nothing() {
    let (mut core, mut agent) = connected();
    let withdraw = |slot| agent_withdraws(slot);
    core.control_receive(
        &[ask(3), ask(4), withdraw(3), withdraw(3), withdraw(9)].concat(),
        NOW,
    );
    let told = packets(&mut core);
    let request = RequestId(0);
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[2], FromRelay::CallWithdrawn { request });
    // The daemon had decided before it heard of that.
    let allowed = |request, connect_port| ToRelay::CallAllowed {
        request,
        connect_domain: 9,
        connect_port,
    };
    core.command(allowed(request, 514)).unwrap();
    let ended = FromRelay::ConnectionTerminated {
        domain: 9,
        port: 514,
    };
    assert_eq!(packets(&mut core), [ended]);
    assert_eq!(agent_events(&mut core, &mut agent), []);
    // The other one is as before.
    core.command(allowed(RequestId(1), 516)).unwrap();
    core.command(allowed(RequestId(1), 516)).unwrap();
    assert_eq!(packets(&mut core), []);
    assert_eq!(agent_events(&mut core, &mut agent).len(), 1);
}

fn agent_withdraws(slot: u32) -> Vec<u8> {
    let mut trigger = Trigger::ask("", "@default", bulkhead_wire::qrexec::trigger::WITHDRAW);
    trigger.ident = Ident::for_slot(slot);
    trigger.encode(Version::V4).unwrap()
}

#[test]
fn one_request_past_the_limit_is_refused_at_once_and_a_place_is_freed() {
    let (mut core, mut agent) = connected();
    let max = u32::try_from(PENDING_REQUESTS_MAX).unwrap();
    for slot in 0..=max {
        core.control_receive(&ask(slot), NOW);
    }
    assert_eq!(packets(&mut core).len(), PENDING_REQUESTS_MAX);
    let refused = AgentEvent::Refused {
        ident: Ident::for_slot(max),
    };
    assert_eq!(agent_events(&mut core, &mut agent), [refused]);
    core.command(ToRelay::CallRefused {
        request: RequestId(0),
    })
    .unwrap();
    core.control_receive(&ask(9), NOW);
    assert_eq!(packets(&mut core).len(), 1);
}

fn announce(slot: u32, announced: Announced) -> Vec<u8> {
    let mut trigger = Trigger::ask("", "vault", "qubes.Filecopy");
    trigger.ident = Ident::announcing(slot, announced);
    trigger.encode(Version::V4).unwrap()
}

const SOME: Announced = Announced {
    files: 3,
    folders: 1,
    bytes: 13_002_342,
    at_least: false,
};

#[test]
fn an_announcement_comes_with_its_call_and_its_identifier_goes_back_whole() {
    let (mut core, mut agent) = connected();
    core.control_receive(&[announce(3, SOME), ask(4)].concat(), NOW);
    let told: Vec<_> = packets(&mut core)
        .into_iter()
        .map(|message| match message {
            FromRelay::CallRequest { announced, .. } => announced,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [Some(SOME), None]);
    core.command(ToRelay::CallRefused {
        request: RequestId(0),
    })
    .unwrap();
    let ident = Ident::announcing(3, SOME);
    assert_eq!(
        agent_events(&mut core, &mut agent),
        [AgentEvent::Refused { ident }]
    );
}

/// An announcement is a part of its request: there is none without one, and nothing is kept of
/// what is not.
#[test]
fn thousands_of_announcements_are_calls_like_any_other() {
    const COUNT: u32 = 20_000;
    let (mut core, mut agent) = connected();
    let (mut asked, mut refused, mut now) = (0, 0, NOW);
    for slot in 0..COUNT {
        let huge = Announced {
            bytes: u64::MAX - u64::from(slot),
            ..SOME
        };
        core.control_receive(&announce(slot, huge), now);
        while core.control.as_ref().unwrap().has_input() {
            now += core.wait(now).unwrap_or_default();
            core.advance(now);
        }
        for message in packets(&mut core) {
            let FromRelay::CallRequest { announced, .. } = message else {
                panic!("{message:?}")
            };
            assert!(announced.unwrap().is_possible() && announced.unwrap().at_least);
            asked += 1;
        }
        refused += agent_events(&mut core, &mut agent).len();
    }
    assert_eq!(asked, PENDING_REQUESTS_MAX);
    assert_eq!(refused, COUNT as usize - PENDING_REQUESTS_MAX);
}

/// Figures past their limits, and other agents' identifiers, announce nothing; the call goes on.
#[test]
fn what_is_no_announcement_is_an_identifier_like_any_other() {
    let (mut core, mut agent) = connected();
    // One file more than can be announced, no number, too few of them.
    for text in ["B3Elflt.0.0", "B3E-1.0.0", "B3E1.2", "AAAA", "SOCKET3"] {
        let mut trigger = Trigger::ask("", "vault", "qubes.Filecopy");
        trigger.ident = Ident::from_text(text).unwrap();
        core.control_receive(&trigger.encode(Version::V4).unwrap(), NOW);
        let told = packets(&mut core);
        let [
            FromRelay::CallRequest {
                request,
                announced: None,
                ..
            },
        ] = told[..]
        else {
            panic!("{text}: {told:?}")
        };
        core.command(ToRelay::CallRefused { request }).unwrap();
        let refused = AgentEvent::Refused {
            ident: trigger.ident,
        };
        assert_eq!(agent_events(&mut core, &mut agent), [refused]);
    }
}

#[test]
fn past_the_rate_requests_wait_and_none_is_lost() {
    let (mut core, _) = connected();
    let (mut now, mut asked, mut sent) = (NOW, 0, 0);
    while sent < CALL_BURST + 100 || core.control.as_ref().unwrap().has_input() {
        if core.control_wants_input() {
            core.control_receive(&ask(sent), now);
            core.control_sent(usize::MAX);
            sent += 1;
        } else {
            assert!(asked >= CALL_BURST as usize);
            now += core.wait(now).unwrap();
            core.advance(now);
        }
        for message in packets(&mut core) {
            let FromRelay::CallRequest { request, .. } = message else {
                panic!()
            };
            core.command(ToRelay::CallRefused { request }).unwrap();
            asked += 1;
        }
    }
    assert_eq!(asked, sent as usize);
    assert!(now - NOW >= Duration::from_secs(100) / CALL_RATE - Duration::from_millis(1));
}

#[test]
fn a_daemon_that_does_not_read_stops_the_reading_from_everybody() {
    let (mut core, _) = connected();
    let mut trigger = Trigger::ask("", "vault", &format!("a+{}", "x".repeat(64_000)));
    trigger.ident = Ident::for_slot(1);
    let bytes = trigger.encode(Version::V4).unwrap();
    let mut rounds = 0;
    while core.control_wants_input() {
        core.control_receive(&bytes, NOW);
        rounds += 1;
    }
    assert!(rounds <= crate::QUEUE_HIGH / 64_000 + 2);
    core.database_up();
    assert!(!core.database_wants_input(NOW) && !core.clients_want_input());
    packets(&mut core);
    core.advance(NOW);
    assert!(core.control_wants_input() && core.database_wants_input(NOW));
}

#[test]
fn an_agent_that_leaves_refusals_unread_is_not_read_from() {
    let (mut core, _) = connected();
    let flood = (0..100_000).map(ask).collect::<Vec<_>>();
    let mut taken = 0;
    for bytes in &flood {
        if !core.control_wants_input() {
            break;
        }
        core.control_receive(bytes, NOW);
        taken += 1;
    }
    assert!(taken < 3000, "took {taken}");
    assert!(core.control_output().len() < CONTROL_OUTPUT_HIGH + 100);
}

#[test]
fn an_agent_that_leaves_commands_unread_is_dropped_at_the_limit() {
    let (mut core, _) = connected();
    let run = |port| ToRelay::Execute {
        connect_domain: 0,
        connect_port: port,
        cmdline: vec![b'x'; 65_000],
        just_exec: false,
    };
    let fits = u32::try_from(CONTROL_OUTPUT_MAX / 65_017).unwrap();
    (0..fits).for_each(|n| core.command(run(513 + n)).unwrap());
    core.command(run(768)).unwrap_err();
    let reason = "agent stopped reading".into();
    assert_eq!(packets(&mut core), [FromRelay::AgentLost { reason }]);
}

#[test]
fn what_a_full_output_held_up_goes_on_once_it_is_written() {
    let (mut core, _) = connected();
    core.control_receive(&ask(1).repeat(CONTROL_OUTPUT_HIGH / 40 + 512), NOW);
    assert!(core.control_output().len() >= CONTROL_OUTPUT_HIGH);
    assert!(core.control.as_ref().unwrap().has_input());
    assert_eq!(core.wait(NOW), None, "writing is what it waits for");
    core.control_sent(core.control_output().len());
    assert_eq!(core.wait(NOW), Some(Duration::ZERO));
    core.advance(NOW);
    assert!(!core.control.as_ref().unwrap().has_input());
    assert_eq!(core.wait(NOW), None);
}

#[test]
fn ends_of_connections_are_told_and_those_of_unknown_ones_only_at_the_rate_of_calls() {
    let (mut core, mut agent) = connected();
    let run = ToRelay::Execute {
        connect_domain: 0,
        connect_port: 600,
        cmdline: b"DEFAULT:true".to_vec(),
        just_exec: true,
    };
    core.command(run).unwrap();
    let events = agent_events(&mut core, &mut agent);
    let cmdline = b"user:true".to_vec();
    let expected = AgentEvent::Execute {
        endpoint: endpoint(0, 600),
        cmdline,
        just_exec: true,
    };
    assert_eq!(events, [expected]);
    let end = AgentLink::terminated(endpoint(0, 600));
    core.control_receive(&end, NOW);
    assert_eq!(
        packets(&mut core),
        [FromRelay::ConnectionTerminated {
            domain: 0,
            port: 600
        }]
    );
    // From before this relay's time, perhaps; or no domain at all.
    core.control_receive(&AgentLink::terminated(endpoint(7, 601)), NOW);
    core.control_receive(&AgentLink::terminated(endpoint(0x7ff0, 601)), NOW);
    let known_to_the_daemon = FromRelay::ConnectionTerminated {
        domain: 7,
        port: 601,
    };
    assert_eq!(packets(&mut core), [known_to_the_daemon]);
    let lies = AgentLink::terminated(endpoint(7, 601)).repeat(CALL_BURST as usize + 10);
    core.control_receive(&lies, NOW);
    assert_eq!(packets(&mut core).len(), CALL_BURST as usize - 1);
}

#[test]
fn what_the_agent_does_wrong_ends_its_link_with_a_reason() {
    let long = |len: u32| [&0x212_u32.to_le_bytes()[..], &len.to_le_bytes()].concat();
    let mut trigger_65001 = long(96 + 65_001);
    trigger_65001.resize(8 + 96 + 65_001, b'x');
    let cases = [
        (
            vec![0xff; 64],
            "malformed message on the control link: unknown qrexec message kind 0xffffffff",
        ),
        (
            trigger_65001,
            "malformed request for a call: trigger Trigger3 of 65097 bytes has no valid length",
        ),
        (
            AgentLink::terminated(endpoint(1, 512)),
            "port 512 is not a data port",
        ),
        (vec![0; 3], "agent hung up in the middle of a message"),
        (vec![], ""),
    ];
    for (bytes, reason) in cases {
        let (mut core, _) = connected();
        core.control_receive(&bytes, NOW);
        core.control_closed();
        let lost = FromRelay::AgentLost {
            reason: reason.into(),
        };
        assert_eq!(packets(&mut core), [lost]);
        assert!(!core.control_is_up());
    }
}

#[test]
fn service_names_at_the_limit_pass_and_reach_the_daemon_in_one_packet() {
    let (mut core, _) = connected();
    for len in [4096, 64_999] {
        let mut trigger = Trigger::ask("", "", &format!("a+{}", "x".repeat(len - 2)));
        trigger.ident = Ident::for_slot(1);
        core.control_receive(&trigger.encode(Version::V4).unwrap(), NOW);
        let asked = packets(&mut core);
        assert!(
            matches!(&asked[..], [FromRelay::CallRequest { service, .. }] if service.len() == len)
        );
    }
}

#[test]
fn a_new_connection_replaces_the_old_and_old_answers_are_forgotten() {
    let (mut core, _) = connected();
    core.control_receive(&ask(1), NOW);
    core.control_up();
    let told = packets(&mut core);
    let reason = "replaced by a new connection".into();
    assert_eq!(told[1..], [FromRelay::AgentLost { reason }]);
    core.control_receive(&AgentLink::start().1, NOW);
    core.control_sent(usize::MAX);
    core.command(ToRelay::CallRefused {
        request: RequestId(0),
    })
    .unwrap();
    assert!(core.control_output().is_empty());
    // Ids go on, so that a late answer cannot meet a new request.
    core.control_receive(&ask(1), NOW);
    let asked = packets(&mut core);
    assert!(matches!(
        asked[1],
        FromRelay::CallRequest {
            request: RequestId(1),
            ..
        }
    ));
}

fn client_says(core: &mut Core, id: ClientId, command: &ClientCommand) {
    let hello = bulkhead_wire::qrexec::hello(Version::LOCAL);
    core.client_receive(id, &hello);
    core.client_receive(id, &command.encode().unwrap());
}

fn run_ls() -> ClientCommand {
    let cmdline = b"DEFAULT:ls".to_vec();
    ClientCommand::Execute {
        endpoint: endpoint(0, 0),
        cmdline,
        just_exec: false,
    }
}

#[test]
fn a_dom0_client_gets_its_port_and_is_hung_up_on_at_the_end() {
    let (mut core, mut agent) = connected();
    let id = core.client_up();
    client_says(&mut core, id, &run_ls());
    let cmdline = b"DEFAULT:ls".to_vec();
    let asked = FromRelay::ClientExec {
        client: id,
        cmdline,
        just_exec: false,
    };
    assert_eq!(packets(&mut core), [asked]);
    core.client_sent(id, core.client_output(id).len());
    core.command(ToRelay::ClientPort {
        client: id,
        connect_port: Some(513),
    })
    .unwrap();
    assert_eq!(
        core.client_output(id),
        [&[0, 2, 0, 0, 8, 0, 0, 0, 7, 0, 0, 0, 1, 2, 0, 0][..]].concat()
    );
    let events = agent_events(&mut core, &mut agent);
    assert!(matches!(&events[..], [AgentEvent::Execute { cmdline, .. }] if cmdline == b"user:ls"));
    assert!(!core.client_is_closing(id));
    core.control_receive(&AgentLink::terminated(endpoint(0, 513)), NOW);
    assert!(core.client_is_closing(id));
}

#[test]
fn a_dom0_client_cannot_answer_a_guests_request_itself() {
    let (mut core, _) = connected();
    core.control_receive(&ask(1), NOW);
    packets(&mut core);
    let id = core.client_up();
    let ident = Ident::for_slot(1);
    client_says(
        &mut core,
        id,
        &ClientCommand::Connect {
            endpoint: endpoint(9, 514),
            ident,
        },
    );
    assert!(core.client_is_closing(id));
    assert!(packets(&mut core).is_empty());
    assert!(core.control_output().is_empty());
}

#[test]
fn clients_without_an_agent_or_a_port_are_hung_up_on() {
    let mut alone = core();
    let id = alone.client_up();
    client_says(&mut alone, id, &run_ls());
    assert!(alone.client_is_closing(id) && packets(&mut alone).is_empty());
    let (mut core, _) = connected();
    let id = core.client_up();
    client_says(&mut core, id, &run_ls());
    core.command(ToRelay::ClientPort {
        client: id,
        connect_port: None,
    })
    .unwrap();
    assert!(core.client_is_closing(id));
    let id = core.client_up();
    client_says(&mut core, id, &run_ls());
    core.control_closed();
    assert!(core.client_is_closing(id));
}

#[test]
fn one_client_past_the_limit_waits() {
    let mut core = core();
    for _ in 0..crate::clients::CLIENTS_MAX {
        assert!(core.clients_have_room());
        core.client_up();
    }
    assert!(!core.clients_have_room());
    core.client_lost(ClientId(0));
    assert!(core.clients_have_room());
}

#[test]
fn keys_reach_the_guest_and_the_daemon() {
    use bulkhead_wire::qubesdb::message::{Kind, encode};
    use bulkhead_wire::qubesdb::path::DbPath;
    let mut core = core();
    let write = |path: &str| ToRelay::DbWrite {
        path: path.into(),
        value: b"v".to_vec(),
    };
    core.command(write("/name")).unwrap();
    assert!(core.command(write("name")).is_err());
    core.database_up();
    let mut bytes = Vec::new();
    encode(&mut bytes, Kind::MultiRead, &DbPath::empty(), b"");
    encode(&mut bytes, Kind::Write, &DbPath::new("/a").unwrap(), b"x");
    core.database_receive(&bytes, NOW);
    let changed = FromRelay::DbChanged {
        path: "/a".into(),
        value: Some(b"x".to_vec()),
    };
    assert_eq!(packets(&mut core), [FromRelay::DbSynchronised, changed]);
    core.database_sent(core.database_output().len(), NOW);
    core.command(ToRelay::DbRemove {
        path: "/gone".into(),
    })
    .unwrap();
    assert!(core.database_output().is_empty());
    core.command(ToRelay::DbRemove { path: "/a".into() })
        .unwrap();
    assert_eq!(core.database_output().len(), 72);
    core.database_receive(&[0xff; 72], NOW);
    let reason = "the QubesDB peer sent a bad header: message type 255 is unknown".into();
    assert_eq!(packets(&mut core), [FromRelay::DbLost { reason }]);
    assert!(!core.database_is_up());
}

proptest! {
    #[test]
    fn whatever_a_guest_sends_every_packet_is_one_the_daemon_can_read(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        kind in prop::sample::select(vec![0x210_u32, 0x211, 0x212, 0x213]),
        up in any::<bool>(),
    ) {
        let mut core = if up { connected().0 } else { core() };
        core.control_up();
        core.database_up();
        let head = [kind.to_le_bytes(), u32::try_from(bytes.len()).unwrap().to_le_bytes()].concat();
        core.control_receive(&AgentLink::start().1, NOW);
        core.control_receive(&head, NOW);
        core.control_receive(&bytes, NOW);
        core.database_receive(&bytes, NOW);
        for message in packets(&mut core) {
            if let FromRelay::CallRequest { service, target, announced, .. } = message {
                prop_assert!(announced.is_none_or(|it| it.is_possible()));
                prop_assert!(service.bytes().chain(target.bytes()).all(|b| (0x21..0x7f).contains(&b)));
            }
        }
    }
}
