//! Getting a channel.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bulkhead_vchan::seqpacket::{pair, recv_packet, send_packet};
use bulkhead_vchan::xen::device::{AllocDevice, EventDevice, EventPort, GrantDevice};
use bulkhead_vchan::xen::layout::GrantRef;
use bulkhead_vchan::xen::store::{self, Store};
use bulkhead_vchan::xen::{Offer, RingSizes, Server, XenChannel};
use bulkhead_vchan::{DomId, Port};

use crate::{Side, Task, actions};

/// Longer than anything takes under emulation; only a test that fails waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(100);

/// A channel as the task says, and the store it was found by.
pub(crate) fn meet(task: &Task) -> Result<(XenChannel, Store)> {
    let mut store = Store::open()?;
    let deadline = Instant::now() + PATIENCE;
    let channel = match task.side {
        Side::Serve(sizes) => serve(&mut store, task.peer, task.port, sizes, deadline)?,
        Side::Join => {
            let memory = GrantDevice::open()?;
            store::connect(&mut store, &memory, task.peer, task.port, deadline)?
        }
    };
    Ok((channel, store))
}

fn serve(
    store: &mut Store,
    client: DomId,
    port: Port,
    sizes: RingSizes,
    deadline: Instant,
) -> Result<XenChannel> {
    let memory = AllocDevice::open()?;
    let server = Server::new(EventDevice::open()?, &memory, client, sizes, sizes)?;
    let published = store::publish(store, client, port, server.offer())?;
    println!("published");
    let channel = server.accept(Some(deadline))?;
    published.withdraw(store)?;
    Ok(channel)
}

/// Finds a channel and has it joined by a process that opens nothing itself.
pub(crate) fn hand_over(task: &Task) -> Result<()> {
    ensure!(
        matches!(task.side, Side::Join),
        "only what is joined can be handed over"
    );
    let mut store = Store::open()?;
    let mut seeker = store::seek(&mut store, task.peer, task.port)?;
    let offer = seeker
        .next(&mut store, Instant::now() + PATIENCE)?
        .context("nothing is offered")?;
    seeker.end(&mut store)?;
    let (ours, theirs) = pair()?;
    let mut child = Command::new("/proc/self/exe")
        .arg("confined")
        .stdin(Stdio::from(theirs))
        .spawn()?;
    let events = EventDevice::open()?;
    events.restrict(task.peer)?;
    let memory = GrantDevice::open()?;
    let text = format!(
        "{} {} {} {}",
        task.peer, offer.page.0, offer.port.0, task.number
    );
    send_packet(&ours, text.as_bytes(), &[events.as_fd(), memory.as_fd()])?;
    // What is kept open here must not keep the channel alive when the other process dies.
    let status = child.wait()?;
    ensure!(status.success(), "the confined process failed");
    Ok(())
}

/// What [`hand_over`] starts.
pub(crate) fn confined() -> Result<()> {
    let mut text = [0; 100];
    let mut fds = Vec::new();
    let n = recv_packet(io::stdin().as_fd(), &mut text, &mut fds)?;
    let text = String::from_utf8_lossy(text.get(..n).unwrap_or_default()).into_owned();
    let mut numbers = text.split(' ').map(str::parse::<u32>);
    let mut number = || {
        numbers
            .next()
            .context("a number is missing")?
            .context("no number")
    };
    let server = DomId::new(number()?)?;
    let offer = Offer {
        page: GrantRef(number()?),
        port: EventPort(number()?),
    };
    let count = number()?;
    let Ok([events, memory]) = <[OwnedFd; 2]>::try_from(fds) else {
        bail!("not two devices came");
    };
    let events = EventDevice::adopt(events)?;
    let mut channel = XenChannel::connect(events, &GrantDevice::adopt(memory), server, offer)?;
    actions::ping(&mut channel, count.into())
}
