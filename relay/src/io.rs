//! Carries bytes between descriptors and the [`Core`]: one thread, nothing blocks but the wait.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use bulkhead_vchan::seqpacket;
use bulkhead_wire::causes::chain;
use bulkhead_wire::relay::{self, ClientId, PACKET_MAX, ToRelay};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags, accept_with};

use crate::Core;

/// Read from one peer before the others have their turn.
const CHUNK: usize = 16 * 1024;

/// Packets taken from the daemon before the others have their turn.
const PACKETS: usize = 32;

/// What a relay is given at its start.
#[derive(Debug)]
pub struct Sockets {
    /// To the daemon.
    pub daemon: OwnedFd,
    /// Where the guest's QubesDB daemon connects.
    pub database: OwnedFd,
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
    control: Option<OwnedFd>,
    database: Option<OwnedFd>,
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
        Some(&sockets.database),
        sockets.clients.as_ref(),
    ];
    listeners.into_iter().flatten().try_for_each(unblock)?;
    let mut io = Io {
        core,
        sockets,
        control: None,
        database: None,
        clients: BTreeMap::new(),
        buffer: vec![0; PACKET_MAX],
        start: Instant::now(),
    };
    loop {
        for (source, ready) in io.wait()? {
            if !io.serve_one(source, ready)? {
                return Ok(());
            }
        }
        let now = io.now();
        io.core.advance(now);
        io.flush()?;
    }
}

fn unblock(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(
        fd,
        flags | rustix::fs::OFlags::NONBLOCK,
    )?)
}

impl Io {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits for whatever the core is ready to take or give.
    fn wait(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let now = self.now();
        let core = &self.core;
        let wanted = |input: bool, output: bool| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, input);
            flags.set(PollFlags::OUT, output);
            flags
        };
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
        match &self.database {
            Some(fd) => {
                let input = core.database_wants_input(now);
                let output = !core.database_output().is_empty();
                add(Source::Database, fd.as_fd(), wanted(input, output));
            }
            None => add(
                Source::DatabaseListener,
                self.sockets.database.as_fd(),
                PollFlags::IN,
            ),
        }
        if let Some(fd) = &self.control {
            let output = !core.control_output().is_empty();
            add(
                Source::Control,
                fd.as_fd(),
                wanted(core.control_wants_input(), output),
            );
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
        let timeout = core.wait(now).map(|wait| Timespec {
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
        let readable = ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        match source {
            Source::Daemon if readable => return self.read_daemon(),
            Source::DatabaseListener => self.accept_database(),
            Source::ClientListener => self.accept_client(),
            Source::Database if readable => self.read_database(),
            Source::Control if readable => self.read_control(),
            Source::Client(id) if readable => self.read_client(id),
            // Whatever can be written is, after every wait.
            Source::Daemon | Source::Database | Source::Control | Source::Client(_) => {}
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
                Ok(message) => self.obey(message, fds.pop()),
                Err(e) => log(&chain(&e)),
            }
        }
        Ok(true)
    }

    fn obey(&mut self, message: ToRelay, fd: Option<OwnedFd>) {
        if message == ToRelay::AttachControl {
            let Some(fd) = fd.filter(|fd| unblock(fd).is_ok()) else {
                return log("a control channel came without a usable descriptor");
            };
            self.control = Some(fd);
        }
        if let Err(e) = self.core.command(message) {
            log(&e);
        }
    }

    fn accept_database(&mut self) {
        if let Some(fd) = accept(&self.sockets.database) {
            self.core.database_up();
            self.database = Some(fd);
        }
    }

    fn accept_client(&mut self) {
        if let Some(fd) = self.sockets.clients.as_ref().and_then(accept) {
            let id = self.core.client_up();
            self.clients.insert(id, fd);
        }
    }

    fn read_database(&mut self) {
        let now = self.now();
        let Some(fd) = &self.database else { return };
        match read(fd.as_fd(), &mut self.buffer) {
            Ok(Some([])) => self.core.database_lost(String::new()),
            Ok(Some(bytes)) => self.core.database_receive(bytes, now),
            Ok(None) => {}
            Err(e) => self.core.database_lost(e.to_string()),
        }
    }

    fn read_control(&mut self) {
        let now = self.now();
        let Some(fd) = &self.control else { return };
        match read(fd.as_fd(), &mut self.buffer) {
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
        match read(fd.as_fd(), &mut self.buffer) {
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
        if let Some(fd) = &self.control {
            match write(fd.as_fd(), self.core.control_output()) {
                Ok(n) => self.core.control_sent(n),
                Err(e) => self.core.control_lost(e.to_string()),
            }
        }
        if let Some(fd) = &self.database {
            match write(fd.as_fd(), self.core.database_output()) {
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
            let sent = write(fd.as_fd(), core.client_output(*id));
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

/// At most one chunk; none where there is nothing yet, empty at the end.
fn read<'a>(fd: BorrowedFd<'_>, buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>, Errno> {
    let chunk = CHUNK.min(buffer.len());
    let part = buffer.get_mut(..chunk).unwrap_or_default();
    match rustix::io::read(fd, &mut *part) {
        Ok(n) => Ok(Some(part.get(..n).unwrap_or_default())),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Bytes that the peer took.
fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match rustix::net::send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        sent => sent,
    }
}

fn log(text: &str) {
    use std::io::Write as _;
    // Standard error may be closed; there is nobody else to tell.
    let _ = writeln!(io::stderr(), "bulkhead-relay: {text}");
}
