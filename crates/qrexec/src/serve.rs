//! The whole of a call on the service's side: find it, start it, pump, tell how it ended.

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bulkhead_sandbox::spawn::{Program, Stream};
use bulkhead_vchan::Channel;
use bulkhead_wire::qrexec::EXIT_PROBLEM;
use bulkhead_wire::qrexec::command::{self, CommandError, ServiceCall, What};
use bulkhead_wire::qrexec::config::ServiceConfig;
use bulkhead_wire::qrexec::data::Role;
use thiserror::Error;

use crate::children;
use crate::launch::{self, Diagnostics};
use crate::lookup::{Folders, LookupError, Service};
use crate::pump::{self, Ending, Input, LocalChild, Options, PumpError, Streams, Switch};

/// Source of calls that a person in dom0 makes.
const DOM0: &str = "dom0";
/// The service that waits for a user's session.
const SESSION_SERVICE: &str = "qubes.WaitForSession";

/// How long a caller may take to close its channel after it was told the exit code. It may be in
/// the middle of sending what the service did not want.
pub const LINGER: Duration = Duration::from_millis(500);

/// How long a service that dom0 called may go on when dom0 has gone away, before it is hung up on:
/// it sees the ends of its streams and may want to clear up. A command is hung up on at once.
pub const HANG_UP_GRACE: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Debug, Clone, Copy)]
pub enum Run<'a> {
    /// A program, with the argument of the call if that is not empty.
    Program(&'a Path, Option<&'a str>),
    /// A command for the user's shell.
    Shell(&'a [u8]),
}

/// A service that could not be started.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The command line is wrong.
    #[error("command line of a call is malformed")]
    Command(#[from] CommandError),
    /// The service cannot be used.
    #[error("service of a call cannot be used")]
    Lookup(#[from] LookupError),
    /// The user does not exist or is not ours to be.
    #[error("cannot run as user `{user}`: {problem}")]
    User {
        /// Who.
        user: String,
        /// Why not.
        problem: String,
    },
    /// Starting failed.
    #[error("cannot start a service")]
    Start(#[source] io::Error),
}

impl ServeError {
    /// The exit code that tells a caller.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Lookup(e) => e.exit_code().into(),
            _ => EXIT_PROBLEM.into(),
        }
    }
}

/// What differs between the places where services run.
pub trait Host {
    /// Where services are.
    fn folders(&self) -> &Folders;

    /// Diagnostics of services.
    fn diagnostics(&self) -> Diagnostics;

    /// The command that runs `what` as `user`, without streams and call environment.
    ///
    /// # Errors
    /// [`ServeError::User`].
    fn command(&self, user: Option<&str>, what: Run<'_>) -> Result<Program, ServeError>;

    /// Waits until `user` has a session, starting that if need be.
    fn wait_for_session(&self, call: &ServiceCall, user: Option<&str>);

    /// Called with the process and its switch while it runs.
    fn running(&self, pid: u32, switch: &Switch);

    /// Called when it has ended.
    fn ended(&self, pid: u32);

    /// Notes a problem for whoever looks after this place.
    fn log(&self, error: &dyn std::error::Error);
}

/// A program that runs.
#[derive(Debug)]
struct Started {
    switch: Switch,
    streams: Streams,
    child: LocalChild,
    hang_up: Option<Duration>,
}

/// A program that is ready to start.
#[derive(Debug)]
struct Ready {
    command: Program,
    /// How long it may go on when its caller is gone, if that is to end it.
    hang_up: Option<Duration>,
}

/// A service that is ready to start.
#[derive(Debug)]
enum Prepared {
    Process(Ready),
    Socket {
        socket: OwnedFd,
        config: ServiceConfig,
    },
}

/// Waits for a session by running `qubes.WaitForSession` as `runner`, which reads the name of
/// `user`. Whatever comes of it, calls go on; that it is not installed is no problem at all.
pub fn start_session(
    host: &dyn Host,
    call: &ServiceCall,
    runner: Option<&str>,
    user: Option<&str>,
) {
    match try_start_session(host, call, runner, user) {
        Ok(()) | Err(ServeError::Lookup(LookupError::NotFound(_))) => {}
        Err(e) => host.log(&e),
    }
}

fn try_start_session(
    host: &dyn Host,
    call: &ServiceCall,
    runner: Option<&str>,
    user: Option<&str>,
) -> Result<(), ServeError> {
    let call = session_call(call);
    let path = match host.folders().service(&call)? {
        Service::Program(path) => path,
        Service::Socket(path) => return Err(LookupError::Kind(path).into()),
        Service::Tcp(_) => return Err(LookupError::NotFound(call.name).into()),
    };
    let mut command = host.command(runner, Run::Program(&path, None))?;
    launch::set_environment(&mut command, Some(&call));
    run_session(&command, user.unwrap_or_default()).map_err(ServeError::Start)
}

/// The call of `SESSION_SERVICE` before `call` can be served.
#[must_use]
pub fn session_call(call: &ServiceCall) -> ServiceCall {
    ServiceCall {
        name: SESSION_SERVICE.into(),
        argument: None,
        target: None,
        descriptor: format!("{SESSION_SERVICE} {}", call.source),
        source: call.source.clone(),
    }
}

/// Runs that service to its end, which reads the name of `user`.
pub(crate) fn run_session(command: &Program, user: &str) -> io::Result<()> {
    let (input, mut stdin) = io::pipe()?;
    let streams = [
        Stream::Is(input.into()),
        launch::nowhere()?,
        Stream::Inherit,
    ];
    let mut child = children::spawn(command.clone().in_our_group(), streams)?;
    // A service that does not want to know need not read it.
    let _ = writeln!(stdin, "{user}");
    drop(stdin);
    let outcome = child.wait();
    children::forget(child.id());
    outcome.map(|_| ())
}

/// Serves one call.
///
/// # Errors
/// [`PumpError`] if the channel or the peer failed. A service that cannot be started is logged,
/// and its exit code is told to the caller and returned.
pub fn serve(
    channel: &mut dyn Channel,
    command: Result<command::Command, CommandError>,
    just_exec: bool,
    host: &dyn Host,
) -> Result<Ending, PumpError> {
    let prepared = command
        .map_err(ServeError::from)
        .and_then(|command| prepare(&command, host));
    let outcome = match prepared {
        Ok(Prepared::Process(Ready { command, .. })) if just_exec => {
            serve_detached(channel, &command)
        }
        Ok(Prepared::Process(ready)) => {
            start_process(ready, host).map(|started| pump_process(channel, started, host))
        }
        Ok(Prepared::Socket { socket, config }) => {
            serve_socket(channel, socket, &config, just_exec)
        }
        Err(e) => Err(e),
    };
    outcome.unwrap_or_else(|e| fail(channel, &e, just_exec, host))
}

/// Serves one call over the channel that `connect` makes. A program starts while that is under
/// way, so that neither waits for the other; what has to be waited for itself does not.
///
/// # Errors
/// What `connect` said: a program that was started is killed then, nobody can hear of it. What
/// comes of the call else is as of [`serve`].
pub fn serve_connecting<C: Channel, E>(
    connect: impl FnOnce() -> Result<C, E>,
    command: Result<command::Command, CommandError>,
    just_exec: bool,
    host: &dyn Host,
) -> Result<(C, Result<Ending, PumpError>), E> {
    let early = match &command {
        Ok(command) if !just_exec => start_early(command, host).transpose(),
        _ => None,
    };
    let channel = connect();
    match (early, channel) {
        (Some(Ok(started)), Err(e)) => {
            abandon(started, host);
            Err(e)
        }
        (_, Err(e)) => Err(e),
        (None, Ok(mut channel)) => {
            let outcome = serve(&mut channel, command, just_exec, host);
            Ok((channel, outcome))
        }
        (Some(Ok(started)), Ok(mut channel)) => {
            let outcome = pump_process(&mut channel, started, host);
            Ok((channel, outcome))
        }
        (Some(Err(e)), Ok(mut channel)) => {
            let outcome = fail(&mut channel, &e, false, host);
            Ok((channel, outcome))
        }
    }
}

/// Starts a program at once; none if the call is not for one, or is to wait for a session.
fn start_early(command: &command::Command, host: &dyn Host) -> Result<Option<Started>, ServeError> {
    let ready = match &command.what {
        What::Shell(line) => shell(command, line, host)?,
        What::Service(call) => {
            let config = host.folders().config(call)?;
            if waits_for_session(command, &config) {
                return Ok(None);
            }
            let Service::Program(path) = host.folders().service(call)? else {
                return Ok(None);
            };
            program(call, user(command, &config), &path, host)?
        }
    };
    start_process(ready, host).map(Some)
}

type Served = Result<Result<Ending, PumpError>, ServeError>;

/// Tells the caller of a service that could not be started.
fn fail(
    channel: &mut dyn Channel,
    error: &ServeError,
    just_exec: bool,
    host: &dyn Host,
) -> Result<Ending, PumpError> {
    host.log(error);
    let mut options = Options::new(Role::Service);
    options.only_exit_code = just_exec;
    options.failed = host.diagnostics() == Diagnostics::Stream;
    options.exit_code = error.exit_code();
    let local = Some(error.exit_code());
    let ending = pump::run(channel, Streams::default(), None, options)?;
    Ok(Ending { local, ..ending })
}

fn waits_for_session(command: &command::Command, config: &ServiceConfig) -> bool {
    config.wait_for_session && !command.nogui
}

/// Whom a service runs as.
fn user<'a>(command: &'a command::Command, config: &'a ServiceConfig) -> Option<&'a str> {
    config.force_user.as_deref().or(command.user.as_deref())
}

fn shell(command: &command::Command, line: &[u8], host: &dyn Host) -> Result<Ready, ServeError> {
    let mut shell = host.command(command.user.as_deref(), Run::Shell(line))?;
    launch::set_environment(&mut shell, None);
    Ok(Ready {
        command: shell,
        // A person at a terminal, for whom it ends as a remote shell does.
        hang_up: Some(Duration::ZERO),
    })
}

fn program(
    call: &ServiceCall,
    user: Option<&str>,
    path: &Path,
    host: &dyn Host,
) -> Result<Ready, ServeError> {
    let argument = call
        .argument
        .as_deref()
        .filter(|argument| !argument.is_empty());
    let mut program = host.command(user, Run::Program(path, argument))?;
    launch::set_environment(&mut program, Some(call));
    Ok(Ready {
        command: program,
        hang_up: (call.source == DOM0).then_some(HANG_UP_GRACE),
    })
}

fn prepare(command: &command::Command, host: &dyn Host) -> Result<Prepared, ServeError> {
    let call = match &command.what {
        What::Shell(line) => {
            return shell(command, line, host).map(Prepared::Process);
        }
        What::Service(call) => call,
    };
    let config = host.folders().config(call)?;
    let user = user(command, &config);
    if waits_for_session(command, &config) {
        host.wait_for_session(call, user);
    }
    let socket = match host.folders().service(call)? {
        Service::Program(path) => {
            return program(call, user, &path, host).map(Prepared::Process);
        }
        _ if config.user_conflicts_with_socket() => {
            return Err(LookupError::UserOfSocket(call.name.clone()).into());
        }
        Service::Socket(path) => {
            let mut stream = UnixStream::connect(path).map_err(ServeError::Start)?;
            introduce(&mut stream, call, &config)?;
            stream.into()
        }
        Service::Tcp(address) => {
            let mut stream = TcpStream::connect(address).map_err(ServeError::Start)?;
            introduce(&mut stream, call, &config)?;
            stream.into()
        }
    };
    Ok(Prepared::Socket { socket, config })
}

/// Tells a socket service what was called and by whom.
fn introduce(
    stream: &mut dyn Write,
    call: &ServiceCall,
    config: &ServiceConfig,
) -> Result<(), ServeError> {
    if config.skip_service_descriptor == Some(true) {
        return Ok(());
    }
    let text = [call.descriptor.as_bytes(), &[0]].concat();
    stream.write_all(&text).map_err(ServeError::Start)
}

fn start_process(ready: Ready, host: &dyn Host) -> Result<Started, ServeError> {
    let Ready { command, hang_up } = ready;
    let switch = Switch::new().map_err(ServeError::Start)?;
    let (streams, child) =
        launch::start(&command, host.diagnostics()).map_err(ServeError::Start)?;
    host.running(child.id(), &switch);
    Ok(Started {
        switch,
        streams,
        child,
        hang_up,
    })
}

fn pump_process(
    channel: &mut dyn Channel,
    started: Started,
    host: &dyn Host,
) -> Result<Ending, PumpError> {
    let Started {
        switch,
        streams,
        child,
        hang_up,
    } = started;
    let pid = child.id();
    let mut options = Options::new(Role::Service);
    options.switch = Some(switch);
    options.hang_up = hang_up;
    let ending = pump::run(channel, streams, Some(child), options);
    host.ended(pid);
    ending
}

/// Ends a program whose caller never came.
fn abandon(started: Started, host: &dyn Host) {
    let Started {
        mut child, streams, ..
    } = started;
    child.kill_group();
    // One that may not be killed sees at least that nobody listens.
    drop(streams);
    child.wait();
    host.ended(child.id());
}

fn serve_detached(channel: &mut dyn Channel, command: &Program) -> Served {
    let child = launch::start_detached(command).map_err(ServeError::Start)?;
    let mut options = Options::new(Role::Service);
    options.only_exit_code = true;
    // The caller is not kept waiting; the process is still ours to reap.
    let ending = pump::run(channel, Streams::default(), None, options);
    reap(child);
    Ok(ending)
}

/// Waits for a process that nobody else waits for.
fn reap(mut child: LocalChild) {
    let name = std::thread::Builder::new()
        .name("reap".into())
        .stack_size(64 * 1024);
    // Without a thread it stays a zombie until we end, which harms nobody.
    let _ = name.spawn(move || child.wait());
}

fn serve_socket(
    channel: &mut dyn Channel,
    socket: OwnedFd,
    config: &ServiceConfig,
    just_exec: bool,
) -> Served {
    let mut options = Options::new(Role::Service);
    options.only_exit_code = just_exec;
    if just_exec {
        drop(socket);
        return Ok(pump::run(channel, Streams::default(), None, options));
    }
    options.exit_on_client_eof = config.exit_on_client_eof == Some(true);
    options.exit_on_service_eof = config.exit_on_service_eof == Some(true);
    let (input, output) = Input::both(socket).map_err(ServeError::Start)?;
    let streams = Streams {
        input: Some(input),
        output: Some(output),
        ..Streams::default()
    };
    Ok(pump::run(channel, streams, None, options))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::sync::Mutex;
    use std::time::Instant;

    use bulkhead_vchan::SocketChannel;
    use bulkhead_wire::qrexec::{Version, hello};

    use super::*;

    /// Notes in which order things happen.
    struct Place {
        dir: tempfile::TempDir,
        folders: Folders,
        seen: Mutex<Vec<&'static str>>,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let folders = Folders {
                services: vec![dir.path().join("rpc")],
                configs: vec![dir.path().join("config")],
            };
            for folder in ["rpc", "config"] {
                std::fs::create_dir(dir.path().join(folder)).unwrap();
            }
            Self {
                dir,
                folders,
                seen: Mutex::default(),
            }
        }

        fn see(&self, what: &'static str) {
            self.seen.lock().unwrap().push(what);
        }

        /// Serves `line` over a channel that comes, or over none.
        fn serve(&self, line: &str, comes: bool) -> Result<Ending, &'static str> {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let connect = || {
                self.see("connect");
                let channel = SocketChannel::new(ours.into()).unwrap();
                if comes { Ok(channel) } else { Err("nobody") }
            };
            theirs.write_all(&hello(Version::NEWEST)).unwrap();
            let peer = std::thread::spawn(move || theirs.read_to_end(&mut Vec::new()));
            let command = command::Command::parse(line.as_bytes());
            let outcome = serve_connecting(connect, command, false, self);
            // A peer that was never answered is reset, and that is an end too.
            let _ = peer.join().unwrap();
            outcome.map(|(_, ending)| ending.unwrap())
        }
    }

    impl Host for Place {
        fn folders(&self) -> &Folders {
            &self.folders
        }

        fn diagnostics(&self) -> Diagnostics {
            Diagnostics::Stream
        }

        fn command(&self, _user: Option<&str>, what: Run<'_>) -> Result<Program, ServeError> {
            let mut command = match what {
                Run::Program(path, _) => Program::new(path),
                Run::Shell(_) => Program::new("/bin/sh"),
            };
            if let Run::Shell(line) = what {
                command.arg("-c").arg(OsStr::from_bytes(line));
            }
            command.current_dir(self.dir.path());
            Ok(command)
        }

        fn wait_for_session(&self, _call: &ServiceCall, _user: Option<&str>) {
            self.see("session");
        }

        fn running(&self, _pid: u32, _switch: &Switch) {
            self.see("running");
        }

        fn ended(&self, _pid: u32) {
            self.see("ended");
        }

        fn log(&self, _error: &dyn std::error::Error) {
            self.see("log");
        }
    }

    #[test]
    fn a_program_starts_before_its_caller_comes() {
        let place = Place::new();
        let ending = place.serve("user:exit 7", true).unwrap();
        assert_eq!(ending.local, Some(7));
        let seen = place.seen.into_inner().unwrap();
        assert_eq!(seen, ["running", "connect", "ended"]);
    }

    #[test]
    fn a_program_whose_caller_never_comes_is_ended() {
        let place = Place::new();
        let start = Instant::now();
        assert_eq!(place.serve("user:sleep 600", false), Err("nobody"));
        assert!(start.elapsed() < Duration::from_secs(300), "it ran on");
        let seen = place.seen.into_inner().unwrap();
        assert_eq!(seen, ["running", "connect", "ended"]);
    }

    #[test]
    fn a_session_is_waited_for_once_the_caller_is_there() {
        let place = Place::new();
        symlink("/bin/true", place.dir.path().join("rpc/a.B")).unwrap();
        let config = place.dir.path().join("config/a.B");
        std::fs::write(config, "wait-for-session = 1\n").unwrap();
        let ending = place.serve("user:QUBESRPC a.B+ work", true).unwrap();
        assert_eq!(ending.local, Some(0));
        let seen = place.seen.into_inner().unwrap();
        assert_eq!(seen, ["connect", "session", "running", "ended"]);
    }

    #[test]
    fn a_missing_service_is_told_to_the_caller() {
        let place = Place::new();
        let ending = place.serve("user:QUBESRPC a.B+ work", true).unwrap();
        assert_eq!(ending.local, Some(127));
        assert_eq!(place.seen.into_inner().unwrap(), ["connect", "log"]);
    }
}
