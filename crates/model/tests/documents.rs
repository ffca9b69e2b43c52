//! What the repository shows as a description is one.
//!
//! Every file in `examples/` loads without a warning. Every ```` ```ron ```` block in `docs/` and
//! `README.md` is a file of a description: one marked `complete` is a whole one and loads, one
//! marked `must-fail` is refused, and every other is read without an error of its own.

use std::path::{Path, PathBuf};

use bulkhead_model::diagnostic::Color;
use bulkhead_model::load::{check_file, load};
use bulkhead_model::source::{DiskReader, MemoryReader};

fn repository() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    folder
        .canonicalize()
        .expect("the crate lies in its repository")
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let pattern = format!("{}/**/*.{ending}", folder.display());
    let found = glob::glob(&pattern).expect("a pattern");
    found
        .map(|path| path.expect("a folder that can be read"))
        .collect()
}

#[test]
fn every_example_loads_without_a_warning() {
    let roots = files(&repository().join("examples"), "ron");
    let roots: Vec<_> = roots
        .iter()
        .filter(|path| path.ends_with("system.ron"))
        .collect();
    assert!(!roots.is_empty());
    for root in roots {
        match load(root, &DiskReader) {
            Ok(loaded) => assert!(
                loaded.warnings.is_empty(),
                "{}",
                loaded.warnings.render(Color::Never)
            ),
            Err(found) => panic!("{}", found.render(Color::Never)),
        }
    }
}

#[test]
fn every_file_of_the_examples_is_used_by_one() {
    let examples = repository().join("examples");
    let mut used: Vec<PathBuf> = Vec::new();
    for root in files(&examples, "ron")
        .iter()
        .filter(|path| path.ends_with("system.ron"))
    {
        used.extend(load(root, &DiskReader).unwrap().files);
    }
    for path in files(&examples, "ron")
        .into_iter()
        .chain(files(&examples, "policy"))
    {
        assert!(
            used.contains(&path),
            "{} is loaded by no system.ron",
            path.display()
        );
    }
}

/// The marks, first line and text of each block of RON.
fn blocks(markdown: &str) -> Vec<(String, usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize, String)> = None;
    for (index, line) in markdown.lines().enumerate() {
        match &mut open {
            Some(_) if line.trim_start().starts_with("```") => blocks.extend(open.take()),
            Some((_, _, text)) => {
                text.push_str(line);
                text.push('\n');
            }
            None => {
                let marks = line.trim_start().strip_prefix("```ron");
                open = marks.map(|marks| (marks.to_owned(), index + 2, String::new()));
            }
        }
    }
    blocks
}

#[track_caller]
fn check_block(place: &str, marks: &str, text: &str) {
    let reader = MemoryReader::new([("system.ron", text)]);
    let whole = load(Path::new("system.ron"), &reader);
    if marks.contains("must-fail") {
        assert!(
            whole.is_err(),
            "{place} is marked `must-fail` and is accepted"
        );
        return;
    }
    let found = match marks.contains("complete") {
        true => whole.err().unwrap_or_default(),
        false => check_file("system.ron", text),
    };
    assert_eq!(
        found.errors(),
        0,
        "{place}:\n{}",
        found.render(Color::Never)
    );
}

#[test]
fn every_snippet_in_the_documents_is_what_it_is_marked_as() {
    let repository = repository();
    let mut documents = files(&repository.join("docs"), "md");
    documents.push(repository.join("README.md"));
    for document in documents {
        for (marks, line, text) in blocks(&std::fs::read_to_string(&document).unwrap()) {
            let name = document.strip_prefix(&repository).unwrap().display();
            check_block(&format!("{name}:{line}"), &marks, &text);
        }
    }
}

#[test]
fn a_snippet_that_is_not_what_it_is_marked_as_is_noticed() {
    let page =
        "a\n```ron\n(qubes: {\"a\": (labl: 1)})\n```\n```ron,must-fail\n()\n```\n```sh\nx\n```\n";
    let found = blocks(page);
    assert_eq!(found.len(), 2);
    assert_eq!(found[1].1, 6);
    for (marks, _, text) in found {
        let checked = std::panic::catch_unwind(|| check_block("page", &marks, &text));
        assert!(checked.is_err(), "{text}");
    }
}

#[test]
fn the_page_of_options_is_current() {
    let path = repository().join("docs/options.md");
    let page = bulkhead_model::schema::markdown();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/options.md is not current; run the test with UPDATE=1"
    );
}
