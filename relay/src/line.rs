//! A guest's channel as the relay's loop has it.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_vchan::{Channel, local};
use rustix::event::PollFlags;

use crate::ends::Connected;

/// Read from one peer before the others have their turn.
const CHUNK: usize = 16 * 1024;

/// A connected channel.
#[derive(Debug)]
pub(crate) enum Line {
    /// Its descriptor tells of bytes and room.
    Socket(OwnedFd),
    /// Its descriptor tells of events, the next one only after what there was is used up.
    Rings {
        channel: Box<dyn Channel>,
        /// There may be bytes that no event will tell of.
        unread: bool,
        /// There may be room that no event will tell of.
        room: bool,
    },
}

impl Line {
    pub(crate) fn new(connected: Connected) -> io::Result<Self> {
        match connected {
            Connected::Socket(socket) => {
                unblock(&socket)?;
                Ok(Self::Socket(socket))
            }
            Connected::Rings(channel) => Ok(Self::rings(Box::new(channel))),
        }
    }

    pub(crate) fn rings(channel: Box<dyn Channel>) -> Self {
        Self::Rings {
            channel,
            unread: true,
            room: true,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(socket) => socket.as_fd(),
            Self::Rings { channel, .. } => channel.fd(),
        }
    }

    /// What to poll for where input or output is wanted; nothing where neither is.
    pub(crate) fn poll_flags(&self, input: bool, output: bool) -> PollFlags {
        match self {
            Self::Socket(_) => wanted(input, output),
            Self::Rings { .. } => wanted(input || output, false),
        }
    }

    /// What was wanted may be there already, so that nobody may wait for it.
    pub(crate) fn is_ready(&self, input: bool, output: bool) -> bool {
        match self {
            Self::Socket(_) => false,
            Self::Rings { unread, room, .. } => input && *unread || output && *room,
        }
    }

    /// Takes note of what poll reported. True if there may be something to read.
    pub(crate) fn woken(&mut self, reported: PollFlags) -> io::Result<bool> {
        match self {
            Self::Socket(_) => Ok(is_readable(reported)),
            Self::Rings {
                channel,
                unread,
                room,
            } => {
                channel.acknowledge()?;
                (*unread, *room) = (true, true);
                // It has its turn with the others that have more.
                Ok(false)
            }
        }
    }

    /// At most one chunk; none where there is nothing yet, empty at the end.
    pub(crate) fn read<'a>(&mut self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match self {
            Self::Socket(socket) => Ok(local::read(socket, chunk(buffer))?),
            Self::Rings {
                channel, unread, ..
            } => {
                let part = chunk(buffer);
                match channel.read(part) {
                    Ok(n) => Ok(Some(part.get(..n).unwrap_or_default())),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        *unread = false;
                        Ok(None)
                    }
                    Err(e) => Err(e),
                }
            }
        }
    }

    /// Bytes that the peer took.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => Ok(local::write(socket, bytes)?),
            Self::Rings { channel, room, .. } => {
                let mut sent = 0;
                // To the last byte that fits: only then an event tells of room.
                while *room && sent < bytes.len() {
                    let rest = bytes.get(sent..).unwrap_or_default();
                    match channel.write(&[IoSlice::new(rest)]) {
                        Ok(n) => sent += n,
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => *room = false,
                        Err(e) => return Err(e),
                    }
                }
                Ok(sent)
            }
        }
    }
}

pub(crate) fn wanted(input: bool, output: bool) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, input);
    flags.set(PollFlags::OUT, output);
    flags
}

pub(crate) fn is_readable(reported: PollFlags) -> bool {
    reported.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
}

pub(crate) fn unblock(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(
        fd,
        flags | rustix::fs::OFlags::NONBLOCK,
    )?)
}

/// What is read at a time.
pub(crate) fn chunk(buffer: &mut [u8]) -> &mut [u8] {
    let chunk = CHUNK.min(buffer.len());
    buffer.get_mut(..chunk).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bulkhead_vchan::xen::RingSizes;
    use bulkhead_vchan::xen::pair::pair;
    use rustix::event::{PollFd, Timespec, poll};

    use super::*;

    fn is_signalled(line: &Line) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(
            line.fd(),
            line.poll_flags(true, true),
        )];
        poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
    }

    #[test]
    fn what_is_left_over_is_not_waited_for() {
        let (ours, mut theirs, _memory) = pair(RingSizes::DATA).unwrap();
        let mut line = Line::rings(Box::new(ours));
        let mut buffer = vec![0; 2 * CHUNK];
        assert!(line.is_ready(true, false), "it may have written before");
        assert!(line.read(&mut buffer).unwrap().is_none());
        assert!(!line.is_ready(true, false));
        theirs.write(&[IoSlice::new(&[7; CHUNK + 1])]).unwrap();
        assert!(is_signalled(&line));
        assert!(!line.woken(PollFlags::IN).unwrap());
        assert!(!is_signalled(&line), "the event is taken");
        assert_eq!(line.read(&mut buffer).unwrap().unwrap().len(), CHUNK);
        assert!(line.is_ready(true, false) && !line.is_ready(false, false));
        assert_eq!(line.read(&mut buffer).unwrap().unwrap().len(), 1);
        assert!(line.read(&mut buffer).unwrap().is_none());
        assert!(!line.is_ready(true, false));
    }

    #[test]
    fn a_full_ring_is_waited_for_and_its_room_is_told() {
        let (ours, mut theirs, _memory) = pair(RingSizes::CONTROL).unwrap();
        let mut line = Line::rings(Box::new(ours));
        assert_eq!(line.write(&[7; 5000]).unwrap(), 4096);
        assert!(!line.is_ready(false, true));
        theirs.read(&mut [0; 100]).unwrap();
        assert!(is_signalled(&line));
        line.woken(PollFlags::IN).unwrap();
        assert!(line.is_ready(false, true));
        assert_eq!(line.write(&[7; 904]).unwrap(), 100);
    }
}
