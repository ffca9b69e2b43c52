//! Both ends of a channel in one process, over ordinary memory: what a channel on Xen does, for
//! tests that have none.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::channel::{Bell, RingChannel};
use super::layout::{Described, GrantRef, Orders, RingSizes};
use super::memory::Region;
use super::ring::End;

/// An event channel of one process.
#[derive(Debug)]
pub struct PairedBell {
    own: OwnedFd,
    peer: OwnedFd,
}

impl Bell for PairedBell {
    fn signal(&self) -> io::Result<()> {
        match rustix::io::write(&self.peer, &1_u64.to_ne_bytes()) {
            // It was signalled so often that it is awake.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn acknowledge(&self) -> io::Result<()> {
        match rustix::io::read(&self.own, &mut [0_u8; 8]) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for PairedBell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }
}

/// A server and its client, and the memory that they share.
///
/// # Errors
/// `InvalidInput` for rings that cannot be; what the kernel says of event descriptors.
pub fn pair(
    sizes: RingSizes,
) -> io::Result<(RingChannel<PairedBell>, RingChannel<PairedBell>, Region)> {
    let impossible = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let orders = Orders::choose(sizes).map_err(impossible)?;
    let (left, right) = orders.pages();
    let memory = Region::ordinary(1 + left + right);
    let described = Described {
        orders,
        grants: vec![GrantRef(0); left + right],
    };
    let server = End::serve(memory.clone(), &described).ok_or(io::ErrorKind::InvalidInput)?;
    let client = End::attach(memory.clone(), Some(memory.after_first_page()), orders)
        .map_err(io::Error::other)?;
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let (a, b) = (eventfd(0, flags)?, eventfd(0, flags)?);
    let bell = |own: &OwnedFd, peer: &OwnedFd| {
        Ok::<_, io::Error>(PairedBell {
            own: own.try_clone()?,
            peer: peer.try_clone()?,
        })
    };
    Ok((
        RingChannel::new(server, bell(&a, &b)?),
        RingChannel::new(client, bell(&b, &a)?),
        memory,
    ))
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::sync::atomic::Ordering;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::channel::{Channel, Wants};

    fn readable(channel: &impl Channel) -> bool {
        let flags = channel.poll_flags(Wants::default());
        let mut fds = [PollFd::from_borrowed_fd(channel.fd(), flags)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
    }

    #[test]
    fn who_reads_to_the_end_is_woken_by_more_and_who_wrote_all_by_room() {
        let (mut a, mut b, _memory) = pair(RingSizes::CONTROL).unwrap();
        let mut back = [0; 4096];
        let kind = |e: io::Error| e.kind();
        assert_eq!(
            a.read(&mut back).map_err(kind),
            Err(io::ErrorKind::WouldBlock)
        );
        assert!(!readable(&a));
        assert_eq!(b.write(&[IoSlice::new(&[7; 5000])]).unwrap(), 4096);
        assert!(readable(&a));
        a.acknowledge().unwrap();
        assert!(!readable(&a));
        let full = b.write(&[IoSlice::new(b"x")]).map_err(kind);
        assert_eq!(full, Err(io::ErrorKind::WouldBlock));
        assert!(!readable(&b));
        assert_eq!(a.read(&mut back).unwrap(), 4096);
        assert!(readable(&b));
        b.acknowledge().unwrap();
        assert_eq!(b.write(&[IoSlice::new(b"x")]).unwrap(), 1);
    }

    #[test]
    fn the_end_comes_after_the_last_bytes_and_is_a_hang_up() {
        let (mut a, mut b, _memory) = pair(RingSizes::DATA).unwrap();
        b.write(&[IoSlice::new(b"la"), IoSlice::new(b"st")])
            .unwrap();
        a.acknowledge().unwrap();
        assert!(!a.hung_up(PollFlags::empty()));
        drop(b);
        assert!(readable(&a) && a.hung_up(PollFlags::empty()));
        let mut back = [0; 9];
        assert_eq!(a.read(&mut back).unwrap(), 4);
        assert_eq!(a.read(&mut back).unwrap(), 0);
        let error = a.write(&[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_counter_that_cannot_be_is_an_error_that_says_so() {
        let (mut server, _client, memory) = pair(RingSizes::DATA).unwrap();
        memory.word(4).store(65537, Ordering::SeqCst);
        let error = server.read(&mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            error.to_string(),
            "the peer's counter is 65537 bytes from ours in a ring of 65536"
        );
    }

    #[test]
    fn rings_that_cannot_be_are_refused() {
        let error = pair(RingSizes::both(RingSizes::MAX + 1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
