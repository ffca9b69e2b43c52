//! Calling a service in another qube from one of the commands here.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use bulkhead_wire::qrexec::announced::Announced;

/// Pipe to the connection: the most an ordinary user may have.
const PIPE: usize = 1024 * 1024;

/// A call that runs in a process of its own.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) child: Child,
    /// To the service's standard input.
    pub(crate) out: OwnedFd,
    /// From its standard output.
    pub(crate) answer: OwnedFd,
}

/// Calls `service` in `target` through `qrexec-client-vm`, which is this program by another name.
/// The person who is asked about it is shown what is `announced`.
pub(crate) fn start(target: &str, service: &str, announced: Option<Announced>) -> io::Result<Call> {
    let (stream_out, stream_in) = io::pipe()?;
    let (answer_out, answer_in) = io::pipe()?;
    let out = OwnedFd::from(stream_in);
    // A smaller pipe only costs time.
    let _ = rustix::pipe::fcntl_setpipe_size(&out, PIPE);
    let announced = announced.map(|announced| format!("--announce={}", announced.encode()));
    let child = Command::new(std::env::current_exe()?)
        .arg0("qrexec-client-vm")
        .args(announced)
        // Killed, we cannot tell it that nobody wants the call any more.
        .args(["--end-with-parent", &std::process::id().to_string()])
        .args(["--filter-escape-chars-stderr", "--"].map(OsStr::new))
        .args([target, service])
        .stdin(Stdio::from(stream_out))
        .stdout(Stdio::from(answer_in))
        .spawn()?;
    Ok(Call {
        child,
        out,
        answer: answer_out.into(),
    })
}

/// Whether the call was refused or the service was not there.
pub(crate) fn never_ran(status: ExitStatus) -> bool {
    matches!(status.code(), Some(126 | 127))
}

/// How a call that failed ended, as an exit code that is not 0.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.filter(|code| *code != 0).unwrap_or(1))
}
