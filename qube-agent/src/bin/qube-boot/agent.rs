//! The agent: started before the rest of the system, and handed to systemd when that is up.
//!
//! `qube-boot agent` is what systemd runs for its unit: an agent that runs joins the unit, one that
//! does not is started there.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::BootError;
use crate::log;

const PROGRAM: &str = "/usr/lib/qubes/qube-agent";

/// Folder of what the agent shares with others in the qube.
const FOLDER: &str = "/run/qubes";

/// What the agent makes when it is up.
const SOCKET: &str = "/run/qubes/qrexec-agent";

/// Where systemd finds out which process it is.
const PID_FILE: &str = "/run/qubes/agent.pid";

/// What services find when nobody has said otherwise.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("HOME", "/root"),
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("USER", "root"),
];

/// How long the rest of the system waits for the agent: it would only take its processor. An agent
/// that does not come up is started again by systemd.
const COMES_UP: Duration = Duration::from_secs(10);

/// Between two looks whether it is up.
const PAUSE: Duration = Duration::from_millis(2);

/// Starts the agent of a qube that boots. Without one, the rest of the system still comes up.
pub(crate) fn start() {
    if let Err(error) = spawn() {
        log::chain(&error);
        return;
    }
    let end = Instant::now() + COMES_UP;
    while !Path::new(SOCKET).exists() {
        if Instant::now() >= end {
            log::say("agent started, and does not listen yet");
            return;
        }
        sleep(PAUSE);
    }
    log::say("agent listens");
}

/// Makes the agent part of the unit that this process runs for.
pub(crate) fn join() -> Result<(), BootError> {
    let pid = match running() {
        Some(pid) => pid,
        None => spawn()?,
    };
    let own = own_group().map_err(BootError::at("find the control group in", Path::new(SELF)))?;
    fs::write(&own, pid.to_string()).map_err(BootError::at("move the agent to", &own))
}

const SELF: &str = "/proc/self/cgroup";

/// The file that takes processes into the control group of this one.
fn own_group() -> io::Result<PathBuf> {
    let text = fs::read_to_string(SELF)?;
    let group = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let group = group.ok_or(io::ErrorKind::Unsupported)?;
    Ok(Path::new("/sys/fs/cgroup").join(group).join("cgroup.procs"))
}

/// The agent that was started before, if it still runs.
fn running() -> Option<u32> {
    let pid = fs::read_to_string(PID_FILE).ok()?.trim().parse().ok()?;
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    (program == Path::new(PROGRAM)).then_some(pid)
}

fn spawn() -> Result<u32, BootError> {
    let program = Path::new(PROGRAM);
    let failed = || BootError::at("start", program);
    // Each thing that it says is a line of the kernel's log, which is there before any other.
    let log = || {
        File::options()
            .write(true)
            .open("/dev/kmsg")
            .map(Stdio::from)
    };
    let folder = Path::new(FOLDER);
    fs::create_dir_all(folder).map_err(BootError::at("make", folder))?;
    let mut agent = Command::new(program);
    agent.arg("init").stdin(Stdio::null()).process_group(0);
    agent
        .stdout(log().map_err(failed())?)
        .stderr(log().map_err(failed())?);
    agent.env_clear().envs(ENVIRONMENT.iter().copied());
    let pid = agent.spawn().map_err(failed())?.id();
    let file = Path::new(PID_FILE);
    fs::write(file, format!("{pid}\n")).map_err(BootError::at("write", file))?;
    Ok(pid)
}
