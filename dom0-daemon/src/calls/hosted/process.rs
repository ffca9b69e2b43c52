//! The processes of one call that dom0 serves, from their start until the last has ended.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_qrexec::launch::output_pipe;
use bulkhead_sandbox::inherit;
use bulkhead_vchan::xen::Offer;
use bulkhead_vchan::{Port, SocketChannel, seqpacket};
use bulkhead_wire::causes::chain;
use bulkhead_wire::relay::encode;
use bulkhead_wire::service::{Order, Report, ToPump};
use serde::Serialize;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::relays::{Folder, Handed, Named, Place, Rings};
use crate::runtime::{Run, RuntimeConfig};

/// How long a caller may take to offer its data channel, once it was told to: as the reference.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before the next try to connect to a caller that has bound and does not listen yet.
const LISTEN_RETRY: Duration = Duration::from_millis(5);

/// The far ends of a service's streams, and where to report on it.
#[derive(Debug)]
pub(super) struct FarEnds {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) report: OwnedFd,
}

impl FarEnds {
    /// Tells the pump how the service goes.
    pub(super) fn report(&self, report: Report) -> io::Result<()> {
        tell(&self.report, report)
    }
}

/// Reports to a pump.
pub(super) fn tell(socket: &OwnedFd, report: Report) -> io::Result<()> {
    send(socket, &report, &[])
}

/// What the streams of a service are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streams {
    /// Of a program: pipes, but for the input, which may be used for both directions.
    Pipes,
    /// Of something in this process: sockets all.
    Sockets,
}

pub(in crate::calls) fn send(
    socket: &OwnedFd,
    message: &impl Serialize,
    fds: &[&OwnedFd],
) -> io::Result<()> {
    let packet = encode(message).map_err(io::Error::other)?;
    let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    seqpacket::send_packet(socket, &packet, &fds)
}

/// Reader and writer.
fn stream(streams: Streams) -> io::Result<(OwnedFd, OwnedFd)> {
    match streams {
        Streams::Sockets => UnixStream::pair().map(|(a, b)| (a.into(), b.into())),
        Streams::Pipes => output_pipe().map(|(a, b)| (a.into(), b.into())),
    }
}

/// The unprivileged process that speaks to the guest.
#[derive(Debug)]
pub(super) struct Pump {
    child: Child,
    link: OwnedFd,
}

impl Pump {
    /// Starts one for a call of `caller`.
    pub(super) fn start(
        config: &RuntimeConfig,
        caller: &Run,
        streams: Streams,
        errors: &OwnedFd,
    ) -> io::Result<(Self, FarEnds)> {
        let (stdin_near, stdin) = stream(Streams::Sockets)?;
        let (stdout_near, stdout) = stream(streams)?;
        let (stderr_near, stderr) = stream(streams)?;
        let (report_near, report) = seqpacket::pair()?;
        let mut command = Command::new(&config.relay);
        command.arg("--call").arg("--fd").kill_on_drop(true);
        let (child, link) = spawn(command, Environment::None, errors)?;
        let near = [&report_near, &stdin_near, &stdout_near, &stderr_near];
        let setup = ToPump::Setup {
            domid: caller.domid.0,
            carrier: caller.place.carrier(),
        };
        send(&link, &setup, &near)?;
        let far = FarEnds {
            stdin,
            stdout,
            stderr,
            report,
        };
        Ok((Self { child, link }, far))
    }

    fn connected(&self, channel: &Handed) -> io::Result<()> {
        let fds: Vec<_> = channel.fds.iter().collect();
        send(&self.link, &ToPump::Channel(channel.end), &fds)
    }
}

/// Starts the unprivileged process that reads what a qube wants notified; its line to us.
pub(super) fn start_decoder(
    config: &RuntimeConfig,
    errors: &OwnedFd,
) -> io::Result<(Child, OwnedFd)> {
    let mut command = Command::new(&config.relay);
    command
        .arg("--notifications")
        .arg("--fd")
        .kill_on_drop(true);
    spawn(command, Environment::None, errors)
}

/// The process that starts the service, as its user, and attends to it.
#[derive(Debug)]
pub(super) struct Starter {
    child: Child,
    link: OwnedFd,
}

impl Starter {
    pub(super) fn start(
        config: &RuntimeConfig,
        order: &Order,
        ends: FarEnds,
        errors: &OwnedFd,
    ) -> io::Result<Self> {
        let mut command = Command::new(&config.services.launcher);
        command.arg("--service");
        // Not killed with us: it ends the service in order when the link is closed.
        let (child, link) = spawn(command, Environment::Ours, errors)?;
        let far = [&ends.stdin, &ends.stdout, &ends.stderr, &ends.report];
        send(&link, order, &far)?;
        Ok(Self { child, link })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::calls) enum Environment {
    Ours,
    None,
}

pub(in crate::calls) fn spawn(
    mut command: Command,
    environment: Environment,
    errors: &OwnedFd,
) -> io::Result<(Child, OwnedFd)> {
    let (near, far) = seqpacket::pair()?;
    let number = inherit::pass_on(command.as_std_mut(), far);
    if environment == Environment::None {
        command.env_clear();
    }
    let child = command
        .arg(number.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors.try_clone()?)
        .current_dir("/")
        .spawn()?;
    Ok((child, near))
}

/// Where the processes of a call write what the daemon's log is to have.
pub(in crate::calls) fn log_pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    let reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
    Ok((reader, writer.into()))
}

/// The caller's end of a call, which is to appear: a socket in its folder, or an offer.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) place: Arc<Place>,
    pub(super) connection: Named,
    /// Says when a socket of that name appeared; closed when the call is over.
    pub(super) news: mpsc::Receiver<()>,
}

impl Caller {
    /// Connects as soon as that can be; nothing where it could not be in time, or the call is over.
    async fn connect(&mut self) -> Option<Handed> {
        let place = Arc::clone(&self.place);
        match &*place {
            Place::Sockets(folder) => {
                let stream = self.connect_in(folder).await?;
                // Made ready here: the pump has no calls for that.
                let channel = SocketChannel::new(stream.into()).ok()?;
                Some(Handed::socket(channel.into_inner()))
            }
            Place::Rings(rings) => {
                let (_, _, port) = self.connection.key;
                let (caller, port) = (rings.domain(), Port::new(port));
                let offers = rings.meeting().seek(caller, port);
                let joined = timeout(CONNECT_TIMEOUT, self.join(rings, offers)).await;
                rings.meeting().end(caller, port);
                joined.ok().flatten()
            }
        }
    }

    async fn join(&mut self, rings: &Rings, mut offers: mpsc::Receiver<Offer>) -> Option<Handed> {
        loop {
            let offer = tokio::select! {
                offer = offers.recv() => offer?,
                () = closed(&mut self.news) => return None,
            };
            match rings.join(offer) {
                Ok(handed) => return Some(handed),
                // What a caller of before left behind.
                Err(error) => tracing::debug!(error = %chain(&error), "a channel is no more"),
            }
        }
    }

    async fn connect_in(&mut self, folder: &Folder) -> Option<UnixStream> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let mut listens_soon = false;
        loop {
            let retry = Instant::now() + LISTEN_RETRY;
            let until = if listens_soon {
                retry.min(deadline)
            } else {
                deadline
            };
            match timeout_at(until, self.news.recv()).await {
                Ok(None) => return None,
                Ok(Some(())) => {}
                Err(_) if Instant::now() >= deadline => return None,
                Err(_) => {}
            }
            match folder.connect(&self.connection.name) {
                Ok(stream) => return Some(stream),
                Err(e) => {
                    let soon = [io::ErrorKind::ConnectionRefused, io::ErrorKind::WouldBlock];
                    listens_soon = soon.contains(&e.kind());
                }
            }
        }
    }
}

/// How a call went, for who looks after the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    /// Its caller came.
    Served,
    /// It did not.
    NobodyCame,
}

/// Sees a call through; returns when none of its processes is left.
pub(super) async fn see_through(
    mut pump: Pump,
    starter: Option<Starter>,
    mut caller: Caller,
) -> Went {
    let mut went = Went::NobodyCame;
    if let Some(channel) = caller.connect().await
        && pump.connected(&channel).is_ok()
    {
        went = Went::Served;
        // The pump has it alone: else it would outlive the pump.
        drop(channel);
        // Either tells that it is over.
        tokio::select! {
            _ = pump.child.wait() => {}
            () = closed(&mut caller.news) => {}
        }
    }
    let Pump { mut child, link } = pump;
    // What still runs sees this, ends, and takes the rest along.
    drop(link);
    let _ = child.wait().await;
    if let Some(Starter { mut child, link }) = starter {
        drop(link);
        let _ = child.wait().await;
    }
    went
}

async fn closed(news: &mut mpsc::Receiver<()>) {
    while news.recv().await.is_some() {}
}
