//! `bulkhead windows`: shows the windows of qubes where no `bulkhead-desktop` does.

use bulkhead_api::client::{Incoming, Signals};
use bulkhead_api::display;
use bulkhead_api::event::{Event, Topic};
use tokio::signal::unix::{SignalKind, signal};

use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::print_line;
use crate::output::text::line;

/// Stays until it is told to end, and tells what becomes of the clipboard.
pub(crate) async fn windows(client: Client) -> Result<Exit, Failure> {
    let cannot = |error: std::io::Error| Failure::new("cannot watch for signals").because(&error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut signals = Signals::subscribe(&client, &[Topic::Clipboard]).await?;
    let name = display::offer(&client.proxy).await?;
    print_line(&format!(
        "The windows of qubes are shown on {}.",
        line(&name)
    ))?;
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(Exit::Done),
            _ = terminate.recv() => return Ok(Exit::Done),
            incoming = signals.next() => if let Incoming::Event(event) = incoming?
                && let Event::ClipboardChanged(news) = *event
            {
                print_line(&line(&news.to_string()))?;
            },
        }
    }
}
