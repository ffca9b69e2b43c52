//! The manager with a gate before every call, and the caller's name behind it.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bulkhead_api::{ApiError, ErrorKind};
use zbus::message::{Header, Message};
use zbus::names::{InterfaceName, MemberName};
use zbus::object_server::{DispatchResult, Interface, SignalEmitter};
use zbus::{BoxDBusError, Connection, ObjectServer, OwnedVariant, Variant, fdo};

use super::backend::Caller;
use super::gate::{Credentials, Gate};
use super::manager::Manager;

/// How long the bus daemon may take to say who a caller is.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// Who made the call that this task serves.
    static CALLER: Arc<Caller>;
}

/// Who made the call that is being served.
pub(super) fn caller() -> Result<Arc<Caller>, ApiError> {
    CALLER
        .try_with(Arc::clone)
        .map_err(|_| ApiError::new(ErrorKind::Internal, "a call has no caller"))
}

/// At which door callers come in.
#[derive(Debug)]
pub(super) enum Door {
    /// A connection of their own: the gate has admitted them for as long as it lasts.
    Peer(Arc<Caller>),
    /// The system bus: everyone is asked for every call.
    SystemBus(Gate),
}

/// What is registered with the object server.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) manager: Manager,
    pub(super) door: Door,
}

impl Served {
    async fn admit(&self, bus: &Connection, call: &Message) -> Result<Arc<Caller>, ApiError> {
        match &self.door {
            Door::Peer(caller) => Ok(Arc::clone(caller)),
            Door::SystemBus(gate) => admit_from_bus(gate, bus, call).await.map(Arc::new),
        }
    }
}

/// Asks the bus daemon who sent `call`.
async fn admit_from_bus(gate: &Gate, bus: &Connection, call: &Message) -> Result<Caller, ApiError> {
    let denied = |why: &str| ApiError::new(ErrorKind::AccessDenied, format!("refused: {why}"));
    let header = call.header();
    let sender = header
        .sender()
        .ok_or_else(|| denied("the call has no sender"))?;
    let ask = async {
        let daemon = fdo::DBusProxy::new(bus).await?;
        let name = sender.to_owned().into();
        daemon.get_connection_credentials(name).await
    };
    let known = match tokio::time::timeout(CREDENTIALS_TIMEOUT, ask).await {
        Ok(Ok(known)) => known,
        Ok(Err(error)) => {
            return Err(denied("the bus does not say who the caller is").because(&error));
        }
        Err(_) => return Err(denied("the bus took too long to say who the caller is")),
    };
    let uid = known
        .unix_user_id()
        .ok_or_else(|| denied("the bus does not know the caller's user"))?;
    // The bus lists the primary group with the others, or tells none at all.
    let groups = known.unix_group_ids().cloned().unwrap_or_default();
    let credentials = Credentials { uid, groups };
    gate.admit(&credentials)
        .map_err(|refusal| ApiError::new(ErrorKind::AccessDenied, refusal.to_string()))
}

#[async_trait]
impl Interface for Served {
    fn name() -> InterfaceName<'static> {
        Manager::name()
    }

    fn spawn_tasks_for_methods(&self) -> bool {
        // A peer's calls are served one after the other, its answer sent before the next call is
        // taken: one that sends and never reads then fills its own socket and nothing else. On
        // the system bus all clients share a connection, and the bus daemon bounds each.
        matches!(self.door, Door::SystemBus(_))
    }

    async fn get(
        &self,
        name: &str,
        server: &ObjectServer,
        connection: &Connection,
        header: Option<&Header<'_>>,
        emitter: &SignalEmitter<'_>,
    ) -> Option<Result<OwnedVariant, BoxDBusError>> {
        self.manager
            .get(name, server, connection, header, emitter)
            .await
    }

    async fn get_all(
        &self,
        server: &ObjectServer,
        connection: &Connection,
        header: Option<&Header<'_>>,
        emitter: &SignalEmitter<'_>,
    ) -> fdo::Result<HashMap<String, OwnedVariant>> {
        self.manager
            .get_all(server, connection, header, emitter)
            .await
    }

    async fn set_mut(
        &mut self,
        name: &str,
        value: &Variant<'_>,
        server: &ObjectServer,
        connection: &Connection,
        header: Option<&Header<'_>>,
        emitter: &SignalEmitter<'_>,
    ) -> Option<Result<(), BoxDBusError>> {
        self.manager
            .set_mut(name, value, server, connection, header, emitter)
            .await
    }

    fn call<'call>(
        &'call self,
        server: &'call ObjectServer,
        connection: &'call Connection,
        message: &'call Message,
        name: MemberName<'call>,
    ) -> DispatchResult<'call> {
        match self.manager.call(server, connection, message, name) {
            DispatchResult::Async(work) => DispatchResult::Async(Box::pin(async move {
                let caller = self
                    .admit(connection, message)
                    .await
                    .map_err(|error| Box::new(error) as BoxDBusError)?;
                CALLER.scope(caller, work).await
            })),
            other => other,
        }
    }

    fn call_mut<'call>(
        &'call mut self,
        _server: &'call ObjectServer,
        _connection: &'call Connection,
        _message: &'call Message,
        _name: MemberName<'call>,
    ) -> DispatchResult<'call> {
        // No method of the manager needs it, so none can slip past the gate this way.
        DispatchResult::NotFound
    }

    fn introspect_to_writer(&self, writer: &mut dyn Write, level: usize) {
        self.manager.introspect_to_writer(writer, level);
    }
}
