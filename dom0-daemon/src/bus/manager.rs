//! `org.bulkhead.Manager1`: checks what came, calls the backend, writes what goes.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bulkhead_api::call::{Answer, CallRequest, DataConnection, RunRequest};
use bulkhead_api::notification::NotificationOrder;
use bulkhead_api::qube::{QubeRow, QubeState};
use bulkhead_api::{API_VERSION, ApiError, ErrorKind, from_json, to_json};
use bulkhead_model::name::QubeName;
use tokio::sync::{broadcast, mpsc};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, interface};

use super::backend::Backend;
use super::events::{Events, Topics, emit};
use super::served::caller;
use crate::notifications::NotificationOffer;
use crate::runtime::Dependents;
use crate::windows::DisplayOffer;

/// How clients of a connection get signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signals {
    /// They subscribe to topics.
    OnDemand,
    /// All of them are sent, and the bus daemon chooses by match rules.
    Broadcast,
}

/// The interface for one connection.
#[derive(Debug)]
pub(super) struct Manager {
    backend: Arc<dyn Backend>,
    events: Events,
    topics: Arc<AtomicU8>,
    pumping: AtomicBool,
    signals: Signals,
    /// Where the client shows windows; it ends with the connection.
    display: Mutex<Option<DisplayOffer>>,
    /// That it shows notifications, likewise.
    notifications: Mutex<Option<NotificationOffer>>,
}

impl Manager {
    pub(super) fn new(backend: Arc<dyn Backend>, events: Events, signals: Signals) -> Self {
        Self {
            backend,
            events,
            topics: Arc::default(),
            pumping: AtomicBool::new(false),
            signals,
            display: Mutex::default(),
            notifications: Mutex::default(),
        }
    }
}

/// Checks a qube name that came over the bus.
fn qube_name(text: &str) -> Result<QubeName, ApiError> {
    QubeName::new(text).map_err(|error| ApiError::from_error(ErrorKind::Invalid, &error))
}

fn dependents(force: bool) -> Dependents {
    match force {
        true => Dependents::CutOff,
        false => Dependents::Respect,
    }
}

fn seconds(count: u32) -> Option<Duration> {
    (count > 0).then(|| Duration::from_secs(u64::from(count)))
}

fn number(value: u64) -> Option<u64> {
    (value > 0).then_some(value)
}

#[interface(name = "org.bulkhead.Manager1", introspection_docs = false)]
impl Manager {
    #[zbus(out_args("daemon", "interface"))]
    fn version(&self) -> (String, u32) {
        (env!("CARGO_PKG_VERSION").to_owned(), API_VERSION)
    }

    async fn subscribe(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
        topics: Vec<String>,
    ) -> Result<(), ApiError> {
        let chosen = Topics::parse(&topics)?;
        if self.signals == Signals::Broadcast {
            return Err(ApiError::new(
                ErrorKind::Unsupported,
                "on the system bus signals are chosen by match rules",
            ));
        }
        self.topics.store(chosen.bits(), Ordering::Relaxed);
        if chosen.bits() != 0 && !self.pumping.swap(true, Ordering::Relaxed) {
            // Taken here and not in the task: what changes after this reply is a signal.
            let queue = self.events.subscribe();
            let pump = Pump {
                connection: connection.clone(),
                emitter: emitter.to_owned(),
                topics: Arc::clone(&self.topics),
            };
            tokio::spawn(pump.run(queue));
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<QubeRow>, ApiError> {
        self.backend.list().await
    }

    async fn info(&self, qube: String) -> Result<String, ApiError> {
        to_json(&self.backend.info(&qube_name(&qube)?).await?)
    }

    async fn start(&self, qube: String) -> Result<(), ApiError> {
        self.backend.start(&qube_name(&qube)?).await
    }

    async fn stop(&self, qube: String, timeout_seconds: u32, force: bool) -> Result<(), ApiError> {
        let name = qube_name(&qube)?;
        let timeout = seconds(timeout_seconds);
        self.backend.stop(&name, timeout, dependents(force)).await
    }

    async fn kill(&self, qube: String, force: bool) -> Result<(), ApiError> {
        let name = qube_name(&qube)?;
        self.backend.kill(&name, dependents(force)).await
    }

    async fn pause(&self, qube: String) -> Result<(), ApiError> {
        self.backend.pause(&qube_name(&qube)?).await
    }

    async fn unpause(&self, qube: String) -> Result<(), ApiError> {
        self.backend.unpause(&qube_name(&qube)?).await
    }

    async fn restart(
        &self,
        qube: String,
        timeout_seconds: u32,
        force: bool,
    ) -> Result<(), ApiError> {
        let name = qube_name(&qube)?;
        let timeout = seconds(timeout_seconds);
        self.backend
            .restart(&name, timeout, dependents(force))
            .await
    }

    async fn revert(&self, qube: String, revision: u64) -> Result<String, ApiError> {
        let name = qube_name(&qube)?;
        to_json(&self.backend.revert(&name, number(revision)).await?)
    }

    async fn run(&self, request: RunRequest) -> Result<DataConnection, ApiError> {
        self.backend.run(request, &*caller()?).await
    }

    async fn call(&self, request: CallRequest) -> Result<DataConnection, ApiError> {
        self.backend.call(request, &*caller()?).await
    }

    async fn create_disposable(&self, template: String) -> Result<String, ApiError> {
        let template = match template.as_str() {
            "" => None,
            name => Some(qube_name(name)?),
        };
        self.backend.create_disposable(template.as_ref()).await
    }

    async fn plan(&self, request_json: String) -> Result<String, ApiError> {
        let request: crate::ops::PlanRequest = from_json(&request_json)?;
        may_name_files(request.system.is_some())?;
        to_json(&self.backend.plan(request).await?)
    }

    async fn apply(&self, request_json: String) -> Result<String, ApiError> {
        let request: crate::ops::ApplyRequest = from_json(&request_json)?;
        may_name_files(request.plan.system.is_some())?;
        let caller = caller()?;
        to_json(&self.backend.apply(request, &caller).await?)
    }

    async fn status(&self) -> Result<String, ApiError> {
        to_json(&self.backend.status().await?)
    }

    async fn host(&self) -> Result<String, ApiError> {
        to_json(&self.backend.host().await?)
    }

    async fn generations(&self) -> Result<String, ApiError> {
        to_json(&self.backend.generations().await?)
    }

    async fn generation(&self, of: u64) -> Result<String, ApiError> {
        to_json(&self.backend.generation(number(of)).await?)
    }

    async fn diff(&self, from: u64, to: u64) -> Result<String, ApiError> {
        to_json(&self.backend.diff(number(from), number(to)).await?)
    }

    async fn rollback(&self, request_json: String) -> Result<String, ApiError> {
        let request = from_json(&request_json)?;
        let caller = caller()?;
        to_json(&self.backend.rollback(request, &caller).await?)
    }

    async fn gc(&self, request_json: String) -> Result<String, ApiError> {
        to_json(&self.backend.gc(from_json(&request_json)?).await?)
    }

    async fn asks(&self) -> Result<String, ApiError> {
        to_json(&self.backend.asks().await?)
    }

    async fn answer(&self, ask: u64, answer: Answer, target: String) -> Result<(), ApiError> {
        let target = (!target.is_empty()).then_some(target.as_str());
        let caller = caller()?;
        self.backend.answer(ask, answer, target, &caller).await
    }

    async fn clipboard(&self) -> Result<String, ApiError> {
        to_json(&self.backend.clipboard().await?)
    }

    async fn clear_clipboard(&self) -> Result<String, ApiError> {
        to_json(&self.backend.clear_clipboard().await?)
    }

    async fn show_windows(&self, display: String, authority: Vec<u8>) -> Result<(), ApiError> {
        if self.signals == Signals::Broadcast {
            return Err(ApiError::new(
                ErrorKind::Unsupported,
                "a display is shown on as long as its connection lasts, and on the system bus it \
                 has none",
            ));
        }
        let offer = self.backend.offer_display(&display, &authority).await?;
        *self.display.lock().unwrap_or_else(PoisonError::into_inner) = Some(offer);
        Ok(())
    }

    async fn show_notifications(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<(), ApiError> {
        if self.signals == Signals::Broadcast {
            return Err(ApiError::new(
                ErrorKind::Unsupported,
                "notifications are shown as long as a connection lasts, and on the system bus it \
                 has none",
            ));
        }
        let mut offer = self.backend.offer_notifications().await?;
        if let Some(orders) = offer.orders() {
            let (connection, emitter) = (connection.clone(), emitter.to_owned());
            tokio::spawn(pass_on(orders, connection, emitter));
        }
        let shows = self.notifications.lock();
        *shows.unwrap_or_else(PoisonError::into_inner) = Some(offer);
        Ok(())
    }

    fn notification_news(&self, number: u64, news_json: &str) -> Result<(), ApiError> {
        let news = from_json(news_json)?;
        let shows = self.notifications.lock();
        match &*shows.unwrap_or_else(PoisonError::into_inner) {
            Some(offer) => offer.news(number, &news),
            None => {
                return Err(ApiError::new(
                    ErrorKind::Invalid,
                    "this connection shows no notifications",
                ));
            }
        }
        Ok(())
    }

    async fn audit_tail(&self, filter_json: String) -> Result<String, ApiError> {
        to_json(&self.backend.audit_tail(from_json(&filter_json)?).await?)
    }

    async fn open_log(&self, qube: String) -> Result<zbus::OwnedFd, ApiError> {
        let name = match qube.as_str() {
            "" => None,
            name => Some(qube_name(name)?),
        };
        Ok(self.backend.open_log(name.as_ref()).await?.into())
    }

    #[zbus(signal)]
    pub(super) async fn qube_changed(
        emitter: &SignalEmitter<'_>,
        name: &str,
        state: QubeState,
        row: QubeRow,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn qube_removed(emitter: &SignalEmitter<'_>, name: &str) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn ask_added(
        emitter: &SignalEmitter<'_>,
        id: u64,
        ask_json: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn ask_removed(
        emitter: &SignalEmitter<'_>,
        id: u64,
        outcome: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn apply_started(
        emitter: &SignalEmitter<'_>,
        apply: u64,
        who: &str,
        steps: u32,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn step_started(
        emitter: &SignalEmitter<'_>,
        apply: u64,
        step: u32,
        text: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn step_progress(
        emitter: &SignalEmitter<'_>,
        apply: u64,
        step: u32,
        text: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn step_finished(
        emitter: &SignalEmitter<'_>,
        apply: u64,
        step: u32,
        error: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn undoing(
        emitter: &SignalEmitter<'_>,
        apply: u64,
        because: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn step_undone(
        emitter: &SignalEmitter<'_>,
        apply: u64,
        step: u32,
        error: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn apply_finished(
        emitter: &SignalEmitter<'_>,
        apply: u64,
        outcome: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn generation_changed(
        emitter: &SignalEmitter<'_>,
        number: u64,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn policy_changed(
        emitter: &SignalEmitter<'_>,
        ok: bool,
        rules: u64,
        errors: &[String],
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn audit_recorded(
        emitter: &SignalEmitter<'_>,
        record_json: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn clipboard_changed(
        emitter: &SignalEmitter<'_>,
        news_json: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn notification_ordered(
        emitter: &SignalEmitter<'_>,
        order_json: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn signals_lost(emitter: &SignalEmitter<'_>, count: u64) -> zbus::Result<()>;
}

/// The daemon may read what its caller may not: only its owner chooses files.
fn may_name_files(named: bool) -> Result<(), ApiError> {
    if named && !caller()?.owner {
        return Err(ApiError::new(
            ErrorKind::AccessDenied,
            "only root may have another description read",
        )
        .hint("`bulkhead check FILE` reads a file with your own rights"));
    }
    Ok(())
}

/// Carries orders to the one connection that shows notifications, as long as it does.
async fn pass_on(
    mut orders: mpsc::Receiver<NotificationOrder>,
    connection: Connection,
    emitter: SignalEmitter<'static>,
) {
    loop {
        let order = tokio::select! {
            () = connection.closed() => return,
            order = orders.recv() => order,
        };
        let Some(order) = order.as_ref().and_then(|order| to_json(order).ok()) else {
            return;
        };
        if let Err(error) = Manager::notification_ordered(&emitter, &order).await {
            tracing::debug!(%error, "a client is gone before its order");
            return;
        }
    }
}

/// Carries events to one connection. A client that leaves them unread is hung up on by who accepted
/// it, and on the system bus by the bus daemon.
#[derive(Debug)]
pub(super) struct Pump {
    pub(super) connection: Connection,
    pub(super) emitter: SignalEmitter<'static>,
    pub(super) topics: Arc<AtomicU8>,
}

impl Pump {
    /// Until the connection or the daemon ends.
    pub(super) async fn run(self, mut queue: broadcast::Receiver<bulkhead_api::event::Event>) {
        loop {
            let next = tokio::select! {
                () = self.connection.closed() => break,
                next = queue.recv() => next,
            };
            let sent = match next {
                Ok(event) => {
                    let topics = Topics::from_bits(self.topics.load(Ordering::Relaxed));
                    if !topics.contains(event.topic()) {
                        continue;
                    }
                    emit(&self.emitter, &event).await
                }
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    Manager::signals_lost(&self.emitter, count).await
                }
                Err(broadcast::error::RecvError::Closed) => break,
            };
            if let Err(error) = sent {
                tracing::debug!(%error, "a client is gone before its signal");
                break;
            }
        }
    }
}
