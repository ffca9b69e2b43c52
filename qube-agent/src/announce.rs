//! How a local program tells its agent what it will send: by the name of its own end of the socket.
//!
//! On the socket everything stays as in qrexec, where a request has no room for it and nothing may
//! follow one. The agent reads the name as it accepts; another agent never looks at it, and a
//! program that has none is served as well. Any program of the qube may claim anything so, as it
//! may send anything.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::time::SystemTime;

use bulkhead_wire::qrexec::announced::Announced;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect as join, socket_with,
};

/// What the names begin with; then come what makes them unique, a slash, and the announcement.
const PREFIX: &str = "bulkhead-announce/";

/// Connects to the agent at `path`, announcing.
pub(crate) fn connect(path: &Path, announced: Announced) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let (pid, now) = (std::process::id(), now.unwrap_or_default().as_nanos());
    let name = format!("{PREFIX}{pid:x}.{now:x}/{}", announced.encode());
    // Where it cannot have a name, the call goes without: that is no reason not to make it.
    let _ = bind(
        &socket,
        &SocketAddrUnix::new_abstract_name(name.as_bytes())?,
    );
    join(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// What a program that connected from `address` announces.
pub(crate) fn of_peer(address: &SocketAddr) -> Option<Announced> {
    let name = std::str::from_utf8(address.as_abstract_name()?).ok()?;
    let (_, text) = name.strip_prefix(PREFIX)?.split_once('/')?;
    Announced::decode(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const SOME: Announced = Announced {
        files: 3,
        folders: 1,
        bytes: u64::MAX,
        at_least: false,
    };

    #[test]
    fn what_is_announced_is_read_from_the_peer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        let listener = UnixListener::bind(&path).unwrap();
        // Two at once, and the same again, do not get in each other's way.
        let programs = [SOME, SOME].map(|some| connect(&path, some).unwrap());
        for _ in &programs {
            let (_, address) = listener.accept().unwrap();
            assert_eq!(of_peer(&address), Some(SOME.clamped()));
        }
        let _plain = UnixStream::connect(&path).unwrap();
        let (_, address) = listener.accept().unwrap();
        assert_eq!(of_peer(&address), None);
    }

    #[test]
    fn other_names_announce_nothing() {
        for name in [
            "",
            "bulkhead-announce/",
            "bulkhead-announce/E1.0.0",
            "bulkhead-announce/1.2/E1.0",
            "bulkhead-announce/1.2/E1.0.0/",
            "other/1.2/E1.0.0",
        ] {
            let address = SocketAddr::from_abstract_name(name).unwrap();
            assert_eq!(of_peer(&address), None, "{name}");
        }
        let named = SocketAddr::from_abstract_name(b"bulkhead-announce/\xff/E1.0.0").unwrap();
        assert_eq!(of_peer(&named), None);
        let path = SocketAddr::from_pathname("/bulkhead-announce/1/E1.0.0").unwrap();
        assert_eq!(of_peer(&path), None);
    }

    #[test]
    fn no_agent_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let missing = connect(&folder.path().join("agent"), SOME).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let long = connect(Path::new(&"x".repeat(200)), SOME);
        assert!(long.is_err());
    }
}
