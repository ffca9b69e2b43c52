//! Where dom0 and qubes on Xen find each other: one thread that speaks with xenstore.
//!
//! ```text
//!  tasks --orders--> thread <--events-- xenstore
//!    ^                 |
//!    +---- offers -----+
//! ```
//!
//! Xenstore answers in well under a millisecond, but it may be slow, and its connection blocks: no
//! task waits for it but who asked. Nothing of what a qube writes there is read but two numbers.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use bulkhead_vchan::xen::Offer;
use bulkhead_vchan::xen::store::{Finder, Store, StoreError};
use bulkhead_vchan::{DomId, Port};
use bulkhead_wire::causes::chain;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tokio::sync::{mpsc, oneshot};

/// Offers that may wait for one search: the last is what counts, and who floods is left out.
const OFFERS: usize = 4;

/// Pause before a connection to xenstore is made anew.
const RECONNECT: Duration = Duration::from_secs(1);

type Place = (DomId, Port);

/// What a task wants of the thread.
#[derive(Debug)]
enum Order {
    Seek(Place, mpsc::Sender<Offer>),
    End(Place),
    Publish(Place, Offer, Option<oneshot::Sender<io::Result<()>>>),
    Withdraw(Place),
    Forget(DomId),
}

/// The line to the thread, which ends with the value.
#[derive(Debug)]
pub(crate) struct Meeting {
    orders: std_mpsc::Sender<Order>,
    bell: OwnedFd,
}

impl Meeting {
    /// Connects to xenstore and starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let finder = open().map_err(|e| io::Error::other(chain(&e)))?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (orders, received) = std_mpsc::channel();
        let thread = Thread {
            finder,
            orders: received,
            bell: bell.try_clone()?,
            searches: HashMap::new(),
        };
        std::thread::Builder::new()
            .name("xenstore".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self { orders, bell })
    }

    fn order(&self, order: Order) {
        // A thread that is gone has said why.
        let _ = self.orders.send(order);
        self.ring();
    }

    fn ring(&self) {
        // Fails only where it was rung already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Tells every offer of `server` for us as `port`, what is there now among them, until
    /// [`Self::end`] or until nobody listens.
    pub(crate) fn seek(&self, server: DomId, port: Port) -> mpsc::Receiver<Offer> {
        let (tell, offers) = mpsc::channel(OFFERS);
        self.order(Order::Seek((server, port), tell));
        offers
    }

    /// Ends a search.
    pub(crate) fn end(&self, server: DomId, port: Port) {
        self.order(Order::End((server, port)));
    }

    /// Publishes an offer, in place of an earlier one; a failure is logged.
    pub(crate) fn publish(&self, client: DomId, port: Port, offer: Offer) {
        self.order(Order::Publish((client, port), offer, None));
    }

    /// Publishes an offer and waits until that is done.
    pub(crate) async fn published(
        &self,
        client: DomId,
        port: Port,
        offer: Offer,
    ) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.order(Order::Publish((client, port), offer, Some(done)));
        answer.await.map_err(io::Error::other)?
    }

    /// Takes an offer back; that there is none is fine.
    pub(crate) fn withdraw(&self, client: DomId, port: Port) {
        self.order(Order::Withdraw((client, port)));
    }

    /// Ends and takes back everything of a domain that is gone.
    pub(crate) fn forget(&self, domain: DomId) {
        self.order(Order::Forget(domain));
    }
}

#[cfg(test)]
impl Meeting {
    /// One where nobody is.
    pub(crate) fn of_nobody() -> Self {
        let (orders, _) = std_mpsc::channel();
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = eventfd(0, flags).expect("an event descriptor");
        Self { orders, bell }
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        // With nobody left to send orders the thread ends, once it looks.
        let (nobody, _) = std_mpsc::channel();
        self.orders = nobody;
        self.ring();
    }
}

fn open() -> Result<Finder, StoreError> {
    Finder::new(Store::open()?)
}

struct Thread {
    finder: Finder,
    orders: std_mpsc::Receiver<Order>,
    bell: OwnedFd,
    searches: HashMap<Place, mpsc::Sender<Offer>>,
}

impl Thread {
    fn run(mut self) {
        loop {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(error = %chain(&error), "xenstore is lost");
                    self.reconnect();
                }
            }
        }
    }

    /// Obeys, tells and waits. False once nobody can give orders any more.
    fn turn(&mut self) -> Result<bool, StoreError> {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.obey(order)?,
                Err(std_mpsc::TryRecvError::Empty) => break,
                Err(std_mpsc::TryRecvError::Disconnected) => return Ok(false),
            }
        }
        if let Some(found) = self.finder.found()? {
            for (server, port, offer) in found {
                self.tell((server, port), offer);
            }
            return Ok(true);
        }
        let mut fds = [
            PollFd::new(&self.finder, PollFlags::IN),
            PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN),
        ];
        // Nothing depends on how the wait ended: everything is looked at.
        let _ = poll(&mut fds, None);
        let _ = rustix::io::read(&self.bell, &mut [0_u8; 8]);
        Ok(true)
    }

    fn tell(&mut self, place: Place, offer: Offer) {
        let Some(tell) = self.searches.get(&place) else {
            return;
        };
        if let Err(mpsc::error::TrySendError::Full(_)) = tell.try_send(offer) {
            let (server, port) = place;
            tracing::debug!(%server, %port, "a qube offers a channel faster than it is taken");
        }
    }

    fn obey(&mut self, order: Order) -> Result<(), StoreError> {
        let done = match order {
            Order::Seek(place, tell) => {
                self.searches.insert(place, tell);
                self.finder.seek(place.0, place.1)
            }
            Order::End(place) => {
                self.searches.remove(&place);
                self.finder.end(place.0, place.1)
            }
            Order::Publish((client, port), offer, done) => {
                let published = self.finder.publish(client, port, offer);
                if let Some(done) = done {
                    let failed = published.as_ref().err().map(|e| chain(e));
                    // Who asked may have gone.
                    let _ = done.send(failed.map_or(Ok(()), |why| Err(io::Error::other(why))));
                }
                published
            }
            Order::Withdraw((client, port)) => self.finder.withdraw(client, port),
            Order::Forget(domain) => {
                self.searches.retain(|(server, _), _| *server != domain);
                self.finder.forget(domain)
            }
        };
        match done {
            // The connection is as good as before.
            Err(e) if e.refusal().is_some() || matches!(e, StoreError::Contended) => {
                tracing::warn!(error = %chain(&e), "xenstore did not do what was asked of it");
                Ok(())
            }
            done => done,
        }
    }

    /// Makes the connection anew, with all searches. What was published stays where it is.
    fn reconnect(&mut self) {
        loop {
            std::thread::sleep(RECONNECT);
            let again = open().and_then(|mut finder| {
                for (server, port) in self.searches.keys() {
                    finder.seek(*server, *port)?;
                }
                Ok(finder)
            });
            match again {
                Ok(finder) => {
                    tracing::info!("xenstore is back");
                    self.finder = finder;
                    return;
                }
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "xenstore is not back");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(page: u32) -> Offer {
        Offer {
            page: bulkhead_vchan::xen::layout::GrantRef(page),
            port: bulkhead_vchan::xen::device::EventPort(1),
        }
    }

    #[tokio::test]
    async fn who_nobody_serves_is_told_and_not_left_waiting() {
        let meeting = Meeting::of_nobody();
        let (client, port) = (DomId::new(7).unwrap(), Port::new(111));
        assert!(meeting.published(client, port, offer(1)).await.is_err());
        assert_eq!(meeting.seek(client, port).recv().await, None);
        meeting.forget(client);
    }
}
