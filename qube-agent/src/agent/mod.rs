//! The qrexec agent: takes commands from dom0, runs services, passes on requests of local
//! programs.
//!
//! One thread waits for dom0, local programs and ends of calls ([`serve`]); each call has a
//! thread of its own while it lasts ([`calls`], [`workers`]). Nothing forks but for the service itself.

mod calls;
mod clients;
mod fork_server;
mod host;
mod link;
mod serve;
mod workers;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bulkhead_vchan::{Transport, TransportError};
use thiserror::Error;

use crate::options::{Known, OptionError, parse};

const NAME: &str = "qrexec-agent";

/// Where local programs find the agent.
pub(crate) const TRIGGER_PATH: &str = bulkhead_early::AGENT;
/// Where a user's session takes commands; `%s` is the user.
const FORK_SERVER_PATH: &str = "/var/run/qubes/qrexec-server.%s.sock";

/// The agent cannot run.
#[derive(Debug, Error)]
pub(crate) enum AgentError {
    #[error("cannot understand the command line")]
    Options(#[source] OptionError),
    #[error("unexpected argument `{0}`")]
    Argument(String),
    #[error("cannot offer dom0 a line")]
    Vchan(#[source] TransportError),
    #[error("cannot listen at `{}`", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("cannot {what}")]
    System {
        what: &'static str,
        source: io::Error,
    },
}

/// How the agent is set up.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Where local programs find it.
    pub(crate) trigger_path: PathBuf,
    /// Where sessions take commands; none if they are not to be asked.
    pub(crate) fork_server: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            trigger_path: TRIGGER_PATH.into(),
            fork_server: Some(FORK_SERVER_PATH.into()),
        }
    }
}

const KNOWN: &[Known] = &[
    Known {
        long: "help",
        short: Some(b'h'),
        value: false,
    },
    Known {
        long: "agent-socket",
        short: Some(b'a'),
        value: true,
    },
    Known {
        long: "fork-server-socket",
        short: Some(b's'),
        value: true,
    },
    Known {
        long: "no-fork-server",
        short: Some(b'S'),
        value: false,
    },
];

const USAGE: &str = "usage: qrexec-agent [options]
  -h, --help                 print this
  -a, --agent-socket=PATH    listen for local programs at PATH
  -s, --fork-server-socket=PATH
                             where sessions take commands (%s is the user, empty for none)
  -S, --no-fork-server       do not ask sessions";

pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let given = match parse(KNOWN, arguments) {
        Ok(given) => given,
        Err(e) => {
            crate::report::log(NAME, &AgentError::Options(e));
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut setup = Setup::default();
    for (name, value) in given.options {
        match name {
            "agent-socket" => setup.trigger_path = value.into(),
            "fork-server-socket" => {
                let text = value.to_string_lossy().into_owned();
                setup.fork_server = Some(text).filter(|text| !text.is_empty());
            }
            "no-fork-server" => setup.fork_server = None,
            _ => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
        }
    }
    if let Some(first) = given.rest.first() {
        let error = AgentError::Argument(first.display().to_string());
        crate::report::log(NAME, &error);
        return ExitCode::from(2);
    }
    match run(setup, Reaping::Own) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => crate::report::fail(NAME, &e),
    }
}

/// Which dead processes to reap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaping {
    /// Services.
    Own,
    /// Orphans too: we are the init process.
    All,
}

/// Serves until a signal says stop.
pub(crate) fn run(setup: Setup, reaping: Reaping) -> Result<(), AgentError> {
    let transport = Transport::from_env().map_err(AgentError::Vchan)?;
    let wake = calls::Wake::new().map_err(|source| AgentError::System {
        what: "make an event",
        source,
    })?;
    let host = Arc::new(host::GuestHost::new());
    let stop = wake.clone();
    let running = Arc::clone(&host);
    crate::signals::watch(reaping == Reaping::All, move |signal| match signal {
        crate::signals::Signal::Stop => stop.stop(),
        crate::signals::Signal::Switch(from) => running.switch(from),
        crate::signals::Signal::Child => bulkhead_qrexec::children::reap_orphans(),
    })
    .map_err(|source| AgentError::System {
        what: "watch for signals",
        source,
    })?;
    serve::Server::new(transport, &setup, host, wake)?.run()
}
