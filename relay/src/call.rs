//! The pump of one call that dom0 serves: the qrexec data protocol towards the guest, the streams
//! of the service on the other side.
//!
//! ```text
//!  caller --data channel--> +------+ --standard input-----------> service
//!                           | pump | <--output, errors----------
//!  bulkheadd --channel----> +------+ <--reports--- starter
//! ```
//!
//! All of it comes as descriptors. Those of the setup are looked at before the process is confined;
//! what comes later, the channel and the connection of a socket service, needs no call that is
//! gone then. The pump says nothing to the daemon: when it ends, the call is over, and everybody
//! sees that by their own descriptors.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use bulkhead_qrexec::pump::{
    self, Errors, Heard, Input, Options, Output, PumpError, Reports, Streams,
};
use bulkhead_qrexec::serve::LINGER;
use bulkhead_sandbox::confine::{Confinement, MemoryFiles};
use bulkhead_vchan::{AnyChannel, SocketChannel, seqpacket};
use bulkhead_wire::end::Carrier;
use bulkhead_wire::qrexec::EXIT_PROBLEM;
use bulkhead_wire::qrexec::data::Role;
use bulkhead_wire::relay::{PacketError, decode};
use bulkhead_wire::service::{Report, TO_PUMP_MAX, ToPump};
use rustix::event::{PollFd, PollFlags, poll};
use thiserror::Error;

use crate::ends::{self, Connected, EndError};
use crate::start::requests;

/// First user id of pumps, above those of relays; the domain id is added.
const UID_BASE: u32 = 0x7fff_0000;
/// Domain ids wrap within the ids that are free above [`UID_BASE`].
const UIDS: u32 = 0xfff0;

/// Three streams, reports, the channel, the daemon, our own streams, and some room.
const FILES_MAX: u64 = 32;

/// Heap that no honest use comes near: two buffers of 128 KiB and what the runtime needs.
const MEMORY_MAX: u64 = 16 * 1024 * 1024;

/// Why a call cannot be served to its end.
#[derive(Debug, Error)]
pub enum CallError {
    /// The daemon's socket failed or was closed.
    #[error("cannot receive the setup of a call from the daemon")]
    Receive(#[source] io::Error),
    /// The daemon sent what is no message.
    #[error("a message of the daemon is malformed")]
    Malformed(#[source] PacketError),
    /// Another message, or other descriptors, than were due.
    #[error("the daemon sent something else than {0}")]
    Unexpected(&'static str),
    /// The data channel is none.
    #[error("the data channel of a call cannot be used")]
    Channel(#[source] EndError),
    /// A stream of the service cannot be used.
    #[error("a stream of the service cannot be used")]
    Stream(#[source] io::Error),
    /// The call was cut.
    #[error("a call was cut")]
    Pump(#[source] PumpError),
}

/// All that a pump has before its caller is there.
#[derive(Debug)]
pub struct CallSetup {
    /// The calling qube.
    pub domid: u32,
    /// What carries its channels.
    pub carrier: Carrier,
    daemon: OwnedFd,
    reports: Reports,
    streams: Streams,
    log: Output,
}

/// What the daemon said next, with its descriptors; none if it has hung up.
fn hear(daemon: &OwnedFd) -> Result<Option<(ToPump, Vec<OwnedFd>)>, CallError> {
    let (mut buffer, mut fds) = ([0; TO_PUMP_MAX], Vec::new());
    let len = seqpacket::recv_packet(daemon, &mut buffer, &mut fds).map_err(CallError::Receive)?;
    if len == 0 {
        return Ok(None);
    }
    let message = decode(buffer.get(..len).unwrap_or_default()).map_err(CallError::Malformed)?;
    Ok(Some((message, fds)))
}

/// Waits for the first message on `daemon`.
///
/// # Errors
/// Where there is none, or it is not a setup with its descriptors.
pub fn receive_setup(daemon: OwnedFd) -> Result<CallSetup, CallError> {
    const WANTED: CallError = CallError::Unexpected("a setup");
    let Some((ToPump::Setup { domid, carrier }, fds)) = hear(&daemon)? else {
        return Err(WANTED);
    };
    let fds: [OwnedFd; 4] = fds.try_into().map_err(|_| WANTED)?;
    let [reports, stdin, stdout, stderr] = fds;
    let own_errors = io::stderr().as_fd().try_clone_to_owned();
    let log = own_errors
        .and_then(Output::new)
        .map_err(CallError::Stream)?;
    Ok(CallSetup {
        domid,
        carrier,
        daemon,
        reports: Reports::new(reports).map_err(CallError::Stream)?,
        streams: Streams {
            input: Some(Input::new(stdout).map_err(CallError::Stream)?),
            output: Some(Output::new(stdin).map_err(CallError::Stream)?),
            errors: Errors::From(Input::new(stderr).map_err(CallError::Stream)?),
        },
        log,
    })
}

/// How the pump of a call from domain `domid` is confined.
#[must_use]
pub fn confinement(domid: u32, carrier: Carrier) -> Confinement {
    Confinement {
        uid: UID_BASE + domid % UIDS,
        files_max: FILES_MAX,
        memory_max: MEMORY_MAX,
        requests: requests(carrier),
        memory_files: MemoryFiles::None,
    }
}

/// Serves the call to its end. The first guest byte is read in here.
///
/// # Errors
/// What a peer broke; nothing is left to be done then.
pub fn serve(setup: CallSetup) -> Result<(), CallError> {
    let CallSetup {
        daemon,
        reports,
        streams,
        log,
        ..
    } = setup;
    let Some((channel, first)) = wait_for_both(&daemon, &reports)? else {
        // The caller never came, or went again.
        return Ok(());
    };
    let mut options = Options::new(Role::Service);
    // Only so that a caller that is gone is noticed whatever we wait for.
    options.hang_up = Some(Duration::ZERO);
    options.life = Some(daemon);
    let streams = match first {
        First::Running => {
            options.reports = Some(reports);
            options.copy_errors = Some(log);
            streams
        }
        First::Connected { socket, ends } => {
            (options.exit_on_client_eof, options.exit_on_service_eof) = ends;
            let (input, output) = Input::both(socket).map_err(CallError::Stream)?;
            Streams {
                input: Some(input),
                output: Some(output),
                errors: Errors::None,
            }
        }
        First::Failed(code) => {
            options.failed = true;
            options.exit_code = code;
            Streams::default()
        }
    };
    let mut channel = match channel {
        Connected::Socket(socket) => AnyChannel::Socket(SocketChannel::again(socket)),
        Connected::Rings(channel) => AnyChannel::Xen(channel),
    };
    pump::run(&mut channel, streams, None, options).map_err(CallError::Pump)?;
    channel.linger(LINGER);
    Ok(())
}

/// How the service began.
enum First {
    Running,
    Connected { socket: OwnedFd, ends: (bool, bool) },
    Failed(i32),
}

impl First {
    fn of(heard: Heard) -> Option<Self> {
        match heard {
            Heard::Nothing => None,
            Heard::Report(Report::Running, _) => Some(Self::Running),
            Heard::Report(
                Report::Connected {
                    exit_on_client_eof,
                    exit_on_service_eof,
                },
                fds,
            ) => {
                let ends = (exit_on_client_eof, exit_on_service_eof);
                let socket = fds.into_iter().next();
                let connected = socket.map(|socket| Self::Connected { socket, ends });
                Some(connected.unwrap_or(Self::Failed(EXIT_PROBLEM.into())))
            }
            Heard::Report(Report::Failed { code }, _) => Some(Self::Failed(code)),
            // Its starter is gone or has lost its way.
            Heard::Report(..) | Heard::Gone => Some(Self::Failed(EXIT_PROBLEM.into())),
        }
    }
}

/// Waits for the channel and for how the service begins; nothing if the daemon ends the call.
fn wait_for_both(
    daemon: &OwnedFd,
    reports: &Reports,
) -> Result<Option<(Connected, First)>, CallError> {
    let (mut channel, mut first) = (None, None);
    loop {
        if let (Some(_), Some(_)) = (&channel, &first) {
            return Ok(channel.zip(first));
        }
        let mut fds = vec![PollFd::new(daemon, PollFlags::IN)];
        if first.is_none() {
            fds.push(PollFd::new(reports, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(CallError::Receive(e.into())),
        }
        let said = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        if said {
            match (hear(daemon)?, &channel) {
                (None, _) => return Ok(None),
                (Some((ToPump::Channel(end), fds)), None) => {
                    channel = Some(ends::join(end, fds).map_err(CallError::Channel)?);
                }
                (Some(_), _) => return Err(CallError::Unexpected("the channel")),
            }
        }
        if first.is_none() {
            first = First::of(reports.next());
        }
    }
}
