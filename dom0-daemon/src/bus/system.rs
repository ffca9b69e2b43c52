//! The same interface on the system bus, where there is one.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use zbus::Connection;
use zbus::connection::Builder;
use zbus::object_server::SignalEmitter;

use super::backend::Backend;
use super::events::{Events, Topics};
use super::gate::Gate;
use super::manager::{Manager, Pump, Signals};
use super::served::{Door, Served};

/// Serves on the system bus until the connection is dropped. Fails where there is no bus or where
/// its configuration does not let us own the name; neither stops the daemon.
pub async fn serve_system_bus(
    backend: Arc<dyn Backend>,
    events: Events,
    gate: Gate,
) -> Result<Connection, zbus::Error> {
    let served = Served {
        manager: Manager::new(backend, events.clone(), Signals::Broadcast),
        door: Door::SystemBus(gate),
    };
    let queue = events.subscribe();
    let connection = Builder::system()
        .serve_at(bulkhead_api::PATH, served)
        .name(bulkhead_api::SERVICE)
        .build()
        .await?;
    let pump = Pump {
        connection: connection.clone(),
        emitter: SignalEmitter::new(&connection, bulkhead_api::PATH)?.into_owned(),
        topics: Arc::new(AtomicU8::new(Topics::SYSTEM_BUS.bits())),
    };
    tokio::spawn(pump.run(queue));
    Ok(connection)
}
