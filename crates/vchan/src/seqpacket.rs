//! Packets with descriptors over an inherited `SOCK_SEQPACKET` pair.
//!
//! One packet is one message, whole or not at all. Both ends may block or not; a full or an empty
//! queue on a non-blocking end is [`io::ErrorKind::WouldBlock`].

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Most descriptors in one packet: no message names more, and each one is a slot in the receiver.
pub const FDS_MAX: usize = 4;

/// A connected pair of close-on-exec ends.
///
/// # Errors
/// What `socketpair` said.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends one packet and its descriptors.
///
/// # Errors
/// `InvalidInput` for an empty packet or more than [`FDS_MAX`] descriptors, else what `sendmsg`
/// said: `WouldBlock` where the queue is full, `BrokenPipe` where nobody reads any more.
pub fn send_packet(socket: impl AsFd, packet: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if packet.is_empty() || fds.len() > FDS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    loop {
        let parts = [IoSlice::new(packet)];
        match rustix::net::sendmsg(&socket, &parts, &mut control, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == packet.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Receives one packet into `buffer` and its descriptors (close-on-exec) behind those in `fds`.
///
/// Returns the length of the packet; 0 when the other end is closed.
///
/// # Errors
/// `InvalidData` for a packet larger than `buffer` or with more than [`FDS_MAX`] descriptors (the
/// packet is lost), else what `recvmsg` said.
pub fn recv_packet(
    socket: impl AsFd,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => break received,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    };
    let mut arrived = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            arrived.extend(rights);
        }
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::ErrorKind::InvalidData.into());
    }
    fds.append(&mut arrived);
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn packets_keep_their_bounds_and_order() {
        let (a, b) = pair().unwrap();
        send_packet(&a, b"one", &[]).unwrap();
        send_packet(&a, b"three", &[]).unwrap();
        let (mut buffer, mut fds) = ([0; 16], Vec::new());
        assert_eq!(recv_packet(&b, &mut buffer, &mut fds).unwrap(), 3);
        assert_eq!(&buffer[..3], b"one");
        assert_eq!(recv_packet(&b, &mut buffer, &mut fds).unwrap(), 5);
        drop(a);
        assert_eq!(recv_packet(&b, &mut buffer, &mut fds).unwrap(), 0);
        assert!(fds.is_empty());
    }

    #[test]
    fn descriptors_arrive_usable_and_close_on_exec() {
        let (a, b) = pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        send_packet(&a, b"x", &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut fds = Vec::new();
        recv_packet(&b, &mut [0; 4], &mut fds).unwrap();
        let fd = fds.pop().unwrap();
        let flags = rustix::io::fcntl_getfd(&fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        File::from(fd).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn a_packet_past_the_buffer_is_an_error_and_the_next_is_whole() {
        let (a, b) = pair().unwrap();
        send_packet(&a, &[1; 9], &[]).unwrap();
        send_packet(&a, &[2; 8], &[]).unwrap();
        let (mut buffer, mut fds) = ([0; 8], Vec::new());
        let e = recv_packet(&b, &mut buffer, &mut fds).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidData);
        assert_eq!(recv_packet(&b, &mut buffer, &mut fds).unwrap(), 8);
        assert_eq!(buffer, [2; 8]);
    }

    #[test]
    fn one_descriptor_past_the_limit_and_an_empty_packet_are_refused() {
        let (a, _b) = pair().unwrap();
        let fds = [a.as_fd(); FDS_MAX + 1];
        let e = send_packet(&a, b"x", &fds).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
        send_packet(&a, b"x", &fds[..FDS_MAX]).unwrap();
        let e = send_packet(&a, b"", &[]).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
    }
}
