//! The command line of the daemon.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::calls::{ASK_TIMEOUT, ASK_TIMEOUT_MAX};
use crate::clipboard::{CARRIED_FOR, CARRIED_FOR_MAX};
use crate::runtime::{STARTUP_TIMEOUT, STARTUP_TIMEOUT_MAX};

/// The daemon of Bulkhead: makes the machine what its description says, and keeps it so
#[derive(Debug, Parser)]
#[command(name = "bulkheadd", version, max_term_width = 100)]
pub(super) struct Args {
    /// The description [default: /etc/bulkhead/system.ron, or under XDG_CONFIG_HOME]
    #[arg(long, value_name = "FILE")]
    pub(super) system: Option<PathBuf>,
    /// Folder for what must last [default: /var/lib/bulkhead, or under XDG_STATE_HOME]
    #[arg(long, value_name = "FOLDER")]
    pub(super) state_dir: Option<PathBuf>,
    /// Folder for sockets [default: /run/bulkhead, or under XDG_RUNTIME_DIR]
    #[arg(long, value_name = "FOLDER")]
    pub(super) runtime_dir: Option<PathBuf>,
    /// What qubes run on
    #[arg(long, value_name = "NAME", default_value = "embedded")]
    pub(super) hypervisor: HypervisorChoice,
    /// What to log: a level, or directives such as `info,bulkheadd::calls=debug`
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(super) log: String,
    /// How long a call that policy leaves to the person waits for an answer; then it is refused
    #[arg(long, value_name = "SECONDS", default_value_t = ASK_TIMEOUT.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=ASK_TIMEOUT_MAX.as_secs()))]
    pub(super) ask_timeout: u64,
    /// How long the agent of a qube that starts may take to connect; then the start has failed
    #[arg(long, value_name = "SECONDS", default_value_t = STARTUP_TIMEOUT.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=STARTUP_TIMEOUT_MAX.as_secs()))]
    pub(super) startup_timeout: u64,
    /// How long text that was copied from a qube is carried where nobody pastes it
    #[arg(long, value_name = "SECONDS", default_value_t = CARRIED_FOR.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=CARRIED_FOR_MAX.as_secs()))]
    pub(super) clipboard_timeout: u64,
    /// Stop all qubes when the daemon ends; otherwise they go on and the next daemon takes over
    #[arg(long)]
    pub(super) stop_qubes_on_exit: bool,
    /// Folders of services that qubes may call in dom0, with `:` between them [default:
    /// QREXEC_SERVICE_PATH, or the standard folders]
    #[arg(long, value_name = "FOLDERS")]
    pub(super) service_path: Option<OsString>,
    /// Folders of the configuration of these services [default: QUBES_RPC_CONFIG_PATH, or the
    /// standard folders]
    #[arg(long, value_name = "FOLDERS")]
    pub(super) service_config_path: Option<OsString>,
    /// Folder of the kernels that qubes name, each a folder of its own; Xen only
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/var/lib/qubes/vm-kernels"
    )]
    pub(super) kernels: PathBuf,
    /// Stay off the system bus
    #[arg(long)]
    pub(super) no_system_bus: bool,
}

/// What qubes run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum HypervisorChoice {
    /// Linux namespaces on this machine; not a boundary of Xen's strength
    Embedded,
    /// Xen; this machine's own, and this is its domain 0
    Xen,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_may_take_up_to_an_hour() {
        let longest = STARTUP_TIMEOUT_MAX.as_secs();
        let parsed = |seconds: u64| {
            let seconds = seconds.to_string();
            Args::try_parse_from(["bulkheadd", "--startup-timeout", &seconds])
        };
        assert_eq!(parsed(longest).unwrap().startup_timeout, longest);
        for wrong in [0, longest + 1] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
