//! Commands about policy.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Say what policy decides about a call
    Eval(EvalArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 0 if policy allows the call, 1 if it denies it and 4 if it asks. \
With --batch it ends with 0 once every line is answered."
)]
pub(crate) struct EvalArgs {
    /// The qube that calls
    #[arg(value_name = "SOURCE", required_unless_present = "batch")]
    pub(crate) source: Option<String>,
    /// The service, with its argument if it has one: `SERVICE+ARGUMENT`
    #[arg(value_name = "SERVICE", required_unless_present = "batch")]
    pub(crate) service: Option<String>,
    /// The qube that is called, or `@default`, `@dispvm`, `@dispvm:BASE`
    #[arg(value_name = "TARGET", required_unless_present = "batch")]
    pub(crate) target: Option<String>,
    /// Judge calls from standard input, one JSON object a line, each with its policy and machine
    #[arg(long, conflicts_with_all = ["source", "json"])]
    pub(crate) batch: bool,
    /// The description whose policy is asked, or the folder of its system.ron
    /// [default: the one that `check` takes]
    #[arg(long, value_name = "FILE", conflicts_with = "batch")]
    pub(crate) system: Option<PathBuf>,
    /// Print the decision as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
