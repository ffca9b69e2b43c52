//! Commands about policy.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Say what policy decides about a call
    Eval(EvalArgs),
    /// Say why policy decides a call as it does, rule by rule
    Explain(ExplainArgs),
    /// List the sources of the policy, or its rules in the order in which they are tried
    List(PolicyListArgs),
    /// Show which decisions change between two generations or descriptions
    Simulate(SimulateArgs),
    /// Find rules that can hardly be meant
    Lint(LintArgs),
    /// Draw who may call whom
    Graph(GraphArgs),
    /// Check what policy is expected to decide
    Test(TestArgs),
    /// Turn policy of the older form, one file for each service, into one text of format 5.0
    Convert(ConvertArgs),
}

/// Which policy is meant.
#[derive(Debug, Args)]
pub(crate) struct From {
    /// The description whose policy is meant, or the folder of its system.ron
    #[arg(long, value_name = "FILE", conflicts_with = "generation")]
    pub(crate) system: Option<PathBuf>,
    /// The generation whose policy is meant; 0 is the current one
    #[arg(long, value_name = "N")]
    pub(crate) generation: Option<u64>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Each rule is compared with the call, from the top, until one matches in every \
column; that one decides. For a call that is asked about, it tells of each choice which rule offers \
it or takes it away. Ends as `policy eval` does.\n\n  \
bulkhead policy explain work qubes.Filecopy vault\n  \
bulkhead policy explain work qubes.OpenURL+mail @dispvm --system examples/desktop"
)]
pub(crate) struct ExplainArgs {
    /// The qube that calls
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// The service, with its argument if it has one: `SERVICE+ARGUMENT`
    #[arg(value_name = "SERVICE")]
    pub(crate) service: String,
    /// The qube that is called, or `@default`, `@dispvm`, `@dispvm:BASE`
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) from: From,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "It is the policy of the current generation, which the daemon follows, unless \
--system or --generation says otherwise.\n\n  bulkhead policy list --effective\n  \
bulkhead policy list --effective --system examples/desktop"
)]
pub(crate) struct PolicyListArgs {
    /// List the rules of all sources, numbered, in the order in which they are tried
    #[arg(long)]
    pub(crate) effective: bool,
    #[command(flatten)]
    pub(crate) from: From,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Every qube is taken to call every service that either policy names, and one \
that neither does, on every target, with all qubes running. Ends with 0 if no decision changes and \
5 if one does.\n\n  bulkhead policy simulate --generation next\n  \
bulkhead policy simulate --from 3 --generation 7\n  \
bulkhead policy simulate --from old/system.ron --system new/system.ron"
)]
pub(crate) struct SimulateArgs {
    /// From this generation or description [default: the current generation]
    #[arg(long, value_name = "N|FILE")]
    pub(crate) from: Option<String>,
    /// To this generation; `next` is what an apply of the description would make
    #[arg(long, value_name = "N|next", default_value = "next")]
    pub(crate) generation: String,
    /// The description that `next` stands for [default: the one that `check` takes]
    #[arg(long, value_name = "FILE")]
    pub(crate) system: Option<PathBuf>,
    /// Only calls of this service
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A warning is what can hardly be meant; a note is worth knowing and may well be \
meant. Ends with 0 if there are no warnings and 1 if there are.\n\n  \
bulkhead policy lint --system examples/desktop"
)]
pub(crate) struct LintArgs {
    #[command(flatten)]
    pub(crate) from: From,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    // For Graphviz.
    Dot,
    // A picture.
    Svg,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Lines are solid where a call is allowed and dashed where the person is asked; \
each has the colour of the caller's label. All qubes count as running.\n\n  \
bulkhead policy graph -o policy.svg\n  \
bulkhead policy graph --service qubes.Filecopy --format dot"
)]
pub(crate) struct GraphArgs {
    /// Only calls of this service
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    /// As what: a picture that any browser shows, or text for Graphviz
    #[arg(long, value_name = "FORMAT", default_value = "svg")]
    pub(crate) format: GraphFormat,
    /// Write it to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) from: From,
}

#[derive(Debug, Args)]
#[command(after_help = "Each line of a file expects a decision:\n\n  \
work -> vault qubes.Filecopy is ask\n  \
personal -> vault qubes.Filecopy is deny\n  \
work -> @default qubes.GetDate is allow to sys-net\n  \
work -> @dispvm qubes.OpenURL+mail is allow\n\n\
Lines that start with `#` say nothing. The expectations that the description names in \
`policy_tests` are also checked by `check` and before anything is planned. Ends with 0 if all hold \
and 1 if not.\n\n  bulkhead policy test\n  \
bulkhead policy test --system examples/desktop extra.expect")]
pub(crate) struct TestArgs {
    /// Files of expectations [default: those of the description]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) from: From,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The text decides as the files do through `!compat-4.0`: rules keep their order, \
included files are put in place, and what files for one argument deny without saying so is written \
down. What cannot be kept is told on standard error.\n\n  \
bulkhead policy convert /etc/qubes-rpc/policy -o policy/50-converted.policy"
)]
pub(crate) struct ConvertArgs {
    /// The folder of the files, or some of its files
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Write the text to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
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
