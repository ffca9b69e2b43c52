//! What can be wrong with policy text, and what would be right.

use std::fmt;

use crate::read::{FILES_MAX, INCLUDE_DEPTH_MAX, RULES_MAX, TEXT_BYTES_MAX};
use crate::rule::Origin;
use crate::token::TokenError;

/// One fault in policy text. Display is `file:line:column: what is wrong`, and `file: what is
/// wrong` for a file as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// File and line; for a path that cannot be included, those of the directive.
    pub origin: Origin,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// What is wrong.
    pub kind: PolicyErrorKind,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin.line {
            0 => write!(f, "{}: {}", self.origin, self.kind),
            _ => write!(f, "{}:{}: {}", self.origin, self.column, self.kind),
        }
    }
}

impl std::error::Error for PolicyError {}

/// What sort of error ends the loading of a policy. All of them deny every call; tools that speak
/// of them tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The text is not policy.
    Syntax,
    /// A file or folder cannot be used.
    Refused,
    /// The files contradict themselves, or a limit is met.
    Fault,
}

impl PolicyError {
    /// What to write instead; one lower-case sentence.
    pub fn remedy(&self) -> String {
        self.kind.remedy()
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyErrorKind {
    /// Fewer than five fields.
    #[error("rule has {0} of the five fields it needs")]
    MissingFields(usize),
    /// A character no service name has.
    #[error("service `{word}` contains `{found}`")]
    ServiceCharacter {
        /// The service.
        word: String,
        /// The first bad character.
        found: char,
    },
    /// A character no argument has.
    #[error("argument `{word}` contains `{found}`")]
    ArgumentCharacter {
        /// The argument.
        word: String,
        /// The first bad character.
        found: char,
    },
    /// An argument that is neither `*` nor starts with `+`.
    #[error("argument `{0}` does not start with `+`")]
    ArgumentWithoutPlus(String),
    /// Service `*` with an argument.
    #[error("service `*` cannot be limited to argument `{0}`")]
    ArgumentOfAnyService(String),
    /// A source or target that cannot stand there.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Neither allow, ask nor deny.
    #[error("unknown action `{0}`")]
    UnknownAction(String),
    /// A parameter without `=`.
    #[error("parameter `{0}` has no value")]
    ParameterWithoutValue(String),
    /// A parameter named twice.
    #[error("parameter `{0}` is given twice")]
    RepeatedParameter(String),
    /// A parameter this action does not have.
    #[error("action `{action}` has no parameter `{name}`")]
    UnknownParameter {
        /// The action.
        action: &'static str,
        /// The parameter's name.
        name: String,
    },
    /// A switch that is neither yes nor no.
    #[error("parameter `{name}` is `{value}`, not `yes` or `no`")]
    NotYesOrNo {
        /// The parameter's name.
        name: String,
        /// Its value.
        value: String,
    },
    /// `allow` on `@default` with nowhere to go.
    #[error("rule allows `@default` but names no destination")]
    AllowDefaultWithoutTarget,
    /// Fewer than three fields, in a file for one service.
    #[error("rule has {0} of the three fields it needs")]
    MissingServiceFields(usize),
    /// A directive with too few or too many words.
    #[error("directive `{0}` has {1} words after it")]
    DirectiveWords(String, usize),
    /// A directive that files for one service do not have.
    #[error("directive `{0}` cannot stand in a file for one service")]
    NotInServiceFile(String),
    /// An included path that is no file.
    #[error("`{0}` is not a file")]
    NoFile(String),
    /// An included path that is no folder.
    #[error("`{0}` is not a folder")]
    NotAFolder(String),
    /// A folder that must be there and is not.
    #[error("folder `{0}` does not exist")]
    NoFolder(String),
    /// A policy file whose name has a character that none may have.
    #[error("the name of the file contains `{found}`")]
    FileName {
        /// The first bad character.
        found: char,
    },
    /// The system refuses a file or folder.
    #[error("`{path}` cannot be read: {reason}")]
    Unreadable {
        /// The path.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// Bytes that are not UTF-8.
    #[error("the line is not UTF-8 text")]
    NotText,
    /// An included path with a NUL in it.
    #[error("the included path contains a NUL character")]
    PathWithNul,
    /// A file that includes itself, perhaps through others.
    #[error("`{0}` includes itself")]
    IncludesItself(String),
    /// Includes nested deeper than [`INCLUDE_DEPTH_MAX`].
    #[error("`{0}` is more than {INCLUDE_DEPTH_MAX} includes deep")]
    TooDeep(String),
    /// More text, files or rules than an engine takes.
    #[error(
        "the policy is longer than {TEXT_BYTES_MAX} bytes, {FILES_MAX} files or {RULES_MAX} rules"
    )]
    TooMuch,
    /// A word after `!` that is no directive.
    #[error("unknown directive `{0}`")]
    UnknownDirective(String),
}

const ACTIONS: [&str; 3] = ["allow", "ask", "deny"];

/// The nearest of `known`, if it is near enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len() / 3 + 1)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Parameters of each action, in the order in which rules are printed.
pub(crate) fn parameters_of(action: &str) -> &'static [&'static str] {
    match action {
        "allow" => &["target", "user", "notify", "autostart"],
        "ask" => &["target", "default_target", "user", "notify", "autostart"],
        _ => &["notify"],
    }
}

impl PolicyErrorKind {
    /// What sort of error it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NoFolder(_) | Self::FileName { .. } | Self::Unreadable { .. } => {
                ErrorClass::Refused
            }
            Self::NotText
            | Self::PathWithNul
            | Self::IncludesItself(_)
            | Self::TooDeep(_)
            | Self::TooMuch => ErrorClass::Fault,
            _ => ErrorClass::Syntax,
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::MissingFields(_) => {
                "write `SERVICE ARGUMENT SOURCE TARGET ACTION`, with `*` for any argument".into()
            }
            Self::ServiceCharacter { found: '+', .. } => {
                "put the argument in a column of its own, as `SERVICE +ARGUMENT ...`".into()
            }
            Self::ServiceCharacter { .. } => {
                "use letters, digits, `-`, `.` and `_`, or `*` for every service".into()
            }
            Self::ArgumentCharacter { .. } => {
                "use letters, digits, `-`, `.`, `_` and `+` after the leading `+`".into()
            }
            Self::ArgumentWithoutPlus(word) => {
                format!("write `+{word}`, `+` for no argument or `*` for any")
            }
            Self::ArgumentOfAnyService(_) => "write `* *`, or name the service".into(),
            Self::Token(TokenError::Empty(_)) => "write the name, class or tag after it".into(),
            Self::Token(TokenError::NotHere { word, column }) => token_remedy(word, column),
            Self::UnknownAction(word) if word.contains(',') => {
                "separate parameters with blanks, not commas".into()
            }
            Self::UnknownAction(word) => match nearest(word, &ACTIONS) {
                Some(action) => format!("did you mean `{action}`?"),
                None => "write `allow`, `ask` or `deny`".into(),
            },
            Self::ParameterWithoutValue(word) if word.starts_with('#') => {
                "put the comment on a line of its own".into()
            }
            Self::ParameterWithoutValue(_) => "write `name=value`, without blanks".into(),
            Self::RepeatedParameter(_) => "keep one of them".into(),
            Self::UnknownParameter { action, name } => {
                let known = parameters_of(action);
                match nearest(name, known) {
                    Some(known) => format!("did you mean `{known}`?"),
                    None => format!("`{action}` takes {}", list(known)),
                }
            }
            Self::NotYesOrNo { name, .. } => format!("write `{name}=yes` or `{name}=no`"),
            Self::AllowDefaultWithoutTarget => "add `target=` with the qube to call".into(),
            Self::MissingServiceFields(_) => "write `SOURCE TARGET ACTION`".into(),
            Self::DirectiveWords(word, _) => match &**word {
                "!include" | "!include-dir" => format!("write `{word} PATH`, without blanks in it"),
                "!include-service" => format!("write `{word} SERVICE ARGUMENT PATH`"),
                _ => format!("write `{word}` alone"),
            },
            Self::NotInServiceFile(_) => {
                "only `!include` of another such file is known there".into()
            }
            Self::NoFile(_) => {
                "check the path: it counts from the folder of the policy file".into()
            }
            Self::NotAFolder(_) => "name a folder, or include one file by `!include`".into(),
            Self::NoFolder(_) => "make the folder; it may be empty".into(),
            Self::FileName { .. } => {
                "use lower-case letters, digits, `-`, `.` and `_`, or another suffix".into()
            }
            Self::Unreadable { .. } => "make it readable, or remove what names it".into(),
            Self::NotText => "save the file as UTF-8".into(),
            Self::PathWithNul => "remove the character".into(),
            Self::IncludesItself(_) | Self::TooDeep(_) => "remove one of the includes".into(),
            Self::TooMuch => "split the policy, or generate fewer rules".into(),
            Self::UnknownDirective(word) => {
                let known = [
                    "!include",
                    "!include-dir",
                    "!include-service",
                    "!compat-4.0",
                ];
                match nearest(word, &known) {
                    Some(known) => format!("did you mean `{known}`?"),
                    None => "start a rule with a service name and a comment with `#`".into(),
                }
            }
        }
    }
}

fn token_remedy(word: &str, column: &str) -> String {
    let keywords = [
        "@anyvm", "@adminvm", "@default", "@dispvm", "@dispvm:", "@type:", "@tag:",
    ];
    let exists = keywords
        .iter()
        .any(|known| word == *known || (known.ends_with(':') && word.starts_with(known)));
    match nearest(word, &keywords) {
        Some(known) if !exists => format!("did you mean `{known}`?"),
        _ => match column {
            "source" => "use a qube's name, `@anyvm`, `@adminvm`, `@type:` or `@tag:`".into(),
            "target" => {
                "use a qube's name, `@anyvm`, `@adminvm`, `@default`, `@dispvm`, `@type:` or \
                 `@tag:`"
                    .into()
            }
            _ => "use a qube's name, `@adminvm`, `@dispvm` or `@dispvm:BASE`".into(),
        },
    }
}

fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}
