//! The server: owner of all state, between the daemon, the operations and the deaths of domains.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use bulkhead_libxl_sys::{Context, Death, DeathWatch, Libxl, Xenstore};
use bulkhead_sandbox::inherit::InheritError;
use bulkhead_vchan::seqpacket::{recv_packet, send_packet};
use bulkhead_wire::relay::{PACKET_MAX, PacketError, decode, encode};
use bulkhead_wire::xl::{
    Answer, ConnectError, DomId, DomainConfig, DomainName, Ending, Failure, FromXl, LibxlCode,
    Operation, RequestId, Target, ToXl, XlError,
};
use thiserror::Error;

use crate::log::OperationLog;
use crate::operate::{ending, perform};
use crate::queue::Queue;
use crate::{emulate, marks};

/// Why nothing is served any more.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    /// The socket to the daemon was not inherited.
    #[error("there is no socket to the daemon")]
    Socket(#[from] InheritError),
    /// Which descriptors are open cannot be seen.
    #[error("the inherited descriptors cannot be listed")]
    Descriptors(#[source] io::Error),
    /// The lock cannot be had.
    #[error("the lock that only one may hold cannot be taken")]
    Lock(#[source] io::Error),
    /// There is no Xen for us.
    #[error("there is no Xen to serve")]
    Connect(#[from] ConnectError),
    /// The domains that exist cannot be taken over.
    #[error("the domains that exist cannot be taken over: libxl says {0}")]
    Adopt(LibxlCode),
    /// xenstore broke.
    #[error("the marks in xenstore cannot be read")]
    Marks(#[source] io::Error),
    /// The daemon's socket broke.
    #[error("the daemon cannot be told")]
    Tell(#[source] io::Error),
    /// A message that is none.
    #[error("the daemon sent no message")]
    Packet(#[from] PacketError),
    /// A thread cannot be started.
    #[error("a thread cannot be started")]
    Thread(#[source] io::Error),
    /// Deaths are told no more.
    #[error("the ends of domains are told no more: libxl says {0}")]
    Deaths(LibxlCode),
}

/// Something that the server is told.
enum Event {
    Packet(Vec<u8>),
    Closed,
    Finished(Job, Result<Answer, XlError>),
    Death(u64, Death),
    DeathsBroke(LibxlCode),
}

/// An operation, and who wants it.
struct Job {
    /// None where we do.
    request: Option<RequestId>,
    operation: Operation,
}

/// A domain of ours.
struct Known {
    target: Target,
    /// None if somebody has given it another that we do not give.
    name: Option<DomainName>,
    /// What its deaths are told by.
    cookie: u64,
    _watch: DeathWatch,
    /// Its end was told.
    told: bool,
}

/// Serves until the daemon hangs up.
pub(crate) fn serve(
    socket: &OwnedFd,
    library: &Arc<Libxl>,
    context: &Arc<Context>,
) -> Result<(), ServeError> {
    let xenstore = Xenstore::open(library)?;
    let swept = sweep(context, &xenstore)?;
    let (tell, events) = mpsc::channel();
    let mut server = Server {
        socket,
        library: Arc::clone(library),
        context: Arc::clone(context),
        tell,
        queue: Queue::default(),
        known: BTreeMap::new(),
        cookies: 0,
        _steady: DeathWatch::new(context, DomId::DOM0, 0).map_err(ServeError::Adopt)?,
    };
    let host = context.host().map_err(ServeError::Adopt)?;
    server.say(&FromXl::Hello { host, swept })?;
    for found in context.domains().map_err(ServeError::Adopt)? {
        if marks::is_ours(&xenstore, found.target).map_err(ServeError::Marks)? {
            server.watch(found.target)?;
        }
    }
    server.start_reader()?;
    server.start_watcher()?;
    server.run(&events)
}

/// Destroys what is left of creations that were interrupted.
fn sweep(context: &Context, xenstore: &Xenstore) -> Result<Vec<Target>, ServeError> {
    let unfinished = marks::unfinished(xenstore).map_err(ServeError::Marks)?;
    let mut swept = Vec::new();
    for found in context.domains().map_err(ServeError::Adopt)? {
        let target = found.target;
        if !unfinished.contains(&target.uuid) {
            continue;
        }
        tracing::warn!(domid = %target.domid, uuid = %target.uuid, "removing half a domain");
        let name = DomainName::new(context.name(target.domid)).ok();
        context.destroy(target.domid).map_err(ServeError::Adopt)?;
        emulate::clear(target.domid, name.as_ref());
        swept.push(target);
    }
    for uuid in unfinished {
        marks::finish(xenstore, uuid).map_err(ServeError::Marks)?;
    }
    Ok(swept)
}

struct Server<'s> {
    socket: &'s OwnedFd,
    library: Arc<Libxl>,
    /// For deaths alone; operations have their own.
    context: Arc<Context>,
    tell: Sender<Event>,
    queue: Queue<Job>,
    known: BTreeMap<DomId, Known>,
    cookies: u64,
    /// Of dom0, which never ends: with the first watch libxl gets a descriptor that a thread which
    /// waits already would not learn of.
    _steady: DeathWatch,
}

impl Server<'_> {
    fn run(&mut self, events: &Receiver<Event>) -> Result<(), ServeError> {
        // We hold a sender ourselves, so that there is always a next event.
        while let Ok(event) = events.recv() {
            match event {
                Event::Packet(packet) => self.request(&packet)?,
                // Whatever still runs ends with us; the next of us sweeps and adopts.
                Event::Closed => return Ok(()),
                Event::Finished(job, result) => self.finished(&job, result)?,
                Event::Death(cookie, death) => self.death(cookie, death)?,
                Event::DeathsBroke(code) => return Err(ServeError::Deaths(code)),
            }
            while let Some(job) = self.queue.next() {
                self.start(job)?;
            }
        }
        Ok(())
    }

    fn say(&self, message: &FromXl) -> Result<(), ServeError> {
        let packet = encode(message)?;
        send_packet(self.socket, &packet, &[]).map_err(ServeError::Tell)
    }

    fn start_reader(&self) -> Result<(), ServeError> {
        let socket = self.socket.try_clone().map_err(ServeError::Tell)?;
        let tell = self.tell.clone();
        spawn("reader", move || {
            let (mut buffer, mut fds) = (vec![0; PACKET_MAX], Vec::new());
            loop {
                let received = recv_packet(&socket, &mut buffer, &mut fds);
                // No message has descriptors: those that came are closed.
                fds.clear();
                let event = match received {
                    Ok(0) | Err(_) => Event::Closed,
                    Ok(length) => Event::Packet(buffer.iter().take(length).copied().collect()),
                };
                let last = matches!(event, Event::Closed);
                if tell.send(event).is_err() || last {
                    return;
                }
            }
        })
    }

    fn start_watcher(&self) -> Result<(), ServeError> {
        let (context, tell) = (Arc::clone(&self.context), self.tell.clone());
        spawn("watcher", move || {
            loop {
                let event = match context.next_death() {
                    Ok(None) => continue,
                    Ok(Some((cookie, death))) => Event::Death(cookie, death),
                    Err(code) => Event::DeathsBroke(code),
                };
                let last = matches!(event, Event::DeathsBroke(_));
                if tell.send(event).is_err() || last {
                    return;
                }
            }
        })
    }

    fn request(&mut self, packet: &[u8]) -> Result<(), ServeError> {
        let ToXl::Request { id, operation } = decode(packet)?;
        let domid = operation.domid();
        let job = Job {
            request: Some(id),
            operation,
        };
        if let Err(job) = self.queue.push(domid, job) {
            let error = failed(&job.operation, Failure::Busy, Vec::new());
            let result = Err(error);
            return self.say(&FromXl::Done { id, result });
        }
        Ok(())
    }

    fn start(&self, job: Job) -> Result<(), ServeError> {
        let (library, tell) = (Arc::clone(&self.library), self.tell.clone());
        let kind = job.operation.kind();
        let log = OperationLog::new(kind, job.request.map(|id| id.0));
        spawn("operation", move || {
            let performed = AssertUnwindSafe(|| perform(&library, &job.operation, &log));
            let result = catch_unwind(performed)
                .unwrap_or_else(|_| Err(Failure::Broken("it panicked".to_owned())));
            let result = result.map_err(|why| failed(&job.operation, why, log.last()));
            // The server is gone only when the process is about to be.
            let _ = tell.send(Event::Finished(job, result));
        })
    }

    fn finished(&mut self, job: &Job, result: Result<Answer, XlError>) -> Result<(), ServeError> {
        self.queue.done(job.operation.domid());
        match (&job.operation, &result) {
            (Operation::Destroy(target), Ok(_)) => self.gone(*target)?,
            (_, Err(error)) => {
                tracing::warn!(log = ?error.log, "{}", bulkhead_wire::causes::chain(error))
            }
            _ => {}
        }
        let created = match &job.operation {
            Operation::Create(config) if result.is_ok() => Some(target_of(config)),
            _ => None,
        };
        if let Some(id) = job.request {
            self.say(&FromXl::Done { id, result })?;
        }
        if let Some(target) = created {
            self.watch(target)?;
        }
        Ok(())
    }

    /// Has the end of a domain of ours told, also if that has come already.
    fn watch(&mut self, target: Target) -> Result<(), ServeError> {
        self.cookies += 1;
        let cookie = self.cookies;
        let watch = DeathWatch::new(&self.context, target.domid, cookie);
        let known = Known {
            target,
            name: DomainName::new(self.context.name(target.domid)).ok(),
            cookie,
            _watch: watch.map_err(ServeError::Deaths)?,
            told: false,
        };
        self.known.insert(target.domid, known);
        // libxl looks at a watched domain when one ends, and not when the watch begins.
        let found = self
            .context
            .domain(target.domid)
            .map_err(ServeError::Deaths)?;
        match found.filter(|found| found.target == target) {
            None => self.gone(target),
            Some(found) => match found.ended {
                Some(ended) => self.death(cookie, Death::Ended(ended)),
                None => Ok(()),
            },
        }
    }

    fn death(&mut self, cookie: u64, death: Death) -> Result<(), ServeError> {
        let known = self.known.values_mut().find(|known| known.cookie == cookie);
        let Some(known) = known else {
            return Ok(());
        };
        let target = known.target;
        match death {
            Death::Gone => self.gone(target),
            Death::Ended(_) if known.told => Ok(()),
            Death::Ended(ended) => {
                known.told = true;
                let how = ending(ended);
                tracing::info!(domid = %target.domid, ?how, "a domain has ended");
                self.say(&FromXl::Died { target, how })?;
                let job = Job {
                    request: None,
                    operation: Operation::Destroy(target),
                };
                self.queue.push_own(Some(target.domid), job);
                Ok(())
            }
        }
    }

    /// A domain is no more: tells it if that was not yet told, and forgets it.
    fn gone(&mut self, target: Target) -> Result<(), ServeError> {
        let same = |known: &Known| known.target == target;
        if !self.known.get(&target.domid).is_some_and(same) {
            return Ok(());
        }
        let Some(known) = self.known.remove(&target.domid) else {
            return Ok(());
        };
        emulate::clear(target.domid, known.name.as_ref());
        if !known.told {
            let how = Ending::Destroyed;
            self.say(&FromXl::Died { target, how })?;
        }
        Ok(())
    }
}

fn target_of(config: &DomainConfig) -> Target {
    Target {
        domid: config.domid,
        uuid: config.uuid,
    }
}

fn failed(operation: &Operation, failure: Failure, log: Vec<String>) -> XlError {
    XlError {
        operation: operation.kind(),
        domid: operation.domid(),
        failure,
        log,
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), ServeError> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map(drop).map_err(ServeError::Thread)
}
