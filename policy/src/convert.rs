//! Policy of the older form, one file for each service, as one text of format 5.0.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::PolicyError;
use crate::folders::{FolderError, Layout, PolicyFolders};
use crate::parse::lines;
use crate::read::is_service_file;
use crate::rule::{Origin, Rule};
use crate::token::SourceToken;

/// A converted policy.
#[derive(Debug, Clone)]
pub struct Converted {
    /// Text of format 5.0. It decides as `!compat-4.0` does over the same files.
    pub text: String,
    /// What is in the files and cannot be in the text, or what changes its meaning there.
    pub warnings: Vec<String>,
    /// How many rules the text has.
    pub rules: usize,
}

/// Name of the folder and file that stand for the text that is made; no folder is called so.
const MADE: &str = "\0made";
const MADE_FILE: &str = "made.policy";

/// The files of the older form, and one that reads them all.
#[derive(Debug)]
struct WithCompat<'a>(&'a dyn PolicyFolders);

impl PolicyFolders for WithCompat<'_> {
    fn read(&self, path: &Path) -> Result<Arc<[u8]>, FolderError> {
        if path.starts_with(MADE) {
            return Ok(b"!compat-4.0\n".as_slice().into());
        }
        self.0.read(path)
    }

    fn files(&self, folder: &Path) -> Result<Vec<String>, FolderError> {
        if folder.starts_with(MADE) {
            return Ok(vec![MADE_FILE.to_owned()]);
        }
        self.0.files(folder)
    }
}

/// Converts the files for services that lie in `legacy`. Rules keep their order, what is included
/// is put in place, and what files for one argument deny without saying so is written down.
pub fn convert(
    folders: &dyn PolicyFolders,
    legacy: &Path,
    shown_from: &Path,
) -> Result<Converted, Vec<PolicyError>> {
    let layout = Layout {
        folders: vec![PathBuf::from(MADE)],
        legacy: legacy.to_owned(),
        shown_from: shown_from.to_owned(),
    };
    let engine = Engine::read(&WithCompat(folders), &layout)?;
    let mut last = BTreeMap::new();
    for (number, rule) in engine.rules().iter().enumerate() {
        last.insert(Arc::clone(&rule.origin.file), number);
    }
    let mut writer = Writer {
        folders,
        shown_from,
        text: String::new(),
        file: None,
        sources: BTreeMap::new(),
        warnings: Vec::new(),
    };
    let mut names = folders.files(legacy).unwrap_or_default();
    names.sort();
    for name in names.iter().filter(|name| !is_service_file(name)) {
        let path = legacy.join(name);
        let shown = path.strip_prefix(shown_from).unwrap_or(&path).display();
        let warning = format!("`{shown}` is no file for a service and is left out");
        writer.warnings.push(warning);
    }
    for (number, rule) in engine.rules().iter().enumerate() {
        writer.rule(rule);
        if last.get(&rule.origin.file) == Some(&number) {
            writer.comments(&rule.origin.file, u32::MAX);
        }
    }
    Ok(Converted {
        text: writer.text,
        warnings: writer.warnings,
        rules: engine.rules().len(),
    })
}

/// The lines of a file, and how many of them were written out.
struct Source {
    lines: Vec<String>,
    done: u32,
}

struct Writer<'a> {
    folders: &'a dyn PolicyFolders,
    shown_from: &'a Path,
    text: String,
    /// The file whose rules are being written.
    file: Option<Arc<str>>,
    sources: BTreeMap<Arc<str>, Source>,
    warnings: Vec<String>,
}

impl Writer<'_> {
    fn rule(&mut self, rule: &Rule) {
        let Origin { file, line } = &rule.origin;
        if self.file.as_ref() != Some(file) {
            self.begin(file);
        }
        match line {
            0 => {
                self.comments(file, u32::MAX);
                self.line("# Implied: what the file for this argument does not list is denied.");
            }
            line => {
                if self
                    .sources
                    .get(file)
                    .is_some_and(|source| source.done >= *line)
                {
                    self.warn(format!("what `{file}` says is in the text more than once"));
                    self.sources.remove(file);
                }
                self.comments(file, *line);
            }
        }
        if let SourceToken::Disposable(word) = &rule.source {
            let origin = &rule.origin;
            self.warn(format!(
                "{origin}: no caller is ever `{word}`, so the rule does nothing"
            ));
        }
        self.line(&rule.to_string());
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn begin(&mut self, file: &Arc<str>) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(&format!("# From {file}"));
        self.file = Some(Arc::clone(file));
    }

    /// Writes the comments of `file` up to `line` that are not written yet.
    fn comments(&mut self, file: &Arc<str>, line: u32) {
        let source = self.sources.entry(Arc::clone(file)).or_insert_with(|| {
            let bytes = self.folders.read(&self.shown_from.join(&**file));
            let bytes = bytes.unwrap_or_else(|_| [].into());
            let text = String::from_utf8_lossy(&bytes);
            Source {
                lines: lines(&text).map(str::to_owned).collect(),
                done: 0,
            }
        });
        let between = source
            .lines
            .iter()
            .take(line as usize)
            .skip(source.done as usize);
        let comments: Vec<String> = between
            .map(|line| line.trim())
            .filter(|line| line.starts_with('#'))
            .map(str::to_owned)
            .collect();
        source.done = source.done.max(line);
        for comment in comments {
            self.line(&comment);
        }
    }
}

#[cfg(test)]
mod tests;
