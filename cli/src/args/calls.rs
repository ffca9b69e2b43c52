//! Commands about what qubes ask of each other, and dom0 of them.

use clap::{Args, Subcommand, ValueEnum};

use super::Json;

/// Where the bytes of a qube go through the filter for terminals.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Replace bytes that act on a terminal, even where output goes elsewhere
    #[arg(short = 't', long, overrides_with = "no_filter_escape_chars")]
    pub(crate) filter_escape_chars: bool,
    /// Pass every byte on, even to a terminal
    #[arg(long)]
    pub(crate) no_filter_escape_chars: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A single word is read by the shell of the qube, so it may hold pipes and \
variables. Several words run as they are. Input, output, errors and the exit code are those of the \
command.\n\n  bulkhead run work -- ls -l\n  bulkhead run work -- 'ls | wc -l'\n  \
bulkhead run --dispvm untrusted -- ./suspicious"
)]
pub(crate) struct RunArgs {
    /// The qube
    #[arg(
        value_name = "QUBE",
        required_unless_present = "dispvm",
        conflicts_with = "dispvm"
    )]
    pub(crate) qube: Option<String>,
    /// The command
    #[arg(value_name = "CMD", last = true, required = true)]
    pub(crate) command: Vec<std::ffi::OsString>,
    /// User in the qube [default: what the qube declares]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Run it in a new disposable of this template, which is gone when the command ends
    /// [default: the declared one]
    #[arg(
        short = 'D',
        long,
        value_name = "BASE",
        num_args = 0..=1,
        default_missing_value = ""
    )]
    pub(crate) dispvm: Option<String>,
    /// Fail if the qube does not run, instead of starting it
    #[arg(short = 'n', long)]
    pub(crate) no_autostart: bool,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Input, output, errors and the exit code are those of the service. The \
caller is dom0, which no policy limits.\n\n  bulkhead call work qubes.GetDate\n  \
bulkhead call work qubes.StartApp+firefox"
)]
pub(crate) struct CallArgs {
    /// The qube; `@dispvm` or `@dispvm:BASE` for a new disposable, gone when the service ends
    #[arg(value_name = "QUBE")]
    pub(crate) qube: String,
    /// The service, with `+` and its argument if it takes one
    #[arg(value_name = "SERVICE")]
    pub(crate) service: String,
    /// User in the qube [default: what the qube declares]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Fail if the qube does not run, instead of starting it
    #[arg(short = 'n', long)]
    pub(crate) no_autostart: bool,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Without a subcommand it shows each waiting call on the terminal and reads the \
answer."
)]
pub(crate) struct AskArgs {
    #[command(subcommand)]
    pub(crate) action: Option<AskAction>,
    /// Stay and ask about every call that comes
    #[arg(short, long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AskAction {
    /// List the calls that wait
    List {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Let a call through, this once
    Allow {
        /// Number of the call
        #[arg(value_name = "ID")]
        id: u64,
        /// Where to [default: the one that the policy names]
        #[arg(short, long, value_name = "TARGET")]
        target: Option<String>,
    },
    /// Refuse a call
    Deny {
        /// Number of the call
        #[arg(value_name = "ID")]
        id: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClipboardCommand {
    /// Show what is carried: from which qube, and how much
    Status(Json),
    /// Wipe it
    Clear(Json),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Decision {
    // It went through.
    Allow,
    // It was refused.
    Deny,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Go on with what is decided from now on
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many, counted from the newest; at most 10000
    #[arg(
        short = 'n',
        long,
        value_name = "COUNT",
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(0..=i64::from(bulkhead_api::call::AUDIT_MAX))
    )]
    pub(crate) last: u32,
    /// Only where this qube is source or target
    #[arg(long, value_name = "QUBE")]
    pub(crate) qube: Option<String>,
    /// Only this service
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    /// Only this outcome
    #[arg(long, value_name = "OUTCOME")]
    pub(crate) decision: Option<Decision>,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}
