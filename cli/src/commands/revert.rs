//! `bulkhead revert`.

use bulkhead_api::from_json;
use bulkhead_api::qube::Reverted;

use crate::args::RevertArgs;
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::text::line;
use crate::output::{print_json_text, print_line};

pub(crate) async fn revert(client: Client, args: RevertArgs) -> Result<Exit, Failure> {
    let revision = args.revision.unwrap_or(0);
    let reply = client.proxy.revert(&args.qube, revision).await?;
    if args.json {
        print_json_text(&reply)?;
    } else {
        let done: Reverted = from_json(&reply)?;
        let (qube, to, revision) = (line(&done.qube), done.to, done.revision);
        print_line(&format!(
            "{qube} is as it was at revision {to}; that is revision {revision} now."
        ))?;
    }
    Ok(Exit::Done)
}
