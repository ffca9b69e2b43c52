//! The four things one can ask for.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bulkhead_qrexec::launch::{self, Diagnostics};
use bulkhead_qrexec::lookup::Service;
use bulkhead_qrexec::pump::{self, LocalChild, Options, Streams, Switch};
use bulkhead_qrexec::serve::{Host, LINGER, Run, serve};
use bulkhead_vchan::xen::Rings;
use bulkhead_vchan::{DomId, Port, SocketDir, Transport};
use bulkhead_wire::qrexec::command::{Command, What};
use bulkhead_wire::qrexec::data::Role;
use bulkhead_wire::qrexec::local::ClientCommand;
use bulkhead_wire::qrexec::{Endpoint, Ident};

use super::daemon::Daemon;
use super::host::Dom0;
use super::{Arguments, ClientError};

/// Names of dom0.
const DOM0: [&str; 3] = [
    "dom0",
    "@adminvm",
    "uuid:00000000-0000-0000-0000-000000000000",
];

/// A deadline that nobody lives to see.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A qube's request for a call.
#[derive(Debug)]
struct Request {
    ident: Ident,
    qube: String,
    id: u32,
}

impl Request {
    fn parse(text: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::Request(text.into());
        let fields: Vec<_> = text.split(',').collect();
        let [ident, qube, id] = fields.as_slice() else {
            return Err(bad());
        };
        let ident = Ident::from_text(ident).ok_or_else(bad)?;
        let id = id.parse::<DomId>().map_err(|_| bad())?.number();
        Ok(Self {
            ident,
            qube: (*qube).into(),
            id,
        })
    }
}

/// Does what was asked for; the exit code.
pub(super) fn run(arguments: &Arguments) -> Result<i32, ClientError> {
    let request = arguments
        .connect
        .as_deref()
        .map(Request::parse)
        .transpose()?;
    let to_dom0 = DOM0.contains(&arguments.domain.as_str());
    match (to_dom0, request) {
        (true, Some(request)) => qube_to_dom0(arguments, &request),
        (true, None) => dom0_to_dom0(arguments),
        (false, Some(request)) => qube_to_qube(arguments, &request),
        (false, None) => {
            let outcome = dom0_to_qube(arguments);
            if arguments.kill {
                kill(&arguments.domain)?;
            }
            outcome
        }
    }
}

fn sockets(arguments: &Arguments) -> PathBuf {
    arguments.socket_dir.clone().unwrap_or_else(runtime_dir)
}

/// Where `bulkheadd` keeps its sockets.
fn runtime_dir() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !rustix::process::geteuid().is_root());
    own.map_or_else(|| "/run".into(), PathBuf::from)
        .join("bulkhead")
}

/// Channels of `qube`: as the environment says, on Xen, or by the sockets in its folder.
fn channels(qube: &str) -> Result<Transport, ClientError> {
    Ok(match Transport::from_env()? {
        Transport::Neither(_) => Transport::Sockets(SocketDir::new(
            runtime_dir().join("qubes").join(qube).join("vchan"),
            DomId::DOM0,
        )),
        chosen => chosen,
    })
}

fn deadline(arguments: &Arguments) -> Instant {
    let wait = match arguments.timeout {
        0 => FOREVER,
        seconds => Duration::from_secs(seconds).min(FOREVER),
    };
    Instant::now() + wait
}

fn execute(arguments: &Arguments, domain: u32) -> ClientCommand {
    ClientCommand::Execute {
        endpoint: Endpoint { domain, port: 0 },
        cmdline: arguments.command.as_bytes().to_vec(),
        just_exec: arguments.detach,
    }
}

/// Both qubes' daemons are told; the data passes us by.
fn qube_to_qube(arguments: &Arguments, request: &Request) -> Result<i32, ClientError> {
    let folder = sockets(arguments);
    let command = execute(arguments, request.id);
    let mut target = Daemon::send(&folder, &arguments.domain, &command)?;
    let endpoint = target.endpoint()?;
    let answer = ClientCommand::Connect {
        endpoint,
        ident: request.ident.clone(),
    };
    let source = Daemon::send(&folder, &request.qube, &answer)?;
    if arguments.wait {
        target.wait();
    }
    drop(source);
    Ok(0)
}

/// The service runs here.
fn qube_to_dom0(arguments: &Arguments, request: &Request) -> Result<i32, ClientError> {
    let command = Command::parse_rest(arguments.command.as_bytes());
    let here = Endpoint { domain: 0, port: 0 };
    let answer = ClientCommand::Connect {
        endpoint: here,
        ident: request.ident.clone(),
    };
    let mut source = Daemon::send(&sockets(arguments), &request.qube, &answer)?;
    let endpoint = source.endpoint()?;
    let channels = channels(&request.qube)?;
    let (domain, port) = (DomId::new(endpoint.domain)?, Port::new(endpoint.port));
    let mut channel = channels.connect(domain, port, deadline(arguments))?;
    let ending = serve(&mut channel, command, arguments.detach, &Dom0::new())?;
    channel.linger(LINGER);
    Ok(ending.local.unwrap_or(0))
}

/// No channel at all: the service takes our place.
fn dom0_to_dom0(arguments: &Arguments) -> Result<i32, ClientError> {
    if arguments.local.is_some() {
        return Err(ClientError::Local("cannot have a local program"));
    }
    let line = arguments.command.as_bytes().strip_prefix(b"DEFAULT:");
    let line = line.ok_or(ClientError::Local("must be for the user DEFAULT"))?;
    let command = Command::parse_rest(line)?;
    let What::Service(call) = &command.what else {
        return Err(ClientError::Local("must be for a service"));
    };
    let host = Dom0::new();
    let folders = host.folders();
    let problem = bulkhead_qrexec::serve::ServeError::from;
    let config = folders.config(call).map_err(problem)?;
    if config.wait_for_session && !command.nogui {
        host.wait_for_session(call, None);
    }
    let path = match folders.service(call).map_err(problem)? {
        Service::Program(path) => path,
        Service::Socket(_) | Service::Tcp(_) => {
            return Err(ClientError::Local("cannot reach socket services"));
        }
    };
    let argument = call
        .argument
        .as_deref()
        .filter(|argument| !argument.is_empty());
    let mut program = host.command(None, Run::Program(&path, argument))?;
    launch::set_environment(&mut program, Some(call));
    Err(ClientError::Program(program.exec()))
}

/// We are the caller.
fn dom0_to_qube(arguments: &Arguments) -> Result<i32, ClientError> {
    if arguments.use_stdin_socket && !launch::stdin_is_stream_socket() {
        return Err(ClientError::NoSocket);
    }
    let mut daemon = Daemon::send(
        &sockets(arguments),
        &arguments.domain,
        &execute(arguments, 0),
    )?;
    let endpoint = daemon.endpoint()?;
    let (domain, port) = (DomId::new(endpoint.domain)?, Port::new(endpoint.port));
    let listener = channels(&arguments.domain)?.listen(domain, port, Rings::DATA)?;
    let mut options = Options::new(Role::Caller);
    options.filter_main = arguments.filter_stdout;
    options.filter_errors = arguments.filter_stderr;
    options.prefix = arguments
        .prefix_data
        .as_deref()
        .unwrap_or_default()
        .as_bytes()
        .to_vec();
    let (streams, child) = match &arguments.local {
        Some(line) => local_program(line, &arguments.domain, &mut options)?,
        None if arguments.detach => (Streams::default(), None),
        None => (
            launch::own(arguments.use_stdin_socket).map_err(ClientError::Streams)?,
            None,
        ),
    };
    let mut channel = listener.accept(Some(deadline(arguments)))?;
    let ending = pump::run(&mut channel, streams, child, options)?;
    if ending.cut {
        eprintln!("qrexec-client: the other side went away before the call was over");
    }
    drop(channel);
    if arguments.wait {
        daemon.wait();
    }
    Ok(pump::exit_code(&ending))
}

fn local_program(
    line: &OsStr,
    qube: &str,
    options: &mut Options,
) -> Result<(Streams, Option<LocalChild>), ClientError> {
    let host = Dom0::new();
    let (mut command, call) = match Command::parse_rest(line.as_bytes())?.what {
        What::Shell(line) => (host.command(None, Run::Shell(&line))?, None),
        What::Service(call) => {
            let found = host.folders().service(&call);
            let found = found.map_err(bulkhead_qrexec::serve::ServeError::from)?;
            let Service::Program(path) = found else {
                return Err(ClientError::Local("cannot reach socket services"));
            };
            let argument = call
                .argument
                .clone()
                .filter(|argument| !argument.is_empty());
            (
                host.command(None, Run::Program(&path, argument.as_deref()))?,
                Some(call),
            )
        }
    };
    launch::set_environment(&mut command, call.as_ref());
    command.env("QREXEC_REMOTE_DOMAIN", qube);
    options.switch = Some(Switch::new().map_err(ClientError::Streams)?);
    let (streams, child) =
        launch::start(&command, Diagnostics::Inherit).map_err(ClientError::Program)?;
    let errors = rustix::stdio::stderr()
        .try_clone_to_owned()
        .and_then(pump::Output::new);
    let errors = pump::Errors::To(errors.map_err(ClientError::Streams)?);
    Ok((Streams { errors, ..streams }, Some(child)))
}

/// Through the command that people use, which knows how to ask the daemon.
fn kill(qube: &str) -> Result<(), ClientError> {
    let failed = |source| ClientError::Kill {
        qube: qube.into(),
        source,
    };
    let mut program = std::env::current_exe().map_err(failed)?;
    program.set_file_name("bulkhead");
    let status = std::process::Command::new(program)
        .args(["kill", "--", qube])
        .status();
    match status.map_err(failed)? {
        status if status.success() => Ok(()),
        status => Err(failed(io::Error::other(status.to_string()))),
    }
}
