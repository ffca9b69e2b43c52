//! From a fresh process to one that may read what an agent says.

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use bulkhead_sandbox::confine::{ConfineError, Confinement, MemoryFiles, confine};
use bulkhead_sandbox::inherit::{InheritError, close_uninvited, take_inherited};
use bulkhead_vchan::xen::handed::REQUESTS_OF_HANDED;
use bulkhead_vchan::{DomId, Port, Transport, TransportError};
use bulkhead_wire::gui::picture::PICTURE_MAX;
use bulkhead_wire::gui::{CLIPBOARD_MAX, PORT};
use bulkhead_wire::proxy::FromProxy;
use clap::Parser;
use thiserror::Error;

use crate::keystroke::Keystroke;
use crate::line::{Line, LineError};
use crate::log::Log;
use crate::proxy::{Left, Proxy, ProxyError, Settings};
use crate::x11::{Qube, X11, X11Failure};

/// First user id of proxies that root has started; the domain id is added. Beside those of relays.
const UID_BASE: u32 = 0x6000_0000;

/// Display, channel, devices, standard streams, files on their way, and some room.
const FILES_MAX: u64 = 32;

/// Heap that no honest use comes near: windows are shared, and what waits is bounded.
const MEMORY_MAX: u64 = 64 * 1024 * 1024;

/// Show the windows of one qube on the display
#[derive(Debug, Parser)]
#[command(name = "bulkhead-gui")]
pub struct Arguments {
    /// The qube's name, which is in every frame
    #[arg(long, value_parser = name)]
    qube: String,
    /// The qube's domain
    #[arg(long, value_parser = domain)]
    domain: DomId,
    /// Number of the qube's label
    #[arg(long)]
    label: u32,
    /// Colour of the qube's label, as RRGGBB
    #[arg(long, value_parser = color)]
    color: u32,
    /// Seconds to wait for the agent
    #[arg(long, default_value_t = 60)]
    wait: u64,
    /// Descriptor of the line to bulkheadd, which is open
    #[arg(long)]
    fd: Option<RawFd>,
    /// Bytes that may be copied from the qube's clipboard, 256 to 256000
    #[arg(long, value_name = "BYTES", default_value_t = 64_000, value_parser = clipboard_max)]
    clipboard_max: usize,
    /// Bytes of a picture that may be copied from the qube's clipboard, up to 67108864; 0 is none
    #[arg(long, value_name = "BYTES", default_value_t = PICTURE_USUAL, value_parser = picture_max)]
    picture_max: usize,
    /// Keys that copy from the qube's clipboard
    #[arg(long, value_name = "KEYS", default_value = "Ctrl-Shift-c")]
    copy_keys: Keystroke,
    /// Keys that paste to the qube's clipboard
    #[arg(long, value_name = "KEYS", default_value = "Ctrl-Shift-v")]
    paste_keys: Keystroke,
}

/// Characters of a name.
const NAME_MAX: usize = 31;

fn name(text: &str) -> Result<String, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(is_name) {
        Ok(text.to_owned())
    } else {
        Err("not the name of a qube".to_owned())
    }
}

fn domain(text: &str) -> Result<DomId, String> {
    let id: DomId = text.parse().map_err(|_| "not a domain".to_owned())?;
    if id == DomId::DOM0 {
        return Err("dom0 has no agent".to_owned());
    }
    Ok(id)
}

fn color(text: &str) -> Result<u32, String> {
    let is_color = text.len() == 6 && text.chars().all(|c| c.is_ascii_hexdigit());
    let color = u32::from_str_radix(text, 16).ok().filter(|_| is_color);
    color.ok_or_else(|| "not six hexadecimal digits".to_owned())
}

/// The least bytes of a clipboard that a person may allow.
const CLIPBOARD_LEAST: usize = 256;

fn clipboard_max(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok();
    let bytes = bytes.filter(|bytes| (CLIPBOARD_LEAST..=CLIPBOARD_MAX).contains(bytes));
    bytes.ok_or_else(|| format!("not a number from {CLIPBOARD_LEAST} to {CLIPBOARD_MAX}"))
}

/// Bytes of a picture that may be copied where nothing is said: 2048 by 2048 pixels.
const PICTURE_USUAL: usize = 16 * 1024 * 1024;

fn picture_max(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok().filter(|bytes| *bytes <= PICTURE_MAX);
    bytes.ok_or_else(|| format!("not a number up to {PICTURE_MAX}"))
}

/// Why a proxy did not start, or ended.
#[derive(Debug, Error)]
pub enum GuiError {
    /// Nobody could tell copying from pasting.
    #[error("copying and pasting have the same keys, {0}")]
    SameKeys(Keystroke),
    /// No such descriptor.
    #[error("cannot take what was handed over")]
    Inherit(#[from] InheritError),
    /// What else was handed over cannot be closed.
    #[error("cannot close what was handed over")]
    Close(#[source] io::Error),
    /// No line.
    #[error("cannot use the line to the daemon")]
    Line(#[source] io::Error),
    /// The daemon does not hear that it started.
    #[error("cannot tell the daemon")]
    Tell(#[from] LineError),
    /// No display.
    #[error("there is no display to use")]
    Display(#[from] X11Failure),
    /// No agent.
    #[error("cannot reach the agent")]
    Agent(#[from] TransportError),
    /// Not confined.
    #[error("cannot confine itself")]
    Confine(#[from] ConfineError),
    /// It was serving.
    #[error("the windows are gone")]
    Served(#[from] ProxyError<X11Failure>),
}

/// Connects to display and agent, gives up everything else, and serves until the agent or the
/// daemon has gone.
///
/// # Errors
/// [`GuiError`].
pub fn run(arguments: Arguments) -> Result<(), GuiError> {
    if arguments.copy_keys.is_same(&arguments.paste_keys) {
        return Err(GuiError::SameKeys(arguments.paste_keys));
    }
    let handed = arguments.fd.map(take_inherited).transpose()?;
    let mut daemon = handed.map(Line::new).transpose().map_err(GuiError::Line)?;
    let qube = Qube {
        name: arguments.qube,
        label: arguments.label,
        color: arguments.color,
    };
    let log = || Log::new(&qube.name);
    let display = X11::connect(qube.clone(), log())?;
    // What opens the display may be among it.
    close_uninvited().map_err(GuiError::Close)?;
    let transport = Transport::from_env()?;
    let (server, port) = (arguments.domain, Port::new(PORT));
    let deadline = Instant::now() + Duration::from_secs(arguments.wait);
    let channel = transport.connect(server, port, deadline)?;
    let viewer = transport.viewer(server)?;
    let report = confine(&confinement(&transport, server))?;
    log().say(&format!("confined: {report}"));
    if let Some(line) = &mut daemon {
        let confinement = report.to_string();
        line.say(&FromProxy::Ready { confinement }, None)?;
    }
    let settings = Settings {
        copy: arguments.copy_keys,
        paste: arguments.paste_keys,
        clipboard_max: arguments.clipboard_max,
        picture_max: arguments.picture_max,
    };
    let proxy = Proxy::new((channel, viewer), daemon, settings, display, log());
    let left = proxy.serve()?;
    log().say(match left {
        Left::Agent => "the agent has gone",
        Left::Daemon => "the daemon has gone",
    });
    Ok(())
}

fn confinement(transport: &Transport, server: DomId) -> Confinement {
    Confinement {
        uid: UID_BASE + server.number(),
        files_max: FILES_MAX,
        memory_max: MEMORY_MAX,
        requests: match transport {
            Transport::Xen(_) => &REQUESTS_OF_HANDED,
            Transport::Sockets(_) | Transport::Neither(_) => &[],
        },
        memory_files: MemoryFiles::Made {
            bytes_max: PICTURE_MAX as u64,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_cannot_be_are_refused() {
        let parse = |changed: &[(&str, &str)]| {
            let mut all = vec![
                ("--qube", "work"),
                ("--domain", "7"),
                ("--label", "4"),
                ("--color", "00cc00"),
            ];
            for (name, value) in changed {
                all.retain(|(known, _)| known != name);
                all.push((name, value));
            }
            let words = all.iter().flat_map(|(name, value)| [*name, *value]);
            Arguments::try_parse_from(["bulkhead-gui"].into_iter().chain(words))
        };
        let right = parse(&[]).expect("arguments");
        assert_eq!((right.qube.as_str(), right.color), ("work", 0xcc00));
        assert_eq!((right.clipboard_max, right.fd), (64_000, None));
        for bytes in ["256", "256000"] {
            assert!(parse(&[("--clipboard-max", bytes)]).is_ok(), "{bytes}");
        }
        for bytes in ["0", "67108864"] {
            assert!(parse(&[("--picture-max", bytes)]).is_ok(), "{bytes}");
        }
        let wrong = parse(&[("--copy-keys", "Hyper-c")]).expect_err("no modifier");
        assert!(
            wrong.to_string().contains("'Hyper' is no modifier"),
            "{wrong}"
        );
        let same = parse(&[("--copy-keys", "Mod1-x"), ("--paste-keys", "Alt-X")]);
        let refused = run(same.expect("arguments")).expect_err("one keystroke");
        assert_eq!(
            refused.to_string(),
            "copying and pasting have the same keys, Alt-X"
        );
        let long = "x".repeat(NAME_MAX + 1);
        for wrong in [
            ("--qube", ""),
            ("--qube", "a b"),
            ("--qube", &long),
            ("--qube", "ü"),
            ("--domain", "0"),
            ("--domain", "x"),
            ("--color", "red"),
            ("--color", "+0cc00"),
            ("--color", "00cc000"),
            ("--clipboard-max", "255"),
            ("--clipboard-max", "256001"),
            ("--clipboard-max", "-1"),
            ("--picture-max", "67108865"),
            ("--picture-max", "-1"),
            ("--copy-keys", "Ctrl-Shift"),
            ("--paste-keys", "v"),
            ("--fd", "x"),
        ] {
            assert!(parse(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}
