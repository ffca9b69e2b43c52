//! What a person waits for: the whole process, from start to exit, in front of a stand-in for the
//! daemon that answers at once. `true` beside it is what starting any process costs here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that panics has failed"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::process::{Command, Stdio};

use bulkhead_api::qube::QubeState;
use common::fake::{Fake, Script, row};
use divan::Bencher;

fn main() {
    divan::main();
}

fn measure(bencher: Bencher<'_, '_>, command: impl Fn() -> Command + Sync) {
    bencher.bench(|| {
        let status = command().stdout(Stdio::null()).status().unwrap();
        assert!(status.success());
    });
}

#[divan::bench]
fn bin_true(bencher: Bencher<'_, '_>) {
    measure(bencher, || Command::new("/bin/true"));
}

#[divan::bench]
fn help(bencher: Bencher<'_, '_>) {
    measure(bencher, || common::bulkhead(&["--help"]));
}

fn ls(bencher: Bencher<'_, '_>, qubes: usize, words: &[&str]) {
    let name = |number| format!("qube-{number:03}");
    let rows = (0..qubes).map(|number| {
        let netvm = if number == 0 { String::new() } else { name(0) };
        row(
            &name(number),
            QubeState::Running,
            ("blue", "0x3465a4"),
            &netvm,
        )
    });
    let fake = Fake::start(Script::default().qubes(rows.collect()));
    measure(bencher, || fake.bulkhead(words));
}

#[divan::bench(args = [0, 100, 1000])]
fn ls_table(bencher: Bencher<'_, '_>, qubes: usize) {
    ls(bencher, qubes, &["ls", "--color", "always"]);
}

#[divan::bench]
fn ls_json_of_100(bencher: Bencher<'_, '_>) {
    ls(bencher, 100, &["ls", "--json"]);
}
