//! What a program needs of a connected vchan, whatever carries it.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use rustix::event::PollFlags;

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

    /// Whether the peer is gone, by what poll reported and by what else the transport knows.
    fn hung_up(&self, reported: PollFlags) -> bool {
        reported.contains(PollFlags::HUP)
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
