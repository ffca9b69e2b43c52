//! Loading a description together with its policy, so that one check tells everything.

use std::ops::Range;
use std::path::{Path, PathBuf};

use bulkhead_model::diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Diagnostics, Place, Severity};
use bulkhead_model::load::{Loaded, PolicySources, load_with};
use bulkhead_model::qube::{Description, PolicyText};
use bulkhead_model::source::SourceReader;

use crate::engine::Engine;
use crate::error::PolicyError;
use crate::expect::{Expectation, expectations};
use crate::folders::{Beside, PolicyFolders};
use crate::live::{LivePolicy, read_live};
use crate::read;
use crate::rule::{Origin, Rule};
use crate::view::SystemView;

/// Loads the description whose root file is `root`, and the engine of its policy. What is wrong
/// with either is reported at once; then, what the policy is expected to decide and does not.
///
/// What policy includes becomes part of the description: each rule of a text with directives is a
/// text of its own, so that a description that is kept decides the same without its files. Folders
/// that are read live are no part of it; the engine has the rules that they hold now.
pub fn load(root: &Path, reader: &dyn SourceReader) -> Result<(Loaded, Engine), Diagnostics> {
    load_with_tests(root, reader).and_then(|(loaded, engine, unmet)| match unmet.is_empty() {
        true => Ok((loaded, engine)),
        false => Err(unmet),
    })
}

/// The same, with the expectations that are not met beside what was loaded.
pub fn load_with_tests(
    root: &Path,
    reader: &dyn SourceReader,
) -> Result<(Loaded, Engine, Diagnostics), Diagnostics> {
    let folder = root.parent().unwrap_or(Path::new(""));
    let folders = Beside(reader);
    let mut rules = Vec::new();
    let mut policy = Vec::new();
    let mut files = Vec::new();
    let mut expected = Vec::new();
    let mut live = Vec::new();
    // How many rules and texts there are before each text.
    let mut before = Vec::new();
    let mut loaded = load_with(root, reader, |written| {
        let mut told = Vec::new();
        for entry in written.folders() {
            let reading = read_live(entry, &folders);
            files.extend(reading.looked_at.into_iter().filter(|path| path.is_file()));
            match reading.rules {
                Ok(rules) => live.push(rules),
                Err(errors) => {
                    // Of no text of the description.
                    let tell = |error| diagnostic(error, (written, usize::MAX), folder, reader);
                    told.extend(errors.iter().map(tell));
                }
            }
        }
        for (index, text) in written.policy().iter().enumerate() {
            before.push((rules.len(), policy.len()));
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
                    let tell = |error| diagnostic(error, (written, index), folder, reader);
                    told.extend(errors.iter().map(tell));
                }
            }
        }
        let (read, wrong) = read_expectations(written.tests(), |index, line, columns| {
            let text = written.tests().get(index)?;
            let offset = line.checked_sub(text.first_line)?;
            written
                .place_in_tests(index, offset, columns)
                .or_else(|| in_text(text, line, columns, folder))
        });
        expected = read;
        told.extend(wrong);
        told
    })?;
    before.push((rules.len(), policy.len()));
    for (entry, read) in (loaded.description.policy_folders.iter_mut().zip(&live)).rev() {
        let (rule, text) = before.get(entry.after).copied().unwrap_or_default();
        entry.after = text;
        rules.splice(rule..rule, read.iter().cloned());
    }
    loaded.description.policy = policy;
    loaded.files.extend(files);
    let engine = Engine::of_rules(rules);
    let unmet = unmet(&loaded.description, &engine, &expected);
    Ok((loaded, engine, unmet))
}

/// What a description that was loaded before, and is kept, expects of its policy and does not get.
/// Where a folder cannot be read now nothing is expected: that is no fault of the description.
pub fn unmet_expectations(description: &Description, folders: &dyn PolicyFolders) -> Diagnostics {
    let engine = match LivePolicy::read(description, folders) {
        Ok(policy) if policy.denies_all() => return Diagnostics::default(),
        Ok(policy) => policy.engine(),
        Err(errors) => Engine::broken(errors),
    };
    let texts = &description.policy_tests;
    let (read, wrong) = read_expectations(texts, |index, line, columns| {
        in_text(texts.get(index)?, line, columns, Path::new(""))
    });
    let mut found = unmet(description, &engine, &read);
    found.list.extend(wrong);
    found
}

/// An expectation and the place of its line: the texts do not outlive the loading.
#[derive(Debug)]
struct Placed {
    expectation: Expectation,
    line: Option<Place>,
}

impl Placed {
    /// The place of some columns of the line.
    fn columns(&self, columns: &Range<u32>) -> Option<Place> {
        let mut place = self.line.clone()?;
        let shift = place.column.saturating_sub(1);
        place.column = columns.start.saturating_add(shift);
        place.end_column = columns.end.saturating_add(shift);
        Some(place)
    }
}

/// Expectations with the line of each, and what is wrong with the others.
fn read_expectations(
    texts: &[PolicyText],
    place: impl Fn(usize, u32, &Range<u32>) -> Option<Place>,
) -> (Vec<Placed>, Vec<Diagnostic>) {
    let (mut read, mut wrong) = (Vec::new(), Vec::new());
    for (index, text) in texts.iter().enumerate() {
        let at = |line: u32, columns: &Range<u32>| place(index, line, columns);
        let whole = |line: u32| {
            let offset = line.saturating_sub(text.first_line) as usize;
            let content = text.text.lines().nth(offset).unwrap_or_default();
            let end = u32::try_from(content.trim_end().chars().count() + 1).unwrap_or(u32::MAX);
            at(line, &(1..end))
        };
        match expectations(std::slice::from_ref(text)) {
            Ok(found) => read.extend(found.into_iter().map(|expectation| Placed {
                line: whole(expectation.origin.line),
                expectation,
            })),
            Err(errors) => wrong.extend(errors.into_iter().map(|error| Diagnostic {
                place: at(error.origin.line, &error.columns),
                help: vec![error.remedy],
                ..refusal(error.message, None)
            })),
        }
    }
    (read, wrong)
}

/// What is expected of the policy and is not so.
fn unmet(description: &Description, engine: &Engine, expected: &[Placed]) -> Diagnostics {
    let mut found = Diagnostics::default();
    if expected.is_empty() {
        return found;
    }
    let view = match SystemView::declared(description) {
        Ok(view) => view,
        // Names are unique in a description and UUIDs are made up, so this is a fault of ours.
        Err(error) => {
            found.list.push(refusal(error.to_string(), None));
            return found;
        }
    };
    for placed in expected {
        let expectation = &placed.expectation;
        let unknown = expectation.unknown(&view);
        for error in &unknown {
            let mut refusal = refusal(error.message.clone(), placed.columns(&error.columns));
            refusal.help.push(error.remedy.clone());
            found.list.push(refusal);
        }
        let checked = expectation.check(engine, &view);
        if unknown.is_empty() && !checked.is_met() {
            let message = format!("expected {}, got {}", expectation.expected, checked.got);
            let mut refusal = refusal(message, placed.line.clone());
            refusal.notes.push(checked.by());
            found.list.push(refusal);
        }
    }
    let omitted = found.list.len().saturating_sub(DIAGNOSTICS_MAX);
    found.list.truncate(DIAGNOSTICS_MAX);
    found.omitted = omitted;
    found
}

fn refusal(message: String, place: Option<Place>) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        message,
        place,
        related: Vec::new(),
        help: Vec::new(),
        notes: Vec::new(),
    }
}

fn has_directive(text: &PolicyText) -> bool {
    text.text
        .split(['\n', '\r'])
        .any(|line| line.trim_start().starts_with('!'))
}

/// A rule as a text that holds nothing else.
pub(crate) fn alone(rule: &Rule) -> PolicyText {
    PolicyText {
        origin: rule.origin.file.to_string(),
        first_line: rule.origin.line,
        text: rule.to_string(),
    }
}

fn diagnostic(
    error: &PolicyError,
    (written, index): (&PolicySources<'_>, usize),
    folder: &Path,
    reader: &dyn SourceReader,
) -> Diagnostic {
    let Origin { file, line } = &error.origin;
    let text = (written.policy().get(index)).filter(|text| *text.origin == **file);
    let own = || {
        let offset = line.checked_sub(text?.first_line)?;
        let columns = word_at(text?, *line, error.column);
        written
            .place_in_policy(index, offset, &columns)
            .or_else(|| in_text(text?, *line, &columns, folder))
    };
    let included = || {
        let text = PolicyText {
            origin: file.to_string(),
            first_line: 1,
            text: reader.read(&folder.join(&**file)).ok()?,
        };
        let columns = word_at(&text, *line, error.column);
        in_text(&text, *line, &columns, folder)
    };
    let mut refusal = refusal(error.kind.to_string(), own().or_else(included));
    refusal.help.push(error.remedy());
    refusal
}

/// The columns of the word that starts at a column of a line.
fn word_at(text: &PolicyText, line: u32, column: u32) -> Range<u32> {
    let line = line.saturating_sub(text.first_line) as usize;
    let content = text.text.lines().nth(line).unwrap_or_default();
    let word = content.chars().skip(column.saturating_sub(1) as usize);
    let word = word.take_while(|c| !c.is_whitespace()).count();
    column..column.saturating_add(u32::try_from(word.max(1)).unwrap_or(1))
}

/// A place in a text that is a file of its own.
fn in_text(text: &PolicyText, line: u32, columns: &Range<u32>, folder: &Path) -> Option<Place> {
    let number = line.checked_sub(text.first_line)?.checked_add(1)?;
    // Origins count from the description's folder; a person's editor starts where the person is.
    let file: PathBuf = folder.join(&text.origin).components().collect();
    let file = file
        .strip_prefix(".")
        .unwrap_or(&file)
        .display()
        .to_string();
    let mut place = Place::in_text(file, &text.text, number, columns.clone());
    place.line = line;
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

    #[test]
    fn an_error_in_a_typed_rule_is_shown_at_its_word() {
        let system = "(\n    policy: [\n        Rule(service: \"a.B\", source: \"@anywm\",\n            \
                      target: \"b\", action: Allow(target: \"@default\")),\n        \"x.A * * c alow\",\n    ],\n)";
        let reader = MemoryReader::new([("system.ron", system)]);
        let found = load(Path::new("system.ron"), &reader).unwrap_err();
        insta::assert_snapshot!(found.render(Color::Never), @r#"
        error: `@anywm` cannot be used as a source
         --> system.ron:3:38
          |
        3 |         Rule(service: "a.B", source: "@anywm",
          |                                      ^^^^^^^^
          |
          = help: did you mean `@anyvm`?

        error: `@default` cannot be used as a `target=`
         --> system.ron:4:48
          |
        4 |             target: "b", action: Allow(target: "@default")),
          |                                                ^^^^^^^^^^
          |
          = help: use a qube's name, `@adminvm`, `@dispvm` or `@dispvm:BASE`

        error: unknown action `alow`
         --> system.ron:5:20
          |
        5 |         "x.A * * c alow",
          |                    ^^^^
          |
          = help: did you mean `allow`?

        3 errors
        "#);
    }
}
