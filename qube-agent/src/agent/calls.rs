//! The calls that are being served, each on its thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use bulkhead_qrexec::serve::{Host, LINGER, serve_connecting};
use bulkhead_vchan::{AnyChannel, DomId, Port, Transport};
use bulkhead_wire::qrexec::Endpoint;
use bulkhead_wire::qrexec::command::Command;
use rustix::event::{EventfdFlags, eventfd};

use super::fork_server::ForkServer;
use super::host::GuestHost;
use super::workers::Workers;

/// Calls served at a time: one for each data port there is.
const CALLS_MAX: usize = 256;
/// How long a caller may take to open the channel it asked for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(120);

/// Wakes the agent's loop from other threads.
#[derive(Debug, Clone)]
pub(super) struct Wake(Arc<(OwnedFd, AtomicBool)>);

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(Arc::new((eventfd(0, flags)?, AtomicBool::new(false)))))
    }

    pub(super) fn wake(&self) {
        // Only a full counter refuses, and that wakes too.
        let _ = rustix::io::write(&self.0.0, &1u64.to_ne_bytes());
    }

    pub(super) fn stop(&self) {
        self.0.1.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn must_stop(&self) -> bool {
        self.0.1.load(Ordering::SeqCst)
    }

    pub(super) fn clear(&self) {
        let _ = rustix::io::read(&self.0.0, &mut [0; 8][..]);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

/// What dom0 asked to run.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) endpoint: Endpoint,
    pub(super) cmdline: Vec<u8>,
    pub(super) just_exec: bool,
}

#[derive(Debug)]
pub(super) struct Calls {
    transport: Transport,
    host: Arc<GuestHost>,
    fork_server: Option<ForkServer>,
    wake: Wake,
    workers: Workers,
    running: usize,
    sender: Sender<Endpoint>,
    receiver: Receiver<Endpoint>,
}

impl Calls {
    pub(super) fn new(
        transport: Transport,
        host: Arc<GuestHost>,
        fork_server: Option<ForkServer>,
        wake: Wake,
    ) -> Self {
        let (sender, receiver) = channel();
        Self {
            transport,
            host,
            fork_server,
            wake,
            workers: Workers::default(),
            running: 0,
            sender,
            receiver,
        }
    }

    /// Starts serving; false if there is no room for another call.
    pub(super) fn start(&mut self, order: Order) -> bool {
        if self.running >= CALLS_MAX {
            eprintln!(
                "{}: {CALLS_MAX} calls are running, one more is dropped",
                super::NAME
            );
            return false;
        }
        let (transport, host) = (self.transport.clone(), Arc::clone(&self.host));
        let (fork_server, wake) = (self.fork_server.clone(), self.wake.clone());
        let (sender, endpoint) = (self.sender.clone(), order.endpoint);
        let started = self.workers.run(move || {
            let channel = serve_order(&transport, &host, fork_server.as_ref(), order);
            // Without a receiver the agent has ended.
            let _ = sender.send(endpoint);
            wake.wake();
            if let Some(channel) = channel {
                channel.linger(LINGER);
            }
        });
        match started {
            Ok(()) => {
                self.running += 1;
                true
            }
            Err(source) => {
                let error = super::AgentError::System {
                    what: "start a thread",
                    source,
                };
                crate::report::log(super::NAME, &error);
                false
            }
        }
    }

    /// Where calls have ended since.
    pub(super) fn ended(&mut self) -> Vec<Endpoint> {
        let ended: Vec<_> = self.receiver.try_iter().collect();
        self.running -= ended.len();
        ended
    }
}

/// Serves a call; its channel, if it came to that.
fn serve_order(
    transport: &Transport,
    host: &GuestHost,
    fork_server: Option<&ForkServer>,
    order: Order,
) -> Option<AnyChannel> {
    let command = Command::parse(&order.cmdline);
    if let (Some(server), Ok(command)) = (fork_server, &command)
        && server.run(host, command, &order)
    {
        return None;
    }
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let port = Port::new(order.endpoint.port);
    let log = |error: &dyn std::error::Error| host.log(error);
    let domain = DomId::new(order.endpoint.domain)
        .inspect_err(|e| log(e))
        .ok()?;
    let connect = || transport.connect(domain, port, deadline);
    let (channel, outcome) = serve_connecting(connect, command, order.just_exec, host)
        .inspect_err(|e| log(e))
        .ok()?;
    match outcome {
        Ok(ending) if ending.misdirected => {
            eprintln!(
                "{}: a caller sent a stream that is not its to send",
                super::NAME
            );
        }
        Ok(_) => {}
        Err(e) => log(&e),
    }
    Some(channel)
}
