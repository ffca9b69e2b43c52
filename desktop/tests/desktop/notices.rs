//! Notices, with a stand-in for the desktop's service.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bulkhead_api::call::AuditRecord;
use bulkhead_api::clipboard::{Carried, ClipboardNews, What};
use tokio::runtime::Runtime;
use zbus::{Connection, interface};

use crate::atspi::builder;
use crate::prompts::Stage;
use bulkhead_testing::wait_for;

type Shown = Arc<Mutex<Vec<(u32, String, String)>>>;

/// A notification service that reads markup.
struct Service {
    shown: Shown,
}

#[interface(name = "org.freedesktop.Notifications")]
impl Service {
    fn get_capabilities(&self) -> Vec<String> {
        vec!["body".into(), "body-markup".into()]
    }

    #[expect(clippy::too_many_arguments, reason = "the interface is as it is")]
    fn notify(
        &self,
        app: &str,
        replaces: u32,
        _icon: &str,
        title: String,
        body: String,
        actions: Vec<String>,
        _hints: HashMap<String, zbus::OwnedVariant>,
        _timeout: i32,
    ) -> u32 {
        assert_eq!((app, actions.len()), ("Bulkhead", 0));
        let mut shown = self.shown.lock().unwrap();
        shown.push((replaces, title, body));
        if replaces == 0 {
            u32::try_from(shown.len()).unwrap()
        } else {
            replaces
        }
    }
}

/// Serves until it is dropped.
struct Running {
    shown: Shown,
    _connection: Connection,
    _runtime: Runtime,
}

fn service(bus: &str) -> Running {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
    let shown = Shown::default();
    let service = Service {
        shown: Arc::clone(&shown),
    };
    let connection = runtime.block_on(async {
        let served = builder(bus).serve_at("/org/freedesktop/Notifications", service);
        let named = served.name("org.freedesktop.Notifications");
        named.build().await.unwrap()
    });
    Running {
        shown,
        _connection: connection,
        _runtime: runtime,
    }
}

pub(crate) fn denied(source: &str) -> AuditRecord {
    AuditRecord {
        time: 0,
        source: source.into(),
        requested_target: "vault".into(),
        target: String::new(),
        service: "qubes.Filecopy+".into(),
        decision: "deny".into(),
        by: "policy".into(),
        rule: "30-user.policy:7".into(),
        notify: true,
        count: 1,
        since: None,
    }
}

#[test]
fn refused_calls_are_told_within_bounds_and_without_markup() {
    let stage = Stage::start();
    let service = service(stage.session.bus());
    let mut quiet = denied("quiet");
    quiet.notify = false;
    stage.fake.decided(&quiet);
    for _ in 0..15 {
        stage.fake.decided(&denied("work"));
    }
    let mut hostile = denied("<b>\u{202e}");
    hostile.service = "<img src='x'/>+".into();
    stage.fake.decided(&hostile);
    let shown = wait_for("the notices and a count", || {
        let shown = service.shown.lock().unwrap().clone();
        (shown.len() >= 5).then_some(shown)
    });
    let told: Vec<_> = shown
        .iter()
        .map(|(_, title, body)| format!("{title}: {body}"))
        .collect();
    let refused = "Call of work refused: work may not copy files to vault (30-user.policy:7)";
    assert_eq!(
        told,
        [
            refused,
            refused,
            refused,
            "Call of <b>\\u{202e} refused: &lt;b&gt;\\u{202e} may not call &lt;img src='x'/&gt; in vault (30-user.policy:7)",
            "12 more calls of work refused: See them with: bulkhead audit",
        ]
    );
    // The next count takes the place of the first.
    stage.fake.decided(&denied("work"));
    let shown = wait_for("the next count", || {
        let shown = service.shown.lock().unwrap().clone();
        (shown.len() >= 6).then_some(shown)
    });
    assert_eq!(
        (shown[5].0, shown[5].1.as_str()),
        (5, "1 more call of work refused")
    );
}

#[test]
fn the_sessions_display_is_offered_and_what_is_carried_between_clipboards_told() {
    let stage = Stage::start();
    let service = service(stage.session.bus());
    let display = wait_for("an offer", || stage.fake.display());
    assert_eq!(display, stage.session.display());
    let news = |number| {
        stage.fake.carried(&ClipboardNews::Copied(Carried {
            source: "work".into(),
            what: What::Text,
            bytes: number,
            copied: 0,
            expires: 60,
        }));
        wait_for("a notice", || {
            let shown = service.shown.lock().unwrap().clone();
            shown.get(number as usize - 1).cloned()
        })
    };
    let first = news(1);
    assert_eq!(
        (first.1.as_str(), first.2.as_str()),
        (
            "Copied from work",
            "1 byte of text. Press the paste keys in a window of another qube to put it on its \
             clipboard."
        )
    );
    // It takes the place of the one before.
    assert_eq!((first.0, news(2).0), (0, 1));
}
