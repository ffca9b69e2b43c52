//! Init mode: everything that a qube needs, in one process.
//!
//! Reaps orphans, mirrors QubesDB, runs the qrexec agent (and with it the services), keeps the graphical session
//! where no systemd does, and ends on `SIGTERM` after telling its children to stop.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Signal, geteuid, getpid, kill_process};
use thiserror::Error;

use crate::agent::{Reaping, Setup, run};

const NAME: &str = "qube-agent";

/// How long processes may take to stop before they are killed with the qube.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// The daemon keeps its buffers on the heap.
const QUBESDB_STACK: usize = 128 * 1024;

#[derive(Debug, Error)]
#[error("init mode takes no arguments, got `{0}`")]
struct UsageError(String);

pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    if let Some(first) = arguments.first() {
        crate::report::log(NAME, &UsageError(first.display().to_string()));
        return ExitCode::from(2);
    }
    enter_home();
    // Before there is any other thread: the one for signals takes it alone.
    if let Err(e) = bulkhead_sandbox::spawn::hold_child_signal() {
        crate::report::log(NAME, &e);
    }
    start_qubesdb();
    let stopping = Arc::new(AtomicBool::new(false));
    start_session(&stopping);
    let outcome = run(Setup::default(), Reaping::All);
    stopping.store(true, Ordering::SeqCst);
    stop_children();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => crate::report::fail(NAME, &e),
    }
}

/// Without it calls work nevertheless, so its failure is logged and no more.
fn start_qubesdb() {
    let serve = || {
        let Err(e) = crate::qubesdb::daemon::run(&crate::qubesdb::daemon::Setup::default());
        crate::report::log("qubesdb-daemon", &e);
    };
    let thread = std::thread::Builder::new()
        .name("qubesdb".into())
        .stack_size(QUBESDB_STACK);
    if let Err(e) = thread.spawn(serve) {
        crate::report::log("qubesdb-daemon", &e);
    }
}

/// Root has no windows: it is the agent of a qube that systemd runs, which has a unit for them.
fn start_session(stopping: &Arc<AtomicBool>) {
    if geteuid().is_root() {
        return;
    }
    if let Err(e) = crate::session::start_keeping(Arc::clone(stopping)) {
        crate::report::log(NAME, &e);
    }
}

/// Services start where their user is at home, if that is there yet.
fn enter_home() {
    if let Some(home) = std::env::var_os("HOME") {
        let _ = std::env::set_current_dir(home);
    }
}

/// Asks all children to stop, and waits for them a little.
fn stop_children() {
    let deadline = Instant::now() + STOP_TIMEOUT;
    let mut asked = Vec::new();
    loop {
        let left = bulkhead_qrexec::children::all();
        if left.is_empty() || Instant::now() >= deadline {
            return;
        }
        for pid in left {
            if pid != getpid() && !asked.contains(&pid) {
                // Gone already, or of another user: then it is not ours to stop.
                let _ = kill_process(pid, Signal::TERM);
                asked.push(pid);
            }
        }
        bulkhead_qrexec::children::reap_all();
        std::thread::sleep(Duration::from_millis(10));
    }
}
