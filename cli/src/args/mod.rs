//! What can be typed.

mod calls;
mod change;
mod local;
mod policy;
mod qubes;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use calls::{
    AskAction, AskArgs, AuditArgs, CallArgs, ClipboardCommand, Decision, Filter, RunArgs,
};
pub(crate) use change::{
    ApplyArgs, DiffArgs, GcArgs, PlanArgs, PlanOptions, RollbackArgs, StatusArgs,
};
pub(crate) use local::{
    CheckArgs, CompletionsArgs, FmtArgs, HclArgs, InitArgs, ManArgs, SchemaArgs,
};
pub(crate) use policy::{
    ConvertArgs, EvalArgs, ExplainArgs, From, GraphArgs, GraphFormat, LintArgs, PolicyCommand,
    PolicyListArgs, SimulateArgs, TestArgs,
};
pub(crate) use qubes::{
    ConsoleArgs, InfoArgs, Json, KillArgs, LogsArgs, LsArgs, QubeNames, RestartArgs, RevertArgs,
    SomeQubes, StartArgs, StopArgs,
};

/// Printed below the help of the whole command and in its man page.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0   Done
  1   Refused, or could not be done; nothing changed
  2   The command line makes no sense
  3   Only a part was done
  70  A bug in Bulkhead

`policy eval` ends with 0 if policy allows the call, 1 if it denies it and 4 if it asks.
`policy simulate` ends with 0 if no decision changes and 5 if one does.

`run` and `call` end with the exit code of what ran in the qube; with 125 if it did not come to
that, 126 if policy refused, 255 if the qube went away before the end.";

/// Run a desktop as a set of sealed qubes, from one declared description
#[derive(Debug, Parser)]
#[command(
    name = "bulkhead",
    version,
    propagate_version = false,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = EXIT_CODES
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Socket of the daemon [default: bus in /run/bulkhead or, for an ordinary user,
    /// $XDG_RUNTIME_DIR/bulkhead, whichever is there first]
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "BULKHEAD_SOCKET",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub(crate) socket: Option<PathBuf>,
    /// When to use colour; $NO_COLOR turns it off where this does not say
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        help_heading = "Global options"
    )]
    pub(crate) color: When,
}

/// When to do something that suits a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    // The description.
    /// Check a description and its policy without changing anything
    Check(CheckArgs),
    /// Put the files of a description into their usual form
    Fmt(FmtArgs),
    /// Show every option of a description with type, default and meaning
    Schema(SchemaArgs),
    /// Write a commented description to start from
    Init(InitArgs),

    // The declared system.
    /// Show what an apply would do
    Plan(PlanArgs),
    /// Make the machine what its description says
    Apply(ApplyArgs),
    /// Show how the machine is, and where that is not as declared
    Status(StatusArgs),
    /// List the generations of the machine
    Generations(Json),
    /// Show what is different between two generations
    Diff(DiffArgs),
    /// Go back to an earlier generation
    Rollback(RollbackArgs),
    /// Remove generations, images and volumes that nobody needs
    Gc(GcArgs),

    // The machine below it.
    /// Report what this machine consists of, and what of it will work
    Hcl(HclArgs),

    // Qubes.
    /// List qubes
    Ls(LsArgs),
    /// Show everything about a qube
    Info(InfoArgs),
    /// Start qubes and what they need
    Start(StartArgs),
    /// Ask qubes to stop, and wait
    Stop(StopArgs),
    /// End qubes at once, without asking them
    Kill(KillArgs),
    /// Freeze qubes
    Pause(QubeNames),
    /// Let frozen qubes go on
    Unpause(QubeNames),
    /// Stop qubes and start them again
    Restart(RestartArgs),
    /// Take the root of a template qube back to an earlier revision
    Revert(RevertArgs),
    /// Follow what a qube writes to its console
    Console(ConsoleArgs),
    /// Show the console log of a qube, or the log of the daemon
    Logs(LogsArgs),

    // Calls.
    /// Run a command in a qube
    Run(RunArgs),
    /// Call a service in a qube
    Call(CallArgs),
    /// Answer calls that wait for a decision
    Ask(AskArgs),
    /// Show the windows of qubes on this display, until interrupted
    #[command(
        after_help = "In a desktop session bulkhead-desktop does this; it is for sessions without it."
    )]
    Windows,
    /// Show or wipe what is carried between the clipboards of qubes
    #[command(subcommand)]
    Clipboard(ClipboardCommand),
    /// Show what was decided about calls
    Audit(AuditArgs),
    /// Ask what policy says
    #[command(subcommand)]
    Policy(PolicyCommand),

    // The command itself.
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print or write the manual pages
    Man(ManArgs),
}
