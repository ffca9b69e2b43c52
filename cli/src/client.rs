//! The connection to the daemon.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bulkhead_api::Manager1Proxy;
use zbus::Connection;
use zbus::connection::Builder;

use crate::error::{CommandError, Exit};

/// A connected daemon.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) proxy: Manager1Proxy<'static>,
}

/// Where the daemon's socket is, unless the caller says.
pub(crate) fn default_socket() -> PathBuf {
    runtime_dir().join("bus")
}

fn runtime_dir() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    match own {
        Some(dir) if !rustix::process::geteuid().is_root() => {
            let own = PathBuf::from(dir).join("bulkhead");
            // A member of the group talks to the machine's daemon unless they run one themselves.
            if own.join("bus").exists() {
                own
            } else {
                system_or(own)
            }
        }
        _ => PathBuf::from(SYSTEM_DIR),
    }
}

/// Runtime folder of a daemon that runs as root.
const SYSTEM_DIR: &str = "/run/bulkhead";

fn system_or(own: PathBuf) -> PathBuf {
    let system = PathBuf::from(SYSTEM_DIR);
    if system.join("bus").exists() {
        system
    } else {
        own
    }
}

/// Where the description is, unless the caller says: as the daemon looks for it.
pub(crate) fn default_system() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/etc/bulkhead/system.ron");
    }
    let config = std::env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty());
    let config = config.map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(PathBuf::from(home).join(".config"))
    });
    match config {
        Some(config) => config.join("bulkhead/system.ron"),
        None => PathBuf::from("/etc/bulkhead/system.ron"),
    }
}

impl Client {
    /// Connects, and says what to do where that fails.
    pub(crate) async fn connect(socket: Option<&Path>) -> Result<Self, CommandError> {
        let path = socket.map_or_else(default_socket, Path::to_owned);
        let stream = UnixStream::connect(&path).map_err(|error| unreachable(&path, &error))?;
        let connection = Builder::unix_stream(stream)
            .p2p()
            .build()
            .await
            .map_err(|error| refused(&path, &error))?;
        let proxy = Manager1Proxy::new(&connection).await?;
        Ok(Self { connection, proxy })
    }
}

fn unreachable(path: &Path, error: &io::Error) -> CommandError {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => CommandError::new(format!(
            "bulkheadd does not run: nobody answers at `{shown}`"
        ))
        .hint("start it with `systemctl start bulkheadd`, or run `bulkheadd` yourself")
        .hint("if it listens elsewhere, say so with --socket or BULKHEAD_SOCKET"),
        io::ErrorKind::PermissionDenied => not_a_member(),
        _ => CommandError::new(format!("cannot connect to bulkheadd at `{shown}`")).because(error),
    }
}

fn not_a_member() -> CommandError {
    CommandError::new("you may not talk to bulkheadd")
        .hint("add yourself to the group with `sudo usermod -aG bulkhead $USER`, and log in again")
}

fn refused(path: &Path, error: &zbus::Error) -> CommandError {
    if let zbus::Error::Handshake(said) = error
        && let Some((_, why)) = said.split_once("ERROR ")
    {
        let mut refusal = not_a_member();
        if why.contains("connections") {
            refusal = CommandError::new("bulkheadd is busy").hint("try again in a moment");
        }
        refusal.causes.push(why.trim().to_owned());
        return refusal;
    }
    CommandError::new(format!(
        "`{}` does not speak as bulkheadd does",
        path.display()
    ))
    .because(error)
    .exit(Exit::Refused)
}
