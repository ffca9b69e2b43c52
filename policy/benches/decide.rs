//! Decisions per second and rules parsed per second: `cargo bench -p bulkhead-policy`, or
//! `cargo xtask bench policy` for the figures alone.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bulkhead_model::qube::PolicyText;
use bulkhead_policy::{Engine, QubeView, Request, SystemView};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use uuid::Uuid;

/// Instead of the benchmarks: print what `cargo xtask bench` looks at.
const FIGURES: &str = "--figures";
/// How long each figure is taken.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() {
    if std::env::args().any(|word| word == FIGURES) {
        figures();
    } else {
        divan::main();
    }
}

/// How often a second something of `items` items can be done.
fn rate(items: usize, mut act: impl FnMut()) -> f64 {
    let (start, mut done) = (Instant::now(), 0);
    while start.elapsed() < PATIENCE {
        act();
        done += items;
    }
    done as f64 / start.elapsed().as_secs_f64()
}

fn figures() {
    let [count, _] = RULES;
    let engine = Engine::parse(&rules(count)).expect("the rules parse");
    let (view, calls) = (machine(), calls());
    let mixed = rate(calls.len(), || {
        for (call, source, target) in &calls {
            black_box(engine.decide(&Request::new(call, source, target), &view));
        }
    });
    println!("figure mixed_{count} {mixed:.0} /s");
    let request = Request::new("demo.S7", "qube1", "qube2");
    let denied = rate(calls.len(), || {
        for _ in 0..calls.len() {
            black_box(engine.decide(black_box(&request), &view));
        }
    });
    println!("figure denied_{count} {denied:.0} /s");
}

const QUBES: u128 = 100;
const SERVICES: usize = 50;
const RULES: [usize; 2] = [1_000, 10_000];

fn machine() -> SystemView {
    let qubes = (0..QUBES).map(|number| QubeView {
        tags: vec![format!("tag{}", number % 7).into()],
        running: number % 2 == 0,
        template_for_dispvms: number % 10 == 0,
        default_dispvm: Some("qube0".into()),
        ..QubeView::new(
            &format!("qube{number}"),
            Uuid::from_u128(number + 1),
            "AppVM",
        )
    });
    SystemView::new(qubes).expect("names and uuids differ")
}

/// Allow, ask and deny in turn, most of them from one qube to one qube as people write them.
fn rules(count: usize) -> Vec<PolicyText> {
    let mut text = String::new();
    for number in 0..count {
        let service = number % SERVICES;
        let source = (number * 31) % QUBES as usize;
        let target = (number * 17) % QUBES as usize;
        let line = match number % 10 {
            0 => format!("demo.S{service} * qube{source} @tag:tag3 ask default_target=qube3"),
            1 => format!(
                "demo.S{service} +x @tag:tag{} qube{target} deny",
                source % 7
            ),
            n if n % 2 == 0 => format!("demo.S{service} * qube{source} qube{target} allow"),
            _ => format!("demo.S{service} * qube{source} qube{target} deny notify=no"),
        };
        writeln!(text, "{line}").expect("a string takes everything");
    }
    vec![PolicyText {
        origin: "bench.policy".to_owned(),
        first_line: 1,
        text,
    }]
}

/// Calls over all services and qubes.
fn calls() -> Vec<(String, String, String)> {
    (0..1_000_usize)
        .map(|number| {
            (
                format!("demo.S{}+x", number % SERVICES),
                format!("qube{}", (number * 31) % QUBES as usize),
                format!("qube{}", (number * 17) % QUBES as usize),
            )
        })
        .collect()
}

#[divan::bench(args = RULES)]
fn decide_mixed(bencher: Bencher<'_, '_>, count: usize) {
    let engine = Engine::parse(&rules(count)).expect("the rules parse");
    let (view, calls) = (machine(), calls());
    bencher
        .counter(ItemsCount::new(calls.len()))
        .bench_local(|| {
            for (call, source, target) in &calls {
                black_box(engine.decide(&Request::new(call, source, target), &view));
            }
        });
}

/// A prompt is worked out once for each service, argument and source, and then remembered.
#[divan::bench(args = RULES)]
fn decide_asked(bencher: Bencher<'_, '_>, count: usize) {
    let text = rules(count).remove(0).text + "demo.Ask * @anyvm @anyvm ask\n";
    let engine = Engine::parse(&[PolicyText {
        origin: "bench.policy".to_owned(),
        first_line: 1,
        text,
    }])
    .expect("the rules parse");
    let view = machine();
    let request = Request::new("demo.Ask", "qube1", "");
    bencher
        .counter(ItemsCount::new(1_u32))
        .bench_local(|| black_box(engine.decide(black_box(&request), &view)));
}

#[divan::bench(args = RULES)]
fn decide_denied(bencher: Bencher<'_, '_>, count: usize) {
    let engine = Engine::parse(&rules(count)).expect("the rules parse");
    let view = machine();
    let request = Request::new("demo.S7", "qube1", "qube2");
    bencher
        .counter(ItemsCount::new(1_u32))
        .bench_local(|| black_box(engine.decide(black_box(&request), &view)));
}

#[divan::bench(args = RULES)]
fn parse(bencher: Bencher<'_, '_>, count: usize) {
    let texts = rules(count);
    bencher
        .counter(ItemsCount::new(count))
        .bench_local(|| Engine::parse(black_box(&texts)).expect("the rules parse"));
}
