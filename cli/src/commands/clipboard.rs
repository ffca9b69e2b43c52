//! `bulkhead clipboard`: what the person carries from the clipboard of one qube to another's.

use std::time::{SystemTime, UNIX_EPOCH};

use bulkhead_api::clipboard::Carried;
use bulkhead_api::from_json;

use crate::args::ClipboardCommand;
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::text::line;
use crate::output::{print_json_text, print_line};

pub(crate) async fn clipboard(client: Client, command: ClipboardCommand) -> Result<Exit, Failure> {
    let (reply, json, told): (_, _, fn(&Carried) -> String) = match command {
        ClipboardCommand::Status(args) => (client.proxy.clipboard().await?, args.json, carried),
        ClipboardCommand::Clear(args) => (client.proxy.clear_clipboard().await?, args.json, wiped),
    };
    if json {
        print_json_text(&reply)?;
        return Ok(Exit::Done);
    }
    let held: Option<Carried> = from_json(&reply)?;
    print_line(&held.as_ref().map_or("Nothing is carried.".to_owned(), told))?;
    Ok(Exit::Done)
}

fn carried(held: &Carried) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let left = held
        .expires
        .saturating_sub(now.map_or(0, |now| now.as_secs()));
    format!(
        "{} from {}; wiped in {left} s unless pasted",
        held.what.of(held.bytes),
        line(&held.source)
    )
}

fn wiped(held: &Carried) -> String {
    format!(
        "Wiped: {} from {}",
        held.what.of(held.bytes),
        line(&held.source)
    )
}
