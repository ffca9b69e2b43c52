//! Loading a description together with its policy, so that one check tells everything.

use std::path::{Path, PathBuf};

use bulkhead_model::diagnostic::{Diagnostic, Diagnostics, Place, Severity};
use bulkhead_model::load::{Loaded, load_with};
use bulkhead_model::qube::PolicyText;
use bulkhead_model::source::SourceReader;

use crate::engine::Engine;
use crate::error::PolicyError;

/// Loads the description whose root file is `root`, and the engine of its policy. What is wrong
/// with either is reported at once.
pub fn load(root: &Path, reader: &dyn SourceReader) -> Result<(Loaded, Engine), Diagnostics> {
    let mut engine = Engine::broken(Vec::new());
    let loaded = load_with(root, reader, |texts| match Engine::parse(texts) {
        Ok(parsed) => {
            engine = parsed;
            Vec::new()
        }
        Err(errors) => {
            let folder = root.parent().unwrap_or(Path::new(""));
            let told = errors.iter().map(|error| diagnostic(error, texts, folder));
            told.collect()
        }
    })?;
    Ok((loaded, engine))
}

fn diagnostic(error: &PolicyError, texts: &[PolicyText], folder: &Path) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        message: error.kind.to_string(),
        place: place(error, texts, folder),
        related: Vec::new(),
        help: vec![error.remedy()],
        notes: Vec::new(),
    }
}

/// Where a policy error is: from its column to the end of the word.
fn place(error: &PolicyError, texts: &[PolicyText], folder: &Path) -> Option<Place> {
    let text = texts.iter().find(|text| {
        let lines = u32::try_from(text.text.lines().count()).unwrap_or(u32::MAX);
        let range = text.first_line..=text.first_line.saturating_add(lines);
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
