//! The session bus: there is one of us in a session, and the desktop's notifications.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use zbus::fdo::RequestNameFlags;
use zbus::{Connection, Error, Variant};

use crate::failure::Failure;
use crate::notices::{NOTICES_MAX, Notice};

/// Held by the one that runs.
pub(crate) const NAME: &str = "org.bulkhead.Desktop1";

/// How long the notification service may take over a notice: one that hangs delays no other part.
pub(crate) const NOTIFY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a service that did not answer is asked nothing, so that nothing else waits behind it.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

/// Notices that wait while the service is slow; what comes on top is dropped, as the audit log has
/// it anyway.
const QUEUE: usize = 2 * NOTICES_MAX as usize;

pub(crate) const SERVICE: &str = "org.freedesktop.Notifications";
pub(crate) const PATH: &str = "/org/freedesktop/Notifications";

/// Connects to the session bus and becomes the one of this session.
pub(crate) async fn enter() -> Result<Connection, Failure> {
    let connection = Connection::session().await.map_err(|error| {
        Failure::new("no session bus answers")
            .because(&error)
            .hint("Start this from a desktop session, or under `dbus-run-session`.")
    })?;
    let flags = RequestNameFlags::DO_NOT_QUEUE;
    match connection.request_name_with_flags(NAME, flags).await {
        Ok(_) => Ok(connection),
        Err(Error::NameTaken) => Err(
            Failure::new("bulkhead-desktop runs in this session already")
                .hint("Two would ask about each call twice; the first one goes on."),
        ),
        Err(error) => Err(
            Failure::new(format!("the session bus gives nobody the name {NAME}")).because(&error),
        ),
    }
}

/// Where notices go.
#[derive(Debug, Clone)]
pub(crate) struct Notifier(mpsc::Sender<Notice>);

impl Notifier {
    /// Shows notices through the desktop's service, one after the other. What no service shows goes
    /// to `unshown`.
    pub(crate) fn start(connection: Connection, unshown: mpsc::Sender<Notice>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(show_all(connection, receiver, unshown));
        Self(sender)
    }

    pub(crate) fn show(&self, notice: Notice) {
        // A queue that is full means that nobody could read them.
        let _ = self.0.try_send(notice);
    }
}

async fn show_all(
    connection: Connection,
    mut notices: mpsc::Receiver<Notice>,
    unshown: mpsc::Sender<Notice>,
) {
    let mut slots = HashMap::new();
    let mut silent_until = None;
    while let Some(notice) = notices.recv().await {
        if silent_until.is_none_or(|end| Instant::now() >= end) {
            let shown = show(&connection, &notice, &mut slots);
            match tokio::time::timeout(NOTIFY_TIMEOUT, shown).await {
                Ok(Ok(())) => continue,
                // There is none, or it does not want to.
                Ok(Err(_)) => {}
                Err(_) => silent_until = Some(Instant::now() + SILENCE),
            }
        }
        if unshown.send(notice).await.is_err() {
            return;
        }
    }
}

async fn show(
    connection: &Connection,
    notice: &Notice,
    slots: &mut HashMap<String, u32>,
) -> zbus::Result<()> {
    // Asked each time: the service may be another one by now, and notices are few.
    let capabilities = connection
        .call_method(Some(SERVICE), PATH, Some(SERVICE), "GetCapabilities", &())
        .await?;
    let capabilities: Vec<String> = capabilities.body().deserialize()?;
    let markup = capabilities.iter().any(|name| name == "body-markup");
    let body = match markup {
        true => escape(&notice.body),
        false => notice.body.clone(),
    };
    let replaces = notice
        .slot
        .as_ref()
        .and_then(|slot| slots.get(slot))
        .copied();
    let hints = HashMap::from([
        ("urgency", Variant::U8(1)),
        ("desktop-entry", Variant::from("org.bulkhead.Desktop")),
    ]);
    let arguments = (
        "Bulkhead",
        replaces.unwrap_or(0),
        "dialog-warning",
        notice.title.as_str(),
        body.as_str(),
        Vec::<&str>::new(),
        hints,
        -1_i32,
    );
    let shown = connection
        .call_method(Some(SERVICE), PATH, Some(SERVICE), "Notify", &arguments)
        .await?;
    let id: u32 = shown.body().deserialize()?;
    if let Some(slot) = &notice.slot {
        slots.insert(slot.clone(), id);
    }
    Ok(())
}

/// Takes the meaning from what a service that reads markup would act on.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
