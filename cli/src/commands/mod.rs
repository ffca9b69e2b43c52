//! One module per family of commands.

mod apply;
mod ask;
mod audit;
mod data;
mod generations;
mod local;
mod logs;
mod qubes;
mod status;

use std::future::Future;
use std::path::PathBuf;

use crate::args::{Args, Command};
use crate::client::Client;
use crate::error::{CommandError, Exit};
use crate::output::Out;

/// What every command that talks to the daemon has.
#[derive(Debug)]
struct Session {
    socket: Option<PathBuf>,
    out: Out,
}

impl Session {
    async fn client(&self) -> Result<Client, CommandError> {
        Client::connect(self.socket.as_deref()).await
    }
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<Exit, CommandError> {
    let session = Session {
        socket: args.socket,
        out: Out::new(args.color),
    };
    match args.command {
        Command::Check(args) => local::check(session, &args),
        Command::Completions(args) => local::completions(session, &args),
        Command::Man(args) => local::man(session, &args),
        Command::Plan(args) => wait(apply::plan(session, args)),
        Command::Apply(args) => wait(apply::apply(session, args)),
        Command::Rollback(args) => wait(apply::rollback(session, args)),
        Command::Status(args) => wait(status::status(session, args)),
        Command::Generations(args) => wait(generations::generations(session, args)),
        Command::Diff(args) => wait(generations::diff(session, args)),
        Command::Gc(args) => wait(generations::gc(session, args)),
        Command::Ls(args) => wait(qubes::ls(session, args)),
        Command::Info(args) => wait(qubes::info(session, args)),
        Command::Start(args) => wait(qubes::each(session, args.qubes, qubes::Verb::Start)),
        Command::Kill(args) => wait(qubes::each(session, args.qubes, qubes::Verb::Kill)),
        Command::Pause(args) => wait(qubes::each(session, args.qubes, qubes::Verb::Pause)),
        Command::Unpause(args) => wait(qubes::each(session, args.qubes, qubes::Verb::Unpause)),
        Command::Stop(args) => {
            let verb = qubes::Verb::Stop(args.timeout.unwrap_or(0));
            wait(qubes::each(session, args.qubes, verb))
        }
        Command::Restart(args) => {
            let verb = qubes::Verb::Restart(args.timeout.unwrap_or(0));
            wait(qubes::each(session, args.qubes, verb))
        }
        Command::Run(args) => data::run(&session, args),
        Command::Call(args) => data::call(&session, args),
        Command::Console(args) => logs::console(session, &args),
        Command::Logs(args) => logs::logs(session, &args),
        Command::Ask(args) => wait(ask::ask(session, args)),
        Command::Audit(args) => wait(audit::audit(session, args)),
    }
}

/// Runs `work` on this thread alone.
fn wait<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::new("the event loop cannot start").because(&error))?
        .block_on(work)
}
