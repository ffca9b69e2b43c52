//! The daemon's own socket: accept, look who it is, serve, and keep everyone within bounds.

use std::fs::{self, Permissions};
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zbus::connection::Builder;
use zbus::{Guid, OwnedGuid};

use super::backend::{Backend, Caller};
use super::events::Events;
use super::gate::{Credentials, Gate};
use super::manager::{Manager, Signals};
use super::served::{Door, Served};

/// Most connections at a time. Each costs about 30 KiB and two descriptors; a desktop has three.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// Of these, how many only root and the daemon's own user can take: members of the group who use
/// up the rest cannot lock the owner out.
pub(super) const CONNECTIONS_RESERVED: usize = 8;

/// How long clients may keep us waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Over the D-Bus handshake.
    pub(super) handshake: Duration,
    /// How often it is looked whether what a client has not read fills its socket. At
    /// [`FULL_LOOKS`] looks in a row it is hung up on: until then it holds one place and what a
    /// socket holds, and nothing else waits for it.
    pub(super) look: Duration,
}

/// Half a minute of a full socket: a client that is stopped in a debugger comes back to a closed
/// connection, one that is merely slow is never full at every look.
const PATIENCE: Patience = Patience {
    handshake: Duration::from_secs(5),
    look: Duration::from_secs(5),
};

/// See [`Patience::look`].
const FULL_LOOKS: u32 = 6;

/// How long a refused client may take to say its first word, so that it can be told why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Refused clients that are told why at the same time; any more are just closed.
const REFUSALS_MAX: usize = 8;

/// Pause after accept failed (out of descriptors): accepting again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the socket could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Making or guarding the socket failed.
    #[error("cannot {doing} `{}`", .path.display())]
    Socket {
        /// What was being done, as an infinitive.
        doing: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the machine said.
        #[source]
        source: io::Error,
    },
}

/// Ends a connection from outside, also while something waits to write to it.
#[derive(Debug)]
struct HangUp(StdUnixStream);

impl HangUp {
    fn now(&self) {
        // It may be closed already.
        let _ = self.0.shutdown(Shutdown::Both);
    }

    /// Whether what the client has not read fills the socket: a quarter of it, for the kernel.
    fn is_full(&self) -> bool {
        let mut look = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::OUT)];
        // Closed at the other end, it can be written to, and that fails.
        matches!(poll(&mut look, Some(&Timespec::default())), Ok(0))
    }

    /// Returns when the client has left the socket full for too long.
    async fn stalled(&self, look: Duration) {
        let mut full = 0;
        while full < FULL_LOOKS {
            tokio::time::sleep(look).await;
            full = if self.is_full() { full + 1 } else { 0 };
        }
    }
}

/// The bound socket. The file is removed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    gate: Gate,
    patience: Patience,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Listener {
    /// Binds `path`, in place of what an earlier daemon left: the caller holds the lock that says
    /// there is no other.
    pub fn bind(path: &Path, gate: Gate) -> Result<Self, BusError> {
        Ok(Self {
            socket: bind_guarded(path, gate)?,
            path: path.to_owned(),
            gate,
            patience: PATIENCE,
        })
    }

    #[cfg(test)]
    pub(super) fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Serves until the task is dropped.
    pub async fn serve(self, backend: Arc<dyn Backend>, events: Events) {
        let server = Arc::new(Server {
            backend,
            events,
            patience: self.patience,
            guid: Guid::generate().into(),
            all: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            unreserved: Arc::new(Semaphore::new(CONNECTIONS_MAX - CONNECTIONS_RESERVED)),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        });
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => server.admit(stream, &self.gate),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Binds `path`, in place of what an earlier daemon left, for those whom `gate` may let in.
pub(crate) fn bind_guarded(path: &Path, gate: Gate) -> Result<UnixListener, BusError> {
    let failed = |doing| {
        let path = path.to_owned();
        move |source| BusError::Socket {
            doing,
            path,
            source,
        }
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("replace")(error));
        }
        _ => {}
    }
    let socket = UnixListener::bind(path).map_err(failed("listen on"))?;
    if let Some(group) = gate.group()
        && nix::unistd::Uid::effective().is_root()
    {
        std::os::unix::fs::chown(path, None, Some(group.as_raw()))
            .map_err(failed("give the group its right to"))?;
    }
    fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(failed("guard"))?;
    Ok(socket)
}

/// A place among the connections, free again when it is dropped.
#[derive(Debug)]
struct Place {
    _all: OwnedSemaphorePermit,
    _unreserved: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Server {
    backend: Arc<dyn Backend>,
    events: Events,
    patience: Patience,
    guid: OwnedGuid,
    all: Arc<Semaphore>,
    unreserved: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl Server {
    fn admit(self: &Arc<Self>, stream: UnixStream, gate: &Gate) {
        let credentials = match Credentials::of_socket(&stream) {
            Ok(credentials) => credentials,
            Err(error) => {
                tracing::warn!(%error, "a client without credentials was turned away");
                return;
            }
        };
        match gate.admit(&credentials) {
            Ok(caller) => match self.place(&caller) {
                Some(place) => {
                    tokio::spawn(Arc::clone(self).connection(stream, caller, place));
                }
                None => {
                    tracing::warn!(user = caller.name, "too many connections");
                    let limit = format!("bulkheadd serves {CONNECTIONS_MAX} connections already");
                    self.refuse(stream, limit);
                }
            },
            Err(refusal) => {
                tracing::warn!(uid = credentials.uid, "a stranger was turned away");
                self.refuse(stream, refusal.to_string());
            }
        }
    }

    fn place(&self, caller: &Caller) -> Option<Place> {
        let unreserved = if caller.owner {
            None
        } else {
            Some(Arc::clone(&self.unreserved).try_acquire_owned().ok()?)
        };
        Some(Place {
            _all: Arc::clone(&self.all).try_acquire_owned().ok()?,
            _unreserved: unreserved,
        })
    }

    /// Says why in the words of the D-Bus handshake, then closes.
    fn refuse(&self, mut stream: UnixStream, why: String) {
        let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() else {
            return;
        };
        tokio::spawn(async move {
            let answer = async {
                // The client speaks first, and would see a broken pipe instead of our words.
                let mut first = [0_u8; 256];
                let _ = stream.read(&mut first).await?;
                stream
                    .write_all(format!("ERROR {why}\r\n").as_bytes())
                    .await?;
                stream.shutdown().await
            };
            let _ = tokio::time::timeout(REFUSAL_TIMEOUT, answer).await;
            drop(permit);
        });
    }

    /// Serves one client until it is gone, or stalls.
    async fn connection(self: Arc<Self>, stream: UnixStream, caller: Caller, place: Place) {
        let user = caller.name.clone();
        match self.handshake(stream, caller).await {
            Ok((connection, hang_up)) => {
                tracing::debug!(user, "a client connected");
                tokio::select! {
                    () = connection.closed() => tracing::debug!(user, "a client is gone"),
                    () = hang_up.stalled(self.patience.look) => {
                        tracing::warn!(user, "a client does not read what it is sent; hung up");
                        hang_up.now();
                    }
                }
            }
            Err(error) => tracing::debug!(user, %error, "a handshake failed"),
        }
        drop(place);
    }

    async fn handshake(
        &self,
        stream: UnixStream,
        caller: Caller,
    ) -> Result<(zbus::Connection, HangUp), zbus::Error> {
        let stream = stream.into_std()?;
        let user = caller.name.clone();
        let hang_up = HangUp(stream.try_clone()?);
        let backend = Arc::clone(&self.backend);
        let served = Served {
            manager: Manager::new(backend, self.events.clone(), Signals::OnDemand),
            door: Door::Peer(Arc::new(caller)),
        };
        let build = Builder::unix_stream(stream)
            .server(self.guid.clone())
            .p2p()
            .serve_at(bulkhead_api::PATH, served)
            .build();
        match tokio::time::timeout(self.patience.handshake, build).await {
            Ok(result) => Ok((result?, hang_up)),
            Err(_) => {
                tracing::warn!(user, "a client does not finish its handshake; hung up");
                Err(zbus::Error::Handshake("it took too long".to_owned()))
            }
        }
    }
}
