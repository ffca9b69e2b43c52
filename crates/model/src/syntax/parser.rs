//! Tokens to tree, going on after every error.

use super::lexer::{Bracket, Lexer, Token, TokenKind};
use super::tree::{Field, Node, Value, Word};
use super::{Span, SyntaxError, SyntaxErrors, literal};

/// How deep values may nest. The description itself needs eight; the bound keeps a hostile or
/// generated file from exhausting the stack.
pub const DEPTH_MAX: usize = 64;

/// Extensions of RON that may be enabled at the top of a file. None changes the tree: the
/// reader of the description accepts a bare value for an optional one anyway.
const EXTENSIONS: [&str; 4] = [
    "unwrap_newtypes",
    "implicit_some",
    "unwrap_variant_newtypes",
    "explicit_struct_names",
];

/// Parses one document. The tree is whole even when there are errors: what could not be read is
/// [`Value::Broken`].
pub(crate) fn parse(source: &str) -> (Node<'_>, SyntaxErrors) {
    let mut errors = SyntaxErrors::default();
    let mut parser = Parser::new(source, &mut errors);
    parser.attributes();
    let node = parser.document();
    // What follows the document is searched too for what is no token.
    while parser.peek().is_some() {
        parser.bump();
    }
    let found = parser.errors;
    errors.extend(found);
    errors.list.sort_by_key(|error| error.span);
    (node, errors)
}

/// Takes tokens from the lexer as it needs them: those of a large file would take more room than
/// its text.
struct Parser<'s, 'e> {
    source: &'s str,
    lexer: Lexer<'s, 'e>,
    /// The token that is looked at, and the one behind it.
    ahead: [Option<Token>; 2],
    /// The last token that was consumed.
    last: Option<Token>,
    /// How many were consumed.
    at: usize,
    /// Brackets that are open, outermost first.
    open: Vec<Bracket>,
    errors: SyntaxErrors,
}

/// What follows an element of a bracketed sequence.
enum Next {
    Element,
    End(Span),
}

impl<'s, 'e> Parser<'s, 'e> {
    /// `unreadable` gets what is no token.
    fn new(source: &'s str, unreadable: &'e mut SyntaxErrors) -> Self {
        let mut lexer = Lexer::new(source, unreadable);
        let ahead = [lexer.next_plain(), lexer.next_plain()];
        Self {
            source,
            lexer,
            ahead,
            last: None,
            at: 0,
            open: Vec::new(),
            errors: SyntaxErrors::default(),
        }
    }

    fn peek(&self) -> Option<Token> {
        self.ahead[0]
    }

    /// What the next token is, and what the one behind it.
    fn kinds(&self) -> [Option<TokenKind>; 2] {
        self.ahead.map(|token| token.map(|token| token.kind))
    }

    fn peek_kind(&self) -> Option<TokenKind> {
        self.kinds()[0]
    }

    /// Consumes the next token.
    fn bump(&mut self) {
        self.last = self.ahead[0];
        self.ahead = [self.ahead[1], self.lexer.next_plain()];
        self.at += 1;
    }

    /// Consumes the next token if it is of this kind.
    fn accept(&mut self, kind: TokenKind) -> Option<Span> {
        let token = self.peek().filter(|token| token.kind == kind)?;
        self.bump();
        Some(token.span)
    }

    /// Whether the next token is of this kind and nothing stands before it.
    fn touches(&self, kind: TokenKind) -> bool {
        let next = self.peek().filter(|token| token.kind == kind);
        next.is_some_and(|token| token.span.start == self.behind().start)
    }

    /// Where the text ends, or the last token that was consumed.
    fn here(&self) -> Span {
        match self.peek() {
            Some(token) => token.span,
            None => self.behind(),
        }
    }

    /// Just behind the last token that was consumed.
    fn behind(&self) -> Span {
        (self.last).map_or(Span::default(), |token| token.span.after())
    }

    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.errors.push(SyntaxError::new(span, message));
    }

    fn document(&mut self) -> Node<'s> {
        if self.peek().is_none() && self.last.is_none() {
            let error = SyntaxError::new(Span::default(), "the file is empty");
            self.errors.push(error.help("an empty description is `()`"));
        }
        let node = match self.peek() {
            Some(_) => self.value(),
            None => Node {
                span: self.behind(),
                value: Value::Broken,
            },
        };
        if let Some(token) = self.peek() {
            let text = token.span.text(self.source);
            if token.kind != TokenKind::Unknown {
                self.error(
                    token.span,
                    format!("expected the end of the file, found `{text}`"),
                );
            }
        }
        node
    }

    /// `#![enable(…)]`, `#![type = "…"]`, `#![schema = "…"]`.
    fn attributes(&mut self) {
        while let Some(start) = self.accept(TokenKind::Hash) {
            if !self.attribute() {
                let span = start.to(self.behind());
                let error = SyntaxError::new(span, "this attribute is not RON's");
                self.errors
                    .push(error.help("`#![enable(implicit_some)]` is one"));
                while self
                    .peek()
                    .is_some_and(|token| token.kind != TokenKind::Close(Bracket::Square))
                {
                    self.bump();
                }
                self.accept(TokenKind::Close(Bracket::Square));
            }
        }
    }

    fn attribute(&mut self) -> bool {
        let (round, square) = (Bracket::Round, Bracket::Square);
        if self.accept(TokenKind::Bang).is_none() || self.accept(TokenKind::Open(square)).is_none()
        {
            return false;
        }
        match self
            .accept(TokenKind::Word)
            .map(|span| span.text(self.source))
        {
            Some("enable") => {
                if self.accept(TokenKind::Open(round)).is_none() {
                    return false;
                }
                let mut first = true;
                while self.accept(TokenKind::Close(round)).is_none() {
                    if !first && self.accept(TokenKind::Comma).is_none() {
                        return false;
                    }
                    if !first && self.accept(TokenKind::Close(round)).is_some() {
                        break;
                    }
                    first = false;
                    let name = self
                        .accept(TokenKind::Word)
                        .map(|span| span.text(self.source));
                    if !name.is_some_and(|name| EXTENSIONS.contains(&name)) {
                        return false;
                    }
                }
                if first {
                    return false;
                }
            }
            Some("type" | "schema") => {
                if self.accept(TokenKind::Equals).is_none()
                    || self.accept(TokenKind::Text).is_none()
                {
                    return false;
                }
            }
            _ => return false,
        }
        self.accept(TokenKind::Close(square)).is_some()
    }

    fn broken(&self, span: Span) -> Node<'s> {
        Node {
            span,
            value: Value::Broken,
        }
    }

    fn value(&mut self) -> Node<'s> {
        let Some(token) = self.peek() else {
            let span = self.behind();
            self.error(span, "expected a value, found the end of the file");
            return self.broken(span);
        };
        let (span, spelling) = (token.span, token.span.text(self.source));
        let literal = match token.kind {
            TokenKind::Open(bracket) => return self.bracketed(None, bracket),
            TokenKind::Word | TokenKind::RawWord => return self.word(),
            TokenKind::Range => return self.range(span),
            TokenKind::Number => literal::number(spelling),
            TokenKind::Text => literal::text(spelling).map(Value::Text),
            TokenKind::Bytes => literal::bytes(spelling).map(|()| Value::Bytes),
            TokenKind::Char => literal::char(spelling).map(Value::Char),
            TokenKind::Byte => literal::byte(spelling).map(|byte| Value::Integer(byte.into())),
            TokenKind::Unknown => Ok(Value::Broken),
            _ => {
                self.error(span, format!("expected a value, found `{spelling}`"));
                if matches!(token.kind, TokenKind::Comma | TokenKind::Close(_)) {
                    // It belongs to the group around: the value is the nothing before it.
                    return self.broken(self.behind());
                }
                self.bump();
                return self.broken(span);
            }
        };
        self.bump();
        let value = literal.unwrap_or_else(|message| {
            self.error(span, message);
            Value::Broken
        });
        if matches!(value, Value::Integer(_) | Value::Float(_)) && self.touches(TokenKind::Range) {
            return self.range(span);
        }
        Node { span, value }
    }

    /// `1..2`, `1..`, `..2`, `..`, and the same with `..=`; at the range token.
    fn range(&mut self, start: Span) -> Node<'s> {
        let dots = self.accept(TokenKind::Range).unwrap_or(start);
        let inclusive = dots.text(self.source) == "..=";
        let (span, spelling) = (self.here(), self.here().text(self.source));
        let named = self.touches(TokenKind::Word) && literal::named_float(spelling).is_some();
        if self.touches(TokenKind::Number) || self.touches(TokenKind::Byte) || named {
            let value = match spelling.starts_with('b') {
                true => literal::byte(spelling).map(|_| ()),
                false => literal::number(spelling).map(|_| ()),
            };
            if let Err(message) = value {
                self.error(span, message);
            }
            self.bump();
        } else if inclusive {
            self.error(dots, "`..=` is followed by a number");
        }
        Node {
            span: Span {
                start: start.start,
                end: self.behind().end,
            },
            value: Value::Range,
        }
    }

    /// `true`, `None`, `Some(…)`, `Name`, `Name(…)`.
    fn word(&mut self) -> Node<'s> {
        let Some(token) = self.peek() else {
            return self.broken(Span::default());
        };
        self.bump();
        let name = self.name_of(token);
        let span = token.span;
        let plain = token.kind == TokenKind::Word;
        let value = match name.text {
            "true" if plain => Value::Bool(true),
            "false" if plain => Value::Bool(false),
            "None" if plain => Value::None,
            text if plain && literal::named_float(text).is_some() => {
                if self.touches(TokenKind::Range) {
                    return self.range(span);
                }
                Value::Float(literal::named_float(text).unwrap_or(f64::NAN))
            }
            text => match self.peek_kind() {
                Some(TokenKind::Open(Bracket::Round)) => {
                    let node = self.bracketed(Some(name), Bracket::Round);
                    return if text == "Some" && plain {
                        self.some(node)
                    } else {
                        node
                    };
                }
                _ if text == "Some" && plain => {
                    let error = SyntaxError::new(span, "`Some` is followed by a value in `()`");
                    self.errors.push(error);
                    Value::Broken
                }
                _ => Value::Word(text),
            },
        };
        Node { span, value }
    }

    fn some(&mut self, node: Node<'s>) -> Node<'s> {
        let span = node.span;
        match node.value {
            Value::Tuple { items, .. } if items.len() == 1 => Node {
                span,
                value: (items.into_iter().next())
                    .map_or(Value::Broken, |item| Value::Some(Box::new(item))),
            },
            Value::Broken => node,
            _ => {
                self.error(span, "`Some` holds one value");
                self.broken(span)
            }
        }
    }

    fn name_of(&self, token: Token) -> Word<'s> {
        let text = token.span.text(self.source);
        let text = match token.kind {
            TokenKind::RawWord => text.get(2..).unwrap_or_default(),
            _ => text,
        };
        Word {
            span: token.span,
            text,
        }
    }

    /// A list, map, tuple or struct; at its opening bracket.
    fn bracketed(&mut self, name: Option<Word<'s>>, bracket: Bracket) -> Node<'s> {
        let open = self.here();
        let start = name.map_or(open, |name| name.span);
        self.bump();
        if self.open.len() >= DEPTH_MAX {
            let message = format!("values nest deeper than {DEPTH_MAX} levels");
            self.error(open, message);
            self.skip_group();
            return self.broken(start.to(self.behind()));
        }
        self.open.push(bracket);
        let name = name.map(Box::new);
        let (value, end) = match bracket {
            Bracket::Square => {
                let (items, end) = self.elements(open, bracket, Self::value);
                (Value::List(items.into()), end)
            }
            Bracket::Curly => {
                let (entries, end) = self.elements(open, bracket, Self::entry);
                (Value::Map(entries.into()), end)
            }
            Bracket::Round if self.at_field() => {
                let (fields, end) = self.elements(open, bracket, Self::field);
                let fields = fields.into_iter().flatten().collect();
                (Value::Struct { name, fields }, end)
            }
            Bracket::Round => {
                let (items, end) = self.elements(open, bracket, Self::value);
                let value = match name {
                    None if items.is_empty() => Value::Unit,
                    name => Value::Tuple {
                        name,
                        items: items.into(),
                    },
                };
                (value, end)
            }
        };
        self.open.pop();
        Node {
            span: start.to(end),
            value,
        }
    }

    /// Whether a field follows, also one that lacks its colon.
    fn at_field(&self) -> bool {
        use TokenKind::{Char, Colon, Equals, Number, Open, RawWord, Text, Word};
        let [first, behind] = self.kinds();
        matches!(first, Some(Word | RawWord))
            && matches!(
                behind,
                Some(
                    Colon
                        | Equals
                        | Text
                        | Number
                        | Char
                        | Word
                        | Open(Bracket::Square | Bracket::Curly)
                )
            )
    }

    /// Elements up to the closing bracket, and that bracket's place.
    fn elements<T>(
        &mut self,
        open: Span,
        bracket: Bracket,
        mut element: impl FnMut(&mut Self) -> T,
    ) -> (Vec<T>, Span) {
        let mut elements = Vec::new();
        if let Some(end) = self.accept(TokenKind::Close(bracket)) {
            return (elements, end);
        }
        loop {
            let before = self.at;
            if self.peek().is_none() || self.at_foreign_close(bracket) {
                // `separator` reports it.
            } else {
                elements.push(element(self));
            }
            match self.separator(open, bracket, before) {
                Next::Element => {}
                Next::End(end) => return (elements, end),
            }
        }
    }

    fn at_foreign_close(&self, bracket: Bracket) -> bool {
        matches!(self.peek_kind(), Some(TokenKind::Close(close)) if close != bracket)
    }

    /// Consumes what stands between two elements, or the end of the sequence. `before` is where
    /// the element started: at least one token is consumed since then, so this always ends.
    fn separator(&mut self, open: Span, bracket: Bracket, before: usize) -> Next {
        loop {
            let Some(token) = self.peek() else {
                return self.unclosed(open, bracket, None);
            };
            match token.kind {
                TokenKind::Comma => {
                    self.bump();
                    return match self.accept(TokenKind::Close(bracket)) {
                        Some(end) => Next::End(end),
                        None => Next::Element,
                    };
                }
                TokenKind::Close(close) if close == bracket => {
                    self.bump();
                    return Next::End(token.span);
                }
                TokenKind::Close(close) if self.open.contains(&close) => {
                    return self.unclosed(open, bracket, Some(token.span));
                }
                TokenKind::Close(close) => {
                    self.bump();
                    let message = format!("`{}` closes nothing that is open", close.close());
                    let error = SyntaxError::new(token.span, message);
                    self.errors
                        .push(error.related(open, "this is what is open"));
                    let more = [TokenKind::Comma, TokenKind::Close(bracket)];
                    let next = self.peek_kind();
                    if next.is_some_and(|kind| !more.contains(&kind))
                        && !self.at_foreign_close(bracket)
                    {
                        return Next::Element;
                    }
                }
                kind => {
                    if kind != TokenKind::Unknown {
                        let found = shorten(token.span.text(self.source));
                        let message =
                            format!("expected `,` or `{}` before `{found}`", bracket.close());
                        self.error(self.behind(), message);
                    }
                    if self.at == before {
                        self.bump();
                    }
                    return Next::Element;
                }
            }
        }
    }

    fn unclosed(&mut self, open: Span, bracket: Bracket, found: Option<Span>) -> Next {
        let message = format!("this `{}` is never closed", bracket.open());
        let error = SyntaxError::new(open, message);
        self.errors.push(match found {
            Some(span) => error.related(span, "this closes something further out"),
            None => error.help(format!("add `{}`", bracket.close())),
        });
        Next::End(self.behind())
    }

    fn entry(&mut self) -> (Node<'s>, Node<'s>) {
        let key = self.value();
        let value = self.after_colon(key.span);
        (key, value)
    }

    fn field(&mut self) -> Option<Field<'s>> {
        let token = self.peek()?;
        if !matches!(token.kind, TokenKind::Word | TokenKind::RawWord) {
            let found = shorten(token.span.text(self.source)).to_owned();
            if token.kind != TokenKind::Unknown {
                self.error(
                    token.span,
                    format!("expected a field `name: value`, found `{found}`"),
                );
            }
            self.skip_element();
            return None;
        }
        self.bump();
        let name = self.name_of(token);
        let value = self.after_colon(name.span);
        Some(Field { name, value })
    }

    fn after_colon(&mut self, key: Span) -> Node<'s> {
        if self.accept(TokenKind::Colon).is_some() {
            return self.value();
        }
        let behind = key.after();
        self.error(behind, "expected `:` and a value");
        match self.peek_kind() {
            // `netvm = "x"` and `netvm "x"`: the value is there, only the colon is not.
            Some(TokenKind::Equals) => {
                self.bump();
                self.value()
            }
            Some(TokenKind::Comma | TokenKind::Close(_)) | None => self.broken(behind),
            Some(_) => self.value(),
        }
    }

    /// Skips to the comma or bracket that ends the current element.
    fn skip_element(&mut self) {
        while let Some(token) = self.peek() {
            match token.kind {
                TokenKind::Comma | TokenKind::Close(_) => return,
                TokenKind::Open(_) => {
                    self.bump();
                    self.skip_group();
                }
                _ => self.bump(),
            }
        }
    }

    /// Skips a group whose opening bracket was consumed, without recursion.
    fn skip_group(&mut self) {
        let mut depth = 1_usize;
        while let Some(token) = self.peek() {
            self.bump();
            match token.kind {
                TokenKind::Open(_) => depth += 1,
                TokenKind::Close(_) => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }
}

/// A spelling short enough for a message.
fn shorten(text: &str) -> &str {
    let line = text.split('\n').next().unwrap_or_default();
    match line.char_indices().nth(32) {
        Some((at, _)) => line.get(..at).unwrap_or_default(),
        None => line,
    }
}
