//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  refused, or a mistake in the request; nothing was changed
   2  the command line makes no sense
   3  partly applied: some steps could not be undone, the next apply converges
  70  a bug in Bulkhead
`run` and `call` end with the exit code of what they ran, with 125 where it could not be reached
and with 126 where policy refused it.";

/// A desktop of sealed compartments, from one declared description
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, max_term_width = 100, after_help = EXIT_CODES)]
#[command(disable_help_subcommand = true, infer_subcommands = false)]
pub struct Args {
    /// Socket of the daemon
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "BULKHEAD_SOCKET",
        hide_env_values = true
    )]
    pub socket: Option<PathBuf>,

    /// When to colour
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub color: ColorChoice,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a description and its imports
    Check(Check),
    /// Show what an apply would do
    Plan(Plan),
    /// Make the machine what the description says
    Apply(Apply),
    /// Show how the machine is, and where it differs from the description
    Status(Json),
    /// List generations
    Generations(Json),
    /// Show what differs between two generations
    Diff(Diff),
    /// Go back to an earlier generation
    Rollback(Rollback),
    /// Remove generations and images that nobody needs
    Gc(Gc),

    /// List qubes
    Ls(Ls),
    /// Show everything about a qube
    Info(Info),
    /// Start qubes
    Start(Qubes),
    /// Stop qubes
    Stop(Stop),
    /// End qubes at once
    Kill(Qubes),
    /// Freeze qubes
    Pause(Qubes),
    /// Let frozen qubes go on
    Unpause(Qubes),
    /// Stop and start qubes
    Restart(Stop),
    /// Run a command in a qube
    Run(Run),
    /// Call a service in a qube
    Call(Call),
    /// Watch the console of a qube
    Console(Console),
    /// Print the console log of a qube, or the daemon's log
    Logs(Logs),

    /// Answer calls that wait for you
    Ask(Ask),
    /// Read the log of decisions about calls
    Audit(Audit),

    /// Print completions for a shell
    Completions(Completions),
    /// Write manual pages
    Man(Man),
}

/// JSON or not.
#[derive(Debug, ClapArgs)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `check`.
#[derive(Debug, ClapArgs)]
pub struct Check {
    /// The description [default: the one that the daemon reads]
    pub file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `fmt`.
#[derive(Debug, ClapArgs)]
pub struct Fmt {
    /// Files to format [default: the description that the daemon reads]; `-` is standard input
    pub files: Vec<PathBuf>,
    /// Change nothing; fail if something is not formatted
    #[arg(long)]
    pub check: bool,
}

/// Arguments of `init`.
#[derive(Debug, ClapArgs)]
pub struct Init {
    /// Folder to write `system.ron` to [default: the one that the daemon reads]
    pub folder: Option<PathBuf>,
}

/// How to plan.
#[derive(Debug, ClapArgs)]
pub struct Planning {
    /// Read another description (root only)
    #[arg(long, value_name = "FILE")]
    pub system: Option<PathBuf>,
    /// Restart running qubes whose changes need it
    #[arg(long)]
    pub restart: bool,
    /// Build templates anew
    #[arg(long)]
    pub update_templates: bool,
    /// Keep volumes that are no longer declared
    #[arg(long)]
    pub keep_volumes: bool,
}

/// Arguments of `plan`.
#[derive(Debug, ClapArgs)]
pub struct Plan {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "documented at its type; a comment here would become help"
    )]
    pub planning: Planning,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `apply`.
#[derive(Debug, ClapArgs)]
pub struct Apply {
    /// Why, kept with the generation
    #[arg(
        short,
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub message: String,
    /// Destroy volumes that are no longer declared, with their data
    #[arg(long)]
    pub allow_destroy: bool,
    /// Ask nothing
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "documented at its type; a comment here would become help"
    )]
    pub planning: Planning,
    /// Print JSON; asks nothing
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `diff`.
#[derive(Debug, ClapArgs)]
pub struct Diff {
    /// From this generation [default: the one before TO]
    pub from: Option<u64>,
    /// To this generation [default: the current one]
    pub to: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `rollback`.
#[derive(Debug, ClapArgs)]
pub struct Rollback {
    /// Generation to go back to [default: the one before the current]
    pub generation: Option<u64>,
    /// Only show what it would do
    #[arg(long)]
    pub dry_run: bool,
    /// Destroy volumes that the old generation does not declare, with their data
    #[arg(long)]
    pub allow_destroy: bool,
    /// Restart running qubes whose changes need it
    #[arg(long)]
    pub restart: bool,
    /// Ask nothing
    #[arg(short, long)]
    pub yes: bool,
    /// Print JSON; asks nothing
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `gc`.
#[derive(Debug, ClapArgs)]
pub struct Gc {
    /// Remove exactly these generations
    pub generations: Vec<u64>,
    /// How many of the newest generations to keep
    #[arg(long, value_name = "COUNT", conflicts_with = "generations")]
    pub keep: Option<u32>,
    /// Also destroy volumes that belong to no declared qube, with their data
    #[arg(long)]
    pub orphan_volumes: bool,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `ls`.
#[derive(Debug, ClapArgs)]
pub struct Ls {
    /// Only qubes that run
    #[arg(short, long)]
    pub running: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `info`.
#[derive(Debug, ClapArgs)]
pub struct Info {
    /// The qube
    pub qube: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Some qubes.
#[derive(Debug, ClapArgs)]
pub struct Qubes {
    /// The qubes
    #[arg(required = true)]
    pub qubes: Vec<String>,
}

/// Arguments of `stop` and `restart`.
#[derive(Debug, ClapArgs)]
pub struct Stop {
    /// The qubes
    #[arg(required = true)]
    pub qubes: Vec<String>,
    /// Seconds until a qube that does not stop is killed [default: its own]
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: Option<u32>,
}

/// Streams of `run` and `call`.
#[derive(Debug, ClapArgs)]
pub struct Streams {
    /// User in the qube [default: the qube's own]
    #[arg(short, long)]
    pub user: Option<String>,
    /// Replace what could act on a terminal in the output, also if it goes elsewhere
    #[arg(short = 't', long, overrides_with = "no_filter")]
    pub filter: bool,
    /// Let output through as it is, also to a terminal (unsafe: a qube can then act on it)
    #[arg(long)]
    pub no_filter: bool,
    /// Give the command no input
    #[arg(short = 'n', long)]
    pub no_stdin: bool,
    /// Fail if the qube does not run, instead of starting it
    #[arg(long)]
    pub no_autostart: bool,
}

/// Arguments of `run`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A single COMMAND is a line for the qube's shell; several are one program and its \
    arguments.\nOutput to a terminal is filtered, so that a qube cannot act on it."
)]
pub struct Run {
    /// The qube
    #[arg(required_unless_present = "dispvm", conflicts_with = "dispvm")]
    pub qube: Option<String>,
    /// Run it in a new disposable of this template [default: dom0's], gone when the command ends
    #[arg(short = 'D', long, value_name = "BASE", num_args = 0..=1, default_missing_value = "")]
    pub dispvm: Option<String>,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "documented at its type; a comment here would become help"
    )]
    pub streams: Streams,
    /// The command
    #[arg(last = true, required = true, num_args = 1..)]
    pub command: Vec<OsString>,
}

/// Arguments of `call`.
#[derive(Debug, ClapArgs)]
pub struct Call {
    /// The qube; `@dispvm` or `@dispvm:BASE` for a new disposable
    pub qube: String,
    /// The service, with `+ARGUMENT` if it takes one
    pub service: String,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "documented at its type; a comment here would become help"
    )]
    pub streams: Streams,
}

/// Arguments of `console`.
#[derive(Debug, ClapArgs)]
pub struct Console {
    /// The qube
    pub qube: String,
}

/// Arguments of `logs`.
#[derive(Debug, ClapArgs)]
pub struct Logs {
    /// The qube [default: the daemon itself]
    pub qube: Option<String>,
    /// Go on with what is added
    #[arg(short, long)]
    pub follow: bool,
    /// How many lines from the end
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 200)]
    pub lines: usize,
}

/// Arguments of `ask`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Without a command, shows calls as they come and asks what to do.")]
pub struct Ask {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<AskCommand>,
}

/// What to do with calls that wait.
#[derive(Debug, Subcommand)]
pub enum AskCommand {
    /// List calls that wait
    List(Json),
    /// Answer one
    Answer(AskAnswer),
}

/// Arguments of `ask answer`.
#[derive(Debug, ClapArgs)]
pub struct AskAnswer {
    /// Its number
    pub id: u64,
    /// What to answer
    pub answer: AskChoice,
    /// Where it goes, if not to the default target
    #[arg(long, value_name = "QUBE")]
    pub target: Option<String>,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AskChoice {
    /// Let it through, this once
    Allow,
    /// Refuse it
    Deny,
}

/// Arguments of `audit`.
#[derive(Debug, ClapArgs)]
pub struct Audit {
    /// Go on with what is added
    #[arg(short, long)]
    pub follow: bool,
    /// How many records from the end
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
    pub lines: u32,
    /// Only calls from or to this qube
    #[arg(long)]
    pub qube: Option<String>,
    /// Only calls of this service
    #[arg(long)]
    pub service: Option<String>,
    /// Only this decision
    #[arg(long)]
    pub decision: Option<AskChoice>,
    /// Print JSON, one record on each line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `completions`.
#[derive(Debug, ClapArgs)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, ClapArgs)]
pub struct Man {
    /// Folder to write them to
    pub folder: PathBuf,
}
