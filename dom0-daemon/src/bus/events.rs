//! Signals on their way out: one queue for all, one task per client that wants any.

use bulkhead_api::ApiError;
use bulkhead_api::event::{Event, Topic};
use tokio::sync::broadcast;
use zbus::object_server::SignalEmitter;

use super::manager::Manager;

/// Events kept for a client that is slow to take them. One that falls further behind is told how
/// many it lost, and reads everything again.
const BACKLOG: usize = 1024;

/// Where every part of the daemon says what changed.
#[derive(Debug, Clone)]
pub struct Events(broadcast::Sender<Event>);

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl Events {
    /// A queue that nobody listens to yet.
    pub fn new() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }

    /// Says that something changed.
    pub fn send(&self, event: Event) {
        // An error only means that nobody listens.
        let _ = self.0.send(event);
    }

    /// Whether anybody listens; what is costly to make need not be made otherwise.
    pub fn wanted(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Everything from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}

/// The topics a client has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Topics(u8);

impl Topics {
    /// Everything but audit records and the clipboard, which the system bus would show to every
    /// member of the group.
    pub(super) const SYSTEM_BUS: Self =
        Self(Self::bit(Topic::Qubes) | Self::bit(Topic::Asks) | Self::bit(Topic::Changes));

    const fn bit(topic: Topic) -> u8 {
        match topic {
            Topic::Qubes => 1,
            Topic::Asks => 2,
            Topic::Changes => 4,
            Topic::Audit => 8,
            Topic::Clipboard => 16,
        }
    }

    /// Reads the names a client sent.
    pub(super) fn parse(names: &[String]) -> Result<Self, ApiError> {
        let mut bits = 0;
        for name in names {
            let topic = Topic::parse(name).ok_or_else(|| {
                ApiError::new(
                    bulkhead_api::ErrorKind::Invalid,
                    format!("there is no topic `{}`", name.escape_debug()),
                )
                .hint("Topics are qubes, asks, changes, audit and clipboard.")
            })?;
            bits |= Self::bit(topic);
        }
        Ok(Self(bits))
    }

    pub(super) fn contains(self, topic: Topic) -> bool {
        self.0 & Self::bit(topic) != 0
    }

    pub(super) fn bits(self) -> u8 {
        self.0
    }

    pub(super) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

/// Sends one event as the signal of the same name.
pub(super) async fn emit(emitter: &SignalEmitter<'_>, event: &Event) -> zbus::Result<()> {
    let json = |value: Result<String, ApiError>| value.unwrap_or_else(|_| "null".to_owned());
    match event {
        Event::QubeChanged(row) => {
            Manager::qube_changed(emitter, &row.name, row.state, row.clone()).await
        }
        Event::QubeRemoved { name } => Manager::qube_removed(emitter, name).await,
        Event::AskAdded(ask) => {
            Manager::ask_added(emitter, ask.id, &json(bulkhead_api::to_json(ask))).await
        }
        Event::AskRemoved { id, outcome } => Manager::ask_removed(emitter, *id, outcome).await,
        Event::ApplyStarted { apply, who, steps } => {
            Manager::apply_started(emitter, *apply, who, *steps).await
        }
        Event::StepStarted { apply, step, text } => {
            Manager::step_started(emitter, *apply, *step, text).await
        }
        Event::StepProgress { apply, step, text } => {
            Manager::step_progress(emitter, *apply, *step, text).await
        }
        Event::StepFinished { apply, step, error } => {
            Manager::step_finished(emitter, *apply, *step, error).await
        }
        Event::Undoing { apply, because } => Manager::undoing(emitter, *apply, because).await,
        Event::StepUndone { apply, step, error } => {
            Manager::step_undone(emitter, *apply, *step, error).await
        }
        Event::ApplyFinished { apply, outcome } => {
            Manager::apply_finished(emitter, *apply, outcome.as_str()).await
        }
        Event::GenerationChanged { number } => Manager::generation_changed(emitter, *number).await,
        Event::PolicyChanged { ok, rules, errors } => {
            Manager::policy_changed(emitter, *ok, *rules, errors).await
        }
        Event::ClipboardChanged(news) => {
            Manager::clipboard_changed(emitter, &json(bulkhead_api::to_json(news))).await
        }
        Event::AuditRecorded(record) => {
            Manager::audit_recorded(emitter, &json(bulkhead_api::to_json(record))).await
        }
    }
}
