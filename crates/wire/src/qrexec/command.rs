//! Command lines: `[user:][nogui:]rest`, where `rest` is a shell command (only dom0 can send
//! one) or `QUBESRPC <service>[+<argument>] <source>[ <type> <target>]`.

use super::{SERVICE_FIELD_MAX, SERVICE_NAME_MAX};
use thiserror::Error;

const NOGUI: &[u8] = b"nogui:";
const RPC: &[u8] = b"QUBESRPC";

/// A command line, cut into its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// User to run as; none in dom0's own command lines.
    pub user: Option<String>,
    /// Do not wait for a graphical session, whatever the service's configuration says.
    pub nogui: bool,
    /// What to run.
    pub what: What,
}

/// What a command line runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A command for the user's shell.
    Shell(Vec<u8>),
    /// A service.
    Service(ServiceCall),
}

/// A service, its argument and who wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCall {
    /// Name before the `+`, 1 to 255 bytes, no `/`.
    pub name: String,
    /// What follows the `+`; none if there is no `+`.
    pub argument: Option<String>,
    /// The calling qube.
    pub source: String,
    /// How the caller named the target, where that was passed on.
    pub target: Option<RequestedTarget>,
    /// Everything after `QUBESRPC `: what socket services are told.
    pub descriptor: String,
}

/// How the caller named the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestedTarget {
    /// A qube.
    Name(String),
    /// A keyword, without its `@`.
    Keyword(String),
}

/// The command line makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CommandError {
    /// No `:` after the user.
    #[error("command line names no user")]
    NoUser,
    /// A user name that option parsers or shells could misread.
    #[error("user name in a command line is not acceptable")]
    User,
    /// `QUBESRPC` is not followed by one space.
    #[error("QUBESRPC is not followed by a space")]
    NoSpace,
    /// No service, or no source after it.
    #[error("command line lacks the {0}")]
    Missing(&'static str),
    /// Longer than a file name or message can be.
    #[error("service {part} of {len} bytes exceeds {max}")]
    TooLong {
        /// Name or descriptor.
        part: &'static str,
        /// Bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Neither a source alone nor a source, a target's type and the target.
    #[error("command line has {0} words after the service, not one or three")]
    Words(usize),
    /// Bytes that no service name or domain name has.
    #[error("command line has a {0} with unexpected characters")]
    Characters(&'static str),
}

impl Command {
    /// Parses `user:[nogui:]rest`.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let colon = line
            .iter()
            .position(|&b| b == b':')
            .ok_or(CommandError::NoUser)?;
        let (user, rest) = line.split_at_checked(colon).ok_or(CommandError::NoUser)?;
        let user = std::str::from_utf8(user).map_err(|_| CommandError::User)?;
        let ok = |c: char| c.is_alphanumeric() || "_-.$@\\".contains(c);
        if user.is_empty() || user.starts_with('-') || !user.chars().all(ok) {
            return Err(CommandError::User);
        }
        let mut it = Self::parse_rest(rest.get(1..).unwrap_or_default())?;
        it.user = Some(user.into());
        Ok(it)
    }

    /// Parses `[nogui:]rest`.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn parse_rest(line: &[u8]) -> Result<Self, CommandError> {
        let (nogui, rest) = match line.strip_prefix(NOGUI) {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let what = match rest.strip_prefix(RPC) {
            None => What::Shell(rest.to_vec()),
            Some(call) => What::Service(ServiceCall::parse(
                call.strip_prefix(b" ").ok_or(CommandError::NoSpace)?,
            )?),
        };
        Ok(Self {
            user: None,
            nogui,
            what,
        })
    }
}

impl ServiceCall {
    /// Parses what follows `QUBESRPC `.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn parse(text: &[u8]) -> Result<Self, CommandError> {
        let text = std::str::from_utf8(text).map_err(|_| CommandError::Characters("descriptor"))?;
        // Nothing with a NUL can be a file name or an environment variable.
        if text.contains('\0') {
            return Err(CommandError::Characters("descriptor"));
        }
        let mut words = text.split(' ');
        let service = words.next().filter(|w| !w.is_empty());
        let service = service.ok_or(CommandError::Missing("service"))?;
        let source = words.next().filter(|w| !w.is_empty());
        let source = source.ok_or(CommandError::Missing("source domain"))?;
        if service.len() > SERVICE_FIELD_MAX {
            let (part, len) = ("descriptor", service.len());
            return Err(CommandError::TooLong {
                part,
                len,
                max: SERVICE_FIELD_MAX,
            });
        }
        let (name, argument) = match service.split_once('+') {
            Some((name, argument)) => (name, Some(argument)),
            None => (service, None),
        };
        if name.is_empty() {
            return Err(CommandError::Missing("service"));
        }
        if name.len() > SERVICE_NAME_MAX {
            let (part, len) = ("name", name.len());
            return Err(CommandError::TooLong {
                part,
                len,
                max: SERVICE_NAME_MAX,
            });
        }
        // Both become parts of a path.
        if service.contains('/') || name == "." || name == ".." {
            return Err(CommandError::Characters("service"));
        }
        let more = text.split(' ').count() - 1;
        if more != 1 && more != 3 {
            return Err(CommandError::Words(more));
        }
        let target = match (words.next(), words.next()) {
            (Some("name"), Some(name)) => Some(RequestedTarget::Name(name.into())),
            (Some("keyword"), Some(word)) => Some(RequestedTarget::Keyword(word.into())),
            _ => None,
        };
        Ok(Self {
            name: name.into(),
            argument: argument.map(Into::into),
            source: source.into(),
            target,
            descriptor: text.into(),
        })
    }

    /// The service as it was called: name, and `+argument` if a `+` was there.
    #[must_use]
    pub fn full_name(&self) -> String {
        match &self.argument {
            Some(argument) => format!("{}+{argument}", self.name),
            None => self.name.clone(),
        }
    }

    /// File names under which to look the service up, the more special one first.
    #[must_use]
    pub fn file_names(&self) -> [String; 2] {
        let argument = self.argument.as_deref().unwrap_or_default();
        [format!("{}+{argument}", self.name), self.name.clone()]
    }

    /// The variables that tell a service about its call.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut out = vec![
            ("QREXEC_REMOTE_DOMAIN", self.source.clone()),
            ("QREXEC_SERVICE_FULL_NAME", self.full_name()),
        ];
        if let Some(argument) = &self.argument {
            out.push(("QREXEC_SERVICE_ARGUMENT", argument.clone()));
        }
        match &self.target {
            Some(RequestedTarget::Name(name)) => {
                out.push(("QREXEC_REQUESTED_TARGET_TYPE", "name".into()));
                out.push(("QREXEC_REQUESTED_TARGET", name.clone()));
            }
            Some(RequestedTarget::Keyword(word)) => {
                out.push(("QREXEC_REQUESTED_TARGET_TYPE", "keyword".into()));
                out.push(("QREXEC_REQUESTED_TARGET_KEYWORD", word.clone()));
            }
            None => {
                // Scripts test this one without guarding against its absence.
                out.push(("QREXEC_REQUESTED_TARGET_TYPE", String::new()));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Result<ServiceCall, CommandError> {
        match Command::parse(line.as_bytes())?.what {
            What::Service(call) => Ok(call),
            What::Shell(_) => panic!("a shell command"),
        }
    }

    #[test]
    fn a_nul_anywhere_in_a_call_is_refused() {
        for text in [
            "\0 work",
            "a\0 work",
            "a+\0 work",
            "a wo\0rk",
            "a work name x\0",
        ] {
            let error = ServiceCall::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error, CommandError::Characters("descriptor"), "{text:?}");
        }
    }

    #[test]
    fn parts_are_found() {
        let it = Command::parse(b"user:nogui:QUBESRPC a.B+c+d work keyword adminvm").unwrap();
        assert_eq!((it.user.as_deref(), it.nogui), (Some("user"), true));
        let call = call("user:QUBESRPC a.B+c+d work keyword adminvm").unwrap();
        assert_eq!(
            (call.name.as_str(), call.argument.as_deref()),
            ("a.B", Some("c+d"))
        );
        assert_eq!(
            call.target,
            Some(RequestedTarget::Keyword("adminvm".into()))
        );
        assert_eq!(call.descriptor, "a.B+c+d work keyword adminvm");
        assert_eq!(call.file_names(), ["a.B+c+d", "a.B"]);
        let shell = Command::parse(b"root:echo a:b").unwrap();
        assert_eq!(shell.what, What::Shell(b"echo a:b".to_vec()));
    }

    #[test]
    fn no_argument_is_looked_up_as_an_empty_one_but_not_told() {
        let it = call("user:QUBESRPC a.B work").unwrap();
        assert_eq!(it.file_names(), ["a.B+", "a.B"]);
        let names: Vec<_> = it.environment().into_iter().map(|(name, _)| name).collect();
        assert!(!names.contains(&"QREXEC_SERVICE_ARGUMENT"));
        let it = call("user:QUBESRPC a.B+ work").unwrap();
        assert!(
            it.environment()
                .contains(&("QREXEC_SERVICE_ARGUMENT", String::new()))
        );
    }

    #[test]
    fn malformed_lines_are_refused() {
        for (line, error) in [
            ("ls", CommandError::NoUser),
            (":ls", CommandError::User),
            ("-x:ls", CommandError::User),
            ("a b:ls", CommandError::User),
            ("u:QUBESRPC", CommandError::NoSpace),
            ("u:QUBESRPCX a b", CommandError::NoSpace),
            ("u:QUBESRPC  b", CommandError::Missing("service")),
            ("u:QUBESRPC +x b", CommandError::Missing("service")),
            ("u:QUBESRPC a", CommandError::Missing("source domain")),
            ("u:QUBESRPC a  b", CommandError::Missing("source domain")),
            ("u:QUBESRPC a b name", CommandError::Words(2)),
            ("u:QUBESRPC a b name c d", CommandError::Words(4)),
            ("u:QUBESRPC ../a b", CommandError::Characters("service")),
            ("u:QUBESRPC .. b", CommandError::Characters("service")),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Err(error), "{line}");
        }
    }

    #[test]
    fn lengths_end_where_they_should() {
        let name = |n: usize| call(&format!("u:QUBESRPC {}+x w", "n".repeat(n))).is_ok();
        assert!(name(SERVICE_NAME_MAX) && !name(SERVICE_NAME_MAX + 1));
        let all = |n: usize| call(&format!("u:QUBESRPC n+{} w", "x".repeat(n - 2))).is_ok();
        assert!(all(SERVICE_FIELD_MAX) && !all(SERVICE_FIELD_MAX + 1));
    }
}
