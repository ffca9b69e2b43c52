//! The call that brings icons of the qube's windows: its stream comes from the daemon as it is, and is
//! read here, where the qube's bytes are read anyhow and its windows are known.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use bulkhead_vchan::seqpacket::send_packet;
use bulkhead_wire::bucket::Bucket;
use bulkhead_wire::causes::chain;
use bulkhead_wire::icons::{IconError, IconSize, Reader};
use bulkhead_wire::relay::encode;
use bulkhead_wire::service::Report;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use thiserror::Error;

use crate::icon::{Icon, SHOWN_MAX};
use crate::log::Log;
use crate::windows::{WINDOWS_MAX, Windows};

/// Icons a second, for long; one that is larger than is shown counts for as many as it could be. What
/// comes faster waits: a program that draws its progress into its icon does nobody harm by that.
pub const ICONS_PER_SECOND: u32 = 10;

/// Icons at once: those of all windows, as an agent sends that begins.
#[expect(clippy::cast_possible_truncation, reason = "it is small")]
pub const ICONS_BURST: u32 = WINDOWS_MAX as u32;

/// Icons of windows that there are not, a second, for long. Some windows are gone before their icon
/// has come.
pub const UNKNOWN_PER_SECOND: u32 = 1;

/// The same at once. A qube that sends more makes windows up.
pub const UNKNOWN_BURST: u32 = 100;

/// Bytes that are read at once; that many small icons more than may be are not held back.
const READ_LEN: usize = 4 * 1024;

/// Reads before the display has its turn.
const READS: usize = 16;

/// The exit code of a call that was refused.
const REFUSED: i32 = 1;

/// Why a call is over before the qube has ended it.
#[derive(Debug, Error)]
enum CallError {
    #[error("what the qube sends is no stream of icons")]
    Stream(#[from] IconError),
    #[error("it ended in the middle of an icon")]
    Cut,
    #[error("it brought too many icons of windows that there are not")]
    Unknown,
    #[error("it cannot be read")]
    Read(#[source] io::Error),
}

#[derive(Debug)]
struct Call {
    stream: OwnedFd,
    report: OwnedFd,
    reader: Reader,
    /// It has been told that icons wait.
    was_too_fast: bool,
}

impl Call {
    /// Tells the caller that it is over.
    fn end(self, code: i32) {
        // A caller that has gone needs no exit code.
        if let Ok(packet) = encode(&Report::Ended { code }) {
            let _ = send_packet(&self.report, &packet, &[]);
        }
    }
}

/// The call that there is, if there is one.
#[derive(Debug)]
pub(crate) struct Icons {
    call: Option<Call>,
    rate: Bucket,
    unknown: Bucket,
}

impl Icons {
    pub(crate) fn new() -> Self {
        Self {
            call: None,
            rate: Bucket::new(ICONS_PER_SECOND, ICONS_BURST),
            unknown: Bucket::new(UNKNOWN_PER_SECOND, UNKNOWN_BURST),
        }
    }

    /// Takes another call in the place of the one that there is.
    pub(crate) fn begin(&mut self, stream: OwnedFd, report: OwnedFd, log: &mut Log) {
        let call = Call {
            stream,
            report,
            reader: Reader::new(),
            was_too_fast: false,
        };
        if let Some(before) = self.call.replace(call) {
            log.of_agent("icons come by another call from now on");
            before.end(REFUSED);
        }
    }

    /// What to wait for, where icons may come.
    pub(crate) fn fd(&self, now: Duration) -> Option<BorrowedFd<'_>> {
        let call = self.call.as_ref()?;
        self.rate
            .wait(now, 0)
            .is_zero()
            .then(|| call.stream.as_fd())
    }

    /// How long until icons that wait are taken.
    pub(crate) fn patience(&self, now: Duration) -> Option<Duration> {
        let owed = self.rate.wait(now, 0);
        (self.call.is_some() && !owed.is_zero()).then_some(owed)
    }

    /// Takes icons that have come.
    pub(crate) fn turn(&mut self, now: Duration, windows: &mut Windows, log: &mut Log) {
        let Some(mut call) = self.call.take() else {
            return;
        };
        match self.read(&mut call, now, windows, log) {
            Ok(true) => self.call = Some(call),
            Ok(false) => call.end(0),
            Err(error) => {
                log.of_agent(&format!("a call with icons is refused: {}", chain(&error)));
                call.end(REFUSED);
            }
        }
    }

    /// False at the end.
    fn read(
        &mut self,
        call: &mut Call,
        now: Duration,
        windows: &mut Windows,
        log: &mut Log,
    ) -> Result<bool, CallError> {
        let mut buffer = [0; READ_LEN];
        for _ in 0..READS {
            if !self.rate.wait(now, 0).is_zero() {
                if !std::mem::replace(&mut call.was_too_fast, true) {
                    log.of_agent("icons come too fast, and wait");
                }
                break;
            }
            let length = match recv(&call.stream, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) if call.reader.is_between_icons() => return Ok(false),
                Ok((0, _)) => return Err(CallError::Cut),
                Ok((length, _)) => length,
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(e) => return Err(CallError::Read(e.into())),
            };
            let mut bytes = buffer.get(..length).unwrap_or_default();
            while let Some((window, icon)) = call.reader.next(&mut bytes)? {
                self.rate.take(now, cost(icon.size()));
                if !windows.set_icon(window, Icon::of(&icon)) {
                    if !self.unknown.wait(now, 1).is_zero() {
                        return Err(CallError::Unknown);
                    }
                    self.unknown.take(now, 1);
                }
            }
        }
        Ok(true)
    }
}

/// How many icons of the size that is shown are as much work.
fn cost(size: IconSize) -> u32 {
    (size.width() * size.height()).div_ceil(SHOWN_MAX * SHOWN_MAX)
}
