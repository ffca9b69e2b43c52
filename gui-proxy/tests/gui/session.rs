//! A display, a folder of channels, and proxies.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bulkhead_sandbox::inherit::pass_on;
use bulkhead_testing::{Display, wait_for};
use bulkhead_vchan::seqpacket::pair;
use bulkhead_vchan::xen::Rings;
use bulkhead_vchan::{AnyListener, DomId, Port, SocketDir, Transport};
use bulkhead_wire::gui::{PORT, Version};

use crate::agent::Agent;

/// A display on which nothing else is. It ends with the test.
pub(crate) struct Session {
    folder: tempfile::TempDir,
    display: Display,
}

impl Session {
    pub(crate) fn start() -> Self {
        Self::start_with(1280, 1024)
    }

    /// One of this size.
    pub(crate) fn start_with(width: u32, height: u32) -> Self {
        let folder = tempfile::Builder::new();
        let folder = { folder }.prefix("bhg").tempdir_in("/tmp");
        Self {
            folder: folder.expect("a folder"),
            display: Display::start(width, height),
        }
    }

    pub(crate) fn display(&self) -> &str {
        self.display.name()
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

    /// The same with a daemon at the other end of the line, an agent that speaks no newer version
    /// than this, and these arguments besides.
    #[track_caller]
    pub(crate) fn qube_of_daemon(
        &self,
        name: &str,
        version: Version,
        more: &[&str],
    ) -> (Proxy, Agent, OwnedFd) {
        let (daemon, theirs) = pair().expect("a line");
        let (proxy, listener, own) = self.start_qube(name, 0xcc00, |command| {
            let number = pass_on(command, theirs);
            command.args(["--fd", &number.to_string()]).args(more);
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        let channel = listener.accept(Some(deadline)).expect("a proxy");
        let agent = Agent::start_old(channel, self.sharer(own), version);
        (proxy, agent, daemon)
    }

    /// The same without anything said.
    pub(crate) fn silent_qube(&self, name: &str, color: u32) -> (Proxy, AnyListener, DomId) {
        self.start_qube(name, color, |_| {})
    }

    fn start_qube(
        &self,
        name: &str,
        color: u32,
        with: impl FnOnce(&mut Command),
    ) -> (Proxy, AnyListener, DomId) {
        let own = domain(name);
        let transport = self.transport(own);
        let listener = transport.listen(DomId::DOM0, Port::new(PORT), Rings::CONTROL);
        let proxy = self.proxy(name, color, with);
        (proxy, listener.expect("a listener"), own)
    }

    /// The proxy of a qube that others make.
    pub(crate) fn proxy(&self, name: &str, color: u32, with: impl FnOnce(&mut Command)) -> Proxy {
        let log = self.folder.path().join(format!("{name}.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-gui"));
        command
            .args(["--qube", name, "--label", "4"])
            .args(["--domain", &domain(name).number().to_string()])
            .args(["--color", &format!("{color:06x}")])
            .env("DISPLAY", self.display.name())
            .env("VCHAN_SOCKET_DIR", self.folder.path())
            .env("VCHAN_DOMAIN", "0")
            .env_remove("XAUTHORITY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log"));
        with(&mut command);
        let child = command.spawn().expect("it starts");
        Proxy { child, log }
    }
}

/// The domain of the qube called `name`.
pub(crate) fn domain(name: &str) -> DomId {
    let number = name.bytes().map(u32::from).sum::<u32>() + 1;
    DomId::new(number).expect("a domain")
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
