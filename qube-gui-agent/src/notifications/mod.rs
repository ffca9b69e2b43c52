//! `qube-gui-agent --notifications`: the notification service of the session bus, by which
//! applications show theirs on the desktop of dom0.
//!
//! A daemon of the qube's own has the name where there is one: ours waits for it, and gives it up
//! to whoever wants to replace it.

use std::collections::HashMap;

use bulkhead_wire::causes::chain;
use bulkhead_wire::notify::{self, Notification, Urgency};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use zbus::connection::Builder;
use zbus::fdo::RequestNameFlags;
use zbus::object_server::ResponseDispatchNotifier;
use zbus::{Connection, OwnedVariant, interface};

use call::{Job, News};

use crate::dom0;

mod call;

/// The name, and the interface.
const NAME: &str = "org.freedesktop.Notifications";
const PATH: &str = "/org/freedesktop/Notifications";

/// The version of the specification that is served.
const SPECIFICATION: &str = "1.2";

/// Bytes of a title that are passed on: far more than are shown.
const SUMMARY_MAX: usize = 4 * 1024;
/// Bytes of a text. With what else there is, it stays below what dom0 looks at.
const BODY_MAX: usize = 32 * 1024;

/// Requests of applications that wait.
const QUEUE: usize = 64;

const _: () = assert!(SUMMARY_MAX + BODY_MAX < notify::FIELDS_MAX);

#[derive(Debug, Error)]
enum ServeError {
    #[error("there is no session bus to serve")]
    Bus(#[source] zbus::Error),
    #[error("the session bus gives nobody the name {NAME}")]
    Name(#[source] zbus::Error),
    #[error("the session bus is gone")]
    Gone,
    #[error("there are no resources to serve")]
    Runtime(#[source] std::io::Error),
}

/// Serves until the bus is gone; why it is over.
pub(crate) fn run() -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let error = match runtime {
        Ok(runtime) => runtime.block_on(serve()),
        Err(error) => ServeError::Runtime(error),
    };
    chain(&error)
}

async fn serve() -> ServeError {
    let client = dom0::client();
    let (jobs, jobs_out) = mpsc::channel(QUEUE);
    let (news_in, mut news) = mpsc::channel(QUEUE);
    tokio::spawn(call::keep(client, jobs_out, news_in));
    // Served before the connection is there: what came until then would be lost.
    let builder = Builder::session().serve_at(PATH, Service { jobs });
    let connection = match builder.build().await {
        Ok(connection) => connection,
        Err(error) => return ServeError::Bus(error),
    };
    let flags = RequestNameFlags::ALLOW_REPLACEMENT;
    if let Err(error) = connection.request_name_with_flags(NAME, flags).await {
        return ServeError::Name(error);
    }
    loop {
        let said = tokio::select! {
            () = connection.closed() => return ServeError::Gone,
            news = news.recv() => match news {
                Some(news) => tell(&connection, news).await,
                None => return ServeError::Gone,
            },
        };
        if let Err(error) = said {
            tracing::warn!(%error, "an application is not told of its notification");
        }
    }
}

async fn tell(connection: &Connection, news: News) -> zbus::Result<()> {
    let to_all = None::<&str>;
    match news {
        News::Shown { told } => {
            told.await;
            Ok(())
        }
        News::Closed { id, why } => {
            let body = (id, why.number());
            connection
                .emit_signal(to_all, PATH, NAME, "NotificationClosed", &body)
                .await
        }
        News::Invoked { id, action } => {
            let body = (id, action);
            connection
                .emit_signal(to_all, PATH, NAME, "ActionInvoked", &body)
                .await
        }
    }
}

#[derive(Debug)]
struct Service {
    jobs: mpsc::Sender<Job>,
}

#[interface(name = "org.freedesktop.Notifications")]
impl Service {
    fn get_capabilities(&self) -> Vec<&'static str> {
        vec!["actions", "body"]
    }

    #[zbus(out_args("name", "vendor", "version", "spec_version"))]
    fn get_server_information(&self) -> (&str, &str, &str, &str) {
        let version = env!("CARGO_PKG_VERSION");
        ("Bulkhead", "Bulkhead", version, SPECIFICATION)
    }

    #[expect(clippy::too_many_arguments, reason = "the interface is as it is")]
    async fn notify(
        &self,
        _app_name: String,
        replaces_id: u32,
        _app_icon: String,
        summary: String,
        body: String,
        actions: Vec<String>,
        hints: HashMap<String, OwnedVariant>,
        expire_timeout: i32,
    ) -> zbus::fdo::Result<ResponseDispatchNotifier<u32>> {
        if !actions.len().is_multiple_of(2) {
            let why = "an action has no label".to_owned();
            return Err(zbus::fdo::Error::InvalidArgs(why));
        }
        let flag = |name: &str| hints.get(name).is_some_and(is_on);
        let notification = Notification {
            replaces: replaces_id,
            summary: cut(summary, SUMMARY_MAX),
            body: cut(body, BODY_MAX),
            actions: pairs(actions),
            urgency: hints.get("urgency").and_then(urgency),
            timeout: expire_timeout.max(-1),
            resident: flag("resident"),
            transient: flag("transient"),
            silent: flag("suppress-sound"),
        };
        let (answer, answered) = oneshot::channel();
        let job = Job::Show {
            notification,
            answer,
        };
        let gone = || zbus::fdo::Error::Failed("the session ends".to_owned());
        self.jobs.send(job).await.map_err(|_| gone())?;
        match answered.await {
            Ok(Ok(id)) => Ok(id),
            Ok(Err(why)) => Err(zbus::fdo::Error::Failed(why)),
            Err(_) => Err(gone()),
        }
    }

    async fn close_notification(&self, id: u32) -> zbus::fdo::Result<()> {
        let gone = |_| zbus::fdo::Error::Failed("the session ends".to_owned());
        self.jobs.send(Job::Close { id }).await.map_err(gone)
    }
}

fn is_on(value: &OwnedVariant) -> bool {
    bool::try_from(value).unwrap_or(false)
}

fn urgency(value: &OwnedVariant) -> Option<Urgency> {
    match u8::try_from(value).ok()? {
        0 => Some(Urgency::Low),
        1 => Some(Urgency::Normal),
        2 => Some(Urgency::Critical),
        _ => None,
    }
}

fn pairs(actions: Vec<String>) -> Vec<notify::Action> {
    let mut all = actions.into_iter();
    let next = || {
        let (key, label) = (all.next()?, all.next()?);
        Some(notify::Action { key, label })
    };
    // What is more is not shown, and might be more than is looked at.
    std::iter::from_fn(next).take(notify::ACTIONS_MAX).collect()
}

fn cut(mut text: String, max: usize) -> String {
    text.truncate(text.floor_char_boundary(max));
    text
}
