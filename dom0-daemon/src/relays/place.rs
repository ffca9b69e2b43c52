//! How dom0 and one qube come to their channels: by sockets in the qube's folder, or on Xen.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_vchan::xen::handed::{ClientEnd, ServerEnd};
use bulkhead_vchan::xen::{Offer, RingSizes, Rings as RingsWanted, XenError};
use bulkhead_vchan::{DomId, Port};
use bulkhead_wire::end::{Carrier, End};

use super::Folder;
use crate::meeting::Meeting;

/// Rings of dom0's own data channels: as reference programs have them, and where dom0 shares so
/// much already that there is no more, small ones rather than none.
const DATA: RingsWanted = RingsWanted {
    wanted: RingSizes::DATA,
    at_least: RingSizes::CONTROL,
};

/// An end of a channel for another process.
#[derive(Debug)]
pub(crate) struct Handed {
    /// What is said of it.
    pub(crate) end: End,
    /// Its descriptors.
    pub(crate) fds: Vec<OwnedFd>,
}

impl Handed {
    pub(crate) fn socket(socket: OwnedFd) -> Self {
        Self {
            end: End::Socket,
            fds: vec![socket],
        }
    }

    fn client(end: ClientEnd) -> Self {
        Self {
            end: End::Client {
                server: end.server.number(),
                page: end.page.0,
                port: end.port.0,
            },
            fds: vec![end.events, end.memory],
        }
    }

    fn server(end: ServerEnd) -> Self {
        Self {
            end: End::Server {
                client: end.client.number(),
                page: end.offer.page.0,
                port: end.offer.port.0,
                index: end.index,
                orders: end.orders.numbers(),
            },
            fds: vec![end.events, end.memory],
        }
    }
}

/// A qube as dom0's channels see it.
#[derive(Debug)]
pub(crate) enum Place {
    /// It makes sockets in a folder, and sees ours there.
    Sockets(Folder),
    /// It is a domain of Xen.
    Rings(Rings),
}

/// A qube that is a domain of Xen.
#[derive(Debug)]
pub(crate) struct Rings {
    meeting: Arc<Meeting>,
    domain: DomId,
    /// Connections that lead here, as names in dom0's own folder of the qube: a daemon that starts
    /// again has nothing else to know them by.
    records: PathBuf,
}

impl Rings {
    /// The domain `domid`, with dom0's own folder of its.
    pub(crate) fn new(meeting: Arc<Meeting>, domid: u32, own: &Path) -> io::Result<Self> {
        Ok(Self {
            meeting,
            domain: DomId::new(domid).map_err(io::Error::other)?,
            records: own.to_owned(),
        })
    }

    pub(crate) fn meeting(&self) -> &Meeting {
        &self.meeting
    }

    pub(crate) fn domain(&self) -> DomId {
        self.domain
    }

    /// Becomes the client of what the qube offers.
    pub(crate) fn join(&self, offer: Offer) -> Result<Handed, XenError> {
        ClientEnd::prepare(self.domain, offer).map(Handed::client)
    }

    /// An end of a control line that the qube is to come to, and what it has to be told.
    pub(crate) fn serve_control(&self) -> Result<(Handed, Offer), XenError> {
        self.serve(RingsWanted::CONTROL)
    }

    fn serve(&self, rings: RingsWanted) -> Result<(Handed, Offer), XenError> {
        let end = ServerEnd::prepare(self.domain, rings)?;
        let offer = end.offer;
        Ok((Handed::server(end), offer))
    }
}

/// A connection, and the name that it has in folders.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    /// Server, client and port.
    pub(crate) key: (u32, u32, u32),
    /// As the socket is called.
    pub(crate) name: String,
}

impl Place {
    pub(crate) fn carrier(&self) -> Carrier {
        match self {
            Self::Sockets(_) => Carrier::Sockets,
            Self::Rings(_) => Carrier::Rings,
        }
    }

    /// A connection to the qube, or of it to dom0, is about to be made.
    pub(crate) fn expect(&self, connection: &Named) {
        match self {
            // Else the client may meet the qube's own litter there before the server's socket comes.
            Self::Sockets(folder) => folder.remove(&connection.name),
            Self::Rings(rings) => rings.note(connection),
        }
    }

    /// A connection is over.
    pub(crate) fn remove(&self, connection: &Named) {
        match self {
            Self::Sockets(folder) => folder.remove(&connection.name),
            Self::Rings(rings) => {
                let (server, _, port) = connection.key;
                if server == 0 {
                    rings.meeting.withdraw(rings.domain, Port::new(port));
                }
                // There are none of connections to dom0.
                let _ = fs::remove_file(rings.records.join(&connection.name));
            }
        }
    }

    /// Lets the qube of `to` reach this qube's socket `name`. On Xen the two do that alone.
    pub(crate) fn share(&self, to: &Self, name: &str) -> io::Result<()> {
        match (self, to) {
            (Self::Sockets(own), Self::Sockets(to)) => own.share(to, name),
            _ => Ok(()),
        }
    }

    /// What dom0 serves a connection to this qube by, for the one who asked for it.
    pub(crate) async fn listen(&self, connection: &Named) -> io::Result<Handed> {
        match self {
            Self::Sockets(folder) => folder.listen(&connection.name).map(Handed::socket),
            Self::Rings(rings) => {
                let (handed, offer) = rings.serve(DATA).map_err(io::Error::other)?;
                let (_, _, port) = connection.key;
                rings.note(connection);
                let published = rings
                    .meeting
                    .published(rings.domain, Port::new(port), offer);
                published.await?;
                Ok(handed)
            }
        }
    }

    /// Names of connections to this qube, and of what it has left among them.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        match self {
            Self::Sockets(folder) => folder.names(),
            Self::Rings(rings) => fs::read_dir(&rings.records)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect(),
        }
    }

    /// Whether the connection `name` from this qube to that of `to` was made by dom0.
    pub(crate) fn shares(&self, to: &Self, name: &str) -> bool {
        match (self, to) {
            (Self::Sockets(own), Self::Sockets(to)) => own.shares(to, name),
            // Only dom0 writes records.
            _ => true,
        }
    }

    /// The domain is gone.
    pub(crate) fn gone(&self) {
        if let Self::Rings(rings) = self {
            rings.meeting.forget(rings.domain);
        }
    }
}

impl Rings {
    fn note(&self, connection: &Named) {
        let (_, client, _) = connection.key;
        if client != self.domain.number() {
            return;
        }
        if let Err(error) = File::create(self.records.join(&connection.name)) {
            // It works; only a daemon that starts again will not know of it.
            tracing::warn!(name = connection.name, %error, "a connection is not recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(key: (u32, u32, u32)) -> Named {
        let (server, client, port) = key;
        let name = format!("vchan.{server}.{client}.{port}.sock");
        Named { key, name }
    }

    #[tokio::test]
    async fn on_xen_connections_to_a_qube_are_recorded_until_they_are_over() {
        let own = tempfile::tempdir().unwrap();
        let rings = Rings::new(Arc::new(Meeting::of_nobody()), 7, own.path()).unwrap();
        let place = Place::Rings(rings);
        assert_eq!(place.carrier(), Carrier::Rings);
        let (to, from) = (named((5, 7, 513)), named((7, 0, 514)));
        place.expect(&to);
        // The daemon that serves it ends it.
        place.expect(&from);
        assert_eq!(place.names().unwrap(), [to.name.as_str()]);
        assert!(place.shares(&place, &to.name));
        place.remove(&from);
        place.remove(&to);
        assert!(place.names().unwrap().is_empty());
        place.gone();
    }

    #[test]
    fn a_number_that_is_no_domain_is_refused() {
        let meeting = || Arc::new(Meeting::of_nobody());
        assert!(Rings::new(meeting(), DomId::LIMIT - 1, Path::new("/")).is_ok());
        assert!(Rings::new(meeting(), DomId::LIMIT, Path::new("/")).is_err());
    }
}
