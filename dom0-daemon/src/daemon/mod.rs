//! The assembly of the daemon: places, log, parts in their order, and the end.
//!
//! ```text
//! claim folders -> log -> database, storage, hypervisor -> runtime (takes over what runs)
//!   -> operations: recover -> listen -> READY -> bring up -> wait for a signal
//! ```

mod args;
mod backend;
mod error;
mod log;
mod notify;
mod places;
mod progress;
mod translate;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use self::args::{Args, HypervisorChoice};
use self::backend::Daemon;
use self::error::DaemonError;
use self::places::Places;
use crate::bus::{Backend, Events, Gate, Listener, serve_system_bus};
use crate::calls::{HOLD_BACK, ServicesConfig};
use crate::db::Database;
use crate::hypervisor::Hypervisor;
use crate::hypervisor::embedded::{Embedded, EmbeddedConfig, QUBE_TASKS_MAX};
use crate::hypervisor::xen::{Xen, XenConfig};
use crate::instance::Instance;
use crate::ops::{Operations, OperationsConfig};
use crate::runtime::{Runtime, RuntimeConfig};
use crate::storage::Storage;
use crate::storage::block::BlockStorage;
use crate::storage::{Config as StorageConfig, dir::DirStorage};

/// Threads that serve: a second one, so that a long plan delays no call between qubes.
const WORKERS: usize = 2;

/// Threads for what blocks (files, the database); idle ones end after [`IDLE_THREAD`].
const BLOCKING_THREADS: usize = 8;

/// How long an idle thread for blocking work is kept: each costs memory.
const IDLE_THREAD: Duration = Duration::from_secs(2);

/// Runs the daemon until it is told to stop.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody reads it if standard error is closed.
            let _ = write!(std::io::stderr(), "{}", error.report());
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), DaemonError> {
    let places = Places::of(&args)?;
    let instance = Instance::claim(&places.state, &places.runtime)?;
    log::start(&args.log, &places.log_file())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(IDLE_THREAD)
        .enable_all()
        .build()
        .map_err(|source| DaemonError::Start {
            doing: "start the event loop",
            source,
        })?;
    let result = runtime.block_on(serve(&args, &places));
    // What still waits for a client or a disk must not keep us here.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(instance);
    result
}

async fn serve(args: &Args, places: &Places) -> Result<(), DaemonError> {
    // Before anything that takes long, so that an early SIGTERM ends us in order.
    let ends = Ends::new()?;
    let events = Events::new();
    let daemon = assemble(args, places, &events).await?;
    let left = daemon.operations.recover().await?;
    if let Some(report) = left {
        tracing::warn!(outcome = ?report.outcome, "an interrupted apply was brought to its end");
    }
    daemon
        .runtime
        .serve_policy(&places.runtime, Gate::of_this_process())?;
    progress::pump(daemon.operations.progress(), events.clone());
    let gate = Gate::of_this_process();
    let listener = Listener::bind(&places.socket(), gate)?;
    let backend: Arc<dyn Backend> = daemon.clone();
    let serving = tokio::spawn(listener.serve(Arc::clone(&backend), events.clone()));
    let system_bus = system_bus(args, backend, events, gate).await;
    tracing::info!(socket = %places.socket().display(), "serving");
    notify::ready();
    let up = tokio::spawn(bring_up(Arc::clone(&daemon)));
    ends.wait().await;
    notify::stopping();
    serving.abort();
    // Its end removes the socket: no new client comes while qubes are stopped.
    let _ = serving.await;
    up.abort();
    drop(system_bus);
    if args.stop_qubes_on_exit {
        daemon.runtime.stop_all().await;
    }
    tracing::info!("ended");
    Ok(())
}

async fn bring_up(daemon: Arc<Daemon>) {
    match daemon.operations.bring_up().await {
        Ok(Some(report)) => tracing::info!(outcome = ?report.outcome, "the machine was brought up"),
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "the machine could not be brought up"),
    }
}

/// Puts the parts together.
async fn assemble(
    args: &Args,
    places: &Places,
    events: &Events,
) -> Result<Arc<Daemon>, DaemonError> {
    let database = Database::open(&places.state)?;
    let config = StorageConfig::new(places.state.clone());
    let (storage, hypervisor): (Arc<dyn Storage>, Arc<dyn Hypervisor>) = match args.hypervisor {
        HypervisorChoice::Embedded => (
            Arc::new(DirStorage::open(&config)?),
            Arc::new(embedded(places).await?),
        ),
        HypervisorChoice::Xen => (
            Arc::new(BlockStorage::open(&config)?),
            Arc::new(xen(places, &args.kernels).await?),
        ),
    };
    let host = hypervisor.probe().await?;
    for warning in &host.warnings {
        tracing::warn!("{warning}");
    }
    let config = RuntimeConfig {
        state_dir: places.state.clone(),
        runtime_dir: places.runtime.clone(),
        relay: places.program("bulkhead-relay")?,
        services: ServicesConfig {
            launcher: places.program("bulkhead-launch")?,
            folders: places.services.clone(),
        },
        gui: gui(places),
        clipboard_timeout: Duration::from_secs(args.clipboard_timeout),
        startup_timeout: Duration::from_secs(args.startup_timeout),
        ask_timeout: Duration::from_secs(args.ask_timeout),
        hold_back: HOLD_BACK,
    };
    let runtime = Runtime::open(
        config,
        hypervisor,
        Arc::clone(&storage),
        database.clone(),
        events.clone(),
    )
    .await?;
    let config = OperationsConfig {
        system: places.system.clone(),
    };
    let machine = Arc::new(runtime.clone());
    Ok(Arc::new(Daemon {
        operations: Operations::new(config, database, storage, machine),
        runtime,
        host,
        log: places.log_file(),
    }))
}

/// What shows windows; a machine without a desktop has no such program.
fn gui(places: &Places) -> Option<PathBuf> {
    let program = places.program("bulkhead-gui");
    program
        .inspect_err(|error| tracing::info!(why = %error.report(), "no windows are shown"))
        .ok()
}

async fn embedded(places: &Places) -> Result<Embedded, DaemonError> {
    let config = EmbeddedConfig {
        runtime_dir: places.runtime.clone(),
        launcher: places.program("bulkhead-launch")?,
        agent: places.program("qube-agent")?,
        compositor: places.program("qube-gui-agent").ok(),
        guard: places.program("qube-agent")?,
        bwrap: None,
        tasks_max: QUBE_TASKS_MAX,
    };
    Ok(Embedded::open(config).await?)
}

async fn xen(places: &Places, kernels: &Path) -> Result<Xen, DaemonError> {
    let config = XenConfig {
        kernels: kernels.to_owned(),
        runtime_dir: places.runtime.clone(),
        // Beside the images, so that layers can share their content.
        scratch_dir: places.state.join("scratch"),
        xl: places.program("bulkhead-xl")?,
    };
    Ok(Xen::open(config).await?)
}

/// Serves on the system bus too, where that is wanted and possible.
async fn system_bus(
    args: &Args,
    backend: Arc<dyn Backend>,
    events: Events,
    gate: Gate,
) -> Option<zbus::Connection> {
    if args.no_system_bus || !rustix::process::geteuid().is_root() {
        return None;
    }
    match serve_system_bus(backend, events, gate).await {
        Ok(connection) => {
            tracing::info!("serving on the system bus");
            Some(connection)
        }
        Err(error) => {
            tracing::info!(%error, "not on the system bus");
            None
        }
    }
}

/// The signals that end the daemon.
struct Ends {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Ends {
    fn new() -> Result<Self, DaemonError> {
        let watch = |kind| {
            signal(kind).map_err(|source| DaemonError::Start {
                doing: "watch for signals",
                source,
            })
        };
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
        })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
