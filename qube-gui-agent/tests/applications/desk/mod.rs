//! An agent, applications that show windows by it, and a daemon that does what the test says.

pub(crate) mod daemon;
pub(crate) mod input_method;
pub(crate) mod keys;

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bulkhead_testing::write_program;
use bulkhead_vchan::{DomId, Port, socket_name};
use bulkhead_wire::gui::{PORT, Version};
use tempfile::TempDir;

pub(crate) use bulkhead_testing::wait_for;
pub(crate) use daemon::Daemon;
pub(crate) use input_method::InputMethod;

/// The qube's own domain.
pub(crate) const QUBE: u32 = 42;

/// One qube's part of a desk: an agent in a folder of its own, and its applications.
pub(crate) struct Desk {
    folder: TempDir,
    /// The agent, and then applications.
    running: Vec<Child>,
    /// Where X is served.
    display: Option<String>,
}

impl Desk {
    /// Starts an agent for Wayland.
    #[track_caller]
    pub(crate) fn new() -> Self {
        Self::with(&["--no-x"])
    }

    /// Starts an agent for Wayland and X.
    #[track_caller]
    pub(crate) fn with_x() -> Self {
        Self::with_scaled_x("1")
    }

    /// The same whose applications are shown so many times as large.
    #[track_caller]
    pub(crate) fn with_scaled_x(scale: &str) -> Self {
        let tell = "echo $DISPLAY > told; mv told display";
        let mut desk = Self::with(&["--scale", scale, "--", "sh", "-c", tell]);
        let told = desk.path("display");
        let display = wait_for("Xwayland", || std::fs::read_to_string(&told).ok());
        assert!(!display.trim().is_empty(), "no X:\n{}", desk.agent_log());
        desk.display = Some(display.trim().into());
        desk
    }

    /// Starts an agent with these arguments.
    #[track_caller]
    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self::with_programs(&[], arguments)
    }

    /// The same where these scripts take the place of the programs of their names.
    #[track_caller]
    pub(crate) fn with_programs(scripts: &[(&str, &str)], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["run", "vchan", "bin"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        for (name, script) in scripts {
            let path = folder.path().join("bin").join(name);
            write_program(&path, &format!("#!/bin/sh\n{script}\n"));
        }
        let mut desk = Self {
            folder,
            running: Vec::new(),
            display: None,
        };
        let mut agent = desk.command(env!("CARGO_BIN_EXE_qube-gui-agent"));
        let mut path = desk.path("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        agent
            .args(arguments)
            .env("PATH", path)
            .env("RUST_LOG", "warn,qube_gui_agent=debug")
            .env("VCHAN_SOCKET_DIR", desk.path("vchan"))
            .env("VCHAN_DOMAIN", QUBE.to_string());
        desk.run("agent", agent);
        let socket = desk.path("run/wayland-0");
        wait_for("the agent's socket", || socket.exists().then_some(()));
        desk
    }

    /// A file of the desk.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the agent has logged.
    pub(crate) fn agent_log(&self) -> String {
        std::fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }

    /// Tells the agent of monitors, as the service does.
    pub(crate) fn set_monitors(&self, layout: &str) {
        std::fs::write(self.path("layout"), layout).unwrap();
        let file = self.path("run").join(bulkhead_wire::monitors::FILE);
        std::fs::rename(self.path("layout"), file).unwrap();
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let variables = [
            "DISPLAY",
            "WAYLAND_DISPLAY",
            "WAYLAND_SOCKET",
            "XAUTHORITY",
            "LANG",
        ];
        for name in variables {
            command.env_remove(name);
        }
        command
            .env("HOME", self.folder.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("LC_ALL", "C.UTF-8")
            .env("XKB_DEFAULT_LAYOUT", "us,de")
            .env("GSK_RENDERER", "cairo")
            .env("GTK_A11Y", "none")
            .env("SHELL", "/bin/sh")
            .current_dir(self.folder.path());
        command
    }

    fn run(&mut self, name: &str, mut command: Command) {
        let log = File::create(self.path(&format!("{name}.log"))).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} (see `cargo xtask setup`): {e}"));
        self.running.push(child);
    }

    /// Starts an application.
    #[track_caller]
    pub(crate) fn start(&mut self, words: &[&str]) {
        let mut command = self.command(words[0]);
        command
            .args(&words[1..])
            .env("WAYLAND_DISPLAY", "wayland-0");
        if let Some(display) = &self.display {
            command.env("DISPLAY", display);
        }
        let name = words[0].rsplit('/').next().unwrap();
        self.run(name, command);
    }

    /// The windows of X, as `xwininfo` lists them: those above before those below.
    #[track_caller]
    pub(crate) fn x_windows(&self) -> String {
        let mut list = self.command("xwininfo");
        list.args(["-root", "-tree"]);
        list.env("DISPLAY", self.display.as_ref().expect("a desk with X"));
        let listed = list.output().expect("see `cargo xtask setup`");
        String::from_utf8(listed.stdout).unwrap()
    }

    /// Whether the application that was started last has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        let last = self.running.last_mut().unwrap();
        last.try_wait().unwrap().is_some()
    }

    /// Where X is served.
    #[track_caller]
    pub(crate) fn display(&self) -> &str {
        self.display.as_deref().expect("a desk with X")
    }

    /// Which application was started last.
    pub(crate) fn started(&self) -> usize {
        self.running.len() - 1
    }

    /// Ends an application at once.
    #[track_caller]
    pub(crate) fn kill(&mut self, started: usize) {
        self.running[started].kill().unwrap();
        self.running[started].wait().unwrap();
    }

    /// The number of the agent's process.
    pub(crate) fn agent(&self) -> u32 {
        self.running[0].id()
    }

    /// An input method that has come to the agent.
    #[track_caller]
    pub(crate) fn input_method(&self) -> InputMethod {
        InputMethod::connect(&self.path("run/wayland-0"))
    }

    /// A channel to the agent that no daemon uses.
    #[track_caller]
    pub(crate) fn raw_daemon(&self) -> UnixStream {
        let qube = DomId::new(QUBE).unwrap();
        let name = socket_name(qube, DomId::DOM0, Port::new(PORT));
        let path = self.path("vchan").join(name);
        wait_for("the agent to listen", || UnixStream::connect(&path).ok())
    }

    /// A daemon that has come to the agent.
    #[track_caller]
    pub(crate) fn daemon(&self) -> Daemon {
        self.daemon_speaking(Version::NEWEST)
    }

    /// One that speaks this version.
    #[track_caller]
    pub(crate) fn daemon_speaking(&self, own: Version) -> Daemon {
        Daemon::connect(&self.path("vchan"), DomId::new(QUBE).unwrap(), own)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in std::fs::read_dir(self.folder.path()).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|end| end == "log") {
                    let text = std::fs::read_to_string(&path).unwrap_or_default();
                    eprintln!("{}:\n{text}", path.display());
                }
            }
        }
        for child in self.running.iter_mut().rev() {
            // It may have ended by itself. The agent takes away the lock of its X display.
            if let Ok(None) = child.try_wait()
                && let Ok(pid) = i32::try_from(child.id())
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        for mut child in self.running.drain(..) {
            let _ = child.wait();
        }
    }
}
