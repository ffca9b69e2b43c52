//! Text to tokens, comments included; white space is what lies between them.

use unicode_ident::{is_xid_continue, is_xid_start};

use super::{Span, SyntaxError, SyntaxErrors};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// One of `( ) [ ] { }`.
    Open(Bracket),
    Close(Bracket),
    Comma,
    Colon,
    Hash,
    Bang,
    Equals,
    /// `..` or `..=`.
    Range,
    Word,
    /// `r#word`.
    RawWord,
    Number,
    /// `"…"`, `r"…"`, `r#"…"#`.
    Text,
    /// The same with `b` before.
    Bytes,
    /// `'c'`
    Char,
    /// `b'c'`
    Byte,
    LineComment,
    BlockComment,
    /// Has been reported.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bracket {
    Round,
    Square,
    Curly,
}

impl Bracket {
    pub(crate) fn open(self) -> char {
        match self {
            Self::Round => '(',
            Self::Square => '[',
            Self::Curly => '{',
        }
    }

    pub(crate) fn close(self) -> char {
        match self {
            Self::Round => ')',
            Self::Square => ']',
            Self::Curly => '}',
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

impl Token {
    pub(crate) fn is_comment(self) -> bool {
        matches!(self.kind, TokenKind::LineComment | TokenKind::BlockComment)
    }
}

/// The white space of RON.
pub(crate) fn is_space(c: char) -> bool {
    matches!(
        c,
        ' ' | '\n'
            | '\t'
            | '\r'
            | '\u{b}'
            | '\u{c}'
            | '\u{85}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'
            | '\u{2029}'
    )
}

/// Splits `source` into tokens; what is no token becomes [`TokenKind::Unknown`] and an error.
pub(crate) fn tokenize(source: &str, errors: &mut SyntaxErrors) -> Vec<Token> {
    let mut lexer = Lexer::new(source, errors);
    // A description has about one token for six bytes.
    let mut tokens = Vec::with_capacity(source.len() / 6);
    while let Some(token) = lexer.next() {
        tokens.push(token);
    }
    tokens
}

pub(crate) struct Lexer<'s, 'e> {
    source: &'s str,
    at: usize,
    errors: &'e mut SyntaxErrors,
}

impl<'s, 'e> Lexer<'s, 'e> {
    pub(super) fn new(source: &'s str, errors: &'e mut SyntaxErrors) -> Self {
        Self {
            source,
            at: 0,
            errors,
        }
    }

    /// The next token that is no comment.
    pub(super) fn next_plain(&mut self) -> Option<Token> {
        loop {
            let token = self.next()?;
            if !token.is_comment() {
                return Some(token);
            }
        }
    }

    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn starts(&self, prefix: &str) -> bool {
        self.rest().starts_with(prefix)
    }

    fn skip(&mut self, wanted: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    }

    fn next(&mut self) -> Option<Token> {
        self.skip(is_space);
        let start = self.at;
        let first = self.peek()?;
        let kind = self.kind(first);
        debug_assert!(self.at > start, "a token has at least one byte");
        Some(Token {
            kind,
            span: Span::new(start, self.at),
        })
    }

    fn kind(&mut self, first: char) -> TokenKind {
        use TokenKind::{Bang, Close, Colon, Comma, Equals, Hash, Open};
        let simple = match first {
            '(' => Some(Open(Bracket::Round)),
            ')' => Some(Close(Bracket::Round)),
            '[' => Some(Open(Bracket::Square)),
            ']' => Some(Close(Bracket::Square)),
            '{' => Some(Open(Bracket::Curly)),
            '}' => Some(Close(Bracket::Curly)),
            ',' => Some(Comma),
            ':' => Some(Colon),
            '#' => Some(Hash),
            '!' => Some(Bang),
            '=' => Some(Equals),
            _ => None,
        };
        if let Some(kind) = simple {
            self.at += 1;
            return kind;
        }
        match first {
            '"' => self.text(TokenKind::Text),
            '\'' => self.char(TokenKind::Char),
            '/' => self.comment(),
            '.' if self.starts("..") => {
                self.at += if self.starts("..=") { 3 } else { 2 };
                TokenKind::Range
            }
            '0'..='9' | '+' | '-' | '.' => self.number(),
            c if c == '_' || is_xid_start(c) => self.word_or_prefixed(),
            c => {
                self.at += c.len_utf8();
                self.error(
                    self.at - c.len_utf8(),
                    format!("unexpected character `{}`", c.escape_debug()),
                )
            }
        }
    }

    fn error(&mut self, start: usize, message: impl Into<String>) -> TokenKind {
        let span = Span::new(start, self.at);
        self.errors.push(SyntaxError::new(span, message));
        TokenKind::Unknown
    }

    fn word_or_prefixed(&mut self) -> TokenKind {
        if self.starts("b\"") {
            self.at += 1;
            return self.text(TokenKind::Bytes);
        }
        if self.starts("b'") {
            self.at += 1;
            return self.char(TokenKind::Byte);
        }
        let (prefix, kind) = if self.starts("br") {
            (2, TokenKind::Bytes)
        } else if self.starts("r") {
            (1, TokenKind::Text)
        } else {
            (0, TokenKind::Word)
        };
        if prefix > 0 {
            let after = self.rest().get(prefix..).unwrap_or_default();
            let hashes = after.find(|c| c != '#').unwrap_or(after.len());
            let behind = after.get(hashes..).unwrap_or_default();
            if behind.starts_with('"') {
                return self.raw_text(prefix, hashes, kind);
            }
            let raw = |c: char| is_xid_continue(c) || matches!(c, '.' | '+' | '-');
            if prefix == 1 && hashes == 1 && behind.starts_with(raw) {
                self.at += 2;
                self.skip(raw);
                return TokenKind::RawWord;
            }
        }
        self.skip(is_xid_continue);
        TokenKind::Word
    }

    fn text(&mut self, kind: TokenKind) -> TokenKind {
        let start = self.at;
        self.at += 1;
        loop {
            let rest = self.rest();
            let Some(next) = rest.find(['"', '\\']) else {
                return self.unclosed(start, "text", "\"");
            };
            self.at += next + 1;
            if rest.as_bytes().get(next) == Some(&b'"') {
                return kind;
            }
            self.at += self.peek().map_or(0, char::len_utf8);
        }
    }

    fn raw_text(&mut self, prefix: usize, hashes: usize, kind: TokenKind) -> TokenKind {
        let start = self.at;
        self.at += prefix + hashes + 1;
        let close = format!("\"{}", "#".repeat(hashes));
        match self.rest().find(&close) {
            Some(end) => {
                self.at += end + close.len();
                kind
            }
            None => self.unclosed(start, "text", &close),
        }
    }

    /// Reports something that runs to the end of the file, at its first line.
    fn unclosed(&mut self, start: usize, what: &str, close: &str) -> TokenKind {
        self.at = self.source.len();
        let line = self.source.get(start..).unwrap_or_default();
        let line = line.split('\n').next().unwrap_or_default();
        let span = Span::new(start, start + line.len());
        let error = SyntaxError::new(span, format!("this {what} is never closed"));
        self.errors
            .push(error.help(format!("close it with `{close}`")));
        TokenKind::Unknown
    }

    fn char(&mut self, kind: TokenKind) -> TokenKind {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some('\\') => {
                self.at += 1;
                self.at += self.peek().map_or(0, char::len_utf8);
                // What follows the first escaped character: `\x41`, `\u{1F600}`.
                self.skip(|c| c.is_ascii_hexdigit() || matches!(c, '{' | '}'));
            }
            Some(c) => self.at += c.len_utf8(),
            None => {}
        }
        if self.starts("'") {
            self.at += 1;
            return kind;
        }
        self.skip(|c| !matches!(c, '\'' | '\n' | ',' | ')' | ']' | '}'));
        let text = if self.starts("'") {
            self.at += 1;
            "a character in `'` is one character"
        } else {
            "this character is never closed"
        };
        let span = Span::new(start, self.at);
        self.errors
            .push(SyntaxError::new(span, text).help("texts are written in `\"`"));
        TokenKind::Unknown
    }

    fn comment(&mut self) -> TokenKind {
        let start = self.at;
        if self.starts("//") {
            self.skip(|c| c != '\n');
            return TokenKind::LineComment;
        }
        if !self.starts("/*") {
            self.at += 1;
            return self.error(start, "unexpected character `/`");
        }
        self.at += 2;
        let mut level = 1_usize;
        while level > 0 {
            let rest = self.rest();
            let Some(next) = rest.find(['/', '*']) else {
                return self.unclosed(start, "comment", "*/");
            };
            self.at += next;
            if self.starts("/*") {
                level += 1;
                self.at += 2;
            } else if self.starts("*/") {
                level -= 1;
                self.at += 2;
            } else {
                self.at += 1;
            }
        }
        TokenKind::BlockComment
    }

    /// Everything that looks like part of a number; whether it is one, `literal` decides.
    fn number(&mut self) -> TokenKind {
        if self.starts("+") || self.starts("-") {
            self.at += 1;
        }
        let based = ["0x", "0b", "0o"].iter().any(|prefix| self.starts(prefix));
        let mut before = '\0';
        while let Some(c) = self.peek() {
            let sign = matches!(c, '+' | '-') && matches!(before, 'e' | 'E') && !based;
            let dot = c == '.' && !self.starts("..");
            if !(c == '_' || c.is_ascii_alphanumeric() || sign || dot) {
                break;
            }
            self.at += c.len_utf8();
            before = c;
        }
        TokenKind::Number
    }
}
