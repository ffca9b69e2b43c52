//! Commands about qubes as such.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Json {
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Only these
    #[arg(value_name = "QUBE")]
    pub(crate) qubes: Vec<String>,
    /// Only those that run
    #[arg(short, long)]
    pub(crate) running: bool,
    /// Only names, one a line
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) names: bool,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// The qube
    #[arg(value_name = "QUBE")]
    pub(crate) qube: String,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Names, or all of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SomeQubes {
    /// The qubes
    #[arg(value_name = "QUBE")]
    pub(crate) qubes: Vec<String>,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "--all leaves out templates, which run only to be maintained.")]
pub(crate) struct StartArgs {
    #[command(flatten)]
    pub(crate) which: SomeQubes,
}

#[derive(Debug, Args)]
#[command(after_help = "--all stops a qube that provides network after those that use it.")]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) which: SomeQubes,
    /// Seconds until a qube that has not stopped is ended [default: what the qube declares]
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeout: Option<u32>,
    /// Stop a qube too while others that run have their network from it
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// The qubes
    #[arg(value_name = "QUBE", required = true)]
    pub(crate) qubes: Vec<String>,
    /// Seconds until a qube that has not stopped is ended [default: what the qube declares]
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeout: Option<u32>,
    /// Restart a qube too while others that run have their network from it
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Of several, one that provides network is ended after those that use it.")]
pub(crate) struct KillArgs {
    /// The qubes
    #[arg(value_name = "QUBE", required = true)]
    pub(crate) qubes: Vec<String>,
    /// End a qube too while others that run have their network from it
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct QubeNames {
    /// The qubes
    #[arg(value_name = "QUBE", required = true)]
    pub(crate) qubes: Vec<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The qube must not run. Qubes based on it start from the same; those that run go \
on with what they have. What the qube wrote since it last stopped in order is lost. `bulkhead info QUBE` \
lists the revisions.\n\n  bulkhead revert tools\n  bulkhead revert tools 3"
)]
pub(crate) struct RevertArgs {
    /// The template qube
    #[arg(value_name = "QUBE")]
    pub(crate) qube: String,
    /// Number of the revision [default: the one before the newest]
    #[arg(value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) revision: Option<u64>,
    /// Print what was done as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "It ends when the qube does, or with Ctrl-C. Nothing typed reaches the qube: \
use `bulkhead run` for that."
)]
pub(crate) struct ConsoleArgs {
    /// The qube
    #[arg(value_name = "QUBE")]
    pub(crate) qube: String,
}

#[derive(Debug, Args)]
#[command(after_help = "What a qube wrote is shown without the bytes that act on a terminal.")]
pub(crate) struct LogsArgs {
    /// The qube; without one it is the daemon's own log
    #[arg(value_name = "QUBE")]
    pub(crate) qube: Option<String>,
    /// Go on with what comes
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) lines: Option<usize>,
}
