//! Commands that need no daemon.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

#[derive(Debug, Args)]
#[command(
    after_help = "Without a path it is $XDG_CONFIG_HOME/bulkhead/system.ron if that exists \
and the user is not root, else /etc/bulkhead/system.ron. A folder stands for the system.ron in it."
)]
pub(crate) struct CheckArgs {
    /// The description, or the folder that holds its system.ron
    #[arg(value_name = "SYSTEM")]
    pub(crate) system: Option<PathBuf>,
    /// The same, as `plan` and `apply` spell it
    #[arg(long = "system", value_name = "FILE", conflicts_with = "system")]
    pub(crate) system_option: Option<PathBuf>,
    /// Print what was found as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FmtArgs {
    /// Files to format; a folder stands for every file of the description in it, and `-` formats
    /// standard input to standard output [default: every file of the usual description]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Change nothing; list the files that would change, and end with 1 if there are any
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Only options whose path starts with this (`qubes.*.volumes`)
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Folder to write it to; made if it is not there, and nothing in it is overwritten
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    after_help = "It says nothing that is of one machine alone (serial numbers, hardware \
addresses, names), so it can be sent to others. On Xen it asks bulkheadd for what only Xen knows; \
without Xen it says what the machine would offer to it."
)]
pub(crate) struct HclArgs {
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write a page for every command into this folder, instead of printing the one of
    /// `bulkhead`
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out_dir: Option<PathBuf>,
}
