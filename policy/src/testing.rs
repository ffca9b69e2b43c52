//! Policies and machines for the tests of this crate.

use std::path::Path;

use bulkhead_model::load::Loaded;
use bulkhead_model::qube::Description;
use bulkhead_model::source::MemoryReader;

use crate::engine::Engine;
use crate::load::load;
use crate::view::SystemView;

/// A small desktop with these rules.
pub(crate) fn desktop(rules: &str) -> (Description, Engine, SystemView) {
    let (loaded, engine) = loaded(rules, "");
    let view = SystemView::declared(&loaded.description).unwrap();
    (loaded.description, engine, view)
}

/// The same, with more options of the description.
pub(crate) fn loaded(rules: &str, more: &str) -> (Loaded, Engine) {
    load(Path::new("system.ron"), &reader(rules, more)).unwrap()
}

pub(crate) fn reader(rules: &str, more: &str) -> MemoryReader {
    let system = format!(
        r#"(
    templates: {{"debian": (source: Host)}},
    defaults: (template: "debian", default_dispvm: "fresh"),
    qubes: {{
        "work": (label: "blue", tags: ["office"]),
        "mail": (label: "yellow", tags: ["office"]),
        "vault": (label: "black", default_dispvm: None),
        "fresh": (label: "red", kind: DisposableTemplate),
    }},
    policy: [File("a.policy")],
    {more}
)"#
    );
    MemoryReader::new([("system.ron", system), ("a.policy", rules.to_owned())])
}
