//! How services run in a guest.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use bulkhead_qrexec::launch::{Diagnostics, Program};
use bulkhead_qrexec::lookup::Folders;
use bulkhead_qrexec::pump::Switch;
use bulkhead_qrexec::serve::{Host, Run, ServeError, start_session};
use bulkhead_qrexec::users::{User, Users, groups};
use bulkhead_wire::qrexec::command::ServiceCall;
use rustix::process::{Pid, geteuid, getpgid};

use crate::session::Session;

/// The guest.
#[derive(Debug)]
pub(super) struct GuestHost {
    folders: Folders,
    session: Once,
    running: Mutex<Running>,
}

/// Signals that came before their service was noted here; a handful of starts can overlap.
const EARLY_MAX: usize = 16;

/// Services by process group.
#[derive(Debug, Default)]
struct Running {
    switches: BTreeMap<u32, Switch>,
    early: VecDeque<u32>,
}

impl GuestHost {
    pub(super) fn new() -> Self {
        let running = Mutex::default();
        Self {
            folders: Folders::from_env(),
            session: Once::new(),
            running,
        }
    }

    /// A process wants to use its standard input for both directions.
    pub(super) fn switch(&self, from: Option<i32>) {
        // Services lead their process groups; whoever signals is in one of them.
        let group = from
            .and_then(Pid::from_raw)
            .and_then(|pid| getpgid(Some(pid)).ok());
        let Some(group) = group.map(|group| group.as_raw_nonzero().get().unsigned_abs()) else {
            // It is gone: what it wrote before is noticed anyway.
            return;
        };
        let mut running = self.running();
        if let Some(switch) = running.switches.get(&group) {
            switch.set();
            return;
        }
        running.early.push_back(group);
        if running.early.len() > EARLY_MAX {
            running.early.pop_front();
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // The map is whole between any two operations on it.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for GuestHost {
    fn folders(&self) -> &Folders {
        &self.folders
    }

    fn diagnostics(&self) -> Diagnostics {
        Diagnostics::Stream
    }

    fn command(&self, user: Option<&str>, what: Run<'_>) -> Result<Program, ServeError> {
        let (mut program, uid) = program_of(user, what)?;
        if let Some(session) = Session::of(uid) {
            program.envs(session.variables());
        }
        Ok(program)
    }

    fn wait_for_session(&self, call: &ServiceCall, user: Option<&str>) {
        self.session.call_once(|| {
            // The service itself runs as whoever the agent is.
            let own = Users::read().ok();
            let own = own.and_then(|users| users.by_uid(geteuid().as_raw()));
            let runner = own.map(|own| own.name);
            start_session(self, call, runner.as_deref(), user);
        });
    }

    fn running(&self, pid: u32, switch: &Switch) {
        let mut running = self.running();
        running.switches.insert(pid, switch.clone());
        if running.early.contains(&pid) {
            switch.set();
            running.early.retain(|early| *early != pid);
        }
    }

    fn ended(&self, pid: u32) {
        self.running().switches.remove(&pid);
    }

    fn log(&self, error: &dyn std::error::Error) {
        crate::report::log(super::NAME, error);
    }
}

/// What runs `what` as `user`, and the number of that user.
fn program_of(user: Option<&str>, what: Run<'_>) -> Result<(Program, u32), ServeError> {
    let refuse = |problem: &str| {
        let user = user.unwrap_or_default().to_owned();
        ServeError::User {
            user,
            problem: problem.into(),
        }
    };
    let name = user.ok_or_else(|| refuse("none was named"))?;
    let own = geteuid();
    // A qube on somebody else's root may have no entry for its user, or another name in it;
    // whoever started the agent has said who it is.
    let told = std::env::var("USER").ok();
    if !own.is_root() && told.as_deref() == Some(name) {
        return Ok((plain(what), own.as_raw()));
    }
    let users = Users::read().map_err(ServeError::Start)?;
    if own.is_root() {
        let user = users
            .by_name(name)
            .ok_or_else(|| refuse("there is no such user"))?;
        let program = if user.uid == 0 {
            as_self(&user, what)
        } else {
            as_other(&user, what)?
        };
        return Ok((program, user.uid));
    }
    let listed = users.by_uid(own.as_raw()).map(|own| own.name);
    if listed.as_deref() == Some(name) {
        return Ok((plain(what), own.as_raw()));
    }
    match listed.or(told) {
        Some(own) => Err(refuse(&format!(
            "the agent runs as `{own}` and cannot change that"
        ))),
        None => Err(refuse("the agent's own user has no name")),
    }
}

/// Program, name and arguments of what is to run.
fn parts(what: Run<'_>, shell: &Path, shell_name: &str) -> (OsString, OsString, Vec<OsString>) {
    match what {
        Run::Program(path, argument) => {
            let argument = argument.map(OsString::from).into_iter().collect();
            (path.into(), path.into(), argument)
        }
        Run::Shell(line) => {
            let line = OsString::from_vec(line.to_vec());
            (shell.into(), shell_name.into(), vec!["-c".into(), line])
        }
    }
}

/// As the agent's own user, in the agent's own environment.
fn plain(what: Run<'_>) -> Program {
    let (program, name, arguments) = parts(what, Path::new("/bin/sh"), "sh");
    let mut command = Program::new(program);
    if matches!(what, Run::Shell(_)) {
        command.arg0(name);
    }
    command.args(arguments);
    command
}

fn login_name(user: &User) -> String {
    let base = user.shell.file_name().unwrap_or_default().to_string_lossy();
    format!("-{base}")
}

fn login(command: &mut Program, user: &User) {
    command
        .env("HOME", &user.home)
        .env("SHELL", &user.shell)
        .env("USER", &user.name)
        .env("LOGNAME", &user.name);
}

fn as_self(user: &User, what: Run<'_>) -> Program {
    let (program, name, arguments) = parts(what, &user.shell, &login_name(user));
    let mut command = Program::new(program);
    if matches!(what, Run::Shell(_)) {
        command.arg0(name);
    }
    command.args(arguments);
    login(&mut command, user);
    command
}

/// Through our own program, which changes the user and is replaced by the service.
fn as_other(user: &User, what: Run<'_>) -> Result<Program, ServeError> {
    let (program, name, arguments) = parts(what, &user.shell, &login_name(user));
    let groups = groups(user).map_err(ServeError::Start)?;
    let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
    let mut command = Program::new("/proc/self/exe");
    command
        .arg0("run-as")
        .arg(user.uid.to_string())
        .arg(groups.join(","))
        .arg(&user.home)
        .arg(program)
        .arg(name)
        .args(arguments);
    login(&mut command, user);
    Ok(command)
}
