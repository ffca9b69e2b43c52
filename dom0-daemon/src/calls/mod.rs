//! Calls between qubes: policy, questions to the person, and the connections that come of them.
//!
//! ```text
//! relay of A -- CallRequest --> decide --+-- deny ---------------> CallRefused to A
//!                                        +-- ask --> Asks ---+---> CallRefused to A
//!                                        |                   |
//!                                        +-- allow <---------+
//!                                              |  start B or a disposable if need be
//!                                              v
//!                  Execute to B and CallAllowed to A at once; A's socket is linked to B's folder
//!                                              |
//!                  ConnectionTerminated of A or B: the link goes, a disposable is ended
//! ```
//!
//! Nothing is waited for between a request and its two messages where the target runs: the whole
//! way is one decision in memory and two packets.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_api::call::AuditRecord;
use bulkhead_model::name::QubeName;
use bulkhead_policy::{Allow, Decision, Deny, Destination};
use bulkhead_wire::causes::chain;
use bulkhead_wire::qrexec::announced::Announced;
use bulkhead_wire::relay::{RequestId, ToRelay};

use self::asks::Asks;
pub(crate) use self::asks::Wish;
pub use self::fair::HOLD_BACK;
pub use self::hosted::{CONNECT_TIMEOUT, HOSTED_MAX, HOSTED_PER_QUBE, ServicesConfig};
use self::hosted::{Handle, Hosted};
pub use self::ports::DATA_PORTS;
use self::ports::Ports;
use crate::machine::Reason;
use crate::relays::Named;
use crate::runtime::{Agent, Inner, Life, Run, RuntimeError};
use crate::windows::Windows;

mod adopt;
mod asks;
mod dom0;
mod fair;
mod hosted;
mod ports;
mod tell;

/// How long a question stays open; then it counts as refused.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest time for which a question may be told to stay open: a caller that waits longer has been
/// given up by whoever started it.
pub const ASK_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Calls of one qube that may be under way to a target that is being started, and questions
/// included: as many as the reference keeps pending per qube.
pub const PENDING_PER_QUBE: usize = 256;

/// Disposables that may run for calls of one qube at a time: more than a person has in view, and
/// each takes the memory of a whole qube.
pub const DISPOSABLES_PER_QUBE: usize = 32;

/// A call that a guest asks for, cleaned by its relay and checked again.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Which relay of the qube it came through.
    pub(crate) epoch: u64,
    /// Names it in the answer.
    pub(crate) id: RequestId,
    /// Service with `+argument` if there is one.
    pub(crate) service: String,
    /// Requested target, possibly empty.
    pub(crate) target: String,
    /// Claimed source, possibly empty.
    pub(crate) requested_source: String,
    /// What the caller says it will send: to be shown, never to decide by.
    pub(crate) announced: Option<Announced>,
}

impl Request {
    /// Whether the relay that it came through is still the one that serves.
    fn is_open(&self, run: &Run) -> bool {
        self.epoch == run.epoch.load(Ordering::Relaxed)
    }
}

/// What becomes of a connection's surroundings when it ends.
#[derive(Debug, Default)]
struct Connection {
    /// A disposable that was made for it.
    disposable: Option<QubeName>,
    /// Told why it is over; for a client of dom0.
    life: Option<std::io::PipeWriter>,
    /// Served in dom0, as long as this is there.
    hosted: Option<Handle>,
}

/// Names a request of one qube: its relay's epoch, and its number there.
type Ticket = (u64, RequestId);

/// Why a call whose caller left is refused.
const CALLER_GONE: &str = "its caller went away";

/// Names a connection: who is the vchan server (the caller), who the client, and the port.
type Key = (u32, u32, u32);

/// A call whose target is being brought up.
#[derive(Debug)]
struct UnderWay {
    /// Its caller has not gone away.
    waits: bool,
    /// It is to a new disposable.
    disposable: bool,
}

#[derive(Debug, Default)]
struct Connections {
    ports: Ports,
    open: HashMap<Key, Connection>,
    /// Calls under way that are not connections yet, by caller.
    pending: HashMap<u32, HashMap<Ticket, UnderWay>>,
}

impl Connections {
    /// How many disposables run, or are being started, for calls of `caller`.
    fn disposables(&self, caller: u32) -> usize {
        let open = self.open.iter();
        let open = open.filter(|((from, ..), c)| *from == caller && c.disposable.is_some());
        let pending = self
            .pending
            .get(&caller)
            .into_iter()
            .flat_map(HashMap::values);
        open.count() + pending.filter(|call| call.disposable).count()
    }

    /// Notes a connection under a free port, if there is one.
    fn add(&mut self, from: u32, to: u32, connection: Connection) -> Option<u32> {
        let port = self.ports.allocate(from, to)?;
        self.open.insert((from, to, port), connection);
        Some(port)
    }

    /// The agent of `domain` says that a connection is over: `None` where it has none such, else
    /// the connection, unless the other end has said so before. The port stays taken until it is
    /// released, which is after the socket is gone: else the next connection's would go.
    fn end(&mut self, domain: u32, peer: u32, port: u32) -> Option<Option<(Key, Connection)>> {
        self.ports.holds(domain, peer, port).then(|| {
            let mut keys = [(domain, peer, port), (peer, domain, port)].into_iter();
            keys.find_map(|key| Some((key, self.open.remove(&key)?)))
        })
    }
}

/// Everything about calls that is kept.
#[derive(Debug)]
pub(crate) struct Calls {
    connections: Mutex<Connections>,
    asks: Asks,
    hosted: Hosted,
}

fn socket_name((server, client, port): Key) -> String {
    format!("vchan.{server}.{client}.{port}.sock")
}

fn named(key: Key) -> Named {
    let name = socket_name(key);
    Named { key, name }
}

/// Reads the name of a data socket, in its one canonical form.
fn parse_socket_name(name: &str) -> Option<Key> {
    let mut numbers = name
        .strip_prefix("vchan.")?
        .strip_suffix(".sock")?
        .split('.');
    let mut next = || numbers.next()?.parse::<u32>().ok();
    let key = (next()?, next()?, next()?);
    (numbers.next().is_none() && socket_name(key) == name).then_some(key)
}

impl Calls {
    pub(crate) fn new() -> Self {
        Self {
            connections: Mutex::default(),
            asks: Asks::default(),
            hosted: Hosted::default(),
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        // Nothing that holds this lock can panic half way through a change.
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all calls that dom0 serves.
    pub(crate) fn end_hosted(&self) {
        let mut connections = self.connections();
        connections.open.retain(|_, open| open.hosted.is_none());
    }

    /// A port for a client of the qube's qrexec socket, which makes its own vchan.
    pub(crate) fn allocate_for_client(&self, target: u32) -> Option<u32> {
        self.connections().ports.allocate(0, target)
    }

    /// Everything of a domain that ended.
    pub(crate) fn domain_gone(&self, inner: &Inner, run: &Run) {
        let domid = run.domid.0;
        let gone: Vec<(Key, Connection)> = {
            let mut connections = self.connections();
            connections.ports.forget(domid);
            connections.pending.remove(&domid);
            let concerned = |(server, client, _): &Key| *server == domid || *client == domid;
            connections
                .open
                .extract_if(|key, _| concerned(key))
                .collect()
        };
        for (key, connection) in gone {
            inner.close(key, connection, &format!("qube {} ended", run.name));
        }
        self.withdraw(inner, domid);
    }

    /// Takes back the questions of a qube whose agent or domain is gone.
    pub(crate) fn withdraw(&self, inner: &Inner, domid: u32) {
        self.asks.withdraw(inner, domid);
    }

    /// Notes a call of `caller` that is under way to `target`.
    ///
    /// # Errors
    /// Why it is one too many.
    fn begin(&self, caller: u32, ticket: Ticket, target: &Destination) -> Result<(), String> {
        let disposable = matches!(target, Destination::NewDisposable { .. });
        let mut connections = self.connections();
        if disposable && connections.disposables(caller) >= DISPOSABLES_PER_QUBE {
            return Err(format!(
                "more than {DISPOSABLES_PER_QUBE} disposables run for its calls"
            ));
        }
        let pending = connections.pending.entry(caller).or_default();
        if pending.len() >= PENDING_PER_QUBE {
            return Err(format!("more than {PENDING_PER_QUBE} calls are under way"));
        }
        let waits = true;
        pending.insert(ticket, UnderWay { waits, disposable });
        Ok(())
    }

    /// The caller no longer waits for a call that may be under way. It counts until it is over.
    fn forsake(&self, caller: u32, ticket: Ticket) {
        let mut connections = self.connections();
        let pending = connections.pending.get_mut(&caller);
        if let Some(call) = pending.and_then(|pending| pending.get_mut(&ticket)) {
            call.waits = false;
        }
    }

    /// A call is under way no more; whether its caller still waits for it.
    fn finish(&self, caller: u32, ticket: Ticket) -> bool {
        let mut connections = self.connections();
        let Entry::Occupied(mut pending) = connections.pending.entry(caller) else {
            return false;
        };
        let call = pending.get_mut().remove(&ticket);
        if pending.get().is_empty() {
            pending.remove();
        }
        call.is_some_and(|call| call.waits)
    }
}

/// What an audit record says beyond the call itself.
pub(crate) struct Verdict<'a> {
    pub(crate) target: String,
    pub(crate) decision: &'a str,
    pub(crate) by: &'a str,
    pub(crate) rule: String,
    /// Whether the person is to be told.
    pub(crate) notify: bool,
}

impl<'a> Verdict<'a> {
    /// A refusal that the person is told of, as all are for which no rule says otherwise.
    pub(crate) fn deny(by: &'a str, rule: String) -> Self {
        Self {
            target: String::new(),
            decision: "deny",
            by,
            rule,
            notify: true,
        }
    }

    /// What policy denies, or an answer made of it.
    pub(crate) fn denied(by: &'a str, deny: &Deny) -> Self {
        Self {
            notify: deny.notify,
            ..Self::deny(by, deny.to_string())
        }
    }

    /// What policy allows, or a person with it.
    pub(crate) fn allow(by: &'a str, allow: &Allow) -> Self {
        Self {
            target: allow.target.to_string(),
            decision: "allow",
            by,
            rule: allow.rule.to_string(),
            notify: allow.notify,
        }
    }

    /// The record of this about one call.
    pub(crate) fn about(self, source: &str, requested: &str, service: &str) -> AuditRecord {
        let requested = match requested {
            "" => "@default",
            target => target,
        };
        AuditRecord {
            time: 0,
            source: source.to_owned(),
            requested_target: requested.to_owned(),
            target: self.target,
            service: service.to_owned(),
            decision: self.decision.to_owned(),
            by: self.by.to_owned(),
            rule: self.rule,
            notify: self.notify,
            count: 1,
            since: None,
        }
    }

    /// The end of a call that nobody waits for any more, and that nobody has to be told of.
    fn caller_gone(rule: &impl std::fmt::Display) -> Self {
        Self {
            notify: false,
            ..Self::deny("caller", format!("{rule}: {CALLER_GONE}"))
        }
    }
}

/// The pipe of a client, and why its connection is over.
type LastWords = (std::io::PipeWriter, String);

fn say(last_words: Option<LastWords>) {
    if let Some((mut life, why)) = last_words {
        // Nobody may be reading.
        let _ = writeln!(life, "{why}");
    }
}

/// What the target's agent is told to do.
fn command_line(allow: &Allow, service: &str, default_user: &str) -> String {
    let user = allow.user.as_deref().unwrap_or(default_user);
    // A call for a remote qube is carried by a service of its relay.
    let service = allow.relayed_service.as_deref().unwrap_or(service);
    // The descriptor always has a `+`; without an argument it ends in it.
    let plus = if service.contains('+') { "" } else { "+" };
    format!("{user}:QUBESRPC {service}{plus} {}", allow.source)
}

impl Inner {
    fn record(&self, run: &Run, request: &Request, verdict: Verdict<'_>) {
        let record = verdict.about(run.name.as_str(), &request.target, &request.service);
        self.audit.record_in(self.share_of(run).as_str(), record);
    }

    /// Whose limits a qube counts against: disposables have one share by their template, since a
    /// new name is no new share.
    fn share_of(&self, run: &Run) -> QubeName {
        let template = run.life.is_disposable().then(|| {
            let state = self.state();
            let spec = state.qubes.get(&run.name)?.spec.as_ref()?;
            spec.template.clone()
        });
        template.flatten().unwrap_or_else(|| run.name.clone())
    }

    /// Whether `name` still means the qube that policy decided on.
    fn is_still(&self, name: &QubeName, uuid: uuid::Uuid) -> bool {
        let state = self.state();
        let known = state.run(name).map(|run| run.uuid);
        known.or_else(|| state.uuids.get(name).copied()) == Some(uuid)
    }

    /// Refuses, tells the caller no reason, and records why.
    fn refuse(&self, run: &Run, request: &Request, verdict: Verdict<'_>) {
        if request.is_open(run) {
            self.send_to(
                run,
                &ToRelay::CallRefused {
                    request: request.id,
                },
            );
        }
        self.record(run, request, verdict);
    }

    /// A guest asks for a call. Does not wait.
    pub(crate) fn call_requested(&self, run: &Arc<Run>, request: Request) {
        let (engine, view) = {
            let state = self.state();
            (Arc::clone(&state.engine), Arc::clone(&state.view))
        };
        let asked =
            bulkhead_policy::Request::new(&request.service, run.name.as_str(), &request.target)
                .on_behalf_of(&request.requested_source);
        match engine.decide(&asked, &view) {
            Decision::Deny(deny) => self.refuse(run, &request, Verdict::denied("policy", &deny)),
            Decision::Allow(allow) => self.allowed(run, request, allow, "policy"),
            Decision::Ask(ask) => self.calls.asks.add(self, run, request, ask),
        }
    }

    /// A call that policy or the person allowed: at once where that can be, else in a task.
    fn allowed(&self, run: &Arc<Run>, request: Request, allow: Allow, by: &str) {
        if allow.target == Destination::Dom0 {
            return self.host(run, request, allow, by);
        }
        if let Destination::Qube { name, uuid } = &allow.target {
            let target = QubeName::new(&**name).ok();
            let target = target.and_then(|name| self.state().run(&name).cloned());
            if let Some(target) = target.filter(|target| target.uuid == *uuid)
                && matches!(*target.agent.borrow(), Agent::Connected(_))
            {
                self.connect(run, &target, &request, &allow, by, None);
                return;
            }
        }
        let ticket = (request.epoch, request.id);
        if let Err(why) = self.calls.begin(run.domid.0, ticket, &allow.target) {
            let rule = format!("{}: {why}", allow.rule);
            self.refuse(run, &request, Verdict::deny("limit", rule));
            return;
        }
        let Some(inner) = self.own() else { return };
        let (run, by) = (Arc::clone(run), by.to_owned());
        tokio::spawn(async move {
            let brought = inner.bring_target(&allow).await;
            let waits = inner.calls.finish(run.domid.0, ticket);
            match brought {
                Ok((target, disposable)) if waits => {
                    inner.connect(&run, &target, &request, &allow, &by, disposable);
                }
                Ok((_, disposable)) => {
                    inner.record(&run, &request, Verdict::caller_gone(&allow.rule));
                    if let Some(name) = disposable {
                        inner.end_disposable(name, None);
                    }
                }
                Err(error) => {
                    let rule = format!("{}: {}", allow.rule, chain(&error));
                    inner.refuse(&run, &request, Verdict::deny(&by, rule));
                }
            }
        });
    }

    /// Makes sure that the target runs and has an agent; a new disposable is named too.
    async fn bring_target(
        &self,
        allow: &Allow,
    ) -> Result<(Arc<Run>, Option<QubeName>), RuntimeError> {
        let unusable = |what, why| RuntimeError::Unusable { what, why };
        let parse = |name: &str| {
            QubeName::new(name).map_err(|_| unusable("the target", "its name is none"))
        };
        match &allow.target {
            Destination::Qube { name, uuid } => {
                let name = parse(name)?;
                // What has its name by now may be another qube, which nobody allowed to be called.
                if !self.is_still(&name, *uuid) {
                    return Err(unusable("the target", "it is another qube by now"));
                }
                if self.state().run(&name).is_none() {
                    if !allow.autostart {
                        return Err(crate::machine::MachineError::NotRunning(name).into());
                    }
                    self.start_declared(&name, Reason::Call).await?;
                }
                let run = self.wait_agent(&name).await?;
                if run.uuid != *uuid {
                    return Err(unusable("the target", "it is another qube by now"));
                }
                Ok((run, None))
            }
            Destination::NewDisposable { base, uuid } => {
                let base = parse(base)?;
                if !self.is_still(&base, *uuid) {
                    return Err(unusable("the base", "it is another qube by now"));
                }
                let name = self
                    .create_disposable(&base, Life::OfACall, Reason::Call)
                    .await?;
                match self.wait_agent(&name).await {
                    Ok(run) => Ok((run, Some(name))),
                    Err(error) => {
                        self.end_disposable(name, None);
                        Err(error)
                    }
                }
            }
            // It is served here and not brought up.
            Destination::Dom0 => Err(unusable("the target", "it is dom0")),
            Destination::Nothing { .. } => Err(unusable("the target", "it does not exist")),
        }
    }

    /// Ends a disposable, then tells the client that waits for that.
    fn end_disposable(&self, name: QubeName, last_words: Option<LastWords>) {
        let Some(inner) = self.own() else { return };
        tokio::spawn(async move {
            if let Err(error) = inner.kill(&name, Reason::Call).await {
                tracing::error!(qube = %name, %error, "disposable cannot be ended");
            }
            say(last_words);
        });
    }

    /// Connects a caller to a target that runs.
    fn connect(
        &self,
        run: &Arc<Run>,
        target: &Arc<Run>,
        request: &Request,
        allow: &Allow,
        by: &str,
        disposable: Option<QubeName>,
    ) {
        let refuse = |why: String| {
            let rule = format!("{}: {why}", allow.rule);
            self.refuse(run, request, Verdict::deny(by, rule));
            if let Some(name) = &disposable {
                self.end_disposable(name.clone(), None);
            }
        };
        // Policy refuses this too; a vchan to oneself cannot be.
        if run.domid == target.domid {
            refuse("a qube cannot call itself".to_owned());
            return;
        }
        if !request.is_open(run) {
            refuse("its relay was replaced".to_owned());
            return;
        }
        let (from, to) = (run.domid.0, target.domid.0);
        let reserved = {
            let mut connections = self.calls.connections();
            // Under the lock: what ends later finds the connection and clears it up.
            if run.is_gone() || target.is_gone() {
                Err("one of both ended".to_owned())
            } else {
                let connection = Connection {
                    disposable: disposable.clone(),
                    ..Connection::default()
                };
                let port = connections.add(from, to, connection);
                port.ok_or_else(|| format!("no port is free between it and {}", target.name))
            }
        };
        let port = match reserved {
            Ok(port) => port,
            Err(why) => {
                refuse(why);
                return;
            }
        };
        target.place.expect(&named((from, to, port)));
        let cmdline = command_line(allow, &request.service, &target.default_user);
        let execute = ToRelay::Execute {
            connect_domain: from,
            connect_port: port,
            cmdline: cmdline.into_bytes(),
            just_exec: false,
        };
        let answer = ToRelay::CallAllowed {
            request: request.id,
            connect_domain: to,
            connect_port: port,
        };
        let sent = target
            .relay
            .get()
            .map_or(Err(crate::link::LinkError::Gone), |relay| {
                relay.send(&execute)
            });
        if let Err(error) = sent {
            let connection = {
                let mut connections = self.calls.connections();
                connections.ports.release(from, to, port);
                connections.ports.release(to, from, port);
                connections.open.remove(&(from, to, port))
            };
            drop(connection);
            refuse(error.to_string());
            return;
        }
        self.send_to(run, &answer);
        self.record(
            run,
            request,
            Verdict {
                target: target.name.to_string(),
                ..Verdict::allow(by, allow)
            },
        );
    }

    /// Whether a connection of `run` that is open has its socket under that name.
    pub(crate) fn knows_socket(&self, run: &Run, name: &str) -> bool {
        Windows::is_socket(run.domid.0, name)
            || parse_socket_name(name).is_some_and(|key @ (server, client, _)| {
                [server, client].contains(&run.domid.0)
                    && self.calls.connections().open.contains_key(&key)
            })
    }

    /// A socket has come into being in a qube's folder: a caller's end of a call, or a lie.
    pub(crate) fn socket_appeared(&self, run: &Arc<Run>, name: &str) {
        let windows = run.windows.get();
        if windows.is_some_and(|windows| windows.appeared(run.domid.0, name)) {
            return;
        }
        let Some(key @ (server, client, _)) = parse_socket_name(name) else {
            return;
        };
        if server != run.domid.0 {
            return;
        }
        match self.calls.connections().open.get(&key) {
            None => return,
            Some(Connection {
                hosted: Some(handle),
                ..
            }) => return handle.appeared(),
            Some(_) => {}
        }
        let Some(target) = self.state().domains.get(&client).cloned() else {
            return;
        };
        if let Err(error) = run.place.share(&target.place, name) {
            tracing::warn!(source = %run.name, target = %target.name, %error, "no connection");
        }
    }

    /// The agent of `domain` says that a connection is over.
    pub(crate) fn connection_terminated(&self, domain: u32, peer: u32, port: u32) {
        let Some(ended) = self.calls.connections().end(domain, peer, port) else {
            tracing::debug!(domain, peer, port, "end of a connection that is none");
            return;
        };
        if let Some((key, connection)) = ended {
            self.close(key, connection, "ended");
        }
        self.calls.connections().ports.release(domain, peer, port);
    }

    /// Clears up behind a connection.
    fn close(&self, key: Key, connection: Connection, why: &str) {
        let connection_named = named(key);
        let (server, client, _) = key;
        for domid in [server, client] {
            let run = self.state().domains.get(&domid).cloned();
            if let Some(run) = run {
                run.place.remove(&connection_named);
            }
        }
        let last_words = connection.life.map(|life| (life, why.to_owned()));
        match connection.disposable {
            Some(disposable) => self.end_disposable(disposable, last_words),
            None => say(last_words),
        }
    }
}

#[cfg(test)]
mod tests;
