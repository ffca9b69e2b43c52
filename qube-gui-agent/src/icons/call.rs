//! The call to dom0 that carries icons. It is made for the first one, kept for those that follow, and
//! made again when it has ended, but not at once.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use bulkhead_wire::gui::WindowId;
use bulkhead_wire::icons::{Icon, SERVICE, encode};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::Shared;
use crate::dom0;

/// Whom to call: policy says who that is.
const TARGET: &str = "dom0";

/// Sends icons as long as the process is there.
pub(super) async fn keep(board: &Shared) {
    let client = dom0::client();
    let mut backoff = dom0::backoff();
    loop {
        let first = board.next().await;
        let begun = Instant::now();
        let ended = serve(&client, first, board).await;
        board.state().send_again();
        match ended {
            Ok(status) if status.code() == Some(dom0::REFUSED) => {
                tracing::warn!("policy does not let this qube have icons of its windows shown");
                board.another_daemon().await;
                backoff.reset();
                continue;
            }
            // Whoever showed windows has gone, or it has refused what it heard and says so in dom0.
            Ok(status) => tracing::info!(%status, "the call that brings icons has ended"),
            Err(error) => tracing::warn!(%error, "icons of windows cannot be sent"),
        }
        tokio::time::sleep(backoff.pause_after(begun.elapsed())).await;
    }
}

/// Makes a call and sends icons until it ends.
async fn serve(
    client: &Path,
    first: (WindowId, Arc<Icon>),
    board: &Shared,
) -> io::Result<ExitStatus> {
    let (mut child, mut input) = dom0::call(client, (TARGET, SERVICE), Stdio::null())?;
    let (mut window, mut icon) = first;
    loop {
        let mut bytes = Vec::new();
        encode(window, &icon, &mut bytes);
        if let Err(error) = input.write_all(&bytes).await {
            tracing::debug!(%error, "dom0 does not read icons any more");
            drop(input);
            return child.wait().await;
        }
        (window, icon) = tokio::select! {
            status = child.wait() => return status,
            next = board.next() => next,
        };
    }
}
