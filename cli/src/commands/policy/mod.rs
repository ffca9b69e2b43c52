//! `bulkhead policy`: what policy says, without calling anything.

mod batch;
mod convert;
mod eval;
mod explain;
mod graph;
mod lint;
mod list;
mod outcome;
mod simulate;
mod source;
mod test;

use crate::args::{Global, PolicyCommand};
use crate::exit::Exit;
use crate::failure::Failure;

/// Does one of the subcommands.
pub(super) fn policy(global: &Global, command: &PolicyCommand) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::Eval(args) if args.batch => batch::batch(),
        PolicyCommand::Eval(args) => eval::eval(global, args),
        PolicyCommand::Explain(args) => explain::explain(global, args),
        PolicyCommand::List(args) => list::list(global, args),
        PolicyCommand::Simulate(args) => simulate::simulate(global, args),
        PolicyCommand::Lint(args) => lint::lint(global, args),
        PolicyCommand::Graph(args) => graph::graph(global, args),
        PolicyCommand::Test(args) => test::test(global, args),
        PolicyCommand::Convert(args) => convert::convert(args),
    }
}
