//! Leaving nothing behind, however a bench ends.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Longer than a daemon takes to end; then it is killed.
const END_LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// What a daemon and its qubes may leave.
#[derive(Debug, Clone)]
pub(super) struct Remains(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    programs: PathBuf,
    folder: PathBuf,
    runtime: PathBuf,
    daemon: Option<Child>,
    cleared: bool,
}

/// Of the machine that runs now, for an interrupt: a bench has one at a time.
static NOW: Mutex<Option<Remains>> = Mutex::new(None);

fn interrupted(signal: i32) -> ! {
    let now = NOW.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Err(left)) = now.as_ref().map(Remains::clear) {
        eprintln!("error: {left}");
    }
    std::process::exit(128 + signal);
}

/// `bulkhead` with these words, for the daemon of `runtime`.
pub(super) fn client(programs: &Path, runtime: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(programs.join("bulkhead"));
    command
        .args(words)
        .env("BULKHEAD_SOCKET", runtime.join("bus"))
        .stdin(Stdio::null());
    command
}

impl Remains {
    /// From now on an interrupt clears up before the bench ends.
    pub(super) fn watch(programs: &Path, folder: &Path, runtime: &Path) -> std::io::Result<Self> {
        let remains = Self(Arc::new(Mutex::new(Inner {
            programs: programs.to_owned(),
            folder: folder.to_owned(),
            runtime: runtime.to_owned(),
            daemon: None,
            cleared: false,
        })));
        let mut now = NOW.lock().unwrap_or_else(PoisonError::into_inner);
        if now.replace(remains.clone()).is_none() {
            let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
            std::thread::spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    interrupted(signal);
                }
            });
        }
        Ok(remains)
    }

    /// This daemon has to be ended.
    pub(super) fn daemon(&self, child: Child) {
        self.inner(|inner| inner.daemon = Some(child));
    }

    pub(super) fn daemon_ended(&self) -> bool {
        self.inner(|inner| match &mut inner.daemon {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => true,
        })
    }

    /// Ends and removes everything, once; or says what is left.
    pub(super) fn clear(&self) -> Result<(), String> {
        self.inner(|inner| {
            if std::mem::replace(&mut inner.cleared, true) {
                return Ok(());
            }
            inner.clear()
        })
    }

    fn inner<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        // The other one is for an interrupt.
        if Arc::strong_count(&self.0) <= 2
            && let Err(left) = self.clear()
        {
            eprintln!("error: {left}");
        }
    }
}

impl Inner {
    fn clear(&mut self) -> Result<(), String> {
        // One that failed half way may leave less to stop; what is left then is found below.
        let _ = client(
            &self.programs,
            &self.runtime,
            &["stop", "--all", "--timeout", "5"],
        )
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
        if let Some(mut daemon) = self.daemon.take() {
            end(&mut daemon);
        }
        self.end_domains();
        for folder in [&self.runtime, &self.folder] {
            if folder.exists()
                && let Err(error) = fs::remove_dir_all(folder)
            {
                return Err(format!("`{}` is left: {error}", folder.display()));
            }
        }
        let processes = processes_of(&self.folder);
        if processes.is_empty() {
            Ok(())
        } else {
            Err(format!("processes of qubes are left: {processes:?}"))
        }
    }

    /// Ends the qubes that the daemon could not.
    fn end_domains(&self) {
        let domains = fs::read_dir(self.runtime.join("domains"));
        for domain in domains.into_iter().flatten().flatten() {
            let text = fs::read_to_string(domain.path().join("record.json"));
            let record: serde_json::Value =
                serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
            let field = |path: &str| record.pointer(path);
            let pid = field("/process/pid").and_then(serde_json::Value::as_i64);
            if let Some(pid) = pid
                .and_then(|pid| i32::try_from(pid).ok())
                .filter(|pid| *pid > 1)
            {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let groups = field("/group/folders").cloned().unwrap_or_default();
            let groups: BTreeMap<String, serde_json::Value> =
                serde_json::from_value(groups).unwrap_or_default();
            for group in groups.values() {
                let path = group.pointer("/path").and_then(|path| path.as_str());
                remove_cgroup(Path::new(path.unwrap_or_default()));
            }
        }
    }
}

fn end(daemon: &mut Child) {
    if let Ok(pid) = i32::try_from(daemon.id()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    let limit = Instant::now() + END_LIMIT;
    while matches!(daemon.try_wait(), Ok(None)) && Instant::now() < limit {
        std::thread::sleep(PAUSE);
    }
    let _ = daemon.kill();
    let _ = daemon.wait();
}

fn remove_cgroup(path: &Path) {
    let limit = Instant::now() + END_LIMIT;
    while path.exists() && fs::remove_dir(path).is_err() && Instant::now() < limit {
        std::thread::sleep(PAUSE);
    }
}

/// Processes that have something below `folder` mounted: those in a qube.
pub(super) fn processes_of(folder: &Path) -> Vec<u32> {
    // Of a bind mount only the path within its file system is shown.
    let Some(place) = folder.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| {
        let mounts = fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        let number = entry.file_name().to_str()?.parse().ok()?;
        mounts.contains(place).then_some(number)
    })
    .collect()
}
