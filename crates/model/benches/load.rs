//! From RON text to resolved description, checked. `cargo bench -p bulkhead-model`.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use bulkhead_model::diff::diff;
use bulkhead_model::format::format;
use bulkhead_model::load::load;
use bulkhead_model::source::MemoryReader;

fn main() {
    divan::main();
}

/// A desktop of `count` qubes, each written as people write them, in one file.
fn system(count: usize) -> String {
    let mut text = String::from(
        r#"(
    defaults: (template: "debian", netvm: "sys-firewall", default_dispvm: "disposable"),
    profiles: {"office": (tags: ["office"], services: {"cups": true}, memory: (initial: 512))},
    templates: {"debian": (source: Host)},
    qubes: {
        "sys-net": (label: "red", netvm: None, provides_network: true, autostart: true),
        "sys-firewall": (label: "green", netvm: "sys-net", provides_network: true, autostart: true),
        "disposable": (kind: DisposableTemplate, label: "red"),
"#,
    );
    for number in 0..count.saturating_sub(3) {
        let _ = write!(
            text,
            r#"        "qube-{number}": (
            label: "blue", // what it is for
            profiles: ["office"],
            memory: (initial: 400, maximum: "4 GiB"),
            vcpus: 4,
            volumes: {{"private": (size: "20 GiB")}},
            features: {{"menu-favorites": "term browser"}},
            tags: ["team-{}"],
        ),
"#,
            number % 10
        );
    }
    text.push_str(
        r#"    },
    policy: ["qubes.Filecopy * @tag:office @anyvm ask"],
    assertions: [(name: "all network passes the firewall",
        where: (tag: "office"), must: (network_through: "sys-firewall"))],
)
"#,
    );
    text
}

fn reader(count: usize) -> MemoryReader {
    MemoryReader::new([("system.ron", system(count))])
}

#[divan::bench(args = [100, 1_000, 10_000])]
fn load_qubes(bencher: divan::Bencher<'_, '_>, count: usize) {
    let reader = reader(count);
    bencher.bench(|| {
        let loaded = load(Path::new("system.ron"), &reader).expect("a valid description");
        assert_eq!(loaded.description.qubes.len(), count);
        loaded
    });
}

/// Every qube wrong in two ways: what a slip in a profile costs.
#[divan::bench(args = [1_000, 10_000])]
fn report_errors(bencher: divan::Bencher<'_, '_>, count: usize) {
    let text = system(count).replace("label: \"blue\"", "label: \"bleu\", netmv: 1");
    let reader = MemoryReader::new([("system.ron", text)]);
    bencher.bench(|| load(Path::new("system.ron"), &reader).expect_err("a broken description"));
}

#[divan::bench(args = [1_000, 10_000])]
fn diff_qubes(bencher: divan::Bencher<'_, '_>, count: usize) {
    let loaded = load(Path::new("system.ron"), &reader(count)).expect("a valid description");
    let old = loaded.description;
    let mut new = old.clone();
    for qube in new.qubes.values_mut().step_by(10) {
        Arc::make_mut(qube).vcpus += 1;
    }
    bencher.bench(|| diff(&old, &new));
}

#[divan::bench(args = [1_000, 10_000])]
fn format_qubes(bencher: divan::Bencher<'_, '_>, count: usize) {
    let text = system(count);
    bencher.bench(|| format("system.ron", &text).expect("a valid file"));
}
