//! The way to the daemon.

use std::future::Future;
use std::path::PathBuf;

pub(crate) use bulkhead_api::client::Client;

use crate::args::Global;
use crate::failure::Failure;

/// Runs `work` with a connection, on this thread alone.
pub(crate) fn with_client<T, W>(
    global: &Global,
    work: impl FnOnce(Client) -> W,
) -> Result<T, Failure>
where
    W: Future<Output = Result<T, Failure>>,
{
    runtime()?.block_on(async { work(Client::connect(&socket(global)).await?).await })
}

/// A runtime on this thread.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| Failure::io("cannot start", &error))
}

/// The daemon's socket, as asked for or where it usually is.
pub(crate) fn socket(global: &Global) -> PathBuf {
    let asked = global.socket.clone();
    asked.unwrap_or_else(bulkhead_api::client::default_socket)
}
