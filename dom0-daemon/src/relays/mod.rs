//! One relay per running qube: started, fed, watched, replaced when it dies.
//!
//! ```text
//!          spawn, Setup, keys        control socket appears, AttachControl
//! (none) --------------------> up ------------------------------------+
//!    ^                          |  ^----------------------------------+
//!    |  pause, twice as long    |  end of file, or a message that is none
//!    +--------------------------+
//! ```
//!
//! Every message is checked again before anything is done with it (`check`): the relay has read
//! guest bytes. One that sends what it could not have sent is killed and replaced.

use std::fmt::Debug;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bulkhead_sandbox::inherit;
use bulkhead_vchan::Port;
use bulkhead_vchan::seqpacket;
use bulkhead_vchan::xen::Offer;
use bulkhead_wire::backoff::Backoff;
use bulkhead_wire::causes::chain;
use bulkhead_wire::end::Carrier;
use bulkhead_wire::relay::{FromRelay, ToRelay};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::link::{LinkError, ReceiveError};

pub(crate) use self::check::printable;
pub(crate) use self::folder::{Folder, listen_at};
use self::litter::Litter;
pub(crate) use self::litter::Misuse;
use self::pace::Pace;
pub(crate) use self::place::{Handed, Named, Place, Rings};
pub(crate) use self::said::{Shared as SharedLines, log as log_lines};

mod check;
mod folder;
mod litter;
mod pace;
mod place;
mod said;

/// Pause before a relay that died is replaced; doubled each time up to [`RESPAWN_MAX`].
const RESPAWN_FIRST: Duration = Duration::from_millis(100);
/// Longest pause.
const RESPAWN_MAX: Duration = Duration::from_secs(30);
/// A relay that lived this long did well; the next pause is the first again.
const RESPAWN_CALM: Duration = Duration::from_secs(60);
/// Pause after a batch of names none of which means anything: a qube that litters its folder
/// does not get more than this of our time.
const LITTER_PAUSE: Duration = Duration::from_millis(20);
/// New names in one look that count as litter whatever they are: each is a connection, and a
/// qube does not make that many in an instant.
const NAMES_AT_ONCE: usize = 32;
/// Pause before the next try to connect to an agent that does not accept.
const ATTACH_RETRY: Duration = Duration::from_millis(50);

/// Where agents offer their control lines.
const CONTROL: Port = Port::new(512);
/// Where dom0 offers QubesDB.
const DATABASE: Port = Port::new(111);

/// The line to a relay.
type Link = crate::link::Link<ToRelay, FromRelay>;

/// What a relay serves.
#[derive(Debug)]
pub(crate) struct RelaySpec {
    /// The program.
    pub(crate) program: PathBuf,
    /// The qube.
    pub(crate) qube: String,
    /// Its domain.
    pub(crate) domid: u32,
    /// Replaces `DEFAULT` in command lines.
    pub(crate) default_user: String,
    /// How its channels are reached.
    pub(crate) place: Arc<Place>,
    /// Where dom0's qrexec clients connect.
    pub(crate) clients: PathBuf,
}

/// What the rest of the daemon does with what relays say. Called from the relay's task, so it
/// must not wait.
pub(crate) trait RelayEvents: Debug + Send + Sync {
    /// All QubesDB keys, for a relay that begins.
    fn keys(&self) -> Vec<(String, Vec<u8>)>;
    /// A checked message. `epoch` counts the relays of this qube: requests of an earlier one
    /// cannot be answered any more.
    fn message(&self, epoch: u64, message: FromRelay);
    /// A new socket name in the qube's folder.
    fn appeared(&self, name: &str);
    /// Whether a connection that is open has its socket under that name in the qube's folder.
    fn is_known(&self, name: &str) -> bool;
    /// The qube does to its folder what none may, and is to end.
    fn misused(&self, how: Misuse);
    /// The relay of that epoch is gone.
    fn lost(&self, epoch: u64);
}

/// A qube's relay, whichever process it is now.
#[derive(Debug)]
pub(crate) struct Relay {
    link: Mutex<Option<Arc<Link>>>,
    task: Mutex<Option<tokio::task::AbortHandle>>,
}

impl Relay {
    /// Starts to keep a relay running, until the value is dropped.
    pub(crate) fn keep(spec: RelaySpec, events: Arc<dyn RelayEvents>) -> io::Result<Arc<Self>> {
        let signs = Signs::of(&spec.place)?;
        let relay = Arc::new(Self {
            link: Mutex::default(),
            task: Mutex::default(),
        });
        let keeper = Keeper {
            relay: Arc::downgrade(&relay),
            control: format!("vchan.{}.0.512.sock", spec.domid),
            spec,
            events,
            signs,
        };
        let task = tokio::spawn(keeper.run());
        *relay.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        Ok(relay)
    }

    fn link(&self) -> Option<Arc<Link>> {
        self.link
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_link(&self, link: Option<Arc<Link>>) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = link;
    }

    /// Sends a message.
    pub(crate) fn send(&self, message: &ToRelay) -> Result<(), LinkError> {
        let link = self.link().ok_or(LinkError::Gone)?;
        link.send(message, Vec::new())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

/// The task behind a [`Relay`].
struct Keeper {
    relay: std::sync::Weak<Relay>,
    control: String,
    spec: RelaySpec,
    events: Arc<dyn RelayEvents>,
    signs: Signs,
}

/// By what a keeper learns that an agent is there.
enum Signs {
    Folder(folder::Watch),
    Offers {
        offers: mpsc::Receiver<Offer>,
        /// What the agent offers, and nobody has tried.
        last: Option<Offer>,
    },
}

impl Signs {
    fn of(place: &Place) -> io::Result<Self> {
        Ok(match place {
            Place::Sockets(folder) => Self::Folder(folder.watch()?),
            Place::Rings(rings) => Self::Offers {
                offers: rings.meeting().seek(rings.domain(), CONTROL),
                last: None,
            },
        })
    }

    async fn next(&mut self) -> Sign {
        match self {
            Self::Folder(watch) => Sign::Names(watch.next().await),
            Self::Offers { offers, last } => match offers.recv().await {
                Some(offer) => {
                    *last = Some(offer);
                    Sign::Offer
                }
                // Another keeper of the same qube looks now, and this one ends.
                None => std::future::pending().await,
            },
        }
    }
}

enum Sign {
    Names(io::Result<folder::News>),
    Offer,
}

/// What wakes a keeper.
enum Event {
    Message(Result<Option<FromRelay>, ReceiveError>),
    Sign(Sign),
    WriteFailed(io::Error),
    TryAttach,
    TryDatabase,
}

/// What is to be done about one relay, and when.
struct Agenda {
    /// Connect to the agent.
    attach_at: Option<Instant>,
    pace: Pace,
    /// Offer the QubesDB channel, where the relay has no socket for it.
    database_at: Option<Instant>,
    database: Pace,
    litter: Litter,
}

impl Agenda {
    fn new(place: &Place) -> Self {
        let now = Instant::now();
        Self {
            // The agent may have been there before this relay.
            attach_at: Some(now),
            pace: Pace::new(now),
            database_at: (place.carrier() == Carrier::Rings).then_some(now),
            database: Pace::new(now),
            litter: Litter::default(),
        }
    }
}

async fn until(when: Option<Instant>) {
    tokio::time::sleep_until(when.unwrap_or_else(Instant::now)).await;
}

impl Keeper {
    async fn run(mut self) {
        let mut backoff = Backoff::new(RESPAWN_FIRST, RESPAWN_MAX, RESPAWN_CALM);
        for epoch in 0.. {
            let began = Instant::now();
            let why = match self.spawn() {
                Ok((link, mut child)) => {
                    let link = Arc::new(link);
                    match self.relay.upgrade() {
                        Some(relay) => relay.set_link(Some(Arc::clone(&link))),
                        None => return,
                    }
                    let why = self.serve(epoch, &link).await;
                    if let Some(relay) = self.relay.upgrade() {
                        relay.set_link(None);
                    }
                    // It may have ended by itself.
                    let _ = child.kill().await;
                    why
                }
                Err(error) => format!("it cannot be started: {error}"),
            };
            self.events.lost(epoch);
            let pause = backoff.pause_after(began.elapsed());
            tracing::warn!(qube = %self.spec.qube, why, ?pause, "relay is gone and is replaced");
            tokio::time::sleep(pause).await;
        }
    }

    fn spawn(&self) -> io::Result<(Link, Child)> {
        let (near, far) = seqpacket::pair()?;
        let mut inherited = Vec::with_capacity(2);
        if let Place::Sockets(folder) = &*self.spec.place {
            inherited.push(folder.listen(&format!("vchan.0.{}.111.sock", self.spec.domid))?);
        }
        inherited.push(listen_at(&self.spec.clients)?);
        let mut command = Command::new(&self.spec.program);
        let number = inherit::pass_on(command.as_std_mut(), far);
        let mut child = command
            .args(["--fd", &number.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env_clear()
            .current_dir("/")
            .kill_on_drop(true)
            .spawn()?;
        // With it goes our copy of the far end: a relay that ends is noticed.
        drop(command);
        if let Some(stderr) = child.stderr.take() {
            // Ends with the relay.
            tokio::spawn(said::log(self.spec.qube.clone(), "relay", stderr));
        }
        let link = Link::new(near)?;
        let setup = ToRelay::Setup {
            qube: self.spec.qube.clone(),
            domid: self.spec.domid,
            default_user: self.spec.default_user.clone(),
            serve_clients: true,
            carrier: self.spec.place.carrier(),
        };
        let send = |message: &ToRelay, fds: Vec<OwnedFd>| {
            link.send(message, fds).map_err(io::Error::other)
        };
        send(&setup, inherited)?;
        for (path, value) in self.events.keys() {
            send(&ToRelay::DbWrite { path, value }, Vec::new())?;
        }
        Ok((link, child))
    }

    /// Serves one relay; returns why it is over.
    async fn serve(&mut self, epoch: u64, link: &Arc<Link>) -> String {
        let mut agenda = Agenda::new(&self.spec.place);
        // Made while nobody looked.
        self.look(&mut agenda.litter, &folder::News::default());
        let flush = link.flush();
        tokio::pin!(flush);
        loop {
            let (attach_at, database_at) = (agenda.attach_at, agenda.database_at);
            let event = tokio::select! {
                message = link.receive() => Event::Message(message),
                sign = self.signs.next() => Event::Sign(sign),
                error = &mut flush => Event::WriteFailed(error),
                () = until(attach_at), if attach_at.is_some() => Event::TryAttach,
                () = until(database_at), if database_at.is_some() => Event::TryDatabase,
            };
            match event {
                Event::Message(Ok(Some(message))) => {
                    let wait = match self.hear(epoch, message, &mut agenda) {
                        Ok(wait) => wait,
                        Err(why) => return why,
                    };
                    // Even a sleep of nothing lasts a tick of the clock, and a socket that the caller
                    // has bound meanwhile would wait for it.
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                }
                Event::Message(Ok(None)) => return "it ended".to_owned(),
                Event::Message(Err(error)) => return error.to_string(),
                Event::Sign(Sign::Names(Ok(news))) => {
                    self.look(&mut agenda.litter, &news);
                    if self.names(news).await {
                        // At once, unless it is made anew in a loop.
                        agenda.attach_at = Some(agenda.pace.attach_at(Instant::now()));
                    }
                }
                Event::Sign(Sign::Names(Err(error))) => {
                    return format!("its folder is gone: {error}");
                }
                Event::Sign(Sign::Offer) => {
                    agenda.attach_at = Some(agenda.pace.attach_at(Instant::now()));
                }
                Event::WriteFailed(error) => return error.to_string(),
                Event::TryAttach => agenda.attach_at = self.attach(link, &mut agenda.pace),
                Event::TryDatabase => {
                    agenda.database_at = self.offer_database(link, &mut agenda.database);
                }
            }
        }
    }

    /// Takes a message; returns how long to wait before the next, or why the relay is over.
    fn hear(
        &self,
        epoch: u64,
        message: FromRelay,
        agenda: &mut Agenda,
    ) -> Result<Duration, String> {
        let made_up = |why| format!("it sent what it could not have: {why}");
        check::check(&message).map_err(made_up)?;
        let wait = agenda.pace.message(&message, Instant::now());
        let wait = wait.map_err(made_up)?;
        match (&message, &*self.spec.place) {
            (FromRelay::Failed { reason }, _) => return Err(printable(reason)),
            (FromRelay::AgentConnected { .. }, _) => agenda.attach_at = None,
            (FromRelay::AgentLost { .. }, _) => {
                agenda.attach_at = Some(agenda.pace.attach_at(Instant::now()));
            }
            // Its keys lead nowhere any more.
            (FromRelay::DbSynchronised, Place::Rings(rings)) => {
                rings.meeting().withdraw(rings.domain(), DATABASE);
            }
            (FromRelay::DbLost { .. }, Place::Rings(_)) => {
                agenda.database_at = Some(agenda.database.attach_at(Instant::now()));
            }
            _ => {}
        }
        self.events.message(epoch, message);
        Ok(wait)
    }

    /// Connects to the agent, if it is there, and hands the connection over. Returns when to try
    /// again, if that can be known.
    fn attach(&mut self, link: &Link, pace: &mut Pace) -> Option<Instant> {
        let handed = match (&*self.spec.place, &mut self.signs) {
            (Place::Sockets(folder), _) => match folder.connect(&self.control) {
                Ok(stream) => Handed::socket(stream.into()),
                // Bound but not yet listening, or its queue is full.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock
                    ) =>
                {
                    return Some(Instant::now() + ATTACH_RETRY);
                }
                // It is told when it appears.
                Err(_) => return None,
            },
            (Place::Rings(rings), Signs::Offers { offers, last }) => {
                let Some(offer) = last.take() else {
                    // Told what is there now: one that was tried is a leftover, or was left too
                    // lately to be used again.
                    *offers = rings.meeting().seek(rings.domain(), CONTROL);
                    return None;
                };
                match rings.join(offer) {
                    Ok(handed) => handed,
                    Err(error) => {
                        tracing::debug!(qube = %self.spec.qube, error = %chain(&error), "no agent");
                        let now = Instant::now();
                        pace.tried(now);
                        return Some(pace.attach_at(now));
                    }
                }
            }
            (Place::Rings(_), Signs::Folder(_)) => return None,
        };
        pace.attached(Instant::now());
        if let Err(error) = link.send(&ToRelay::AttachControl(handed.end), handed.fds) {
            tracing::warn!(qube = %self.spec.qube, %error, "agent is not attached");
        }
        None
    }

    /// Offers the QubesDB channel and hands dom0's end over. Returns when to try again, if it failed.
    fn offer_database(&self, link: &Link, pace: &mut Pace) -> Option<Instant> {
        let Place::Rings(rings) = &*self.spec.place else {
            return None;
        };
        let now = Instant::now();
        pace.tried(now);
        let (handed, offer) = match rings.serve_control() {
            Ok(served) => served,
            Err(error) => {
                tracing::warn!(qube = %self.spec.qube, error = %chain(&error), "no QubesDB");
                return Some(pace.attach_at(now));
            }
        };
        if let Err(error) = link.send(&ToRelay::AttachDatabase(handed.end), handed.fds) {
            tracing::warn!(qube = %self.spec.qube, %error, "QubesDB is not offered");
            return None;
        }
        rings.meeting().publish(rings.domain(), DATABASE, offer);
        None
    }

    /// Looks at what the qube has left in its folder, where that is due.
    fn look(&self, litter: &mut Litter, news: &folder::News) {
        let Place::Sockets(folder) = &*self.spec.place else {
            return;
        };
        if !litter.is_due(news) {
            return;
        }
        let left = folder.names().unwrap_or_default();
        let own = format!("vchan.0.{}.111.sock", self.spec.domid);
        let unknown =
            |name: &&String| **name != self.control && **name != own && !self.events.is_known(name);
        let names = left.iter().filter(unknown).count();
        if let Err(how) = litter.looked(names, folder.has_attributes()) {
            self.events.misused(how);
        }
    }

    /// Looks at new names; true if the agent's control socket is among them.
    async fn names(&self, news: folder::News) -> bool {
        let names = if news.overflow {
            self.spec.place.names().unwrap_or_default()
        } else {
            news.names
        };
        let mut control = false;
        let mut litter = true;
        for name in &names {
            if *name == self.control {
                control = true;
                litter = false;
            } else if name.starts_with("vchan.") && name.ends_with(".sock") {
                self.events.appeared(name);
                litter = false;
            }
        }
        if litter || news.overflow || names.len() > NAMES_AT_ONCE {
            tokio::time::sleep(LITTER_PAUSE).await;
        }
        control
    }
}
