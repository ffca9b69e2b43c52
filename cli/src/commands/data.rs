//! `run` and `call`: a command or service in a qube, with our streams at the other end.

use std::io::{self, IsTerminal, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bulkhead_api::call::{CallRequest, DataConnection, RunRequest};
use bulkhead_api::{ApiError, ErrorKind};
use bulkhead_qrexec::pump::{self, Errors, Input, Options, Output, Streams};
use bulkhead_vchan::{Listener, SocketChannel};
use bulkhead_wire::qrexec::data::Role;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Session, wait};
use crate::args;
use crate::error::{CommandError, Exit};
use crate::progress::waiting;
use crate::text;

/// Exit code where the command could not be reached, as in qrexec.
const UNREACHED: u8 = 125;

/// Exit code where policy refused, as in qrexec.
const REFUSED: u8 = 126;

/// How long the agent may take to connect: it has been told already, and is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a disposable may take to vanish after its command before we stop waiting.
const GONE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest reason that is read from the daemon's pipe.
const REASON_MAX: u64 = 4096;

pub(super) fn run(session: &Session, args: args::Run) -> Result<Exit, CommandError> {
    let disposable = args.dispvm.is_some();
    let request = RunRequest {
        qube: args.qube.or(args.dispvm).unwrap_or_default(),
        user: args.streams.user.clone().unwrap_or_default(),
        command: text::shell_line(&args.command),
        disposable,
        autostart: !args.streams.no_autostart,
    };
    let what = subject(&request.qube, disposable);
    let connection = wait(async {
        let client = session.client().await?;
        waiting(&what, client.proxy.run(&request))
            .await
            .map_err(refused)
    });
    converse(connection, &args.streams, disposable)
}

pub(super) fn call(session: &Session, args: args::Call) -> Result<Exit, CommandError> {
    let (qube, disposable) = match args.qube.strip_prefix("@dispvm") {
        Some("") => (String::new(), true),
        Some(base) => match base.strip_prefix(':') {
            Some(base) => (base.to_owned(), true),
            None => (args.qube, false),
        },
        None => (args.qube, false),
    };
    let request = CallRequest {
        qube,
        service: args.service,
        user: args.streams.user.clone().unwrap_or_default(),
        disposable,
        autostart: !args.streams.no_autostart,
    };
    let what = subject(&request.qube, disposable);
    let connection = wait(async {
        let client = session.client().await?;
        waiting(&what, client.proxy.call(&request))
            .await
            .map_err(refused)
    });
    converse(connection, &args.streams, disposable)
}

fn subject(qube: &str, disposable: bool) -> String {
    if disposable {
        "starting a disposable".to_owned()
    } else {
        format!("starting {qube}")
    }
}

/// Moves bytes until the command has ended, and ends as it did.
fn converse(
    connection: Result<DataConnection, CommandError>,
    streams: &args::Streams,
    disposable: bool,
) -> Result<Exit, CommandError> {
    let connection = connection.map_err(unreached)?;
    let life: OwnedFd = connection.life.into();
    let channel = accept(connection.listener.into(), &life)?;
    let ending = serve(channel, streams).map_err(|error| {
        CommandError::new(format!(
            "the connection to {} broke",
            text::plain(&connection.qube)
        ))
        .because(&*error)
        .exit(Exit::Program(UNREACHED))
    })?;
    if disposable {
        wait_until_gone(&life);
    }
    let code = pump::exit_code(&ending);
    Ok(Exit::Program(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// A refusal of policy has an exit code of its own.
fn refused(error: ApiError) -> CommandError {
    let denied = error.kind == ErrorKind::Denied;
    let error = CommandError::from(error);
    if denied {
        error.exit(Exit::Program(REFUSED))
    } else {
        error
    }
}

/// Before the command runs, every failure ends with a code that no command of ours uses by itself.
fn unreached(error: CommandError) -> CommandError {
    match error.exit {
        Exit::Bug | Exit::Program(_) => error,
        _ => error.exit(Exit::Program(UNREACHED)),
    }
}

/// Waits until the agent connects, or until the daemon says that it will not.
fn accept(listener: OwnedFd, life: &OwnedFd) -> Result<SocketChannel, CommandError> {
    let failed = |error: &io::Error| {
        CommandError::new("the qube's connection cannot be taken")
            .because(error)
            .exit(Exit::Program(UNREACHED))
    };
    let mut listener = Listener::adopt(listener).map_err(|error| failed(&error))?;
    let end = Instant::now() + CONNECT_TIMEOUT;
    loop {
        match listener.try_accept() {
            Ok(channel) => return Ok(channel),
            Err((back, error)) if error.kind() == io::ErrorKind::WouldBlock => listener = back,
            Err((_, error)) => return Err(failed(&error)),
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CommandError::new("the qube did not connect in time")
                .hint("its console may say why: `bulkhead logs QUBE`")
                .exit(Exit::Program(UNREACHED)));
        }
        let timeout = Timespec::try_from(left).unwrap_or_default();
        let mut fds = [
            PollFd::new(&listener, PollFlags::IN),
            PollFd::new(life, PollFlags::IN),
        ];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(&error.into())),
        }
        let [connected, over] = fds.map(|fd| !fd.revents().is_empty());
        if over && !connected {
            return Err(over_before_it_began(life));
        }
    }
}

fn over_before_it_began(life: &OwnedFd) -> CommandError {
    let mut why = String::new();
    if let Ok(pipe) = life.try_clone() {
        // What cannot be read is no reason; the failure is the same.
        let _ = std::fs::File::from(pipe)
            .take(REASON_MAX)
            .read_to_string(&mut why);
    }
    let mut error = CommandError::new("the qube ended the connection before it began");
    if !why.trim().is_empty() {
        error.causes.push(why.trim().to_owned());
    }
    error.exit(Exit::Program(UNREACHED))
}

fn serve(
    mut channel: SocketChannel,
    args: &args::Streams,
) -> Result<pump::Ending, Box<dyn std::error::Error>> {
    let input = if args.no_stdin {
        None
    } else {
        Some(Input::new(io::stdin().as_fd().try_clone_to_owned()?)?)
    };
    let streams = Streams {
        input,
        output: Some(Output::new(io::stdout().as_fd().try_clone_to_owned()?)?),
        errors: Errors::To(Output::new(io::stderr().as_fd().try_clone_to_owned()?)?),
    };
    let mut options = Options::new(Role::Caller);
    options.filter_main = filters(args, &io::stdout());
    options.filter_errors = filters(args, &io::stderr());
    Ok(pump::run(&mut channel, streams, None, options)?)
}

/// A qube must not act on the person's terminal unless they insist.
fn filters(args: &args::Streams, stream: &impl IsTerminal) -> bool {
    args.filter || (stream.is_terminal() && !args.no_filter)
}

/// The disposable is gone when the daemon closes its end.
fn wait_until_gone(life: &OwnedFd) {
    let timeout = Timespec::try_from(GONE_TIMEOUT).unwrap_or_default();
    // A daemon that does not say so in time still removes it; we have our exit code already.
    let _ = poll(&mut [PollFd::new(life, PollFlags::IN)], Some(&timeout));
}
