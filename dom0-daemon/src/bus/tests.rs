//! Real clients on a real socket, over a backend that remembers what it was asked.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bulkhead_api::call::{
    Answer, Ask, AuditFilter, AuditRecord, CallRequest, DataConnection, RunRequest,
};
use bulkhead_api::clipboard::Carried;
use bulkhead_api::event::Event;
use bulkhead_api::qube::{QubeInfo, QubeRow, QubeState, Reverted};
use bulkhead_api::{ApiError, ErrorKind, Manager1Proxy};
use bulkhead_model::name::QubeName;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use zbus::Connection;
use zbus::connection::Builder;

use super::listener::{CONNECTIONS_MAX, CONNECTIONS_RESERVED, Patience};
use super::{Backend, Caller, Events, Gate, Listener};
use crate::hypervisor::HostReport;
use crate::notifications::{Board, NotificationOffer};
use crate::ops::{ApplyRequest, GcRequest, PlanRequest, RollbackRequest};
use crate::runtime::Dependents;
use crate::windows::{Display, DisplayOffer, Displays};

/// Long enough for a loaded machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
struct Fake {
    asked: Mutex<Vec<String>>,
    displays: Arc<Displays>,
    notifications: Arc<Board>,
}

impl Fake {
    fn note(&self, what: impl Into<String>) {
        self.asked.lock().unwrap().push(what.into());
    }
}

fn row(name: &str) -> QubeRow {
    QubeRow {
        name: name.into(),
        state: QubeState::Running,
        kind: "app".into(),
        label: "blue".into(),
        color: "0x0000ff".into(),
        template: "debian".into(),
        netvm: String::new(),
        memory: 400,
        domid: 7,
    }
}

fn missing(qube: &QubeName) -> ApiError {
    let mut error = ApiError::new(ErrorKind::NotFound, format!("there is no qube `{qube}`"));
    error.causes.push("nobody declared it".into());
    error.hint("List them with `bulkhead ls`.")
}

#[async_trait]
impl Backend for Fake {
    async fn list(&self) -> Result<Vec<QubeRow>, ApiError> {
        Ok(vec![row("personal"), row("work")])
    }
    async fn info(&self, qube: &QubeName) -> Result<QubeInfo, ApiError> {
        Err(missing(qube))
    }
    async fn start(&self, qube: &QubeName) -> Result<(), ApiError> {
        self.note(format!("start {qube}"));
        Ok(())
    }
    async fn stop(
        &self,
        qube: &QubeName,
        timeout: Option<Duration>,
        dependents: Dependents,
    ) -> Result<(), ApiError> {
        self.note(format!("stop {qube} {timeout:?} {dependents:?}"));
        Ok(())
    }
    async fn kill(&self, qube: &QubeName, _dependents: Dependents) -> Result<(), ApiError> {
        Err(missing(qube))
    }
    async fn pause(&self, qube: &QubeName) -> Result<(), ApiError> {
        Err(missing(qube))
    }
    async fn unpause(&self, qube: &QubeName) -> Result<(), ApiError> {
        Err(missing(qube))
    }
    async fn revert(&self, qube: &QubeName, to: Option<u64>) -> Result<Reverted, ApiError> {
        let to = to.ok_or_else(|| missing(qube))?;
        let (qube, revision) = (qube.to_string(), to + 1);
        Ok(Reverted { qube, to, revision })
    }
    async fn restart(
        &self,
        qube: &QubeName,
        timeout: Option<Duration>,
        dependents: Dependents,
    ) -> Result<(), ApiError> {
        self.note(format!("restart {qube} {timeout:?} {dependents:?}"));
        Ok(())
    }
    async fn run(&self, request: RunRequest, _who: &Caller) -> Result<DataConnection, ApiError> {
        let (life, mut other) = UnixStream::pair().unwrap();
        other.write_all(b"alive").unwrap();
        Ok(DataConnection {
            qube: request.qube,
            domain: 7,
            port: 513,
            listener: OwnedFd::from(life.try_clone().unwrap()).into(),
            rings: Vec::new(),
            life: OwnedFd::from(life).into(),
        })
    }
    async fn call(&self, _request: CallRequest, _who: &Caller) -> Result<DataConnection, ApiError> {
        Err(ApiError::new(ErrorKind::Denied, "refused"))
    }
    async fn create_disposable(&self, template: Option<&QubeName>) -> Result<String, ApiError> {
        Ok(format!("disp1 of {template:?}"))
    }
    async fn plan(&self, _request: PlanRequest) -> Result<Value, ApiError> {
        Ok(json!({"text": "", "fingerprint": "f", "destroys": [], "steps": 0}))
    }
    async fn apply(&self, request: ApplyRequest, caller: &Caller) -> Result<Value, ApiError> {
        self.note(format!(
            "apply `{}` owner {}",
            request.message, caller.owner
        ));
        Ok(json!({"outcome": "nothing"}))
    }
    async fn status(&self) -> Result<Value, ApiError> {
        Ok(Value::Null)
    }
    async fn host(&self) -> Result<HostReport, ApiError> {
        Ok(HostReport {
            hypervisor: "none".to_owned(),
            warnings: Vec::new(),
            facts: Default::default(),
            machine: None,
        })
    }
    async fn generations(&self) -> Result<Value, ApiError> {
        Ok(json!([]))
    }
    async fn generation(&self, number: Option<u64>) -> Result<Value, ApiError> {
        Ok(json!({"number": number}))
    }
    async fn diff(&self, from: Option<u64>, to: Option<u64>) -> Result<Value, ApiError> {
        Ok(json!([from, to]))
    }
    async fn rollback(&self, _request: RollbackRequest, _who: &Caller) -> Result<Value, ApiError> {
        Ok(Value::Null)
    }
    async fn gc(&self, _request: GcRequest) -> Result<Value, ApiError> {
        Ok(Value::Null)
    }
    async fn asks(&self) -> Result<Vec<Ask>, ApiError> {
        Ok(Vec::new())
    }
    async fn answer(
        &self,
        ask: u64,
        answer: Answer,
        target: Option<&str>,
        _caller: &Caller,
    ) -> Result<(), ApiError> {
        self.note(format!("answer {ask} {answer:?} {target:?}"));
        Ok(())
    }
    async fn clipboard(&self) -> Result<Option<Carried>, ApiError> {
        Ok(None)
    }
    async fn clear_clipboard(&self) -> Result<Option<Carried>, ApiError> {
        Ok(None)
    }
    async fn offer_display(&self, name: &str, authority: &[u8]) -> Result<DisplayOffer, ApiError> {
        let display = Display::new(name, authority)
            .map_err(|error| ApiError::from_error(ErrorKind::Invalid, &error))?;
        Ok(self.displays.offer(display))
    }
    async fn offer_notifications(&self) -> Result<NotificationOffer, ApiError> {
        self.note("offer_notifications");
        Ok(self.notifications.offer())
    }
    async fn audit_tail(&self, _filter: AuditFilter) -> Result<Vec<AuditRecord>, ApiError> {
        Ok(Vec::new())
    }
    async fn open_log(&self, _qube: Option<&QubeName>) -> Result<OwnedFd, ApiError> {
        Ok(std::fs::File::open("/dev/null").unwrap().into())
    }
}

/// A served socket in a folder of its own.
struct Served {
    _folder: TempDir,
    path: PathBuf,
    fake: Arc<Fake>,
    events: Events,
}

/// A user id that nobody has here, so that a gate of it knows this process as a stranger.
const NOBODY: u32 = 4_000_000_000;

fn serve(gate: Gate) -> Served {
    serve_with(gate, |listener| listener)
}

/// One that soon loses its patience with who does not read.
fn serve_impatiently() -> Served {
    serve_with_handshake(PATIENCE)
}

/// One whose patience with a handshake lasts so long.
fn serve_with_handshake(handshake: Duration) -> Served {
    let patience = Patience {
        handshake,
        look: Duration::from_millis(50),
    };
    serve_with(open_gate(), |listener| listener.with_patience(patience))
}

fn serve_with(gate: Gate, change: impl FnOnce(Listener) -> Listener) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let fake = Arc::new(Fake::default());
    let events = Events::new();
    let listener = change(Listener::bind(&path, gate).unwrap());
    let backend: Arc<dyn Backend> = fake.clone();
    tokio::spawn(listener.serve(backend, events.clone()));
    Served {
        _folder: folder,
        path,
        fake,
        events,
    }
}

fn open_gate() -> Gate {
    Gate::of_this_process()
}

impl Served {
    async fn connect(&self) -> Result<Connection, zbus::Error> {
        let stream = UnixStream::connect(&self.path).unwrap();
        Builder::unix_stream(stream).p2p().build().await
    }

    async fn proxy(&self) -> Manager1Proxy<'static> {
        let connection = self.connect().await.unwrap();
        Manager1Proxy::new(&connection).await.unwrap()
    }
}

#[tokio::test]
async fn answers_with_native_types_and_named_errors() {
    let served = serve(open_gate());
    let proxy = served.proxy().await;
    assert_eq!(
        proxy.list().await.unwrap(),
        vec![row("personal"), row("work")]
    );
    let error = proxy.kill("nope", false).await.unwrap_err();
    assert_eq!(error, missing(&QubeName::new("nope").unwrap()));
    proxy.start("work").await.unwrap();
    proxy.stop("work", 0, false).await.unwrap();
    proxy.restart("work", 3, true).await.unwrap();
    proxy.answer(9, Answer::Allow, "").await.unwrap();
    insta::assert_debug_snapshot!(*served.fake.asked.lock().unwrap(), @r#"
    [
        "start work",
        "stop work None Respect",
        "restart work Some(3s) CutOff",
        "answer 9 Allow None",
    ]
    "#);
}

#[tokio::test]
async fn checks_what_comes_in() {
    let served = serve(open_gate());
    let proxy = served.proxy().await;
    for bad in ["", "../etc", "dom0", &"a".repeat(4096)] {
        assert_eq!(proxy.start(bad).await.unwrap_err().kind, ErrorKind::Invalid);
    }
    for bad in ["", "{", "7", r#"{"surprise":1}"#] {
        let error = proxy.apply(bad).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "`{bad}`");
    }
    let error = proxy.subscribe(&["everything"]).await.unwrap_err();
    insta::assert_snapshot!(error, @"there is no topic `everything`");
    assert!(served.fake.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_a_client_asks_with_is_what_the_daemon_reads() {
    let served = serve(open_gate());
    let proxy = served.proxy().await;
    let request = bulkhead_api::change::ApplyRequest {
        message: "hello".into(),
        ..Default::default()
    };
    let request = bulkhead_api::to_json(&request).unwrap();
    proxy.apply(&request).await.unwrap();
    let plan = bulkhead_api::to_json(&bulkhead_api::change::PlanRequest::default()).unwrap();
    proxy.plan(&plan).await.unwrap();
    let back = bulkhead_api::change::RollbackRequest::default();
    proxy
        .rollback(&bulkhead_api::to_json(&back).unwrap())
        .await
        .unwrap();
    let gc = bulkhead_api::to_json(&bulkhead_api::change::GcRequest::default()).unwrap();
    proxy.gc(&gc).await.unwrap();
    assert_eq!(
        *served.fake.asked.lock().unwrap(),
        ["apply `hello` owner true"]
    );
}

#[tokio::test]
async fn hands_over_descriptors() {
    let served = serve(open_gate());
    let proxy = served.proxy().await;
    let request = RunRequest {
        qube: "work".into(),
        user: String::new(),
        command: b"true".to_vec(),
        disposable: false,
        autostart: true,
    };
    let data = proxy.run(&request).await.unwrap();
    let mut life = UnixStream::from(data.life.as_fd().try_clone_to_owned().unwrap());
    let mut said = [0; 5];
    life.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"alive");
}

#[tokio::test]
async fn signals_come_to_those_who_asked() {
    let served = serve(open_gate());
    let (quiet, keen) = (served.proxy().await, served.proxy().await);
    let mut unheard = quiet.receive_qube_removed().await.unwrap();
    let mut removed = keen.receive_qube_removed().await.unwrap();
    let mut changed = keen.receive_qube_changed().await.unwrap();
    keen.subscribe(&["qubes"]).await.unwrap();
    // A second time must not double them.
    keen.subscribe(&[]).await.unwrap();
    keen.subscribe(&["qubes", "asks"]).await.unwrap();
    served.events.send(Event::QubeChanged(row("work")));
    served.events.send(Event::GenerationChanged { number: 3 });
    for name in ["work", "last"] {
        served.events.send(Event::QubeRemoved { name: name.into() });
    }
    let signal = tokio::time::timeout(PATIENCE, changed.next())
        .await
        .unwrap();
    assert_eq!(signal.unwrap().args().unwrap().row, row("work"));
    for name in ["work", "last"] {
        let signal = tokio::time::timeout(PATIENCE, removed.next())
            .await
            .unwrap();
        assert_eq!(signal.unwrap().args().unwrap().name, name);
    }
    // Served in order: had a signal been sent to this one, it would be here by now.
    quiet.list().await.unwrap();
    assert!(
        futures_util::FutureExt::now_or_never(unheard.next()).is_none(),
        "a client that never subscribed got a signal"
    );
}

#[tokio::test]
async fn a_client_that_falls_behind_is_told() {
    let served = serve(open_gate());
    let proxy = served.proxy().await;
    let mut lost = proxy.receive_signals_lost().await.unwrap();
    proxy.subscribe(&["qubes"]).await.unwrap();
    // Without a pause between them, so that the pump cannot keep up.
    for number in 0..5000 {
        served.events.send(Event::GenerationChanged { number });
    }
    let signal = tokio::time::timeout(PATIENCE, lost.next()).await.unwrap();
    assert!(*signal.unwrap().args().unwrap().count() > 0);
}

#[tokio::test]
async fn a_stranger_is_refused_with_a_reason() {
    let served = serve(Gate {
        root: NOBODY,
        own: NOBODY,
        group: None,
    });
    let error = served.connect().await.unwrap_err().to_string();
    assert!(
        error.contains("is not root, and this machine has no group bulkhead"),
        "{error}"
    );
}

#[tokio::test]
async fn a_member_of_the_group_may_not_name_files() {
    let served = serve(Gate {
        root: NOBODY,
        own: NOBODY,
        group: Some(nix::unistd::getgid().as_raw()),
    });
    let proxy = served.proxy().await;
    proxy.apply("{}").await.unwrap();
    assert_eq!(*served.fake.asked.lock().unwrap(), ["apply `` owner false"]);
    for refused in [
        proxy.plan(r#"{"system":"/etc/shadow"}"#).await,
        proxy.apply(r#"{"plan":{"system":"/etc/shadow"}}"#).await,
    ] {
        assert_eq!(refused.unwrap_err().kind, ErrorKind::AccessDenied);
    }
}

#[tokio::test]
async fn connections_are_bounded_and_some_are_kept_for_the_owner() {
    let served = serve(Gate {
        root: NOBODY,
        own: NOBODY,
        group: Some(nix::unistd::getgid().as_raw()),
    });
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS_MAX - CONNECTIONS_RESERVED {
        open.push(served.connect().await.unwrap());
    }
    let error = served.connect().await.unwrap_err().to_string();
    assert!(error.contains("connections already"), "{error}");
    // One that leaves makes room.
    open.pop().unwrap().close().await.unwrap();
    let again = async {
        while served.connect().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
}

/// Says hello as a D-Bus client by hand, so that it can misbehave afterwards.
fn raw_client(path: &std::path::Path) -> UnixStream {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let uid = nix::unistd::getuid().as_raw().to_string();
    let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
    stream
        .write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())
        .unwrap();
    let mut answer = [0; 64];
    let count = stream.read(&mut answer).unwrap();
    assert!(answer[..count].starts_with(b"OK "));
    stream.write_all(b"BEGIN\r\n").unwrap();
    stream
}

/// What is logged on this thread, which is the one of all tasks of a test.
#[derive(Debug, Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(line)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Logged {
    fn begin(&self) -> tracing::subscriber::DefaultGuard {
        let logged = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || logged.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// Waits for a line: the one who is hung up on may know it first.
    async fn wait_for(&self, part: &str) {
        let look = async {
            while !String::from_utf8_lossy(&self.0.lock().unwrap()).contains(part) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, look).await;
        let all = self.0.lock().unwrap();
        assert!(found.is_ok(), "{}", String::from_utf8_lossy(&all));
    }
}

/// Waits, without reading, until the daemon has hung up.
fn is_hung_up_on(stream: &UnixStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let patience = Timespec::try_from(PATIENCE).unwrap();
    // A hangup is told to those who ask for nothing.
    let mut look = [PollFd::new(stream, PollFlags::empty())];
    poll(&mut look, Some(&patience)).unwrap();
    look[0].revents().contains(PollFlags::HUP)
}

/// Does `badly` on a thread of its own, and meanwhile asks as another client.
async fn meanwhile_others_are_served(served: &Served, badly: impl FnOnce() + Send + 'static) {
    let proxy = served.proxy().await;
    let bad = tokio::task::spawn_blocking(badly);
    while !bad.is_finished() {
        let answer = tokio::time::timeout(PATIENCE, proxy.list()).await.unwrap();
        assert_eq!(answer.unwrap().len(), 2);
    }
    bad.await.unwrap();
}

/// More than two sockets and the queue of a connection hold; less than any growth without bound.
const TAKEN_MAX: usize = 4 << 20;

/// Asks until nothing is taken any more for `patience`, or we are hung up on; says which.
fn ask_without_reading(path: &std::path::Path, patience: Duration) -> std::io::Error {
    let mut stream = raw_client(path);
    stream.set_write_timeout(Some(patience)).unwrap();
    let call = zbus::Message::method_call(bulkhead_api::PATH, "List")
        .interface(bulkhead_api::INTERFACE)
        .build(&())
        .unwrap();
    let mut sent = 0;
    loop {
        if let Err(error) = stream.write_all(call.data()) {
            return error;
        }
        sent += call.data().len();
        assert!(sent < TAKEN_MAX, "the daemon queues without a bound");
    }
}

#[tokio::test]
async fn what_a_client_asks_that_never_reads_is_not_queued() {
    let served = serve(open_gate());
    let path = served.path.clone();
    let badly = move || {
        let error = ask_without_reading(&path, Duration::from_secs(1)).kind();
        assert_eq!(error, std::io::ErrorKind::WouldBlock);
    };
    meanwhile_others_are_served(&served, badly).await;
}

#[tokio::test]
async fn a_client_that_asks_and_never_reads_stalls_only_itself_and_is_hung_up_on() {
    let logged = Logged::default();
    let _guard = logged.begin();
    let served = serve_impatiently();
    let path = served.path.clone();
    let badly = move || {
        let error = ask_without_reading(&path, PATIENCE).kind();
        let gone = [
            std::io::ErrorKind::BrokenPipe,
            std::io::ErrorKind::ConnectionReset,
        ];
        assert!(gone.contains(&error), "not hung up on: {error}");
    };
    meanwhile_others_are_served(&served, badly).await;
    logged
        .wait_for("a client does not read what it is sent")
        .await;
}

#[tokio::test]
async fn a_client_that_subscribes_and_never_reads_is_hung_up_on() {
    let logged = Logged::default();
    let _guard = logged.begin();
    let served = serve_impatiently();
    let (path, events) = (served.path.clone(), served.events.clone());
    let badly = move || {
        let mut stream = raw_client(&path);
        let call = zbus::Message::method_call(bulkhead_api::PATH, "Subscribe")
            .interface(bulkhead_api::INTERFACE)
            .build(&(vec!["qubes"],))
            .unwrap();
        stream.write_all(call.data()).unwrap();
        let (done, over) = std::sync::mpsc::channel::<()>();
        let more = std::thread::spawn(move || {
            while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) =
                over.recv_timeout(Duration::from_millis(1))
            {
                (0..100).for_each(|_| events.send(Event::QubeChanged(row("work"))));
            }
        });
        let hung_up = is_hung_up_on(&stream);
        drop(done);
        more.join().unwrap();
        assert!(hung_up);
    };
    meanwhile_others_are_served(&served, badly).await;
    logged
        .wait_for("a client does not read what it is sent")
        .await;
    // Nothing waits for it any more.
    tokio::time::timeout(PATIENCE, async {
        while served.events.wanted() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_client_that_stops_in_its_handshake_is_hung_up_on() {
    for said in [
        &b""[..],
        b"\0",
        b"\0AUTH EXTERNAL",
        b"\0AUTH EXTERNAL\r\nDATA",
    ] {
        let logged = Logged::default();
        let _guard = logged.begin();
        let served = serve_with_handshake(Duration::from_secs(2));
        let path = served.path.clone();
        let badly = move || {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(said).unwrap();
            assert!(is_hung_up_on(&stream));
        };
        meanwhile_others_are_served(&served, badly).await;
        logged
            .wait_for("a client does not finish its handshake")
            .await;
    }
}

#[tokio::test]
async fn a_client_that_reads_slowly_or_says_nothing_is_kept() {
    let served = serve_impatiently();
    let proxy = served.proxy().await;
    let mut changed = proxy.receive_qube_changed().await.unwrap();
    proxy.subscribe(&["qubes"]).await.unwrap();
    // Longer than a full socket would be borne.
    for _ in 0..20 {
        served.events.send(Event::QubeChanged(row("work")));
        changed.next().await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(proxy.list().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_half_messages_end_one_connection() {
    let served = serve(open_gate());
    let path = served.path.clone();
    tokio::task::spawn_blocking(move || {
        for garbage in [&b"\xff\xff\xff\xff"[..], b"GET / HTTP/1.1\r\n\r\n", b""] {
            let mut stream = UnixStream::connect(&path).unwrap();
            let _ = stream.write_all(garbage);
        }
        let mut stream = raw_client(&path);
        stream.write_all(&[0xff; 64]).unwrap();
        // The daemon hangs up, whatever it may have said before.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        let mut half = raw_client(&path);
        half.write_all(b"l\x01\x00\x01").unwrap();
    })
    .await
    .unwrap();
    let proxy = served.proxy().await;
    assert_eq!(proxy.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_socket_is_guarded_and_replaces_a_stale_one() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    drop(UnixListener::bind(&path).unwrap());
    let listener = Listener::bind(&path, open_gate()).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    drop(listener);
    assert!(!path.exists());
}
