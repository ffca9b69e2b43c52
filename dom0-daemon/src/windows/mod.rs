//! The windows of qubes: one `bulkhead-gui` per running qube, while its agent offers windows and a
//! session offers a display.
//!
//! ```text
//!           a display, an offer           the agent has gone
//! (none) ------------------------> up ------------------------> (none), until the next offer
//!    ^                             |
//!    |  pause, twice as long       |  it failed, or the display is another
//!    +-----------------------------+
//! ```
//!
//! Every message is checked again before anything is done with it: the proxy has read guest bytes.

use std::fmt::Debug;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bulkhead_sandbox::inherit;
use bulkhead_vchan::xen::Offer;
use bulkhead_vchan::{Port, seqpacket};
use bulkhead_wire::backoff::Backoff;
use bulkhead_wire::bucket::Bucket;
use bulkhead_wire::gui::PORT;
use bulkhead_wire::monitors::Layout;
use bulkhead_wire::proxy::{FromProxy, ToProxy};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::clipboard::Takes;
use crate::link::LinkError;
use crate::relays::{Place, log_lines};

pub use displays::{AUTHORITY_MAX, DisplayError, DisplayOffer};
pub(crate) use displays::{Display, Displays};

mod displays;
#[cfg(test)]
mod tests;

/// Pause before a proxy that failed is replaced; doubled each time up to [`RESPAWN_MAX`].
const RESPAWN_FIRST: Duration = Duration::from_millis(200);
/// Longest pause.
const RESPAWN_MAX: Duration = Duration::from_secs(30);
/// A proxy that lived this long did well; the next pause is the first again.
const RESPAWN_CALM: Duration = Duration::from_secs(60);

/// How long the person waits for a window that a process could not be told of.
const AWAITED_TIME: Duration = Duration::from_secs(60);

/// How long a proxy that has hung up may take to end.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Messages of a proxy a second, for long. One that is well takes four keystrokes a second, each of
/// which makes two.
const MESSAGES_PER_SECOND: u32 = 10;
/// Messages at once: ten keystrokes, and what it says at its start.
const MESSAGES_BURST: u32 = 24;

/// The line to a proxy.
type Link = crate::link::Link<ToProxy, FromProxy>;

/// Whose windows are shown, and how.
#[derive(Debug)]
pub(crate) struct WindowsSpec {
    /// The program.
    pub(crate) program: PathBuf,
    /// The qube.
    pub(crate) qube: String,
    /// Its domain.
    pub(crate) domid: u32,
    /// What its frames look like and how it may be used: options of the program.
    pub(crate) options: Vec<String>,
    /// How its channels are reached.
    pub(crate) place: Arc<Place>,
    /// Folder of its sockets, where they are sockets.
    pub(crate) sockets: PathBuf,
    /// Where windows are shown.
    pub(crate) displays: watch::Receiver<Option<Arc<Display>>>,
}

/// What the rest of the daemon does with what proxies say. Called from the proxy's task, so it must
/// not wait.
pub(crate) trait WindowsEvents: Debug + Send + Sync {
    /// A message with its descriptors, of a proxy on `display`.
    ///
    /// # Errors
    /// Why a proxy that is well could not have sent it.
    fn message(
        &self,
        display: &Arc<Display>,
        message: FromProxy,
        fds: Vec<OwnedFd>,
    ) -> Result<(), String>;

    /// The proxy has ended: what it was asked and did not answer, nobody will.
    fn ended(&self);
}

/// What shows a qube's windows, whichever process it is now.
#[derive(Debug)]
pub(crate) struct Windows {
    line: Mutex<Line>,
    offers: watch::Sender<u64>,
    task: Mutex<Option<tokio::task::AbortHandle>>,
    takes: Mutex<Takes>,
    layouts: watch::Sender<Option<Layout>>,
}

/// How the process that shows windows is reached.
#[derive(Debug, Default)]
struct Line {
    link: Option<Arc<Link>>,
    /// What a call that brings icons sends, and where its end is reported: it waits for a process.
    icons: Option<[OwnedFd; 2]>,
    /// When the person began what opens a window, of which no process has heard.
    awaited: Option<Instant>,
}

impl Line {
    fn hand_over(&mut self) {
        let Some(link) = &self.link else {
            return;
        };
        let awaited = self.awaited.take();
        if awaited.is_some_and(|since| since.elapsed() < AWAITED_TIME)
            && let Err(error) = link.send(&ToProxy::Awaited, Vec::new())
        {
            tracing::debug!(%error, "a window opens without the keyboard");
        }
        if let Some(icons) = self.icons.take()
            && let Err(error) = link.send(&ToProxy::Icons, icons.into())
        {
            // It goes with the process, which is about to be replaced; then the qube calls again.
            tracing::debug!(%error, "a call with icons ends");
        }
    }
}

/// The socket at which the agent of `domid` offers windows.
fn socket_name(domid: u32) -> String {
    format!("vchan.{domid}.0.{PORT}.sock")
}

impl Windows {
    /// Takes note of offers, and shows nothing yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            line: Mutex::default(),
            offers: watch::Sender::new(0),
            task: Mutex::default(),
            takes: Mutex::default(),
            layouts: watch::Sender::new(None),
        })
    }

    /// What the qube's agent, as it said last, takes on its clipboard.
    pub(crate) fn takes(&self) -> Takes {
        *self.takes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_takes(&self, takes: Takes) {
        *self.takes.lock().unwrap_or_else(PoisonError::into_inner) = takes;
    }

    /// The monitors on which they are shown, also if they are those that were told last: it may be
    /// another agent that has to hear of them.
    pub(crate) fn set_layout(&self, layout: Layout) {
        self.layouts.send_replace(Some(layout));
    }

    /// What is told of monitors from now on.
    pub(crate) fn layouts(&self) -> watch::Receiver<Option<Layout>> {
        self.layouts.subscribe()
    }

    /// Shows windows whenever they can be, until the value is dropped. Offers are told to it already,
    /// so that none is missed between a look at what is there and the first that is told.
    pub(crate) fn begin(self: &Arc<Self>, spec: WindowsSpec, events: Arc<dyn WindowsEvents>) {
        let offers = match &*spec.place {
            Place::Sockets(_) => {
                // It may have been there before this daemon.
                let mut offers = self.offers.subscribe();
                if *offers.borrow() > 0 || spec.is_offered() {
                    offers.mark_changed();
                }
                Offers::Sockets(offers)
            }
            Place::Rings(rings) => {
                Offers::Rings(rings.meeting().seek(rings.domain(), Port::new(PORT)))
            }
        };
        let keeper = Keeper {
            windows: Arc::downgrade(self),
            displays: spec.displays.clone(),
            spec,
            events,
            offers,
        };
        let task = tokio::spawn(keeper.run());
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
    }

    /// A socket came into being in the qube's folder; whether it is that of its windows.
    pub(crate) fn appeared(&self, domid: u32, name: &str) -> bool {
        let is_it = Self::is_socket(domid, name);
        if is_it {
            self.offers.send_modify(|count| *count += 1);
        }
        is_it
    }

    /// Whether that is the socket at which the agent of `domid` offers windows.
    pub(crate) fn is_socket(domid: u32, name: &str) -> bool {
        name == socket_name(domid)
    }

    /// Sends a message, where there is a proxy.
    pub(crate) fn send(&self, message: &ToProxy, fds: Vec<OwnedFd>) -> Result<(), LinkError> {
        let link = self.line().link.clone().ok_or(LinkError::Gone)?;
        link.send(message, fds)
    }

    /// Has what shows the windows read a call that brings icons of them: what the qube sends, and where
    /// the end is reported. Where nothing shows them the call waits; one that waited before ends.
    pub(crate) fn show_icons(&self, call: [OwnedFd; 2]) {
        let mut line = self.line();
        line.icons = Some(call);
        line.hand_over();
    }

    /// The person has begun something in the qube that may open a window.
    pub(crate) fn await_window(&self) {
        let mut line = self.line();
        line.awaited = Some(Instant::now());
        line.hand_over();
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing that holds this lock can panic.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_link(&self, link: Option<Arc<Link>>) {
        let mut line = self.line();
        line.link = link;
        line.hand_over();
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

impl WindowsSpec {
    /// Whether the agent's socket is there; it may be one of an agent that has ended.
    fn is_offered(&self) -> bool {
        let names = self.place.names().unwrap_or_default();
        names.contains(&socket_name(self.domid))
    }

    /// Starts a proxy. It connects to display and agent by itself, before it is confined.
    fn start(&self, display: &Display) -> io::Result<(Link, Child)> {
        let (near, far) = seqpacket::pair()?;
        let mut command = Command::new(&self.program);
        command.env_clear().env("DISPLAY", display.name());
        let number = inherit::pass_on(command.as_std_mut(), far);
        if let Some(authority) = display.authority()? {
            let number = inherit::pass_on(command.as_std_mut(), authority);
            command.env("XAUTHORITY", format!("/proc/self/fd/{number}"));
        }
        if let Place::Sockets(_) = &*self.place {
            command
                .env("VCHAN_SOCKET_DIR", &self.sockets)
                .env("VCHAN_DOMAIN", "0");
        }
        let mut child = command
            .args(["--qube", &self.qube])
            .args(["--domain", &self.domid.to_string()])
            .args(&self.options)
            .args(["--fd", &number.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .current_dir("/")
            .kill_on_drop(true)
            .spawn()?;
        // With it goes our copy of the far end: a proxy that ends is noticed.
        drop(command);
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(log_lines(self.qube.clone(), "bulkhead-gui", stderr));
        }
        Ok((Link::new(near)?, child))
    }
}

/// By what a keeper learns that an agent offers windows.
#[derive(Debug)]
enum Offers {
    Sockets(watch::Receiver<u64>),
    Rings(mpsc::Receiver<Offer>),
}

impl Offers {
    /// Waits for one that nobody has tried.
    async fn next(&mut self) {
        let there = match self {
            Self::Sockets(offers) => offers.changed().await.is_ok(),
            Self::Rings(offers) => offers.recv().await.is_some(),
        };
        if !there {
            // Nobody looks any more, and the keeper ends with the qube.
            std::future::pending().await
        }
    }
}

/// Why a proxy is there no more.
#[derive(Debug)]
enum Over {
    /// It ended in order: its agent has.
    AgentGone,
    /// Windows are to be shown elsewhere, or nowhere.
    OtherDisplay,
    Failed(String),
}

/// How a proxy ended that has hung up.
async fn ended(child: &mut Child) -> Over {
    match tokio::time::timeout(END_LIMIT, child.wait()).await {
        Ok(Ok(status)) if status.success() => Over::AgentGone,
        Ok(Ok(status)) => Over::Failed(status.to_string()),
        Ok(Err(error)) => Over::Failed(error.to_string()),
        Err(_) => Over::Failed("it hung up and did not end".to_owned()),
    }
}

/// The task behind [`Windows`].
struct Keeper {
    windows: Weak<Windows>,
    spec: WindowsSpec,
    displays: watch::Receiver<Option<Arc<Display>>>,
    events: Arc<dyn WindowsEvents>,
    offers: Offers,
}

impl Keeper {
    async fn run(mut self) {
        let mut backoff = Backoff::new(RESPAWN_FIRST, RESPAWN_MAX, RESPAWN_CALM);
        // Whether there is an offer that may still lead to an agent.
        let mut offered = false;
        loop {
            if !offered {
                self.offers.next().await;
                offered = true;
            }
            let Some(display) = self.display().await else {
                return;
            };
            let began = Instant::now();
            let over = match self.spec.start(&display) {
                Ok((link, child)) => {
                    let link = Arc::new(link);
                    match self.windows.upgrade() {
                        Some(windows) => windows.set_link(Some(Arc::clone(&link))),
                        None => return,
                    }
                    let over = self.serve(&display, &link, child).await;
                    if let Some(windows) = self.windows.upgrade() {
                        windows.set_link(None);
                    }
                    self.events.ended();
                    over
                }
                Err(error) => Over::Failed(format!("it cannot be started: {error}")),
            };
            if let Over::OtherDisplay = over {
                continue;
            }
            let pause = backoff.pause_after(began.elapsed());
            let qube = &self.spec.qube;
            match &over {
                Over::Failed(why) => {
                    tracing::warn!(%qube, why, ?pause, "its windows are gone, and shown again");
                }
                _ => tracing::info!(%qube, "its windows are gone with their agent"),
            }
            // Also after an agent: one that comes and goes in a loop costs a proxy each time.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // It may have been for want of the other one.
                _ = self.displays.changed() => backoff.reset(),
            }
            offered = match (&over, &*self.spec.place) {
                (Over::Failed(_), Place::Sockets(_)) => self.spec.is_offered(),
                (Over::Failed(_), Place::Rings(_)) => true,
                _ => false,
            };
        }
    }

    /// Waits for a display; none where the daemon ends.
    async fn display(&mut self) -> Option<Arc<Display>> {
        let shown = self.displays.wait_for(Option::is_some).await.ok()?;
        shown.clone()
    }

    async fn serve(&mut self, display: &Arc<Display>, link: &Link, mut child: Child) -> Over {
        let flush = link.flush();
        tokio::pin!(flush);
        let start = Instant::now();
        let mut rate = Bucket::new(MESSAGES_PER_SECOND, MESSAGES_BURST);
        let over = loop {
            tokio::select! {
                received = link.receive_with_files() => match received {
                    Ok(Some((message, fds))) => {
                        if let Err(why) = self.events.message(display, message, fds) {
                            break Over::Failed(format!("it sent what it could not have: {why}"));
                        }
                        let wait = rate.wait(start.elapsed(), 1);
                        tokio::time::sleep(wait).await;
                        rate.take(start.elapsed(), 1);
                    }
                    Ok(None) => break ended(&mut child).await,
                    Err(error) => break Over::Failed(error.to_string()),
                },
                error = &mut flush => break Over::Failed(error.to_string()),
                changed = self.displays.changed() => {
                    // It fails only where the daemon ends.
                    let _ = changed;
                    break Over::OtherDisplay;
                }
            }
        };
        // It may have ended by itself.
        let _ = child.kill().await;
        over
    }
}
