//! Tells the service manager how the daemon is (`sd_notify`), where there is one.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Clients are served from now on.
pub(super) fn ready() {
    say("READY=1");
}

/// The end has begun.
pub(super) fn stopping() {
    say("STOPPING=1");
}

fn say(what: &str) {
    let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
    let Some(address) = address else {
        return;
    };
    if let Err(error) = send(&address, what) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

fn send(address: &OsStr, what: &str) -> io::Result<()> {
    let bytes = address.as_bytes();
    let to = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    UnixDatagram::unbound()?.send_to_addr(what.as_bytes(), &to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_it_to_a_path_and_to_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        let mut said = [0; 16];
        assert_eq!(socket.recv(&mut said).unwrap(), 7);
        assert_eq!(&said[..7], b"READY=1");

        let name = format!("bulkhead-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        assert_eq!(socket.recv(&mut said).unwrap(), 10);
    }
}
