//! Starts services and local programs with their streams.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::unix::net::UnixStream;

pub use bulkhead_sandbox::spawn::{Program, Stream};
use bulkhead_wire::qrexec::command::ServiceCall;
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use rustix::stdio;

use crate::children;
use crate::pump::{Errors, Input, LocalChild, Output, Streams};

/// Room in the pipe of a program's output: four chunks, so that it need not wait for each.
const PIPE_SIZE: usize = 256 * 1024;

/// What to do with diagnostics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Diagnostics {
    /// They are a stream of the call.
    Stream,
    /// They go where ours go.
    Inherit,
}

/// A pipe for the output of a program.
///
/// # Errors
/// What making it said.
pub fn output_pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    // Larger pipes are a favour that the system may refuse.
    let _ = rustix::pipe::fcntl_setpipe_size(&reader, PIPE_SIZE);
    Ok((reader, writer))
}

/// Starts `program` as leader of its own process group. Its standard input is a socket, so that
/// it may use it for both directions (see [`crate::pump::Switch`]).
///
/// # Errors
/// What making the streams or starting the program said.
pub fn start(program: &Program, diagnostics: Diagnostics) -> io::Result<(Streams, LocalChild)> {
    let (ours, theirs) = UnixStream::pair()?;
    let (stdout, stdout_end) = output_pipe()?;
    let (errors, errors_end) = match diagnostics {
        Diagnostics::Inherit => (Errors::None, Stream::Inherit),
        Diagnostics::Stream => {
            let (stderr, stderr_end) = io::pipe()?;
            let errors = Errors::From(Input::new(stderr.into())?);
            (errors, Stream::Is(stderr_end.into()))
        }
    };
    let ends = [
        Stream::Is(theirs.into()),
        Stream::Is(stdout_end.into()),
        errors_end,
    ];
    let child = children::spawn(program, ends)?;
    let streams = Streams {
        input: Some(Input::new(stdout.into())?),
        output: Some(Output::new(ours.into())?),
        errors,
    };
    Ok((streams, LocalChild::new(child)))
}

/// Our own standard streams, as the caller's. Ours afterwards lead nowhere, since others wait for
/// the ends of these. With `socket`, standard input serves both directions.
///
/// # Errors
/// What duplicating the descriptors said.
pub fn own(socket: bool) -> io::Result<Streams> {
    let stdin = stdio::stdin().try_clone_to_owned()?;
    let errors = stdio::stderr().try_clone_to_owned()?;
    let (input, output) = if socket {
        Input::both(stdin)?
    } else {
        let stdout = stdio::stdout().try_clone_to_owned()?;
        (Input::new(stdin)?, Output::new(stdout)?)
    };
    let null = File::options().read(true).write(true).open("/dev/null")?;
    stdio::dup2_stdin(&null)?;
    stdio::dup2_stdout(&null)?;
    let errors = Errors::To(Output::new(errors)?);
    Ok(Streams {
        input: Some(input),
        output: Some(output),
        errors,
    })
}

/// Whether standard input can serve both directions.
#[must_use]
pub fn stdin_is_stream_socket() -> bool {
    socket_type(stdio::stdin()) == Ok(SocketType::STREAM)
}

/// Starts `program` without streams.
///
/// # Errors
/// What starting the program said.
pub fn start_detached(program: &Program) -> io::Result<LocalChild> {
    let streams = [nowhere()?, nowhere()?, nowhere()?];
    children::spawn(program, streams).map(LocalChild::new)
}

/// What has nothing to read, and forgets what is written.
pub(crate) fn nowhere() -> io::Result<Stream> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    Ok(Stream::Is(null.into()))
}

/// Sets what a program learns about its call, and removes what it must not believe: every
/// inherited `QREXEC*` but the search path.
pub fn set_environment(program: &mut Program, call: Option<&ServiceCall>) {
    for (name, _) in std::env::vars_os() {
        if is_ours(&name) {
            program.env_remove(name);
        }
    }
    program.env("QREXEC_AGENT_PID", std::process::id().to_string());
    if let Some(call) = call {
        program.envs(call.environment());
    }
}

fn is_ours(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"QREXEC") && name != "QREXEC_SERVICE_PATH"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_tells_the_call_and_nothing_older() {
        let mut command = Program::new("x");
        let call = ServiceCall::parse(b"a.B+c work keyword adminvm").unwrap();
        set_environment(&mut command, Some(&call));
        let get = |name: &str| {
            let mut all = command.get_envs().filter(|(n, _)| *n == name);
            all.next().and_then(|(_, value)| value?.to_str())
        };
        assert_eq!(get("QREXEC_REMOTE_DOMAIN"), Some("work"));
        assert_eq!(get("QREXEC_SERVICE_FULL_NAME"), Some("a.B+c"));
        assert_eq!(get("QREXEC_SERVICE_ARGUMENT"), Some("c"));
        assert_eq!(get("QREXEC_REQUESTED_TARGET_KEYWORD"), Some("adminvm"));
        assert_eq!(get("QREXEC_REQUESTED_TARGET"), None);
        assert!(is_ours(OsStr::new("QREXEC_X")) && !is_ours(OsStr::new("QREXEC_SERVICE_PATH")));
    }

    #[test]
    fn a_missing_program_is_an_error_and_leaves_no_child() {
        let program = Program::new("/nonexistent/program");
        let e = start(&program, Diagnostics::Stream).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::NotFound);
    }
}
