//! What an end of a channel does.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bulkhead_vchan::Channel;
use bulkhead_vchan::channel::Wants;
use bulkhead_vchan::xen::XenChannel;
use bulkhead_vchan::xen::store::Store;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Task;
use crate::meet::{PATIENCE, meet};

/// Bytes that are moved at a time.
const CHUNK: usize = 256 * 1024;

pub(crate) fn run(task: &Task) -> Result<()> {
    let (mut channel, mut store) = meet(task)?;
    match task.action.as_str() {
        "echo" => echo(&mut channel),
        "send" => send(&mut channel, task.number),
        "receive" => receive(&mut channel, task.number),
        "ping" => ping(&mut channel, task.number),
        "say" => say(&mut channel),
        "die" => die(&mut channel, task.number),
        "until-end" => until_end(&mut channel, task, &mut store),
        "stay" => loop {
            std::thread::park();
        },
        other => bail!("`{other}` is nothing that can be done"),
    }
}

/// Waits for a signal, no longer than any test does.
pub(crate) fn wait(channel: &mut XenChannel, wants: Wants) -> io::Result<()> {
    let timeout = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
    let mut fds = [PollFd::from_borrowed_fd(
        channel.fd(),
        channel.poll_flags(wants),
    )];
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) => channel.acknowledge(),
        Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// A channel that waits.
pub(crate) struct Blocking<'a>(pub(crate) &'a mut XenChannel);

impl Read for Blocking<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(to) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            wait(
                self.0,
                Wants {
                    read: true,
                    write: false,
                },
            )?;
        }
    }
}

impl Write for Blocking<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(&[IoSlice::new(from)]) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            wait(
                self.0,
                Wants {
                    read: false,
                    write: true,
                },
            )?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The bytes of a stream from `at` on: no shift of it is like it.
fn pattern(at: u64, len: usize) -> impl Iterator<Item = u8> {
    (at..).take(len).map(|n| {
        let block = (n >> 8).to_le_bytes();
        n.to_le_bytes()[0] ^ block[0] ^ block[1].rotate_left(3)
    })
}

fn echo(channel: &mut XenChannel) -> Result<()> {
    let mut all = vec![0; CHUNK];
    let mut total = 0;
    loop {
        let n = Blocking(channel).read(&mut all)?;
        if n == 0 {
            println!("echoed {total}");
            return Ok(());
        }
        Blocking(channel).write_all(all.get(..n).unwrap_or_default())?;
        total += n;
    }
}

fn send(channel: &mut XenChannel, total: u64) -> Result<()> {
    // Made before: what is measured is the channel.
    let all: Vec<u8> = pattern(0, usize::try_from(total)?).collect();
    let begin = Instant::now();
    Blocking(channel).write_all(&all)?;
    let mut done = [0];
    Blocking(channel).read_exact(&mut done)?;
    let speed = rate(total, begin);
    println!("sent {total} at {speed:.1}");
    Ok(())
}

fn receive(channel: &mut XenChannel, total: u64) -> Result<()> {
    let mut all = vec![0; usize::try_from(total)?];
    let first = usize::from(total > 0);
    let (head, rest) = all.split_at_mut(first);
    Blocking(channel).read_exact(head)?;
    let begin = Instant::now();
    Blocking(channel).read_exact(rest)?;
    let speed = rate(total, begin);
    ensure!(
        pattern(0, all.len()).eq(all.iter().copied()),
        "the bytes are others"
    );
    Blocking(channel).write_all(&[1])?;
    // The peer is the one to leave.
    ensure!(Blocking(channel).read(&mut [0])? == 0, "there is more");
    println!("received {total} at {speed:.1}");
    Ok(())
}

/// In MiB a second.
fn rate(bytes: u64, begin: Instant) -> f64 {
    let mib = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / f64::from(1 << 20);
    mib / begin.elapsed().as_secs_f64()
}

/// Sends bytes of ours to an echo, one by one, and tells how long the way takes.
pub(crate) fn ping(channel: &mut XenChannel, count: u64) -> Result<()> {
    let mut times = Vec::new();
    for n in 0..count {
        let byte = [n.to_le_bytes()[0]];
        let mut back = [0];
        let begin = Instant::now();
        Blocking(channel).write_all(&byte)?;
        Blocking(channel).read_exact(&mut back)?;
        times.push(begin.elapsed());
        ensure!(back == byte, "another byte came back");
    }
    times.sort();
    let median = times.get(times.len() / 2).context("no pings")?.as_micros();
    let least = times.first().context("no pings")?.as_micros();
    println!("pinged {count} median {median} least {least}");
    Ok(())
}

/// Sends the standard input, then waits for as much to come back.
fn say(channel: &mut XenChannel) -> Result<()> {
    let mut said = Vec::new();
    io::stdin().lock().read_to_end(&mut said)?;
    Blocking(channel).write_all(&said)?;
    let mut back = vec![0; said.len()];
    Blocking(channel).read_exact(&mut back)?;
    io::stdout().write_all(&back)?;
    Ok(())
}

/// Sends, and is killed without leaving.
fn die(channel: &mut XenChannel, total: u64) -> Result<()> {
    let all: Vec<u8> = pattern(0, usize::try_from(total)?).collect();
    Blocking(channel).write_all(&all)?;
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    bail!("killed and alive");
}

/// Reads until the peer is gone, or broke the channel, or its domain is no more.
fn until_end(channel: &mut XenChannel, task: &Task, store: &mut Store) -> Result<()> {
    store.watch("@releaseDomain", "domains")?;
    println!("watching");
    let timeout = Timespec::try_from(PATIENCE)?;
    let mut buffer = vec![0; CHUNK];
    let (mut total, mut wakes) = (0, 0_u64);
    loop {
        match channel.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                total += n;
                continue;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => {
                println!("broken after {wakes} wakes: {e}");
                return Ok(());
            }
        }
        let mut fds = [
            PollFd::from_borrowed_fd(channel.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(store.as_fd(), PollFlags::IN),
        ];
        ensure!(poll(&mut fds, Some(&timeout))? > 0, "no end in sight");
        wakes += 1;
        let [signal, event] = fds.map(|fd| !fd.revents().is_empty());
        if signal {
            channel.acknowledge()?;
        }
        if event {
            while store.next_event(Some(Instant::now()))?.is_some() {}
            if !store.is_introduced(task.peer)? {
                println!("the domain is no more");
                channel.peer_died();
            }
        }
    }
    println!("ended after {total}");
    Ok(())
}
