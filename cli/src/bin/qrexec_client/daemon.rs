//! One command to a qube's daemon.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bulkhead_wire::qrexec::local::{ClientCommand, ClientSide, DaemonAnswer};
use bulkhead_wire::qrexec::{Endpoint, Version, hello};

use super::ClientError;

/// A connection to a daemon; open as long as the call lasts.
#[derive(Debug)]
pub(super) struct Daemon {
    stream: UnixStream,
    path: PathBuf,
    side: ClientSide,
    /// Read and not understood yet.
    unread: Vec<u8>,
}

impl Daemon {
    /// Sends the command.
    pub(super) fn send(
        folder: &Path,
        qube: &str,
        command: &ClientCommand,
    ) -> Result<Self, ClientError> {
        if qube.is_empty() || qube.contains(['/', '\0']) {
            return Err(ClientError::Name(qube.into()));
        }
        let path = folder.join(format!("qrexec.{qube}"));
        let stream = UnixStream::connect(&path).map_err(|source| ClientError::Daemon {
            path: path.clone(),
            source,
        })?;
        let mut it = Self {
            stream,
            path,
            side: ClientSide::new(),
            unread: Vec::new(),
        };
        let message = command.encode().map_err(|e| it.protocol(e))?;
        match it.answer()? {
            DaemonAnswer::Hello => {}
            DaemonAnswer::Endpoint(_) => return Err(ClientError::Refused(it.path)),
        }
        it.stream
            .write_all(&hello(Version::LOCAL))
            .and_then(|()| it.stream.write_all(&message))
            .map_err(|e| it.failed(e))?;
        Ok(it)
    }

    /// Waits for the endpoint.
    pub(super) fn endpoint(&mut self) -> Result<Endpoint, ClientError> {
        loop {
            if let DaemonAnswer::Endpoint(endpoint) = self.answer()? {
                return Ok(endpoint);
            }
        }
    }

    fn answer(&mut self) -> Result<DaemonAnswer, ClientError> {
        loop {
            let mut rest = self.unread.as_slice();
            let answer = self.side.push(&mut rest);
            self.unread = rest.to_vec();
            if let Some(answer) = answer.map_err(|e| self.protocol(e))? {
                return Ok(answer);
            }
            let mut buffer = [0; 64];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ClientError::Refused(self.path.clone())),
                Ok(n) => self.unread = buffer.get(..n).unwrap_or_default().to_vec(),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e)),
            }
        }
    }

    /// Waits until the daemon closes: the connection has ended then.
    pub(super) fn wait(mut self) {
        let mut buffer = [0; 64];
        // An error is an end as well.
        while matches!(self.stream.read(&mut buffer), Ok(n) if n > 0) {}
    }

    fn failed(&self, source: std::io::Error) -> ClientError {
        ClientError::Daemon {
            path: self.path.clone(),
            source,
        }
    }

    fn protocol(&self, source: bulkhead_wire::qrexec::control::ControlError) -> ClientError {
        ClientError::Protocol {
            path: self.path.clone(),
            source,
        }
    }
}
