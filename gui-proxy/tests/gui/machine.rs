//! Windows of qubes that a daemon runs: real programs at every end.

use std::fs;
use std::process::{Child, Command, Stdio};

use bulkhead_testing::{TestDaemon, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use x11rb::protocol::xproto::Window;

use crate::screen::Screen;
use crate::session::Session;

/// Two qubes that have windows, and one whose windows nobody shows.
const SYSTEM: &str = r#"(
    templates: {"host": (source: Host)},
    labels: {"mine": (color: "0x12ab34")},
    defaults: (template: "host", netvm: None, default_dispvm: None),
    qubes: {
        "work": (label: "mine", features: {"gui": true}),
        "personal": (label: "yellow", features: {"gui": true}),
        "hidden": (label: "red"),
    },
)"#;

struct Machine {
    daemon: TestDaemon,
    session: Session,
    screen: Screen,
}

/// A process that is told to end with the test.
struct Ends(Child);

impl Ends {
    fn end(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.end();
    }
}

impl Machine {
    fn start() -> Self {
        let mut daemon = TestDaemon::new();
        fs::write(daemon.path("system.ron"), SYSTEM).expect("a description");
        daemon.start(daemon.daemon("system.ron"));
        daemon.must(&["apply", "--yes"]);
        daemon.must(&["start", "work", "personal", "hidden"]);
        let session = Session::start();
        let screen = Screen::of(&session);
        Self {
            daemon,
            session,
            screen,
        }
    }

    /// Somebody whose session shows windows.
    fn shows(&self) -> Ends {
        let mut command = self.daemon.client(&["windows"]);
        command
            .env("DISPLAY", self.session.display())
            .stdout(Stdio::null());
        Ends(command.spawn().expect("a client"))
    }

    /// The agent for windows of a qube, with an application.
    fn agent(&self, qube: &str, application: &[&str]) -> Ends {
        let info = self.daemon.json(&["info", qube, "--json"]);
        let domain = info["domid"].as_u64().expect("a domain").to_string();
        let own = self.daemon.path(&format!("{qube}-session"));
        fs::create_dir_all(&own).expect("a folder");
        let log = fs::File::create(own.join("log")).expect("a log");
        let mut command = Command::new(self.daemon.programs().path("qube-gui-agent"));
        command
            .arg("--")
            .args(application)
            .env("XDG_RUNTIME_DIR", &own)
            .env("HOME", &own)
            .env("VCHAN_DOMAIN", domain)
            .env(
                "VCHAN_SOCKET_DIR",
                self.daemon.path(&format!("run/qubes/{qube}/vchan")),
            )
            .stdin(Stdio::null())
            .stderr(log);
        Ends(command.spawn().expect("an agent"))
    }

    /// The one window whose title begins so.
    #[track_caller]
    fn window(&self, title: &str) -> Window {
        wait_for(title, || {
            let all = self.screen.windows();
            let is_it = |window: &Window| {
                let shown = self.screen.text(*window, "_NET_WM_NAME");
                shown.starts_with(title)
            };
            all.into_iter().find(is_it)
        })
    }

    #[track_caller]
    fn must_log(&self, text: &str) {
        wait_for(text, || self.daemon.log().contains(text).then_some(()));
    }
}

#[test]
fn qubes_show_their_windows_where_a_session_offers_a_display() {
    let machine = Machine::start();
    let _work = machine.agent("work", &["xclock"]);
    let _hidden = machine.agent("hidden", &["xclock"]);
    let mut session = machine.shows();
    machine.window("[work] ");
    // Of a session that is there already.
    let mut personal = machine.agent("personal", &["xclock"]);
    machine.window("[personal] ");
    machine.screen.must_have(2);

    // An agent that ends, and comes again.
    personal.end();
    machine.screen.must_have(1);
    let _personal = machine.agent("personal", &["xclock"]);
    machine.window("[personal] ");

    // A session that ends takes its windows along; the next one has them again.
    session.end();
    machine.screen.must_have(0);
    let _session = machine.shows();
    machine.window("[work] ");
    machine.window("[personal] ");

    // A qube that stops has none.
    machine.daemon.must(&["kill", "personal"]);
    machine.screen.must_have(1);
}

#[test]
fn a_daemon_that_starts_again_shows_the_windows_of_what_runs() {
    let mut machine = Machine::start();
    let _work = machine.agent("work", &["xclock"]);
    let _session = machine.shows();
    machine.window("[work] ");
    machine.daemon.kill();
    machine.screen.must_have(0);
    machine.daemon.start(machine.daemon.daemon("system.ron"));
    let _session = machine.shows();
    machine.window("[work] ");
}

#[test]
fn a_display_that_is_none_is_refused() {
    let machine = Machine::start();
    let offer = |display: &str| {
        let mut command = machine.daemon.client(&["windows"]);
        command.env("DISPLAY", display);
        bulkhead_testing::ended(command)
    };
    for display in ["far:0", "0", ""] {
        let ended = offer(display);
        assert_ne!(ended.code, 0, "{display}: {ended:?}");
        assert!(ended.err.contains("display"), "{ended:?}");
    }
    // One that nobody serves is told of in the log, and tried again.
    let mut command = machine.daemon.client(&["windows"]);
    command.env("DISPLAY", ":99999").stdout(Stdio::null());
    let _session = Ends(command.spawn().expect("a client"));
    let _work = machine.agent("work", &["xclock"]);
    machine.must_log("there is no display to use");
}
