//! What a program needs of a connected vchan, whatever carries it.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A connected channel. Nothing here blocks.
///
/// Poll [`Self::fd`] for [`Self::poll_flags`], call [`Self::acknowledge`] when it reports, then
/// read and write until [`io::ErrorKind::WouldBlock`]. That last is what makes a later change
/// wake the poll: on Xen the descriptor tells of events and not of bytes that are there. Who left
/// off reading before must not poll for more before it went on.
pub trait Channel: Debug + Send {
    /// The descriptor to poll.
    fn fd(&self) -> BorrowedFd<'_>;

    /// What to poll it for.
    fn poll_flags(&self, wants: Wants) -> PollFlags;

    /// Takes note of what poll reported.
    ///
    /// # Errors
    /// The transport's.
    fn acknowledge(&mut self) -> io::Result<()>;

    /// How long a wait may last until [`Self::acknowledge`] must be called without anything that
    /// poll reported: where nothing tells that a peer is gone, one has to look. Forever without.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// Reads what is there; 0 means that the peer is gone and everything was read.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing yet.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes what fits, at least one byte.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits, `BrokenPipe` when the peer is gone.
    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Says that nothing more will be written. The peer may go on writing. Does nothing where a
    /// transport has no half close (Xen's rings): the peer then sees the end when this is dropped,
    /// so a protocol that needs the end of one direction says it by a message.
    fn finish(&mut self) {}

    /// Takes note that the peer's domain was destroyed, where the transport cannot tell. What it
    /// wrote can still be read, and then the end.
    fn peer_died(&mut self) {}

    /// Whether the peer is gone, by what poll reported and by what else the transport knows.
    fn hung_up(&self, reported: PollFlags) -> bool {
        reported.contains(PollFlags::HUP)
    }

    /// Whether poll tells of bytes that are there, and not only of events: then who read less than
    /// everything may poll at once.
    fn tells_of_bytes(&self) -> bool {
        self.stream().is_some()
    }

    /// The stream socket that carries the bytes, where one does: it may be spliced.
    fn stream(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What a program waits for on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wants {
    /// Bytes to read, or the end.
    pub read: bool,
    /// Room to write.
    pub write: bool,
}

/// Takes what the peer still writes, and forgets it, until it leaves or `at_most` is over: a peer
/// in the middle of a message must not find the channel gone.
pub fn linger(mut channel: impl Channel, at_most: Duration) {
    channel.finish();
    let deadline = Instant::now() + at_most;
    let wants = Wants {
        read: true,
        write: false,
    };
    let mut buffer = [0; 4096];
    loop {
        match channel.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let left = deadline.saturating_duration_since(Instant::now());
                let timeout = Timespec::try_from(left).unwrap_or_default();
                let flags = channel.poll_flags(wants);
                let mut fds = [PollFd::from_borrowed_fd(channel.fd(), flags)];
                // Nothing depends on how the wait ended.
                let _ = poll(&mut fds, Some(&timeout));
                if channel.acknowledge().is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
        if Instant::now() >= deadline {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xen::RingSizes;
    use crate::xen::pair::pair;

    #[test]
    fn a_peer_over_rings_may_write_on_while_one_lingers() {
        let (server, mut client, _memory) = pair(RingSizes::CONTROL).unwrap();
        let lingering = std::thread::spawn(move || linger(server, Duration::from_secs(60)));
        // More than fits at once: it is taken, not only left where it is.
        let mut left = 64 * 1024;
        while left > 0 {
            match client.write(&[IoSlice::new(&vec![7; left])]) {
                Ok(n) => left -= n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::from_borrowed_fd(client.fd(), PollFlags::IN)];
                    let patience = Timespec::try_from(Duration::from_secs(60)).unwrap();
                    assert_eq!(poll(&mut fds, Some(&patience)), Ok(1));
                    client.acknowledge().unwrap();
                }
                Err(e) => panic!("{e}"),
            }
        }
        drop(client);
        lingering.join().unwrap();
    }
}
