//! The parts of `qrexec-client`.

mod daemon;
mod host;
mod modes;

use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use bulkhead_qrexec::pump::PumpError;
use bulkhead_vchan::{IdError, TransportError};
use bulkhead_wire::causes::chain;
use bulkhead_wire::qrexec::EXIT_PROBLEM;
use bulkhead_wire::qrexec::command::CommandError;
use bulkhead_wire::qrexec::control::ControlError;
use clap::Parser;
use thiserror::Error;

/// Run a command in a qube, or connect a qube's call
#[derive(Debug, Parser)]
#[command(name = "qrexec-client", version)]
struct Arguments {
    /// Qube to run the command in; `dom0` runs it here
    #[arg(short = 'd', value_name = "QUBE")]
    domain: String,

    /// Connect the command to this local program instead of the standard streams
    #[arg(short = 'l', value_name = "PROGRAM", conflicts_with_all = ["detach", "connect", "use_stdin_socket"])]
    local: Option<OsString>,

    /// Do not wait for the command and discard its streams
    #[arg(short = 'e', conflicts_with = "connect")]
    detach: bool,

    /// Answer a qube's request for a call
    #[arg(short = 'c', value_name = "REQUEST,QUBE,ID")]
    connect: Option<String>,

    /// Replace unprintable bytes in the command's output
    #[arg(short = 't')]
    filter_stdout: bool,

    /// Replace unprintable bytes in the command's diagnostics
    #[arg(short = 'T')]
    filter_stderr: bool,

    /// Seconds until the connection must stand; 0 waits forever
    #[arg(short = 'w', value_name = "SECONDS", default_value_t = 5)]
    timeout: u64,

    /// Wait for the end of the connection, also between two qubes
    #[arg(short = 'W')]
    wait: bool,

    /// Kill the qube afterwards
    #[arg(short = 'k')]
    kill: bool,

    /// Exit with 0 whatever the command's exit code is
    #[arg(short = 'E', long)]
    no_exit_code: bool,

    /// Send this before what comes on standard input
    #[arg(short = 'p', long, value_name = "DATA")]
    prefix_data: Option<OsString>,

    /// Standard input is a socket for both directions
    #[arg(long)]
    use_stdin_socket: bool,

    /// Folder of the daemon sockets
    #[arg(long, value_name = "FOLDER")]
    socket_dir: Option<PathBuf>,

    /// `USER:COMMAND`, or `USER:QUBESRPC SERVICE SOURCE`; without the user for calls to dom0
    command: OsString,
}

/// A call that did not come about.
#[derive(Debug, Error)]
enum ClientError {
    #[error("`{0}` is no qube's name")]
    Name(String),
    #[error("`{0}` is not REQUEST,QUBE,ID")]
    Request(String),
    #[error("cannot reach the daemon at `{}`", path.display())]
    Daemon { path: PathBuf, source: io::Error },
    #[error("the daemon at `{}` broke the protocol", path.display())]
    Protocol { path: PathBuf, source: ControlError },
    #[error("the daemon at `{}` refused", .0.display())]
    Refused(PathBuf),
    #[error("the daemon named no usable domain")]
    Domain(#[from] IdError),
    #[error("the data channel cannot be opened")]
    Channel(#[from] TransportError),
    #[error("the standard streams cannot be used")]
    Streams(#[source] io::Error),
    #[error("standard input is no stream socket")]
    NoSocket,
    #[error("the command line makes no sense")]
    Command(#[from] CommandError),
    #[error("calls from dom0 to itself {0}")]
    Local(&'static str),
    #[error("the local program cannot be run")]
    Program(#[source] io::Error),
    #[error("the service cannot be run")]
    Service(#[from] bulkhead_qrexec::serve::ServeError),
    #[error("the call broke off")]
    Pump(#[from] PumpError),
    #[error("`bulkhead kill {qube}` failed")]
    Kill { qube: String, source: io::Error },
}

impl ClientError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Service(e) => u8::try_from(e.exit_code()).unwrap_or(EXIT_PROBLEM),
            _ => EXIT_PROBLEM,
        }
    }
}

pub(super) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match modes::run(&arguments) {
        Ok(_) if arguments.no_exit_code => ExitCode::SUCCESS,
        // Only the low byte is an exit code.
        Ok(code) => ExitCode::from(code.to_le_bytes()[0]),
        Err(e) => {
            log(&e);
            ExitCode::from(e.exit_code())
        }
    }
}

fn log(error: &dyn Error) {
    eprintln!("qrexec-client: {}", chain(error));
}
