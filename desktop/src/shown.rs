//! Notifications of qubes, shown by the session's notification service.
//!
//! What a qube wrote is in a title that begins with its name, and beside a square of its label's
//! colour: neither comes from the qube. Texts are cleaned again here.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bulkhead_api::client::{Client, NotificationOrders};
use bulkhead_api::notification::{Notification, NotificationNews, NotificationOrder, Urgency};
use bulkhead_api::{ApiError, Manager1Proxy, to_json};
use bulkhead_wire::notify::{
    ACTION_KEY_MAX, ACTION_LABEL_MAX, ACTIONS_MAX, BODY_LINES_MAX, BODY_MAX, SUMMARY_MAX,
};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use zbus::message::Sequence;
use zbus::{Connection, Message, Proxy, Variant};

use crate::desk::look::color;
use crate::failure::Failure;
use crate::session::{NOTIFY_TIMEOUT, PATH, SERVICE, SILENCE, escape};
use crate::text;

/// Orders that wait for a service that is slow.
const QUEUE: usize = 1024;

/// How long the daemon may take over news: it has only to pass them on.
const NEWS_TIMEOUT: Duration = Duration::from_secs(10);

/// Width and height of the icon in pixels.
const ICON: i32 = 32;

/// Shows notifications until it is dropped; then they are closed.
#[derive(Debug)]
pub(crate) struct Showing(AbortHandle);

impl Drop for Showing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Showing {
    /// Shows what the daemon orders by the session bus. `alive` is kept until all are closed.
    pub(crate) async fn begin(
        client: &Client,
        session: Connection,
        alive: mpsc::Sender<()>,
    ) -> Result<Self, ApiError> {
        let mut from_daemon = NotificationOrders::begin(client).await?;
        let (orders_in, orders) = mpsc::channel(QUEUE);
        // Beside the service: signals of the daemon wait behind its orders.
        let reader = tokio::spawn(async move {
            loop {
                match from_daemon.next().await {
                    Ok(order) => {
                        if orders_in.send(order).await.is_err() {
                            return;
                        }
                    }
                    Err(error) if error.kind == bulkhead_api::ErrorKind::Unreachable => return,
                    Err(error) => Failure::from(error).show(),
                }
            }
        });
        let daemon = client.proxy.clone();
        tokio::spawn(async move {
            let mut orders = orders;
            if let Err(error) = show_all(session, daemon.clone(), &mut orders).await {
                Failure::new("notifications of qubes are not shown")
                    .because(&error)
                    .show();
                refuse_all(&daemon, &mut orders).await;
            }
            drop(alive);
        });
        Ok(Self(reader.abort_handle()))
    }
}

/// What the service says to one that it shows.
#[derive(Debug, Clone, Copy)]
struct Answer {
    /// What it is called there.
    id: u32,
    /// Where it stands among all that the session bus brought.
    position: Sequence,
}

/// What is shown, by the number that the daemon knows it by.
struct Shown {
    service: Proxy<'static>,
    daemon: Manager1Proxy<'static>,
    ids: HashMap<u64, u32>,
    /// When a service that did not answer is asked again.
    silent_until: Option<Instant>,
}

async fn show_all(
    session: Connection,
    daemon: Manager1Proxy<'static>,
    orders: &mut mpsc::Receiver<NotificationOrder>,
) -> zbus::Result<()> {
    let service = Proxy::new(&session, SERVICE, PATH, SERVICE).await?;
    let mut signals = service.receive_all_signals().await?;
    let mut owners = service.receive_owner_changed().await?;
    let mut shown = Shown {
        service: service.clone(),
        daemon,
        ids: HashMap::new(),
        silent_until: None,
    };
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                // Whoever ordered what still waits is gone.
                Some(_) if orders.is_closed() => {}
                Some(NotificationOrder::Show(notification)) => {
                    let number = notification.number;
                    let answer = shown.ask(notification).await;
                    // What came before the answer is about what was shown before it.
                    while let Some(Some(_)) = owners.next().now_or_never() {
                        shown.service_changed().await;
                    }
                    let mut after = None;
                    while let Some(Some(signal)) = signals.next().now_or_never() {
                        if answer.is_some_and(|answer| signal.recv_position() > answer.position) {
                            after = Some(signal);
                            break;
                        }
                        shown.hear(&signal).await;
                    }
                    shown.answered(number, answer).await;
                    if let Some(signal) = after {
                        shown.hear(&signal).await;
                    }
                }
                Some(NotificationOrder::Close { number }) => shown.close(number).await,
                None => return shown.close_all().await,
            },
            signal = signals.next() => match signal {
                Some(signal) => shown.hear(&signal).await,
                None => return Ok(()),
            },
            Some(_) = owners.next() => shown.service_changed().await,
        }
    }
}

async fn tell(daemon: &Manager1Proxy<'_>, number: u64, news: &NotificationNews) {
    let Ok(json) = to_json(news) else { return };
    let told = daemon.notification_news(number, &json);
    // A daemon that is gone has forgotten it.
    let _ = tokio::time::timeout(NEWS_TIMEOUT, told).await;
}

/// Tells that nothing is shown, for as long as something is ordered.
async fn refuse_all(daemon: &Manager1Proxy<'_>, orders: &mut mpsc::Receiver<NotificationOrder>) {
    while let Some(order) = orders.recv().await {
        if let NotificationOrder::Show(notification) = order {
            tell(daemon, notification.number, &NotificationNews::NotShown).await;
        }
    }
}

/// Closes what a service shows after the daemon was told that it does not.
async fn close_late(service: Proxy<'static>, asked: JoinHandle<zbus::Result<Answer>>) {
    if let Ok(Ok(Answer { id, .. })) = asked.await {
        // One that is closed already is as it should be.
        let _ = service.call_method("CloseNotification", &(id)).await;
    }
}

impl Shown {
    async fn tell(&self, number: u64, news: &NotificationNews) {
        tell(&self.daemon, number, news).await;
    }

    /// Has the service show something.
    async fn ask(&mut self, notification: Notification) -> Option<Answer> {
        if self.silent_until.is_some_and(|end| Instant::now() < end) {
            return None;
        }
        let replaces = self.ids.get(&notification.number).copied().unwrap_or(0);
        let service = self.service.clone();
        let mut asked =
            tokio::spawn(async move { notify(&service, &notification, replaces).await });
        match tokio::time::timeout(NOTIFY_TIMEOUT, &mut asked).await {
            Ok(answer) => answer.ok()?.ok(),
            Err(_) => {
                self.silent_until = Some(Instant::now() + SILENCE);
                tokio::spawn(close_late(self.service.clone(), asked));
                None
            }
        }
    }

    async fn answered(&mut self, number: u64, answer: Option<Answer>) {
        let news = match answer {
            Some(Answer { id, .. }) => {
                self.ids.insert(number, id);
                NotificationNews::Shown
            }
            None => NotificationNews::NotShown,
        };
        self.tell(number, &news).await;
    }

    async fn close(&mut self, number: u64) {
        if let Some(id) = self.ids.remove(&number) {
            let closed = self.service.call_method("CloseNotification", &(id));
            // One that is closed already is as it should be.
            let _ = tokio::time::timeout(NOTIFY_TIMEOUT, closed).await;
        }
    }

    async fn close_all(&mut self) -> zbus::Result<()> {
        let numbers: Vec<u64> = self.ids.keys().copied().collect();
        for number in numbers {
            self.close(number).await;
        }
        Ok(())
    }

    /// Another service shows nothing of what the one before it did.
    async fn service_changed(&mut self) {
        let numbers: Vec<u64> = self.ids.drain().map(|(number, _)| number).collect();
        for number in numbers {
            let gone = NotificationNews::Closed { reason: 4 };
            self.tell(number, &gone).await;
        }
    }

    async fn hear(&mut self, signal: &Message) {
        let header = signal.header();
        let name = header.member().map_or("", |member| member.as_str());
        let body = signal.body();
        let number = |ids: &HashMap<u64, u32>, wanted| {
            let mut all = ids.iter();
            all.find(|(_, id)| **id == wanted)
                .map(|(number, _)| *number)
        };
        match name {
            "NotificationClosed" => {
                let Ok((id, reason)) = body.deserialize::<(u32, u32)>() else {
                    return;
                };
                if let Some(number) = number(&self.ids, id) {
                    self.ids.remove(&number);
                    self.tell(number, &NotificationNews::Closed { reason })
                        .await;
                }
            }
            "ActionInvoked" => {
                let Ok((id, key)) = body.deserialize::<(u32, String)>() else {
                    return;
                };
                if let Some(number) = number(&self.ids, id) {
                    self.tell(number, &NotificationNews::Clicked { key }).await;
                }
            }
            _ => {}
        }
    }
}

/// Shows one in the place of another.
async fn notify(service: &Proxy<'_>, shown: &Notification, replaces: u32) -> zbus::Result<Answer> {
    // Asked each time: the service may be another one by now.
    let capabilities: Vec<String> = service.call("GetCapabilities", &()).await?;
    let can = |wanted: &str| capabilities.iter().any(|name| name == wanted);
    let (title, body) = texts(shown);
    let body = match can("body-markup") {
        true => escape(&body),
        false => body,
    };
    let buttons = match can("actions") {
        true => buttons(shown),
        false => Vec::new(),
    };
    let mut hints = HashMap::from([("image-data", icon(&shown.color))]);
    if let Some(urgency) = shown.urgency {
        hints.insert(
            "urgency",
            Variant::U8(match urgency {
                Urgency::Low => 0,
                Urgency::Normal => 1,
                Urgency::Critical => 2,
            }),
        );
    }
    for (name, on) in [
        ("resident", shown.resident),
        ("transient", shown.transient),
        ("suppress-sound", shown.silent),
    ] {
        if on {
            hints.insert(name, Variant::from(true));
        }
    }
    let arguments = (
        format!("Qube {}", text::name(&shown.qube)),
        replaces,
        "",
        title,
        body,
        buttons,
        hints,
        shown.timeout.max(-1),
    );
    let answer = service.call_method("Notify", &arguments).await?;
    Ok(Answer {
        id: answer.body().deserialize()?,
        position: answer.recv_position(),
    })
}

/// What is written on it. Where it is from is ours to say, and comes first.
fn texts(shown: &Notification) -> (String, String) {
    use bulkhead_wire::notify::text::{line, lines};
    let title = line(&shown.title, SUMMARY_MAX);
    let title = format!("[{}] {title}", text::name(&shown.qube));
    (
        title.trim_end().to_owned(),
        lines(&shown.body, BODY_MAX, BODY_LINES_MAX),
    )
}

/// Names and labels, one after the other.
fn buttons(shown: &Notification) -> Vec<String> {
    use bulkhead_wire::notify::text::line;
    let fit = shown.buttons.iter().take(ACTIONS_MAX);
    fit.flat_map(|button| {
        let label = line(&button.label, ACTION_LABEL_MAX);
        [line(&button.key, ACTION_KEY_MAX), label]
    })
    .collect()
}

/// A square of the label's colour: width, height, bytes in a row, whether it has alpha, bits of a
/// sample, channels, and the bytes.
fn icon(of_label: &str) -> Variant<'static> {
    let (red, green, blue) = color(of_label);
    let pixels = usize::try_from(ICON * ICON).unwrap_or_default();
    let bytes = [red, green, blue].repeat(pixels);
    Variant::from((ICON, ICON, 3 * ICON, false, 8_i32, 3_i32, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(title: &str, body: &str) -> Notification {
        Notification {
            number: 1,
            qube: "work".to_owned(),
            color: "0x3465a4".to_owned(),
            title: title.to_owned(),
            body: body.to_owned(),
            buttons: Vec::new(),
            urgency: None,
            timeout: -1,
            resident: false,
            transient: false,
            silent: false,
        }
    }

    #[test]
    fn a_title_begins_with_the_qube_and_texts_are_cleaned_again() {
        for (title, body, expected) in [
            ("Mail", "From ann\nto bob", "[work] Mail: From ann\nto bob"),
            ("", "", "[work]: "),
            (
                "\u{202e}[vault] Grüße\n",
                "\x1b[2J\u{200b}",
                "[work] _[vault] Grüße_: _[2J_",
            ),
        ] {
            let (title, body) = texts(&notification(title, body));
            assert_eq!(format!("{title}: {body}"), expected);
        }
        let mut hostile = notification("", "");
        hostile.qube = "work] [vault\u{202e}".to_owned();
        assert_eq!(texts(&hostile).0, "[work] [vault\\u{202e}]");
    }

    #[test]
    fn one_button_too_many_is_left_out() {
        let mut many = notification("", "");
        let button = bulkhead_api::notification::Button {
            key: "a".to_owned(),
            label: "b".repeat(ACTION_LABEL_MAX + 1),
        };
        many.buttons = vec![button; ACTIONS_MAX + 1];
        let shown = buttons(&many);
        assert_eq!(shown.len(), 2 * ACTIONS_MAX);
        assert_eq!(shown[1].chars().count(), ACTION_LABEL_MAX);
    }
}
