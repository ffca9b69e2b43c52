//! The agent's loop: the only place that knows dom0, local programs and calls together.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use bulkhead_vchan::Transport;
use bulkhead_wire::qrexec::control::{AgentEvent, AgentLink};
use bulkhead_wire::qrexec::trigger::UntrustedTrigger;
use bulkhead_wire::qrexec::{Endpoint, Ident};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::calls::{Calls, Order, Wake};
use super::clients::{Clients, Heard, slot};
use super::fork_server::ForkServer;
use super::host::GuestHost;
use super::link::{Line, Lost};
use super::{AgentError, NAME, Setup};
use crate::announce;

/// After this a line is offered that could not be before.
const OFFER_AGAIN: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// What wakes the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// A call has ended, or a signal says stop.
    Wake,
    /// dom0 connects, speaks, takes what we said, or is gone.
    Line,
    /// A local program connects.
    Program,
    /// A local program speaks or is gone.
    Client(u32),
}

#[derive(Debug)]
pub(super) struct Server {
    transport: Transport,
    wake: Wake,
    /// None while a line is being replaced, and after it could not be.
    line: Option<Line>,
    /// That it could not be was said.
    mute: bool,
    /// Ends of connections that dom0 could not be told of, for want of a line: each is one of a
    /// call or of a program, of which there are only so many.
    untold: Vec<Endpoint>,
    programs: UnixListener,
    trigger_path: PathBuf,
    clients: Clients,
    calls: Calls,
}

impl Server {
    pub(super) fn new(
        transport: Transport,
        setup: &Setup,
        host: Arc<GuestHost>,
        wake: Wake,
    ) -> Result<Self, AgentError> {
        let trigger_path = setup.trigger_path.clone();
        let programs = listen(&trigger_path).map_err(|source| AgentError::Listen {
            path: trigger_path.clone(),
            source,
        })?;
        let fork_server = setup.fork_server.clone().map(ForkServer::new);
        let line = Line::offer(&transport).map_err(AgentError::Vchan)?;
        let calls = Calls::new(transport.clone(), host, fork_server, wake.clone());
        let clients = Clients::default();
        Ok(Self {
            transport,
            wake,
            line: Some(line),
            mute: false,
            untold: Vec::new(),
            programs,
            trigger_path,
            clients,
            calls,
        })
    }

    pub(super) fn run(&mut self) -> Result<(), AgentError> {
        loop {
            for event in self.wait()? {
                match event {
                    Event::Wake => {
                        self.wake.clear();
                        if self.wake.must_stop() {
                            return Ok(());
                        }
                        self.tell_ended();
                    }
                    Event::Line => self.on_line(),
                    Event::Program => self.on_program(),
                    Event::Client(slot) => self.on_client(slot),
                }
            }
            self.flush();
        }
    }

    fn wait(&self) -> Result<Vec<Event>, AgentError> {
        let mut events = vec![Event::Wake, Event::Program];
        let mut fds = vec![
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::new(&self.programs, PollFlags::IN),
        ];
        if let Some(line) = &self.line {
            let (fd, flags) = line.poll();
            events.push(Event::Line);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        }
        for (slot, client) in self.clients.iter() {
            events.push(Event::Client(slot));
            fds.push(PollFd::new(&client.stream, PollFlags::IN));
        }
        let again = self.line.is_none().then_some(&OFFER_AGAIN);
        match poll(&mut fds, again) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => {
                return Err(AgentError::System {
                    what: "wait",
                    source: e.into(),
                });
            }
        }
        let seen = events
            .into_iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty());
        Ok(seen.map(|(event, _)| event).collect())
    }

    fn tell_ended(&mut self) {
        for ended in self.calls.ended() {
            self.terminated(ended);
        }
    }

    /// Tells dom0 of an end, or notes it for the next line: a connection may outlive the line it
    /// was ordered on, and dom0 may wait for its end.
    fn terminated(&mut self, endpoint: Endpoint) {
        match &mut self.line {
            Some(line) if line.link().is_some_and(|link| link.version().is_some()) => {
                line.say(&AgentLink::terminated(endpoint));
            }
            _ => self.untold.push(endpoint),
        }
    }

    fn on_line(&mut self) {
        let Some(line) = self.line.take() else {
            return;
        };
        let mut line = line.accept();
        let (events, heard) = line.hear();
        self.line = Some(line);
        events.into_iter().for_each(|event| self.on_command(event));
        if let Err(lost) = heard {
            self.lose(&lost);
        }
    }

    fn on_command(&mut self, event: AgentEvent) {
        match event {
            AgentEvent::Connected { .. } => {
                for endpoint in std::mem::take(&mut self.untold) {
                    self.terminated(endpoint);
                }
            }
            AgentEvent::Execute {
                endpoint,
                cmdline,
                just_exec,
            } => {
                let order = Order {
                    endpoint,
                    cmdline,
                    just_exec,
                };
                if !self.calls.start(order) {
                    self.terminated(endpoint);
                }
            }
            AgentEvent::Connect { endpoint, ident } => {
                let found = slot(&ident);
                if !found.is_some_and(|slot| self.clients.connect(slot, endpoint)) {
                    // Whoever asked is gone: nobody will use the port.
                    self.terminated(endpoint);
                }
            }
            AgentEvent::Refused { ident } => {
                if let Some(slot) = slot(&ident) {
                    self.clients.remove(slot);
                }
            }
        }
    }

    fn on_program(&mut self) {
        loop {
            let added = match self.programs.accept() {
                Ok((stream, from)) => self.clients.add(stream, announce::of_peer(&from)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) => Err(e),
            };
            if let Err(source) = added {
                let error = AgentError::System {
                    what: "take a local program's request",
                    source,
                };
                crate::report::log(NAME, &error);
                return;
            }
        }
    }

    fn on_client(&mut self, slot: u32) {
        match self.clients.hear(slot) {
            Heard::Nothing | Heard::Gone(None) => {}
            Heard::Gone(Some(endpoint)) => self.terminated(endpoint),
            Heard::Withdrawn(ident) => self.withdraw(&ident),
            Heard::Request(request, ident) => self.on_request(slot, &request, &ident),
        }
    }

    /// Tells dom0 that nobody waits for the answer any more. A lost line tells it as well.
    fn withdraw(&mut self, ident: &Ident) {
        if let Some(line) = &mut self.line
            && let Some(Ok(message)) = line.link().map(|l| l.withdraw(ident))
        {
            line.say(&message);
        }
    }

    fn on_request(&mut self, slot: u32, request: &UntrustedTrigger, ident: &Ident) {
        let message = self
            .line
            .as_ref()
            .and_then(Line::link)
            .ok_or(bulkhead_wire::qrexec::control::ControlError::NotUp)
            .and_then(|link| link.trigger(request, ident));
        match (message, &mut self.line) {
            (Ok(message), Some(line)) => line.say(&message),
            (Ok(_), None) => self.clients.remove(slot),
            (Err(e), _) => {
                crate::report::log(NAME, &e);
                self.clients.remove(slot);
            }
        }
    }

    fn flush(&mut self) {
        match self.line.as_mut().map(Line::flush) {
            Some(Err(lost)) => self.lose(&lost),
            Some(Ok(())) => {}
            None => self.offer(),
        }
    }

    /// Offers dom0 a new line. Running calls go on; requests without an answer are refused.
    fn lose(&mut self, lost: &Lost) {
        match lost {
            Lost::Closed => {}
            Lost::Protocol(e) => crate::report::log(NAME, e),
            Lost::Failed(e) => crate::report::log(NAME, e),
        }
        self.clients.refuse_waiting();
        // The old one's name goes first, so that it cannot take the new one's away.
        self.line = None;
        self.offer();
    }

    /// Offers dom0 a line. One that cannot be made now is tried again: programs of the qube may
    /// have taken what it needs, and calls go on without it.
    fn offer(&mut self) {
        match Line::offer(&self.transport) {
            Ok(line) => {
                self.line = Some(line);
                self.mute = false;
            }
            Err(_) if self.mute => {}
            Err(e) => {
                self.mute = true;
                crate::report::log(NAME, &AgentError::Vchan(e));
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing depends on it: a successor replaces what is there.
        let _ = std::fs::remove_file(&self.trigger_path);
    }
}

fn listen(path: &PathBuf) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // Any user of the qube may ask; what is allowed, dom0 decides.
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o666))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
