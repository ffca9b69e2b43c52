//! Loading a description together with its policy, so that one check tells everything.

use std::path::{Path, PathBuf};

use bulkhead_model::diagnostic::{Diagnostic, Diagnostics, Place, Severity};
use bulkhead_model::load::{Loaded, load_with};
use bulkhead_model::qube::PolicyText;
use bulkhead_model::source::SourceReader;

use crate::engine::Engine;
use crate::error::PolicyError;
use crate::folders::Beside;
use crate::read;
use crate::rule::Rule;

/// Loads the description whose root file is `root`, and the engine of its policy. What is wrong
/// with either is reported at once.
///
/// What policy includes becomes part of the description: each rule of a text with directives is a
/// text of its own, so that a description that is kept decides the same without its files.
pub fn load(root: &Path, reader: &dyn SourceReader) -> Result<(Loaded, Engine), Diagnostics> {
    let folder = root.parent().unwrap_or(Path::new(""));
    let folders = Beside(reader);
    let mut rules = Vec::new();
    let mut policy = Vec::new();
    let mut files = Vec::new();
    let mut loaded = load_with(root, reader, |texts| {
        let mut told = Vec::new();
        for text in texts {
            match read::texts(std::slice::from_ref(text), &folders, folder) {
                Ok(read) => {
                    if has_directive(text) {
                        policy.extend(read.rules.iter().map(alone));
                    } else {
                        policy.push(text.clone());
                    }
                    rules.extend(read.rules);
                    files.extend(read.included);
                }
                Err(errors) => {
                    let tell = |error| diagnostic(error, texts, folder, reader);
                    told.extend(errors.iter().map(tell));
                }
            }
        }
        told
    })?;
    loaded.description.policy = policy;
    loaded.files.extend(files);
    Ok((loaded, Engine::of_rules(rules)))
}

fn has_directive(text: &PolicyText) -> bool {
    text.text
        .split(['\n', '\r'])
        .any(|line| line.trim_start().starts_with('!'))
}

/// A rule as a text that holds nothing else.
fn alone(rule: &Rule) -> PolicyText {
    PolicyText {
        origin: rule.origin.file.to_string(),
        first_line: rule.origin.line,
        text: rule.to_string(),
    }
}

fn diagnostic(
    error: &PolicyError,
    texts: &[PolicyText],
    folder: &Path,
    reader: &dyn SourceReader,
) -> Diagnostic {
    let included = || {
        let text = reader.read(&folder.join(&*error.origin.file)).ok()?;
        let text = PolicyText {
            origin: error.origin.file.to_string(),
            first_line: 1,
            text,
        };
        place(error, &[text], folder)
    };
    Diagnostic {
        severity: Severity::Error,
        message: error.kind.to_string(),
        place: place(error, texts, folder).or_else(included),
        related: Vec::new(),
        help: vec![error.remedy()],
        notes: Vec::new(),
    }
}

/// Where a policy error is: from its column to the end of the word.
fn place(error: &PolicyError, texts: &[PolicyText], folder: &Path) -> Option<Place> {
    let text = texts.iter().find(|text| {
        let lines = u32::try_from(text.text.lines().count()).unwrap_or(u32::MAX);
        let range = text.first_line..text.first_line.saturating_add(lines.max(1));
        *text.origin == *error.origin.file && range.contains(&error.origin.line)
    })?;
    let line = error.origin.line - text.first_line;
    let content = text.text.lines().nth(line as usize).unwrap_or_default();
    let skipped = error.column.saturating_sub(1) as usize;
    let word = content.chars().skip(skipped);
    let word = word.take_while(|c| !c.is_whitespace()).count();
    let end = error.column + u32::try_from(word.max(1)).unwrap_or(1);
    // Origins count from the description's folder; a person's editor starts where the person is.
    let file: PathBuf = folder.join(&text.origin).components().collect();
    let file = file.strip_prefix(".").unwrap_or(&file).display();
    let mut place = Place::in_text(file.to_string(), &text.text, line + 1, error.column..end);
    place.line = error.origin.line;
    Some(place)
}

#[cfg(test)]
mod tests {
    use bulkhead_model::diagnostic::Color;
    use bulkhead_model::source::MemoryReader;

    use super::*;

    fn reader(qube: &str, policy: &str) -> MemoryReader {
        let system = format!(
            r#"(
    templates: {{"debian": (source: Host)}},
    qubes: {{"work": ({qube}: "blue", template: "debian")}},
    policy: [File("policy/*.policy")],
)"#
        );
        let (system, policy) = (system, policy.to_owned());
        MemoryReader::new([("etc/system.ron", system), ("etc/policy/30.policy", policy)])
    }

    #[test]
    fn rules_are_named_from_the_folder_of_the_description() {
        let reader = reader("label", "a.B * work work deny\n");
        let (loaded, engine) = load(Path::new("etc/system.ron"), &reader).unwrap();
        assert_eq!(loaded.description.policy[0].origin, "policy/30.policy");
        assert_eq!(engine.rules()[0].origin.to_string(), "policy/30.policy:1");
        assert!(engine.errors().is_none());
    }

    #[test]
    fn included_rules_become_part_of_the_description() {
        let mut reader = reader(
            "label",
            "a.A * work work deny\n!include include/more\na.C * work work deny\n!compat-4.0\n",
        );
        reader.insert("etc/policy/include/more", "\na.B * work work deny\n");
        reader.insert("etc/policy/compat/a.D+x", "$anyvm work allow,user=u\n");
        let (loaded, engine) = load(Path::new("etc/system.ron"), &reader).unwrap();
        let kept = Engine::parse(&loaded.description.policy).unwrap();
        assert_eq!(kept.rules(), engine.rules());
        let listed: Vec<String> = (kept.rules().iter())
            .map(|rule| format!("{}: {rule}", rule.origin))
            .collect();
        insta::assert_snapshot!(listed.join("\n"), @r"
        policy/30.policy:1: a.A * work work deny
        policy/include/more:2: a.B * work work deny
        policy/30.policy:3: a.C * work work deny
        policy/compat/a.D+x:1: a.D +x @anyvm work allow user=u
        policy/compat/a.D+x: a.D +x @anyvm @anyvm deny
        policy/compat/a.D+x: a.D +x @anyvm @adminvm deny
        ");
        assert!(loaded.files.contains(&"etc/policy/include/more".into()));
    }

    #[test]
    fn an_error_in_an_included_file_is_shown_there() {
        let mut reader = reader("label", "!include include/more\n");
        reader.insert("etc/policy/include/more", "# calls\na.B * work work alow\n");
        let found = load(Path::new("etc/system.ron"), &reader).unwrap_err();
        let shown = found.render(Color::Never);
        assert!(
            shown.contains("--> etc/policy/include/more:2:17"),
            "{shown}"
        );
    }

    #[test]
    fn errors_of_description_and_policy_are_told_at_once() {
        let reader = reader("labl", "# calls\na.B * work work alow\nfoo\n");
        let found = load(Path::new("etc/system.ron"), &reader).unwrap_err();
        let shown = found.render(Color::Never);
        let lines = shown.lines().filter(|line| {
            line.starts_with("error") || line.contains("-->") || line.contains("errors")
        });
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
        error: unknown field `labl`, did you mean `label`?
         --> etc/system.ron:3:22
        error: unknown action `alow`
         --> etc/policy/30.policy:2:17
        error: rule has 1 of the five fields it needs
         --> etc/policy/30.policy:3:1
        3 errors
        ");
    }
}
