//! `qube-gui-agent [--socket NAME] [--daemon DOMAIN] [--no-x] [--scale NUMBER] [--session FILE]
//! [-- COMMAND [ARGUMENT...]]`: shows the windows of a qube's applications in another domain.
//!
//! It serves Wayland at `$XDG_RUNTIME_DIR/NAME`, X by an Xwayland that it starts, and is the agent
//! of the GUI protocol for the daemon in `DOMAIN`. Applications of Wayland are shown `NUMBER` times
//! as large as they think, or as the monitors ask for that they are on. When applications can come, `FILE` tells the
//! variables by which they find it, and `COMMAND` is started with them.
//!
//! `qube-gui-agent --notifications` is the notification service of that session instead.

#![forbid(unsafe_code)]

mod compositor;
mod dom0;
mod icons;
mod link;
mod model;
mod monitors;
mod notifications;
mod options;
mod picture;
mod scale;
mod session;
mod x_client;
mod x_selection;
mod xdnd;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode};

use bulkhead_wire::causes::chain;
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing_subscriber::EnvFilter;

use compositor::Setup;
use options::Options;
use session::Variables;

const NAME: &str = "qube-gui-agent";

/// What is logged where `RUST_LOG` does not say.
const LOG_FILTER: &str = "warn,qube_gui_agent=info";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments == [options::NOTIFICATIONS] {
        log();
        eprintln!("{NAME}: {}", notifications::run());
        return ExitCode::FAILURE;
    }
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{NAME}: {}\n{}", chain(&error), options::USAGE);
            return ExitCode::from(2);
        }
    };
    log();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{NAME}: {text}");
            ExitCode::FAILURE
        }
    }
}

fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG_FILTER));
    tracing_subscriber::fmt()
        // They would be told where the log cannot be written either, which would end us.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
}

fn run(options: Options) -> Result<(), String> {
    let stop = stop_signals().map_err(|e| format!("signals cannot be heard: {e}"))?;
    let setup = Setup {
        socket: options.socket.clone(),
        daemon: options.daemon,
        x: options.x,
        scale: options.scale,
    };
    let session = options.session.clone();
    let ready = move |display| {
        let variables = session::variables(&options.socket, display);
        if let Some(file) = &options.session
            && let Err(error) = session::announce(file, &variables)
        {
            tracing::error!("`{}` cannot be written: {error}", file.display());
        }
        start(&options.command, &variables);
    };
    let outcome = compositor::run(&setup, stop, ready);
    if let Some(file) = session {
        // It may never have been written.
        let _ = std::fs::remove_file(file);
    }
    outcome.map_err(|e| chain(&e))
}

/// Can be read when one has come that asks to stop.
fn stop_signals() -> std::io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
    }
    Ok(ours)
}

/// Starts the command that is to run beside us; how it ends is only told.
fn start(command: &[OsString], variables: &Variables) {
    let Some((program, arguments)) = command.split_first() else {
        return;
    };
    let mut command = Command::new(program);
    command.args(arguments).env_remove("DISPLAY");
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let shown = program.display().to_string();
    match command.spawn() {
        Ok(mut child) => {
            // Somebody has to take note of its end.
            std::thread::spawn(move || match child.wait() {
                Ok(status) if status.success() => {}
                Ok(status) => tracing::warn!("`{shown}` ended: {status}"),
                Err(error) => tracing::warn!("`{shown}` was lost: {error}"),
            });
        }
        Err(error) => tracing::error!("`{shown}` cannot be started: {error}"),
    }
}
