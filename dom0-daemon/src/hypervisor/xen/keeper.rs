//! The process that owns libxl: started, asked, replaced when it dies.
//!
//! Domains do not depend on it. What was asked and not answered when it died fails, and whoever
//! asked looks at what there is: the next one removes what an interrupted create left.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bulkhead_sandbox::inherit;
use bulkhead_vchan::seqpacket;
use bulkhead_wire::backoff::Backoff;
use bulkhead_wire::xl::{
    Answer, ConnectError, Ending, FromXl, Host, Operation, RequestId, Target, ToXl, XlError,
};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::link::LinkError;

/// The line to the process.
type Link = crate::link::Link<ToXl, FromXl>;

/// Pause before a process that died is replaced; doubled each time up to [`RESPAWN_MAX`].
const RESPAWN_FIRST: Duration = Duration::from_millis(100);
/// Longest pause.
const RESPAWN_MAX: Duration = Duration::from_secs(30);
/// One that lived this long did well; the next pause is the first again.
const RESPAWN_CALM: Duration = Duration::from_secs(60);
/// How long a request waits for the process to serve: several starts of it on a slow machine.
const READY: Duration = Duration::from_secs(60);

/// How often what may be done twice is asked of the next process when one died over it.
const AGAIN: u32 = 2;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// It does not serve.
    #[error("`bulkhead-xl` does not serve")]
    NotReady(#[source] Option<ConnectError>),
    /// It died before it answered.
    #[error("`bulkhead-xl` ended before it was done")]
    Lost,
    /// The request did not get through.
    #[error("`bulkhead-xl` was not reached")]
    Link(#[from] LinkError),
    /// It answered that it cannot.
    #[error(transparent)]
    Refused(#[from] XlError),
}

/// Starts the process: our end of the line to it, and itself where it is a child of ours.
pub(super) type Start = Box<dyn Fn() -> io::Result<(OwnedFd, Option<Child>)> + Send + Sync>;

/// Starts the program at `path`.
pub(super) fn program(path: PathBuf) -> Start {
    Box::new(move || {
        let (near, far) = seqpacket::pair()?;
        let mut command = Command::new(&path);
        let number = inherit::pass_on(command.as_std_mut(), far);
        // With the command goes our copy of the far end: a process that ends is noticed.
        let child = command
            .args(["--fd", &number.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .current_dir("/")
            .kill_on_drop(true)
            .spawn()?;
        Ok((near, Some(child)))
    })
}

/// How the process is doing.
#[derive(Debug, Clone)]
enum Standing {
    Starting,
    Refuses(ConnectError),
    Serves(Arc<Link>, Box<Host>),
}

type Waiting = HashMap<RequestId, oneshot::Sender<Result<Answer, XlError>>>;

/// The process, whichever it is just now.
#[derive(Debug)]
pub(super) struct Xl {
    standing: watch::Receiver<Standing>,
    waiting: Arc<Mutex<Asked>>,
    keeper: tokio::task::AbortHandle,
}

impl Drop for Xl {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// What is asked and not answered.
#[derive(Debug, Default)]
struct Asked {
    last: u64,
    waiting: Waiting,
}

impl Xl {
    /// Keeps what `start` starts running; `died` is told of domains that end.
    pub(super) fn keep(start: Start, died: mpsc::UnboundedSender<(Target, Ending)>) -> Self {
        let (tell, standing) = watch::channel(Standing::Starting);
        let waiting = Arc::<Mutex<Asked>>::default();
        let keeper = Keeper {
            start,
            died,
            tell,
            waiting: Arc::downgrade(&waiting),
        };
        let keeper = tokio::spawn(keeper.run()).abort_handle();
        Self {
            standing,
            waiting,
            keeper,
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine, as soon as it is known.
    pub(super) async fn host(&self) -> Result<Host, AskError> {
        self.serving().await.map(|(_, host)| *host)
    }

    async fn serving(&self) -> Result<(Arc<Link>, Box<Host>), AskError> {
        let mut standing = self.standing.clone();
        let serves = standing.wait_for(|standing| !matches!(standing, Standing::Starting));
        let found = match tokio::time::timeout(READY, serves).await {
            Ok(Ok(standing)) => standing.clone(),
            Ok(Err(_)) | Err(_) => return Err(AskError::NotReady(None)),
        };
        match found {
            Standing::Serves(link, host) => Ok((link, host)),
            Standing::Refuses(error) => Err(AskError::NotReady(Some(error))),
            Standing::Starting => Err(AskError::NotReady(None)),
        }
    }

    /// Has something done.
    pub(super) async fn ask(&self, operation: Operation) -> Result<Answer, AskError> {
        let (link, _) = self.serving().await?;
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut asked = self.asked();
            asked.last += 1;
            let id = RequestId(asked.last);
            asked.waiting.insert(id, answer);
            id
        };
        if let Err(error) = link.send(&ToXl::Request { id, operation }, Vec::new()) {
            self.asked().waiting.remove(&id);
            return Err(error.into());
        }
        Ok(answered.await.map_err(|_| AskError::Lost)??)
    }
}

impl Xl {
    /// As [`Self::ask`], for what does no harm when it is done twice: also of the process that comes
    /// after one that died over it.
    pub(super) async fn ask_again(&self, operation: &Operation) -> Result<Answer, AskError> {
        let mut left = AGAIN;
        loop {
            match self.ask(operation.clone()).await {
                Err(error @ (AskError::Lost | AskError::Link(_))) if left > 0 => {
                    left -= 1;
                    let kind = operation.kind();
                    tracing::info!(?kind, %error, "is asked for again");
                    // It may not have been noticed yet that the process is gone.
                    tokio::time::sleep(RESPAWN_FIRST).await;
                }
                done => return done,
            }
        }
    }
}

/// The task behind an [`Xl`].
struct Keeper {
    start: Start,
    died: mpsc::UnboundedSender<(Target, Ending)>,
    tell: watch::Sender<Standing>,
    waiting: Weak<Mutex<Asked>>,
}

impl Keeper {
    async fn run(self) {
        let mut backoff = Backoff::new(RESPAWN_FIRST, RESPAWN_MAX, RESPAWN_CALM);
        loop {
            let began = Instant::now();
            let started = (self.start)().and_then(|(near, child)| Ok((Link::new(near)?, child)));
            let why = match started {
                Ok((link, child)) => {
                    let why = self.serve(&Arc::new(link)).await;
                    if let Some(mut child) = child {
                        // It may have ended by itself.
                        let _ = child.kill().await;
                    }
                    why
                }
                Err(error) => format!("it cannot be started: {error}"),
            };
            let Some(waiting) = self.waiting.upgrade() else {
                return;
            };
            self.tell.send_if_modified(|standing| {
                let served = matches!(standing, Standing::Serves(..));
                if served {
                    *standing = Standing::Starting;
                }
                served
            });
            // Whoever waits learns by their closed channel that it is lost.
            waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .waiting
                .clear();
            drop(waiting);
            let pause = backoff.pause_after(began.elapsed());
            tracing::warn!(why, ?pause, "`bulkhead-xl` is gone and is replaced");
            tokio::time::sleep(pause).await;
        }
    }

    /// Serves one process; returns why it is over.
    async fn serve(&self, link: &Arc<Link>) -> String {
        let flush = link.flush();
        tokio::pin!(flush);
        loop {
            let message = tokio::select! {
                message = link.receive() => message,
                error = &mut flush => return error.to_string(),
            };
            match message {
                Ok(Some(FromXl::Hello { host, swept })) => {
                    for target in swept {
                        let (domid, uuid) = (target.domid, target.uuid);
                        tracing::warn!(%domid, %uuid, "half a domain was left, and is removed");
                    }
                    let serves = Standing::Serves(Arc::clone(link), Box::new(host));
                    self.tell.send_replace(serves);
                }
                Ok(Some(FromXl::Failed(error))) => {
                    let why = error.to_string();
                    self.tell.send_replace(Standing::Refuses(error));
                    return why;
                }
                Ok(Some(FromXl::Done { id, result })) => self.answer(id, result),
                Ok(Some(FromXl::Died { target, how })) => {
                    // Nobody is left to listen only when the daemon ends.
                    let _ = self.died.send((target, how));
                }
                Ok(None) => return "it ended".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    }

    fn answer(&self, id: RequestId, result: Result<Answer, XlError>) {
        let Some(asked) = self.waiting.upgrade() else {
            return;
        };
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        match asked.waiting.remove(&id) {
            // Whoever asked may have given up.
            Some(waiting) => drop(waiting.send(result)),
            None => tracing::warn!(id = id.0, "`bulkhead-xl` answers what was not asked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use bulkhead_wire::relay::{PACKET_MAX, decode, encode};
    use bulkhead_wire::xl::{Capabilities, DomId, DomainUuid, Mib, XenVersion};

    use super::*;

    fn host() -> Host {
        let version = XenVersion {
            major: 4,
            minor: 20,
        };
        Host {
            bound: version,
            running: version,
            version_extra: ".1".to_owned(),
            capabilities: Capabilities {
                pv: true,
                hvm: true,
                hap: true,
                iommu: false,
            },
            memory: Mib::new(4096).unwrap(),
            free: Mib::new(1024).unwrap(),
            cpus: 2,
        }
    }

    fn target() -> Target {
        Target {
            domid: DomId::new(7).unwrap(),
            uuid: DomainUuid([7; 16]),
        }
    }

    fn tell(line: &OwnedFd, message: &FromXl) {
        seqpacket::send_packet(line, &encode(message).unwrap(), &[]).unwrap();
    }

    fn next(line: &OwnedFd) -> Option<(RequestId, Operation)> {
        let mut packet = vec![0; PACKET_MAX];
        let length = seqpacket::recv_packet(line, &mut packet, &mut Vec::new()).unwrap();
        (length > 0).then(|| {
            let ToXl::Request { id, operation } = decode(&packet[..length]).unwrap();
            (id, operation)
        })
    }

    /// A process that is `life`, given its end of the line, over and over again.
    fn lives(life: impl Fn(OwnedFd) + Send + Sync + Clone + 'static) -> Start {
        Box::new(move || {
            let (near, far) = seqpacket::pair()?;
            let life = life.clone();
            std::thread::spawn(move || life(far));
            Ok((near, None))
        })
    }

    fn says_hello(line: &OwnedFd) {
        let swept = Vec::new();
        tell(
            line,
            &FromXl::Hello {
                host: host(),
                swept,
            },
        );
    }

    #[tokio::test]
    async fn answers_reach_who_asked_in_any_order() {
        let (died, _told) = mpsc::unbounded_channel();
        let xl = Xl::keep(
            lives(|line| {
                says_hello(&line);
                let (one, two) = (next(&line).unwrap(), next(&line).unwrap());
                for (id, operation) in [two, one] {
                    let result = Ok(match operation {
                        Operation::Host => Answer::Host(host()),
                        _ => Answer::Ok,
                    });
                    tell(&line, &FromXl::Done { id, result });
                }
                while next(&line).is_some() {}
            }),
            died,
        );
        let one = xl.ask(Operation::Pause(target()));
        let two = xl.ask(Operation::Host);
        let (one, two) = tokio::join!(one, two);
        assert_eq!(
            (one.unwrap(), two.unwrap()),
            (Answer::Ok, Answer::Host(host()))
        );
        assert_eq!(xl.host().await.unwrap(), host());
    }

    #[tokio::test]
    async fn what_it_died_over_is_lost_and_the_next_one_serves() {
        let (died, mut told) = mpsc::unbounded_channel();
        let xl = Xl::keep(
            lives(|line| {
                says_hello(&line);
                let how = Ending::Crash;
                tell(
                    &line,
                    &FromXl::Died {
                        target: target(),
                        how,
                    },
                );
                // It dies over the first thing that it is asked.
                next(&line);
            }),
            died,
        );
        for _ in 0..2 {
            let error = xl.ask(Operation::Host).await.unwrap_err();
            assert!(matches!(error, AskError::Lost), "{error:?}");
            assert_eq!(told.recv().await, Some((target(), Ending::Crash)));
        }
        assert!(xl.asked().waiting.is_empty());
    }

    #[tokio::test]
    async fn what_may_be_done_twice_is_asked_of_the_next_one() {
        let (died, _told) = mpsc::unbounded_channel();
        let lives_left = Arc::new(std::sync::atomic::AtomicU32::new(AGAIN));
        let count = Arc::clone(&lives_left);
        let xl = Xl::keep(
            lives(move |line| {
                says_hello(&line);
                let Some((id, _)) = next(&line) else { return };
                let left = count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                });
                if left.is_err() {
                    let result = Ok(Answer::Ok);
                    tell(&line, &FromXl::Done { id, result });
                    while next(&line).is_some() {}
                }
            }),
            died,
        );
        let asked = Operation::Destroy(target());
        assert_eq!(xl.ask_again(&asked).await.unwrap(), Answer::Ok);
        assert_eq!(lives_left.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn the_wrong_xen_is_refused_with_the_reason() {
        let (died, _told) = mpsc::unbounded_channel();
        let xl = Xl::keep(
            lives(|line| {
                let error = ConnectError::WrongVersion {
                    bound: XenVersion {
                        major: 4,
                        minor: 20,
                    },
                    running: XenVersion {
                        major: 4,
                        minor: 17,
                    },
                };
                tell(&line, &FromXl::Failed(error));
            }),
            died,
        );
        let error = xl.ask(Operation::Host).await.unwrap_err();
        let AskError::NotReady(Some(reason)) = error else {
            panic!("{error:?}");
        };
        assert_eq!(
            reason.to_string(),
            "Xen 4.17 runs, but this program is for Xen 4.20"
        );
    }

    #[tokio::test]
    async fn the_process_ends_with_whoever_keeps_it() {
        let (died, mut told) = mpsc::unbounded_channel();
        let xl = Xl::keep(
            lives(|line| {
                says_hello(&line);
                while next(&line).is_some() {}
            }),
            died,
        );
        xl.host().await.unwrap();
        drop(xl);
        // The keeper's end of this channel is closed with the keeper.
        assert_eq!(told.recv().await, None);
    }
}
