//! Puts both directions, the local process and the rules of ending together.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bulkhead_vchan::Channel;
use bulkhead_vchan::channel::Wants;
use bulkhead_wire::qrexec::data::{DataError, Role, Sink};
use bulkhead_wire::qrexec::{EXIT_DISCONNECTED, EXIT_PROBLEM, Kind, Version};
use bulkhead_wire::service::Report;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;

use super::ends::{Errors, Input, LocalChild, Output, Streams};
use super::inbound::{Inbound, InboundError, Notice};
use super::outbound::{Filled, Outbound};
use super::reports::{Heard, Reports};
use super::switch::Switch;

/// Messages handled in one direction before the other has its turn.
const TURN: usize = 32;

/// How a call is to be served.
#[derive(Debug)]
pub struct Options {
    /// Which end we are.
    pub role: Role,
    /// Replace bytes of the peer's main stream that could act on a terminal.
    pub filter_main: bool,
    /// The same for its diagnostics.
    pub filter_errors: bool,
    /// Sent before anything of the input.
    pub prefix: Vec<u8>,
    /// End the service when its client has sent everything (socket services).
    pub exit_on_client_eof: bool,
    /// End the service when it has sent everything (socket services).
    pub exit_on_service_eof: bool,
    /// Send nothing but the exit code (JUST_EXEC).
    pub only_exit_code: bool,
    /// Exit code of a service that has no process.
    pub exit_code: i32,
    /// The service could not be started: both its streams end at once, the main one first.
    pub failed: bool,
    /// Set when the service wants its standard input for both directions.
    pub switch: Option<Switch>,
    /// Hang up on a service whose caller goes away first and that has not ended this long after.
    pub hang_up: Option<Duration>,
    /// The service is another's child, who reports its end.
    pub reports: Option<Reports>,
    /// What the service says on its error stream goes here too, as far as there is room.
    pub copy_errors: Option<Output>,
    /// The call is over when the other end of this is closed.
    pub life: Option<OwnedFd>,
    /// Readable when the peer is gone, of which its domain's end is a case that rings cannot tell.
    /// What it had sent is still taken. One that only hangs up tells nothing.
    pub peer: Option<OwnedFd>,
}

impl Options {
    /// The usual way.
    #[must_use]
    pub fn new(role: Role) -> Self {
        Self {
            role,
            filter_main: false,
            filter_errors: false,
            prefix: Vec::new(),
            exit_on_client_eof: false,
            exit_on_service_eof: false,
            only_exit_code: false,
            exit_code: 0,
            failed: false,
            switch: None,
            hang_up: None,
            reports: None,
            copy_errors: None,
            life: None,
            peer: None,
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ending {
    /// Exit code of the service, as its side told us (callers).
    pub remote: Option<i32>,
    /// Exit code of the local process, if there was one.
    pub local: Option<i32>,
    /// The peer went away before the call was over.
    pub cut: bool,
    /// The peer sent a stream that only we should send.
    pub misdirected: bool,
}

/// A call that could not be served to its end.
#[derive(Debug, Error)]
pub enum PumpError {
    /// The peer broke the protocol.
    #[error("peer of a call broke the protocol")]
    Data(#[source] DataError),
    /// The channel failed.
    #[error("data channel failed")]
    Channel(#[source] io::Error),
    /// Waiting failed.
    #[error("cannot wait for the streams of a call")]
    Poll(#[source] io::Error),
}

/// The exit code for a caller: the service's, unless that was 0 and the local program failed.
#[must_use]
pub fn exit_code(ending: &Ending) -> i32 {
    match (ending.remote, ending.local) {
        (None, _) => EXIT_DISCONNECTED.into(),
        (Some(0), Some(local)) => local,
        (Some(remote), _) => remote,
    }
}

/// Serves one call until it is over. `child` is waited for in any case.
///
/// # Errors
/// [`PumpError`]; the local streams are closed then too.
pub fn run(
    channel: &mut dyn Channel,
    streams: Streams,
    child: Option<LocalChild>,
    options: Options,
) -> Result<Ending, PumpError> {
    let mut child = child;
    let hang_up = options.hang_up;
    let mut pump = Pump::new(streams, options);
    let outcome = pump.serve(channel, &mut child);
    let mut ending = pump.ending;
    if outcome.is_ok() {
        channel.finish();
    }
    ending.misdirected = pump.inbound.decoder.misdirected();
    // Lets the process see that nobody listens any more.
    drop(pump);
    if let Some(child) = &mut child
        && ending.local.is_none()
    {
        if let Some(grace) = hang_up.filter(|_| ending.cut || outcome.is_err()) {
            child.hang_up(grace);
        }
        ending.local = Some(child.wait());
    }
    outcome.map(|()| ending)
}

/// What a service may send on the socket that is its standard input.
#[derive(Debug)]
enum Back {
    /// Nothing came so far.
    Quiet(Input),
    /// It is (part of) the service's output.
    Used(Input),
    Closed,
}

#[derive(Debug)]
struct Pump {
    options: Options,
    inbound: Inbound,
    outbound: Outbound,
    input: Option<Input>,
    /// Input is only drained, then dropped: the service uses its other descriptor.
    leaving_input: bool,
    back: Back,
    output: Option<Output>,
    errors: Errors,
    /// Whether the end of our main stream is still to be sent.
    main_open: bool,
    exit_sent: bool,
    errors_turn: bool,
    /// The peer is gone, while what it sent before cannot be read yet, or the call was ended.
    hung_up: bool,
    ending: Ending,
}

impl Pump {
    fn new(streams: Streams, options: Options) -> Self {
        let inbound = Inbound::new(options.role, options.filter_main, options.filter_errors);
        let back = match &streams.output {
            Some(output) if options.switch.is_some() || options.reports.is_some() => {
                output.other_direction().map_or(Back::Closed, Back::Quiet)
            }
            _ => Back::Closed,
        };
        Self {
            inbound,
            outbound: Outbound::new(),
            main_open: !options.only_exit_code,
            input: streams.input,
            leaving_input: false,
            back,
            output: streams.output,
            errors: streams.errors,
            exit_sent: false,
            errors_turn: false,
            hung_up: false,
            ending: Ending::default(),
            options,
        }
    }

    fn is_service(&self) -> bool {
        self.options.role == Role::Service
    }

    fn main_kind(&self) -> Kind {
        if self.is_service() {
            Kind::Stdout
        } else {
            Kind::Stdin
        }
    }

    fn serve(
        &mut self,
        channel: &mut dyn Channel,
        child: &mut Option<LocalChild>,
    ) -> Result<(), PumpError> {
        self.announce_missing_streams();
        loop {
            self.reap(child);
            let receiving = self.receive(channel)?;
            self.send(channel, child);
            if self.is_over(channel, child) {
                return Ok(());
            }
            if receiving == Receiving::Gone || self.hung_up {
                self.ending.cut = self.is_service() || self.ending.remote.is_none();
                return Ok(());
            }
            self.wait(channel, child.as_ref(), receiving == Receiving::More)?;
        }
    }

    /// A service without diagnostics ends that stream at once.
    fn announce_missing_streams(&mut self) {
        let silent = self.options.only_exit_code || !matches!(self.errors, Errors::None);
        if !self.is_service() || silent {
            return;
        }
        if self.options.failed {
            self.end_main();
        }
        self.outbound.eof(Kind::Stderr);
    }

    /// Whether nothing but the exit code is left to be sent or waited for.
    fn is_done(&self, child: &Option<LocalChild>) -> bool {
        let up = self.inbound.decoder.version().is_some();
        let nobody = child.is_none() && self.options.reports.is_none();
        let child_done = nobody || self.ending.local.is_some();
        let streams_done = self.output.is_none() && !self.main_open && !self.errors_come();
        up && streams_done && child_done
    }

    /// Queues the exit code of a service once that is all there is to say.
    fn queue_exit(&mut self, child: &Option<LocalChild>) {
        if self.is_service() && !self.exit_sent && self.is_done(child) {
            self.outbound
                .exit(self.ending.local.unwrap_or(self.options.exit_code));
            self.exit_sent = true;
        }
    }

    /// Whether the call is over and everything was sent.
    fn is_over(&mut self, channel: &mut dyn Channel, child: &Option<LocalChild>) -> bool {
        if !self.is_done(child) {
            return false;
        }
        if self.is_service() {
            if !self.exit_sent {
                self.queue_exit(child);
                // Should it fail, the peer is gone and the next turn sees that.
                let _ = self.outbound.flush(channel);
            }
            self.outbound.is_empty()
        } else {
            self.ending.remote.is_some() && self.outbound.is_empty()
        }
    }

    fn errors_come(&self) -> bool {
        matches!(self.errors, Errors::From(_))
    }

    fn reap(&mut self, child: &mut Option<LocalChild>) {
        if let Some(child) = child
            && self.ending.local.is_none()
            && let Some(code) = child.ended()
        {
            self.ending.local = Some(code);
            self.close_output();
        }
        self.hear();
    }

    /// Takes what is reported of a service elsewhere.
    fn hear(&mut self) {
        while self.ending.local.is_none() {
            let Some(reports) = &self.options.reports else {
                return;
            };
            match reports.next() {
                Heard::Nothing => return,
                Heard::Report(Report::Ended { code }, _) => self.ending.local = Some(code),
                Heard::Report(Report::Switch, _) => {
                    self.leaving_input = true;
                    self.use_back();
                    continue;
                }
                // Said before the call began.
                Heard::Report(..) => continue,
                Heard::Gone => self.ending.local = Some(EXIT_PROBLEM.into()),
            }
            self.close_output();
        }
    }

    fn close_output(&mut self) {
        if let Some(output) = self.output.take() {
            output.close();
        }
        if self.inbound.waiting_for() == Some(Sink::Main) {
            self.inbound.discard();
        }
    }

    /// Sends the end of our main stream and drops what it came from.
    fn end_main(&mut self) {
        if let Some(input) = self.input.take() {
            input.close();
        }
        self.back = Back::Closed;
        if self.main_open {
            self.outbound.eof(self.main_kind());
            self.main_open = false;
        }
    }

    fn receive(&mut self, channel: &mut dyn Channel) -> Result<Receiving, PumpError> {
        for _ in 0..TURN {
            let notice = self.inbound.next(channel).map_err(|e| match e {
                InboundError::Read(e) => PumpError::Channel(e),
                InboundError::Data(e) => PumpError::Data(e),
            })?;
            match notice {
                Notice::Hungry => return Ok(Receiving::Open),
                Notice::Gone => return Ok(Receiving::Gone),
                Notice::Up => {}
                Notice::Part(sink) => {
                    if !self.deliver(sink) {
                        return Ok(Receiving::Open);
                    }
                }
                Notice::Eof(Sink::Stderr) => {}
                Notice::Eof(Sink::Main) => {
                    self.close_output();
                    if self.options.exit_on_client_eof {
                        self.end_main();
                    }
                }
                Notice::Exit(code) => {
                    self.ending.remote = Some(code);
                    self.end_main();
                }
            }
        }
        Ok(Receiving::More)
    }

    /// Writes the part at hand; whether all of it is gone.
    fn deliver(&mut self, sink: Sink) -> bool {
        while !self.inbound.part().is_empty() {
            let to = match (sink, &self.errors) {
                (Sink::Main, _) => self.output.as_ref(),
                (Sink::Stderr, Errors::To(errors)) => Some(errors),
                (Sink::Stderr, _) => None,
            };
            match to.map(|to| to.write(self.inbound.part())) {
                Some(Ok(Some(n))) => self.inbound.written(n),
                Some(Ok(None)) => return false,
                Some(Err(_)) if sink == Sink::Main => self.close_output(),
                // Nobody reads: the rest of the stream is dropped, the call goes on.
                Some(Err(_)) => {
                    self.errors = Errors::None;
                    self.inbound.discard();
                }
                None => self.inbound.discard(),
            }
        }
        true
    }

    fn send(&mut self, channel: &mut dyn Channel, child: &Option<LocalChild>) {
        for _ in 0..TURN {
            let mut filled = false;
            // Small messages go together: each that goes alone wakes the peer once more.
            while self.outbound.is_light() && self.fill() {
                filled = true;
            }
            self.queue_exit(child);
            // A peer that is gone may have left the rest of its output and the exit code.
            if self.outbound.flush(channel).is_err() {
                self.end_main();
            }
            if !self.outbound.is_empty() || !filled {
                break;
            }
        }
    }

    /// Queues one more message of local bytes, if there are any.
    fn fill(&mut self) -> bool {
        let Some(version) = self.inbound.decoder.version() else {
            return false;
        };
        let kind = self.main_kind();
        if self.main_open && !self.options.prefix.is_empty() {
            let n = self.outbound.take(kind, version, &self.options.prefix);
            self.options.prefix.drain(..n);
            return true;
        }
        // In turn, so that neither stream holds up the other.
        self.errors_turn = !self.errors_turn;
        let errors_first = self.errors_turn && self.fill_errors(version);
        errors_first || self.fill_main(version) || self.fill_errors(version)
    }

    fn fill_main(&mut self, version: Version) -> bool {
        let kind = self.main_kind();
        if let Some(input) = &self.input {
            match self.outbound.fill(kind, version, input) {
                Ok(Filled::Data) => return true,
                Ok(Filled::Nothing) if !self.leaving_input => {}
                Ok(Filled::Nothing | Filled::End) | Err(_) => {
                    if let Some(input) = self.input.take() {
                        input.close();
                    }
                    // The service may have turned to its other descriptor just before.
                    if self.fill_back(version) {
                        return true;
                    }
                    self.input_ended();
                    return true;
                }
            }
        }
        if self.input.is_none() && self.main_open && !matches!(self.back, Back::Used(_)) {
            self.input_ended();
            return true;
        }
        self.fill_back(version)
    }

    /// There is no more to come from the main input, unless the socket is used.
    fn input_ended(&mut self) {
        if matches!(self.back, Back::Used(_)) {
            return;
        }
        self.end_main();
        if self.options.exit_on_service_eof {
            self.close_output();
        }
    }

    fn fill_errors(&mut self, version: Version) -> bool {
        let Errors::From(input) = &self.errors else {
            return false;
        };
        match self.outbound.fill(Kind::Stderr, version, input) {
            Ok(Filled::Data) => {
                if let Some(copy) = &self.options.copy_errors {
                    // A reader that is slow or gone misses some; the caller does not.
                    let _ = copy.write(self.outbound.filled());
                }
                true
            }
            Ok(Filled::Nothing) => false,
            Ok(Filled::End) | Err(_) => {
                self.errors = Errors::None;
                self.outbound.eof(Kind::Stderr);
                true
            }
        }
    }

    fn use_back(&mut self) {
        self.back = match std::mem::replace(&mut self.back, Back::Closed) {
            Back::Quiet(back) | Back::Used(back) => Back::Used(back),
            Back::Closed => Back::Closed,
        };
    }

    fn fill_back(&mut self, version: Version) -> bool {
        let kind = self.main_kind();
        let (Back::Quiet(back) | Back::Used(back)) = &self.back else {
            return false;
        };
        match self.outbound.fill(kind, version, back) {
            Ok(Filled::Data) => {
                self.use_back();
                true
            }
            Ok(Filled::Nothing) => false,
            Ok(Filled::End) | Err(_) => {
                self.back = Back::Closed;
                self.input.is_none()
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Open,
    /// Bytes that were read wait to be decoded.
    More,
    Gone,
}

/// Waiting.
impl Pump {
    fn wait(
        &mut self,
        channel: &mut dyn Channel,
        child: Option<&LocalChild>,
        more: bool,
    ) -> Result<(), PumpError> {
        let wants = Wants {
            read: self.inbound.wants(),
            write: !self.outbound.is_empty(),
        };
        let may_read = self.outbound.is_empty() && self.inbound.decoder.version().is_some();
        let waits = |sink| self.inbound.waiting_for() == Some(sink);
        let flags = |wanted: bool, flag| if wanted { flag } else { PollFlags::empty() };
        let mut fds = Vec::with_capacity(8);
        // A hang-up is reported whatever one asks for, so ask only when it can be acted on.
        let asks = wants.read || wants.write;
        let channel_at = (asks || self.options.hang_up.is_some()).then(|| {
            fds.push(PollFd::from_borrowed_fd(
                channel.fd(),
                channel.poll_flags(wants),
            ));
            0
        });
        let output_at = self.output.as_ref().map(|output| {
            fds.push(PollFd::new(
                output,
                flags(waits(Sink::Main), PollFlags::OUT),
            ));
            fds.len() - 1
        });
        if let Errors::To(errors) = &self.errors
            && waits(Sink::Stderr)
        {
            fds.push(PollFd::new(errors, PollFlags::OUT));
        }
        if may_read {
            if let Some(input) = &self.input {
                fds.push(PollFd::new(input, PollFlags::IN));
            }
            if let Errors::From(errors) = &self.errors {
                fds.push(PollFd::new(errors, PollFlags::IN));
            }
            if let Back::Quiet(back) | Back::Used(back) = &self.back {
                fds.push(PollFd::new(back, PollFlags::IN));
            }
        }
        if let (Some(child), None) = (child, self.ending.local) {
            fds.push(PollFd::new(child, PollFlags::IN));
        }
        if let (Some(reports), None) = (&self.options.reports, self.ending.local) {
            fds.push(PollFd::new(reports, PollFlags::IN));
        }
        let life_at = self.options.life.as_ref().map(|life| {
            fds.push(PollFd::new(life, PollFlags::empty()));
            fds.len() - 1
        });
        let peer_at = self.options.peer.as_ref().map(|peer| {
            fds.push(PollFd::new(peer, PollFlags::IN));
            fds.len() - 1
        });
        let switch_at = self.options.switch.as_ref().map(|switch| {
            fds.push(PollFd::new(switch, PollFlags::IN));
            fds.len() - 1
        });
        let timeout = if more {
            Some(Duration::ZERO)
        } else {
            channel.patience()
        };
        let timeout = timeout.map(|timeout| Timespec::try_from(timeout).unwrap_or_default());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(PumpError::Poll(e.into())),
        }
        let seen = |at: Option<usize>| {
            at.and_then(|at| fds.get(at))
                .map_or(PollFlags::empty(), PollFd::revents)
        };
        let output_gone = seen(output_at).intersects(PollFlags::HUP | PollFlags::ERR);
        let switched = !seen(switch_at).is_empty();
        let on_channel = seen(channel_at);
        let left = PollFlags::HUP | PollFlags::ERR;
        self.hung_up = seen(life_at).intersects(left);
        let on_peer = seen(peer_at);
        drop(fds);
        if on_peer.contains(PollFlags::IN) {
            channel.peer_died();
        }
        if !on_peer.is_empty() {
            self.options.peer = None;
        }
        let is_due = channel.patience().is_some_and(|left| left.is_zero());
        if !on_channel.is_empty() || is_due {
            channel.acknowledge().map_err(PumpError::Channel)?;
            self.hung_up |= !asks && channel.hung_up(on_channel);
        }
        if output_gone {
            self.close_output();
        }
        if switched && self.options.switch.as_ref().is_some_and(Switch::take) {
            self.leaving_input = true;
            self.use_back();
        }
        Ok(())
    }
}
