//! What a guest's daemon is: a store, its local clients, and the link to dom0.

use super::link::{Link, LinkError, LinkEvent, Role};
use super::server::{ClientId, Server};
use super::store::{Change, STORE_GUEST_MAX, Store};

/// Ties the three together, so that each change reaches the clients that watch and the other side.
#[derive(Debug)]
pub struct GuestDaemon {
    store: Store,
    server: Server,
    link: Option<Link>,
}

impl Default for GuestDaemon {
    fn default() -> Self {
        Self {
            store: Store::default(),
            server: Server::new(STORE_GUEST_MAX),
            link: None,
        }
    }
}

impl GuestDaemon {
    /// The local clients, to add, drop and inspect them.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// The keys.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The link while there is one.
    #[must_use]
    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// dom0 is connected: ask for the dump. Keys from before stay.
    pub fn link_up(&mut self) {
        self.link = Some(Link::new(Role::Guest));
    }

    /// The connection to dom0 is gone. Clients are still served.
    pub fn link_down(&mut self) {
        self.link = None;
    }

    /// Takes bytes from dom0.
    ///
    /// # Errors
    /// Where the link must end; it is already forgotten.
    pub fn link_receive(&mut self, bytes: &[u8]) -> Result<Vec<LinkEvent>, LinkError> {
        self.with_link(|link, store, events| link.receive(bytes, store, events))
    }

    /// Drops `n` bytes of the link's output that were sent.
    ///
    /// # Errors
    /// As [`GuestDaemon::link_receive`].
    pub fn link_sent(&mut self, n: usize) -> Result<Vec<LinkEvent>, LinkError> {
        self.with_link(|link, store, events| link.sent(n, store, events))
    }

    /// Takes bytes from a client.
    ///
    /// # Errors
    /// Where the link must end because dom0 takes no more; it is already forgotten.
    pub fn client_receive(&mut self, id: ClientId, bytes: &[u8]) -> Result<(), LinkError> {
        let changes = self.server.receive(id, bytes, &mut self.store);
        self.forward(&changes)
    }

    /// Drops `n` bytes of a client's output that were sent.
    ///
    /// # Errors
    /// As [`GuestDaemon::client_receive`].
    pub fn client_sent(&mut self, id: ClientId, n: usize) -> Result<(), LinkError> {
        let changes = self.server.sent(id, n, &mut self.store);
        self.forward(&changes)
    }

    fn with_link(
        &mut self,
        act: impl FnOnce(&mut Link, &mut Store, &mut Vec<LinkEvent>) -> Result<(), LinkError>,
    ) -> Result<Vec<LinkEvent>, LinkError> {
        let mut events = Vec::new();
        let Some(link) = &mut self.link else {
            return Ok(events);
        };
        let done = act(link, &mut self.store, &mut events);
        for event in &events {
            if let LinkEvent::Changed(change) = event {
                self.server.notify(&change.path);
            }
        }
        if done.is_err() {
            self.link = None;
        }
        done.map(|()| events)
    }

    fn forward(&mut self, changes: &[Change]) -> Result<(), LinkError> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let done = changes.iter().try_for_each(|change| link.forward(change));
        if done.is_err() {
            self.link = None;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::message::{self, Kind, Value};
    use super::super::path::DbPath;
    use super::super::server::Access;
    use super::super::store::STORE_MAX;
    use super::*;

    fn path(text: &str) -> DbPath {
        DbPath::new(text).unwrap()
    }

    fn request(kind: Kind, at: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        message::encode(&mut bytes, kind, &path(at), data);
        bytes
    }

    /// Carries bytes both ways in steps of `step` until neither side has any.
    fn settle(guest: &mut GuestDaemon, dom0: &mut Link, store: &mut Store, step: usize) {
        loop {
            let up: Vec<u8> = guest
                .link()
                .unwrap()
                .output()
                .iter()
                .copied()
                .take(step)
                .collect();
            guest.link_sent(up.len()).unwrap();
            dom0.receive(&up, store, &mut Vec::new()).unwrap();
            let down: Vec<u8> = dom0.output().iter().copied().take(step).collect();
            dom0.sent(down.len(), store, &mut Vec::new()).unwrap();
            guest.link_receive(&down).unwrap();
            if up.is_empty() && down.is_empty() {
                return;
            }
        }
    }

    fn all(store: &Store) -> Vec<(String, Vec<u8>)> {
        store
            .descending(None)
            .map(|(k, v)| (k.to_string(), v.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn a_change_from_dom0_fires_the_guests_watches() {
        let (mut guest, mut dom0, mut store) = (
            GuestDaemon::default(),
            Link::new(Role::Dom0),
            Store::default(),
        );
        guest.link_up();
        settle(&mut guest, &mut dom0, &mut store, 1000);
        let id = guest.server().connect(Access::ReadOnly).unwrap();
        guest
            .client_receive(id, &request(Kind::Watch, "/a", b""))
            .unwrap();
        let change = Change {
            path: path("/a"),
            value: Some(Value::new("v")),
        };
        store
            .write(&path("/a"), Value::new("v"), STORE_MAX)
            .unwrap();
        dom0.forward(&change).unwrap();
        settle(&mut guest, &mut dom0, &mut store, 1000);
        let mut expected = request(Kind::Ok, "/a", b"");
        expected.extend(request(Kind::WatchEvent, "/a", b""));
        assert_eq!(guest.server().output(id), expected);
    }

    #[test]
    fn a_bad_peer_costs_the_link_and_not_the_clients() {
        let mut guest = GuestDaemon::default();
        guest.link_up();
        let id = guest.server().connect(Access::ReadWrite).unwrap();
        guest.link_receive(&[0xff; 72]).unwrap_err();
        assert!(guest.link().is_none());
        guest
            .client_receive(id, &request(Kind::Write, "/a", b"v"))
            .unwrap();
        assert_eq!(guest.server().output(id), request(Kind::Ok, "/a", b""));
    }

    proptest! {
        #[test]
        fn both_copies_are_the_same_once_quiet(
            before in prop::collection::vec("/[ab]{1,2}", 0..5),
            ops in prop::collection::vec((any::<bool>(), any::<bool>(), "/[ab]{1,3}", any::<bool>()), 0..40),
            step in 1..200_usize,
        ) {
            let (mut guest, mut dom0, mut store) =
                (GuestDaemon::default(), Link::new(Role::Dom0), Store::default());
            for key in &before {
                store.write(&path(key), Value::new("old"), STORE_MAX).unwrap();
            }
            guest.link_up();
            let id = guest.server().connect(Access::ReadWrite).unwrap();
            settle(&mut guest, &mut dom0, &mut store, step);
            for (n, (from_guest, write, key, quiet)) in ops.into_iter().enumerate() {
                let value = n.to_string();
                // Both sides at once may diverge by design, so one waits for the other's changes.
                if from_guest {
                    let kind = if write { Kind::Write } else { Kind::Remove };
                    let data = if write { value.as_bytes() } else { b"" };
                    guest.client_receive(id, &request(kind, &key, data)).unwrap();
                    settle(&mut guest, &mut dom0, &mut store, step);
                } else {
                    let at = path(&key);
                    let value = write.then(|| Value::new(value));
                    let changed = match &value {
                        Some(value) => store.write(&at, value.clone(), STORE_MAX).is_ok(),
                        None => store.remove(&at),
                    };
                    if changed {
                        dom0.forward(&Change { path: at, value }).unwrap();
                    }
                    if !quiet {
                        settle(&mut guest, &mut dom0, &mut store, step);
                    }
                }
                if quiet {
                    settle(&mut guest, &mut dom0, &mut store, step);
                }
                let n = guest.server().output(id).len();
                guest.client_sent(id, n).unwrap();
            }
            settle(&mut guest, &mut dom0, &mut store, step);
            prop_assert_eq!(all(guest.store()), all(&store));
        }
    }
}
