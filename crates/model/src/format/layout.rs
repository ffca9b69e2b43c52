//! Tokens to groups and entries, with every comment where it belongs.

use crate::syntax::lexer::{Bracket, Token, TokenKind, tokenize};
use crate::syntax::{Span, SyntaxErrors};

/// A file: its attributes and its one value.
#[derive(Debug)]
pub(super) struct Layout<'s> {
    /// Each `#![…]`, already in its final form, and the comments before them.
    pub(super) attributes: Vec<Line<'s>>,
    pub(super) items: Vec<Item<'s>>,
    /// Comments behind everything.
    pub(super) dangling: Vec<Line<'s>>,
}

/// Something on a line of its own.
#[derive(Debug)]
pub(super) struct Line<'s> {
    pub(super) text: std::borrow::Cow<'s, str>,
    pub(super) blank_before: bool,
}

/// What stands between two commas.
#[derive(Debug)]
pub(super) struct Item<'s> {
    /// Comments on the lines before.
    pub(super) lead: Vec<Line<'s>>,
    pub(super) blank_before: bool,
    pub(super) parts: Vec<Part<'s>>,
    /// Comments behind it on its last line; only the last may be a line comment.
    pub(super) trail: Vec<&'s str>,
}

#[derive(Debug)]
pub(super) enum Part<'s> {
    Token(TokenKind, &'s str),
    /// A block comment on one line.
    Comment(&'s str),
    Group(Group<'s>),
}

#[derive(Debug)]
pub(super) struct Group<'s> {
    pub(super) bracket: Bracket,
    pub(super) items: Vec<Item<'s>>,
    /// Comments before the closing bracket.
    pub(super) dangling: Vec<Line<'s>>,
    /// Whether the author broke the line behind the opening bracket.
    pub(super) broken: bool,
}

/// Lays out a text that has no errors of syntax.
pub(super) fn layout(source: &str) -> Layout<'_> {
    let tokens = tokenize(source, &mut SyntaxErrors::default());
    let mut builder = Builder {
        source,
        tokens: &tokens,
        at: 0,
    };
    let attributes = builder.attributes();
    let (items, dangling) = builder.items();
    Layout {
        attributes,
        items,
        dangling,
    }
}

struct Builder<'s, 't> {
    source: &'s str,
    tokens: &'t [Token],
    at: usize,
}

impl<'s> Builder<'s, '_> {
    fn peek(&self) -> Option<Token> {
        self.tokens.get(self.at).copied()
    }

    fn text(&self, token: Token) -> &'s str {
        token.span.text(self.source)
    }

    /// Line breaks between the token before `at` and the one at it.
    fn breaks_before(&self, at: usize) -> usize {
        let end = at.checked_sub(1).and_then(|at| self.tokens.get(at));
        let start = self.tokens.get(at).map(|token| token.span.start);
        let gap = Span {
            start: end.map_or(0, |token| token.span.end),
            end: start.unwrap_or_default(),
        };
        gap.text(self.source).matches('\n').count()
    }

    fn blank_before(&self) -> bool {
        self.breaks_before(self.at) > 1
    }

    fn comment(&self, token: Token) -> Line<'s> {
        Line {
            text: self.text(token).trim_end().into(),
            blank_before: self.blank_before(),
        }
    }

    fn attributes(&mut self) -> Vec<Line<'s>> {
        let mut lines = Vec::new();
        let start = |token: &&Token| !token.is_comment();
        while self
            .tokens
            .iter()
            .skip(self.at)
            .find(start)
            .is_some_and(|token| token.kind == TokenKind::Hash)
        {
            let mut attribute = String::new();
            let blank_before = self.blank_before();
            let first = lines.len();
            while let Some(token) = self.peek() {
                if token.is_comment() {
                    lines.push(self.comment(token));
                    self.at += 1;
                    continue;
                }
                self.at += 1;
                match token.kind {
                    TokenKind::Comma => attribute.push_str(", "),
                    TokenKind::Equals => attribute.push_str(" = "),
                    _ => attribute.push_str(self.text(token)),
                }
                if token.kind == TokenKind::Close(Bracket::Square) {
                    break;
                }
            }
            lines.push(Line {
                text: attribute.replace(", )", ")").into(),
                blank_before: blank_before && lines.len() == first,
            });
        }
        lines
    }

    /// The entries up to a closing bracket, which is not consumed, or the end.
    fn items(&mut self) -> (Vec<Item<'s>>, Vec<Line<'s>>) {
        let mut items: Vec<Item<'s>> = Vec::new();
        let mut pending = Vec::new();
        loop {
            let mut lead = std::mem::take(&mut pending);
            while let Some(token) = self.peek().filter(|token| token.is_comment()) {
                lead.push(self.comment(token));
                self.at += 1;
            }
            if matches!(
                self.peek(),
                None | Some(Token {
                    kind: TokenKind::Close(_),
                    ..
                })
            ) {
                return (items, lead);
            }
            let blank_before = self.blank_before();
            let parts = self.parts(&mut lead);
            let mut trail = Vec::new();
            self.trailing(&mut trail, &mut pending);
            if self
                .peek()
                .is_some_and(|token| token.kind == TokenKind::Comma)
            {
                self.at += 1;
                if pending.is_empty() && self.ends_line() {
                    self.trailing(&mut trail, &mut pending);
                }
            }
            items.push(Item {
                lead,
                blank_before,
                parts,
                trail,
            });
        }
    }

    fn parts(&mut self, lead: &mut Vec<Line<'s>>) -> Vec<Part<'s>> {
        let mut parts = Vec::new();
        while let Some(token) = self.peek() {
            match token.kind {
                TokenKind::Comma | TokenKind::Close(_) => break,
                TokenKind::Open(bracket) => {
                    self.at += 1;
                    parts.push(Part::Group(self.group(bracket)));
                }
                TokenKind::LineComment | TokenKind::BlockComment => {
                    if self.only_comments_follow() {
                        break;
                    }
                    let text = self.text(token);
                    if token.kind == TokenKind::BlockComment && !text.contains('\n') {
                        parts.push(Part::Comment(text));
                    } else {
                        // It cannot stay in the middle: it goes before the entry.
                        lead.push(Line {
                            text: text.trim_end().into(),
                            blank_before: false,
                        });
                    }
                    self.at += 1;
                }
                kind => {
                    parts.push(Part::Token(kind, self.text(token)));
                    self.at += 1;
                }
            }
        }
        parts
    }

    fn group(&mut self, bracket: Bracket) -> Group<'s> {
        let broken = self.breaks_before(self.at) > 0;
        let (items, dangling) = self.items();
        // The text has no errors, so what ended the entries is this group's bracket.
        self.at += 1;
        Group {
            bracket,
            items,
            dangling,
            broken,
        }
    }

    /// Whether nothing but comments stands between here and the end of the entry.
    fn only_comments_follow(&self) -> bool {
        let next = self
            .tokens
            .iter()
            .skip(self.at)
            .find(|token| !token.is_comment());
        next.is_none_or(|token| matches!(token.kind, TokenKind::Comma | TokenKind::Close(_)))
    }

    /// Whether the comments here, if any, are the last on this line.
    fn ends_line(&self) -> bool {
        let mut at = self.at;
        while self.tokens.get(at).is_some_and(|token| token.is_comment()) {
            if self.breaks_before(at) > 0 {
                return true;
            }
            at += 1;
        }
        match self.tokens.get(at) {
            None => true,
            Some(token) => matches!(token.kind, TokenKind::Close(_)) || self.breaks_before(at) > 0,
        }
    }

    /// Comments on this line go to the trail, those below wait for the next entry.
    fn trailing(&mut self, trail: &mut Vec<&'s str>, pending: &mut Vec<Line<'s>>) {
        while let Some(token) = self.peek().filter(|token| token.is_comment()) {
            let closed = trail
                .last()
                .is_some_and(|text: &&str| text.starts_with("//"));
            if closed || !pending.is_empty() || self.breaks_before(self.at) > 0 {
                if !self.only_comments_before_comma() {
                    return;
                }
                pending.push(self.comment(token));
            } else {
                trail.push(self.text(token).trim_end());
            }
            self.at += 1;
        }
    }

    /// Whether a comma follows the comments here: then they cannot be read with the next entry.
    fn only_comments_before_comma(&self) -> bool {
        let next = self
            .tokens
            .iter()
            .skip(self.at)
            .find(|token| !token.is_comment());
        next.is_some_and(|token| token.kind == TokenKind::Comma)
    }
}
