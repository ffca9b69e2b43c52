//! Arguments of the QubesDB commands: short options in any place, as `getopt` takes them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use thiserror::Error;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Read,
    Write,
    Remove,
    MultiRead,
    List,
    Watch,
}

impl Action {
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"read" => Self::Read,
            b"write" => Self::Write,
            b"rm" => Self::Remove,
            b"multiread" => Self::MultiRead,
            b"list" => Self::List,
            b"watch" => Self::Watch,
            _ => return None,
        })
    }
}

/// A command line that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) action: Action,
    /// `-f`
    pub(super) full_path: bool,
    /// `-r`
    pub(super) raw: bool,
    /// `-q`
    pub(super) quiet: bool,
    /// `-w`
    pub(super) wait: bool,
    /// `-x`
    pub(super) remove: bool,
    /// `-e`
    pub(super) default: Option<Vec<u8>>,
    /// `-n`; negative means without end.
    pub(super) events: i64,
    /// `-d`
    pub(super) domain: Option<OsString>,
    /// What is left.
    pub(super) words: Vec<Vec<u8>>,
}

/// Why a command line was not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum OptionsError {
    /// Asked for, or nothing was said at all.
    #[error("usage")]
    Help,
    #[error("there is no option `{0}`")]
    Unknown(String),
    #[error("option `-{0}` needs a value")]
    NoValue(char),
    #[error("-c must be the first argument of qubesdb-cmd")]
    Command,
    #[error("--default is for the read command")]
    Default,
    #[error("-n is for the watch command")]
    Events,
}

/// Parses the arguments of the command called `name`.
pub(super) fn parse(name: &str, arguments: Vec<OsString>) -> Result<Options, OptionsError> {
    let named = name
        .rsplit('-')
        .next()
        .and_then(|verb| Action::named(verb.as_bytes()));
    if arguments.is_empty() {
        return Err(OptionsError::Help);
    }
    let mut parser = Parser {
        action: named,
        ..Parser::default()
    };
    let mut rest = arguments.into_iter().map(OsString::into_vec).enumerate();
    while let Some((at, argument)) = rest.next() {
        match argument.as_slice() {
            b"--" => {
                parser.words.extend(rest.map(|(_, word)| word));
                break;
            }
            [b'-', b'-', long @ ..] => {
                let (key, value) = match long.iter().position(|b| *b == b'=') {
                    Some(end) => (long.get(..end), long.get(end + 1..).map(<[u8]>::to_vec)),
                    None => (Some(long), None),
                };
                if !key.is_some_and(|key| b"default".starts_with(key)) {
                    return Err(OptionsError::Unknown(lossy(&argument)));
                }
                let value = value.or_else(|| Some(rest.next()?.1));
                parser.value('e', value.ok_or(OptionsError::NoValue('e'))?, at)?;
            }
            [b'-', flags @ ..] if !flags.is_empty() => {
                let mut flags = flags.iter();
                while let Some(flag) = flags.next() {
                    let flag = char::from(*flag);
                    if !"cdne".contains(flag) {
                        parser.flag(flag)?;
                        continue;
                    }
                    let attached = flags.as_slice().to_vec();
                    let value = if attached.is_empty() {
                        rest.next().map(|n| n.1)
                    } else {
                        Some(attached)
                    };
                    parser.value(flag, value.ok_or(OptionsError::NoValue(flag))?, at)?;
                    break;
                }
            }
            _ => parser.words.push(argument),
        }
    }
    parser.finish()
}

#[derive(Debug, Default)]
struct Parser {
    action: Option<Action>,
    flags: Vec<char>,
    default: Option<Vec<u8>>,
    events: Option<i64>,
    domain: Option<OsString>,
    words: Vec<Vec<u8>>,
}

impl Parser {
    fn flag(&mut self, flag: char) -> Result<(), OptionsError> {
        match flag {
            'h' => Err(OptionsError::Help),
            'f' | 'r' | 'q' | 'w' | 'x' => {
                self.flags.push(flag);
                Ok(())
            }
            other => Err(OptionsError::Unknown(format!("-{other}"))),
        }
    }

    fn value(&mut self, flag: char, value: Vec<u8>, at: usize) -> Result<(), OptionsError> {
        match flag {
            'c' if at != 0 || self.action.is_some() => return Err(OptionsError::Command),
            'c' => self.action = Action::named(&value),
            'd' => self.domain = Some(OsStr::from_bytes(&value).to_owned()),
            'e' if self.action != Some(Action::Read) => return Err(OptionsError::Default),
            'e' => self.default = Some(value),
            'n' if self.action != Some(Action::Watch) => return Err(OptionsError::Events),
            // What is no number counts as 0.
            _ => self.events = Some(lossy(&value).trim().parse().unwrap_or(0)),
        }
        Ok(())
    }

    fn finish(self) -> Result<Options, OptionsError> {
        let has = |flag| self.flags.contains(&flag);
        Ok(Options {
            action: self.action.ok_or(OptionsError::Help)?,
            full_path: has('f'),
            raw: has('r'),
            quiet: has('q'),
            wait: has('w'),
            remove: has('x'),
            default: self.default,
            events: self.events.unwrap_or(1),
            domain: self.domain,
            words: self.words,
        })
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str, line: &str) -> Result<Options, OptionsError> {
        parse(name, line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn flags_may_stand_together_and_behind_words() {
        let options = parsed("qubesdb-read", "/a -fr /b -q").unwrap();
        assert!(options.full_path && options.raw && options.quiet && !options.wait);
        assert_eq!(options.words, [b"/a".to_vec(), b"/b".to_vec()]);
        let options = parsed("qubesdb-write", "-- /a -x").unwrap();
        assert_eq!(options.words, [b"/a".to_vec(), b"-x".to_vec()]);
    }

    #[test]
    fn values_are_attached_or_follow() {
        assert_eq!(parsed("qubesdb-watch", "-n -1 /a").unwrap().events, -1);
        assert_eq!(parsed("qubesdb-watch", "-n5 /a").unwrap().events, 5);
        assert_eq!(parsed("qubesdb-watch", "-n x /a").unwrap().events, 0);
        for line in [
            "-e no /a",
            "--default no /a",
            "--default=no /a",
            "/a --def=no",
            "-ve no",
        ] {
            let got = parsed("qubesdb-read", line).map(|options| options.default);
            if line == "-ve no" {
                assert_eq!(got, Err(OptionsError::Unknown("-v".into())));
            } else {
                assert_eq!(got, Ok(Some(b"no".to_vec())), "{line}");
            }
        }
    }

    #[test]
    fn options_for_other_commands_are_refused() {
        assert_eq!(parsed("qubesdb-write", "-e x"), Err(OptionsError::Default));
        assert_eq!(parsed("qubesdb-read", "-n 1"), Err(OptionsError::Events));
        assert_eq!(
            parsed("qubesdb-read", "-c read"),
            Err(OptionsError::Command)
        );
        assert_eq!(
            parsed("qubesdb-cmd", "-f -c read /a"),
            Err(OptionsError::Command)
        );
        assert_eq!(
            parsed("qubesdb-read", "-n"),
            Err(OptionsError::NoValue('n'))
        );
    }

    #[test]
    fn the_command_comes_from_the_name_or_c() {
        assert_eq!(parsed("qubesdb-rm", "/a").unwrap().action, Action::Remove);
        assert_eq!(
            parsed("qubesdb-cmd", "-c list /").unwrap().action,
            Action::List
        );
        for line in ["", "/a", "-c nothing /a"] {
            assert_eq!(parsed("qubesdb-cmd", line), Err(OptionsError::Help));
        }
        assert_eq!(parsed("qubesdb-read", "-h"), Err(OptionsError::Help));
    }
}
