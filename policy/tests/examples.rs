//! The policies that are shown to people parse, and decide what their comments say.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::Path;

use bulkhead_model::qube::PolicyText;
use bulkhead_policy::{Decision, Engine, MemoryFolders, QubeView, Request, SystemView};
use uuid::Uuid;

fn desktop() -> Engine {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/desktop/policy");
    let mut files: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "policy"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let texts: Vec<PolicyText> = files
        .iter()
        .map(|file| PolicyText {
            origin: file.file_name().unwrap().to_string_lossy().into_owned(),
            first_line: 1,
            text: std::fs::read_to_string(file).unwrap(),
        })
        .collect();
    Engine::parse(&texts).unwrap()
}

#[test]
fn the_desktop_asks_where_it_says_it_asks() {
    let names = ["work", "personal", "vault", "sys-net"];
    let view = SystemView::new(
        (1..)
            .zip(names)
            .map(|(number, name)| QubeView::new(name, Uuid::from_u128(number), "AppVM")),
    )
    .unwrap();
    let engine = desktop();
    let decide = |source, target, service| match engine
        .decide(&Request::new(service, source, target), &view)
    {
        Decision::Allow(allow) => format!("allow {}", allow.target),
        Decision::Ask(ask) => {
            let targets: Vec<String> = ask.targets.iter().map(ToString::to_string).collect();
            format!("ask {}", targets.join(" "))
        }
        Decision::Deny(_) => "deny".to_owned(),
    };
    for (source, target, service, expected) in [
        ("work", "vault", "qubes.Filecopy", "ask personal vault"),
        ("work", "", "qubes.Filecopy", "ask personal vault"),
        ("personal", "", "qubes.Filecopy", "ask work"),
        ("personal", "vault", "qubes.Filecopy", "deny"),
        ("vault", "work", "qubes.Filecopy", "deny"),
        ("vault", "", "qubes.Filecopy", "deny"),
        ("work", "vault", "bulkhead.Filecopy", "ask personal vault"),
        ("vault", "work", "bulkhead.Filecopy", "deny"),
        ("work", "vault", "qubes.VMShell", "deny"),
        ("vault", "sys-net", "qubes.GetDate", "allow sys-net"),
    ] {
        assert_eq!(
            decide(source, target, service),
            expected,
            "{source} {service} {target}"
        );
    }
}

/// The ```` ```policy ```` blocks of a document: what stands behind the word, and the text.
fn blocks(document: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(marks) = line.trim_start().strip_prefix("```policy") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((marks.to_owned(), text.join("\n")));
        }
    }
    blocks
}

#[test]
fn policy_that_documents_show_parses_as_they_say() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut shown = 0;
    // What blocks marked `files` include.
    let mut folders = MemoryFolders::default();
    assert!(folders.add_folder("/docs/include/dir") && folders.add_folder("/docs/compat"));
    assert!(folders.add("/docs/include/more", *b"") && folders.add("/docs/include/gpg", *b""));
    for entry in docs.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|suffix| suffix != "md") {
            continue;
        }
        for (marks, text) in blocks(&std::fs::read_to_string(&path).unwrap()) {
            shown += 1;
            let text = [PolicyText {
                origin: "page".to_owned(),
                first_line: 1,
                text,
            }];
            let parsed = match marks.contains("files") {
                true => Engine::parse_with(&text, &folders, Path::new("/docs")),
                false => Engine::parse(&text),
            };
            let place = format!("{}: {}", path.display(), text[0].text);
            assert_eq!(parsed.is_err(), marks.contains("must-fail"), "{place}");
        }
    }
    assert!(shown >= 3, "the blocks are found");
}
