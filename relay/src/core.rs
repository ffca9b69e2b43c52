//! The relay without I/O.

use std::time::Duration;

use bulkhead_wire::bucket::Bucket;
use bulkhead_wire::causes::chain;
use bulkhead_wire::end::Carrier;
use bulkhead_wire::qrexec::Endpoint;
use bulkhead_wire::qrexec::local::ClientCommand;
use bulkhead_wire::relay::{ClientId, FromRelay, RequestId, ToRelay};

use crate::clients::Clients;
use crate::control::{AgentError, CALL_BURST, CALL_RATE, Control};
use crate::database::Database;
use crate::queue::Queue;

/// What the daemon said first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The qube's name, for logs.
    pub qube: String,
    /// The qube's domain id.
    pub domid: u32,
    /// Replaces `DEFAULT` in command lines.
    pub default_user: String,
    /// What carries its channels.
    pub carrier: Carrier,
}

/// Everything a relay knows. `now` is the time since any fixed point.
#[derive(Debug)]
pub struct Core {
    setup: Setup,
    control: Option<Control>,
    next_request: RequestId,
    call_rate: Bucket,
    database: Database,
    clients: Clients,
    queue: Queue,
}

impl Core {
    /// A relay with nobody connected.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            control: None,
            next_request: RequestId(0),
            call_rate: Bucket::new(CALL_RATE, CALL_BURST),
            database: Database::new(),
            clients: Clients::default(),
            queue: Queue::default(),
        }
    }

    /// The next packet for the daemon.
    #[must_use]
    pub fn packet(&self) -> Option<&[u8]> {
        self.queue.front()
    }

    /// That packet was sent.
    pub fn packet_sent(&mut self) {
        self.queue.pop();
    }

    /// Queues a message of the relay's own for the daemon.
    pub fn tell(&mut self, message: &FromRelay) {
        self.queue.push(message);
    }

    /// Obeys the daemon. What cannot be done is returned as text for the log; the daemon learns of
    /// a lost agent by its own message.
    ///
    /// # Errors
    /// A sentence about a message that could not be obeyed.
    pub fn command(&mut self, message: ToRelay) -> Result<(), String> {
        match message {
            ToRelay::Setup { .. } => return Err("the daemon sent a second setup".into()),
            ToRelay::AttachControl(_) => self.control_up(),
            // Nothing is said on it before the guest comes.
            ToRelay::AttachDatabase(_) => {}
            ToRelay::Execute {
                connect_domain,
                connect_port,
                cmdline,
                just_exec,
            } => {
                let endpoint = Endpoint {
                    domain: connect_domain,
                    port: connect_port,
                };
                let cmdline = self.with_default_user(cmdline);
                return self.with_agent(|agent| agent.execute(endpoint, &cmdline, just_exec));
            }
            ToRelay::CallAllowed {
                request,
                connect_domain,
                connect_port,
            } => {
                let endpoint = Endpoint {
                    domain: connect_domain,
                    port: connect_port,
                };
                return self.answer(request, Some(endpoint));
            }
            ToRelay::CallRefused { request } => {
                return self.answer(request, None);
            }
            ToRelay::ClientPort {
                client,
                connect_port,
            } => {
                return self.client_port(client, connect_port);
            }
            ToRelay::DbWrite { path, value } => return self.change(&path, Some(value)),
            ToRelay::DbRemove { path } => return self.change(&path, None),
        }
        Ok(())
    }

    fn change(&mut self, path: &str, value: Option<Vec<u8>>) -> Result<(), String> {
        self.database
            .change(path, value, &mut self.queue)
            .map_err(|e| chain(&e))
    }

    fn answer(&mut self, request: RequestId, endpoint: Option<Endpoint>) -> Result<(), String> {
        // Apart from the rest while it is written to.
        let mut queue = std::mem::take(&mut self.queue);
        let done = self.with_agent(|agent| agent.answer(request, endpoint, &mut queue));
        queue.append(&mut self.queue);
        self.queue = queue;
        done
    }

    /// The daemon's commands are for an agent that is up; one that has just gone has already been
    /// reported. A command the link refuses is the daemon's error and leaves the link alone.
    fn with_agent(
        &mut self,
        act: impl FnOnce(&mut Control) -> Result<(), AgentError>,
    ) -> Result<(), String> {
        let Some(agent) = &mut self.control else {
            return Err("no agent is connected".into());
        };
        match act(agent) {
            Ok(()) => Ok(()),
            Err(AgentError::Protocol(e)) => Err(chain(&e)),
            Err(e) => {
                self.control_lost(chain(&e));
                Err("the agent takes no more commands".into())
            }
        }
    }

    fn with_default_user(&self, cmdline: Vec<u8>) -> Vec<u8> {
        match cmdline.strip_prefix(b"DEFAULT:") {
            Some(rest) => [self.setup.default_user.as_bytes(), b":", rest].concat(),
            None => cmdline,
        }
    }

    fn client_port(&mut self, id: ClientId, port: Option<u32>) -> Result<(), String> {
        let command = self.clients.waiting(id).cloned();
        let (
            Some(port),
            Some(ClientCommand::Execute {
                cmdline, just_exec, ..
            }),
        ) = (port, command)
        else {
            self.clients.close(id, &mut self.queue);
            return Ok(());
        };
        let cmdline = self.with_default_user(cmdline);
        let endpoint = Endpoint { domain: 0, port };
        let done = self.with_agent(|agent| agent.execute(endpoint, &cmdline, just_exec));
        match &done {
            Ok(()) => self.clients.answer(
                id,
                Endpoint {
                    domain: self.setup.domid,
                    port,
                },
            ),
            Err(_) => self.clients.close(id, &mut self.queue),
        }
        done
    }

    // The agent.

    /// The agent's control channel is connected; one that was before is gone.
    pub fn control_up(&mut self) {
        self.control_lost("replaced by a new connection".into());
        self.control = Some(Control::new());
    }

    /// A control channel is connected.
    #[must_use]
    pub fn control_is_up(&self) -> bool {
        self.control.is_some()
    }

    /// The agent closed its channel.
    pub fn control_closed(&mut self) {
        if let Some(control) = &self.control {
            let reason = control
                .hung_up()
                .err()
                .map(|e| chain(&e))
                .unwrap_or_default();
            self.control_lost(reason);
        }
    }

    /// The channel failed. `reason` must not come from the guest.
    pub fn control_lost(&mut self, reason: String) {
        if self.control.take().is_some() {
            self.clients.close_all(&mut self.queue);
            self.queue.push(&FromRelay::AgentLost { reason });
        }
    }

    /// Bytes for the agent.
    #[must_use]
    pub fn control_output(&self) -> &[u8] {
        self.control.as_ref().map_or(&[], Control::output)
    }

    /// `n` bytes went to the agent.
    pub fn control_sent(&mut self, n: usize) {
        if let Some(control) = &mut self.control {
            control.sent(n);
        }
    }

    /// Whether to read from the agent.
    #[must_use]
    pub fn control_wants_input(&self) -> bool {
        self.queue.has_room() && self.control.as_ref().is_some_and(Control::wants_input)
    }

    /// Bytes from the agent.
    pub fn control_receive(&mut self, untrusted: &[u8], now: Duration) {
        if let Some(control) = &mut self.control {
            control.receive(untrusted);
        }
        self.advance(now);
    }

    /// Goes on with what the agent sent and had to wait. Call it after anything was sent, and
    /// after [`Core::wait`].
    pub fn advance(&mut self, now: Duration) {
        let Some(control) = &mut self.control else {
            return;
        };
        let (rate, next) = (&mut self.call_rate, &mut self.next_request);
        match control.pump(now, rate, next, &mut self.queue) {
            Ok(ended) => ended.into_iter().for_each(|port| self.clients.ended(port)),
            Err(e) => self.control_lost(chain(&e)),
        }
    }

    /// How long until something can go on that only time holds up; none if nothing is.
    #[must_use]
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        let calls = self.control.as_ref().filter(|control| {
            // Held up by a full queue or output it goes on when those are written; but where both
            // have been written already, no descriptor will tell.
            control.can_go_on() && self.queue.has_room()
        });
        let calls = calls.map(|_| self.call_rate.wait(now, 1));
        let keys = self
            .database
            .is_connected()
            .then(|| self.database.wait(now))
            .filter(|wait| !wait.is_zero());
        [calls, keys].into_iter().flatten().min()
    }

    // QubesDB.

    /// A channel for the guest's QubesDB daemon came to nothing before it was there.
    pub fn database_failed(&mut self, reason: String) {
        self.queue.push(&FromRelay::DbLost { reason });
    }

    /// The guest's QubesDB daemon is connected.
    pub fn database_up(&mut self) {
        self.database.connected();
    }

    /// It is connected.
    #[must_use]
    pub fn database_is_up(&self) -> bool {
        self.database.is_connected()
    }

    /// Its connection is gone. `reason` must not come from the guest.
    pub fn database_lost(&mut self, reason: String) {
        self.database.lost(reason, &mut self.queue);
    }

    /// Bytes for it.
    #[must_use]
    pub fn database_output(&self) -> &[u8] {
        self.database.output()
    }

    /// `n` bytes went to it.
    pub fn database_sent(&mut self, n: usize, now: Duration) {
        self.database.sent(n, now, &mut self.queue);
    }

    /// Whether to read from it.
    #[must_use]
    pub fn database_wants_input(&self, now: Duration) -> bool {
        self.queue.has_room() && self.database.wants_input() && self.database.wait(now).is_zero()
    }

    /// Bytes from it.
    pub fn database_receive(&mut self, untrusted: &[u8], now: Duration) {
        self.database.receive(untrusted, now, &mut self.queue);
    }

    // dom0 clients.

    /// Whether to accept a client.
    #[must_use]
    pub fn clients_have_room(&self) -> bool {
        self.clients.has_room()
    }

    /// A client is connected.
    pub fn client_up(&mut self) -> ClientId {
        self.clients.connected()
    }

    /// Bytes for a client.
    #[must_use]
    pub fn client_output(&self, id: ClientId) -> &[u8] {
        self.clients.output(id)
    }

    /// `n` bytes went to a client.
    pub fn client_sent(&mut self, id: ClientId, n: usize) {
        self.clients.sent(id, n);
    }

    /// The client is to be dropped once its output is sent.
    #[must_use]
    pub fn client_is_closing(&self, id: ClientId) -> bool {
        self.clients.is_closing(id)
    }

    /// Whether to read from clients.
    #[must_use]
    pub fn clients_want_input(&self) -> bool {
        self.queue.has_room()
    }

    /// Bytes from a client.
    pub fn client_receive(&mut self, id: ClientId, bytes: &[u8]) {
        let agent_up = self.control_is_up();
        self.clients.receive(id, bytes, agent_up, &mut self.queue);
    }

    /// The client is gone.
    pub fn client_lost(&mut self, id: ClientId) {
        self.clients.close(id, &mut self.queue);
        self.clients.forget(id);
    }
}

#[cfg(test)]
mod tests;
