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
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bulkhead_vchan::{DomId, Port, SocketDir, VchanError};
use bulkhead_wire::qubesdb::VCHAN_PORT;
use bulkhead_wire::qubesdb::daemon::GuestDaemon;
use bulkhead_wire::qubesdb::link::LinkError;
use bulkhead_wire::qubesdb::server::{Access, ClientId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags, accept_with};
use thiserror::Error;

use super::{SOCKET, SOCKET_READ_ONLY, socket_dirs};

const NAME: &str = "qubesdb-daemon";

/// How often to look for dom0 while it is away.
const RETRY: Duration = Duration::from_millis(250);

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
    Vchan(#[from] VchanError),
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
    let vchans = SocketDir::from_env()?;
    let mut io = Io {
        daemon: GuestDaemon::default(),
        vchans,
        link: None,
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
    vchans: SocketDir,
    link: Option<OwnedFd>,
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
            RETRY
        };
        let port = Port::new(VCHAN_PORT);
        match self
            .vchans
            .connect(DomId::DOM0, port, Instant::now() + patience)
        {
            Ok(channel) => {
                self.link = Some(channel.into_inner());
                self.daemon.link_up();
                Ok(())
            }
            Err(VchanError::Timeout { .. }) => Ok(()),
            // A folder that is not there yet, or a socket that is being replaced.
            Err(VchanError::Connect { .. }) => {
                std::thread::sleep(if self.local.is_some() {
                    Duration::ZERO
                } else {
                    RETRY
                });
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }

    fn wait(&mut self) -> io::Result<Vec<(Source, PollFlags)>> {
        let (mut sources, mut fds) = (Vec::new(), Vec::new());
        let mut add = |source, fd, input: bool, output: bool| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, input);
            flags.set(PollFlags::OUT, output);
            if !flags.is_empty() {
                sources.push(source);
                fds.push(PollFd::from_borrowed_fd(fd, flags));
            }
        };
        if let (Some(fd), Some(link)) = (&self.link, self.daemon.link()) {
            add(
                Source::Link,
                fd.as_fd(),
                link.wants_input(),
                !link.output().is_empty(),
            );
        }
        if let Some(local) = &self.local {
            add(
                Source::Listener(Access::ReadWrite),
                local.read_write.as_fd(),
                true,
                false,
            );
            add(
                Source::Listener(Access::ReadOnly),
                local.read_only.as_fd(),
                true,
                false,
            );
        }
        let server = self.daemon.server();
        for (id, fd) in &self.clients {
            let output = !server.output(*id).is_empty();
            add(
                Source::Client(*id),
                fd.as_fd(),
                server.wants_input(*id),
                output,
            );
        }
        if fds.is_empty() {
            return Ok(Vec::new());
        }
        let retry = Timespec {
            tv_sec: 0,
            tv_nsec: RETRY.subsec_nanos().into(),
        };
        match poll(&mut fds, self.link.is_none().then_some(&retry)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready = sources.into_iter().zip(fds.iter().map(PollFd::revents));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn serve(&mut self, source: Source, ready: PollFlags) {
        let readable = ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        match source {
            Source::Link if readable => self.read_link(),
            Source::Listener(access) => self.accept(access),
            Source::Client(id) if readable => self.read_client(id),
            Source::Link | Source::Client(_) => {}
        }
    }

    fn read_link(&mut self) {
        let Some(fd) = &self.link else { return };
        match read(fd.as_fd(), &mut self.buffer) {
            Ok(Some([])) | Err(_) => self.daemon.link_down(),
            Ok(Some(bytes)) => {
                let done = self.daemon.link_receive(bytes).map(drop);
                note(done);
            }
            Ok(None) => {}
        }
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
        match read(fd.as_fd(), &mut self.buffer) {
            Ok(Some([])) | Err(_) => {
                self.daemon.server().disconnect(id);
                self.clients.remove(&id);
            }
            Ok(Some(bytes)) => note(self.daemon.client_receive(id, bytes)),
            Ok(None) => {}
        }
    }

    fn flush(&mut self) {
        if let (Some(fd), Some(link)) = (&self.link, self.daemon.link()) {
            match write(fd.as_fd(), link.output()) {
                Ok(n) => note(self.daemon.link_sent(n).map(drop)),
                Err(_) => self.daemon.link_down(),
            }
        }
        if self.daemon.link().is_none() {
            self.link = None;
        }
        let daemon = &mut self.daemon;
        self.clients.retain(|id, fd| {
            let sent = write(fd.as_fd(), daemon.server().output(*id));
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

/// The link is already forgotten and will be made again.
fn note(done: Result<(), LinkError>) {
    if let Err(e) = done {
        crate::report::log(NAME, &e);
    }
}

fn read<'a>(fd: BorrowedFd<'_>, buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>, Errno> {
    match rustix::io::read(fd, &mut *buffer) {
        Ok(n) => Ok(Some(buffer.get(..n).unwrap_or_default())),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(e) => Err(e),
    }
}

fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match rustix::net::send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        sent => sent,
    }
}

#[cfg(test)]
mod tests {
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
}
