//! What an application of X has selected, read as any other application of X would: `smithay` reads
//! text and nothing else. Waits for the owner, and so belongs on a thread of its own.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smithay::reexports::x11rb::connection::Connection;
use smithay::reexports::x11rb::errors::{
    ConnectError, ConnectionError, ReplyError, ReplyOrIdError,
};
use smithay::reexports::x11rb::protocol::Event;
use smithay::reexports::x11rb::protocol::xproto::{
    Atom, AtomEnum, ConnectionExt as _, CreateWindowAux, EventMask, GetPropertyReply, Property,
    Timestamp, Window, WindowClass,
};
use smithay::reexports::x11rb::rust_connection::RustConnection;
use smithay::reexports::x11rb::{COPY_DEPTH_FROM_PARENT, COPY_FROM_PARENT, CURRENT_TIME};
use thiserror::Error;

/// How long an owner may take for all that it has. Dom0 does not wait longer for its beginning.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Error)]
pub(crate) enum XSelectionError {
    #[error("the X server cannot be reached")]
    Connect(#[from] ConnectError),
    #[error("the X server has left")]
    Connection(#[from] ConnectionError),
    #[error("the X server refused")]
    Refused(#[from] ReplyError),
    #[error("the X server has no number left")]
    Number(#[from] ReplyOrIdError),
    #[error("cannot wait for the X server")]
    Wait(#[source] rustix::io::Errno),
    #[error("the display has no screen")]
    NoScreen,
    #[error("the owner does not give it")]
    NotGiven,
    #[error("the owner does not answer")]
    Silent,
    #[error("it has more than {0} bytes")]
    TooMuch(usize),
}

/// What the clipboard is called.
pub(crate) const CLIPBOARD: &str = "CLIPBOARD";

/// What is called that which is selected, and pasted by the middle button.
pub(crate) const PRIMARY: &str = "PRIMARY";

/// A selection of an X display as this kind, of which there are `max` bytes at most.
pub(crate) fn read(
    display: u32,
    selection: &str,
    kind: &str,
    max: usize,
) -> Result<Vec<u8>, XSelectionError> {
    read_at(display, selection, (kind, CURRENT_TIME), max)
}

/// The same as it was at a time of the server's: some owners have more than one.
pub(crate) fn read_at(
    display: u32,
    selection: &str,
    (kind, time): (&str, Timestamp),
    max: usize,
) -> Result<Vec<u8>, XSelectionError> {
    let (connection, screen) = RustConnection::connect(Some(&format!(":{display}")))?;
    let root = connection.setup().roots.get(screen);
    let root = root.ok_or(XSelectionError::NoScreen)?.root;
    let window = connection.generate_id()?;
    connection.create_window(
        COPY_DEPTH_FROM_PARENT,
        window,
        root,
        0,
        0,
        1,
        1,
        0,
        WindowClass::INPUT_ONLY,
        COPY_FROM_PARENT,
        &CreateWindowAux::new().event_mask(EventMask::PROPERTY_CHANGE),
    )?;
    let atom = |name: &str| -> Result<Atom, XSelectionError> {
        let asked = connection.intern_atom(false, name.as_bytes())?;
        Ok(asked.reply()?.atom)
    };
    let reader = Reader {
        property: atom("BULKHEAD_SELECTION")?,
        incr: atom("INCR")?,
        window,
        max,
        until: Instant::now() + PATIENCE,
        connection: &connection,
    };
    let (selection, target) = (atom(selection)?, atom(kind)?);
    let property = reader.property;
    connection.convert_selection(window, selection, target, property, time)?;
    reader.read()
}

struct Reader<'a> {
    connection: &'a RustConnection,
    window: Window,
    /// Where the owner puts it.
    property: Atom,
    /// Says that it comes in parts.
    incr: Atom,
    max: usize,
    until: Instant,
}

impl Reader<'_> {
    fn read(&self) -> Result<Vec<u8>, XSelectionError> {
        let answered = |event: &Event| match event {
            Event::SelectionNotify(answer) if answer.requestor == self.window => {
                Some(answer.property)
            }
            _ => None,
        };
        if self.wait(answered)? != self.property {
            return Err(XSelectionError::NotGiven);
        }
        let first = self.take(0)?;
        if first.type_ != self.incr {
            return Ok(first.value);
        }
        let mut bytes = Vec::new();
        loop {
            self.wait(|event| match event {
                Event::PropertyNotify(change)
                    if change.window == self.window
                        && change.atom == self.property
                        && change.state == Property::NEW_VALUE =>
                {
                    Some(())
                }
                _ => None,
            })?;
            let part = self.take(bytes.len())?.value;
            if part.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&part);
        }
    }

    /// What the owner has put there; it sees by that it is gone that it may go on.
    fn take(&self, have: usize) -> Result<GetPropertyReply, XSelectionError> {
        let most = self.max.saturating_sub(have);
        let words = u32::try_from(most.div_ceil(4)).unwrap_or(u32::MAX);
        let asked = self.connection.get_property(
            true,
            self.window,
            self.property,
            AtomEnum::ANY,
            0,
            words,
        )?;
        let reply = asked.reply()?;
        if reply.bytes_after > 0 || reply.value.len() > most {
            return Err(XSelectionError::TooMuch(self.max));
        }
        Ok(reply)
    }

    fn wait<T>(&self, is: impl Fn(&Event) -> Option<T>) -> Result<T, XSelectionError> {
        self.connection.flush()?;
        loop {
            while let Some(event) = self.connection.poll_for_event()? {
                if let Some(found) = is(&event) {
                    return Ok(found);
                }
            }
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(XSelectionError::Silent);
            }
            let timeout = Timespec::try_from(left).unwrap_or_default();
            let mut fds = [PollFd::new(self.connection.stream(), PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(XSelectionError::Wait(error)),
            }
        }
    }
}
