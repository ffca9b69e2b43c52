//! A connection to xenstore.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

use super::wire::{Decoder, HEADER_LEN, Kind, Message, PAYLOAD_MAX, WireError, strings};
use crate::id::DomId;

/// The daemon's socket, where it runs in this domain.
const SOCKET: &str = "/run/xenstored/socket";

/// The kernel's way, in every domain.
const DEVICE: &str = "/dev/xen/xenbus";

/// A daemon that does not answer for this long is stuck.
const ANSWERS: Duration = Duration::from_secs(60);

/// Times that a transaction is begun again because somebody else was faster.
const TRANSACTION_TRIES: u32 = 64;

/// Something that xenstore did not do.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot be reached.
    #[error("cannot reach xenstore")]
    Connect(#[source] io::Error),
    /// It refused.
    #[error("xenstore refuses `{path}`")]
    Refused {
        /// What was asked for.
        path: String,
        /// Why, as the error number that it named.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to xenstore broke")]
    Broken(#[source] io::Error),
    /// It said something that cannot be understood.
    #[error("xenstore is not understood")]
    Wire(#[from] WireError),
    /// What it has is not what should be there.
    #[error("what xenstore has at `{path}`, {len} bytes, is not what should be there")]
    Text {
        /// Where.
        path: String,
        /// How much; what it is, another domain may have chosen.
        len: usize,
    },
    /// Somebody else changed the same nodes every time.
    #[error("a transaction of xenstore met others {TRANSACTION_TRIES} times")]
    Contended,
}

impl StoreError {
    /// The error that xenstore named, if it refused.
    #[must_use]
    pub fn refusal(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Refused { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

/// What a domain may do with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    None,
    /// Read it.
    Read,
    /// Write it.
    Write,
    /// Both.
    Both,
}

/// One entry of a node's permissions. The first names the owner, who may do everything, and what
/// all others may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// Who.
    pub domain: DomId,
    /// What.
    pub access: Access,
}

impl Permission {
    fn encode(self) -> String {
        let letter = match self.access {
            Access::None => 'n',
            Access::Read => 'r',
            Access::Write => 'w',
            Access::Both => 'b',
        };
        format!("{letter}{}\0", self.domain)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut letters = text.chars();
        let access = match letters.next()? {
            'n' => Access::None,
            'r' => Access::Read,
            'w' => Access::Write,
            'b' => Access::Both,
            _ => return None,
        };
        let domain = letters.as_str().parse().ok()?;
        Some(Self { domain, access })
    }
}

/// Something under a watched path changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// What.
    pub path: String,
    /// The name that the watch was given.
    pub token: String,
}

/// A connection to xenstore, for one owner.
#[derive(Debug)]
pub struct Store {
    fd: OwnedFd,
    decoder: Decoder,
    /// Events that nobody took so far; none is there twice.
    events: VecDeque<Watched>,
    last: u32,
}

/// A transaction that is under way.
#[derive(Debug)]
pub struct Transaction<'a> {
    store: &'a mut Store,
    id: u32,
}

impl Store {
    /// Connects to the daemon: by its socket where it runs here, else through the kernel.
    ///
    /// # Errors
    /// [`StoreError::Connect`].
    pub fn open() -> Result<Self, StoreError> {
        if let Ok(stream) = UnixStream::connect(SOCKET) {
            return Ok(Self::adopt(stream.into()));
        }
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::open(DEVICE, flags, Mode::empty())
            .map(Self::adopt)
            .map_err(|e| StoreError::Connect(e.into()))
    }

    /// Takes over a connection that somebody made.
    #[must_use]
    pub fn adopt(fd: OwnedFd) -> Self {
        Self {
            fd,
            decoder: Decoder::default(),
            events: VecDeque::new(),
            last: 0,
        }
    }

    /// Runs `work` as one step: all of it happens or nothing, and again if others came between.
    ///
    /// # Errors
    /// What `work` said, or [`StoreError`].
    pub fn transaction<T>(
        &mut self,
        mut work: impl FnMut(&mut Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        for _ in 0..TRANSACTION_TRIES {
            let reply = self.ask(Kind::TransactionStart, 0, &[b"\0"])?;
            let id = number(&reply, "transaction")?;
            let done = work(&mut Transaction { store: self, id });
            let end: &[u8] = if done.is_ok() { b"T\0" } else { b"F\0" };
            match (done, self.ask(Kind::TransactionEnd, id, &[end])) {
                (Ok(done), Ok(_)) => return Ok(done),
                (Ok(_), Err(e)) if e.refusal() == Some(io::ErrorKind::WouldBlock) => {}
                (Ok(_), Err(e)) | (Err(e), _) => return Err(e),
            }
        }
        Err(StoreError::Contended)
    }

    /// Sets a watch; its first event comes at once. Domains that come and go are watched as
    /// `@introduceDomain` and `@releaseDomain`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        let parts: [&[u8]; 4] = [path.as_bytes(), b"\0", token.as_bytes(), b"\0"];
        self.ask(Kind::Watch, 0, &parts).map(drop)
    }

    /// Removes a watch, and its events that nobody took.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        let parts: [&[u8]; 4] = [path.as_bytes(), b"\0", token.as_bytes(), b"\0"];
        self.ask(Kind::Unwatch, 0, &parts)?;
        self.events.retain(|event| event.token != token);
        Ok(())
    }

    /// The next event, if one comes before the deadline; forever without one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn next_event(&mut self, deadline: Option<Instant>) -> Result<Option<Watched>, StoreError> {
        self.next_that(deadline, |_| true)
    }

    /// The next event of the watches named `token`; others are left for later.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn next_event_of(
        &mut self,
        token: &str,
        deadline: Option<Instant>,
    ) -> Result<Option<Watched>, StoreError> {
        self.next_that(deadline, |event| event.token == token)
    }

    fn next_that(
        &mut self,
        deadline: Option<Instant>,
        is_it: impl Fn(&Watched) -> bool,
    ) -> Result<Option<Watched>, StoreError> {
        loop {
            while let Some(message) = self.decoder.take()? {
                self.keep(message);
            }
            if let Some(at) = self.events.iter().position(&is_it) {
                return Ok(self.events.remove(at));
            }
            if !self.fill(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Whether xenstore has this domain, and it is not about to go. Only dom0 may ask.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn is_introduced(&mut self, domain: DomId) -> Result<bool, StoreError> {
        let text = format!("{domain}\0");
        let reply = self.ask(Kind::IsDomainIntroduced, 0, &[text.as_bytes()])?;
        Ok(reply.starts_with(b"T"))
    }

    /// The own domain.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn own_domain(&mut self) -> Result<DomId, StoreError> {
        let text = self.read("domid")?;
        text.parse().map_err(|_| StoreError::Text {
            path: "domid".into(),
            len: text.len(),
        })
    }

    /// Sends a request and waits for its reply.
    fn ask(
        &mut self,
        kind: Kind,
        transaction: u32,
        parts: &[&[u8]],
    ) -> Result<Vec<u8>, StoreError> {
        self.last = self.last.wrapping_add(1).max(1);
        let request = self.last;
        let message = Message::request(kind, request, transaction, parts)?;
        self.send(&message.encode())?;
        let deadline = Instant::now() + ANSWERS;
        loop {
            while let Some(message) = self.decoder.take()? {
                if message.kind == Kind::WatchEvent || message.request != request {
                    self.keep(message);
                } else if message.kind == Kind::Error {
                    return Err(refused(&message.payload, parts));
                } else {
                    return Ok(message.payload);
                }
            }
            if !self.fill(Some(deadline))? {
                return Err(StoreError::Broken(io::ErrorKind::TimedOut.into()));
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(&self.fd, rest) {
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(e) => return Err(StoreError::Broken(e.into())),
            }
        }
        Ok(())
    }

    /// Keeps an event. What else comes unasked answers a request that was given up.
    fn keep(&mut self, message: Message) {
        if message.kind != Kind::WatchEvent {
            return;
        }
        let mut texts =
            strings(&message.payload).map(|text| String::from_utf8_lossy(text).into_owned());
        let (Some(path), Some(token)) = (texts.next(), texts.next()) else {
            return;
        };
        let event = Watched { path, token };
        if !self.events.contains(&event) {
            self.events.push_back(event);
        }
    }

    /// Reads once; false if the deadline passed.
    fn fill(&mut self, deadline: Option<Instant>) -> Result<bool, StoreError> {
        let failed = |e: Errno| StoreError::Broken(e.into());
        loop {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| Timespec::try_from(left).unwrap_or_default());
            match poll(
                &mut [PollFd::new(&self.fd, PollFlags::IN)],
                timeout.as_ref(),
            ) {
                Ok(0) => return Ok(false),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        let mut bytes = [0; HEADER_LEN + PAYLOAD_MAX];
        match rustix::io::read(&self.fd, &mut bytes) {
            Ok(0) => Err(StoreError::Broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => {
                self.decoder.push(bytes.get(..n).unwrap_or_default());
                Ok(true)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(true),
            Err(e) => Err(failed(e)),
        }
    }
}

impl AsFd for Store {
    /// Readable when there is an event or a reply; there may also be events that were read before.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What works the same inside of a transaction and outside of one.
pub trait Tree {
    /// Sends a request about nodes.
    ///
    /// # Errors
    /// [`StoreError`].
    fn request(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<Vec<u8>, StoreError>;

    /// The text of a node.
    ///
    /// # Errors
    /// [`StoreError`]; a refusal of `NotFound` where there is none.
    fn read(&mut self, path: &str) -> Result<String, StoreError> {
        let bytes = self.request(Kind::Read, &[path.as_bytes(), b"\0"])?;
        String::from_utf8(bytes).map_err(|e| StoreError::Text {
            path: path.into(),
            len: e.as_bytes().len(),
        })
    }

    /// Writes a node, and makes those above it.
    ///
    /// # Errors
    /// [`StoreError`].
    fn write(&mut self, path: &str, text: &str) -> Result<(), StoreError> {
        let parts: [&[u8]; 3] = [path.as_bytes(), b"\0", text.as_bytes()];
        self.request(Kind::Write, &parts).map(drop)
    }

    /// Makes an empty node; one that is there stays.
    ///
    /// # Errors
    /// [`StoreError`].
    fn mkdir(&mut self, path: &str) -> Result<(), StoreError> {
        self.request(Kind::Mkdir, &[path.as_bytes(), b"\0"])
            .map(drop)
    }

    /// Removes a node and all below it; that it is not there is fine.
    ///
    /// # Errors
    /// [`StoreError`].
    fn remove(&mut self, path: &str) -> Result<(), StoreError> {
        match self.request(Kind::Rm, &[path.as_bytes(), b"\0"]) {
            Err(e) if e.refusal() != Some(io::ErrorKind::NotFound) => Err(e),
            _ => Ok(()),
        }
    }

    /// The names below a node.
    ///
    /// # Errors
    /// [`StoreError`].
    fn list(&mut self, path: &str) -> Result<Vec<String>, StoreError> {
        let bytes = self.request(Kind::Directory, &[path.as_bytes(), b"\0"])?;
        let names = strings(&bytes).map(|name| String::from_utf8_lossy(name).into_owned());
        Ok(names.collect())
    }

    /// Sets who may do what with a node.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_permissions(&mut self, path: &str, to: &[Permission]) -> Result<(), StoreError> {
        let entries: String = to.iter().map(|entry| entry.encode()).collect();
        let parts: [&[u8]; 3] = [path.as_bytes(), b"\0", entries.as_bytes()];
        self.request(Kind::SetPerms, &parts).map(drop)
    }

    /// Who may do what with a node.
    ///
    /// # Errors
    /// [`StoreError`].
    fn permissions(&mut self, path: &str) -> Result<Vec<Permission>, StoreError> {
        let bytes = self.request(Kind::GetPerms, &[path.as_bytes(), b"\0"])?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let entries = strings(text.as_bytes())
            .map(|entry| Permission::parse(std::str::from_utf8(entry).unwrap_or_default()));
        entries
            .collect::<Option<_>>()
            .ok_or_else(|| StoreError::Text {
                path: path.into(),
                len: text.len(),
            })
    }
}

impl Tree for Store {
    fn request(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<Vec<u8>, StoreError> {
        self.ask(kind, 0, parts)
    }
}

impl Tree for Transaction<'_> {
    fn request(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<Vec<u8>, StoreError> {
        self.store.ask(kind, self.id, parts)
    }
}

/// Decimal, strictly: no sign, no leading zero.
pub(super) fn strict(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|_| digits && canonical)
}

fn number(reply: &[u8], what: &str) -> Result<u32, StoreError> {
    let text = String::from_utf8_lossy(strings(reply).next().unwrap_or_default()).into_owned();
    strict(&text).ok_or_else(|| StoreError::Text {
        path: what.into(),
        len: text.len(),
    })
}

/// Xenstore names errors by what C calls them.
fn refused(payload: &[u8], parts: &[&[u8]]) -> StoreError {
    let path = parts.first().copied().unwrap_or_default();
    let name = strings(payload).next().unwrap_or_default();
    let code = match name {
        b"EINVAL" => Errno::INVAL,
        b"EACCES" => Errno::ACCESS,
        b"EEXIST" => Errno::EXIST,
        b"EISDIR" => Errno::ISDIR,
        b"ENOENT" => Errno::NOENT,
        b"ENOMEM" => Errno::NOMEM,
        b"ENOSPC" => Errno::NOSPC,
        b"ENOTEMPTY" => Errno::NOTEMPTY,
        b"ENOSYS" => Errno::NOSYS,
        b"EROFS" => Errno::ROFS,
        b"EBUSY" => Errno::BUSY,
        b"EAGAIN" => Errno::AGAIN,
        b"EISCONN" => Errno::ISCONN,
        b"E2BIG" => Errno::TOOBIG,
        b"EPERM" => Errno::PERM,
        _ => Errno::IO,
    };
    StoreError::Refused {
        path: String::from_utf8_lossy(path).trim_end_matches('\0').into(),
        source: code.into(),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
