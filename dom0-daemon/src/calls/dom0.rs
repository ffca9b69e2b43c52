//! dom0 as the caller: commands and services in qubes, with a client of the daemon at this end.

use bulkhead_api::call::{AuditRecord, CallRequest, DataConnection, RingEnd, RunRequest};
use bulkhead_model::name::QubeName;
use bulkhead_wire::end::End;
use bulkhead_wire::relay::ToRelay;
use std::os::fd::OwnedFd;

use super::{Connection, named};
use crate::machine::{MachineError, Reason};
use crate::relays::Handed;
use crate::runtime::{Inner, Life, Run, Runtime, RuntimeError};

/// Longest command: the wire has 65,535 bytes for `user:command` and its NUL.
const COMMAND_MAX: usize = bulkhead_api::call::COMMAND_MAX;

/// Where a command goes.
struct Target<'a> {
    qube: &'a str,
    disposable: bool,
    autostart: bool,
}

fn unusable(what: &'static str, why: &'static str) -> RuntimeError {
    RuntimeError::Unusable { what, why }
}

/// A user name may not look like anything else in `user:command`.
fn check_user(user: &str) -> Result<(), RuntimeError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if user.len() > 32 || user.starts_with('-') || !user.chars().all(good) {
        return Err(unusable(
            "the user name",
            "it is not letters, digits, `_`, `-` and `.`",
        ));
    }
    Ok(())
}

fn check_service(service: &str) -> Result<(), RuntimeError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+');
    if service.is_empty() || service.starts_with('+') {
        return Err(unusable("the service", "it has no name"));
    }
    if service.len() >= COMMAND_MAX || !service.chars().all(good) {
        return Err(unusable(
            "the service",
            "it is too long or not letters, digits, `_`, `-`, `.` and `+`",
        ));
    }
    Ok(())
}

impl Runtime {
    /// Runs a command in a qube; the caller serves the connection that is returned.
    ///
    /// # Errors
    /// Where the command cannot be, or the qube cannot be reached.
    pub async fn run_command(
        &self,
        request: RunRequest,
        who: &str,
    ) -> Result<DataConnection, RuntimeError> {
        if request.command.is_empty() || request.command.contains(&0) {
            return Err(unusable("the command", "it is empty or has a NUL in it"));
        }
        if request.command.len() > COMMAND_MAX {
            return Err(unusable("the command", "it is longer than 65,000 bytes"));
        }
        check_user(&request.user)?;
        let target = Target {
            qube: &request.qube,
            disposable: request.disposable,
            autostart: request.autostart,
        };
        // Lower in rank than any service name, which never has a space.
        let shown = "(command)".to_owned();
        self.open_connection(target, &request.user, &request.command, shown, who)
            .await
    }

    /// Calls a service in a qube as dom0; the caller serves the connection that is returned.
    ///
    /// # Errors
    /// Where the service cannot be, or the qube cannot be reached.
    pub async fn call_service(
        &self,
        request: CallRequest,
        who: &str,
    ) -> Result<DataConnection, RuntimeError> {
        check_service(&request.service)?;
        check_user(&request.user)?;
        let plus = if request.service.contains('+') {
            ""
        } else {
            "+"
        };
        let command = format!("QUBESRPC {}{plus} dom0", request.service);
        let target = Target {
            qube: &request.qube,
            disposable: request.disposable,
            autostart: request.autostart,
        };
        self.open_connection(
            target,
            &request.user,
            command.as_bytes(),
            request.service,
            who,
        )
        .await
    }

    async fn open_connection(
        &self,
        target: Target<'_>,
        user: &str,
        command: &[u8],
        shown: String,
        who: &str,
    ) -> Result<DataConnection, RuntimeError> {
        let name = match target.qube {
            "" => None,
            text => Some(
                QubeName::new(text)
                    .map_err(|_| unusable("the qube name", "no qube can have it"))?,
            ),
        };
        let (name, disposable) = if target.disposable {
            let base = self.disposable_base(name.as_ref())?;
            let name = self
                .inner
                .create_disposable(&base, Life::OfACall, Reason::Person)
                .await?;
            (name.clone(), Some(name))
        } else {
            let name = name.ok_or_else(|| unusable("the qube name", "it is empty"))?;
            if self.inner.state().run(&name).is_none() {
                if self.inner.declared(&name).is_none() {
                    return Err(MachineError::NoSuchQube(name).into());
                }
                if !target.autostart {
                    return Err(MachineError::NotRunning(name).into());
                }
                self.inner.start_declared(&name, Reason::Call).await?;
            }
            (name, None)
        };
        let opened = match self.inner.wait_agent(&name).await {
            Ok(run) => {
                let opened = self.inner.open_to(&run, disposable.clone(), user, command);
                let opened = opened.await.and_then(DataConnection::try_from);
                if let Some(windows) = run.windows.get()
                    && opened.is_ok()
                {
                    windows.await_window();
                }
                opened
            }
            Err(error) => Err(error),
        };
        match opened {
            Ok(connection) => {
                self.inner.audit.record(AuditRecord {
                    time: 0,
                    source: "dom0".to_owned(),
                    requested_target: target.qube.to_owned(),
                    target: name.to_string(),
                    service: shown,
                    decision: "allow".to_owned(),
                    by: format!("user:{who}"),
                    rule: "dom0 may call every qube".to_owned(),
                    notify: false,
                    count: 1,
                    since: None,
                });
                Ok(connection)
            }
            Err(error) => {
                if let Some(name) = disposable {
                    self.inner.end_disposable(name, None);
                }
                Err(error)
            }
        }
    }
}

/// A connection of dom0's to a qube that has been told of it.
pub(super) struct Opened {
    name: QubeName,
    domain: u32,
    port: u32,
    /// Our end, to which the qube will come.
    pub(super) handed: Handed,
    /// Hangs up when the call is over.
    pub(super) life: OwnedFd,
}

impl Inner {
    /// Has the agent of `run` run a command, and serve it on a connection.
    pub(super) async fn open_to(
        &self,
        run: &Run,
        disposable: Option<QubeName>,
        user: &str,
        command: &[u8],
    ) -> Result<Opened, RuntimeError> {
        let name = &run.name;
        let domid = run.domid.0;
        let io = |source| MachineError::Io {
            doing: format!("opening a connection to qube `{name}`"),
            source,
        };
        let (life, writer) = std::io::pipe().map_err(io)?;
        let port = {
            let mut connections = self.calls.connections();
            // Under the lock: what ends later finds the connection and clears it up.
            if run.is_gone() {
                return Err(RuntimeError::Ended(name.clone()));
            }
            let connection = Connection {
                disposable,
                life: Some(writer),
                hosted: None,
            };
            connections
                .add(0, domid, connection)
                .ok_or_else(|| RuntimeError::NoFreePort(name.clone()))?
        };
        let give_up = |error| {
            let mut connections = self.calls.connections();
            connections.ports.release(domid, 0, port);
            // Without its disposable: the caller ends that.
            connections.open.remove(&(0, domid, port));
            error
        };
        let connection = named((0, domid, port));
        let handed = run.place.listen(&connection).await;
        let handed = handed.map_err(|e| give_up(io(e).into()))?;
        let user = if user.is_empty() {
            &run.default_user
        } else {
            user
        };
        let mut cmdline = format!("{user}:").into_bytes();
        cmdline.extend_from_slice(command);
        let execute = ToRelay::Execute {
            connect_domain: 0,
            connect_port: port,
            cmdline,
            just_exec: false,
        };
        let relay = run.relay.get();
        let sent = relay.map_or(Err(crate::link::LinkError::Gone), |r| r.send(&execute));
        sent.map_err(|error| give_up(RuntimeError::link(name, error)))?;
        Ok(Opened {
            name: name.clone(),
            domain: domid,
            port,
            handed,
            life: life.into(),
        })
    }
}

impl TryFrom<Opened> for DataConnection {
    type Error = RuntimeError;

    fn try_from(opened: Opened) -> Result<Self, RuntimeError> {
        let Opened {
            name,
            domain,
            port,
            handed,
            life,
        } = opened;
        // A listener is what was asked for.
        let (listener, rings) =
            end_of(handed).ok_or_else(|| RuntimeError::NoAgent(name.clone()))?;
        Ok(Self {
            qube: name.to_string(),
            domain,
            port,
            listener: listener.into(),
            rings,
            life: life.into(),
        })
    }
}

/// The end of a connection as clients are told of it.
fn end_of(handed: Handed) -> Option<(OwnedFd, Vec<RingEnd>)> {
    let mut fds = handed.fds.into_iter();
    let first = fds.next()?;
    let rings = match handed.end {
        End::Socket => Vec::new(),
        End::Client { .. } => return None,
        End::Server {
            page,
            port,
            index,
            orders,
            ..
        } => vec![RingEnd {
            memory: fds.next()?.into(),
            index,
            page,
            event_port: port,
            orders,
        }],
    };
    Some((first, rings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_change_the_command_line_are_refused() {
        for bad in ["-x", "a:b", "a b", "a\0", "é"] {
            assert!(check_user(bad).is_err(), "{bad:?}");
        }
        for good in ["", "user", "_x-1.y"] {
            assert!(check_user(good).is_ok(), "{good:?}");
        }
        assert!(check_user(&"u".repeat(32)).is_ok() && check_user(&"u".repeat(33)).is_err());
        for bad in ["", "+x", "a b", "a/b", "a\0"] {
            assert!(check_service(bad).is_err(), "{bad:?}");
        }
        assert!(check_service(&"s".repeat(COMMAND_MAX - 1)).is_ok());
        assert!(check_service(&"s".repeat(COMMAND_MAX)).is_err());
    }
}
