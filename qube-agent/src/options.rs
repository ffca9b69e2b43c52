//! Command lines in the style of `getopt_long`, which scripts rely on.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use thiserror::Error;

/// One option that a program knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// Without the dashes.
    pub(crate) long: &'static str,
    /// Without the dash.
    pub(crate) short: Option<u8>,
    /// Whether it takes a value.
    pub(crate) value: bool,
}

/// What was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// Options by their long name, in order.
    pub(crate) options: Vec<(&'static str, OsString)>,
    /// Everything from the first argument that is no option.
    pub(crate) rest: Vec<OsString>,
}

/// A command line that cannot be understood.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum OptionError {
    #[error("unknown option `{0}`")]
    Unknown(String),
    #[error("option `{0}` needs a value")]
    NeedsValue(&'static str),
    #[error("option `{0}` takes no value")]
    TakesNone(&'static str),
}

/// Reads options up to the first argument that is none, or `--`.
pub(crate) fn parse(known: &[Known], arguments: Vec<OsString>) -> Result<Given, OptionError> {
    let mut given = Given::default();
    let mut left: VecDeque<_> = arguments.into();
    while let Some(argument) = left.pop_front() {
        let bytes = argument.as_bytes();
        if bytes == b"--" {
            break;
        }
        if let Some(long) = bytes.strip_prefix(b"--") {
            let (name, value) = match long.iter().position(|&b| b == b'=') {
                Some(at) => {
                    let (name, value) = long.split_at_checked(at).unwrap_or((long, b""));
                    (name, value.strip_prefix(b"="))
                }
                None => (long, None),
            };
            let option = known.iter().find(|k| k.long.as_bytes() == name);
            let option = option.ok_or_else(|| unknown(&argument))?;
            let value = match (option.value, value) {
                (true, Some(value)) => OsStr::from_bytes(value).to_owned(),
                (true, None) => left
                    .pop_front()
                    .ok_or(OptionError::NeedsValue(option.long))?,
                (false, None) => OsString::new(),
                (false, Some(_)) => return Err(OptionError::TakesNone(option.long)),
            };
            given.options.push((option.long, value));
        } else if bytes.len() > 1 && bytes.starts_with(b"-") {
            shorts(known, &argument, &mut left, &mut given)?;
        } else {
            left.push_front(argument);
            break;
        }
    }
    given.rest = left.into();
    Ok(given)
}

fn shorts(
    known: &[Known],
    argument: &OsString,
    left: &mut VecDeque<OsString>,
    given: &mut Given,
) -> Result<(), OptionError> {
    let mut letters = argument.as_bytes().get(1..).unwrap_or_default();
    while let Some((letter, rest)) = letters.split_first() {
        let option = known.iter().find(|k| k.short == Some(*letter));
        let option = option.ok_or_else(|| unknown(argument))?;
        letters = rest;
        let value = match (option.value, rest.is_empty()) {
            (false, _) => OsString::new(),
            (true, true) => left
                .pop_front()
                .ok_or(OptionError::NeedsValue(option.long))?,
            (true, false) => {
                letters = &[];
                OsString::from_vec(rest.to_vec())
            }
        };
        given.options.push((option.long, value));
    }
    Ok(())
}

fn unknown(argument: &OsString) -> OptionError {
    OptionError::Unknown(argument.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Known] = &[
        Known {
            long: "filter",
            short: Some(b't'),
            value: false,
        },
        Known {
            long: "socket",
            short: Some(b'a'),
            value: true,
        },
        Known {
            long: "quiet",
            short: None,
            value: false,
        },
    ];

    fn given(text: &str) -> Result<String, OptionError> {
        let arguments = text.split_whitespace().map(OsString::from).collect();
        parse(KNOWN, arguments).map(|given| {
            let options: Vec<_> = given
                .options
                .iter()
                .map(|(n, v)| format!("{n}={}", v.display()))
                .collect();
            let rest: Vec<_> = given.rest.iter().map(|r| r.display().to_string()).collect();
            format!("{} | {}", options.join(" "), rest.join(" "))
        })
    }

    #[test]
    fn all_spellings() {
        assert_eq!(
            given("-ta X --quiet a -t").unwrap(),
            "filter= socket=X quiet= | a -t"
        );
        assert_eq!(
            given("-aX --socket=Y --socket Z").unwrap(),
            "socket=X socket=Y socket=Z | "
        );
        assert_eq!(given("-t -- -t").unwrap(), "filter= | -t");
        assert_eq!(given("- x").unwrap(), " | - x");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert_eq!(given("--nope"), Err(OptionError::Unknown("--nope".into())));
        assert_eq!(given("-tx"), Err(OptionError::Unknown("-tx".into())));
        assert_eq!(given("--socket"), Err(OptionError::NeedsValue("socket")));
        assert_eq!(given("-a"), Err(OptionError::NeedsValue("socket")));
        assert_eq!(given("--quiet=1"), Err(OptionError::TakesNone("quiet")));
    }
}
