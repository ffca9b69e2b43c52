//! Which way the channels of this domain go: by sockets or by Xen.
//!
//! It is chosen once for a process ([`Transport::from_env`]). What is sent and received afterwards
//! does not pass through anything but one comparison.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use thiserror::Error;

use crate::channel::{Channel, Wants, linger};
use crate::id::{DomId, Port};
use crate::share::{Sharer, Viewer};
use crate::socket::{self, SocketChannel, SocketDir, VchanError};
use crate::xen::device::{self, AllocDevice, GrantDevice};
use crate::xen::home::{self, Home, Rings};
use crate::xen::{XenChannel, XenError};

/// This domain, and how it reaches others.
#[derive(Debug, Clone)]
pub enum Transport {
    /// Sockets, where the environment says.
    Sockets(SocketDir),
    /// Memory that domains of Xen share.
    Xen(Home),
    /// Sockets where they are by default: the environment says nothing, and Xen is not there.
    Neither(SocketDir),
}

/// A channel that could not be made.
#[derive(Debug, Error)]
pub enum TransportError {
    /// By sockets.
    #[error(transparent)]
    Sockets(#[from] VchanError),
    /// By Xen.
    #[error(transparent)]
    Xen(#[from] XenError),
    /// By the sockets that are there by default.
    #[error(
        "there is no `{}` and no `VCHAN_SOCKET_DIR`, and the default sockets cannot be used",
        device::MARK
    )]
    Neither(#[source] VchanError),
}

impl TransportError {
    /// Whether nobody came until the deadline, or what was there served nobody: another try may
    /// find somebody.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        match self {
            Self::Sockets(e) | Self::Neither(e) => {
                matches!(e, VchanError::Timeout { .. } | VchanError::Connect { .. })
            }
            Self::Xen(e) => {
                matches!(e, XenError::Timeout { .. } | XenError::NoServer { .. }) || e.is_stale()
            }
        }
    }
}

impl Transport {
    /// What the environment says: sockets if it has `$VCHAN_SOCKET_DIR` or `$VCHAN_DOMAIN`, else
    /// Xen if this domain has its devices, else sockets at [`socket::DEFAULT_DIR`]. Nothing is
    /// opened yet.
    ///
    /// # Errors
    /// As [`SocketDir::from_env`].
    pub fn from_env() -> Result<Self, TransportError> {
        let said = ["VCHAN_SOCKET_DIR", "VCHAN_DOMAIN"].map(std::env::var_os);
        Self::choose(&said, device::are_there)
    }

    fn choose(
        said: &[Option<OsString>],
        xen_is_there: impl FnOnce() -> bool,
    ) -> Result<Self, TransportError> {
        Ok(if said.iter().any(Option::is_some) {
            Self::Sockets(SocketDir::from_env()?)
        } else if xen_is_there() {
            Self::Xen(Home::new())
        } else {
            Self::Neither(SocketDir::from_env()?)
        })
    }

    /// The own domain. On Xen, xenstore is asked each time: it changes when a domain is restored.
    ///
    /// # Errors
    /// [`TransportError::Xen`].
    pub fn own(&self) -> Result<DomId, TransportError> {
        match self {
            Self::Sockets(dir) | Self::Neither(dir) => Ok(dir.own()),
            Self::Xen(home) => Ok(home.own()?),
        }
    }

    /// Becomes server of a channel for `client`, in place of an earlier one. Sockets have rings of
    /// their own size.
    ///
    /// # Errors
    /// [`TransportError`].
    pub fn listen(
        &self,
        client: DomId,
        port: Port,
        rings: Rings,
    ) -> Result<AnyListener, TransportError> {
        match self {
            Self::Sockets(dir) => Ok(AnyListener::Socket(dir.listen(client, port)?)),
            Self::Xen(home) => Ok(AnyListener::Xen(home.listen(client, port, rings)?)),
            Self::Neither(dir) => dir
                .listen(client, port)
                .map(AnyListener::Socket)
                .map_err(TransportError::Neither),
        }
    }

    /// Becomes client of the channel that `server` offers, waiting for it until `deadline`; looks
    /// at least once.
    ///
    /// # Errors
    /// [`TransportError`].
    pub fn connect(
        &self,
        server: DomId,
        port: Port,
        deadline: Instant,
    ) -> Result<AnyChannel, TransportError> {
        match self {
            Self::Sockets(dir) => Ok(AnyChannel::Socket(dir.connect(server, port, deadline)?)),
            Self::Xen(home) => Ok(AnyChannel::Xen(home.connect(server, port, deadline)?)),
            Self::Neither(dir) => dir
                .connect(server, port, deadline)
                .map(AnyChannel::Socket)
                .map_err(TransportError::Neither),
        }
    }
}

/// Memory beside channels.
impl Transport {
    /// What makes memory that `peer` may read.
    ///
    /// # Errors
    /// [`TransportError::Xen`] where the device for it is not there.
    pub fn sharer(&self, peer: DomId) -> Result<Sharer, TransportError> {
        match self {
            Self::Sockets(_) | Self::Neither(_) => Ok(Sharer::Files),
            Self::Xen(_) => Ok(Sharer::Grants(
                device_named("gntalloc", AllocDevice::open)?,
                peer,
            )),
        }
    }

    /// What maps memory that `owner` lets this domain read.
    ///
    /// # Errors
    /// [`TransportError::Xen`] where the device for it is not there.
    pub fn viewer(&self, owner: DomId) -> Result<Viewer, TransportError> {
        match self {
            Self::Sockets(_) | Self::Neither(_) => Ok(Viewer::Files),
            Self::Xen(_) => Ok(Viewer::Grants(
                device_named("gntdev", GrantDevice::open)?,
                owner,
            )),
        }
    }
}

fn device_named<D>(
    name: &'static str,
    open: impl FnOnce() -> io::Result<D>,
) -> Result<D, TransportError> {
    open().map_err(|source| XenError::Device { name, source }.into())
}

/// A server that waits for its one client. Poll its descriptor for reading; what it then tells may
/// be for nothing.
#[derive(Debug)]
pub enum AnyListener {
    /// By a socket.
    Socket(socket::Listener),
    /// By Xen.
    Xen(home::Listener),
}

impl AnyListener {
    /// Takes the client if it is there. Nobody else can connect afterwards.
    ///
    /// # Errors
    /// The listener with `WouldBlock` if nobody is there, or with what the transport said.
    pub fn try_accept(self) -> Result<AnyChannel, (Self, io::Error)> {
        match self {
            Self::Socket(listener) => match listener.try_accept() {
                Ok(channel) => Ok(AnyChannel::Socket(channel)),
                Err((listener, e)) => Err((Self::Socket(listener), e)),
            },
            Self::Xen(listener) => match listener.try_accept() {
                Ok(channel) => Ok(AnyChannel::Xen(channel)),
                Err((listener, e)) => Err((Self::Xen(listener), e)),
            },
        }
    }

    /// Waits for the client; forever without a deadline.
    ///
    /// # Errors
    /// [`TransportError`].
    pub fn accept(self, deadline: Option<Instant>) -> Result<AnyChannel, TransportError> {
        match self {
            Self::Socket(listener) => Ok(AnyChannel::Socket(listener.accept(deadline)?)),
            Self::Xen(listener) => Ok(AnyChannel::Xen(listener.accept(deadline)?)),
        }
    }
}

impl AsFd for AnyListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(listener) => listener.as_fd(),
            Self::Xen(listener) => listener.as_fd(),
        }
    }
}

/// A connected channel, by whichever way.
#[derive(Debug)]
pub enum AnyChannel {
    /// A socket.
    Socket(SocketChannel),
    /// Rings of Xen.
    Xen(XenChannel),
}

impl AnyChannel {
    /// Takes what the peer still writes, and forgets it, until it closes or `at_most` is over: a
    /// peer in the middle of a message must not find the channel gone.
    pub fn linger(self, at_most: Duration) {
        linger(self, at_most);
    }
}

impl From<SocketChannel> for AnyChannel {
    fn from(channel: SocketChannel) -> Self {
        Self::Socket(channel)
    }
}

impl From<XenChannel> for AnyChannel {
    fn from(channel: XenChannel) -> Self {
        Self::Xen(channel)
    }
}

impl Channel for AnyChannel {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(channel) => channel.fd(),
            Self::Xen(channel) => channel.fd(),
        }
    }

    fn poll_flags(&self, wants: Wants) -> PollFlags {
        match self {
            Self::Socket(channel) => channel.poll_flags(wants),
            Self::Xen(channel) => channel.poll_flags(wants),
        }
    }

    fn acknowledge(&mut self) -> io::Result<()> {
        match self {
            Self::Socket(channel) => channel.acknowledge(),
            Self::Xen(channel) => channel.acknowledge(),
        }
    }

    fn patience(&self) -> Option<Duration> {
        match self {
            Self::Socket(channel) => channel.patience(),
            Self::Xen(channel) => channel.patience(),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Socket(channel) => channel.read(buffer),
            Self::Xen(channel) => channel.read(buffer),
        }
    }

    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Socket(channel) => channel.write(parts),
            Self::Xen(channel) => channel.write(parts),
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Socket(channel) => channel.finish(),
            Self::Xen(channel) => channel.finish(),
        }
    }

    fn peer_died(&mut self) {
        match self {
            Self::Socket(channel) => channel.peer_died(),
            Self::Xen(channel) => channel.peer_died(),
        }
    }

    fn hung_up(&self, reported: PollFlags) -> bool {
        match self {
            Self::Socket(channel) => channel.hung_up(reported),
            Self::Xen(channel) => channel.hung_up(reported),
        }
    }

    fn stream(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Socket(channel) => channel.stream(),
            Self::Xen(channel) => channel.stream(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Port = Port::new(513);

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn the_environment_comes_before_xen_and_xen_before_the_default() {
        let (said, nothing) = (Some(OsString::from("x")), None);
        let choose = |said: &[Option<OsString>], xen| Transport::choose(said, || xen).unwrap();
        for said in [[said.clone(), None], [None, said.clone()]] {
            assert!(matches!(choose(&said, true), Transport::Sockets(_)));
            assert!(matches!(choose(&said, false), Transport::Sockets(_)));
        }
        let said = [nothing.clone(), nothing];
        assert!(matches!(choose(&said, true), Transport::Xen(_)));
        assert!(matches!(choose(&said, false), Transport::Neither(_)));
    }

    #[test]
    fn sockets_pass_through_with_all_that_they_can() {
        let dir = tempfile::tempdir().unwrap();
        let sockets = |own| Transport::Sockets(SocketDir::new(dir.path(), own));
        let (server, client) = (sockets(DomId::new(42).unwrap()), sockets(DomId::DOM0));
        let own = server.own().unwrap();
        let listener = server.listen(DomId::DOM0, PORT, Rings::CONTROL).unwrap();
        let (listener, e) = listener.try_accept().unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
        let mut client = client.connect(own, PORT, soon()).unwrap();
        let mut server = listener.accept(Some(soon())).unwrap();
        client.write(&[IoSlice::new(b"well")]).unwrap();
        assert_eq!(server.read(&mut [0; 9]).unwrap(), 4);
        // It may be spliced, and it has a half close.
        assert!(server.stream().is_some());
        client.finish();
        assert_eq!(server.read(&mut [0; 9]).unwrap(), 0);
        server.write(&[IoSlice::new(b"still")]).unwrap();
        assert_eq!(client.read(&mut [0; 9]).unwrap(), 5);
        server.peer_died();
        assert!(!server.hung_up(PollFlags::empty()) && server.hung_up(PollFlags::HUP));
    }

    #[test]
    fn nobody_there_is_told_from_what_cannot_work() {
        let dir = tempfile::tempdir().unwrap();
        let there = Transport::Sockets(SocketDir::new(dir.path(), DomId::DOM0));
        let peer = DomId::new(7).unwrap();
        let nobody = there.connect(peer, PORT, Instant::now()).unwrap_err();
        assert!(nobody.is_nobody());
        let nowhere = SocketDir::new(dir.path().join("none"), DomId::DOM0);
        let failed = Transport::Neither(nowhere).listen(peer, PORT, Rings::DATA);
        let failed = failed.unwrap_err();
        assert!(!failed.is_nobody());
        assert_eq!(
            failed.to_string(),
            "there is no `/dev/xen/evtchn` and no `VCHAN_SOCKET_DIR`, and the default sockets \
             cannot be used"
        );
    }

    #[test]
    fn on_xen_nobody_is_also_one_whom_nothing_can_be_shared_with() {
        let xen = |e: XenError| TransportError::from(e).is_nobody();
        let (server, client) = (DomId::DOM0, DomId::DOM0);
        let source = || io::ErrorKind::NotFound.into();
        assert!(xen(XenError::NoServer { server, port: PORT }));
        assert!(xen(XenError::Map {
            server,
            source: source()
        }));
        assert!(!xen(XenError::Share {
            client,
            source: source()
        }));
    }
}
