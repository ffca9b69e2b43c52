//! Commands about the declared system.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct PlanOptions {
    /// Description to read instead of the configured one; only for root and the daemon's user
    #[arg(long, value_name = "FILE")]
    pub(crate) system: Option<PathBuf>,
    /// Restart running qubes whose changes need it, instead of leaving them until they start next
    #[arg(long)]
    pub(crate) restart: bool,
    /// Build templates anew instead of keeping the locked images
    #[arg(long)]
    pub(crate) update_templates: bool,
    /// Keep volumes that are no longer declared
    #[arg(long)]
    pub(crate) keep_volumes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) options: PlanOptions,
    /// Print the plan as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "On a terminal it shows the plan and asks. Elsewhere a plan that destroys \
data or stops running qubes needs --yes.\n\nAn apply goes on when this command is ended; \
`bulkhead status` tells how far it is."
)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) options: PlanOptions,
    /// Why, kept with the generation
    #[arg(
        short,
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) message: String,
    /// Give leave to destroy volumes with their data
    #[arg(long, conflicts_with = "keep_volumes")]
    pub(crate) allow_destroy: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// From this generation [default: the one before B]
    #[arg(value_name = "A", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from: Option<u64>,
    /// To this generation [default: the current one]
    #[arg(value_name = "B", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) to: Option<u64>,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The description of that generation becomes a new generation; its own \
files stay as they are. Volumes that it does not declare are kept unless --allow-destroy is given."
)]
pub(crate) struct RollbackArgs {
    /// Generation to go back to [default: the one before the current]
    #[arg(value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) generation: Option<u64>,
    /// Restart running qubes whose changes need it, instead of leaving them until they start next
    #[arg(long)]
    pub(crate) restart: bool,
    /// Why, kept with the new generation
    #[arg(
        short,
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) message: String,
    /// Destroy the volumes that the old generation does not declare
    #[arg(long)]
    pub(crate) allow_destroy: bool,
    /// Only show the plan
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The current generation, the one the machine came up with and the newest \
are always kept."
)]
pub(crate) struct GcArgs {
    /// How many of the newest generations to keep
    #[arg(long, value_name = "COUNT", conflicts_with = "generation")]
    pub(crate) keep: Option<u32>,
    /// Remove exactly this generation; may be given more than once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) generation: Vec<u64>,
    /// Destroy volumes that belong to no declared qube, with their data
    #[arg(long)]
    pub(crate) orphan_volumes: bool,
    /// Only tell what would go
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
