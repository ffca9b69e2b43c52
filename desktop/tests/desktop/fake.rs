//! A stand-in for `bulkheadd` that says what a real one never would, and notes what it is told.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bulkhead_api::call::{Answer, Ask, AuditRecord};
use bulkhead_api::clipboard::ClipboardNews;
use bulkhead_api::qube::{QubeRow, QubeState};
use bulkhead_api::{ApiError, ErrorKind, INTERFACE, PATH, to_json};
use tokio::runtime::Runtime;
use zbus::connection::Builder;
use zbus::{Connection, Guid, interface};

use bulkhead_testing::wait_for;

#[derive(Default)]
struct State {
    asks: Vec<Ask>,
    answers: Vec<String>,
    listeners: Vec<Connection>,
    refusal: Option<ApiError>,
    display: Option<String>,
}

#[derive(Clone, Default)]
struct Manager(Arc<Mutex<State>>);

/// The running stand-in; dropped, it is a daemon that ended.
pub(crate) struct Fake {
    manager: Manager,
    /// Ends with everything that it runs.
    runtime: Option<Runtime>,
    socket: PathBuf,
}

/// A call of `work` for copying to `vault` or `personal`, with `vault` preselected.
pub(crate) fn ask(id: u64) -> Ask {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("a time").as_secs();
    Ask {
        id,
        source: "work".into(),
        source_label: "blue".into(),
        service: "qubes.Filecopy".into(),
        argument: String::new(),
        requested_target: "@default".into(),
        targets: vec![
            "@dispvm:untrusted".into(),
            "personal".into(),
            "vault".into(),
        ],
        default_target: Some("vault".into()),
        asked: now,
        expires: Some(now + 300),
        guivm: None,
        rule: "30-user.policy:12".into(),
        announced: None,
        pasted: None,
    }
}

fn row(name: &str, label: &str, color: &str, kind: &str) -> QubeRow {
    QubeRow {
        name: name.into(),
        state: QubeState::Running,
        kind: kind.into(),
        label: label.into(),
        color: color.into(),
        template: "debian".into(),
        netvm: String::new(),
        memory: 400,
        domid: 1,
    }
}

fn rows() -> Vec<QubeRow> {
    vec![
        row("personal", "yellow", "0xedd400", "app"),
        row("untrusted", "red", "0xcc0000", "disposable_template"),
        row("vault", "black", "0x000000", "app"),
        row("work", "blue", "0x3465a4", "app"),
    ]
}

impl Fake {
    /// Serves at a socket, with these calls waiting.
    pub(crate) fn start(socket: &Path, asks: Vec<Ask>) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).expect("a socket");
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let manager = Manager::default();
        manager.state().asks = asks;
        runtime.spawn(serve(listener, manager.clone()));
        Self {
            manager,
            runtime: Some(runtime),
            socket: socket.to_owned(),
        }
    }

    /// A call waits.
    pub(crate) fn add(&self, ask: Ask) {
        self.manager.state().asks.push(ask.clone());
        self.send("AskAdded", (ask.id, to_json(&ask).expect("JSON")));
    }

    /// A call is taken back.
    pub(crate) fn withdraw(&self, id: u64) {
        self.manager.state().asks.retain(|ask| ask.id != id);
        self.send("AskRemoved", (id, "withdrawn".to_owned()));
    }

    /// A decision is told.
    pub(crate) fn decided(&self, record: &AuditRecord) {
        self.send("AuditRecorded", (to_json(record).expect("JSON"),));
    }

    /// Something is copied, pasted or wiped.
    pub(crate) fn carried(&self, news: &ClipboardNews) {
        self.send("ClipboardChanged", (to_json(news).expect("JSON"),));
    }

    /// Where windows are to be shown.
    pub(crate) fn display(&self) -> Option<String> {
        self.manager.state().display.clone()
    }

    /// Every answer from now on fails so.
    pub(crate) fn refuse_answers(&self, error: ApiError) {
        self.manager.state().refusal = Some(error);
    }

    /// What was answered so far.
    pub(crate) fn answers(&self) -> Vec<String> {
        self.manager.state().answers.clone()
    }

    /// Waits for so many answers.
    #[track_caller]
    pub(crate) fn wait_for_answers(&self, count: usize) -> Vec<String> {
        wait_for("answers", || {
            Some(self.answers()).filter(|given| given.len() >= count)
        })
    }

    /// Waits until somebody listens.
    #[track_caller]
    pub(crate) fn wait_for_listener(&self) {
        wait_for("a listener", || {
            (!self.manager.state().listeners.is_empty()).then_some(())
        });
    }

    fn send<B>(&self, name: &'static str, body: B)
    where
        B: serde::Serialize + zbus::DynamicType + Send + Sync + 'static,
    {
        let listeners = self.manager.state().listeners.clone();
        self.runtime
            .as_ref()
            .expect("it runs")
            .block_on(async move {
                for listener in listeners {
                    let _ = listener
                        .emit_signal(None::<&str>, PATH, INTERFACE, name, &body)
                        .await;
                }
            });
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
        self.manager.state().listeners.clear();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: UnixListener, manager: Manager) {
    listener.set_nonblocking(true).expect("a socket");
    let listener = tokio::net::UnixListener::from_std(listener).expect("a socket");
    while let Ok((stream, _)) = listener.accept().await {
        let manager = manager.clone();
        tokio::spawn(async move {
            let stream = stream.into_std().expect("a stream");
            let built = Builder::unix_stream(stream)
                .server(Guid::generate())
                .p2p()
                .serve_at(PATH, manager)
                .build()
                .await;
            if let Ok(connection) = built {
                connection.closed().await;
            }
        });
    }
}

impl Manager {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("nobody panicked")
    }
}

#[interface(name = "org.bulkhead.Manager1")]
impl Manager {
    fn subscribe(
        &self,
        #[zbus(connection)] connection: &Connection,
        topics: Vec<String>,
    ) -> Result<(), ApiError> {
        assert_eq!(topics, ["asks", "qubes", "audit", "clipboard"]);
        self.state().listeners.push(connection.clone());
        Ok(())
    }

    fn show_windows(&self, display: String, _authority: Vec<u8>) {
        self.state().display = Some(display);
    }

    fn show_notifications(&self) {}

    fn list(&self) -> Result<Vec<QubeRow>, ApiError> {
        Ok(rows())
    }

    fn asks(&self) -> Result<String, ApiError> {
        to_json(&self.state().asks)
    }

    async fn answer(
        &self,
        #[zbus(connection)] connection: &Connection,
        ask: u64,
        answer: Answer,
        target: String,
    ) -> Result<(), ApiError> {
        {
            let mut state = self.state();
            state
                .answers
                .push(format!("{ask} {answer:?} {target}").trim_end().to_owned());
            if let Some(refusal) = &state.refusal {
                return Err(refusal.clone());
            }
            if !state.asks.iter().any(|waiting| waiting.id == ask) {
                return Err(ApiError::new(ErrorKind::NotFound, "no such call"));
            }
            state.asks.retain(|waiting| waiting.id != ask);
        }
        let outcome = match answer {
            Answer::Allow => "allowed",
            Answer::Deny => "denied",
        };
        let body = (ask, outcome);
        let sent = connection.emit_signal(None::<&str>, PATH, INTERFACE, "AskRemoved", &body);
        let _ = sent.await;
        Ok(())
    }
}
