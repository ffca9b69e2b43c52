//! Rules that the repository itself must keep.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates that may hold `unsafe`, each for a reason that the design gives.
const UNSAFE_CRATES: &[&str] = &["crates/libxl-sys", "crates/sandbox", "crates/vchan"];

/// Longest source file. Tests are files like any other.
const LINES_MAX: usize = 1000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
        .into()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect(path)
}

fn tracked(pattern: &str) -> Vec<String> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            pattern,
        ])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(output.status.success(), "the checkout is a git repository");
    let listed = String::from_utf8(output.stdout).expect("file names are UTF-8");
    listed
        .lines()
        .filter(|path| root().join(path).exists())
        .map(str::to_owned)
        .collect()
}

fn metadata() -> serde_json::Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

#[test]
fn crate_graph_is_the_committed_one() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let ours: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let mut edges = BTreeSet::new();
    for package in packages {
        let from = package["name"].as_str().expect("name");
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let to = dependency["name"].as_str().expect("name");
            // What only tests use cannot turn the arrows of what ships.
            if ours.contains(to) && dependency["kind"].as_str() != Some("dev") {
                edges.insert(format!("{from} -> {to}"));
            }
        }
    }
    let text = read("xtask/crate-graph.txt");
    let allowed: BTreeSet<String> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(str::to_owned)
        .collect();
    let new: Vec<_> = edges.difference(&allowed).collect();
    assert!(new.is_empty(), "not in xtask/crate-graph.txt: {new:?}");
    let gone: Vec<_> = allowed.difference(&edges).collect();
    assert!(
        gone.is_empty(),
        "in xtask/crate-graph.txt but no longer there: {gone:?}"
    );
}

#[test]
fn every_crate_takes_lints_and_licence_from_the_workspace() {
    for manifest in tracked("*Cargo.toml") {
        if manifest == "Cargo.toml" || manifest.starts_with("fuzz/") {
            continue;
        }
        let text = read(&manifest);
        for line in ["license.workspace = true", "[lints]\nworkspace = true"] {
            assert!(text.contains(line), "{manifest} lacks `{line}`");
        }
    }
}

#[test]
fn dependency_versions_are_stated_once() {
    for manifest in tracked("*Cargo.toml") {
        if manifest == "Cargo.toml" || manifest.starts_with("fuzz/") {
            continue;
        }
        let mut in_dependencies = false;
        for line in read(&manifest).lines() {
            if let Some(section) = line.strip_prefix('[') {
                in_dependencies = section.contains("dependencies");
            } else if in_dependencies && line.contains('=') && !line.trim_start().starts_with('#') {
                assert!(
                    line.contains("workspace = true"),
                    "{manifest}: `{line}` belongs in the workspace's Cargo.toml"
                );
            }
        }
    }
}

#[test]
fn unsafe_code_is_forbidden_outside_the_named_crates() {
    for source in tracked("*.rs") {
        let is_root = ["src/main.rs", "src/lib.rs"]
            .iter()
            .any(|end| source.ends_with(end))
            || Path::new(&source)
                .parent()
                .is_some_and(|folder| folder.ends_with("src/bin"));
        let excepted = UNSAFE_CRATES.iter().any(|dir| source.starts_with(dir));
        if is_root && !excepted && !source.starts_with("fuzz/") {
            assert!(
                read(&source).contains("#![forbid(unsafe_code)]"),
                "{source} does not forbid unsafe code"
            );
        }
    }
}

#[test]
fn source_files_stay_readable() {
    for source in tracked("*.rs") {
        let lines = read(&source).lines().count();
        assert!(
            lines <= LINES_MAX,
            "{source} has {lines} lines, at most {LINES_MAX} are allowed"
        );
    }
}

#[test]
fn nothing_is_left_to_do_on_a_path_a_user_can_reach() {
    // Spelt in two parts so that this file does not find itself.
    let left_open = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("FIX", "ME"),
    ];
    for source in tracked("*.rs") {
        let text = read(&source);
        for word in left_open {
            assert!(!text.contains(word), "{source} contains `{word}`");
        }
    }
}

#[test]
fn readme_names_every_folder_and_no_other() {
    let readme = read("README.md");
    let named: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.split_once("/`:"))
        .map(|(folder, _)| folder.to_owned())
        .collect();
    let present: BTreeSet<String> = tracked("*")
        .iter()
        .filter_map(|path| path.split_once('/'))
        .map(|(folder, _)| folder.to_owned())
        .filter(|folder| !folder.starts_with('.'))
        .collect();
    assert_eq!(
        named, present,
        "README.md's list of folders and the folders differ"
    );
}

#[test]
fn documents_name_paths_that_exist() {
    for document in tracked("*.md") {
        for word in read(&document).split('`').skip(1).step_by(2) {
            let first = word.split('/').next().unwrap_or_default();
            let is_ours = word.contains('/')
                && !word.contains([' ', '*', '<', '$', '{', '+', ':'])
                && root().join(first).is_dir()
                && !first.is_empty()
                && first != "target";
            assert!(
                !is_ours || root().join(word).exists(),
                "{document} names `{word}`, which does not exist"
            );
        }
    }
}
