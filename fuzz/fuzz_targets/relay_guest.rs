//! A whole relay between a hostile guest, hostile dom0 clients and an impatient daemon: every
//! packet it sends can be read, and no queue passes its bound.
#![no_main]

use std::time::Duration;

use bulkhead_relay::control::{CONTROL_OUTPUT_HIGH, CONTROL_OUTPUT_MAX};
use bulkhead_relay::{Core, Setup};
use bulkhead_wire::end::Carrier;
use bulkhead_wire::qrexec::{Version, hello};
use bulkhead_wire::qubesdb::link::LINK_OUTPUT_MAX;
use bulkhead_wire::relay::{ClientId, FromRelay, ToRelay, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut core = Core::new(Setup {
        qube: "q".into(),
        domid: 3,
        default_user: "user".into(),
        carrier: Carrier::Sockets,
    });
    core.control_up();
    core.control_receive(&hello(Version::V4), Duration::ZERO);
    core.database_up();
    let (mut rest, mut now, mut requests) = (data, Duration::ZERO, Vec::new());
    while let [op, len, tail @ ..] = rest {
        let (bytes, tail) = tail.split_at(usize::from(*len).min(tail.len()));
        rest = tail;
        now += Duration::from_micros(u64::from(*op));
        let port = 513 + u32::from(*len);
        match op % 12 {
            0..=3 => core.control_receive(bytes, now),
            4..=5 => core.database_receive(bytes, now),
            6 => core.control_sent(core.control_output().len()),
            7 => core.database_sent(core.database_output().len(), now),
            8 => {
                let id = if core.clients_have_room() {
                    core.client_up()
                } else {
                    ClientId(0)
                };
                core.client_receive(id, bytes);
                let _ = core.command(ToRelay::ClientPort {
                    client: id,
                    connect_port: Some(port),
                });
            }
            9 => {
                let answer = requests.pop().map(|request| match len % 2 {
                    0 => ToRelay::CallRefused { request },
                    _ => ToRelay::CallAllowed {
                        request,
                        connect_domain: 9,
                        connect_port: port,
                    },
                });
                answer.map(|answer| core.command(answer));
            }
            10 => {
                let cmdline = bytes.to_vec();
                let run = ToRelay::Execute {
                    connect_domain: 0,
                    connect_port: port,
                    cmdline,
                    just_exec: true,
                };
                let _ = core.command(run);
            }
            _ if *len == 0 => core.control_closed(),
            _ if *len == 1 => core.control_up(),
            _ if *len == 2 => core.database_up(),
            _ => core.advance(now),
        }
        assert!(core.control_output().len() <= CONTROL_OUTPUT_MAX.max(CONTROL_OUTPUT_HIGH + 64));
        assert!(core.database_output().len() <= LINK_OUTPUT_MAX + 4096);
        if op & 0x80 == 0 {
            while let Some(packet) = core.packet() {
                if let FromRelay::CallRequest {
                    request, announced, ..
                } = decode(packet).expect("our own")
                {
                    assert!(announced.is_none_or(|it| it.is_possible()));
                    requests.push(request);
                }
                core.packet_sent();
            }
            assert!(requests.len() <= 4096);
        }
    }
});
