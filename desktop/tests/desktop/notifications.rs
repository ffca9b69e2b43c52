//! Notifications of real qubes, by a real `bulkheadd`, on a session bus with a stand-in for the
//! desktop's service.

use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bulkhead_testing::{Ended, TestDaemon, ended, wait_for};
use tokio::runtime::Runtime;
use zbus::object_server::{ResponseDispatchNotifier, SignalEmitter};
use zbus::{Connection, OwnedVariant, interface};

use crate::atspi::builder;
use crate::session::{Desktop, Session};

const NAME: &str = "org.freedesktop.Notifications";
const PATH: &str = "/org/freedesktop/Notifications";

const SYSTEM: &str = r#"(
    defaults: (template: "host", memory: (initial: 128, maximum: 512), vcpus: 1),
    templates: { "host": (source: Host) },
    labels: { "mine": (color: "0x12ab34") },
    qubes: {
        "work": (label: "mine", features: {"gui": true}),
        "personal": (label: "yellow", features: {"gui": true}),
        "vault": (label: "black", features: {"gui": true}),
    },
    policy: [
        "qubes.Notifications * vault @anyvm deny notify=no\n\
         qubes.Notifications * @anyvm @default allow target=dom0\n",
    ],
)
"#;

/// One call of `Notify`.
#[derive(Debug, Clone, Default)]
struct Shown {
    app: String,
    replaces: u32,
    icon: String,
    title: String,
    body: String,
    actions: Vec<String>,
    hints: Vec<String>,
    /// Its first pixel, and how many there are.
    picture: (Vec<u8>, usize),
    timeout: i32,
}

#[derive(Debug, Default)]
struct State {
    shown: Vec<Shown>,
    /// How many of them have an answer: before it, no service tells of one.
    answered: usize,
    closed: Vec<u32>,
    /// It takes its name when it is asked next, as one that the bus starts then.
    comes: bool,
    /// It closes what it shows right after its answer.
    closes: bool,
}

/// A notification service that reads markup.
struct Service(Arc<Mutex<State>>);

type Picture = (i32, i32, i32, bool, i32, i32, Vec<u8>);

#[interface(name = "org.freedesktop.Notifications")]
impl Service {
    async fn get_capabilities(&self, #[zbus(connection)] connection: &Connection) -> Vec<String> {
        let comes = std::mem::take(&mut self.0.lock().unwrap().comes);
        if comes {
            connection.release_name(NAME).await.unwrap();
            connection.request_name(NAME).await.unwrap();
        }
        ["body", "body-markup", "actions"].map(str::to_owned).into()
    }

    #[expect(clippy::too_many_arguments, reason = "the interface is as it is")]
    async fn notify(
        &self,
        #[zbus(connection)] connection: &Connection,
        app: String,
        replaces: u32,
        icon: String,
        title: String,
        body: String,
        actions: Vec<String>,
        mut hints: HashMap<String, OwnedVariant>,
        timeout: i32,
    ) -> ResponseDispatchNotifier<u32> {
        let picture = hints.remove("image-data").expect("an icon");
        let picture = Picture::try_from(picture).expect("a picture");
        let bytes = picture.6;
        assert_eq!(picture.2, 3 * picture.0);
        assert_eq!(bytes.len(), usize::try_from(picture.2 * picture.1).unwrap());
        let mut hints: Vec<String> = hints.into_keys().collect();
        hints.sort();
        let id = {
            let mut state = self.0.lock().unwrap();
            state.shown.push(Shown {
                app,
                replaces,
                icon,
                title,
                body,
                actions,
                hints,
                picture: (bytes[..3].to_vec(), bytes.len() / 3),
                timeout,
            });
            match replaces {
                0 => u32::try_from(state.shown.len()).unwrap() + 100,
                id => id,
            }
        };
        let (answer, answered) = ResponseDispatchNotifier::new(id);
        let state = Arc::clone(&self.0);
        let connection = connection.clone();
        tokio::spawn(async move {
            answered.await;
            let closes = {
                let mut state = state.lock().unwrap();
                state.answered += 1;
                state.closes
            };
            if closes {
                let emitter = SignalEmitter::new(&connection, PATH).unwrap();
                Self::notification_closed(&emitter, id, 1).await.unwrap();
            }
        });
        answer
    }

    async fn close_notification(
        &self,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
        id: u32,
    ) -> zbus::fdo::Result<()> {
        self.0.lock().unwrap().closed.push(id);
        Ok(Self::notification_closed(&emitter, id, 3).await?)
    }

    #[zbus(signal)]
    async fn notification_closed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        reason: u32,
    ) -> zbus::Result<()>;
}

/// A machine and a session that shows what its qubes say.
struct Machine {
    desktop: Desktop,
    state: Arc<Mutex<State>>,
    connection: Connection,
    runtime: Runtime,
    session: Session,
    daemon: TestDaemon,
}

impl Machine {
    fn start(qubes: &[&str]) -> Self {
        let mut daemon = TestDaemon::new();
        std::fs::write(daemon.path("system.ron"), SYSTEM).unwrap();
        daemon.start(daemon.daemon("system.ron"));
        daemon.must(&["apply", "--yes"]);
        let session = Session::start();
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let service = Service(Arc::clone(&state));
        let connection = runtime.block_on(async {
            let served = builder(session.bus()).serve_at(PATH, service);
            served.name(NAME).build().await.unwrap()
        });
        let desktop = session.desktop(&daemon.path("run/bus"));
        wait_for("its offer", || {
            let offered = daemon.log().contains("a session shows notifications");
            offered.then_some(())
        });
        let machine = Self {
            desktop,
            state,
            connection,
            runtime,
            session,
            daemon,
        };
        for qube in qubes {
            machine.daemon.must(&["start", qube]);
            machine.daemon.must(&["call", qube, "qubes.WaitForSession"]);
            let serves = format!("gdbus call {TO_BUS} org.freedesktop.DBus.NameHasOwner {NAME}");
            wait_for("a notification service", || {
                (machine.daemon.run(&["run", qube, "--", &serves]).out == "(true,)\n").then_some(())
            });
        }
        machine
    }

    fn runs(&self, qube: &str, script: &str) -> Ended {
        self.daemon.run(&["run", qube, "--", script])
    }

    #[track_caller]
    fn must(&self, qube: &str, script: &str) -> String {
        let ended = self.runs(qube, script);
        assert_eq!(ended.code, 0, "{script}: {ended:?}");
        ended.out
    }

    /// Runs a script in a qube beside the test.
    fn begins(&self, qube: &str, script: &str) -> JoinHandle<Ended> {
        let command: Command = self.daemon.client(&["run", qube, "--", script]);
        std::thread::spawn(move || ended(command))
    }

    /// What was shown as the `n`th.
    #[track_caller]
    fn shown(&self, n: usize) -> Shown {
        wait_for("a notification", || {
            let state = self.state.lock().unwrap();
            let answered = state.answered > n;
            answered.then(|| state.shown[n].clone())
        })
    }

    fn count(&self) -> usize {
        self.state.lock().unwrap().shown.len()
    }

    #[track_caller]
    fn must_close(&self, ids: &[u32]) {
        wait_for("an end", || {
            (self.state.lock().unwrap().closed == ids).then_some(())
        });
    }

    fn emit<B>(&self, name: &'static str, body: &B)
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let to_all = None::<&str>;
        let sent = self.connection.emit_signal(to_all, PATH, NAME, name, body);
        self.runtime.block_on(sent).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("bulkheadd said:\n{}", self.daemon.log());
            eprintln!("shown: {:?}", self.state.lock().unwrap());
            eprintln!("bulkhead-desktop said:\n{}", self.session.log());
        }
    }
}

const TO_BUS: &str = "--session --dest org.freedesktop.DBus --object-path / --method";

fn method(name: &str, arguments: &str) -> String {
    format!(
        "gdbus call --session --dest {NAME} --object-path {PATH} --method {NAME}.{name} {arguments}"
    )
}

#[test]
fn what_a_qube_notifies_is_shown_with_its_origin_and_answers_go_back() {
    let machine = Machine::start(&["work", "personal"]);
    let id = machine.must(
        "work",
        "notify-send -p -u critical -t 7000 -a mail '<b>Mail</b>' 'From <i>ann</i> & co
second line'",
    );
    assert_eq!(id, "1\n");
    let shown = machine.shown(0);
    assert_eq!(shown.app, "Qube work");
    assert_eq!(shown.title, "[work] <b>Mail</b>");
    let body = "From &lt;i&gt;ann&lt;/i&gt; &amp; co\nsecond line";
    assert_eq!(shown.body, body);
    assert_eq!((shown.replaces, shown.icon.as_str()), (0, ""));
    assert_eq!(
        (shown.timeout, shown.hints),
        (7000, vec!["urgency".to_owned()])
    );
    assert_eq!(shown.picture, (vec![0x12, 0xab, 0x34], 32 * 32));
    assert_eq!(shown.actions, [""; 0]);

    // What would act on a terminal or turn the line.
    machine.must(
        "personal",
        "notify-send \"$(printf 'a\\033[2J\\342\\200\\256b\\nc')\"",
    );
    let shown = machine.shown(1);
    assert_eq!(shown.title, "[personal] a_[2J_b_c");
    assert_eq!(shown.picture.0, [0xed, 0xd4, 0x00]);

    // In the place of the first; and of one that only the other qube has.
    machine.must("work", "notify-send -r 1 again");
    assert_eq!(machine.shown(2).replaces, 101);
    machine.must("personal", "notify-send -r 7 other");
    assert_eq!(machine.shown(3).replaces, 0);

    // Nor does one close what another shows.
    machine.must("personal", &method("CloseNotification", "9"));
    machine.must("personal", &method("CloseNotification", "7"));
    machine.must_close(&[104]);
    machine.must("work", &method("CloseNotification", "1"));
    machine.must_close(&[104, 101]);

    // A button.
    let waits = machine.begins("work", "notify-send -A open=Open -A later=Later Call");
    assert_eq!(machine.shown(4).actions, ["open", "Open", "later", "Later"]);
    for key in ["never", "later"] {
        machine.emit("ActionInvoked", &(105_u32, key));
    }
    assert_eq!(waits.join().unwrap().out, "later\n");

    // What the person closes is closed for the application.
    let waits = machine.begins("work", "timeout 50 notify-send --wait Wait");
    machine.shown(5);
    machine.emit("NotificationClosed", &(106_u32, 2_u32));
    assert_eq!(waits.join().unwrap().code, 0);
    let information = machine.must("work", &method("GetServerInformation", ""));
    assert!(
        information.starts_with("('Bulkhead', 'Bulkhead', "),
        "{information}"
    );
    let capabilities = machine.must("work", &method("GetCapabilities", ""));
    assert_eq!(capabilities, "(['actions', 'body'],)\n");
}

#[test]
fn a_service_that_comes_with_what_it_shows_keeps_it() {
    let machine = Machine::start(&["work"]);
    machine.state.lock().unwrap().comes = true;
    let id = machine.must("work", "notify-send -p Mail");
    machine.must("work", &method("CloseNotification", id.trim()));
    machine.must_close(&[101]);
}

#[test]
fn an_end_that_follows_the_answer_at_once_is_not_missed() {
    let machine = Machine::start(&["work"]);
    machine.state.lock().unwrap().closes = true;
    for _ in 0..10 {
        machine.must("work", "timeout 50 notify-send --wait Brief");
    }
}

#[test]
fn one_too_many_takes_the_place_of_the_oldest_and_ends_take_theirs_along() {
    let machine = Machine::start(&["work", "personal"]);
    machine.must("personal", "notify-send theirs");
    machine.must("work", "for n in $(seq 16); do notify-send $n; done");
    machine.shown(16);
    assert_eq!(machine.state.lock().unwrap().closed, [0; 0]);
    machine.must("work", "notify-send 17");
    machine.must_close(&[102]);
    // A qube that ends.
    machine.daemon.must(&["kill", "work"]);
    let all: Vec<u32> = (102..=118).collect();
    machine.must_close(&all);
    // The program of the session that ends.
    let mut machine = machine;
    assert_eq!(machine.desktop.end(), Some(0));
    let all: Vec<u32> = (102..=118).chain([101]).collect();
    machine.must_close(&all);
}

#[test]
fn a_qube_hears_that_nothing_is_shown() {
    let mut machine = Machine::start(&["work", "vault"]);
    let refused = machine.runs("vault", "notify-send secret");
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("policy does not let"), "{refused:?}");
    assert_eq!(machine.count(), 0);

    // No stream that any program of ours writes, nor one of a later version.
    let lies = |bytes: &str| {
        let call = "qrexec-client-vm -- @default qubes.Notifications >/dev/null";
        machine
            .runs("work", &format!("printf '{bytes}' | {call}"))
            .code
    };
    for bytes in [
        // Version 1.0, and a message of 4 GiB.
        "\\0\\0\\1\\0\\377\\377\\377\\377",
        // Version 2.0.
        "\\0\\0\\2\\0",
        // An unknown kind.
        "\\0\\0\\1\\0\\14\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\7\\0\\0\\0",
        // Half a message.
        "\\0\\0\\1\\0\\14\\0\\0\\0\\0",
    ] {
        assert_ne!(lies(bytes), 0, "{bytes}");
    }
    assert_eq!(lies("\\0\\0\\1\\0"), 0);
    machine.must("work", "notify-send shown");
    assert_eq!(machine.shown(0).title, "[work] shown");
    // More than a title has, and more than can be looked at of one message.
    machine.must("work", "notify-send \"$(printf '%500s' x)\"");
    assert!(machine.shown(1).title.ends_with('…'));

    // A session that shows nothing: then one that is not there.
    machine.runtime.block_on(async {
        machine.connection.release_name(NAME).await.unwrap();
    });
    let refused = machine.runs("work", "notify-send hidden");
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("the desktop does not"), "{refused:?}");
    assert_eq!(machine.desktop.end(), Some(0));
    wait_for("nobody", || {
        let refused = machine.runs("work", "notify-send hidden");
        refused.err.contains("nobody is there").then_some(())
    });
    assert_eq!(machine.count(), 2);
}
