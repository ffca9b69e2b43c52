//! `bulkhead-policy-admin`: the `policy.*` services in dom0, by which programs read and change policy
//! files. The daemon does what is asked; this carries it there and the answer back.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code for what is no fault of the client's.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Nobody reads it if standard error is closed.
            let _ = writeln!(io::stderr(), "bulkhead-policy-admin: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn named(what: &'static str) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn variable(name: &str) -> io::Result<String> {
    let missing = || io::Error::other(format!("{name} is not set: this is a qrexec service"));
    std::env::var(name).map_err(|_| missing())
}

fn socket() -> PathBuf {
    if let Some(path) = std::env::var_os("BULKHEAD_POLICY_SOCKET").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !rustix::process::geteuid().is_root());
    let folder = own.map_or_else(|| "/run".into(), PathBuf::from);
    folder.join("bulkhead/policy.admin")
}

fn run() -> io::Result<u8> {
    let call = variable("QREXEC_SERVICE_FULL_NAME")?;
    let source = variable("QREXEC_REMOTE_DOMAIN")?;
    let mut daemon = UnixStream::connect(socket()).map_err(named("cannot reach bulkheadd"))?;
    let broke = named("bulkheadd broke off");
    daemon
        .write_all(format!("{call} {source}\0").as_bytes())
        .map_err(&broke)?;
    io::copy(&mut io::stdin().lock(), &mut daemon).map_err(&broke)?;
    daemon.shutdown(Shutdown::Write).map_err(&broke)?;
    let mut answer = Vec::new();
    daemon.read_to_end(&mut answer).map_err(&broke)?;
    let Some(([code, 0], output)) = answer.split_first_chunk::<2>() else {
        return Err(io::Error::other(
            "bulkheadd gave no answer; its log says why",
        ));
    };
    let code = code.wrapping_sub(b'0');
    if code == 0 {
        io::stdout().write_all(output)?;
    } else {
        io::stderr().write_all(output)?;
    }
    Ok(code)
}
