//! Per-service configuration: `key = value` lines, a small part of TOML.

use thiserror::Error;

/// Largest configuration file; the known keys need a few hundred bytes.
pub const CONFIG_MAX: usize = 64 * 1024;

/// What a configuration file says; the default is what holds without one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Wait for the user's session first.
    pub wait_for_session: bool,
    /// Run as this user, whatever the call says.
    pub force_user: Option<String>,
    /// Do not tell a socket service what was called and by whom.
    pub skip_service_descriptor: Option<bool>,
    /// Close a socket service when its client has sent everything.
    pub exit_on_client_eof: Option<bool>,
    /// Close a socket service when it has sent everything.
    pub exit_on_service_eof: Option<bool>,
    /// Keys that mean nothing to us, for the log.
    pub unknown: Vec<String>,
}

/// What is wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Too large.
    #[error("service configuration of {0} bytes exceeds {CONFIG_MAX}")]
    TooLong(usize),
    /// Not text.
    #[error("service configuration is not UTF-8")]
    Utf8,
    /// Not `key = value`.
    #[error("line {line} of the service configuration is no `key = value`")]
    Syntax {
        /// From 1.
        line: usize,
    },
    /// The value has another type than the key.
    #[error("line {line} of the service configuration: `{key}` takes {takes}")]
    Type {
        /// From 1.
        line: usize,
        /// Which.
        key: String,
        /// What it takes.
        takes: &'static str,
    },
    /// The key was there before.
    #[error("line {line} of the service configuration: `{key}` is set twice")]
    Duplicate {
        /// From 1.
        line: usize,
        /// Which.
        key: String,
    },
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Bool(bool),
    Integer(i64),
    Text(String),
}

impl ServiceConfig {
    /// Parses a file.
    ///
    /// # Errors
    /// [`ConfigError`] names the line.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        if text.len() > CONFIG_MAX {
            return Err(ConfigError::TooLong(text.len()));
        }
        let text = std::str::from_utf8(text).map_err(|_| ConfigError::Utf8)?;
        let mut it = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for (index, raw) in text.lines().enumerate() {
            let line = index + 1;
            if raw.trim_end_matches([' ', '\t', '\r']).is_empty() || raw.starts_with('#') {
                continue;
            }
            let (key, value) = entry(raw).ok_or(ConfigError::Syntax { line })?;
            if seen.contains(&key) {
                return Err(ConfigError::Duplicate {
                    line,
                    key: key.into(),
                });
            }
            seen.push(key);
            it.set(key, value).map_err(|takes| ConfigError::Type {
                line,
                key: key.into(),
                takes,
            })?;
        }
        Ok(it)
    }

    fn set(&mut self, key: &str, value: Value) -> Result<(), &'static str> {
        let flag = |value| match value {
            Value::Bool(value) => Ok(Some(value)),
            _ => Err("true or false"),
        };
        match key {
            "wait-for-session" => {
                self.wait_for_session = match value {
                    Value::Bool(value) => value,
                    Value::Integer(0) => false,
                    Value::Integer(1) => true,
                    _ => return Err("true, false, 0 or 1"),
                }
            }
            "force-user" => {
                self.force_user = match value {
                    Value::Text(user) if !user.is_empty() => Some(user),
                    _ => return Err("a name in single quotes"),
                }
            }
            "skip-service-descriptor" => self.skip_service_descriptor = flag(value)?,
            "exit-on-client-eof" => self.exit_on_client_eof = flag(value)?,
            "exit-on-service-eof" => self.exit_on_service_eof = flag(value)?,
            other => self.unknown.push(other.into()),
        }
        Ok(())
    }

    /// Whether a socket service's configuration asks for a user, which a socket cannot have.
    #[must_use]
    pub fn user_conflicts_with_socket(&self) -> bool {
        let keys = [
            self.skip_service_descriptor,
            self.exit_on_client_eof,
            self.exit_on_service_eof,
        ];
        self.force_user.is_some() && keys.iter().any(Option::is_some)
    }
}

/// `key = value`, with nothing before the key and at most a comment after the value.
fn entry(line: &str) -> Option<(&str, Value)> {
    let (key, rest) = line.split_once('=')?;
    let key = key.trim_end_matches([' ', '\t']);
    let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if key.is_empty() || !key.bytes().all(ok) {
        return None;
    }
    let rest = rest.trim_start_matches([' ', '\t']);
    let (value, rest) = match rest.strip_prefix('\'') {
        Some(quoted) => {
            let (text, rest) = quoted.split_once('\'')?;
            (Value::Text(text.into()), rest)
        }
        None => {
            let end = rest.find([' ', '\t', '#', '\r']).unwrap_or(rest.len());
            let (word, rest) = rest.split_at_checked(end)?;
            (bare(word)?, rest)
        }
    };
    let rest = rest.trim_start_matches([' ', '\t', '\r']);
    (rest.is_empty() || rest.starts_with('#')).then_some((key, value))
}

fn bare(word: &str) -> Option<Value> {
    match word {
        "true" => return Some(Value::Bool(true)),
        "false" => return Some(Value::Bool(false)),
        _ => {}
    }
    let digits = word.strip_prefix('-').unwrap_or(word);
    let canonical = digits == "0" || !digits.starts_with('0');
    if !canonical || digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    word.parse().ok().map(Value::Integer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_file() {
        let text = b"\n# comment\nforce-user = 'joe # x' # why\nwait-for-session = 1 # c\n\
            exit-on-client-eof=true\nnew-key = -12\n";
        let it = ServiceConfig::parse(text).unwrap();
        assert_eq!(it.force_user.as_deref(), Some("joe # x"));
        assert!(it.wait_for_session && it.user_conflicts_with_socket());
        assert_eq!(it.exit_on_client_eof, Some(true));
        assert_eq!(it.unknown, ["new-key"]);
        assert_eq!(ServiceConfig::parse(b""), Ok(ServiceConfig::default()));
    }

    #[test]
    fn every_deviation_fails_the_file() {
        for text in [
            "wait-for-session = 00",
            "wait-for-session = 01",
            "wait-for-session = 2",
            "wait-for-session = ",
            "wait-for-session = \"a\"",
            "wait-for-session",
            " wait-for-session = 1",
            "wait-for-session = 1 2",
            "wait-for-session = 'true'",
            "force-user = joe",
            "force-user = 'joe",
            "force-user = ''",
            "exit-on-service-eof = 1",
            "[section]",
            "a = 1\na = 1",
            "key with space = 1",
        ] {
            assert!(ServiceConfig::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(ServiceConfig::parse(&[b'#', 0xff]).is_err());
    }

    #[test]
    fn a_file_may_fill_the_limit_and_no_more() {
        assert!(ServiceConfig::parse(&vec![b'#'; CONFIG_MAX]).is_ok());
        let error = ConfigError::TooLong(CONFIG_MAX + 1);
        assert_eq!(
            ServiceConfig::parse(&vec![b'#'; CONFIG_MAX + 1]),
            Err(error)
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ServiceConfig::parse(&text);
        }
    }
}
