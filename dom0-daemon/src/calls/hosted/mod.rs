//! dom0 as the target: services that qubes call here.
//!
//! ```text
//!  qube --data channel--> pump --streams--> service <--attends-- starter
//!                          ^ no privilege    ^ its user            ^ its user
//!                          +---- started by the daemon, which looks at no byte of it
//! ```
//!
//! Invariant: what the guest sends is read by the pump alone, in a process that has nothing but the
//! descriptors of this call. Every process of a call ends when the daemon closes its link.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bulkhead_policy::Allow;
use bulkhead_qrexec::lookup::Folders;
use bulkhead_wire::notify::decoder::ToDecoder;
use bulkhead_wire::notify::{CLOSING, Version};
use bulkhead_wire::qrexec::EXIT_PROBLEM;
use bulkhead_wire::qrexec::command::ServiceCall;
use bulkhead_wire::relay::ToRelay;
use bulkhead_wire::service::Report;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::mpsc;

use self::find::{Found, Named, find};
pub use self::limits::{HOSTED_MAX, HOSTED_PER_QUBE};
use self::limits::{Place, Places};
pub use self::process::CONNECT_TIMEOUT;
use self::process::{Caller, FarEnds, Pump, Starter, Streams, Went, see_through, start_decoder};
pub(super) use self::process::{Environment, log_pipe, send, spawn};
use super::{Connection, Key, Request, Verdict, named};
use crate::notifications::{self, Decoder, Whose};
use crate::policy::PolicyService;
use crate::relays::SharedLines;
use crate::runtime::{Inner, Run};

mod find;
mod limits;
mod process;

/// Where dom0's services are and who starts them.
#[derive(Debug, Clone)]
pub struct ServicesConfig {
    /// The `bulkhead-launch` program.
    pub launcher: PathBuf,
    /// Folders of services and of their configuration.
    pub folders: Folders,
}

/// What is kept about them.
#[derive(Debug, Default)]
pub(super) struct Hosted {
    places: Places,
    next: AtomicU64,
    /// What services say counts together for each share, however many calls it makes. As many as
    /// there are declared qubes.
    lines: Mutex<BTreeMap<String, SharedLines>>,
}

/// Keeps a call going; without it the call ends.
#[derive(Debug)]
pub(super) struct Handle {
    wake: mpsc::Sender<()>,
    /// Tells it from a later call on the same port.
    number: u64,
}

impl Handle {
    /// Its socket appeared.
    pub(super) fn appeared(&self) {
        // One piece of news that waits says all.
        let _ = self.wake.try_send(());
    }
}

impl Hosted {
    fn lines(&self, share: &str) -> SharedLines {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = lines.entry(share.to_owned());
        lines.or_insert_with(SharedLines::new).clone()
    }
}

/// What the service is told of its call: descriptor, source, and how the target was named.
fn descriptor(allow: &Allow, service: &str) -> String {
    let plus = if service.contains('+') { "" } else { "+" };
    let requested = &allow.requested_target;
    let target = match requested.strip_prefix('@') {
        Some(word) => format!("keyword {word}"),
        None => format!("name {requested}"),
    };
    format!("{service}{plus} {} {target}", allow.source)
}

/// A call on its way to be served here.
struct Hosting {
    run: Arc<Run>,
    request: Request,
    allow: Allow,
    by: String,
    share: String,
}

impl Inner {
    /// A call to dom0 that policy or the person allowed.
    pub(super) fn host(&self, run: &Arc<Run>, request: Request, allow: Allow, by: &str) {
        let share = self.share_of(run).to_string();
        let ticket = (request.epoch, request.id);
        let place = self.calls.hosted.places.take(&share);
        let place = place.and_then(|place| {
            self.calls.begin(run.domid.0, ticket, &allow.target)?;
            Ok(place)
        });
        let place = match place {
            Ok(place) => place,
            Err(why) => {
                let rule = format!("{}: {why}", allow.rule);
                self.refuse(run, &request, Verdict::deny("limit", rule));
                return;
            }
        };
        let Some(inner) = self.own() else { return };
        let hosting = Hosting {
            run: Arc::clone(run),
            request,
            allow,
            by: by.to_owned(),
            share,
        };
        tokio::spawn(async move {
            let found = inner.find_service(&hosting).await;
            let waits = inner.calls.finish(hosting.run.domid.0, ticket);
            if !waits {
                let gone = Verdict::caller_gone(&hosting.allow.rule);
                return inner.record(&hosting.run, &hosting.request, gone);
            }
            let opened =
                found.and_then(|(call, found)| inner.open_hosted(&hosting, &call, found, place));
            if let Err(why) = opened {
                let rule = format!("{}: {why}", hosting.allow.rule);
                let verdict = Verdict::deny(&hosting.by, rule);
                inner.refuse(&hosting.run, &hosting.request, verdict);
            }
        });
    }

    async fn find_service(&self, hosting: &Hosting) -> Result<(ServiceCall, Found), String> {
        let Hosting { request, allow, .. } = hosting;
        let call = ServiceCall::parse(descriptor(allow, &request.service).as_bytes());
        let call = call.map_err(|error| error.to_string())?;
        let folders = self.config.services.folders.clone();
        let (rule, declared) = (allow.user.clone(), self.state().service_user());
        let has_windows = hosting.run.windows.get().is_some();
        let looked = tokio::task::spawn_blocking(move || {
            let named = Named {
                rule: rule.as_deref(),
                forced: None,
                declared: declared.as_deref(),
            };
            let found = find(&folders, &call, named)?;
            let found = match found {
                Found::Icons if !has_windows => Found::Nothing {
                    code: EXIT_PROBLEM.into(),
                    why: "its windows are not shown here".to_owned(),
                },
                found => found,
            };
            Ok((call, found))
        });
        looked.await.map_err(|error| error.to_string())?
    }

    /// Starts everything and tells the caller where to go.
    fn open_hosted(
        &self,
        hosting: &Hosting,
        call: &ServiceCall,
        found: Found,
        place: Place,
    ) -> Result<(), String> {
        let Hosting {
            run,
            request,
            allow,
            by,
            share,
        } = hosting;
        if !request.is_open(run) {
            return Err("its relay was replaced".to_owned());
        }
        let from = run.domid.0;
        let (wake, news) = mpsc::channel(1);
        let number = self.calls.hosted.next.fetch_add(1, Ordering::Relaxed);
        let port = {
            let mut connections = self.calls.connections();
            // Under the lock: what ends later finds the connection and clears it up.
            if run.is_gone() {
                return Err("it ended".to_owned());
            }
            let connection = Connection {
                hosted: Some(Handle { wake, number }),
                ..Connection::default()
            };
            let port = connections.add(from, 0, connection);
            port.ok_or("no port is free between it and dom0")?
        };
        let key = (from, 0, port);
        let connection = named(key);
        run.place.expect(&connection);
        let caller = Caller {
            place: Arc::clone(&run.place),
            connection,
            news,
        };
        let mut verdict = Verdict::allow(by, allow);
        if let Found::Nothing { why, .. } = &found {
            verdict.rule = format!("{}: {why}", verdict.rule);
        }
        let lines = self.calls.hosted.lines(share);
        let serving = Serving {
            key,
            number,
            caller,
            place,
            lines,
        };
        if let Err(error) = self.start_hosted(run, call, found, serving) {
            let mut connections = self.calls.connections();
            connections.ports.release(from, 0, port);
            connections.open.remove(&key);
            return Err(format!("cannot start what serves it: {error}"));
        }
        let answer = ToRelay::CallAllowed {
            request: request.id,
            connect_domain: 0,
            connect_port: port,
        };
        self.send_to(run, &answer);
        self.record(run, request, verdict);
        Ok(())
    }

    fn start_hosted(
        &self,
        run: &Run,
        call: &ServiceCall,
        found: Found,
        serving: Serving,
    ) -> io::Result<()> {
        let (log, errors) = log_pipe()?;
        let streams = match found {
            Found::Policy(_) | Found::Notifications | Found::Icons => Streams::Sockets,
            Found::Service(_) | Found::Nothing { .. } => Streams::Pipes,
        };
        let (pump, ends) = Pump::start(&self.config, run, streams, &errors)?;
        let inner = self.own.clone();
        let mut starter = None;
        let mut own = None;
        match found {
            Found::Service(order) => {
                starter = Some(Starter::start(&self.config, &order, ends, &errors)?);
            }
            Found::Policy(service) => {
                let task = serve_policy(inner.clone(), service, call.clone(), ends);
                own = Some(tokio::spawn(task).abort_handle());
            }
            Found::Notifications => {
                let decoder = start_decoder(&self.config, &errors)?;
                let setup = ToDecoder::Setup {
                    domid: run.domid.0,
                    offered: offered(call),
                };
                let whose = self.whose(run);
                let task = serve_notifications(inner.clone(), whose, decoder, setup, ends);
                own = Some(tokio::spawn(task).abort_handle());
            }
            Found::Icons => show_icons(run, ends)?,
            Found::Nothing { code, .. } => ends.report(Report::Failed { code })?,
        }
        let (qube, service) = (run.name.to_string(), call.full_name());
        tokio::spawn(serving.lines.log(qube.clone(), service.clone(), log));
        tokio::spawn(async move {
            let went = see_through(pump, starter, serving.caller).await;
            if let Some(own) = own {
                own.abort();
            }
            if went == Went::NobodyCame {
                tracing::info!(%qube, service, "a caller of dom0 never connected");
            }
            if let Some(inner) = inner.upgrade() {
                inner.hosted_ended(serving.key, serving.number);
            }
            drop(serving.place);
        });
        Ok(())
    }

    fn whose(&self, run: &Run) -> Whose {
        let row = self.state().row(&run.name);
        Whose {
            qube: run.name.to_string(),
            color: row.map(|row| row.color).unwrap_or_default(),
            share: self.share_of(run).to_string(),
        }
    }

    /// The call is over here; its port is free once its caller's agent says so too.
    fn hosted_ended(&self, key: Key, number: u64) {
        let connection = {
            let open = &mut self.calls.connections().open;
            let same = |connection: &Connection| {
                let hosted = connection.hosted.as_ref();
                hosted.is_some_and(|hosted| hosted.number == number)
            };
            open.get(&key).is_some_and(same).then(|| open.remove(&key))
        };
        if let Some(connection) = connection.flatten() {
            self.close(key, connection, "ended");
        }
    }
}

/// What goes with the processes of a call.
struct Serving {
    key: Key,
    number: u64,
    caller: Caller,
    place: Place,
    lines: SharedLines,
}

/// Serves a call of one of the daemon's own services.
async fn serve_policy(
    inner: Weak<Inner>,
    service: PolicyService,
    call: ServiceCall,
    ends: FarEnds,
) {
    let source = call.source.clone();
    if let Err(error) = try_serve_policy(inner, service, call, ends).await {
        tracing::info!(%source, %error, "a call of a policy service got no answer");
    }
}

async fn try_serve_policy(
    inner: Weak<Inner>,
    service: PolicyService,
    call: ServiceCall,
    ends: FarEnds,
) -> io::Result<()> {
    let socket = |fd: OwnedFd| {
        rustix::io::ioctl_fionbio(&fd, true)?;
        UnixStream::from_std(fd.into())
    };
    ends.report(Report::Running)?;
    let FarEnds {
        stdin,
        stdout,
        stderr,
        report,
    } = ends;
    let (mut input, mut output, mut errors) = (socket(stdin)?, socket(stdout)?, socket(stderr)?);
    let ended = io::Error::other("the daemon ends");
    let inner = inner.upgrade().ok_or(ended)?;
    let answer = inner.serve_policy_call(service, &call, &mut input).await?;
    // A caller that does not read keeps this waiting until it goes, and its place with it.
    output.write_all(&answer.output).await?;
    errors.write_all(&answer.errors).await?;
    drop((input, output, errors));
    let code = answer.code.into();
    process::tell(&report, Report::Ended { code })
}

/// Has what shows the caller's windows read what it sends of their icons, and report the end.
fn show_icons(run: &Run, ends: FarEnds) -> io::Result<()> {
    ends.report(Report::Running)?;
    if let Some(windows) = run.windows.get() {
        windows.show_icons([ends.stdin, ends.report]);
    }
    Ok(())
}

/// The version of notifications that a caller is offered.
fn offered(call: &ServiceCall) -> Version {
    match call.argument.as_deref() {
        Some(CLOSING) => Version::WITH_CLOSE,
        _ => Version::PLAIN,
    }
}

/// Serves a call that brings notifications.
async fn serve_notifications(
    inner: Weak<Inner>,
    whose: Whose,
    (child, link): (Child, OwnedFd),
    setup: ToDecoder,
    ends: FarEnds,
) {
    let Some(board) = inner
        .upgrade()
        .map(|inner| Arc::clone(&inner.notifications))
    else {
        return;
    };
    let FarEnds {
        stdin,
        stdout,
        stderr,
        report,
    } = ends;
    // Nothing is said there.
    drop(stderr);
    let decoder = Decoder {
        child,
        link,
        setup,
        streams: [stdin, stdout],
    };
    let qube = whose.qube.clone();
    let served = async {
        process::tell(&report, Report::Running)?;
        let code = notifications::serve(&board, whose, decoder).await?;
        process::tell(&report, Report::Ended { code })
    };
    if let Err(error) = served.await {
        tracing::info!(%qube, %error, "a call that brings notifications was cut");
    }
}
