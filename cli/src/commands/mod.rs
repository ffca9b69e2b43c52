//! One module for each group of commands; each function does one command.

mod apply;
mod ask;
mod audit;
mod call;
mod check;
mod clipboard;
mod confirm;
mod fmt;
mod generations;
mod hcl;
mod info;
mod init;
mod lifecycle;
mod listener;
mod logs;
mod ls;
mod meta;
mod policy;
mod revert;
mod schema;
mod status;
mod windows;

use crate::args::{Command, Global};
use crate::client::with_client;
use crate::exit::Exit;
use crate::failure::Failure;

/// Does what was typed.
pub(crate) fn run(command: Command, global: &Global) -> Result<Exit, Failure> {
    use lifecycle::Change;
    match command {
        Command::Check(args) => check::check(&args),
        Command::Fmt(args) => fmt::fmt(&args),
        Command::Schema(args) => schema::schema(&args),
        Command::Init(args) => init::init(&args),
        Command::Completions(args) => meta::completions(&args),
        Command::Man(args) => meta::man(&args),
        Command::Hcl(args) => hcl::hcl(global, &args),
        Command::Plan(args) => with_client(global, |client| apply::plan(client, args)),
        Command::Apply(args) => with_client(global, |client| apply::apply(client, args)),
        Command::Rollback(args) => with_client(global, |client| apply::rollback(client, args)),
        Command::Status(args) => with_client(global, |client| status::status(client, args)),
        Command::Generations(args) => with_client(global, |client| generations::list(client, args)),
        Command::Diff(args) => with_client(global, |client| generations::diff(client, args)),
        Command::Gc(args) => with_client(global, |client| generations::gc(client, args)),
        Command::Ls(args) => with_client(global, |client| ls::ls(client, args)),
        Command::Info(args) => with_client(global, |client| info::info(client, args)),
        Command::Start(args) => with_client(global, |client| lifecycle::start(client, args.which)),
        Command::Stop(args) => with_client(global, |client| lifecycle::stop(client, args)),
        Command::Kill(args) => with_client(global, |client| lifecycle::kill(client, args)),
        Command::Pause(args) => lifecycle::simple(global, Change::Pause, args.qubes),
        Command::Unpause(args) => lifecycle::simple(global, Change::Unpause, args.qubes),
        Command::Restart(args) => {
            let change = Change::Restart {
                timeout: args.timeout.unwrap_or(0),
                force: args.force,
            };
            lifecycle::simple(global, change, args.qubes)
        }
        Command::Revert(args) => with_client(global, |client| revert::revert(client, args)),
        Command::Console(args) => with_client(global, |client| logs::console(client, args)),
        Command::Logs(args) => with_client(global, |client| logs::logs(client, args)),
        Command::Run(args) => call::run(global, args),
        Command::Call(args) => call::call(global, args),
        Command::Ask(args) => with_client(global, |client| ask::ask(client, args)),
        Command::Windows => with_client(global, windows::windows),
        Command::Clipboard(command) => {
            with_client(global, |client| clipboard::clipboard(client, command))
        }
        Command::Policy(command) => policy::policy(global, &command),
        Command::Audit(args) => with_client(global, |client| audit::audit(client, args)),
    }
}
