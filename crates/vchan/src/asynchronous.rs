//! Channels for tasks of tokio.

#![expect(
    unsafe_code,
    reason = "tokio takes a descriptor only on the promise that it stays open"
)]

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use rustix::event::PollFlags;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::channel::{Channel, Wants};

/// A channel that tasks read and write. One may read while another writes
/// ([`tokio::io::split`]).
#[derive(Debug)]
pub struct AsyncChannel<C: Channel> {
    channel: C,
    /// A second descriptor of the channel's: it is the runtime's own.
    fd: AsyncFd<OwnedFd>,
    /// Where one event is for both: whoever comes last would be woken alone.
    both: Arc<Both>,
}

/// The reader and the writer who wait for one event.
#[derive(Debug, Default)]
struct Both(Mutex<[Option<Waker>; 2]>);

impl Both {
    fn wait(&self, who: Direction, waker: &Waker) {
        // Nothing panics while it is held.
        let mut both = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [reader, writer] = &mut *both;
        let slot = match who {
            Direction::Read => reader,
            Direction::Write => writer,
        };
        *slot = Some(waker.clone());
    }
}

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        let mut both = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wakers = std::mem::take(&mut *both);
        drop(both);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Read,
    Write,
}

impl<C: Channel> AsyncChannel<C> {
    /// Takes a channel into the runtime that this is called in.
    ///
    /// # Errors
    /// What the runtime said.
    ///
    /// # Panics
    /// Outside of a runtime that has I/O enabled.
    pub fn new(channel: C) -> io::Result<Self> {
        let all = Wants {
            read: true,
            write: true,
        };
        let mut interest = Interest::READABLE;
        if channel.poll_flags(all).contains(PollFlags::OUT) {
            interest |= Interest::WRITABLE;
        }
        let fd = channel.fd().try_clone_to_owned()?;
        // SAFETY: what is registered is an `OwnedFd`, which the registration holds and which
        // nobody takes out of it or replaces: it stays open and the same.
        let fd = unsafe { AsyncFd::register_with_interest(fd, interest) }?;
        Ok(Self {
            channel,
            fd,
            both: Arc::default(),
        })
    }

    /// The channel.
    pub fn get_mut(&mut self) -> &mut C {
        &mut self.channel
    }

    /// The channel, out of the runtime.
    #[must_use]
    pub fn into_inner(self) -> C {
        self.channel
    }

    /// Tries until it works or would block, and then waits.
    fn attempt<T>(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut try_it: impl FnMut(&mut C) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let wants = Wants {
            read: matches!(direction, Direction::Read),
            write: matches!(direction, Direction::Write),
        };
        loop {
            match try_it(&mut self.channel) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
            let flags = self.channel.poll_flags(wants);
            if flags.contains(PollFlags::OUT) {
                ready!(self.fd.poll_write_ready(cx))?.clear_ready();
            } else {
                self.both.wait(direction, cx.waker());
                let waker = Waker::from(Arc::clone(&self.both));
                let mut context = Context::from_waker(&waker);
                // Before what is there is looked at: what comes later makes the next event.
                ready!(self.fd.poll_read_ready(&mut context))?.clear_ready();
                self.channel.acknowledge()?;
                // The other may be who it was for.
                Wake::wake_by_ref(&self.both);
            }
        }
    }
}

impl<C: Channel + Unpin> AsyncRead for AsyncChannel<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = ready!(self.get_mut().attempt(cx, Direction::Read, |channel| {
            channel.read(to.initialize_unfilled())
        }))?;
        to.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<C: Channel + Unpin> AsyncWrite for AsyncChannel<C> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().attempt(cx, Direction::Write, |channel| {
            channel.write(&[io::IoSlice::new(from)])
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// As [`Channel::finish`]: nothing where there is no half close.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().get_mut().finish();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
    use tokio::time::timeout;

    use super::*;
    use crate::SocketChannel;
    use crate::xen::RingSizes;
    use crate::xen::pair::pair;

    const TOTAL: usize = 3_000_000;

    /// Both write all the time while both read, so that each waits for both.
    async fn both_ways<C: Channel + Unpin + 'static>(channel: C) {
        let channel = AsyncChannel::new(channel).unwrap();
        let (mut from, mut to) = split(channel);
        let writing = tokio::spawn(async move {
            let all: Vec<u8> = (0..TOTAL).map(|n| (n % 251) as u8).collect();
            to.write_all(&all).await.unwrap();
            to
        });
        let mut all = vec![0; TOTAL];
        from.read_exact(&mut all).await.unwrap();
        assert!(
            all.iter()
                .enumerate()
                .all(|(n, byte)| *byte == (n % 251) as u8)
        );
        let mut to = writing.await.unwrap();
        to.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn two_tasks_of_each_end_lose_no_wake_up() {
        for sizes in [
            RingSizes { left: 0, right: 0 },
            RingSizes::CONTROL,
            RingSizes::DATA,
        ] {
            let (a, b, _memory) = pair(sizes).unwrap();
            let all = async { tokio::join!(both_ways(a), both_ways(b)) };
            timeout(Duration::from_secs(60), all)
                .await
                .expect("a wake-up was lost");
        }
    }

    #[tokio::test]
    async fn sockets_work_the_same() {
        let flags = SocketFlags::CLOEXEC;
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let (a, b) = (
            SocketChannel::new(a).unwrap(),
            SocketChannel::new(b).unwrap(),
        );
        let all = async { tokio::join!(both_ways(a), both_ways(b)) };
        timeout(Duration::from_secs(60), all)
            .await
            .expect("a wake-up was lost");
    }

    #[tokio::test]
    async fn the_end_wakes_who_reads() {
        let (a, b, _memory) = pair(RingSizes::DATA).unwrap();
        let mut a = AsyncChannel::new(a).unwrap();
        let reading = tokio::spawn(async move { a.read(&mut [0; 9]).await });
        tokio::task::yield_now().await;
        drop(b);
        let read = timeout(Duration::from_secs(60), reading).await.unwrap();
        assert_eq!(read.unwrap().unwrap(), 0);
    }
}
