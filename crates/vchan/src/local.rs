//! Sockets of programs in the same domain, without ever waiting for the other end.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::SendFlags;

/// What a socket has, as much as `buffer` holds; none where there is nothing yet, empty at the end.
///
/// # Errors
/// Whatever the kernel says but that there is nothing yet.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> Result<Option<&[u8]>, Errno> {
    match rustix::io::read(fd, &mut *buffer) {
        Ok(n) => Ok(Some(buffer.get(..n).unwrap_or_default())),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(e) => Err(e),
    }
}

/// How many bytes the peer of a socket took.
///
/// # Errors
/// Whatever the kernel says but that there is no room. An end that hung up gives `EPIPE` and no signal.
pub fn write(fd: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match rustix::net::send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        sent => sent,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn nobody_waits_and_the_end_is_told() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4];
        assert_eq!(read(&ours, &mut buffer), Ok(None));
        assert_eq!(write(&theirs, b"bytes"), Ok(5));
        assert_eq!(read(&ours, &mut buffer), Ok(Some(&b"byte"[..])));
        // More than a socket holds.
        let sent = write(&theirs, &vec![0; 1 << 24]).unwrap();
        assert!(sent < 1 << 24);
        assert_eq!(write(&theirs, b"no room"), Ok(0));
        drop(theirs);
        assert_eq!(write(&ours, b"late"), Err(Errno::PIPE));
        while let Ok(Some(bytes)) = read(&ours, &mut buffer) {
            if bytes.is_empty() {
                return;
            }
        }
        panic!("no end");
    }
}
