//! What one relay can take: requests asked and answered, QubesDB dumps and changes, without I/O.

#![allow(clippy::unwrap_used, reason = "a failed bench has no result")]

use std::time::Duration;

use bulkhead_relay::{Core, Setup};
use bulkhead_wire::qrexec::control::AgentLink;
use bulkhead_wire::qrexec::trigger::Trigger;
use bulkhead_wire::qrexec::{Ident, Version};
use bulkhead_wire::qubesdb::message::{Kind, encode};
use bulkhead_wire::qubesdb::path::DbPath;
use bulkhead_wire::relay::{FromRelay, ToRelay, decode};
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

fn core() -> Core {
    Core::new(Setup {
        qube: "work".into(),
        domid: 7,
        default_user: "user".into(),
    })
}

/// Packets to typed messages and back are part of the work.
#[divan::bench]
fn call_asked_and_refused(bencher: Bencher<'_, '_>) {
    let mut core = core();
    core.control_up();
    core.control_receive(&AgentLink::start().1, Duration::ZERO);
    core.packet_sent();
    let mut trigger = Trigger::ask("", "vault", "qubes.Filecopy");
    trigger.ident = Ident::for_slot(9);
    let bytes = trigger.encode(Version::V4).unwrap();
    let mut now = Duration::from_secs(1);
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        // The rate would be measured otherwise.
        now += Duration::from_millis(1);
        core.control_receive(&bytes, now);
        let message = decode(core.packet().unwrap()).unwrap();
        core.packet_sent();
        let FromRelay::CallRequest { request, .. } = message else {
            return;
        };
        core.command(ToRelay::CallRefused { request }).unwrap();
        core.control_sent(core.control_output().len());
    });
}

/// Past the limit of pending requests: what a flood costs.
#[divan::bench]
fn call_refused_at_once(bencher: Bencher<'_, '_>) {
    let mut core = core();
    core.control_up();
    core.control_receive(&AgentLink::start().1, Duration::ZERO);
    let bytes = Trigger::ask("", "vault", "qubes.Filecopy")
        .encode(Version::V4)
        .unwrap();
    for n in 0..256 {
        core.control_receive(&bytes, Duration::from_secs(n));
        core.packet_sent();
    }
    let batch = bytes.repeat(100);
    bencher.counter(ItemsCount::new(100_usize)).bench_local(|| {
        core.control_receive(&batch, Duration::from_secs(1000));
        core.control_sent(core.control_output().len());
    });
}

#[divan::bench]
fn qubesdb_dump_of_100_keys(bencher: Bencher<'_, '_>) {
    let mut core = core();
    for n in 0..100 {
        let path = format!("/qubes-service/service-{n}");
        core.command(ToRelay::DbWrite {
            path,
            value: b"1".to_vec(),
        })
        .unwrap();
    }
    let mut ask = Vec::new();
    encode(&mut ask, Kind::MultiRead, &DbPath::empty(), b"");
    bencher.counter(ItemsCount::new(100_usize)).bench_local(|| {
        core.database_up();
        core.database_receive(&ask, Duration::ZERO);
        core.database_sent(core.database_output().len(), Duration::ZERO);
        core.packet_sent();
    });
}
