//! What is said over D-Bus, on a thread of its own: news of the daemon in, orders out, and notices
//! to the session.
//!
//! ```text
//! wait --> connect --> subscribe, read everything --> serve --> the daemon is gone --> wait
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_api::call::{Answer, Ask};
use bulkhead_api::client::{Client, Incoming, Signals};
use bulkhead_api::display;
use bulkhead_api::event::{Event, Topic};
use bulkhead_api::{ApiError, ErrorKind, Manager1Proxy, from_json};
use bulkhead_wire::backoff::Backoff;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use zbus::Connection;

use crate::desk::{News, Order, Why};
use crate::failure::Failure;
use crate::notices::{self, Notice, Notices};
use crate::session::{self, Notifier};
use crate::shown::Showing;

/// Pause before the daemon is looked for again; doubled each time up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// Longest of these pauses: a daemon that comes up is found within it.
const RETRY_MAX: Duration = Duration::from_secs(3);

/// How long the daemon may take to take an answer: it has only to note it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the notification service may take to close at our end what qubes show.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// News that wait for the windows to be drawn; then the daemon has to wait too.
const QUEUE: usize = 256;

/// Both directions of the thread.
#[derive(Debug)]
pub(crate) struct Bus {
    /// Ends when the session does.
    pub(crate) news: mpsc::Receiver<News>,
    /// What the session has no service to show.
    pub(crate) notices: mpsc::Receiver<Notice>,
    pub(crate) orders: mpsc::UnboundedSender<Order>,
}

/// Starts the thread; returns when this is known to be the only one in the session.
pub(crate) fn start(socket: PathBuf, shows_windows: bool) -> Result<Bus, Failure> {
    let (news_in, news) = mpsc::channel(QUEUE);
    let (unshown_in, notices) = mpsc::channel(QUEUE);
    let (orders, orders_out) = mpsc::unbounded_channel();
    let (entered_in, entered) = std::sync::mpsc::channel();
    let cannot = |error: std::io::Error| Failure::new("cannot start a thread").because(&error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(cannot)?;
    let work = async move {
        let session = match session::enter().await {
            Ok(session) => session,
            Err(failure) => return drop(entered_in.send(Err(failure))),
        };
        let _ = entered_in.send(Ok(()));
        let (alive, mut shown) = mpsc::channel(1);
        let last = news_in.clone();
        let link = Link {
            socket,
            shows_windows,
            session: session.clone(),
            alive,
            epoch: 0,
            news: news_in,
            orders: orders_out,
            notices: Notices::default(),
            notifier: Notifier::start(session.clone(), unshown_in),
            began: Instant::now(),
        };
        // Whichever is first ends it. What waits goes on waiting, for the terminal.
        tokio::select! {
            () = session.closed() => {}
            () = told_to_end() => {}
            () = link.run() => {}
        }
        // What qubes show goes with us; nothing is ever sent there.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, shown.recv()).await;
        // This ends the news, and with them the windows and the process.
        drop(last);
    };
    std::thread::Builder::new()
        .name("bus".to_owned())
        .spawn(move || runtime.block_on(work))
        .map_err(cannot)?;
    match entered.recv() {
        Ok(entered) => entered.map(|()| Bus {
            news,
            notices,
            orders,
        }),
        Err(_) => Err(Failure::new("the thread that speaks D-Bus ended")),
    }
}

/// Waits for SIGINT or SIGTERM.
async fn told_to_end() {
    let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(interrupt), signal(terminate)) else {
        // Then they do what they do by themselves: end the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

struct Link {
    socket: PathBuf,
    /// Whether qubes that dom0 shows are shown in this session.
    shows_windows: bool,
    /// The session bus.
    session: Connection,
    /// Kept by who shows notifications of qubes.
    alive: mpsc::Sender<()>,
    epoch: u64,
    news: mpsc::Sender<News>,
    orders: mpsc::UnboundedReceiver<Order>,
    notices: Notices,
    notifier: Notifier,
    began: Instant,
}

/// The windows are gone.
struct Over;

impl Link {
    async fn run(mut self) {
        // Only being served is a success, however long.
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX, Duration::MAX);
        let mut said = None;
        loop {
            let trouble = match Client::connect(&self.socket).await {
                Ok(client) => {
                    let before = self.epoch;
                    let trouble = self.serve(&client).await;
                    if self.epoch != before {
                        backoff.reset();
                        said = None;
                        if self.tell(News::Lost).await.is_err() {
                            return;
                        }
                    }
                    trouble
                }
                Err(error) => Some(error),
            };
            let Some(trouble) = trouble else { return };
            // The same words every few seconds would fill the session's log.
            if said.as_ref() != Some(&trouble) {
                Failure::from(trouble.clone()).show();
                said = Some(trouble);
            }
            tokio::time::sleep(backoff.pause_after(Duration::ZERO)).await;
        }
    }

    async fn tell(&self, news: News) -> Result<(), Over> {
        self.news.send(news).await.map_err(|_| Over)
    }

    /// Serves one connection; why it ended, or nothing if the windows are gone.
    async fn serve(&mut self, client: &Client) -> Option<ApiError> {
        let topics = [Topic::Asks, Topic::Qubes, Topic::Audit, Topic::Clipboard];
        let mut signals = match Signals::subscribe(client, &topics).await {
            Ok(signals) => signals,
            Err(error) => return Some(error),
        };
        // A new connection is a new daemon for all we know, which counts its calls from 1.
        let listed = match read(client, self.epoch + 1).await {
            Ok(listed) => listed,
            Err(error) => return Some(error),
        };
        self.epoch += 1;
        self.tell(listed).await.ok()?;
        let mut showing = None;
        if self.shows_windows {
            match display::offer(&client.proxy).await {
                Ok(_) => {}
                Err(error) => Failure::from(error).show(),
            }
            match Showing::begin(client, self.session.clone(), self.alive.clone()).await {
                Ok(begun) => showing = Some(begun),
                Err(error) => Failure::from(error).show(),
            }
        }
        let served = self.serve_signals(client, &mut signals).await;
        drop(showing);
        served
    }

    async fn serve_signals(&mut self, client: &Client, signals: &mut Signals) -> Option<ApiError> {
        loop {
            let due = self.notices.next().map(|due| self.began + due);
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                incoming = signals.next() => match incoming {
                    Ok(Incoming::Event(event)) => self.take(*event).await.ok()?,
                    Ok(Incoming::Lost) => match read(client, self.epoch).await {
                        Ok(listed) => self.tell(listed).await.ok()?,
                        Err(error) => return Some(error),
                    },
                    Err(error) if error.kind == ErrorKind::Unreachable => return Some(error),
                    // One message that cannot be read must not silence all others.
                    Err(error) => Failure::from(error).show(),
                },
                order = self.orders.recv() => self.carry_out(client, order?).await.ok()?,
                () = wait => self.show_counts(),
            }
        }
    }

    async fn take(&mut self, event: Event) -> Result<(), Over> {
        let news = match event {
            Event::AskAdded(ask) => News::Added { ask, wall: wall() },
            Event::AskRemoved { id, .. } => News::Removed(id),
            Event::QubeChanged(row) => News::Qube(row),
            Event::QubeRemoved { name } => News::NoQube(name),
            Event::AuditRecorded(record) => {
                if let Some(notice) = self.notices.record(&record, self.began.elapsed()) {
                    self.notifier.show(notice);
                }
                return Ok(());
            }
            Event::ClipboardChanged(news) => {
                self.notifier.show(notices::clipboard(&news));
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.tell(news).await
    }

    fn show_counts(&mut self) {
        for notice in self.notices.due(self.began.elapsed()) {
            self.notifier.show(notice);
        }
    }

    async fn carry_out(&self, client: &Client, order: Order) -> Result<(), Over> {
        match order {
            Order::Answer {
                epoch,
                id,
                answer,
                target,
            } if epoch == self.epoch => {
                let (proxy, news) = (client.proxy.clone(), self.news.clone());
                // Beside the signals: news of the answer may come before its reply.
                tokio::spawn(async move {
                    if let Err(why) = give(&proxy, id, answer, &target).await {
                        // Windows that are gone need no news.
                        let _ = news.send(News::Failed { epoch, id, why }).await;
                    }
                });
                Ok(())
            }
            Order::ReadAgain { epoch } if epoch == self.epoch => match read(client, epoch).await {
                Ok(listed) => self.tell(listed).await,
                Err(error) => {
                    Failure::from(error).show();
                    Ok(())
                }
            },
            // Of a daemon that is gone.
            Order::Answer { .. } | Order::ReadAgain { .. } => Ok(()),
        }
    }
}

/// Reads everything that is shown.
async fn read(client: &Client, epoch: u64) -> Result<News, ApiError> {
    let asks: Vec<Ask> = from_json(&client.proxy.asks().await?)?;
    Ok(News::Listed {
        epoch,
        asks,
        qubes: client.proxy.list().await?,
        wall: wall(),
    })
}

async fn give(proxy: &Manager1Proxy<'_>, id: u64, answer: Answer, target: &str) -> Result<(), Why> {
    let given = proxy.answer(id, answer, target);
    match tokio::time::timeout(ANSWER_TIMEOUT, given).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.kind == ErrorKind::NotFound => Err(Why::Gone),
        Ok(Err(error)) => Err(Why::Other(error.message)),
        Err(_) => Err(Why::Other("bulkheadd does not reply".to_owned())),
    }
}

/// Seconds since the epoch of clocks, in which the daemon gives times.
fn wall() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// The daemon's socket, as asked for or where it usually is.
pub(crate) fn socket(asked: Option<&Path>) -> PathBuf {
    asked.map_or_else(bulkhead_api::client::default_socket, Path::to_owned)
}
