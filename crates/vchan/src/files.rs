//! Files that ride on the bytes of a socket, each with one byte.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Files that came and were not asked for yet. Each comes with the first byte of the message that
/// names it, so that there is one while that message is read, and no peer needs more.
pub const FILES_MAX: usize = 4;

/// Files on their way to the peer, by how many bytes go before each.
#[derive(Debug, Default)]
pub(crate) struct Outgoing(VecDeque<(usize, OwnedFd)>);

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Has `file` go with the byte that is written `after` bytes from now, later than any before.
    pub(crate) fn push(&mut self, after: usize, file: OwnedFd) -> io::Result<()> {
        if self.0.back().is_some_and(|(last, _)| *last >= after) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.0.push_back((after, file));
        Ok(())
    }

    /// Writes what fits of `parts`, up to the byte that the next file but this goes with.
    pub(crate) fn send(&mut self, socket: impl AsFd, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let due = self.0.front().filter(|(after, _)| *after == 0);
        let file = due.map(|(_, file)| [file.as_fd()]);
        let fits = file
            .as_ref()
            .is_none_or(|file| control.push(SendAncillaryMessage::ScmRights(file)));
        debug_assert!(fits, "there is room for one");
        let until = self.0.get(usize::from(file.is_some()));
        let parts = cut(parts, until.map_or(usize::MAX, |(after, _)| *after));
        let sent = loop {
            match rustix::net::sendmsg(&socket, &parts, &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Err(io::ErrorKind::BrokenPipe.into()),
                sent => break sent?,
            }
        };
        if sent > 0 && file.is_some() {
            self.0.pop_front();
        }
        for (after, _) in &mut self.0 {
            *after -= sent;
        }
        Ok(sent)
    }
}

/// The first `len` bytes of `parts`.
fn cut<'a>(parts: &'a [IoSlice<'a>], len: usize) -> Vec<IoSlice<'a>> {
    let mut left = len;
    let cut = parts.iter().map(|part| {
        let part = part.get(..part.len().min(left)).unwrap_or_default();
        left -= part.len();
        IoSlice::new(part)
    });
    cut.collect()
}

/// Files that came.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    files: VecDeque<OwnedFd>,
    broken: bool,
}

impl Incoming {
    /// The oldest.
    pub(crate) fn pop(&mut self) -> Option<OwnedFd> {
        self.files.pop_front()
    }

    /// Reads what is there, and the files that came with it.
    pub(crate) fn receive(&mut self, socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
        let too_many = || io::Error::new(io::ErrorKind::InvalidData, "more files than messages");
        if self.broken {
            return Err(too_many());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(buffer)];
            match rustix::net::recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                received => break received?,
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                self.files.extend(files);
            }
        }
        self.broken = self.files.len() > FILES_MAX || received.flags.contains(ReturnFlags::CTRUNC);
        if self.broken {
            self.files.clear();
            return Err(too_many());
        }
        Ok(received.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_in_their_middle() {
        let parts = [&b"ab"[..], b"", b"cde", b"f"].map(IoSlice::new);
        for (len, expected) in [
            (0, ""),
            (2, "ab"),
            (4, "abcd"),
            (6, "abcdef"),
            (9, "abcdef"),
        ] {
            let cut: Vec<u8> = cut(&parts, len)
                .iter()
                .flat_map(|part| part.to_vec())
                .collect();
            assert_eq!(cut, expected.as_bytes(), "{len}");
        }
    }

    #[test]
    fn two_files_cannot_go_with_one_byte() {
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        let mut out = Outgoing::default();
        out.push(3, file()).unwrap();
        for after in [0, 3] {
            let e = out.push(after, file()).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
        }
        out.push(4, file()).unwrap();
    }
}
