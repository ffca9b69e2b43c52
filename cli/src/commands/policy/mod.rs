//! `bulkhead policy`: what policy says, without calling anything.

mod batch;
mod eval;
mod outcome;

use crate::args::{Global, PolicyCommand};
use crate::exit::Exit;
use crate::failure::Failure;

/// Does one of the subcommands.
pub(super) fn policy(global: &Global, command: &PolicyCommand) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::Eval(args) if args.batch => batch::batch(),
        PolicyCommand::Eval(args) => eval::eval(global, args),
    }
}
