//! What a desktop entry says: the lines of its first group, without those for other languages.

/// Longest file that is read, in bytes. Large ones have their text in a hundred languages.
pub(super) const ENTRY_MAX: u64 = 512 * 1024;

/// The group that describes the entry itself.
const GROUP: &str = "[Desktop Entry]";

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Keys and values as they stand there, in order.
    lines: Vec<(String, String)>,
}

impl Entry {
    /// None where there is no such group, or something else before it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_said = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
        let mut said = text.lines().filter(is_said);
        if said.next()?.trim_end() != GROUP {
            return None;
        }
        let own = said.take_while(|line| !line.starts_with('['));
        let pairs = own.filter_map(|line| line.split_once('='));
        let lines = pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
        let lines = lines.filter(|(key, _)| is_key(key)).collect();
        Some(Self { lines })
    }

    /// Keys and values as they stand there, in order.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.lines.iter();
        lines.map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The text of a key, without its escapes.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.raw(key).map(unescaped)
    }

    /// Whether a key is there and true.
    pub(super) fn is(&self, key: &str) -> bool {
        self.raw(key) == Some("true")
    }

    /// Whether it is an application, and not one that was removed.
    pub(super) fn is_application(&self) -> bool {
        // Entries older than the standard have no type.
        matches!(self.raw("Type"), None | Some("Application")) && !self.is("Hidden")
    }

    fn raw(&self, key: &str) -> Option<&str> {
        let (_, value) = self.lines().find(|(name, _)| *name == key)?;
        Some(value)
    }
}

/// A key without a language: letters, digits and `-`.
fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn unescaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match rest.next() {
            Some('s') => text.push(' '),
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('\\') | None => text.push('\\'),
            // Left for whoever reads on: command lines have escapes of their own.
            Some(other) => text.extend(['\\', other]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const XTERM: &str = "# a comment\n\n[Desktop Entry]\nName=XTerm\nName[de]=Anders\nbad key=x\n\
        Exec = xterm \nComment=a\\sb\\\\c\\nd\\\"\nnothing\nTerminal=true\n\
        [Desktop Action new]\nExec=other\nHidden=true\n";

    #[test]
    fn the_first_group_counts_and_only_it() {
        let entry = Entry::parse(XTERM).unwrap();
        let lines: Vec<_> = entry.lines().collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert_eq!(lines[1], ("Exec", "xterm"));
        assert_eq!(entry.text("Comment").unwrap(), "a b\\c\nd\\\"");
        assert!(entry.is("Terminal") && entry.is_application());
        assert_eq!(entry.text("Icon"), None);
    }

    #[test]
    fn what_is_no_application_is_told_apart() {
        for bad in [
            "",
            "Name=x\n[Desktop Entry]\n",
            "[Other]\n[Desktop Entry]\n",
        ] {
            assert_eq!(Entry::parse(bad), None, "{bad:?}");
        }
        for (text, is) in [
            ("Type=Application", true),
            ("", true),
            ("Type=Link", false),
            ("Hidden=true", false),
            ("Hidden=false", true),
        ] {
            let entry = Entry::parse(&format!("[Desktop Entry]\n{text}\n")).unwrap();
            assert_eq!(entry.is_application(), is, "{text}");
        }
    }
}
