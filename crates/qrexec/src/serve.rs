//! The whole of a call on the service's side: find it, start it, pump, tell how it ended.

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

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
    fn command(&self, user: Option<&str>, what: Run<'_>) -> Result<Command, ServeError>;

    /// Waits until `user` has a session, starting that if need be.
    fn wait_for_session(&self, call: &ServiceCall, user: Option<&str>);

    /// Called with the process and its switch while it runs.
    fn running(&self, pid: u32, switch: &Switch);

    /// Called when it has ended.
    fn ended(&self, pid: u32);

    /// Notes a problem for whoever looks after this place.
    fn log(&self, error: &dyn std::error::Error);
}

/// A service that is ready to start.
#[derive(Debug)]
enum Prepared {
    Process {
        command: Box<Command>,
        hang_up: Option<Duration>,
    },
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
    let call = ServiceCall {
        name: SESSION_SERVICE.into(),
        argument: None,
        target: None,
        descriptor: format!("{SESSION_SERVICE} {}", call.source),
        source: call.source.clone(),
    };
    let path = match host.folders().service(&call)? {
        Service::Program(path) => path,
        Service::Socket(path) => return Err(LookupError::Kind(path).into()),
        Service::Tcp(_) => return Err(LookupError::NotFound(call.name).into()),
    };
    let mut command = host.command(runner, Run::Program(&path, None))?;
    launch::set_environment(&mut command, Some(&call));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    let mut child = children::spawn(&mut command).map_err(ServeError::Start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A service that does not want to know need not read it.
        let _ = writeln!(stdin, "{}", user.unwrap_or_default());
    }
    let outcome = child.wait();
    children::forget(child.id());
    outcome.map(|_| ()).map_err(ServeError::Start)
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
        Ok(Prepared::Process { command, .. }) if just_exec => serve_detached(channel, command),
        Ok(Prepared::Process { command, hang_up }) => {
            serve_process(channel, command, hang_up, host)
        }
        Ok(Prepared::Socket { socket, config }) => {
            serve_socket(channel, socket, &config, just_exec)
        }
        Err(e) => Err(e),
    };
    outcome.unwrap_or_else(|e| {
        host.log(&e);
        let mut options = Options::new(Role::Service);
        options.only_exit_code = just_exec;
        options.failed = host.diagnostics() == Diagnostics::Stream;
        options.exit_code = e.exit_code();
        let local = Some(e.exit_code());
        let ending = pump::run(channel, Streams::default(), None, options)?;
        Ok(Ending { local, ..ending })
    })
}

type Served = Result<Result<Ending, PumpError>, ServeError>;

fn prepare(command: &command::Command, host: &dyn Host) -> Result<Prepared, ServeError> {
    let call = match &command.what {
        What::Shell(line) => {
            let mut shell = host.command(command.user.as_deref(), Run::Shell(line))?;
            launch::set_environment(&mut shell, None);
            return Ok(Prepared::Process {
                command: Box::new(shell),
                // A person at a terminal, for whom it ends as a remote shell does.
                hang_up: Some(Duration::ZERO),
            });
        }
        What::Service(call) => call,
    };
    let config = host.folders().config(call)?;
    let user = config.force_user.as_deref().or(command.user.as_deref());
    if config.wait_for_session && !command.nogui {
        host.wait_for_session(call, user);
    }
    let socket = match host.folders().service(call)? {
        Service::Program(path) => {
            let argument = call
                .argument
                .as_deref()
                .filter(|argument| !argument.is_empty());
            let mut program = host.command(user, Run::Program(&path, argument))?;
            launch::set_environment(&mut program, Some(call));
            return Ok(Prepared::Process {
                command: Box::new(program),
                hang_up: (call.source == DOM0).then_some(HANG_UP_GRACE),
            });
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

fn serve_process(
    channel: &mut dyn Channel,
    mut command: Box<Command>,
    hang_up: Option<Duration>,
    host: &dyn Host,
) -> Served {
    let switch = Switch::new().map_err(ServeError::Start)?;
    let (streams, child) =
        launch::start(&mut command, host.diagnostics()).map_err(ServeError::Start)?;
    drop(command);
    let pid = child.id();
    host.running(pid, &switch);
    let mut options = Options::new(Role::Service);
    options.switch = Some(switch);
    options.hang_up = hang_up;
    let ending = pump::run(channel, streams, Some(child), options);
    host.ended(pid);
    Ok(ending)
}

fn serve_detached(channel: &mut dyn Channel, mut command: Box<Command>) -> Served {
    let child = launch::start_detached(&mut command).map_err(ServeError::Start)?;
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
