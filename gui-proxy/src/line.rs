//! The line to `bulkheadd`, which started the proxy and may be slow to read.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_vchan::seqpacket::{recv_packet, send_packet};
use bulkhead_wire::proxy::{FromProxy, ToProxy};
use bulkhead_wire::relay::{PacketError, decode, encode};
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use thiserror::Error;

/// Messages that may wait for the daemon: each is a keystroke of the person's, but for the first
/// two. A daemon that leaves more unread does not work.
pub const WAITING_MAX: usize = 16;

/// Bytes of a packet at most; what the daemon says is a number.
const PACKET_LEN: usize = 64;

/// Why the line cannot be used any more.
#[derive(Debug, Error)]
pub enum LineError {
    /// The daemon does not read.
    #[error("the daemon left {WAITING_MAX} messages unread")]
    Unread,
    /// The socket failed.
    #[error("the line to the daemon failed")]
    Socket(#[source] io::Error),
    /// No file for what a message carries.
    #[error("cannot make a file for the daemon")]
    File(#[source] io::Error),
    /// What was said is no message, or is to be none.
    #[error("a packet is no message")]
    Packet(#[from] PacketError),
}

/// What came over the line.
#[derive(Debug)]
pub enum Heard {
    /// Nothing so far.
    Nothing,
    /// A message, and what it carries.
    Said(ToProxy, Vec<OwnedFd>),
    /// The daemon has gone.
    Gone,
}

#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    file: Option<OwnedFd>,
}

/// One end of a `SOCK_SEQPACKET` pair. Never blocks.
#[derive(Debug)]
pub struct Line {
    socket: OwnedFd,
    waiting: VecDeque<Packet>,
    is_gone: bool,
}

impl Line {
    /// The line that `socket` is an end of.
    ///
    /// # Errors
    /// Where it cannot be kept from blocking.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let flags = fcntl_getfl(&socket)?;
        fcntl_setfl(&socket, flags | OFlags::NONBLOCK)?;
        Ok(Self {
            socket,
            waiting: VecDeque::new(),
            is_gone: false,
        })
    }

    /// What to wait for.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What to wait for at it.
    #[must_use]
    pub fn poll_flags(&self) -> PollFlags {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, !self.waiting.is_empty());
        flags
    }

    /// Has a message, and a file that it carries, wait to be sent.
    ///
    /// # Errors
    /// [`LineError::Unread`] where as many wait as may.
    pub fn say(&mut self, message: &FromProxy, file: Option<OwnedFd>) -> Result<(), LineError> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(LineError::Unread);
        }
        let bytes = encode(message)?;
        self.waiting.push_back(Packet { bytes, file });
        Ok(())
    }

    /// The same of one that takes the place of an older one of its kind, which may wait still.
    ///
    /// # Errors
    /// [`LineError::Unread`] where as many wait as may.
    pub fn say_newest(
        &mut self,
        message: &FromProxy,
        is_older: impl Fn(&FromProxy) -> bool,
    ) -> Result<(), LineError> {
        self.waiting.retain(|packet| {
            let said = decode::<FromProxy>(&packet.bytes);
            !said.is_ok_and(|said| is_older(&said))
        });
        self.say(message, None)
    }

    /// Sends what the daemon takes. What it does not take because it has gone is dropped; that is
    /// told by [`hear`](Self::hear).
    ///
    /// # Errors
    /// Where the socket fails.
    pub fn flush(&mut self) -> Result<(), LineError> {
        while let Some(packet) = self.waiting.front() {
            let files: Vec<BorrowedFd<'_>> = packet.file.iter().map(OwnedFd::as_fd).collect();
            match send_packet(&self.socket, &packet.bytes, &files) {
                Ok(()) => {
                    self.waiting.pop_front();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if is_gone(&e) => {
                    self.is_gone = true;
                    self.waiting.clear();
                }
                Err(e) => return Err(LineError::Socket(e)),
            }
        }
        Ok(())
    }

    /// The next message.
    ///
    /// # Errors
    /// Where the socket fails, or what came is no message.
    pub fn hear(&mut self) -> Result<Heard, LineError> {
        let (mut buffer, mut files) = ([0; PACKET_LEN], Vec::new());
        match recv_packet(&self.socket, &mut buffer, &mut files) {
            Ok(0) => Ok(Heard::Gone),
            Ok(len) => {
                let message = decode(buffer.get(..len).unwrap_or_default())?;
                Ok(Heard::Said(message, files))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && !self.is_gone => Ok(Heard::Nothing),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock || is_gone(&e) => Ok(Heard::Gone),
            Err(e) => Err(LineError::Socket(e)),
        }
    }
}

/// Whether the other end is closed, with or without having read all.
fn is_gone(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use bulkhead_vchan::seqpacket::pair;

    use super::*;
    use bulkhead_wire::proxy::Payload;

    const SAID: FromProxy = FromProxy::PasteAsked { time: 7 };

    fn line() -> (Line, OwnedFd) {
        let (ours, theirs) = pair().expect("a pair");
        (Line::new(ours).expect("a line"), theirs)
    }

    fn received(daemon: &OwnedFd) -> FromProxy {
        let (mut buffer, mut files) = ([0; 4096], Vec::new());
        let len = recv_packet(daemon, &mut buffer, &mut files).expect("a packet");
        decode(&buffer[..len]).expect("a message")
    }

    #[test]
    fn a_daemon_that_does_not_read_has_so_many_messages_wait_and_no_more() {
        let (mut line, daemon) = line();
        let mut said = 0;
        let failed = loop {
            match line.say(&SAID, None) {
                Ok(()) => said += 1,
                Err(e) => break e,
            }
            line.flush().expect("a socket");
        };
        assert!(matches!(failed, LineError::Unread), "{failed:?}");
        assert_eq!(line.waiting.len(), WAITING_MAX);
        assert!(line.poll_flags().contains(PollFlags::OUT));
        // What waits is sent once there is room, and nothing is lost.
        for _ in 0..said {
            assert_eq!(received(&daemon), SAID);
            line.flush().expect("a socket");
        }
        assert!(line.waiting.is_empty() && line.poll_flags() == PollFlags::IN);
        line.say(&SAID, None).expect("room");
    }

    #[test]
    fn a_daemon_that_has_gone_is_an_end_whatever_waits() {
        let (mut line, daemon) = line();
        assert!(matches!(line.hear(), Ok(Heard::Nothing)));
        drop(daemon);
        assert!(matches!(line.hear(), Ok(Heard::Gone)));
        let (mut line, daemon) = self::line();
        line.say(&SAID, None).expect("room");
        line.flush().expect("a socket");
        // Without having read it.
        drop(daemon);
        line.say(&SAID, None).expect("room");
        line.flush().expect("nobody");
        assert!(matches!(line.hear(), Ok(Heard::Gone)));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for wrong in [&[9_u8][..], &[0, 1, 2], &[0; PACKET_LEN + 1]] {
            let (mut line, daemon) = line();
            send_packet(&daemon, wrong, &[]).expect("a socket");
            assert!(line.hear().is_err(), "{wrong:?}");
        }
        let (mut line, daemon) = line();
        // As long as can be.
        let (length, side) = (u32::MAX, u32::MAX);
        let what = Payload::Picture {
            width: side,
            height: side,
        };
        let paste = ToProxy::Paste {
            number: u64::MAX,
            length,
            what,
        };
        let packet = encode(&paste).expect("a packet");
        send_packet(&daemon, &packet, &[daemon.as_fd()]).expect("a socket");
        match line.hear() {
            Ok(Heard::Said(said, files)) => {
                assert_eq!((said, files.len()), (paste, 1));
            }
            other => panic!("{other:?}"),
        }
    }
}
