//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use bulkhead_vchan::{DomId, IdError};
use thiserror::Error;

use crate::scale::{Scale, ScaleError};

pub(crate) const USAGE: &str = "usage: qube-gui-agent [--socket NAME] [--daemon DOMAIN] [--no-x] \
     [--scale NUMBER] [--session FILE] [-- COMMAND [ARGUMENT...]]
       qube-gui-agent --notifications";

/// The only argument of the notification service.
pub(crate) const NOTIFICATIONS: &str = "--notifications";

/// The Wayland socket where none is named.
const SOCKET: &str = "wayland-0";

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) socket: String,
    pub(crate) daemon: DomId,
    /// Whether applications of X are served.
    pub(crate) x: bool,
    /// That of all monitors, instead of what their densities make.
    pub(crate) scale: Option<Scale>,
    /// Where others read how to find it.
    pub(crate) session: Option<PathBuf>,
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum OptionError {
    #[error("unknown argument `{0}`")]
    Unknown(String),
    #[error("option `{0}` needs a value")]
    NeedsValue(&'static str),
    #[error("`{0}` is no name of a socket")]
    Socket(String),
    #[error("option `--scale` cannot be used")]
    Scale(#[source] ScaleError),
    #[error("option `--daemon` cannot be used")]
    Daemon(#[source] IdError),
}

impl Options {
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, OptionError> {
        let mut options = Self {
            socket: SOCKET.into(),
            daemon: DomId::DOM0,
            x: true,
            scale: None,
            session: None,
            command: Vec::new(),
        };
        let mut left = arguments.into_iter();
        while let Some(argument) = left.next() {
            match argument.to_str() {
                Some("--") => {
                    options.command = left.collect();
                    break;
                }
                Some("--no-x") => options.x = false,
                Some("--socket") => options.socket = socket(&value("--socket", left.next())?)?,
                Some("--scale") => {
                    let text = value("--scale", left.next())?;
                    let scale = Scale::parse(&text.display().to_string());
                    options.scale = Some(scale.map_err(OptionError::Scale)?);
                }
                Some("--session") => {
                    options.session = Some(value("--session", left.next())?.into());
                }
                Some("--daemon") => {
                    let text = value("--daemon", left.next())?;
                    let domain = text.display().to_string().parse();
                    options.daemon = domain.map_err(OptionError::Daemon)?;
                }
                _ => return Err(OptionError::Unknown(argument.display().to_string())),
            }
        }
        Ok(options)
    }
}

fn value(option: &'static str, next: Option<OsString>) -> Result<OsString, OptionError> {
    next.ok_or(OptionError::NeedsValue(option))
}

/// A name in the folder of sockets, and no path out of it.
fn socket(name: &OsString) -> Result<String, OptionError> {
    match name.to_str() {
        Some(text) if !text.is_empty() && !text.contains('/') => Ok(text.into()),
        _ => Err(OptionError::Socket(name.display().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, OptionError> {
        Options::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn what_is_not_said_is_the_usual() {
        let usual = parse(&[]).unwrap();
        assert_eq!(
            (usual.socket.as_str(), usual.daemon),
            ("wayland-0", DomId::DOM0)
        );
        assert!(usual.x && usual.command.is_empty() && usual.session.is_none());
        assert_eq!(usual.scale, None);
        let scale = parse(&["--scale", "2"]).unwrap().scale;
        assert_eq!(scale, Some(Scale::parse("2").unwrap()));
        let session = parse(&["--session", "/run/s"]).unwrap().session;
        assert_eq!(session.unwrap(), PathBuf::from("/run/s"));
        assert!(!parse(&["--no-x"]).unwrap().x);
        let all = parse(&["--socket", "w", "--daemon", "7", "--", "foot", "--socket"]).unwrap();
        assert_eq!((all.socket.as_str(), all.daemon.number()), ("w", 7));
        assert_eq!(all.command, ["foot", "--socket"]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let error = |words: &[&str]| parse(words).unwrap_err();
        assert_eq!(error(&["foot"]), OptionError::Unknown("foot".into()));
        assert_eq!(error(&["--socket"]), OptionError::NeedsValue("--socket"));
        assert_eq!(error(&["--session"]), OptionError::NeedsValue("--session"));
        for name in ["", "a/b"] {
            assert_eq!(error(&["--socket", name]), OptionError::Socket(name.into()));
        }
        assert!(matches!(error(&["--scale", "0"]), OptionError::Scale(_)));
        assert!(matches!(
            error(&["--daemon", "40000"]),
            OptionError::Daemon(_)
        ));
    }
}
