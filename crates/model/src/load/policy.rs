//! The policy of a description as written, for those who know what a rule means.

use std::ops::Range;

use crate::diagnostic::{At, Place, SourceMap};
use crate::qube::{PolicyFolder, PolicyText};

/// Where a text stands in a file of the description.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) at: At,
    /// For a typed rule: the columns of each word of its line, and where the word was written.
    pub(super) words: Vec<(Range<u32>, At)>,
}

/// Texts in order, each with where it stands; none for a file of its own.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) texts: Vec<PolicyText>,
    pub(super) written: Vec<Option<Written>>,
    /// Folders that are read live; they count how many texts come before them.
    pub(super) folders: Vec<PolicyFolder>,
}

impl Texts {
    pub(super) fn push(&mut self, text: PolicyText, written: Option<Written>) {
        self.texts.push(text);
        self.written.push(written);
    }
}

/// The policy and the expectations of all files.
#[derive(Debug)]
pub struct PolicySources<'a> {
    pub(super) sources: &'a SourceMap,
    pub(super) policy: Texts,
    pub(super) tests: Texts,
}

impl PolicySources<'_> {
    /// The folders that are read live.
    pub fn folders(&self) -> &[PolicyFolder] {
        &self.policy.folders
    }

    /// The policy, in order.
    pub fn policy(&self) -> &[PolicyText] {
        &self.policy.texts
    }

    /// The expectations, in order.
    pub fn tests(&self) -> &[PolicyText] {
        &self.tests.texts
    }

    /// Where columns of a line of the policy text with number `index` were written; none if the
    /// text is a file of its own. The line counts from the start of the text, from 0.
    pub fn place_in_policy(&self, index: usize, line: u32, columns: &Range<u32>) -> Option<Place> {
        self.place(&self.policy, index, line, columns)
    }

    /// The same for expectations.
    pub fn place_in_tests(&self, index: usize, line: u32, columns: &Range<u32>) -> Option<Place> {
        self.place(&self.tests, index, line, columns)
    }

    fn place(&self, texts: &Texts, index: usize, line: u32, columns: &Range<u32>) -> Option<Place> {
        let written = texts.written.get(index)?.as_ref()?;
        let word = (written.words.iter()).find(|(word, _)| word.contains(&columns.start));
        if let Some((_, at)) = word {
            return Some(self.of(*at));
        }
        let text = texts.texts.get(index)?;
        Some(
            self.within(written.at, text, line, columns)
                .unwrap_or_else(|| self.of(written.at)),
        )
    }

    fn of(&self, at: At) -> Place {
        Place::of(
            self.sources.name(at.file),
            self.sources.text(at.file),
            at.span,
        )
    }

    /// In a text that stands in the file as it is, without escapes.
    fn within(&self, at: At, text: &PolicyText, line: u32, columns: &Range<u32>) -> Option<Place> {
        let own = text.text.lines().nth(line as usize)?;
        let source = self.sources.text(at.file);
        let number = text.first_line.checked_add(line)?;
        let whole = source.lines().nth(number.checked_sub(1)? as usize)?;
        let start = whole.find(own).filter(|_| !own.trim().is_empty())?;
        let before = whole.get(..start)?.chars().count();
        let shift = u32::try_from(before).ok()?;
        let columns = columns.start.checked_add(shift)?..columns.end.checked_add(shift)?;
        let name = self.sources.name(at.file);
        Some(Place::in_text(name, source, number, columns))
    }
}
