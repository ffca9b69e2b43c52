//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Printed below the help.
const EXIT_CODES: &str = "\
Exit codes:
  0   The session ended, or this was told to end
  1   Could not start: no display, no session bus, or another one runs in this session
  2   The command line makes no sense
  70  A bug in Bulkhead";

/// Ask the person at the screen about calls between qubes, and tell them what was refused
///
/// Started by the desktop session. Without it, `bulkhead ask` asks on a terminal.
#[derive(Debug, Parser)]
#[command(name = "bulkhead-desktop", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// Socket of the daemon [default: bus in /run/bulkhead or, for an ordinary user,
    /// $XDG_RUNTIME_DIR/bulkhead, whichever is there first]
    #[arg(
        long,
        value_name = "PATH",
        env = "BULKHEAD_SOCKET",
        hide_env_values = true
    )]
    pub(crate) socket: Option<PathBuf>,
    /// The qube in which this session runs [default: dom0]: prompts are shown for the qubes that
    /// have it as their `guivm`
    #[arg(long, value_name = "QUBE")]
    pub(crate) guivm: Option<String>,
}
