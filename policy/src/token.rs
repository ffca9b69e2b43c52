//! The words that stand for qubes: in a rule's columns, in its parameters and in a request.

use std::fmt;

/// dom0 by name.
pub(crate) const DOM0: &str = "dom0";
/// dom0 by UUID: it has the nil one.
const DOM0_UUID: &str = "uuid:00000000-0000-0000-0000-000000000000";
const DISPVM_PREFIX: &str = "@dispvm:";
const DISPVM_TAG_PREFIX: &str = "@dispvm:@tag:";
const TYPE_PREFIX: &str = "@type:";
const TAG_PREFIX: &str = "@tag:";

/// Why a word cannot stand where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing at all, or a prefix with nothing behind it.
    #[error("`{0}` names nothing")]
    Empty(String),
    /// A keyword this column does not take.
    #[error("`{word}` cannot be used as a {column}")]
    NotHere {
        /// The word.
        word: String,
        /// What the column is called.
        column: &'static str,
    },
}

/// A qube as a rule writes it: its name, or `uuid:` and its UUID. Whether it exists is only known
/// when a call is decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QubeRef(Box<str>);

impl QubeRef {
    /// The word as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is dom0, which has spellings of its own.
    pub fn is_dom0(&self) -> bool {
        is_dom0(&self.0)
    }
}

impl fmt::Display for QubeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a word is one of the three spellings of dom0.
pub(crate) fn is_dom0(word: &str) -> bool {
    matches!(word, "@adminvm" | DOM0 | DOM0_UUID)
}

/// The third column of a rule: who calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SourceToken {
    /// `*`: everyone, dom0 included.
    Wildcard,
    /// `@anyvm`: everyone but dom0.
    AnyVm,
    /// `@adminvm`.
    AdminVm,
    /// One qube.
    Qube(QubeRef),
    /// `@type:CLASS`.
    Type(Box<str>),
    /// `@tag:TAG`.
    Tag(Box<str>),
    /// `@dispvm:BASE` or `@dispvm:@tag:TAG`. Accepted for old files; no caller is ever this.
    Disposable(Box<str>),
}

/// The fourth column of a rule: who was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TargetToken {
    /// `*`: every request, keywords and dom0 included.
    Wildcard,
    /// `@anyvm`: every request but dom0.
    AnyVm,
    /// `@adminvm`.
    AdminVm,
    /// `@default`: a request without a usable target.
    Default,
    /// One qube.
    Qube(QubeRef),
    /// `@type:CLASS`.
    Type(Box<str>),
    /// `@tag:TAG`.
    Tag(Box<str>),
    /// `@dispvm`: a new disposable of the caller's default base, requested as such.
    Dispvm,
    /// `@dispvm:BASE`: a new disposable of this base.
    DispvmOf(QubeRef),
    /// `@dispvm:@tag:TAG`: a new disposable of a base with this tag.
    DispvmTag(Box<str>),
}

/// `target=` and `default_target=`: where a call goes instead, or what a prompt preselects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RedirectToken {
    /// `@adminvm`.
    AdminVm,
    /// One qube.
    Qube(QubeRef),
    /// A new disposable of the caller's default base.
    Dispvm,
    /// A new disposable of this base.
    DispvmOf(QubeRef),
}

/// What a caller may write as target; borrowed, since every call has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestToken<'a> {
    AdminVm,
    Default,
    Dispvm,
    DispvmOf(&'a str),
    Qube(&'a str),
}

/// What every column reads the same way.
enum Word<'a> {
    Wildcard,
    AnyVm,
    AdminVm,
    Default,
    Dispvm,
    DispvmOf(&'a str),
    DispvmTag(&'a str),
    Type(&'a str),
    Tag(&'a str),
    Qube(&'a str),
}

impl<'a> Word<'a> {
    /// None for a keyword that does not exist.
    fn parse(word: &'a str) -> Result<Option<Self>, TokenError> {
        let empty = || TokenError::Empty(word.to_owned());
        let exact = match word {
            "" => return Err(empty()),
            "*" => Some(Self::Wildcard),
            "@anyvm" => Some(Self::AnyVm),
            "@adminvm" => Some(Self::AdminVm),
            "@default" => Some(Self::Default),
            "@dispvm" => Some(Self::Dispvm),
            _ => None,
        };
        if exact.is_some() {
            return Ok(exact);
        }
        if !word.starts_with('@') {
            return Ok(Some(Self::Qube(word)));
        }
        type Make<'a> = fn(&'a str) -> Word<'a>;
        let prefixes: [(&str, Make<'a>); 4] = [
            (DISPVM_TAG_PREFIX, Self::DispvmTag),
            (DISPVM_PREFIX, Self::DispvmOf),
            (TYPE_PREFIX, Self::Type),
            (TAG_PREFIX, Self::Tag),
        ];
        for (prefix, make) in prefixes {
            match word.strip_prefix(prefix) {
                Some("") => return Err(empty()),
                Some(value) if value.starts_with('@') => {}
                Some(value) => return Ok(Some(make(value))),
                None => {}
            }
        }
        Ok(None)
    }
}

fn not_here(word: &str, column: &'static str) -> TokenError {
    TokenError::NotHere {
        word: word.to_owned(),
        column,
    }
}

impl SourceToken {
    pub(crate) fn parse(word: &str) -> Result<Self, TokenError> {
        Ok(match Word::parse(word)? {
            Some(Word::Wildcard) => Self::Wildcard,
            Some(Word::AnyVm) => Self::AnyVm,
            Some(Word::AdminVm) => Self::AdminVm,
            Some(Word::Type(class)) => Self::Type(class.into()),
            Some(Word::Tag(tag)) => Self::Tag(tag.into()),
            Some(Word::DispvmOf(_) | Word::DispvmTag(_)) => Self::Disposable(word.into()),
            Some(Word::Qube(name)) => Self::Qube(QubeRef(name.into())),
            Some(Word::Default | Word::Dispvm) | None => return Err(not_here(word, "source")),
        })
    }
}

impl TargetToken {
    pub(crate) fn parse(word: &str) -> Result<Self, TokenError> {
        Ok(match Word::parse(word)? {
            Some(Word::Wildcard) => Self::Wildcard,
            Some(Word::AnyVm) => Self::AnyVm,
            Some(Word::AdminVm) => Self::AdminVm,
            Some(Word::Default) => Self::Default,
            Some(Word::Type(class)) => Self::Type(class.into()),
            Some(Word::Tag(tag)) => Self::Tag(tag.into()),
            Some(Word::Dispvm) => Self::Dispvm,
            Some(Word::DispvmOf(base)) => Self::DispvmOf(QubeRef(base.into())),
            Some(Word::DispvmTag(tag)) => Self::DispvmTag(tag.into()),
            Some(Word::Qube(name)) => Self::Qube(QubeRef(name.into())),
            None => return Err(not_here(word, "target")),
        })
    }
}

impl RedirectToken {
    pub(crate) fn parse(word: &str, column: &'static str) -> Result<Self, TokenError> {
        Ok(match Word::parse(word)? {
            Some(Word::AdminVm) => Self::AdminVm,
            Some(Word::Dispvm) => Self::Dispvm,
            Some(Word::DispvmOf(base)) => Self::DispvmOf(QubeRef(base.into())),
            Some(Word::Qube(name)) => Self::Qube(QubeRef(name.into())),
            _ => return Err(not_here(word, column)),
        })
    }
}

impl<'a> RequestToken<'a> {
    /// None for a word no caller may use; an empty target is `@default`.
    pub(crate) fn parse(word: &'a str) -> Option<Self> {
        if word.is_empty() {
            return Some(Self::Default);
        }
        match Word::parse(word).ok()?? {
            Word::AdminVm => Some(Self::AdminVm),
            Word::Default => Some(Self::Default),
            Word::Dispvm => Some(Self::Dispvm),
            Word::DispvmOf(base) => Some(Self::DispvmOf(base)),
            Word::Qube(name) => Some(Self::Qube(name)),
            Word::Wildcard | Word::AnyVm | Word::DispvmTag(_) | Word::Type(_) | Word::Tag(_) => {
                None
            }
        }
    }
}

impl fmt::Display for SourceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wildcard => f.write_str("*"),
            Self::AnyVm => f.write_str("@anyvm"),
            Self::AdminVm => f.write_str("@adminvm"),
            Self::Qube(qube) => qube.fmt(f),
            Self::Type(class) => write!(f, "{TYPE_PREFIX}{class}"),
            Self::Tag(tag) => write!(f, "{TAG_PREFIX}{tag}"),
            Self::Disposable(word) => f.write_str(word),
        }
    }
}

impl fmt::Display for TargetToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wildcard => f.write_str("*"),
            Self::AnyVm => f.write_str("@anyvm"),
            Self::AdminVm => f.write_str("@adminvm"),
            Self::Default => f.write_str("@default"),
            Self::Qube(qube) => qube.fmt(f),
            Self::Type(class) => write!(f, "{TYPE_PREFIX}{class}"),
            Self::Tag(tag) => write!(f, "{TAG_PREFIX}{tag}"),
            Self::Dispvm => f.write_str("@dispvm"),
            Self::DispvmOf(base) => write!(f, "{DISPVM_PREFIX}{base}"),
            Self::DispvmTag(tag) => write!(f, "{DISPVM_TAG_PREFIX}{tag}"),
        }
    }
}

impl fmt::Display for RedirectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AdminVm => f.write_str("@adminvm"),
            Self::Qube(qube) => qube.fmt(f),
            Self::Dispvm => f.write_str("@dispvm"),
            Self::DispvmOf(base) => write!(f, "{DISPVM_PREFIX}{base}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIL: &str = "uuid:00000000-0000-0000-0000-000000000000";
    const SOME: &str = "uuid:12345678-9abc-4def-8012-3456789abcde";

    #[test]
    fn each_column_takes_what_the_format_says() {
        // word, source, target, redirect, request
        let table = [
            ("work", true, true, true, true),
            (SOME, true, true, true, true),
            ("*", true, true, false, false),
            ("@anyvm", true, true, false, false),
            ("@adminvm", true, true, true, true),
            ("@default", false, true, false, true),
            ("@type:AppVM", true, true, false, false),
            ("@tag:net", true, true, false, false),
            ("@dispvm", false, true, true, true),
            ("@dispvm:base", true, true, true, true),
            ("@dispvm:@tag:net", true, true, false, false),
            ("@dispvm:@type:AppVM", false, false, false, false),
            ("@dispvm:", false, false, false, false),
            ("@tag:", false, false, false, false),
            ("@tag:@tag:x", false, false, false, false),
            ("@nonsense", false, false, false, false),
        ];
        for (word, source, target, redirect, request) in table {
            assert_eq!(SourceToken::parse(word).is_ok(), source, "{word} as source");
            assert_eq!(TargetToken::parse(word).is_ok(), target, "{word} as target");
            assert_eq!(
                RedirectToken::parse(word, "redirect").is_ok(),
                redirect,
                "{word} as redirect"
            );
            assert_eq!(
                RequestToken::parse(word).is_some(),
                request,
                "{word} as request"
            );
        }
    }

    #[test]
    fn dom0_has_three_spellings_and_each_stays_as_written() {
        for word in ["dom0", "@adminvm", NIL] {
            assert!(is_dom0(word));
            for shown in [
                SourceToken::parse(word).unwrap().to_string(),
                TargetToken::parse(word).unwrap().to_string(),
                RedirectToken::parse(word, "target=").unwrap().to_string(),
            ] {
                assert_eq!(shown, word);
            }
        }
        assert!(!is_dom0("DOM0"));
    }

    #[test]
    fn a_token_prints_as_it_was_written() {
        for word in [
            "work",
            SOME,
            "*",
            "@anyvm",
            "@adminvm",
            "@default",
            "@type:AppVM",
            "@tag:net",
            "@dispvm",
            "@dispvm:base",
            "@dispvm:@tag:net",
            "uuid:not-one",
        ] {
            assert_eq!(TargetToken::parse(word).unwrap().to_string(), word);
        }
    }
}
