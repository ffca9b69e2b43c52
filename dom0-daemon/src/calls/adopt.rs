//! Connections from before this daemon began, found again by what only dom0 can have made.
//!
//! A qube may put any name into its own folder, so a name there proves nothing. What proves a
//! connection is the second name that dom0 gave the caller's socket in the target's folder: two
//! folders with one inode. Everything else that looks like a data socket is a leftover.

use std::sync::Arc;

use super::{Connection, DATA_PORTS, Key, parse_socket_name};
use crate::relays::Named;
use crate::runtime::{Inner, Run};

impl Inner {
    /// Takes over the connections among all that runs, and ends disposables whose call is over.
    /// Called once, when all of them are known.
    pub(crate) fn adopt_connections(&self) {
        let runs: Vec<Arc<Run>> = self.state().domains.values().cloned().collect();
        for run in &runs {
            for name in run.place.names().unwrap_or_default() {
                let Some(key @ (_, client, port)) = parse_socket_name(&name) else {
                    continue;
                };
                if client != run.domid.0 || !DATA_PORTS.contains(&port) {
                    continue;
                }
                if self.is_of_dom0(key, run, &name) {
                    self.calls.reserve(key);
                } else {
                    run.place.remove(&Named { key, name });
                }
            }
        }
        for run in runs.iter().filter(|run| run.life.is_of_a_call()) {
            if !self.calls.attach_disposable(run) {
                tracing::info!(qube = %run.name, "its call is over, so it is ended");
                self.end_disposable(run.name.clone(), None);
            }
        }
    }

    fn is_of_dom0(&self, (server, ..): Key, run: &Run, name: &str) -> bool {
        if server == 0 {
            // Made by dom0, or a qube's way to have fewer ports with dom0.
            return true;
        }
        let caller = self.state().domains.get(&server).cloned();
        caller.is_some_and(|caller| caller.place.shares(&run.place, name))
    }
}

impl super::Calls {
    fn reserve(&self, key @ (server, client, port): Key) {
        let mut connections = self.connections();
        connections.ports.reserve(server, client, port);
        connections.open.insert(key, Connection::default());
    }

    /// Makes the disposable end with the connection that it serves; false if there is none.
    fn attach_disposable(&self, run: &Run) -> bool {
        let mut connections = self.connections();
        let mut open = connections.open.iter_mut();
        let served = open.find(|((_, client, _), _)| *client == run.domid.0);
        served.is_some_and(|(_, connection)| {
            connection.disposable = Some(run.name.clone());
            true
        })
    }
}
