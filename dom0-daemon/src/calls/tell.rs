//! What dom0 by itself tells a qube: a call of a service there, with what it is sent.
//!
//! ```text
//!  text --pipe--> pump --data channel--> agent --> service
//! ```
//!
//! The pump is a process without privilege, as for calls that dom0 serves. What the service says is
//! dropped there; how it ends is how the pump ends.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::time::Duration;

use bulkhead_wire::service::ToCaller;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::dom0::Opened;
use super::hosted::{Environment, log_pipe, send, spawn};
use crate::machine::MachineError;
use crate::relays::SharedLines;
use crate::runtime::{Inner, Run, RuntimeError};

/// Longest text: a pipe takes so much at once, whoever reads it.
const TEXT_MAX: usize = 4096;

/// How long a service may take: its qube may wait for a session for a minute.
const TELL_LIMIT: Duration = Duration::from_secs(90);

/// A call that goes on.
#[derive(Debug)]
pub(crate) struct Telling {
    child: Child,
}

impl Telling {
    /// How the pump has ended; none where the service took too long, which ends the call.
    ///
    /// # Errors
    /// Where that cannot be known.
    pub(crate) async fn ended(mut self) -> io::Result<Option<ExitStatus>> {
        match timeout(TELL_LIMIT, self.child.wait()).await {
            Ok(ended) => ended.map(Some),
            Err(_) => self.child.kill().await.map(|()| None),
        }
    }
}

impl Inner {
    /// Calls a service in a qube, and sends it `text`.
    ///
    /// # Errors
    /// Where the qube cannot be reached, or the pump not be started.
    pub(crate) async fn tell(
        &self,
        run: &Run,
        service: &str,
        text: &str,
    ) -> Result<Telling, RuntimeError> {
        let reached = self.wait_agent(&run.name).await?;
        if reached.domid != run.domid {
            return Err(RuntimeError::Ended(run.name.clone()));
        }
        let failed = |source| MachineError::Io {
            doing: format!("calling {service} in qube `{}`", run.name),
            source,
        };
        let input = filled(text).map_err(failed)?;
        let command = format!("QUBESRPC {service}+ dom0");
        let opened = self.open_to(&reached, None, "", command.as_bytes()).await?;
        let started = self.start_caller(run, service, input, opened);
        Ok(started.map_err(failed)?)
    }

    fn start_caller(
        &self,
        run: &Run,
        service: &str,
        input: OwnedFd,
        opened: Opened,
    ) -> io::Result<Telling> {
        let (log, errors) = log_pipe()?;
        let mut command = Command::new(&self.config.relay);
        command.arg("--caller").arg("--fd").kill_on_drop(true);
        let (child, link) = spawn(command, Environment::None, &errors)?;
        let mut fds = vec![&input, &opened.life];
        fds.extend(&opened.handed.fds);
        let setup = ToCaller {
            domid: run.domid.0,
            end: opened.handed.end,
        };
        send(&link, &setup, &fds)?;
        let lines = SharedLines::new();
        tokio::spawn(lines.log(run.name.to_string(), service.to_owned(), log));
        Ok(Telling { child })
    }
}

/// A pipe with all of a text in it.
fn filled(text: &str) -> io::Result<OwnedFd> {
    if text.len() > TEXT_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(text.as_bytes())?;
    Ok(reader.into())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use bulkhead_wire::monitors::LAYOUT_MAX;

    use super::*;

    #[test]
    fn a_pipe_has_all_of_a_text_and_ends() {
        const { assert!(LAYOUT_MAX <= TEXT_MAX) };
        let text = "x".repeat(TEXT_MAX);
        let mut read = String::new();
        let mut file = File::from(filled(&text).unwrap());
        file.read_to_string(&mut read).unwrap();
        assert_eq!(read, text);
        let error = filled(&(text + "x")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
