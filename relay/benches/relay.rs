//! What one relay can take: requests asked and answered, QubesDB dumps and changes, without I/O.
//! `cargo xtask bench relay` for the figures alone.

#![allow(clippy::unwrap_used, reason = "a failed bench has no result")]

use std::time::{Duration, Instant};

use bulkhead_relay::{Core, Setup};
use bulkhead_wire::end::Carrier;
use bulkhead_wire::qrexec::control::AgentLink;
use bulkhead_wire::qrexec::trigger::Trigger;
use bulkhead_wire::qrexec::{Ident, Version};
use bulkhead_wire::qubesdb::message::{Kind, encode};
use bulkhead_wire::qubesdb::path::DbPath;
use bulkhead_wire::relay::{FromRelay, ToRelay, decode};
use divan::Bencher;
use divan::counter::ItemsCount;

/// Instead of the benchmarks: print what `cargo xtask bench` looks at.
const FIGURES: &str = "--figures";
/// How long the figure is taken.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() {
    if !std::env::args().any(|word| word == FIGURES) {
        return divan::main();
    }
    let mut calls = Calls::new();
    let (start, mut done) = (Instant::now(), 0_u64);
    while start.elapsed() < PATIENCE {
        for _ in 0..1000 {
            calls.ask_and_refuse();
        }
        done += 1000;
    }
    let rate = done as f64 / start.elapsed().as_secs_f64();
    println!("figure calls_a_second {rate:.0} /s");
}

fn core() -> Core {
    Core::new(Setup {
        qube: "work".into(),
        domid: 7,
        default_user: "user".into(),
        carrier: Carrier::Sockets,
    })
}

/// A relay and a guest that asks for one call after the other.
struct Calls {
    core: Core,
    request: Vec<u8>,
    now: Duration,
}

impl Calls {
    fn new() -> Self {
        let mut core = core();
        core.control_up();
        core.control_receive(&AgentLink::start().1, Duration::ZERO);
        core.packet_sent();
        let mut trigger = Trigger::ask("", "vault", "qubes.Filecopy");
        trigger.ident = Ident::for_slot(9);
        Self {
            core,
            request: trigger.encode(Version::V4).unwrap(),
            now: Duration::from_secs(1),
        }
    }

    /// Packets to typed messages and back are part of the work.
    fn ask_and_refuse(&mut self) {
        // The rate would be measured otherwise.
        self.now += Duration::from_millis(1);
        self.core.control_receive(&self.request, self.now);
        let message = decode(self.core.packet().unwrap()).unwrap();
        self.core.packet_sent();
        let FromRelay::CallRequest { request, .. } = message else {
            unreachable!("the relay said {message:?}");
        };
        self.core.command(ToRelay::CallRefused { request }).unwrap();
        self.core.control_sent(self.core.control_output().len());
    }
}

#[divan::bench]
fn call_asked_and_refused(bencher: Bencher<'_, '_>) {
    let mut calls = Calls::new();
    bencher
        .counter(ItemsCount::new(1_usize))
        .bench_local(|| calls.ask_and_refuse());
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
