//! `qrexec-client-vm`: asks for a call and is its caller.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bulkhead_qrexec::launch::{self, Diagnostics, Program};
use bulkhead_qrexec::pump::{
    Errors, LocalChild, Options, Output, PumpError, Streams, Switch, exit_code, run,
};
use bulkhead_vchan::{AnyListener, DomId, IdError, Port, Rings, Transport, TransportError};
use bulkhead_wire::qrexec::announced::Announced;
use bulkhead_wire::qrexec::data::Role;
use bulkhead_wire::qrexec::trigger::{Trigger, TriggerError};
use bulkhead_wire::qrexec::{EXIT_REFUSED, Endpoint, Version};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::termios::isatty;
use thiserror::Error;

use crate::options::{Known, OptionError, parse};

const NAME: &str = "qrexec-client-vm";

/// How long the other qube may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(120);

const KNOWN: &[Known] = &[
    Known {
        long: "buffer-size",
        short: None,
        value: true,
    },
    Known {
        long: "filter-escape-chars-stdout",
        short: Some(b't'),
        value: false,
    },
    Known {
        long: "filter-escape-chars-stderr",
        short: Some(b'T'),
        value: false,
    },
    Known {
        long: "no-filter-escape-chars-stdout",
        short: None,
        value: false,
    },
    Known {
        long: "no-filter-escape-chars-stderr",
        short: None,
        value: false,
    },
    Known {
        long: "agent-socket",
        short: Some(b'a'),
        value: true,
    },
    Known {
        long: "prefix-data",
        short: Some(b'p'),
        value: true,
    },
    Known {
        long: "use-stdin-socket",
        short: None,
        value: false,
    },
    Known {
        long: "source-qube",
        short: Some(b's'),
        value: true,
    },
    Known {
        long: "end-with-parent",
        short: None,
        value: true,
    },
    Known {
        long: "announce",
        short: None,
        value: true,
    },
    Known {
        long: "help",
        short: Some(b'h'),
        value: false,
    },
];

const USAGE: &str = "usage: qrexec-client-vm [options] TARGET SERVICE [LOCAL_PROGRAM [ARGUMENT...]]
  -h, --help                          print this
  -t, --filter-escape-chars-stdout    replace unprintable bytes on stdout (default on terminals)
  -T, --filter-escape-chars-stderr    the same for stderr
      --no-filter-escape-chars-stdout
      --no-filter-escape-chars-stderr
  -a, --agent-socket=PATH             find the agent at PATH
  -p, --prefix-data=DATA              send DATA before what comes on stdin
  -s, --source-qube=QUBE              call for QUBE (relayed calls)
      --use-stdin-socket              stdin is a socket for both directions
      --end-with-parent=PID           end when PID does, which must be the parent process
      --announce=ANNOUNCEMENT         what will be sent, as qvm-copy writes it
      --buffer-size=BYTES             least size of the channel's buffers";

#[derive(Debug, Error)]
enum CallError {
    #[error("cannot understand the command line")]
    Options(#[from] OptionError),
    #[error("{0}")]
    Usage(&'static str),
    #[error("{0} is not text")]
    Text(&'static str),
    #[error("cannot ask for this call")]
    Trigger(#[from] TriggerError),
    #[error("cannot reach the agent at `{}`", path.display())]
    Agent { path: PathBuf, source: io::Error },
    #[error("the agent named no usable domain")]
    Domain(#[from] IdError),
    #[error("cannot open the channel")]
    Channel(#[from] TransportError),
    #[error("cannot use the standard streams")]
    Streams(#[source] io::Error),
    #[error("cannot run `{program}`")]
    Program { program: String, source: io::Error },
    #[error("cannot watch the parent process")]
    Parent(#[source] io::Error),
    #[error("the parent process is gone")]
    Orphan,
    #[error("the call broke off")]
    Pump(#[from] PumpError),
}

/// What is asked for.
#[derive(Debug, Default)]
struct Request {
    agent: PathBuf,
    source: String,
    target: String,
    service: String,
    program: Vec<OsString>,
    filter_main: Option<bool>,
    filter_errors: Option<bool>,
    prefix: Vec<u8>,
    /// Least size of the rings.
    buffer: usize,
    stdin_socket: bool,
    announced: Option<Announced>,
    /// On which the agent was asked already.
    asked: Option<UnixStream>,
}

impl Request {
    /// That the agent cannot be reached.
    fn lost(&self, source: io::Error) -> CallError {
        CallError::Agent {
            path: self.agent.clone(),
            source,
        }
    }
}

pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let outcome = read_request(arguments).and_then(|request| match request {
        Some(request) => call(request),
        None => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
    });
    match outcome {
        Ok(code) => code,
        Err(e @ (CallError::Options(_) | CallError::Usage(_))) => {
            crate::report::log(NAME, &e);
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Err(e @ CallError::Agent { .. }) => {
            crate::report::log(NAME, &e);
            ExitCode::FAILURE
        }
        Err(e) => crate::report::fail(NAME, &e),
    }
}

/// None if only help is wanted.
fn read_request(arguments: Vec<OsString>) -> Result<Option<Request>, CallError> {
    let given = parse(KNOWN, arguments)?;
    let agent = PathBuf::from(crate::agent::TRIGGER_PATH);
    // It asks only where there are no options, so that it asked for what is read here.
    let asked = bulkhead_early::connection().filter(|_| given.options.is_empty());
    let mut request = Request {
        agent,
        asked: asked.map(UnixStream::from),
        ..Request::default()
    };
    for (name, value) in given.options {
        match name {
            "buffer-size" => {
                // Sockets have room enough; there the number need only make sense.
                let number = value.to_str().and_then(|text| text.parse::<i32>().ok());
                let number = number.and_then(|bytes| usize::try_from(bytes).ok());
                request.buffer = number.ok_or(CallError::Usage("buffer size is no number"))?;
            }
            "filter-escape-chars-stdout" => request.filter_main = Some(true),
            "filter-escape-chars-stderr" => request.filter_errors = Some(true),
            "no-filter-escape-chars-stdout" => request.filter_main = Some(false),
            "no-filter-escape-chars-stderr" => request.filter_errors = Some(false),
            "agent-socket" => request.agent = value.into(),
            "prefix-data" if !request.prefix.is_empty() => {
                return Err(CallError::Usage("prefix data was given twice"));
            }
            "prefix-data" => request.prefix = value.into_encoded_bytes(),
            "use-stdin-socket" => request.stdin_socket = true,
            "announce" => {
                let announced = value.to_str().and_then(Announced::decode);
                let malformed = CallError::Usage("the announcement is malformed");
                request.announced = Some(announced.ok_or(malformed)?);
            }
            "end-with-parent" => {
                let parent = value.to_str().and_then(|text| text.parse().ok());
                end_with(parent.ok_or(CallError::Usage("the parent is no process number"))?)?;
            }
            "source-qube" if !request.source.is_empty() => {
                return Err(CallError::Usage("a source qube was given twice"));
            }
            "source-qube" => request.source = text(value, "source qube")?,
            _ => return Ok(None),
        }
    }
    let mut words = given.rest.into_iter();
    let (Some(target), Some(service)) = (words.next(), words.next()) else {
        return Err(CallError::Usage("target and service are needed"));
    };
    request.target = text(target, "target")?;
    request.service = text(service, "service")?;
    request.program = words.collect();
    if request.stdin_socket {
        if !request.program.is_empty() {
            return Err(CallError::Usage(
                "a local program has no use for --use-stdin-socket",
            ));
        }
        if !launch::stdin_is_stream_socket() {
            return Err(CallError::Usage("stdin is not a stream socket"));
        }
    }
    Ok(Some(request))
}

/// Sees to it that this process ends when `parent` does, or has.
fn end_with(parent: u32) -> Result<(), CallError> {
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(|e| CallError::Parent(e.into()))?;
    if std::os::unix::process::parent_id() == parent {
        Ok(())
    } else {
        Err(CallError::Orphan)
    }
}

fn text(value: OsString, what: &'static str) -> Result<String, CallError> {
    value.into_string().map_err(|_| CallError::Text(what))
}

/// Asks the agent for the call.
fn ask(request: &Request) -> Result<UnixStream, CallError> {
    let message = Trigger::ask(&request.source, &request.target, &request.service);
    // The agent puts it into the form that its link has.
    let message = message.encode(Version::NEWEST)?;
    let stream = match request.announced {
        Some(announced) => crate::announce::connect(&request.agent, announced),
        None => UnixStream::connect(&request.agent),
    };
    let mut stream = stream.map_err(|e| request.lost(e))?;
    stream.write_all(&message).map_err(|e| request.lost(e))?;
    Ok(stream)
}

fn call(mut request: Request) -> Result<ExitCode, CallError> {
    let mut stream = match request.asked.take() {
        Some(asked) => asked,
        None => ask(&request)?,
    };
    let mut answer = [0; Endpoint::LEN];
    let endpoint = match stream.read_exact(&mut answer) {
        Ok(()) => Endpoint::split(&answer).map(|(endpoint, _)| endpoint),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => None,
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => None,
        Err(e) => return Err(request.lost(e)),
    };
    let Some(endpoint) = endpoint else {
        eprintln!("Request refused");
        return Ok(ExitCode::from(EXIT_REFUSED));
    };
    let (domain, port) = (DomId::new(endpoint.domain)?, Port::new(endpoint.port));
    let rings = Rings::DATA.with_at_least(request.buffer);
    let listener = Transport::from_env()?.listen(domain, port, rings)?;
    let ending = serve(request, listener);
    // Open until now: its end tells dom0 that the port is free again.
    drop(stream);
    ending
}

fn serve(request: Request, listener: AnyListener) -> Result<ExitCode, CallError> {
    let mut options = Options::new(Role::Caller);
    let deadline = Some(Instant::now() + CONNECT_TIMEOUT);
    let to_terminal = isatty(rustix::stdio::stdout()) && request.program.is_empty();
    options.filter_main = request.filter_main.unwrap_or(to_terminal);
    options.filter_errors = request
        .filter_errors
        .unwrap_or_else(|| isatty(rustix::stdio::stderr()));
    options.prefix = request.prefix;
    let (streams, child) = match request.program.as_slice() {
        [] => (
            launch::own(request.stdin_socket).map_err(CallError::Streams)?,
            None,
        ),
        program => {
            let switch = Switch::new().map_err(CallError::Streams)?;
            options.switch = Some(switch.clone());
            let started = watch(switch).and_then(|()| start(program));
            match started {
                Ok((streams, child)) => (streams, Some(child)),
                Err(e) => {
                    // The other side waits for a channel: let it see that nobody is there.
                    drop(listener.accept(Some(Instant::now() + Duration::from_secs(5))));
                    return Err(e);
                }
            }
        }
    };
    let mut channel = listener.accept(deadline)?;
    let ending = run(&mut channel, streams, child, options)?;
    if ending.cut {
        eprintln!("{NAME}: the other side went away before the call was over");
    }
    // Only the low byte is an exit code.
    Ok(ExitCode::from(exit_code(&ending).to_le_bytes()[0]))
}

/// `SIGUSR1` from the local program sets the switch; other signals end us as usual.
fn watch(switch: Switch) -> Result<(), CallError> {
    crate::signals::watch_switch(move || switch.set()).map_err(CallError::Streams)
}

fn start(program: &[OsString]) -> Result<(Streams, LocalChild), CallError> {
    let [path, arguments @ ..] = program else {
        return Err(CallError::Usage("target and service are needed"));
    };
    let mut command = Program::new(path);
    if let Some(name) = Path::new(path).file_name() {
        command.arg0(name);
    }
    command.args(arguments);
    launch::set_environment(&mut command, None);
    let keep_errors = std::env::var_os("PASS_LOCAL_STDERR").is_some();
    for fd in 0..if keep_errors { 3 } else { 2 } {
        let saved = match fd {
            0 => rustix::io::dup(rustix::stdio::stdin()),
            1 => rustix::io::dup(rustix::stdio::stdout()),
            _ => rustix::io::dup(rustix::stdio::stderr()),
        };
        let saved = saved.map_err(|e| CallError::Streams(e.into()))?;
        // Inherited by the program, which finds it by its number; closed when we end.
        command.env(format!("SAVED_FD_{fd}"), saved.into_raw_fd().to_string());
    }
    let started = launch::start(&command, Diagnostics::Inherit);
    let (mut streams, child) = started.map_err(|source| CallError::Program {
        program: path.display().to_string(),
        source,
    })?;
    let stderr = rustix::stdio::stderr().as_fd().try_clone_to_owned();
    let errors = stderr.and_then(Output::new).map_err(CallError::Streams)?;
    streams.errors = Errors::To(errors);
    Ok((streams, child))
}

#[cfg(test)]
mod tests {
    use bulkhead_early::request::{SERVICE_MAX, is_plain, write};

    use super::*;

    #[test]
    fn what_is_asked_early_is_what_would_be_asked_later() {
        let (longest, service) = ("t".repeat(63), "s".repeat(SERVICE_MAX));
        for (target, service) in [("work", "a.B"), ("@dispvm:x", "-a+b"), (&longest, &service)] {
            assert!(is_plain(target.as_bytes(), service.as_bytes()));
            let mut early = Vec::new();
            write(target.as_bytes(), service.as_bytes(), |byte| {
                early.push(byte)
            });
            let arguments = [target, service, "program"].map(OsString::from);
            let request = read_request(arguments.into()).unwrap().unwrap();
            assert_eq!((&*request.target, &*request.service), (target, service));
            let later = Trigger::ask("", target, service).encode(Version::NEWEST);
            assert_eq!(early, later.unwrap(), "{target}");
        }
    }
}
