//! The command line of an entry (`Exec`) in words, as a shell would split it: more than the standard
//! asks for, since entries are written that way. Codes stand for what the entry says of itself; those
//! for files and addresses stand for nothing, since none are opened.

use thiserror::Error;

/// What codes stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codes<'a> {
    /// `%c`.
    pub(super) name: &'a str,
    /// `%i`, with `--icon` before it.
    pub(super) icon: Option<&'a str>,
    /// `%k`.
    pub(super) file: &'a str,
}

/// A command line that cannot be run.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum CommandError {
    #[error("a quote is not closed")]
    Quote,
    #[error("`%{0}` means nothing")]
    Code(char),
    #[error("there is a `%` at the end")]
    Percent,
    #[error("there is no program")]
    Empty,
}

/// The program and its arguments.
pub(super) fn words(line: &str, codes: &Codes<'_>) -> Result<Vec<String>, CommandError> {
    let mut reader = Reader {
        codes: *codes,
        words: Vec::new(),
        word: None,
    };
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => reader.end_word(),
            '"' => reader.double_quoted(&mut rest)?,
            '\'' => reader.single_quoted(&mut rest)?,
            '\\' => reader.push(rest.next().ok_or(CommandError::Quote)?),
            '%' => reader.code(rest.next())?,
            _ => reader.push(c),
        }
    }
    reader.end_word();
    if reader.words.first().is_none_or(String::is_empty) {
        return Err(CommandError::Empty);
    }
    Ok(reader.words)
}

struct Reader<'a> {
    codes: Codes<'a>,
    words: Vec<String>,
    /// The one being read; none between two, and where a code has stood for nothing.
    word: Option<String>,
}

impl Reader<'_> {
    fn word(&mut self) -> &mut String {
        self.word.get_or_insert_default()
    }

    fn push(&mut self, c: char) {
        self.word().push(c);
    }

    fn text(&mut self, text: &str) {
        self.word().push_str(text);
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }

    fn double_quoted(&mut self, rest: &mut std::str::Chars<'_>) -> Result<(), CommandError> {
        self.word();
        loop {
            match rest.next().ok_or(CommandError::Quote)? {
                '"' => return Ok(()),
                '\\' => match rest.next().ok_or(CommandError::Quote)? {
                    c @ ('"' | '`' | '$' | '\\') => self.push(c),
                    other => self.word().extend(['\\', other]),
                },
                '%' => self.code(rest.next())?,
                c => self.push(c),
            }
        }
    }

    fn single_quoted(&mut self, rest: &mut std::str::Chars<'_>) -> Result<(), CommandError> {
        self.word();
        loop {
            match rest.next().ok_or(CommandError::Quote)? {
                '\'' => return Ok(()),
                '%' => self.code(rest.next())?,
                c => self.push(c),
            }
        }
    }

    fn code(&mut self, code: Option<char>) -> Result<(), CommandError> {
        match code.ok_or(CommandError::Percent)? {
            '%' => self.push('%'),
            'c' => self.text(self.codes.name),
            'k' => self.text(self.codes.file),
            'i' => {
                if let Some(icon) = self.codes.icon {
                    self.end_word();
                    self.words.push("--icon".into());
                    self.text(icon);
                }
            }
            // Files and addresses to open, and what earlier standards had.
            'f' | 'F' | 'u' | 'U' | 'd' | 'D' | 'n' | 'N' | 'v' | 'm' => {}
            other => return Err(CommandError::Code(other)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODES: Codes<'_> = Codes {
        name: "A Name",
        icon: Some("an icon"),
        file: "/a.desktop",
    };

    fn split(line: &str) -> Result<String, CommandError> {
        words(line, &CODES).map(|words| words.join("|"))
    }

    #[test]
    fn words_are_split_as_entries_mean_them() {
        for (line, expected) in [
            ("xterm", "xterm"),
            ("  a  b\tc ", "a|b|c"),
            (r#""a b" c"#, "a b|c"),
            (
                r#"sh -c "echo \"\$HOME\" \\ \`x\` \n""#,
                r#"sh|-c|echo "$HOME" \ `x` \n"#,
            ),
            ("sh -c 'a \"b\" \\ c'", "sh|-c|a \"b\" \\ c"),
            (r"a\ b", "a b"),
            ("a\"b c\"d", "ab cd"),
            (r#"a "" b"#, "a||b"),
            ("env A=B x", "env|A=B|x"),
        ] {
            assert_eq!(split(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn codes_stand_for_what_the_entry_says() {
        for (line, expected) in [
            ("firefox %u", "firefox"),
            ("a %F -- %U b", "a|--|b"),
            ("a %i -x", "a|--icon|an icon|-x"),
            ("a %c %k", "a|A Name|/a.desktop"),
            ("a 100%% --file=%f", "a|100%|--file="),
            (r#"a "%u""#, "a|"),
        ] {
            assert_eq!(split(line).unwrap(), expected, "{line}");
        }
        let none = Codes {
            icon: None,
            ..CODES
        };
        assert_eq!(words("a %i b", &none).unwrap(), ["a", "b"]);
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        for (line, error) in [
            ("", CommandError::Empty),
            ("  ", CommandError::Empty),
            ("%u", CommandError::Empty),
            ("\"\" x", CommandError::Empty),
            ("a \"b", CommandError::Quote),
            ("a 'b", CommandError::Quote),
            ("a \\", CommandError::Quote),
            ("a \"b\\", CommandError::Quote),
            ("a %x", CommandError::Code('x')),
            ("a %", CommandError::Percent),
        ] {
            assert_eq!(split(line), Err(error), "{line}");
        }
    }

    fn quoted(word: &str) -> String {
        let mut text = String::from("\"");
        for c in word.chars() {
            match c {
                '"' | '`' | '$' | '\\' => text.extend(['\\', c]),
                '%' => text.push_str("%%"),
                c => text.push(c),
            }
        }
        text + "\""
    }

    proptest! {
        #[test]
        fn words_that_are_quoted_come_back(program in ".+", rest: Vec<String>) {
            let all: Vec<String> = std::iter::once(program).chain(rest).collect();
            let line: Vec<_> = all.iter().map(|word| quoted(word)).collect();
            prop_assert_eq!(words(&line.join(" "), &CODES).unwrap(), all);
        }

        #[test]
        fn any_line_is_an_answer(line in "[a-z\"'\\\\% $ui]{0,40}") {
            if let Ok(words) = words(&line, &CODES) {
                prop_assert!(!words[0].is_empty());
            }
        }
    }
}
