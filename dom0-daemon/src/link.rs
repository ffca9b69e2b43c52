//! The line to a process of ours: messages go out at once where the queue has room.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bulkhead_vchan::seqpacket;
use bulkhead_wire::relay::{self, PACKET_MAX, PacketError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Messages kept for a process that does not read. Far more than the start of a qube writes (some
/// hundred QubesDB keys); one that falls this far behind is stuck and replaced.
const BACKLOG_MAX: usize = 2048;
/// Bytes of them: a few of the longest packets for each call that may be under way.
const BACKLOG_BYTES_MAX: usize = 4 << 20;

/// Why a message cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// It does not run, or has hung up.
    #[error("its process is gone")]
    Gone,
    /// It does not read.
    #[error("its process does not read its messages")]
    Stuck,
    /// The message fits no packet.
    #[error("a message to its process is too long")]
    Packet(#[source] PacketError),
}

/// Something received that is no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error("receiving from its process failed")]
    Io(#[from] io::Error),
    #[error("its process sent something that is no message")]
    Packet(#[from] PacketError),
}

#[derive(Debug)]
struct Waiting {
    packet: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// Our end of a line on which `Out` goes out and `In` comes in.
#[derive(Debug)]
pub(crate) struct Link<Out, In> {
    socket: AsyncFd<OwnedFd>,
    waiting: Mutex<VecDeque<Waiting>>,
    more: Notify,
    messages: PhantomData<fn(Out) -> In>,
}

impl<Out: Serialize, In: DeserializeOwned> Link<Out, In> {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        // Not for writing: then each packet that the process takes would wake us.
        Ok(Self {
            socket: crate::aio::watch(socket, Interest::READABLE)?,
            waiting: Mutex::default(),
            more: Notify::new(),
            messages: PhantomData,
        })
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_send(&self, packet: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let borrowed: Vec<_> = fds.iter().map(OwnedFd::as_fd).collect();
        seqpacket::send_packet(self.socket.get_ref(), packet, &borrowed)
    }

    /// Sends now, or as soon as there is room; order is kept.
    pub(crate) fn send(&self, message: &Out, fds: Vec<OwnedFd>) -> Result<(), LinkError> {
        let packet = relay::encode(message).map_err(LinkError::Packet)?;
        let mut waiting = self.waiting();
        if waiting.is_empty() {
            match self.try_send(&packet, &fds) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(LinkError::Gone),
            }
        }
        let bytes: usize = waiting.iter().map(|w| w.packet.len()).sum();
        if waiting.len() >= BACKLOG_MAX || bytes + packet.len() > BACKLOG_BYTES_MAX {
            // Both directions end, so whoever serves this process sees that it is over.
            let _ = rustix::net::shutdown(self.socket.get_ref(), rustix::net::Shutdown::Both);
            waiting.clear();
            return Err(LinkError::Stuck);
        }
        waiting.push_back(Waiting { packet, fds });
        self.more.notify_one();
        Ok(())
    }

    /// Sends what waits, for ever; returns when the process is gone.
    pub(crate) async fn flush(&self) -> io::Error {
        loop {
            self.more.notified().await;
            let room = self.socket.get_ref().try_clone();
            let room = match room.and_then(|fd| crate::aio::watch(fd, Interest::WRITABLE)) {
                Ok(room) => room,
                Err(e) => return e,
            };
            loop {
                let mut ready = match room.writable().await {
                    Ok(ready) => ready,
                    Err(e) => return e,
                };
                let mut waiting = self.waiting();
                let Some(first) = waiting.front() else { break };
                match self.try_send(&first.packet, &first.fds) {
                    Ok(()) => {
                        waiting.pop_front();
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                    Err(e) => return e,
                }
            }
        }
    }

    /// The next message; none when the process has hung up. Descriptors are not accepted.
    pub(crate) async fn receive(&self) -> Result<Option<In>, ReceiveError> {
        let received = self.receive_with_files().await?;
        Ok(received.map(|(message, _)| message))
    }

    /// The next message with its descriptors; none when the process has hung up.
    pub(crate) async fn receive_with_files(
        &self,
    ) -> Result<Option<(In, Vec<OwnedFd>)>, ReceiveError> {
        loop {
            let mut ready = self.socket.readable().await?;
            // Not kept between messages: with many qubes that would be most of our memory.
            let mut buffer = vec![0; PACKET_MAX];
            let mut fds = Vec::new();
            match seqpacket::recv_packet(self.socket.get_ref(), &mut buffer, &mut fds) {
                Ok(0) => return Ok(None),
                Ok(length) => {
                    let packet = buffer.get(..length).unwrap_or_default();
                    return Ok(Some((relay::decode(packet)?, fds)));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bulkhead_wire::relay::{FromRelay, ToRelay};

    use super::*;

    type Link = super::Link<ToRelay, FromRelay>;

    fn key(number: usize) -> ToRelay {
        ToRelay::DbRemove {
            path: format!("/key/{number}"),
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_waits_in_order() {
        let (near, far) = seqpacket::pair().unwrap();
        let link = Arc::new(Link::new(near).unwrap());
        let mut sent = 0;
        while link.waiting().len() < BACKLOG_MAX {
            link.send(&key(sent), Vec::new()).unwrap();
            sent += 1;
        }
        let flushing = Arc::clone(&link);
        let flusher = tokio::spawn(async move { flushing.flush().await });
        let reader = tokio::task::spawn_blocking(move || {
            for number in 0..sent {
                let mut buffer = vec![0; PACKET_MAX];
                let length = seqpacket::recv_packet(&far, &mut buffer, &mut Vec::new()).unwrap();
                assert_eq!(
                    relay::decode::<ToRelay>(&buffer[..length]).unwrap(),
                    key(number)
                );
            }
        });
        reader.await.unwrap();
        flusher.abort();
    }

    #[tokio::test]
    async fn a_process_that_does_not_read_is_over_one_past_either_limit() {
        let long = ToRelay::DbWrite {
            path: "/long".to_owned(),
            value: vec![0; 60_000],
        };
        for (message, most) in [(key(0), BACKLOG_MAX), (long, BACKLOG_BYTES_MAX / 60_000)] {
            let (near, _far) = seqpacket::pair().unwrap();
            let link = Link::new(near).unwrap();
            let mut kept = 0;
            let error = loop {
                match link.send(&message, Vec::new()) {
                    Ok(()) => kept = link.waiting().len(),
                    Err(e) => break e,
                }
            };
            assert!(matches!(error, LinkError::Stuck));
            assert!(kept <= most && kept + 2 > most, "{kept} of {most}");
            // Whoever serves it is told, and replaces it.
            assert!(link.receive().await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn garbage_and_a_hang_up_are_told_apart() {
        let (near, far) = seqpacket::pair().unwrap();
        let link = Link::new(near).unwrap();
        seqpacket::send_packet(&far, &[0xff; 40], &[]).unwrap();
        let error = link.receive().await.unwrap_err();
        assert!(matches!(error, ReceiveError::Packet(_)));
        drop(far);
        assert!(link.receive().await.unwrap().is_none());
        assert!(matches!(
            link.send(&key(0), Vec::new()),
            Err(LinkError::Gone)
        ));
    }
}
