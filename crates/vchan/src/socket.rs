//! Channels over Unix sockets, byte-compatible with the public socket flavour.
//!
//! A channel is a stream socket at `<folder>/vchan.<server>.<client>.<port>.sock`. Nothing is
//! exchanged at connect and nothing frames the bytes. The folder is `$VCHAN_SOCKET_DIR`, by
//! default [`DEFAULT_DIR`]; the own id is `$VCHAN_DOMAIN`, by default 0.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SendFlags;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use thiserror::Error;

use crate::channel::{Channel, Wants, linger};
use crate::files::{Incoming, Outgoing};
use crate::guard;
use crate::id::{DomId, IdError, Port};
use crate::watch::FolderWatch;

/// Where sockets are when the environment does not say.
pub const DEFAULT_DIR: &str = "/var/run/vchan";

/// A client looks again after this even if nothing told it to: a server that was bound but did
/// not listen yet gives no further sign.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A client looks by itself this long before it watches the folder.
const SOON: Duration = Duration::from_millis(20);

/// First pause between two looks; each is a quarter longer, up to [`LOOK_AGAIN`].
const PAUSE: Duration = Duration::from_micros(40);

/// Kernel buffer of a channel: several chunks of 64 KiB, so that neither side waits on each.
const BUFFER: usize = 416 * 1024;

/// Times that a name is taken by force: whoever else binds it meanwhile has to win all of them.
const LISTEN_TRIES: u32 = 16;

/// A channel that could not be made.
#[derive(Debug, Error)]
pub enum VchanError {
    /// The environment names no valid own domain.
    #[error("VCHAN_DOMAIN is not usable")]
    Domain(#[source] IdError),
    /// The server's socket could not be set up.
    #[error("cannot listen at `{}`", path.display())]
    Listen {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The client could not reach the server.
    #[error("cannot connect to `{}`", path.display())]
    Connect {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody came.
    #[error("nobody connected to `{}` within {} s", path.display(), after.as_secs())]
    Timeout {
        /// The path.
        path: PathBuf,
        /// How long it took.
        after: Duration,
    },
}

/// The file name of a channel's socket.
#[must_use]
pub fn socket_name(server: DomId, client: DomId, port: Port) -> String {
    format!("vchan.{server}.{client}.{port}.sock")
}

/// A domain's folder of channels.
#[derive(Debug, Clone)]
pub struct SocketDir {
    folder: PathBuf,
    own: DomId,
}

impl SocketDir {
    /// The folder of domain `own`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, own: DomId) -> Self {
        Self {
            folder: folder.into(),
            own,
        }
    }

    /// What the environment says.
    ///
    /// # Errors
    /// [`VchanError::Domain`] if `$VCHAN_DOMAIN` is set to something else than a domain id.
    pub fn from_env() -> Result<Self, VchanError> {
        let folder = std::env::var_os("VCHAN_SOCKET_DIR").unwrap_or_else(|| DEFAULT_DIR.into());
        let own = match std::env::var("VCHAN_DOMAIN") {
            Ok(text) => text.parse().map_err(VchanError::Domain)?,
            Err(_) => DomId::DOM0,
        };
        Ok(Self::new(folder, own))
    }

    /// The own domain.
    #[must_use]
    pub fn own(&self) -> DomId {
        self.own
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Becomes server of a channel for `client`. A stale socket of an earlier server is replaced.
    ///
    /// # Errors
    /// [`VchanError::Listen`].
    pub fn listen(&self, client: DomId, port: Port) -> Result<Listener, VchanError> {
        let name = socket_name(self.own, client, port);
        let path = self.folder.join(&name);
        let bound = if self.own == DomId::DOM0 {
            bind_for_all(&self.folder, &name)
        } else {
            bind(&path)
        };
        match bound {
            Ok(socket) => Ok(Listener {
                socket,
                path: Some(path),
            }),
            Err(source) => Err(VchanError::Listen { path, source }),
        }
    }

    /// Becomes client of the channel that `server` offers, waiting for it until `deadline`.
    ///
    /// # Errors
    /// [`VchanError`].
    pub fn connect(
        &self,
        server: DomId,
        port: Port,
        deadline: Instant,
    ) -> Result<SocketChannel, VchanError> {
        let start = Instant::now();
        let path = self.folder.join(socket_name(server, self.own, port));
        let mut watch = None;
        let mut pause = PAUSE;
        loop {
            let failed = match UnixStream::connect(&path) {
                Ok(stream) => match SocketChannel::new(stream.into()) {
                    Ok(channel) => return Ok(channel),
                    Err(source) => source,
                },
                Err(e) => e,
            };
            let wait = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
            if !wait.contains(&failed.kind()) {
                return Err(VchanError::Connect {
                    path,
                    source: failed,
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(VchanError::Timeout {
                    path,
                    after: start.elapsed(),
                });
            }
            // A server that is about to come is there sooner than a watch is set up and, above
            // all, taken down: that waits for the whole kernel. And that a bound server now
            // listens makes no event.
            let soon = start.elapsed() < SOON || failed.kind() == io::ErrorKind::ConnectionRefused;
            match &watch {
                _ if soon => {
                    std::thread::sleep(left.min(pause));
                    pause = LOOK_AGAIN.min(pause * 5 / 4);
                }
                None => watch = Some(FolderWatch::new(&self.folder)),
                Some(watch) => watch.wait(left.min(LOOK_AGAIN)),
            }
        }
    }
}

/// Listens at `path`, in the place of whatever is there.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let mut left = LISTEN_TRIES;
    let socket = loop {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        left -= 1;
        match UnixListener::bind(path) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && left > 0 => {}
            bound => break bound?,
        }
    };
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The same in a folder that another user's qube sees: there is the name once that one may connect.
fn bind_for_all(folder: &Path, name: &str) -> io::Result<UnixListener> {
    let new = format!("{name}.new");
    let socket = bind(&folder.join(&new))?;
    guard::open_to_all(File::open(folder)?, &new)?;
    std::fs::rename(folder.join(new), folder.join(name))?;
    Ok(socket)
}

/// A server that waits for its one client.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    /// Removed with the listener; none if somebody else made the socket.
    path: Option<PathBuf>,
}

impl Listener {
    /// Takes over a listening socket that somebody else has made and named.
    ///
    /// # Errors
    /// What making it non-blocking said.
    pub fn adopt(socket: OwnedFd) -> io::Result<Self> {
        let socket = UnixListener::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: None })
    }

    /// Takes the client if it is there. Nobody else can connect afterwards.
    ///
    /// # Errors
    /// The listener with `WouldBlock` if nobody is there, or with what `accept` said.
    pub fn try_accept(self) -> Result<SocketChannel, (Self, io::Error)> {
        loop {
            match self.socket.accept() {
                Ok((stream, _)) => {
                    return SocketChannel::new(stream.into()).map_err(|e| (self, e));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err((self, e)),
            }
        }
    }

    /// Waits for the client; forever without a deadline.
    ///
    /// # Errors
    /// [`VchanError::Timeout`] or [`VchanError::Listen`].
    pub fn accept(self, deadline: Option<Instant>) -> Result<SocketChannel, VchanError> {
        let start = Instant::now();
        let mut it = self;
        loop {
            let path = |it: &Self| it.path.clone().unwrap_or_default();
            match it.try_accept() {
                Ok(channel) => return Ok(channel),
                Err((back, e)) if e.kind() == io::ErrorKind::WouldBlock => it = back,
                Err((back, source)) => {
                    return Err(VchanError::Listen {
                        path: path(&back),
                        source,
                    });
                }
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(VchanError::Timeout {
                    path: path(&it),
                    after: start.elapsed(),
                });
            }
            let timeout = left.map(|left| Timespec::try_from(left).unwrap_or_default());
            match poll(
                &mut [PollFd::new(&it.socket, PollFlags::IN)],
                timeout.as_ref(),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => {
                    return Err(VchanError::Listen {
                        path: path(&it),
                        source: e.into(),
                    });
                }
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // A successor may have replaced the name already; it removes stale ones itself.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A connected channel.
#[derive(Debug)]
pub struct SocketChannel {
    socket: OwnedFd,
    /// Who splices bytes must have none.
    outgoing: Outgoing,
    /// Files that come are dropped unless somebody waits for them.
    incoming: Option<Incoming>,
}

impl SocketChannel {
    /// Makes a channel of a connected stream socket.
    ///
    /// # Errors
    /// What making it non-blocking said.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        // More than the system allows is cut by it, so this cannot fail in a way that matters.
        let _ = set_socket_send_buffer_size(&socket, BUFFER);
        let _ = set_socket_recv_buffer_size(&socket, BUFFER);
        Ok(Self::again(socket))
    }

    /// Makes a channel of what [`Self::into_inner`] gave, perhaps in another process. No system
    /// call is made.
    #[must_use]
    pub fn again(socket: OwnedFd) -> Self {
        Self {
            socket,
            outgoing: Outgoing::default(),
            incoming: None,
        }
    }

    /// Has `file` go with the byte that is written `after` bytes from now.
    pub(crate) fn send_file(&mut self, after: usize, file: OwnedFd) -> io::Result<()> {
        self.outgoing.push(after, file)
    }

    /// Keeps files that come from now on.
    pub(crate) fn expect_files(&mut self) {
        self.incoming.get_or_insert_default();
    }

    /// The oldest file that came and is still here.
    pub(crate) fn next_file(&mut self) -> Option<OwnedFd> {
        self.incoming.as_mut()?.pop()
    }

    /// Takes what the peer still writes, and forgets it, until it closes or `at_most` is over: a
    /// peer in the middle of a message must not find the channel gone.
    pub fn linger(self, at_most: Duration) {
        linger(self, at_most);
    }

    /// The socket.
    #[must_use]
    pub fn into_inner(self) -> OwnedFd {
        self.socket
    }
}

/// The peer left without reading everything.
fn is_end(error: &io::Error) -> bool {
    let ends = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    ends.contains(&error.kind())
}

impl AsFd for SocketChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Channel for SocketChannel {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn poll_flags(&self, wants: Wants) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, wants.read);
        flags.set(PollFlags::OUT, wants.write);
        flags
    }

    fn acknowledge(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(incoming) = &mut self.incoming {
            return match incoming.receive(&self.socket, buffer) {
                Err(e) if is_end(&e) => Ok(0),
                read => read,
            };
        }
        loop {
            match rustix::io::read(&self.socket, &mut *buffer) {
                Ok(n) => return Ok(n),
                Err(rustix::io::Errno::INTR) => {}
                // The peer left without reading everything; what it sent before was read.
                Err(rustix::io::Errno::CONNRESET | rustix::io::Errno::PIPE) => return Ok(0),
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.outgoing.is_empty() {
            return self.outgoing.send(&self.socket, parts);
        }
        let mut control = rustix::net::SendAncillaryBuffer::default();
        loop {
            match rustix::net::sendmsg(&self.socket, parts, &mut control, SendFlags::NOSIGNAL) {
                Ok(n) => return Ok(n),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn finish(&mut self) {
        // Fails only where the peer is gone already.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
    }

    fn stream(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn pair() -> (tempfile::TempDir, SocketDir, SocketDir) {
        let dir = tempfile::tempdir().unwrap();
        let a = SocketDir::new(dir.path(), DomId::new(42).unwrap());
        let b = SocketDir::new(dir.path(), DomId::DOM0);
        (dir, a, b)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    const PORT: Port = Port::new(513);

    #[test]
    fn every_user_who_sees_a_socket_of_dom0_may_connect() {
        let (dir, a, b) = pair();
        let mode = |name: &str| {
            let found = std::fs::metadata(dir.path().join(name)).unwrap();
            std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777
        };
        let listener = b.listen(a.own(), PORT).unwrap();
        assert_eq!(mode("vchan.0.42.513.sock"), guard::SOCKET_MODE);
        // Also in the place of an earlier one, and nothing else is there.
        let again = b.listen(a.own(), PORT).unwrap();
        assert_eq!(mode("vchan.0.42.513.sock"), guard::SOCKET_MODE);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        drop((listener, again));
    }

    #[test]
    fn a_name_that_somebody_else_binds_all_the_time_is_taken_nevertheless() {
        let (dir, a, _) = pair();
        let path = dir.path().join("vchan.42.0.513.sock");
        let over = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = std::fs::remove_file(&path);
                    let _bound = UnixListener::bind(&path);
                    thread::sleep(Duration::from_micros(50));
                }
            });
            let listened = (0..1000).try_for_each(|_| a.listen(DomId::DOM0, PORT).map(drop));
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            listened.unwrap();
        });
    }

    #[test]
    fn bytes_pass_unframed_and_the_end_is_seen() {
        let (dir, a, b) = pair();
        let listener = a.listen(DomId::DOM0, PORT).unwrap();
        assert!(dir.path().join("vchan.42.0.513.sock").exists());
        let mut client = b.connect(a.own(), PORT, soon()).unwrap();
        let mut server = listener.accept(Some(soon())).unwrap();
        assert!(!dir.path().join("vchan.42.0.513.sock").exists());
        let mut buffer = [0; 9];
        let e = client.read(&mut buffer).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
        server
            .write(&[IoSlice::new(b"he"), IoSlice::new(b"llo")])
            .unwrap();
        assert_eq!(client.read(&mut buffer).unwrap(), 5);
        client.write(&[IoSlice::new(b"unread")]).unwrap();
        server.write(&[IoSlice::new(b"last")]).unwrap();
        drop(server);
        assert_eq!(client.read(&mut buffer).unwrap(), 4);
        assert_eq!(client.read(&mut buffer).unwrap(), 0);
        let e = client.write(&[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_client_waits_for_its_server_and_for_a_stale_one_to_be_replaced() {
        let (dir, a, b) = pair();
        let own = a.own();
        drop(UnixListener::bind(dir.path().join("vchan.42.0.513.sock")).unwrap());
        let client = thread::spawn(move || b.connect(own, PORT, soon()));
        thread::sleep(Duration::from_millis(20));
        let listener = a.listen(DomId::DOM0, PORT).unwrap();
        listener.accept(Some(soon())).unwrap();
        client.join().unwrap().unwrap();
    }

    #[test]
    fn exactly_one_client_is_served() {
        let (_dir, a, b) = pair();
        let listener = a.listen(DomId::DOM0, PORT).unwrap();
        let _client = b.connect(a.own(), PORT, soon()).unwrap();
        let _server = listener.accept(Some(soon())).unwrap();
        let late = b.connect(a.own(), PORT, Instant::now());
        assert!(matches!(late, Err(VchanError::Timeout { .. })));
    }

    #[test]
    fn a_peer_may_write_on_while_one_lingers() {
        let (_dir, a, b) = pair();
        let listener = a.listen(DomId::DOM0, PORT).unwrap();
        let mut client = b.connect(a.own(), PORT, soon()).unwrap();
        let server = listener.accept(Some(soon())).unwrap();
        let lingering = thread::spawn(move || server.linger(Duration::from_secs(20)));
        let fd = client.as_fd().try_clone_to_owned().unwrap();
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], None).unwrap();
        assert_eq!(client.read(&mut [0; 9]).unwrap(), 0);
        client.write(&[IoSlice::new(b"late")]).unwrap();
        drop((client, fd));
        lingering.join().unwrap();
    }

    #[test]
    fn waits_end_at_their_deadline() {
        let (_dir, a, b) = pair();
        let soon = Instant::now() + Duration::from_millis(30);
        let listener = a.listen(DomId::new(9).unwrap(), PORT).unwrap();
        assert!(matches!(
            listener.accept(Some(soon)),
            Err(VchanError::Timeout { .. })
        ));
        assert!(matches!(
            b.connect(a.own(), PORT, soon),
            Err(VchanError::Timeout { .. })
        ));
    }

    #[test]
    fn a_folder_that_is_none_is_an_error_at_once() {
        let (dir, ..) = pair();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let it = SocketDir::new(&file, DomId::DOM0);
        assert!(matches!(
            it.listen(DomId::DOM0, PORT),
            Err(VchanError::Listen { .. })
        ));
        let e = it.connect(DomId::DOM0, PORT, soon());
        assert!(matches!(e, Err(VchanError::Connect { .. })));
    }
}
