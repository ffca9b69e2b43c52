//! The notification service of a session bus, with a stand-in for dom0 that speaks as Qubes does.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bulkhead_testing::wait_for;
use bulkhead_wire::notify::dom0_end::{Dom0End, GuestEvent};
use bulkhead_wire::notify::{Closed, Notification, Reply, Request, Urgency, Version};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use zbus::fdo::RequestNameFlags;
use zbus::{Connection, Message, MessageStream, Variant};

const NAME: &str = "org.freedesktop.Notifications";
const PATH: &str = "/org/freedesktop/Notifications";

/// Makes a call: what was asked for is in a file, and the stream goes through two pipes.
const CLIENT: &str = "#!/bin/sh
cd \"$(dirname \"$0\")\" || exit 1
echo \"$*\" >>calls
[ ! -e refuse ] || exit 126
cat <to-qube &
exec cat >from-qube
";

/// A session bus with the service on it. Both end with the test.
struct Session {
    service: Child,
    bus: Child,
    connection: Connection,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

/// Dom0's end of a call.
struct Dom0 {
    end: Dom0End,
    to_qube: File,
    from_qube: File,
}

impl Session {
    fn start() -> Self {
        let folder = tempfile::Builder::new();
        let folder = { folder }.prefix("bhn").tempdir_in("/tmp").unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["to-qube", "from-qube"] {
            mknodat(CWD, path(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        }
        let client = path("client");
        fs::write(&client, CLIENT).unwrap();
        fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).unwrap();
        let mut bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address=1"])
            .arg(format!("--address=unix:path={}", path("bus").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon; `cargo xtask setup` installs it");
        let mut address = String::new();
        let out = bus.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut address).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let connection = runtime.block_on(async {
            let address: zbus::Address = address.trim().parse().unwrap();
            let builder = zbus::connection::Builder::address(address);
            builder.build().await.unwrap()
        });
        let service = Command::new(env!("CARGO_BIN_EXE_qube-gui-agent"))
            .arg("--notifications")
            .env("DBUS_SESSION_BUS_ADDRESS", address.trim())
            .env("QREXEC_CLIENT_VM", client)
            // Its calls end with the test too.
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            service,
            bus,
            connection,
            runtime,
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How many calls were made, each of which is the right one.
    fn calls(&self) -> usize {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let asked = |line: &str| assert_eq!(line, "-- @default qubes.Notifications+close");
        calls.lines().map(asked).count()
    }

    fn owner(&self) -> Option<String> {
        let bus = "org.freedesktop.DBus";
        let asked = self
            .connection
            .call_method(Some(bus), "/", Some(bus), "GetNameOwner", &NAME);
        let answer = self.runtime.block_on(asked).ok()?;
        answer.body().deserialize().ok()
    }

    #[track_caller]
    fn must_be_served(&self) -> String {
        let own = self.connection.unique_name().map(ToString::to_string);
        wait_for("the service", || {
            self.owner().filter(|owner| Some(owner) != own.as_ref())
        })
    }

    /// Shows something as an application does; its id, or why it is not.
    fn shows(&self, title: &str) -> JoinHandle<Result<u32, String>> {
        let connection = self.connection.clone();
        let title = title.to_owned();
        self.runtime.spawn(async move {
            let hints = HashMap::from([
                ("urgency", Variant::U8(2)),
                ("transient", Variant::from(true)),
                ("category", Variant::from("email")),
            ]);
            let arguments = (
                "mail",
                3_u32,
                "icon",
                title,
                "From ann",
                vec!["open", "Open"],
                hints,
                7000,
            );
            let answer = connection
                .call_method(Some(NAME), PATH, Some(NAME), "Notify", &arguments)
                .await
                .map_err(|error| error.to_string())?;
            answer
                .body()
                .deserialize()
                .map_err(|error| error.to_string())
        })
    }

    fn wait(&self, shows: JoinHandle<Result<u32, String>>) -> Result<u32, String> {
        self.runtime.block_on(shows).unwrap()
    }

    /// Takes the call that is made as the `number`th.
    #[track_caller]
    fn call(&self, number: usize, offered: Version) -> Dom0 {
        // Only then is there somebody at the other end of the pipes.
        wait_for("a call", || (self.calls() == number).then_some(()));
        let to_qube = File::options().write(true).open(self.path("to-qube"));
        let from_qube = File::open(self.path("from-qube"));
        let mut bytes = Vec::new();
        let mut dom0 = Dom0 {
            end: Dom0End::new(offered, &mut bytes),
            to_qube: to_qube.unwrap(),
            from_qube: from_qube.unwrap(),
        };
        dom0.to_qube.write_all(&bytes).unwrap();
        assert_eq!(dom0.hear(), GuestEvent::Ready(offered));
        dom0
    }

    fn signals(&self) -> MessageStream {
        let rule = "type='signal',interface='org.freedesktop.Notifications'";
        let stream = MessageStream::for_match_rule(rule, &self.connection, None);
        self.runtime.block_on(stream).unwrap()
    }

    fn signal(&self, signals: &mut MessageStream) -> (String, Message) {
        use futures_util::StreamExt;
        let message = self.runtime.block_on(async {
            tokio::time::timeout(bulkhead_testing::PATIENCE, signals.next()).await
        });
        let message = message.expect("a signal").unwrap().unwrap();
        let name = message.header().member().unwrap().to_string();
        (name, message)
    }
}

impl Dom0 {
    fn hear(&mut self) -> GuestEvent {
        loop {
            let mut byte = [0];
            assert_eq!(self.from_qube.read(&mut byte).unwrap(), 1);
            if let Some(event) = self.end.receive(&mut &byte[..]).unwrap() {
                return event;
            }
        }
    }

    #[track_caller]
    fn must_show(&mut self) -> (u64, Notification) {
        match self.hear() {
            GuestEvent::Request(Request::Show {
                sequence,
                notification,
            }) => (sequence, notification),
            other => panic!("{other:?}"),
        }
    }

    fn say(&mut self, reply: &Reply) {
        let mut bytes = Vec::new();
        self.end.send(reply, &mut bytes);
        self.to_qube.write_all(&bytes).unwrap();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.service), Signal::KILL);
        let _ = self.bus.kill();
        for child in [&mut self.service, &mut self.bus] {
            let _ = child.wait();
        }
    }
}

#[test]
fn what_an_application_notifies_goes_to_dom0_of_qubes_and_back() {
    let session = Session::start();
    session.must_be_served();
    assert_eq!(session.calls(), 0, "not before the first");
    let mut signals = session.signals();
    let shows = session.shows("Mail");
    let mut dom0 = session.call(1, Version::PLAIN);
    let (sequence, said) = dom0.must_show();
    assert_eq!(
        (said.summary.as_str(), said.body.as_str()),
        ("Mail", "From ann")
    );
    assert_eq!((said.replaces, said.timeout), (3, 7000));
    assert_eq!(said.urgency, Some(Urgency::Critical));
    assert_eq!(
        (said.transient, said.resident, said.silent),
        (true, false, false)
    );
    let [action] = &said.actions[..] else {
        panic!("{said:?}");
    };
    assert_eq!(
        (action.key.as_str(), action.label.as_str()),
        ("open", "Open")
    );
    dom0.say(&Reply::Shown { id: 3, sequence });
    assert_eq!(session.wait(shows), Ok(3));

    let action = "open".to_owned();
    // Of one that is not shown nothing is told.
    for id in [4, 3] {
        let action = action.clone();
        dom0.say(&Reply::Invoked { id, action });
    }
    let (name, message) = session.signal(&mut signals);
    let body: (u32, String) = message.body().deserialize().unwrap();
    assert_eq!((name.as_str(), body), ("ActionInvoked", (3, action)));

    // On the same call, and answered out of order.
    let [first, second] = ["1", "2"].map(|title| {
        let shows = session.shows(title);
        (shows, dom0.must_show().0)
    });
    let (sequence, name, message) = (first.1, Some("x.Y".to_owned()), Some("too many".to_owned()));
    dom0.say(&Reply::Shown {
        id: 9,
        sequence: second.1,
    });
    dom0.say(&Reply::Failed {
        sequence,
        name,
        message,
    });
    assert_eq!(session.wait(second.0), Ok(9));
    let refused = session.wait(first.0).unwrap_err();
    assert!(refused.contains("too many"), "{refused}");
    assert_eq!(session.calls(), 1);

    // Dom0 of Qubes closes nothing by order; ours does, which other tests show.
    let close =
        session
            .connection
            .call_method(Some(NAME), PATH, Some(NAME), "CloseNotification", &9_u32);
    session.runtime.block_on(close).unwrap();
    let (id, why) = (9, Closed::Dismissed);
    dom0.say(&Reply::Closed { id, why });
    let (name, message) = session.signal(&mut signals);
    let body: (u32, u32) = message.body().deserialize().unwrap();
    assert_eq!((name.as_str(), body), ("NotificationClosed", (9, 2)));
    // An order to close would have come before this, and be no message of that version.
    let _shows = session.shows("after it");
    let (_, said) = dom0.must_show();
    assert_eq!(said.summary, "after it");
}

#[test]
fn a_call_that_ends_is_made_again_and_what_it_showed_is_closed() {
    let session = Session::start();
    session.must_be_served();
    let mut signals = session.signals();
    let shows = session.shows("Mail");
    let mut dom0 = session.call(1, Version::WITH_CLOSE);
    let (sequence, _) = dom0.must_show();
    dom0.say(&Reply::Shown { id: 3, sequence });
    assert_eq!(session.wait(shows), Ok(3));
    let waits = session.shows("never");
    dom0.must_show();
    drop(dom0);
    assert!(session.wait(waits).is_err());
    let (name, message) = session.signal(&mut signals);
    let body: (u32, u32) = message.body().deserialize().unwrap();
    assert_eq!((name.as_str(), body), ("NotificationClosed", (3, 4)));
    // Not at once, and then it is.
    let shows = wait_for("another call", || {
        let shows = session.shows("again");
        let made = wait_for("a call or a refusal", || {
            (shows.is_finished() || session.calls() == 2).then(|| session.calls() == 2)
        });
        if !made {
            let why = session.runtime.block_on(shows).unwrap().unwrap_err();
            assert!(why.contains("does not take"), "{why}");
            return None;
        }
        Some(shows)
    });
    let mut dom0 = session.call(2, Version::PLAIN);
    let (sequence, said) = dom0.must_show();
    assert_eq!(said.summary, "again");
    dom0.say(&Reply::Shown { id: 1, sequence });
    assert_eq!(session.wait(shows), Ok(1));
}

#[test]
fn an_application_hears_that_policy_refuses() {
    let session = Session::start();
    session.must_be_served();
    fs::write(session.path("refuse"), "").unwrap();
    let why = session.wait(session.shows("Mail")).unwrap_err();
    assert!(why.contains("policy does not let this qube"), "{why}");
    assert_eq!(session.calls(), 1);
}

#[test]
fn a_notification_daemon_of_the_qube_comes_first() {
    let session = Session::start();
    let ours = session.must_be_served();
    let own = session.connection.unique_name().unwrap().to_string();
    let flags = RequestNameFlags::REPLACE_EXISTING;
    let taken = session.connection.request_name_with_flags(NAME, flags);
    session.runtime.block_on(taken).unwrap();
    assert_eq!(session.owner(), Some(own));
    // It serves again when that has gone.
    let released = session.connection.release_name(NAME);
    assert!(session.runtime.block_on(released).unwrap());
    assert_eq!(session.must_be_served(), ours);
}
