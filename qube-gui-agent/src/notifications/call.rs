//! The call to dom0 that carries notifications. It is made for the first one, kept for those that
//! follow, and made again when it has ended, but not at once.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bulkhead_wire::notify::guest_end::{Dom0Event, GuestEnd};
use bulkhead_wire::notify::{CLOSING, Closed, Notification, Reply, Request, SERVICE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use zbus::object_server::{ResponseDispatchListener, ResponseDispatchNotifier};

use crate::dom0;

/// Whom to call: policy says who that is.
const TARGET: &str = "@default";

/// How long dom0 may take to begin: the person may be asked.
const BEGIN: Duration = Duration::from_secs(310);

/// Requests that wait for an answer; applications hear that there are too many.
const WAITING_MAX: usize = 64;
/// Messages that wait for dom0 to read them.
const UNSENT_MAX: usize = 64;

/// How something ended that was to be shown: its id, or why it is not.
type Outcome = Result<ResponseDispatchNotifier<u32>, String>;

/// What an application wants.
#[derive(Debug)]
pub(super) enum Job {
    /// Something shown.
    Show {
        /// What.
        notification: Notification,
        /// Where to say how it ended.
        answer: oneshot::Sender<Outcome>,
    },
    /// Something shown no more.
    Close {
        /// Which.
        id: u32,
    },
}

/// What applications are told.
#[derive(Debug)]
pub(super) enum News {
    /// One is shown: what follows is for an application that knows its id.
    Shown {
        /// When the application was told.
        told: ResponseDispatchListener,
    },
    /// One is shown no more.
    Closed {
        /// Which.
        id: u32,
        /// Why.
        why: Closed,
    },
    /// The person clicked a button.
    Invoked {
        /// Of which.
        id: u32,
        /// Which.
        action: String,
    },
}

/// Serves jobs until nobody has any more.
pub(super) async fn keep(client: PathBuf, mut jobs: mpsc::Receiver<Job>, news: mpsc::Sender<News>) {
    let mut backoff = dom0::backoff();
    let mut next = Instant::now();
    while let Some(job) = jobs.recv().await {
        let Job::Show {
            notification,
            answer,
        } = job
        else {
            // Nothing is shown without a call.
            continue;
        };
        if Instant::now() < next {
            let _ = answer.send(Err("dom0 does not take notifications".to_owned()));
            continue;
        }
        let begun = Instant::now();
        let mut shown = BTreeSet::new();
        let first = (notification, answer);
        let ended = serve(&client, first, &mut jobs, &news, &mut shown).await;
        if let Err(why) = ended {
            tracing::warn!(%why, "notifications are not shown any more");
        }
        // Dom0 closes with a call what it brought.
        let why = Closed::Otherwise;
        for id in shown {
            if news.send(News::Closed { id, why }).await.is_err() {
                return;
            }
        }
        next = Instant::now() + backoff.pause_after(begun.elapsed());
    }
}

/// A call under way.
struct Line {
    end: GuestEnd,
    to_dom0: mpsc::Sender<Vec<u8>>,
    sequence: u64,
    waiting: HashMap<u64, oneshot::Sender<Outcome>>,
}

/// Makes a call and serves jobs until it ends.
async fn serve(
    client: &Path,
    first: (Notification, oneshot::Sender<Outcome>),
    jobs: &mut mpsc::Receiver<Job>,
    news: &mpsc::Sender<News>,
    shown: &mut BTreeSet<u32>,
) -> io::Result<()> {
    let service = format!("{SERVICE}+{CLOSING}");
    let (mut child, input) = dom0::call(client, (TARGET, &service), Stdio::piped())?;
    let no_pipe = || io::Error::other("a pipe is missing");
    let mut output = child.stdout.take().ok_or_else(no_pipe)?;
    let (to_dom0, unsent) = mpsc::channel(UNSENT_MAX);
    tokio::spawn(write_all(input, unsent));
    let mut line = Line {
        end: GuestEnd::new(),
        to_dom0,
        sequence: 0,
        waiting: HashMap::new(),
    };
    // Dropped with an error, `first` tells its application of it.
    match timeout(BEGIN, line.hear(&mut output, news, shown)).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => {
            let status = child.wait().await?;
            let why = match status.code() {
                Some(dom0::REFUSED) => {
                    "policy does not let this qube show notifications".to_owned()
                }
                _ => format!("dom0 took no notifications: {status}"),
            };
            let _ = first.1.send(Err(why));
            return Ok(());
        }
        Ok(Err(error)) => return Err(error),
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    }
    line.show(first.0, first.1);
    loop {
        tokio::select! {
            heard = line.hear(&mut output, news, shown) => if !heard? {
                return Ok(());
            },
            job = jobs.recv() => match job {
                Some(Job::Show { notification, answer }) => line.show(notification, answer),
                Some(Job::Close { id }) => line.close(id, shown),
                None => return Ok(()),
            },
        }
    }
}

async fn write_all(mut input: ChildStdin, mut unsent: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = unsent.recv().await {
        // A call that is over is noticed where it is read.
        if input.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

impl Line {
    fn send(&self, bytes: Vec<u8>) -> bool {
        self.to_dom0.try_send(bytes).is_ok()
    }

    fn show(&mut self, notification: Notification, answer: oneshot::Sender<Outcome>) {
        self.waiting.retain(|_, waiting| !waiting.is_closed());
        self.sequence += 1;
        let sequence = self.sequence;
        let request = Request::Show {
            sequence,
            notification,
        };
        let mut bytes = Vec::new();
        let said = self.end.send(&request, &mut bytes);
        if said && self.waiting.len() < WAITING_MAX && self.send(bytes) {
            self.waiting.insert(sequence, answer);
        } else {
            let _ = answer.send(Err("dom0 does not answer".to_owned()));
        }
    }

    /// Where dom0 cannot, it is shown until the person closes it.
    fn close(&self, id: u32, shown: &BTreeSet<u32>) {
        let mut bytes = Vec::new();
        if shown.contains(&id) && self.end.send(&Request::Close { id }, &mut bytes) {
            self.send(bytes);
        }
    }

    /// Takes what there is of dom0, and waits where there is nothing. False at the end. Nothing is
    /// lost where this is dropped while it waits.
    async fn hear(
        &mut self,
        output: &mut ChildStdout,
        news: &mpsc::Sender<News>,
        shown: &mut BTreeSet<u32>,
    ) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let count = output.read(&mut buffer).await?;
        let mut bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(false);
        }
        let mut answer = Vec::new();
        while let Some(event) =
            { self.end.receive(&mut bytes, &mut answer) }.map_err(io::Error::other)?
        {
            if let Dom0Event::Reply(reply) = event {
                self.take(reply, news, shown)?;
            }
        }
        if !answer.is_empty() {
            self.send(answer);
        }
        Ok(true)
    }

    fn take(
        &mut self,
        reply: Reply,
        news: &mpsc::Sender<News>,
        shown: &mut BTreeSet<u32>,
    ) -> io::Result<()> {
        let tell = |told| {
            // Clicks of a person do not come faster than the bus takes them.
            news.try_send(told)
                .map_err(|_| io::Error::other("the session bus does not take news"))
        };
        match reply {
            Reply::Shown { id, sequence } => {
                shown.insert(id);
                if let Some(answer) = self.waiting.remove(&sequence) {
                    let (id, told) = ResponseDispatchNotifier::new(id);
                    let _ = answer.send(Ok(id));
                    tell(News::Shown { told })?;
                }
            }
            Reply::Failed {
                sequence, message, ..
            } => {
                if let Some(answer) = self.waiting.remove(&sequence) {
                    let why = message.unwrap_or_else(|| "dom0 does not show it".to_owned());
                    let _ = answer.send(Err(why));
                }
            }
            Reply::Closed { id, why } => {
                if shown.remove(&id) {
                    tell(News::Closed { id, why })?;
                }
            }
            Reply::Invoked { id, action } => {
                if shown.contains(&id) {
                    tell(News::Invoked { id, action })?;
                }
            }
            Reply::Restarted => return Err(io::Error::other("dom0 begins anew")),
        }
        Ok(())
    }
}
