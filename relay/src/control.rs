//! The control channel of one guest agent.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bulkhead_wire::bucket::Bucket;
use bulkhead_wire::qrexec::control::{ControlError, DaemonEvent, DaemonLink};
use bulkhead_wire::qrexec::trigger::Trigger;
use bulkhead_wire::qrexec::{Endpoint, Ident, PENDING_REQUESTS_MAX};
use bulkhead_wire::relay::{FromRelay, RequestId};
use thiserror::Error;

use crate::queue::Queue;

/// Calls per second that one guest may put to the daemon, after a burst. A policy decision takes
/// some 10 microseconds, so that a guest which does nothing but ask costs the daemon 2 % of a core.
pub const CALL_RATE: u32 = 2000;
/// Calls at once before the rate counts: two full sets of pending ones.
pub const CALL_BURST: u32 = 512;

/// Domain numbers are below this; the daemon takes another one for a relay gone wrong.
const DOMAIN_LIMIT: u32 = 0x7ff0;

/// Unsent bytes past which the agent's next message waits.
pub const CONTROL_OUTPUT_HIGH: usize = 64 * 1024;
/// Unsent bytes past which the agent counts as stalled: 16 of the longest command lines.
pub const CONTROL_OUTPUT_MAX: usize = 1024 * 1024;

/// Why the control channel ends. Never quotes the guest.
#[derive(Debug, Error)]
pub enum AgentError {
    /// It broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ControlError),
    /// It does not read.
    #[error("agent stopped reading")]
    Stalled,
    /// It closed the channel inside a message.
    #[error("agent hung up in the middle of a message")]
    HalfMessage,
}

/// One connection to an agent.
#[derive(Debug)]
pub(crate) struct Control {
    link: DaemonLink,
    input: Vec<u8>,
    output: Vec<u8>,
    pending: BTreeMap<RequestId, Ident>,
    /// Data connections that this agent was told to make through us.
    live: HashSet<Endpoint>,
}

impl Control {
    pub(crate) fn new() -> Self {
        Self {
            link: DaemonLink::new(),
            input: Vec::new(),
            output: Vec::new(),
            pending: BTreeMap::new(),
            live: HashSet::new(),
        }
    }

    pub(crate) fn output(&self) -> &[u8] {
        &self.output
    }

    pub(crate) fn sent(&mut self, n: usize) {
        self.output.drain(..n.min(self.output.len()));
        if self.output.is_empty() {
            self.output.shrink_to(CONTROL_OUTPUT_HIGH);
        }
    }

    /// Nothing waits to be taken in.
    pub(crate) fn wants_input(&self) -> bool {
        self.input.is_empty() && self.output.len() < CONTROL_OUTPUT_HIGH
    }

    #[cfg(test)]
    pub(crate) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Something waits to be taken in, and there is room for answers.
    pub(crate) fn can_go_on(&self) -> bool {
        !self.input.is_empty() && self.output.len() < CONTROL_OUTPUT_HIGH
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// How the agent's hanging up is to be taken.
    pub(crate) fn hung_up(&self) -> Result<(), AgentError> {
        if self.input.is_empty() && self.link.is_between_messages() {
            Ok(())
        } else {
            Err(AgentError::HalfMessage)
        }
    }

    /// Takes in what is whole, as far as answers, queue and rate allow. Returns the ports of ended
    /// connections with dom0.
    pub(crate) fn pump(
        &mut self,
        now: Duration,
        rate: &mut Bucket,
        next: &mut RequestId,
        queue: &mut Queue,
    ) -> Result<Vec<u32>, AgentError> {
        let input = std::mem::take(&mut self.input);
        let (mut rest, mut ended) = (&input[..], Vec::new());
        while self.output.len() < CONTROL_OUTPUT_HIGH
            && queue.has_room()
            && rate.wait(now, 1).is_zero()
        {
            let Some(event) = self.link.push(&mut rest, &mut self.output)? else {
                break;
            };
            match event {
                DaemonEvent::Connected { version } => {
                    queue.push(&FromRelay::AgentConnected {
                        version: version.number(),
                    });
                }
                DaemonEvent::Request(trigger) if self.pending.len() >= PENDING_REQUESTS_MAX => {
                    self.output.extend(self.link.refuse(&trigger.ident)?);
                }
                DaemonEvent::Request(trigger) => {
                    rate.take(now, 1);
                    self.ask(trigger, next, queue);
                }
                DaemonEvent::Withdrawn(ident) => {
                    rate.take(now, 1);
                    let of_it = |_: &RequestId, pending: &mut Ident| *pending == ident;
                    for (request, _) in self.pending.extract_if(.., of_it) {
                        queue.push(&FromRelay::CallWithdrawn { request });
                    }
                }
                DaemonEvent::Terminated(endpoint) => {
                    let Endpoint { domain, port } = endpoint;
                    // One that this relay did not make is invented, or from before its time: the
                    // daemon knows which, and inventing counts like calling.
                    if !self.live.remove(&endpoint) {
                        if domain >= DOMAIN_LIMIT {
                            continue;
                        }
                        rate.take(now, 1);
                    }
                    queue.push(&FromRelay::ConnectionTerminated { domain, port });
                    if domain == 0 {
                        ended.push(port);
                    }
                }
            }
        }
        self.input.extend_from_slice(rest);
        Ok(ended)
    }

    fn ask(&mut self, trigger: Trigger, next: &mut RequestId, queue: &mut Queue) {
        let Trigger {
            source,
            target,
            service,
            ident,
        } = trigger;
        let announced = ident.announced();
        let request = *next;
        next.0 += 1;
        self.pending.insert(request, ident);
        queue.push(&FromRelay::CallRequest {
            request,
            service,
            target,
            requested_source: source,
            announced,
        });
    }

    /// Has the agent run a command.
    pub(crate) fn execute(
        &mut self,
        endpoint: Endpoint,
        cmdline: &[u8],
        just_exec: bool,
    ) -> Result<(), AgentError> {
        let bytes = self.link.execute(endpoint, cmdline, just_exec)?;
        self.live.insert(endpoint);
        self.send(&bytes)
    }

    /// Answers a request. Where it was taken back, nobody will use what was opened for it.
    pub(crate) fn answer(
        &mut self,
        request: RequestId,
        endpoint: Option<Endpoint>,
        queue: &mut Queue,
    ) -> Result<(), AgentError> {
        let Some(ident) = self.pending.remove(&request) else {
            if let Some(endpoint) = endpoint.filter(|endpoint| !self.live.contains(endpoint)) {
                let Endpoint { domain, port } = endpoint;
                queue.push(&FromRelay::ConnectionTerminated { domain, port });
            }
            return Ok(());
        };
        let bytes = match endpoint {
            Some(endpoint) => {
                self.live.insert(endpoint);
                self.link.connect(endpoint, &ident)?
            }
            None => self.link.refuse(&ident)?,
        };
        self.send(&bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), AgentError> {
        if self.output.len() + bytes.len() > CONTROL_OUTPUT_MAX {
            return Err(AgentError::Stalled);
        }
        self.output.extend_from_slice(bytes);
        Ok(())
    }
}
