//! Reaching sockets in a folder that a qube can write to.
//!
//! The qube may replace any name by a symbolic link, a device or a file of dom0's at any time. So
//! names are opened without following links, what was opened is checked to be a socket, and only
//! that very inode is then used.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Who may connect is decided by who sees the socket's folder.
pub const SOCKET_MODE: u32 = 0o666;

/// Opens `name` in `folder` for reference only, if it is a socket.
///
/// # Errors
/// `NotFound`; `InvalidInput` for names with `/` or NUL; `InvalidData` if it is anything else
/// than a socket.
pub fn open_socket(folder: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a socket"));
    }
    Ok(fd)
}

/// Connects to the socket `name` in `folder`, never to anything it may point to. Does not block:
/// a full queue of the listener is `WouldBlock`. The stream returned is blocking.
///
/// # Errors
/// Those of [`open_socket`], and `ConnectionRefused` when nobody listens.
pub fn connect_at(folder: impl AsFd, name: &str) -> io::Result<UnixStream> {
    let fd = open_socket(folder, name)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(through(&fd))?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Gives the socket `name` of `from` a second name, the same, in `to`; replaces what is there.
///
/// # Errors
/// Those of [`open_socket`], and what linking said: the folders must be on one file system.
pub fn link_socket(from: impl AsFd, to: impl AsFd, name: &str) -> io::Result<()> {
    let fd = open_socket(from, name)?;
    let proc = rustix::fs::CWD;
    let link = || rustix::fs::linkat(proc, through(&fd), &to, name, AtFlags::SYMLINK_FOLLOW);
    match link() {
        Err(rustix::io::Errno::EXIST) => {
            rustix::fs::unlinkat(&to, name, AtFlags::empty())?;
            Ok(link()?)
        }
        other => Ok(other?),
    }
}

/// Lets every user who sees the socket `name` of `folder` connect to it.
///
/// # Errors
/// Those of [`open_socket`], and what changing its mode said.
pub fn open_to_all(folder: impl AsFd, name: &str) -> io::Result<()> {
    let fd = open_socket(folder, name)?;
    std::fs::set_permissions(through(&fd), Permissions::from_mode(SOCKET_MODE))
}

/// Removes `name` from `folder`; that it is not there is fine.
///
/// # Errors
/// What unlinking said.
pub fn unlink(folder: impl AsFd, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn through(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn folder() -> (tempfile::TempDir, File) {
        let dir = tempfile::tempdir().unwrap();
        let fd = File::open(dir.path()).unwrap();
        (dir, fd)
    }

    #[test]
    fn a_linked_socket_reaches_the_listener() {
        let ((a, a_fd), (b, b_fd)) = (folder(), folder());
        let listener = UnixListener::bind(a.path().join("s")).unwrap();
        link_socket(&a_fd, &b_fd, "s").unwrap();
        link_socket(&a_fd, &b_fd, "s").unwrap();
        let mut near = UnixStream::connect(b.path().join("s")).unwrap();
        near.write_all(b"x").unwrap();
        let mut byte = [0];
        listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        unlink(&b_fd, "s").unwrap();
        unlink(&b_fd, "s").unwrap();
        assert!(!b.path().join("s").exists() && a.path().join("s").exists());
    }

    #[test]
    fn links_files_and_folders_are_refused() {
        let ((dir, fd), (_to, to_fd)) = (folder(), folder());
        let _listener = UnixListener::bind(dir.path().join("s")).unwrap();
        symlink("s", dir.path().join("link")).unwrap();
        File::create(dir.path().join("file")).unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        for name in ["link", "file", "dir"] {
            let e = connect_at(&fd, name).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidData, "{name}");
            assert!(link_socket(&fd, &to_fd, name).is_err(), "{name}");
        }
        for name in ["", ".", "..", "a/b", "../s", "/etc/passwd", "a\0b"] {
            let e = connect_at(&fd, name).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        assert_eq!(
            connect_at(&fd, "none").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        connect_at(&fd, "s").unwrap();
    }
}
