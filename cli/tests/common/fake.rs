//! A stand-in for `bulkheadd`: the same interface over the same kind of socket, with answers that
//! a test chooses, and a note of everything it was asked.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use bulkhead_api::call::{Answer, CallRequest, DataConnection, RunRequest};
use bulkhead_api::event::Event;
use bulkhead_api::qube::{QubeRow, QubeState};
use bulkhead_api::{ApiError, ErrorKind, INTERFACE, PATH, to_json};
use bulkhead_qrexec::launch::{self, Diagnostics};
use bulkhead_qrexec::pump::{self, Options};
use bulkhead_vchan::SocketChannel;
use bulkhead_wire::qrexec::data::Role;
use zbus::connection::Builder;
use zbus::{Connection, Guid, interface};

/// What the stand-in answers.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) rows: Vec<QubeRow>,
    /// By the name of the method; methods that are not here succeed with nothing.
    pub(crate) replies: HashMap<&'static str, Result<String, ApiError>>,
    /// Sent before an apply or rollback answers.
    pub(crate) progress: Vec<Event>,
    /// Sent once signals are asked for.
    pub(crate) events: Vec<Event>,
    /// Content of every log.
    pub(crate) log: Vec<u8>,
    /// What becomes of a command: run here, or none with this reason.
    pub(crate) refuse_connection: Option<String>,
    /// A qube that breaks off in the middle of its output.
    pub(crate) break_off: bool,
}

impl Script {
    pub(crate) fn reply(mut self, method: &'static str, json: impl Into<String>) -> Self {
        self.replies.insert(method, Ok(json.into()));
        self
    }

    pub(crate) fn fail(mut self, method: &'static str, error: ApiError) -> Self {
        self.replies.insert(method, Err(error));
        self
    }

    pub(crate) fn qubes(mut self, rows: Vec<QubeRow>) -> Self {
        self.rows = rows;
        self
    }
}

/// One row of a listing.
pub(crate) fn row(name: &str, state: QubeState, label: (&str, &str), netvm: &str) -> QubeRow {
    let running = !matches!(state, QubeState::Stopped | QubeState::Failed);
    QubeRow {
        name: name.into(),
        state,
        kind: "app".into(),
        label: label.0.into(),
        color: label.1.into(),
        template: "debian".into(),
        netvm: netvm.into(),
        memory: if running { 400 } else { 0 },
        domid: u32::from(running),
    }
}

/// A small desktop.
pub(crate) fn desktop() -> Vec<QubeRow> {
    use QubeState::{Failed, Paused, Running, Stopped};
    let template = QubeRow {
        kind: "disposable_template".into(),
        ..row("untrusted", Stopped, ("red", "0xcc0000"), "sys-firewall")
    };
    vec![
        row("personal", Stopped, ("yellow", "0xedd400"), "sys-firewall"),
        row("sys-firewall", Running, ("green", "0x73d216"), "sys-net"),
        row("sys-net", Failed, ("red", "0xcc0000"), ""),
        template,
        row("vault", Paused, ("black", "0x000000"), ""),
        row("work", Running, ("blue", "0x3465a4"), "sys-firewall"),
    ]
}

/// The running stand-in. It ends with the test.
pub(crate) struct Fake {
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub(crate) fn start(script: Script) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("bus")).expect("a socket");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new(Shared {
            script,
            asked: Arc::clone(&asked),
            folder: folder.path().to_owned(),
        });
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, shared));
        });
        Self { folder, asked }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("bus")
    }

    /// The command, talking to this stand-in.
    pub(crate) fn bulkhead(&self, words: &[&str]) -> Command {
        let mut command = super::bulkhead(words);
        command.env("BULKHEAD_SOCKET", self.socket());
        command
    }

    /// Runs it and tells what came out.
    #[must_use = "either snapshot what came out or check it"]
    pub(crate) fn tell(&self, words: &[&str]) -> String {
        let output = self.bulkhead(words).output().expect("the command starts");
        super::told(&output, Some(self.folder()))
    }

    /// What was asked, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panicked").clone()
    }
}

struct Shared {
    script: Script,
    asked: Arc<Mutex<Vec<String>>>,
    folder: PathBuf,
}

async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    listener.set_nonblocking(true).expect("a socket to wait on");
    let listener = tokio::net::UnixListener::from_std(listener).expect("a socket");
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let stream = stream.into_std().expect("a socket");
            let built = Builder::unix_stream(stream)
                .server(Guid::generate())
                .p2p()
                .serve_at(PATH, Manager(shared))
                .build()
                .await;
            if let Ok(connection) = built {
                connection.closed().await;
            }
        });
    }
}

struct Manager(Arc<Shared>);

impl Manager {
    fn note(&self, what: String) {
        self.0.asked.lock().expect("nobody panicked").push(what);
    }

    fn simple(&self, method: &'static str, what: &str) -> Result<(), ApiError> {
        self.note(format!("{method} {what}").trim_end().to_owned());
        // A failure may be for one qube only: `stop vault`.
        for key in [method, &*format!("{method} {what}")] {
            if let Some(Err(error)) = self.0.script.replies.get(key) {
                return Err(error.clone());
            }
        }
        Ok(())
    }

    fn json(&self, method: &'static str, request: &str) -> Result<String, ApiError> {
        self.note(format!("{method} {request}").trim_end().to_owned());
        let reply = self.0.script.replies.get(method);
        reply
            .cloned()
            .unwrap_or_else(|| Err(ApiError::new(ErrorKind::Internal, "the test has no reply")))
    }

    fn connect(&self, command: String) -> DataConnection {
        let path = self.0.folder.join("vchan.0.7.600.sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket");
        let (life, end) = std::io::pipe().expect("a pipe");
        let refuse = self.0.script.refuse_connection.clone();
        let break_off = self.0.script.break_off;
        std::thread::spawn(move || {
            let mut end = File::from(OwnedFd::from(end));
            if let Some(reason) = refuse {
                let _ = end.write_all(reason.as_bytes());
                return;
            }
            let stream = UnixStream::connect(path).expect("the command listens");
            if break_off {
                let _ = end.write_all(b"the qube was killed");
                drop(stream);
                return;
            }
            let mut channel = SocketChannel::new(stream.into()).expect("a channel");
            let mut shell = launch::Program::new("/bin/sh");
            shell.args(["-c", &command]);
            let started = launch::start(&shell, Diagnostics::Stream);
            let (streams, child) = started.expect("a shell");
            let options = Options::new(Role::Service);
            let _ = pump::run(&mut channel, streams, Some(child), options);
        });
        DataConnection {
            qube: "work".into(),
            domain: 7,
            port: 600,
            listener: OwnedFd::from(listener).into(),
            rings: Vec::new(),
            life: OwnedFd::from(life).into(),
        }
    }
}

async fn send(connection: &Connection, event: &Event) {
    let emit = async |name: &str, body: &(dyn Body + Sync)| body.emit(connection, name).await;
    match event {
        Event::QubeChanged(row) => {
            emit("QubeChanged", &(row.name.clone(), row.state, row.clone())).await;
        }
        Event::QubeRemoved { name } => emit("QubeRemoved", &(name.clone(),)).await,
        Event::AskAdded(ask) => {
            emit("AskAdded", &(ask.id, to_json(ask).expect("JSON"))).await;
        }
        Event::AskRemoved { id, outcome } => emit("AskRemoved", &(*id, outcome.clone())).await,
        Event::ApplyStarted { apply, who, steps } => {
            emit("ApplyStarted", &(*apply, who.clone(), *steps)).await;
        }
        Event::StepStarted { apply, step, text } => {
            emit("StepStarted", &(*apply, *step, text.clone())).await;
        }
        Event::StepFinished { apply, step, error } => {
            emit("StepFinished", &(*apply, *step, error.clone())).await;
        }
        Event::Undoing { apply, because } => emit("Undoing", &(*apply, because.clone())).await,
        Event::StepUndone { apply, step, error } => {
            emit("StepUndone", &(*apply, *step, error.clone())).await;
        }
        Event::AuditRecorded(record) => {
            emit("AuditRecorded", &(to_json(record).expect("JSON"),)).await;
        }
        other => unreachable!("the stand-in does not send {other:?}"),
    }
}

/// The arguments of a signal.
trait Body {
    fn emit<'a>(
        &'a self,
        connection: &'a Connection,
        name: &'a str,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

impl<T: serde::Serialize + zbus::DynamicType + Send + Sync> Body for T {
    fn emit<'a>(
        &'a self,
        connection: &'a Connection,
        name: &'a str,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let sent = connection.emit_signal(None::<&str>, PATH, INTERFACE, name, self);
            // The command may have ended already.
            let _ = sent.await;
        })
    }
}

#[interface(name = "org.bulkhead.Manager1")]
impl Manager {
    fn version(&self) -> (String, u32) {
        ("0".into(), 1)
    }

    async fn subscribe(
        &self,
        #[zbus(connection)] connection: &Connection,
        topics: Vec<String>,
    ) -> Result<(), ApiError> {
        self.note(format!("subscribe {}", topics.join(" ")));
        let shared = Arc::clone(&self.0);
        let connection = connection.clone();
        tokio::spawn(async move {
            for event in &shared.script.events {
                send(&connection, event).await;
            }
        });
        Ok(())
    }

    fn list(&self) -> Result<Vec<QubeRow>, ApiError> {
        self.simple("list", "")?;
        Ok(self.0.script.rows.clone())
    }

    fn info(&self, qube: &str) -> Result<String, ApiError> {
        self.json("info", qube)
    }

    fn revert(&self, qube: &str, revision: u64) -> Result<String, ApiError> {
        self.json("revert", &format!("{qube} {revision}"))
    }

    fn start(&self, qube: &str) -> Result<(), ApiError> {
        self.simple("start", qube)
    }

    fn stop(&self, qube: &str, timeout: u32, force: bool) -> Result<(), ApiError> {
        let force = if force { " force" } else { "" };
        match timeout {
            0 => self.simple("stop", &format!("{qube}{force}")),
            seconds => self.simple("stop", &format!("{qube} {seconds}{force}")),
        }
    }

    fn kill(&self, qube: &str, force: bool) -> Result<(), ApiError> {
        let force = if force { " force" } else { "" };
        self.simple("kill", &format!("{qube}{force}"))
    }

    fn pause(&self, qube: &str) -> Result<(), ApiError> {
        self.simple("pause", qube)
    }

    fn unpause(&self, qube: &str) -> Result<(), ApiError> {
        self.simple("unpause", qube)
    }

    fn restart(&self, qube: &str, timeout: u32, force: bool) -> Result<(), ApiError> {
        let force = if force { " force" } else { "" };
        self.simple("restart", &format!("{qube} {timeout}{force}"))
    }

    fn run(&self, request: RunRequest) -> Result<DataConnection, ApiError> {
        let command = String::from_utf8(request.command).expect("text");
        let RunRequest {
            qube,
            user,
            disposable,
            autostart,
            ..
        } = request;
        let what = format!("{qube:?} {user:?} {disposable} {autostart} {command}");
        self.simple("run", &what)?;
        Ok(self.connect(command))
    }

    fn call(&self, request: CallRequest) -> Result<DataConnection, ApiError> {
        self.simple("call", &format!("{request:?}"))?;
        Ok(self.connect(format!("echo {}", request.service)))
    }

    fn plan(&self, request: &str) -> Result<String, ApiError> {
        self.json("plan", request)
    }

    async fn apply(
        &self,
        #[zbus(connection)] connection: &Connection,
        request: &str,
    ) -> Result<String, ApiError> {
        for event in &self.0.script.progress {
            send(connection, event).await;
        }
        self.json("apply", request)
    }

    fn status(&self) -> Result<String, ApiError> {
        self.json("status", "")
    }

    fn generations(&self) -> Result<String, ApiError> {
        self.json("generations", "")
    }

    fn generation(&self, number: u64) -> Result<String, ApiError> {
        self.json("generation", &number.to_string())
    }

    fn diff(&self, from: u64, to: u64) -> Result<String, ApiError> {
        self.json("diff", &format!("{from} {to}"))
    }

    async fn rollback(
        &self,
        #[zbus(connection)] connection: &Connection,
        request: &str,
    ) -> Result<String, ApiError> {
        if request.contains("\"dry_run\":true") {
            self.note("rollback, dry".to_owned());
            let reply = self.0.script.replies.get("dry rollback").cloned();
            return reply.expect("the test has a reply");
        }
        for event in &self.0.script.progress {
            send(connection, event).await;
        }
        self.json("rollback", request)
    }

    fn gc(&self, request: &str) -> Result<String, ApiError> {
        self.json("gc", request)
    }

    fn asks(&self) -> Result<String, ApiError> {
        self.json("asks", "")
    }

    fn answer(&self, ask: u64, answer: Answer, target: &str) -> Result<(), ApiError> {
        self.simple("answer", format!("{ask} {answer:?} {target}").trim_end())
    }

    fn audit_tail(&self, filter: &str) -> Result<String, ApiError> {
        self.json("audit_tail", filter)
    }

    fn open_log(&self, qube: &str) -> Result<zbus::OwnedFd, ApiError> {
        self.simple("open_log", qube)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.0.folder).expect("a file");
        file.write_all(&self.0.script.log).expect("a log");
        let again = File::open(file.path()).expect("the same file");
        Ok(OwnedFd::from(again).into())
    }
}
