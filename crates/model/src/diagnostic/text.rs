//! Diagnostics as a person reads them.

use annotate_snippets::{
    Annotation, AnnotationKind, Group, Level, Renderer, Snippet, normalize_untrusted_str,
};

use super::{Diagnostic, Diagnostics, Place, Severity};

/// Whether to colour the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// Plain text, for files and pipes.
    Never,
    /// With the escape sequences of a terminal.
    Always,
}

impl Diagnostics {
    /// All of them with their lines and carets, and a last line that counts them. Empty when
    /// there are none. What comes from files is shown without control characters.
    pub fn render(&self, color: Color) -> String {
        if self.is_empty() {
            return String::new();
        }
        let renderer = match color {
            Color::Never => Renderer::plain(),
            Color::Always => Renderer::styled(),
        };
        let mut out = String::new();
        for diagnostic in &self.list {
            out.push_str(&renderer.render(&diagnostic.report()));
            out.push_str("\n\n");
        }
        out.push_str(&self.summary());
        out.push('\n');
        out
    }

    fn summary(&self) -> String {
        let count = |number: usize, what: &str| match number {
            0 => None,
            1 => Some(format!("1 {what}")),
            n => Some(format!("{n} {what}s")),
        };
        let found = [
            count(self.errors(), "error"),
            count(self.warnings(), "warning"),
        ];
        let mut text = found.into_iter().flatten().collect::<Vec<_>>().join(", ");
        if self.omitted > 0 {
            text.push_str(&format!(", and {} more not shown", self.omitted));
        }
        text
    }
}

impl Diagnostic {
    fn report(&self) -> Vec<Group<'_>> {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group =
            Group::with_title(level.primary_title(normalize_untrusted_str(&self.message)));
        let primary = (self.place.iter()).map(|place| (place, "", AnnotationKind::Primary));
        let related =
            (self.related.iter()).map(|r| (&r.place, r.label.as_str(), AnnotationKind::Context));
        for (place, label, kind) in primary.chain(related) {
            group = group.element(snippet(place, annotation(place, label, kind)));
        }
        for help in &self.help {
            group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
        }
        for note in &self.notes {
            group = group.element(Level::NOTE.message(normalize_untrusted_str(note)));
        }
        vec![group]
    }
}

fn snippet<'a>(place: &'a Place, annotation: Annotation<'a>) -> Snippet<'a, Annotation<'a>> {
    Snippet::source(place.excerpt.as_str())
        .line_start(place.line as usize)
        .path(place.file.as_str())
        .annotation(annotation)
}

fn annotation<'a>(place: &'a Place, label: &'a str, kind: AnnotationKind) -> Annotation<'a> {
    let offset = |column: u32| {
        let skipped = column.saturating_sub(place.excerpt_column) as usize;
        let upto = place.excerpt.char_indices().nth(skipped);
        upto.map_or(place.excerpt.len(), |(at, _)| at)
    };
    let span = offset(place.column)..offset(place.end_column);
    let label = (!label.is_empty()).then(|| normalize_untrusted_str(label));
    kind.span(span).label(label)
}
