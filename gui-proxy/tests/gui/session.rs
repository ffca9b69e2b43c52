//! A display, a folder of channels, and proxies.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bulkhead_testing::wait_for;
use bulkhead_vchan::xen::Rings;
use bulkhead_vchan::{AnyListener, DomId, Port, SocketDir, Transport};
use bulkhead_wire::gui::PORT;
use rustix::process::{Pid, Signal, kill_process};

use crate::agent::Agent;

/// A display on which nothing else is. It ends with the test.
pub(crate) struct Session {
    folder: tempfile::TempDir,
    display: String,
    server: Child,
}

/// Displays of each process that runs tests. No number is used twice: a server that ends takes the
/// socket of its number away, also that of one that has just begun.
const DISPLAYS_EACH: u32 = 100;

/// Starts a server; none where its number is taken.
fn server(width: u32, height: u32) -> Option<(Child, String)> {
    static LAST: AtomicU32 = AtomicU32::new(0);
    // Up to what has a port of its own.
    let first = 100 + std::process::id() % 590 * DISPLAYS_EACH;
    let number = first + LAST.fetch_add(1, Ordering::Relaxed) % DISPLAYS_EACH;
    let display = format!(":{number}");
    let mut server = Command::new("Xvfb")
        .args([&display, "-displayfd", "1", "-screen", "0"])
        .arg(format!("{width}x{height}x24"))
        .args(["-nolisten", "tcp", "-noreset"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("Xvfb; `cargo xtask setup` installs it");
    let mut ready = String::new();
    let out = server.stdout.take().expect("a pipe");
    BufReader::new(out).read_line(&mut ready).expect("a line");
    if ready.trim() == number.to_string() {
        return Some((server, display));
    }
    let _ = server.wait();
    None
}

impl Session {
    pub(crate) fn start() -> Self {
        Self::start_with(1280, 1024)
    }

    /// One of this size.
    pub(crate) fn start_with(width: u32, height: u32) -> Self {
        let folder = tempfile::Builder::new();
        let folder = { folder }.prefix("bhg").tempdir_in("/tmp");
        let mut tries = (0..DISPLAYS_EACH).filter_map(|_| server(width, height));
        let (server, display) = tries.next().expect("a display");
        Self {
            folder: folder.expect("a folder"),
            display,
            server,
        }
    }

    pub(crate) fn display(&self) -> &str {
        &self.display
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn transport(&self, own: DomId) -> Transport {
        Transport::Sockets(SocketDir::new(self.folder.path(), own))
    }

    pub(crate) fn sharer(&self, own: DomId) -> bulkhead_vchan::Sharer {
        self.transport(own).sharer(DomId::DOM0).expect("files")
    }

    /// A qube called `name`, whose proxy has reached it and speaks the newest version.
    #[track_caller]
    pub(crate) fn qube(&self, name: &str, color: u32) -> (Proxy, Agent) {
        let (proxy, listener, own) = self.silent_qube(name, color);
        let deadline = Instant::now() + Duration::from_secs(60);
        let channel = listener.accept(Some(deadline)).expect("a proxy");
        (proxy, Agent::start(channel, self.sharer(own)))
    }

    /// The same without anything said.
    pub(crate) fn silent_qube(&self, name: &str, color: u32) -> (Proxy, AnyListener, DomId) {
        let number = name.bytes().map(u32::from).sum::<u32>() + 1;
        let own = DomId::new(number).expect("a domain");
        let transport = self.transport(own);
        let listener = transport.listen(DomId::DOM0, Port::new(PORT), Rings::CONTROL);
        let log = self.folder.path().join(format!("{name}.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_bulkhead-gui"))
            .args(["--qube", name, "--label", "4"])
            .args(["--domain", &number.to_string()])
            .args(["--color", &format!("{color:06x}")])
            .env("DISPLAY", &self.display)
            .env("VCHAN_SOCKET_DIR", self.folder.path())
            .env("VCHAN_DOMAIN", "0")
            .env_remove("XAUTHORITY")
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log"))
            .spawn()
            .expect("it starts");
        (Proxy { child, log }, listener.expect("a listener"), own)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.server), Signal::TERM);
        let _ = self.server.wait();
    }
}

/// A running `bulkhead-gui`.
pub(crate) struct Proxy {
    child: Child,
    log: PathBuf,
}

impl Proxy {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    #[track_caller]
    pub(crate) fn must_say(&self, text: &str) {
        wait_for(text, || self.log().contains(text).then_some(()));
    }

    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait_for("the proxy's end", || {
            self.child.try_wait().expect("a child")
        })
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// That it ended, and what it said last.
    #[track_caller]
    pub(crate) fn failed(&mut self) -> String {
        let status = self.ended();
        let log = self.log();
        assert_eq!(status.code(), Some(1), "{log}");
        log.lines().last().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(crate) fn must_run(&mut self) {
        let ended = self.child.try_wait().expect("a child");
        assert!(ended.is_none(), "{ended:?}: {}", self.log());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("bulkhead-gui said:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
