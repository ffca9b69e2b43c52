//! `qubesdb-daemon [--socket-dir=DIR] [--rw-socket-perms=OCTAL] [DOMID]`: mirrors dom0's keys and
//! serves them to local programs.
//!
//! Local sockets appear once the first dump is through, so that nobody finds a key missing that is
//! on its way. When dom0's side is restarted the daemon connects again; clients stay connected and
//! keep what was known.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::Permissions;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bulkhead_vchan::channel::{Channel, Wants};
use bulkhead_vchan::{AnyChannel, DomId, Port, Transport, TransportError, local};
use bulkhead_wire::qubesdb::VCHAN_PORT;
use bulkhead_wire::qubesdb::daemon::GuestDaemon;
use bulkhead_wire::qubesdb::link::{Link, LinkError};
use bulkhead_wire::qubesdb::server::{Access, ClientId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use thiserror::Error;

use super::{SOCKET, SOCKET_READ_ONLY, socket_dirs};

const NAME: &str = "qubesdb-daemon";

/// How often to look for dom0 while it is away, between serving clients.
const RETRY: Duration = Duration::from_millis(250);

/// How long to wait for dom0 where there is nobody to serve; the transport tells sooner.
const PATIENCE: Duration = Duration::from_secs(10);

/// Any program in the qube may read and write, as with the reference.
const PERMISSIONS: u32 = 0o666;

/// Read from one peer before the others have their turn.
const CHUNK: usize = 16 * 1024;

/// Where and for whom to serve.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    dirs: Vec<PathBuf>,
    permissions: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            dirs: socket_dirs(),
            permissions: PERMISSIONS,
        }
    }
}

/// Why the daemon ends.
#[derive(Debug, Error)]
pub(crate) enum DaemonError {
    #[error("cannot use `{0}` as an argument")]
    Usage(String),
    #[error("this is a guest's daemon; dom0's side of a qube is its relay")]
    Dom0,
    #[error("the channel to dom0 cannot be used")]
    Vchan(#[from] TransportError),
    #[error("cannot make the sockets for clients in `{}`", dir.display())]
    Sockets { dir: PathBuf, source: io::Error },
    #[error("there is no folder for the sockets for clients")]
    NoFolder,
    #[error("cannot wait for events")]
    Wait(#[source] io::Error),
}

pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let Err(e) = parse(arguments).and_then(|setup| run(&setup));
    crate::report::log(NAME, &e);
    match e {
        DaemonError::Usage(_) | DaemonError::Dom0 => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

fn parse(arguments: Vec<OsString>) -> Result<Setup, DaemonError> {
    let mut setup = Setup::default();
    let mut words = 0;
    for argument in arguments {
        let bad = || DaemonError::Usage(argument.display().to_string());
        let text = argument.to_str().ok_or_else(bad)?;
        match text.split_once('=') {
            Some(("--socket-dir", dir)) => setup.dirs = vec![dir.into()],
            Some(("--rw-socket-perms", octal)) => {
                let mode = u32::from_str_radix(octal, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o777);
                setup.permissions = mode.ok_or_else(bad)?;
            }
            None if !text.starts_with('-') => {
                words += 1;
                match (words, text) {
                    (1, "0") => {}
                    (1, _) => return Err(bad()),
                    _ => return Err(DaemonError::Dom0),
                }
            }
            _ => return Err(bad()),
        }
    }
    Ok(setup)
}

/// Serves for ever.
///
/// # Errors
/// Where there is nowhere to serve. What dom0 or a client does never leads here.
pub(crate) fn run(setup: &Setup) -> Result<Infallible, DaemonError> {
    let mut io = Io {
        daemon: GuestDaemon::default(),
        transport: Transport::from_env()?,
        link: None,
        more: false,
        local: None,
        clients: BTreeMap::new(),
        buffer: vec![0; CHUNK],
    };
    loop {
        if io.link.is_none() {
            io.connect()?;
        }
        if io.local.is_none() && io.daemon.link().is_some_and(|link| link.is_synchronised()) {
            io.local = Some(Local::bind(setup)?);
        }
        for (source, ready) in io.wait().map_err(DaemonError::Wait)? {
            io.serve(source, ready);
        }
        io.read_link();
        io.flush();
    }
}

/// The sockets for clients.
#[derive(Debug)]
struct Local {
    read_write: UnixListener,
    read_only: UnixListener,
}

impl Local {
    fn bind(setup: &Setup) -> Result<Self, DaemonError> {
        let mut last = DaemonError::NoFolder;
        for dir in &setup.dirs {
            let bound = std::fs::create_dir_all(dir).and_then(|()| {
                let read_only = listen(&dir.join(SOCKET_READ_ONLY), PERMISSIONS)?;
                let read_write = listen(&dir.join(SOCKET), setup.permissions)?;
                Ok(Self {
                    read_write,
                    read_only,
                })
            });
            match bound {
                Ok(local) => return Ok(local),
                Err(source) => {
                    last = DaemonError::Sockets {
                        dir: dir.clone(),
                        source,
                    }
                }
            }
        }
        Err(last)
    }
}

fn listen(path: &Path, permissions: u32) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let socket = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(permissions))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Link,
    Listener(Access),
    Client(ClientId),
}

#[derive(Debug)]
struct Io {
    daemon: GuestDaemon,
    transport: Transport,
    link: Option<AnyChannel>,
    /// There may be more to read of the link, of which poll does not tell again.
    more: bool,
    local: Option<Local>,
    clients: BTreeMap<ClientId, OwnedFd>,
    buffer: Vec<u8>,
}

impl Io {
    /// Looks for dom0; with clients to serve only for an instant.
    fn connect(&mut self) -> Result<(), DaemonError> {
        let patience = if self.local.is_some() {
            Duration::ZERO
        } else {
            PATIENCE
        };
        let begin = Instant::now();
        match self
            .transport
            .connect(DomId::DOM0, Port::new(VCHAN_PORT), begin + patience)
        {
            Ok(channel) => {
                self.link = Some(channel);
                // It may have spoken already.
                self.more = true;
                self.daemon.link_up();
                Ok(())
            }
            // Nobody, a folder that is not there yet, or what dom0 is about to replace.
            Err(e) if e.is_nobody() => {
                if self.local.is_none() {
                    std::thread::sleep(RETRY.saturating_sub(begin.elapsed()));
                }
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }

    fn wait(&mut self) -> io::Result<Vec<(Source, PollFlags)>> {
        let (mut sources, mut fds) = (Vec::new(), Vec::new());
        let mut add = |source, fd, flags: PollFlags| {
            if !flags.is_empty() {
                sources.push(source);
                fds.push(PollFd::from_borrowed_fd(fd, flags));
            }
        };
        let mut at_once = false;
        if let (Some(channel), Some(link)) = (&self.link, self.daemon.link()) {
            let wants = Wants {
                read: link.wants_input(),
                write: !link.output().is_empty(),
            };
            if wants != Wants::default() {
                let flags = channel.poll_flags(wants);
                add(Source::Link, channel.fd(), flags);
            }
            at_once = self.more && wants.read;
        }
        if let Some(local) = &self.local {
            let listeners = [
                (Access::ReadWrite, &local.read_write),
                (Access::ReadOnly, &local.read_only),
            ];
            for (access, listener) in listeners {
                add(Source::Listener(access), listener.as_fd(), PollFlags::IN);
            }
        }
        let server = self.daemon.server();
        for (id, fd) in &self.clients {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, server.wants_input(*id));
            flags.set(PollFlags::OUT, !server.output(*id).is_empty());
            add(Source::Client(*id), fd.as_fd(), flags);
        }
        if fds.is_empty() {
            return Ok(Vec::new());
        }
        let timeout = match (&self.link, at_once) {
            (_, true) => Some(Duration::ZERO),
            (None, _) => Some(RETRY),
            _ => None,
        };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready = sources.into_iter().zip(fds.iter().map(PollFd::revents));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn serve(&mut self, source: Source, ready: PollFlags) {
        let readable = ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        match source {
            Source::Link => self.note_link(readable),
            Source::Listener(access) => self.accept(access),
            Source::Client(id) if readable => self.read_client(id),
            Source::Client(_) => {}
        }
    }

    /// Takes note of what poll said of the link.
    fn note_link(&mut self, readable: bool) {
        let Some(channel) = &mut self.link else {
            return;
        };
        self.more |= readable;
        if channel.acknowledge().is_err() {
            self.daemon.link_down();
        }
    }

    /// Reads what there is of the link, as far as it may be taken.
    fn read_link(&mut self) {
        let Self {
            daemon,
            link: Some(channel),
            buffer,
            more,
            ..
        } = self
        else {
            return;
        };
        read_link(daemon, channel, buffer, more);
    }

    fn accept(&mut self, access: Access) {
        let Some(local) = &self.local else { return };
        let listener = match access {
            Access::ReadWrite => &local.read_write,
            Access::ReadOnly => &local.read_only,
        };
        let Ok(fd) = accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else {
            return;
        };
        // One too many is hung up on.
        if let Ok(id) = self.daemon.server().connect(access) {
            self.clients.insert(id, fd);
        }
    }

    fn read_client(&mut self, id: ClientId) {
        let Some(fd) = self.clients.get(&id) else {
            return;
        };
        match local::read(fd, &mut self.buffer) {
            Ok(Some([])) | Err(_) => {
                self.daemon.server().disconnect(id);
                self.clients.remove(&id);
            }
            Ok(Some(bytes)) => note(self.daemon.client_receive(id, bytes)),
            Ok(None) => {}
        }
    }

    fn flush(&mut self) {
        if let Some(channel) = &mut self.link {
            flush_link(&mut self.daemon, channel);
        }
        if self.daemon.link().is_none() {
            self.link = None;
        }
        let daemon = &mut self.daemon;
        self.clients.retain(|id, fd| {
            let sent = local::write(fd, daemon.server().output(*id));
            if let Ok(n) = sent {
                note(daemon.client_sent(*id, n));
            }
            let server = daemon.server();
            let over = server.is_closing(*id) && server.output(*id).is_empty();
            if sent.is_err() || over {
                server.disconnect(*id);
                return false;
            }
            true
        });
    }
}

/// Reads until poll will tell of more, or no more may be taken. `more` is whether poll may be
/// silent of what is there.
fn read_link(
    daemon: &mut GuestDaemon,
    channel: &mut impl Channel,
    buffer: &mut [u8],
    more: &mut bool,
) {
    while *more && daemon.link().is_some_and(Link::wants_input) {
        match channel.read(buffer) {
            Ok(0) => daemon.link_down(),
            Ok(n) => {
                let bytes = buffer.get(..n).unwrap_or_default();
                note(daemon.link_receive(bytes).map(drop));
                *more = !channel.tells_of_bytes();
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => *more = false,
            Err(_) => daemon.link_down(),
        }
    }
}

/// Sends as much as there is room for: only where there was none does a ring tell of more.
fn flush_link(daemon: &mut GuestDaemon, channel: &mut impl Channel) {
    while let Some(link) = daemon.link().filter(|link| !link.output().is_empty()) {
        match channel.write(&[IoSlice::new(link.output())]) {
            Ok(n) => {
                note(daemon.link_sent(n).map(drop));
                if channel.tells_of_bytes() {
                    return;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => daemon.link_down(),
        }
    }
}

/// The link is already forgotten and will be made again.
fn note(done: Result<(), LinkError>) {
    if let Err(e) = done {
        crate::report::log(NAME, &e);
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_vchan::xen::RingSizes;
    use bulkhead_vchan::xen::pair::pair;
    use bulkhead_wire::qubesdb::link::Role;
    use bulkhead_wire::qubesdb::message::Value;
    use bulkhead_wire::qubesdb::path::DbPath;
    use bulkhead_wire::qubesdb::store::{STORE_GUEST_MAX, Store};

    use super::*;

    fn parsed(line: &str) -> Result<Setup, DaemonError> {
        parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn arguments() {
        let setup = parsed("--socket-dir=/x --rw-socket-perms=0660 0").unwrap();
        assert_eq!((setup.dirs, setup.permissions), (vec!["/x".into()], 0o660));
        for bad in [
            "--rw-socket-perms=9",
            "--rw-socket-perms=1777",
            "-x",
            "7",
            "--socket-dir",
        ] {
            assert!(matches!(parsed(bad), Err(DaemonError::Usage(_))), "{bad}");
        }
        assert!(matches!(parsed("0 work"), Err(DaemonError::Dom0)));
    }

    fn readable(channel: &impl Channel) -> bool {
        let flags = channel.poll_flags(Wants::default());
        let mut fds = [PollFd::from_borrowed_fd(channel.fd(), flags)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
    }

    #[test]
    fn a_dump_of_many_rings_comes_through_and_so_does_the_end() {
        let (mut guest, mut dom0, _memory) = pair(RingSizes::CONTROL).unwrap();
        let mut keys = Store::default();
        for n in 0..40 {
            let key = DbPath::new(format!("/key{n}")).unwrap();
            let value = Value::new(vec![b'x'; 1000 + n]);
            keys.write(&key, value, STORE_GUEST_MAX).unwrap();
        }
        let (mut link, mut events) = (Link::new(Role::Dom0), Vec::new());
        let (mut daemon, mut buffer, mut more) = (GuestDaemon::default(), vec![0; CHUNK], true);
        daemon.link_up();
        let mut wakes = 0;
        while !daemon.link().unwrap().is_synchronised() {
            read_link(&mut daemon, &mut guest, &mut buffer, &mut more);
            flush_link(&mut daemon, &mut guest);
            let mut bytes = [0; CHUNK];
            while let Ok(n) = dom0.read(&mut bytes) {
                link.receive(&bytes[..n], &mut keys, &mut events).unwrap();
            }
            while !link.output().is_empty()
                && let Ok(n) = dom0.write(&[IoSlice::new(link.output())])
            {
                link.sent(n, &mut keys, &mut events).unwrap();
            }
            // As poll has it: nothing is read of which nothing was told.
            if readable(&guest) {
                guest.acknowledge().unwrap();
                more = true;
            }
            wakes += 1;
            assert!(wakes < 1000, "one waits for the other");
        }
        assert_eq!(daemon.store().len(), 40);
        drop(dom0);
        assert!(readable(&guest));
        more = true;
        read_link(&mut daemon, &mut guest, &mut buffer, &mut more);
        assert!(daemon.link().is_none());
    }
}
