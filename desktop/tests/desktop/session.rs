//! A desktop session of the test's own: a display, a session bus with its accessibility bus, and
//! `bulkhead-desktop` in it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bulkhead_testing::Display;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// A session in which nothing else runs. It ends with the test.
pub(crate) struct Session {
    folder: tempfile::TempDir,
    display: Display,
    bus: String,
    bus_process: Child,
}

/// Starts a bus that writes where it listens as its first line.
fn server(mut command: Command) -> (Child, String) {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| {
        panic!("{command:?} cannot be started: {error}; `cargo xtask setup` installs it")
    });
    let mut line = String::new();
    let out = child.stdout.take().expect("a pipe");
    BufReader::new(out).read_line(&mut line).expect("a line");
    assert!(!line.trim().is_empty(), "{command:?} ended");
    (child, line.trim().to_owned())
}

/// The configuration of a bus that starts the accessibility bus, and none of the services that this
/// machine happens to have.
fn bus_config(folder: &Path) -> String {
    const ACCESSIBILITY: &str = "/usr/share/dbus-1/services/org.a11y.Bus.service";
    let services = folder.join("services");
    fs::create_dir(&services).expect("a folder");
    let service = services.join("org.a11y.Bus.service");
    fs::copy(ACCESSIBILITY, service).expect("at-spi2-core, as `cargo xtask setup` installs it");
    let config = format!(
        r#"<busconfig>
  <type>session</type>
  <listen>unix:path={}/session</listen>
  <servicedir>{}</servicedir>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#,
        folder.display(),
        services.display()
    );
    let path = folder.join("bus.conf");
    fs::write(&path, config).expect("a file");
    path.display().to_string()
}

impl Session {
    pub(crate) fn start() -> Self {
        // Short, because socket paths are.
        let folder = tempfile::Builder::new();
        let folder = { folder }
            .prefix("bhd")
            .tempdir_in("/tmp")
            .expect("a folder");
        let display = Display::start(1280, 1024);
        let mut bus = Command::new("dbus-daemon");
        bus.args(["--nofork", "--nopidfile", "--print-address=1"])
            .arg(format!("--config-file={}", bus_config(folder.path())))
            // Its children, the accessibility bus among them, end with the test too.
            .process_group(0)
            .stderr(Stdio::null());
        surround(&mut bus, folder.path(), display.name());
        let (bus_process, bus) = server(bus);
        Self {
            folder,
            display,
            bus,
            bus_process,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn display(&self) -> &str {
        self.display.name()
    }

    pub(crate) fn bus(&self) -> &str {
        &self.bus
    }

    /// `bulkhead-desktop` in this session, not yet started.
    pub(crate) fn command(&self, socket: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-desktop"));
        surround(&mut command, self.folder.path(), self.display.name());
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"));
        command
            .arg("--socket")
            .arg(socket)
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus)
            .stdin(Stdio::null())
            .stderr(log.expect("a log"));
        command
    }

    /// Starts it.
    #[track_caller]
    pub(crate) fn desktop(&self, socket: &Path) -> Desktop {
        self.start_desktop(self.command(socket))
    }

    #[track_caller]
    pub(crate) fn start_desktop(&self, mut command: Command) -> Desktop {
        let child = command.spawn().expect("it starts");
        Desktop {
            child,
            log: self.path("log"),
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("bulkhead-desktop said:\n{}", self.log());
        }
        let _ = kill_process_group(Pid::from_child(&self.bus_process), Signal::TERM);
        let _ = self.bus_process.wait();
    }
}

impl Session {
    /// Leaves a picture of the screen or of a window, where somebody wants them: in the folder
    /// `$BULKHEAD_TEST_SCREENS`. Those in the documentation were made so.
    pub(crate) fn picture(&self, name: &str, window: Option<u32>) {
        let Some(folder) = std::env::var_os("BULKHEAD_TEST_SCREENS") else {
            return;
        };
        let folder = Path::new(&folder);
        let window = window.map_or("root".to_owned(), |window| window.to_string());
        let mut import = Command::new("import");
        import
            .args(["-display", self.display.name(), "-window", &window])
            .args(["-strip", "+dither", "-colors", "64"])
            .arg(format!("png8:{}/{name}.png", folder.display()));
        let _ = import.status();
    }

    /// A picture of the screen of a test that failed.
    pub(crate) fn keep_screen(&self) {
        let test = std::thread::current();
        self.picture(&test.name().unwrap_or("test").replace("::", "-"), None);
    }
}

/// An environment with nothing of the caller's.
fn surround(command: &mut Command, folder: &Path, display: &str) {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("XDG_RUNTIME_DIR", folder)
        .env("DISPLAY", display)
        .env("GDK_BACKEND", "x11")
        .env("GSK_RENDERER", "cairo")
        .env("GSETTINGS_BACKEND", "memory");
}

/// The running program.
pub(crate) struct Desktop {
    child: Child,
    log: PathBuf,
}

impl Desktop {
    /// Tells it to end; its exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        self.child.wait().expect("it ends").code()
    }

    #[track_caller]
    pub(crate) fn assert_runs(&mut self) {
        let ended = self.child.try_wait().expect("a state");
        assert!(
            ended.is_none(),
            "{ended:?}: {}",
            fs::read_to_string(&self.log).unwrap_or_default()
        );
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
