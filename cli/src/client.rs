//! The way to the daemon.

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_api::Manager1Proxy;
use zbus::connection::Builder;
use zbus::proxy::CacheProperties;

use crate::args::Global;
use crate::failure::Failure;

/// How long a daemon may take to answer the D-Bus handshake: it has nothing to do for it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) proxy: Manager1Proxy<'static>,
    pub(crate) connection: zbus::Connection,
    socket: PathBuf,
}

/// Runs `work` with a connection, on this thread alone.
pub(crate) fn with_client<T, W>(
    global: &Global,
    work: impl FnOnce(Client) -> W,
) -> Result<T, Failure>
where
    W: Future<Output = Result<T, Failure>>,
{
    runtime()?.block_on(async { work(Client::connect(&socket(global)).await?).await })
}

/// A runtime on this thread.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| Failure::io("cannot start", &error))
}

/// The daemon's socket, as asked for or where it usually is.
pub(crate) fn socket(global: &Global) -> PathBuf {
    let asked = global.socket.clone();
    asked.unwrap_or_else(|| {
        let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        let own = runtime_dir.map(|dir| Path::new(&dir).join("bulkhead/bus"));
        own.filter(|path| !rustix::process::geteuid().is_root() && path.exists())
            .unwrap_or_else(|| PathBuf::from("/run/bulkhead/bus"))
    })
}

impl Client {
    pub(crate) async fn connect(socket: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
        let build = Builder::unix_stream(stream).p2p().build();
        let connection = match tokio::time::timeout(HANDSHAKE_TIMEOUT, build).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(refused(socket, &error)),
            Err(_) => {
                let seconds = HANDSHAKE_TIMEOUT.as_secs();
                return Err(no_daemon(socket)
                    .cause(format!("nothing came back within {seconds} s"))
                    .hint("Look at its log; it may have to be restarted."));
            }
        };
        let proxy = Manager1Proxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(|error| refused(socket, &error))?;
        Ok(Self {
            proxy,
            connection,
            socket: socket.to_owned(),
        })
    }

    /// Another connection: the calls of one are served one after the other.
    pub(crate) async fn another(&self) -> Result<Self, Failure> {
        Self::connect(&self.socket).await
    }
}

fn no_daemon(socket: &Path) -> Failure {
    Failure::new(format!("no daemon answers at `{}`", socket.display()))
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let failure = no_daemon(socket).because(error);
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            failure.hint("Only root and members of the group bulkhead may talk to it.")
        }
        _ => failure
            .hint(
                "Start it with `systemctl start bulkheadd`, or `bulkheadd --system FILE` by hand.",
            )
            .hint("If it listens elsewhere, say where with --socket or $BULKHEAD_SOCKET."),
    }
}

fn is_hang_up(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn refused(socket: &Path, error: &zbus::Error) -> Failure {
    let message = format!("bulkheadd at `{}` refused the connection", socket.display());
    match error {
        zbus::Error::Handshake(said) => {
            // The daemon says why in the words of the handshake.
            let why = said
                .split_once("ERROR ")
                .map_or(said.as_str(), |(_, why)| why);
            let failure = Failure::new(message).cause(why.trim());
            if why.contains("group") {
                failure
                    .hint("Add yourself with `sudo usermod -aG bulkhead $USER`, then log in again.")
            } else {
                failure
            }
        }
        zbus::Error::InputOutput(error) if is_hang_up(error.kind()) => {
            Failure::new(message).cause("it closed the connection during the handshake")
        }
        other => Failure::new(message).because(other),
    }
}
