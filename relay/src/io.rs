//! Carries bytes between descriptors and the [`Core`]: one thread, nothing blocks but the wait.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bulkhead_vchan::xen::Server;
use bulkhead_vchan::{local, seqpacket};
use bulkhead_wire::causes::chain;
use bulkhead_wire::end::End;
use bulkhead_wire::relay::{self, ClientId, PACKET_MAX, ToRelay};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::Core;
use crate::ends::{self, EndError};
use crate::line::{Line, chunk, is_readable, unblock, wanted};

/// Packets taken from the daemon before the others have their turn.
const PACKETS: usize = 32;

/// What a relay is given at its start.
#[derive(Debug)]
pub struct Sockets {
    /// To the daemon.
    pub daemon: OwnedFd,
    /// Where the guest's QubesDB daemon connects, if it does so by a socket.
    pub database: Option<OwnedFd>,
    /// Where dom0 clients connect.
    pub clients: Option<OwnedFd>,
}

/// Whom a descriptor of one wait belongs to.
#[derive(Debug, Clone, Copy)]
enum Source {
    Daemon,
    DatabaseListener,
    Database,
    Control,
    ClientListener,
    Client(ClientId),
}

#[derive(Debug)]
struct Io {
    core: Core,
    sockets: Sockets,
    control: Option<Line>,
    database: Option<Line>,
    /// Where the guest's QubesDB daemon is to come to by rings.
    offered: Option<Server>,
    clients: BTreeMap<ClientId, OwnedFd>,
    buffer: Vec<u8>,
    start: Instant,
}

/// Serves until the daemon closes its end.
///
/// # Errors
/// Where the daemon's socket or the wait itself fails. Nothing a guest does leads here.
pub fn serve(core: Core, sockets: Sockets) -> io::Result<()> {
    let listeners = [
        Some(&sockets.daemon),
        sockets.database.as_ref(),
        sockets.clients.as_ref(),
    ];
    listeners.into_iter().flatten().try_for_each(unblock)?;
    let mut io = Io::new(core, sockets);
    while io.turn()? {}
    Ok(())
}

impl Io {
    fn new(core: Core, sockets: Sockets) -> Self {
        Self {
            core,
            sockets,
            control: None,
            database: None,
            offered: None,
            clients: BTreeMap::new(),
            buffer: vec![0; PACKET_MAX],
            start: Instant::now(),
        }
    }

    /// Waits, and lets everybody have a turn. False once the daemon is gone.
    fn turn(&mut self) -> io::Result<bool> {
        for (source, ready) in self.wait()? {
            if !self.serve_one(source, ready)? {
                return Ok(false);
            }
        }
        self.read_rings();
        let now = self.now();
        self.core.advance(now);
        self.flush()?;
        Ok(true)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits for whatever the core is ready to take or give.
    fn wait(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let now = self.now();
        let core = &self.core;
        let mut sources = vec![Source::Daemon];
        let daemon = wanted(true, core.packet().is_some());
        let mut fds = vec![PollFd::new(&self.sockets.daemon, daemon)];
        let mut add = |source, fd, flags: PollFlags| {
            // A peer nobody wants anything from is left out: its hanging up would end every wait.
            if !flags.is_empty() {
                sources.push(source);
                fds.push(PollFd::from_borrowed_fd(fd, flags));
            }
        };
        let mut more = false;
        if let Some(line) = &self.database {
            let input = core.database_wants_input(now);
            let output = !core.database_output().is_empty();
            more |= line.is_ready(input, output);
            add(Source::Database, line.fd(), line.poll_flags(input, output));
        } else if let Some(fd) = &self.sockets.database {
            add(Source::DatabaseListener, fd.as_fd(), PollFlags::IN);
        } else if let Some(server) = &self.offered {
            add(Source::DatabaseListener, server.as_fd(), PollFlags::IN);
        }
        if let Some(line) = &self.control {
            let input = core.control_wants_input();
            let output = !core.control_output().is_empty();
            more |= line.is_ready(input, output);
            add(Source::Control, line.fd(), line.poll_flags(input, output));
        }
        if let Some(fd) = &self.sockets.clients
            && core.clients_have_room()
        {
            add(Source::ClientListener, fd.as_fd(), PollFlags::IN);
        }
        for (id, fd) in &self.clients {
            let output = !core.client_output(*id).is_empty();
            add(
                Source::Client(*id),
                fd.as_fd(),
                wanted(core.clients_want_input(), output),
            );
        }
        let wait = if more {
            Some(Duration::ZERO)
        } else {
            core.wait(now)
        };
        let timeout = wait.map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready = sources.into_iter().zip(fds.iter().map(PollFd::revents));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    /// False once the daemon is gone.
    fn serve_one(&mut self, source: Source, ready: PollFlags) -> io::Result<bool> {
        let readable = is_readable(ready);
        match source {
            Source::Daemon if readable => return self.read_daemon(),
            Source::DatabaseListener => self.accept_database(),
            Source::ClientListener => self.accept_client(),
            Source::Database => self.database_woken(ready),
            Source::Control => self.control_woken(ready),
            Source::Client(id) if readable => self.read_client(id),
            // Whatever can be written is, after every wait.
            Source::Daemon | Source::Client(_) => {}
        }
        Ok(true)
    }

    fn read_daemon(&mut self) -> io::Result<bool> {
        for _ in 0..PACKETS {
            let mut fds = Vec::new();
            let received = seqpacket::recv_packet(&self.sockets.daemon, &mut self.buffer, &mut fds);
            let len = match received {
                Ok(0) => return Ok(false),
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                Err(e) => return Err(e),
            };
            match relay::decode(self.buffer.get(..len).unwrap_or_default()) {
                Ok(message) => self.obey(message, fds),
                Err(e) => log(&chain(&e)),
            }
        }
        Ok(true)
    }

    fn obey(&mut self, message: ToRelay, fds: Vec<OwnedFd>) {
        match message {
            ToRelay::AttachControl(end) => self.attach_control(end, fds),
            ToRelay::AttachDatabase(end) => self.attach_database(end, fds),
            message => {
                if let Err(e) = self.core.command(message) {
                    log(&e);
                }
            }
        }
    }

    fn attach_control(&mut self, end: End, fds: Vec<OwnedFd>) {
        let line = ends::join(end, fds)
            .and_then(|connected| Line::new(connected).map_err(EndError::Socket));
        // The daemon counts what it hands over, and hears of each that it is gone.
        self.core.control_up();
        match line {
            Ok(line) => self.control = Some(line),
            Err(e) => self.core.control_lost(chain(&e)),
        }
    }

    fn attach_database(&mut self, end: End, fds: Vec<OwnedFd>) {
        match ends::serve(end, fds) {
            Ok(server) => {
                self.core.database_lost("replaced by a new channel".into());
                self.database = None;
                self.offered = Some(server);
                // It may be there already.
                self.accept_database();
            }
            Err(e) => self.core.database_failed(chain(&e)),
        }
    }

    fn accept_database(&mut self) {
        let connected = match (&self.sockets.database, self.offered.take()) {
            (Some(listener), _) => accept(listener).map(Line::Socket),
            (None, Some(server)) => match server.try_accept() {
                Ok(channel) => Some(Line::rings(Box::new(channel))),
                Err((back, e)) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.offered = Some(back);
                    None
                }
                Err((_, e)) => {
                    self.core.database_failed(e.to_string());
                    None
                }
            },
            (None, None) => None,
        };
        if let Some(line) = connected {
            self.core.database_up();
            self.database = Some(line);
        }
    }

    fn accept_client(&mut self) {
        if let Some(fd) = self.sockets.clients.as_ref().and_then(accept) {
            let id = self.core.client_up();
            self.clients.insert(id, fd);
        }
    }

    fn database_woken(&mut self, ready: PollFlags) {
        match self.database.as_mut().map(|line| line.woken(ready)) {
            Some(Ok(true)) => self.read_database(),
            Some(Ok(false)) | None => {}
            Some(Err(e)) => self.core.database_lost(e.to_string()),
        }
    }

    fn control_woken(&mut self, ready: PollFlags) {
        match self.control.as_mut().map(|line| line.woken(ready)) {
            Some(Ok(true)) => self.read_control(),
            Some(Ok(false)) | None => {}
            Some(Err(e)) => self.core.control_lost(e.to_string()),
        }
    }

    /// Reads a chunk of each ring that has more, where that is wanted.
    fn read_rings(&mut self) {
        let now = self.now();
        let input = self.core.database_wants_input(now);
        if self
            .database
            .as_ref()
            .is_some_and(|line| line.is_ready(input, false))
        {
            self.read_database();
        }
        let input = self.core.control_wants_input();
        if self
            .control
            .as_ref()
            .is_some_and(|line| line.is_ready(input, false))
        {
            self.read_control();
        }
    }

    fn read_database(&mut self) {
        let now = self.now();
        let Some(line) = &mut self.database else {
            return;
        };
        match line.read(&mut self.buffer) {
            Ok(Some([])) => self.core.database_lost(String::new()),
            Ok(Some(bytes)) => self.core.database_receive(bytes, now),
            Ok(None) => {}
            Err(e) => self.core.database_lost(e.to_string()),
        }
    }

    fn read_control(&mut self) {
        let now = self.now();
        let Some(line) = &mut self.control else {
            return;
        };
        match line.read(&mut self.buffer) {
            Ok(Some([])) => self.core.control_closed(),
            Ok(Some(bytes)) => self.core.control_receive(bytes, now),
            Ok(None) => {}
            Err(e) => self.core.control_lost(e.to_string()),
        }
    }

    fn read_client(&mut self, id: ClientId) {
        let Some(fd) = self.clients.get(&id) else {
            return;
        };
        match local::read(fd, chunk(&mut self.buffer)) {
            Ok(Some([])) | Err(_) => {
                self.core.client_lost(id);
                self.clients.remove(&id);
            }
            Ok(Some(bytes)) => self.core.client_receive(id, bytes),
            Ok(None) => {}
        }
    }

    /// Sends what each peer takes, and drops what is over.
    fn flush(&mut self) -> io::Result<()> {
        while let Some(packet) = self.core.packet() {
            match seqpacket::send_packet(&self.sockets.daemon, packet, &[]) {
                Ok(()) => self.core.packet_sent(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                // Its end is seen by the next read.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => break,
                Err(e) => return Err(e),
            }
        }
        let now = self.now();
        if let Some(line) = &mut self.control {
            match line.write(self.core.control_output()) {
                Ok(n) => self.core.control_sent(n),
                Err(e) => self.core.control_lost(e.to_string()),
            }
        }
        if let Some(line) = &mut self.database {
            match line.write(self.core.database_output()) {
                Ok(n) => self.core.database_sent(n, now),
                Err(e) => self.core.database_lost(e.to_string()),
            }
        }
        if !self.core.control_is_up() {
            self.control = None;
        }
        if !self.core.database_is_up() {
            self.database = None;
        }
        let core = &mut self.core;
        self.clients.retain(|id, fd| {
            let sent = local::write(fd, core.client_output(*id));
            if let Ok(n) = sent {
                core.client_sent(*id, n);
            }
            let over = core.client_is_closing(*id) && core.client_output(*id).is_empty();
            if sent.is_err() || over {
                core.client_lost(*id);
                return false;
            }
            true
        });
        Ok(())
    }
}

fn accept(listener: &OwnedFd) -> Option<OwnedFd> {
    accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()
}

fn log(text: &str) {
    use std::io::Write as _;
    // Standard error may be closed; there is nobody else to tell.
    let _ = writeln!(io::stderr(), "bulkhead-relay: {text}");
}

#[cfg(test)]
#[path = "io_tests.rs"]
mod tests;
