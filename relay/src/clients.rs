//! dom0 clients of the qube's `qrexec.<qube>` socket.

use std::collections::BTreeMap;

use bulkhead_wire::qrexec::Endpoint;
use bulkhead_wire::qrexec::local::{ClientCommand, DaemonSide};
use bulkhead_wire::relay::{ClientId, FromRelay};

use crate::queue::Queue;

/// Most clients at a time; more wait in the listener's backlog.
pub(crate) const CLIENTS_MAX: usize = 256;

#[derive(Debug)]
struct Client {
    side: DaemonSide,
    output: Vec<u8>,
    command: Option<ClientCommand>,
    port: Option<u32>,
    closing: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Clients {
    clients: BTreeMap<ClientId, Client>,
    next: u64,
}

impl Clients {
    pub(crate) fn has_room(&self) -> bool {
        self.clients.len() < CLIENTS_MAX
    }

    pub(crate) fn connected(&mut self) -> ClientId {
        let (side, hello) = DaemonSide::start();
        let id = ClientId(self.next);
        self.next += 1;
        let output = hello.to_vec();
        let client = Client {
            side,
            output,
            command: None,
            port: None,
            closing: false,
        };
        self.clients.insert(id, client);
        id
    }

    pub(crate) fn output(&self, id: ClientId) -> &[u8] {
        self.clients.get(&id).map_or(&[], |client| &client.output)
    }

    pub(crate) fn sent(&mut self, id: ClientId, n: usize) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.output.drain(..n.min(client.output.len()));
        }
    }

    /// To be closed once its output is sent.
    pub(crate) fn is_closing(&self, id: ClientId) -> bool {
        self.clients.get(&id).is_none_or(|client| client.closing)
    }

    /// Bytes from a client. A command that runs something goes to the daemon. A client that wants
    /// to answer a guest's request itself is turned away: who may call whom is for the policy
    /// alone to decide, whatever the permissions of this socket.
    pub(crate) fn receive(
        &mut self,
        id: ClientId,
        bytes: &[u8],
        agent_up: bool,
        queue: &mut Queue,
    ) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        match client.side.push(bytes) {
            Ok(None) => {}
            Ok(Some(command @ ClientCommand::Execute { .. })) if agent_up => {
                if let ClientCommand::Execute {
                    cmdline, just_exec, ..
                } = &command
                {
                    let (cmdline, just_exec) = (cmdline.clone(), *just_exec);
                    queue.push(&FromRelay::ClientExec {
                        client: id,
                        cmdline,
                        just_exec,
                    });
                }
                client.command = Some(command);
            }
            Ok(Some(_)) | Err(_) => self.close(id, queue),
        }
    }

    /// The command that waits for a port.
    pub(crate) fn waiting(&self, id: ClientId) -> Option<&ClientCommand> {
        self.clients
            .get(&id)
            .filter(|client| client.port.is_none())?
            .command
            .as_ref()
    }

    /// Tells a client where its connection is to be made.
    pub(crate) fn answer(&mut self, id: ClientId, endpoint: Endpoint) {
        if let Some(client) = self.clients.get_mut(&id)
            && let Some(command) = &client.command
        {
            client.output.extend(DaemonSide::answer(command, endpoint));
            client.port = Some(endpoint.port);
        }
    }

    /// Its connection has ended: hanging up is how a client learns of it.
    pub(crate) fn ended(&mut self, port: u32) {
        for client in self
            .clients
            .values_mut()
            .filter(|client| client.port == Some(port))
        {
            client.closing = true;
        }
    }

    /// Hangs up on a client.
    pub(crate) fn close(&mut self, id: ClientId, queue: &mut Queue) {
        if let Some(client) = self.clients.get_mut(&id)
            && !client.closing
        {
            client.closing = true;
            if client.command.is_some() {
                queue.push(&FromRelay::ClientGone { client: id });
            }
        }
    }

    /// Hangs up on all: the agent is gone.
    pub(crate) fn close_all(&mut self, queue: &mut Queue) {
        let ids: Vec<_> = self.clients.keys().copied().collect();
        ids.into_iter().for_each(|id| self.close(id, queue));
    }

    pub(crate) fn forget(&mut self, id: ClientId) {
        self.clients.remove(&id);
    }
}
