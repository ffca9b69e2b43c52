//! A call that brings notifications: the process that reads it, and what it says.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bulkhead_wire::bucket::Bucket;
use bulkhead_wire::notify::decoder::{FromDecoder, ToDecoder};
use tokio::process::Child;
use tokio::time::Instant;

use super::{Answers, Board, Call, Source};
use crate::link::Link;

/// Messages of a decoder a second, for long; what comes faster waits. More than are shown, so that
/// a qube hears that it shows too many.
const MESSAGES_PER_SECOND: u32 = 20;
/// Messages at once.
const MESSAGES_BURST: u32 = 100;

/// The line to a decoder.
type Line = Link<ToDecoder, FromDecoder>;

impl Answers for Line {
    fn answer(&self, message: ToDecoder) {
        // Where it cannot be sent the process is gone, or is cut off: the call ends by that.
        if let Err(error) = self.send(&message, Vec::new()) {
            tracing::debug!(%error, "a call that brings notifications is not answered");
        }
    }
}

/// The process that reads what a qube wants notified. It ends with this.
#[derive(Debug)]
pub(crate) struct Decoder {
    pub(crate) child: Child,
    /// To it.
    pub(crate) link: OwnedFd,
    /// What it is told first, with what the qube sends and where it is answered.
    pub(crate) setup: ToDecoder,
    pub(crate) streams: [OwnedFd; 2],
}

/// Whose notifications they are.
#[derive(Debug, Clone)]
pub(crate) struct Whose {
    /// See [`Source`].
    pub(crate) qube: String,
    /// See [`Source`].
    pub(crate) color: String,
    /// See [`Source`].
    pub(crate) share: String,
}

/// Serves a call to its end; an exit code.
///
/// # Errors
/// Where there is no line to the decoder.
pub(crate) async fn serve(board: &Arc<Board>, whose: Whose, decoder: Decoder) -> io::Result<i32> {
    let Decoder {
        mut child,
        link,
        setup,
        streams,
    } = decoder;
    let line = Arc::new(Line::new(link)?);
    line.send(&setup, streams.into())
        .map_err(io::Error::other)?;
    let call = board.open(Source {
        qube: whose.qube.clone(),
        color: whose.color,
        share: whose.share,
        answers: Arc::clone(&line) as Arc<dyn Answers>,
    });
    if let Err(why) = hear(&line, &call).await {
        tracing::warn!(qube = whose.qube, why, "its notifications end");
        child.kill().await?;
    }
    drop(call);
    // It says what was wrong on standard error, which is logged.
    Ok(child.wait().await?.code().unwrap_or(1))
}

async fn hear(line: &Line, call: &Call) -> Result<(), String> {
    let start = Instant::now();
    let mut rate = Bucket::new(MESSAGES_PER_SECOND, MESSAGES_BURST);
    let flush = line.flush();
    tokio::pin!(flush);
    loop {
        let message = tokio::select! {
            received = line.receive() => received.map_err(|error| error.to_string())?,
            // It is gone: what it said last is of no use.
            _ = &mut flush => return Ok(()),
        };
        match message {
            None => return Ok(()),
            Some(FromDecoder::Show {
                sequence,
                notification,
            }) => {
                if !notification.is_fit() {
                    return Err("its decoder sent what is not fit to be shown".to_owned());
                }
                call.show(sequence, notification);
            }
            Some(FromDecoder::Close { id }) => call.close(id),
        }
        tokio::time::sleep(rate.wait(start.elapsed(), 1)).await;
        rate.take(start.elapsed(), 1);
    }
}
