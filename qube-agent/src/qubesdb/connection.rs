//! A connection to the local daemon that waits for each answer.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use bulkhead_wire::qubesdb::client::{Client, ClientError, ClientEvent};
use bulkhead_wire::qubesdb::message::{Kind, Value};
use bulkhead_wire::qubesdb::path::{DbPath, PathError};
use thiserror::Error;

use super::{SOCKET, SOCKET_READ_ONLY, socket_dirs};

/// Why a request has no answer.
#[derive(Debug, Error)]
pub(crate) enum RequestError {
    #[error("no QubesDB daemon answers")]
    Connect(#[source] io::Error),
    #[error("`{0}` names no other qube")]
    Domain(String),
    #[error("connection to the QubesDB daemon failed")]
    Io(#[from] io::Error),
    #[error("QubesDB daemon breaks the protocol")]
    Protocol(#[from] ClientError),
    #[error("path cannot be used")]
    Path(#[from] PathError),
    #[error("there is no such key")]
    Missing,
    #[error("the QubesDB daemon refused")]
    Refused,
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    client: Client,
    answers: VecDeque<ClientEvent>,
    changes: VecDeque<DbPath>,
}

impl Connection {
    /// Connects to the daemon of this qube, or where there is one to that of `domain`: read-write
    /// if that is allowed, else read-only.
    pub(crate) fn open(domain: Option<&str>) -> Result<Self, RequestError> {
        let names = match domain {
            None => [SOCKET.to_owned(), SOCKET_READ_ONLY.to_owned()],
            Some(name) if name.is_empty() || name.contains('/') => {
                return Err(RequestError::Domain(name.into()));
            }
            Some(name) => [
                format!("qubesdb.{name}.sock"),
                format!("qubesdb.{name}.ro.sock"),
            ],
        };
        let mut last = io::ErrorKind::NotFound.into();
        for dir in socket_dirs() {
            for name in &names {
                match Self::connect(&dir.join(name)) {
                    Ok(connection) => return Ok(connection),
                    Err(e) => last = e,
                }
            }
        }
        Err(RequestError::Connect(last))
    }

    fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self {
            stream: UnixStream::connect(path)?,
            client: Client::default(),
            answers: VecDeque::new(),
            changes: VecDeque::new(),
        })
    }

    /// The value of a key.
    pub(crate) fn read(&mut self, path: &[u8]) -> Result<Value, RequestError> {
        self.request(Kind::Read, path, b"")?;
        match self.answer()? {
            ClientEvent::Value(value) => Ok(value),
            other => Err(failure(&other)),
        }
    }

    /// WRITE, RM or WATCH.
    pub(crate) fn act(&mut self, kind: Kind, path: &[u8], data: &[u8]) -> Result<(), RequestError> {
        self.request(kind, path, data)?;
        match self.answer()? {
            ClientEvent::Done => Ok(()),
            other => Err(failure(&other)),
        }
    }

    /// LIST or MULTIREAD.
    pub(super) fn list(
        &mut self,
        kind: Kind,
        prefix: &[u8],
    ) -> Result<Vec<(DbPath, Value)>, RequestError> {
        self.request(kind, prefix, b"")?;
        let mut entries = Vec::new();
        loop {
            match self.answer()? {
                ClientEvent::Entry(path, value) => entries.push((path, value.unwrap_or_default())),
                ClientEvent::End => return Ok(entries),
                other => return Err(failure(&other)),
            }
        }
    }

    /// The next change of a watched key.
    pub(crate) fn changed(&mut self) -> Result<DbPath, RequestError> {
        loop {
            if let Some(path) = self.changes.pop_front() {
                return Ok(path);
            }
            self.receive()?;
        }
    }

    fn request(&mut self, kind: Kind, path: &[u8], data: &[u8]) -> Result<(), RequestError> {
        let bytes = self.client.request(kind, &DbPath::new(path)?, data)?;
        Ok(self.stream.write_all(&bytes)?)
    }

    fn answer(&mut self) -> Result<ClientEvent, RequestError> {
        loop {
            if let Some(event) = self.answers.pop_front() {
                return Ok(event);
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> Result<(), RequestError> {
        let mut buffer = [0; 8192];
        let n = self.stream.read(&mut buffer)?;
        if n == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        for event in self.client.receive(buffer.get(..n).unwrap_or_default())? {
            match event {
                ClientEvent::Changed(path) => self.changes.push_back(path),
                answer => self.answers.push_back(answer),
            }
        }
        Ok(())
    }
}

/// The client's machine lets only fitting answers through: what is none of those asked for is one
/// of the two ways to fail.
fn failure(event: &ClientEvent) -> RequestError {
    match event {
        ClientEvent::Missing => RequestError::Missing,
        _ => RequestError::Refused,
    }
}
