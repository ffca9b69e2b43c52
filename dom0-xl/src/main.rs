//! `bulkhead-xl --fd N`: started by bulkheadd with a socket to it as descriptor N. The only process
//! that uses libxl.
//!
//! libxl blocks for seconds, wants SIGCHLD for itself and may crash; here it does so without
//! bulkheadd, which starts another. Domains do not notice: whoever comes next finds them by the
//! mark that they have in xenstore.
//!
//! ```text
//!   reader ──packets──┐                    ┌──> one thread and one libxl context
//!                     ├──> server (owner ──┤      for each operation
//!   watcher ─deaths───┘     of all state)  └──> ...
//! ```

#![forbid(unsafe_code)]

mod disks;
mod emulate;
mod log;
mod marks;
mod nics;
mod operate;
mod queue;
mod serve;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;

use bulkhead_libxl_sys::{BOUND, Context, Libxl};
use bulkhead_sandbox::inherit::{close_uninvited, take_inherited};
use bulkhead_vchan::seqpacket::send_packet;
use bulkhead_wire::causes::chain;
use bulkhead_wire::relay::encode;
use bulkhead_wire::xl::{ConnectError, FromXl, XenVersion};
use tracing_subscriber::EnvFilter;

use log::OperationLog;
use serve::{ServeError, serve};

const USAGE: &str = "usage: bulkhead-xl --fd N [--only-xen MAJOR.MINOR]
bulkheadd starts it with N open on a socket to itself. With --only-xen it serves no other Xen than
that one, and never another than it was built for.";

/// Held by the one that serves: two of them would each remove what the other is making. The next
/// waits until the one before has ended.
const LOCK: &str = "/run/bulkhead-xl.lock";

struct Arguments {
    fd: i32,
    only: XenVersion,
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Some(arguments) = arguments(&words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let filter = EnvFilter::try_from_env("BULKHEAD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn arguments(words: &[OsString]) -> Option<Arguments> {
    let words: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
    let (fd, only) = match words?[..] {
        ["--fd", fd] => (fd, BOUND),
        ["--fd", fd, "--only-xen", version] => {
            let (major, minor) = version.split_once('.')?;
            let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
            (fd, XenVersion { major, minor })
        }
        _ => return None,
    };
    let fd = fd.parse().ok()?;
    Some(Arguments { fd, only })
}

fn run(arguments: &Arguments) -> Result<(), ServeError> {
    let socket = take_inherited(arguments.fd)?;
    close_uninvited().map_err(ServeError::Descriptors)?;
    let lock = File::create(LOCK).map_err(ServeError::Lock)?;
    lock.lock().map_err(ServeError::Lock)?;
    match connect(arguments.only) {
        Ok((library, context)) => serve(&socket, &library, &context),
        Err(error) => Err(refuse(&socket, error)),
    }
}

/// libxl, and the context that deaths are told by.
fn connect(only: XenVersion) -> Result<(Arc<Libxl>, Arc<Context>), ConnectError> {
    let library = Libxl::load()?;
    let context = Context::open(&library, OperationLog::unnamed())?;
    if only != BOUND {
        let (bound, running) = (only, BOUND);
        return Err(ConnectError::WrongVersion { bound, running });
    }
    Ok((library, Arc::new(context)))
}

/// Tells the daemon why nothing is served.
fn refuse(socket: &OwnedFd, error: ConnectError) -> ServeError {
    if let Ok(packet) = encode(&FromXl::Failed(error.clone())) {
        // It may be gone; the log has it in any case.
        let _ = send_packet(socket, &packet, &[]);
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<(i32, String)> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        arguments(&words).map(|found| (found.fd, found.only.to_string()))
    }

    #[test]
    fn arguments_are_all_or_nothing() {
        assert_eq!(parsed("--fd 3"), Some((3, BOUND.to_string())));
        assert_eq!(parsed("--fd 3 --only-xen 4.19"), Some((3, "4.19".into())));
        for bad in ["", "--fd", "--fd x", "3", "--fd 3 4", "--fd 3 --only-xen 4"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
