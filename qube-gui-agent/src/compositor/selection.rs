//! What is copied and pasted: between applications by themselves, and with other qubes where the
//! daemon says so.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bulkhead_wire::causes::chain;
use bulkhead_wire::gui::{CLIPBOARD_MAX, WindowId};
use image::ImageFormat;
use rustix::pipe::{PipeFlags, pipe_with};
use smithay::input::Seat;
use smithay::reexports::calloop::generic::Generic;
use smithay::reexports::calloop::{Interest, Mode, PostAction};
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{Client, Resource};
use smithay::wayland::selection::data_device::{
    clear_data_device_selection, current_data_device_selection_userdata,
    request_data_device_client_selection, set_data_device_focus, set_data_device_selection,
};
use smithay::wayland::selection::primary_selection::{
    PrimarySelectionHandler, PrimarySelectionState, clear_primary_selection,
    current_primary_selection_userdata, request_primary_client_selection, set_primary_focus,
    set_primary_selection,
};
use smithay::wayland::selection::{SelectionHandler, SelectionSource, SelectionTarget};

use super::Agent;
use crate::picture::{self, Bitmap};
use crate::x_selection;

/// What plain text is called, the best name first.
const TEXT: [&str; 5] = [
    "text/plain;charset=utf-8",
    "UTF8_STRING",
    "text/plain",
    "TEXT",
    "STRING",
];

/// Kinds of what applications of X have that `smithay` reads. Of others it does not find the names
/// again by which it offers them.
const READ_BY_SMITHAY: [&str; 2] = ["text/plain;charset=utf-8", "text/plain"];

/// Bytes that are read at a time.
const READ_LEN: usize = 64 * 1024;

/// A selection that no Wayland application has.
#[derive(Debug, Clone)]
pub(crate) enum Foreign {
    /// The person pasted it from another qube.
    Daemon(Arc<[u8]>),
    /// An application of X has it.
    X,
}

/// Who has the clipboard.
#[derive(Debug, Clone, Default)]
pub(super) enum Owner {
    #[default]
    Nobody,
    /// A Wayland application, which can give these kinds.
    Wayland(Vec<String>),
    /// An application of X, which can give these.
    X(Vec<String>),
    /// The person, from another qube.
    Daemon(Pasted),
}

/// What a person pasted from another qube.
#[derive(Debug, Clone)]
pub(super) enum Pasted {
    Text(Arc<[u8]>),
    /// A picture, and the file that applications are given.
    Picture {
        bitmap: Arc<Bitmap>,
        file: Arc<[u8]>,
    },
}

impl Pasted {
    /// What applications are given.
    fn bytes(&self) -> &Arc<[u8]> {
        match self {
            Self::Text(bytes) | Self::Picture { file: bytes, .. } => bytes,
        }
    }

    /// What that is called.
    fn kinds(&self) -> Vec<String> {
        match self {
            Self::Text(_) => TEXT.map(str::to_owned).to_vec(),
            Self::Picture { .. } => vec![picture::PNG.to_owned()],
        }
    }
}

/// The best name that text goes by among `kinds`.
fn text_kind(kinds: &[String]) -> Option<&str> {
    TEXT.into_iter()
        .find(|text| kinds.iter().any(|kind| kind == text))
}

/// The best name that a picture goes by among `kinds`, and what it is.
fn picture_kind(kinds: &[String]) -> Option<(&'static str, ImageFormat)> {
    let mut known = picture::KINDS.into_iter();
    known.find(|(name, _)| kinds.iter().any(|kind| kind == name))
}

/// What a clipboard is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Text,
    Picture(ImageFormat),
}

/// The best that can be carried of what goes by `kinds`, and its name: text where there is any.
fn wanted(kinds: &[String], pictures: bool) -> Option<(String, Wanted)> {
    if let Some(kind) = text_kind(kinds) {
        return Some((kind.to_owned(), Wanted::Text));
    }
    let (kind, format) = picture_kind(kinds).filter(|_| pictures)?;
    Some((kind.to_owned(), Wanted::Picture(format)))
}

/// What is read of a clipboard so far.
#[derive(Debug)]
pub(super) struct Reading {
    bytes: Vec<u8>,
    max: usize,
}

impl Reading {
    pub(super) fn new(max: usize) -> Self {
        let bytes = Vec::new();
        Self { bytes, max }
    }

    /// Takes what is there; true when that was all, or too much.
    pub(super) fn go_on(&mut self, from: &mut impl Read) -> bool {
        let mut buffer = vec![0; READ_LEN];
        while self.bytes.len() <= self.max {
            match from.read(&mut buffer) {
                Ok(0) => return true,
                Ok(n) => self
                    .bytes
                    .extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!("the clipboard cannot be read: {error}");
                    self.bytes.clear();
                    return true;
                }
            }
        }
        true
    }

    /// None for too much.
    pub(super) fn finish(self) -> Option<Vec<u8>> {
        (self.bytes.len() <= self.max).then_some(self.bytes)
    }
}

impl Agent {
    /// The person copies: the daemon is to have the text in the clipboard, or else the picture, and
    /// nothing if there is neither.
    pub(super) fn copy(&mut self, id: WindowId) {
        // Only the last request counts.
        self.copies += 1;
        self.pictures.stop_sending();
        let pictures = self.link.has_pictures();
        let wanted = match &self.clipboard {
            Owner::Nobody => None,
            Owner::Daemon(Pasted::Text(text)) => {
                let text = text.to_vec();
                return self.windows.copied(id, Some(text));
            }
            Owner::Daemon(Pasted::Picture { bitmap, .. }) if pictures => {
                let bitmap = Arc::clone(bitmap);
                return self.send_picture(id, bitmap);
            }
            Owner::Daemon(Pasted::Picture { .. }) => None,
            Owner::X(kinds) => match wanted(kinds, pictures) {
                Some((kind, Wanted::Picture(format))) => {
                    return self.copy_picture_of_x((id, self.copies), kind, format);
                }
                text => text,
            },
            Owner::Wayland(kinds) => wanted(kinds, pictures),
        };
        let Some((kind, wanted)) = wanted else {
            return self.windows.copied(id, Some(Vec::new()));
        };
        let read = self.read_clipboard(id, kind, wanted);
        if let Err(error) = read {
            tracing::warn!("the clipboard cannot be read: {error}");
            self.windows.copied(id, Some(Vec::new()));
        }
    }

    fn read_clipboard(
        &mut self,
        id: WindowId,
        kind: String,
        wanted: Wanted,
    ) -> std::io::Result<()> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Who writes may count on waiting.
        rustix::fs::fcntl_setfl(&theirs, rustix::fs::OFlags::empty())?;
        self.give(SelectionTarget::Clipboard, kind, theirs)?;
        let max = match wanted {
            Wanted::Text => CLIPBOARD_MAX,
            Wanted::Picture(_) => picture::FILE_MAX,
        };
        let (copy, mut reading) = (self.copies, Some(Reading::new(max)));
        let source = Generic::new(std::fs::File::from(ours), Interest::READ, Mode::Level);
        let inserted = self.events.insert_source(source, move |_, file, agent| {
            if agent.copies != copy {
                return Ok(PostAction::Remove);
            }
            let mut file: &std::fs::File = file;
            if !reading
                .as_mut()
                .is_none_or(|reading| reading.go_on(&mut file))
            {
                return Ok(PostAction::Continue);
            }
            if let Some(reading) = reading.take() {
                match (wanted, reading.finish()) {
                    (Wanted::Text, text) => agent.windows.copied(id, text),
                    (Wanted::Picture(format), file) => {
                        agent.copy_picture((id, copy), format, file);
                    }
                }
            }
            Ok(PostAction::Remove)
        });
        inserted
            .map(|_| ())
            .map_err(|e| std::io::Error::other(e.error))
    }

    /// The person pastes from another qube.
    pub(super) fn paste(&mut self, text: Vec<u8>) {
        self.pictures.is_overtaken();
        self.offer_pasted(Pasted::Text(text.into()));
    }

    /// Has applications know of what was pasted.
    pub(super) fn offer_pasted(&mut self, pasted: Pasted) {
        let (kinds, bytes) = (pasted.kinds(), Arc::clone(pasted.bytes()));
        self.clipboard = Owner::Daemon(pasted);
        let (display, seat) = (self.display.clone(), self.seat.clone());
        set_data_device_selection(&display, &seat, kinds.clone(), Foreign::Daemon(bytes));
        self.offer_to_x(SelectionTarget::Clipboard, Some(kinds));
    }

    /// Has whoever owns a selection write it to `to`.
    fn give(&mut self, which: SelectionTarget, kind: String, to: OwnedFd) -> std::io::Result<()> {
        let from_x = match which {
            SelectionTarget::Clipboard => current_data_device_selection_userdata(&self.seat),
            SelectionTarget::Primary => current_primary_selection_userdata(&self.seat),
        };
        if matches!(from_x.as_deref(), Some(Foreign::X)) {
            drop(from_x);
            return self.give_of_x(which, kind, to);
        }
        drop(from_x);
        match which {
            SelectionTarget::Clipboard => {
                request_data_device_client_selection(&self.seat, kind, to)
                    .map_err(std::io::Error::other)
            }
            SelectionTarget::Primary => request_primary_client_selection(&self.seat, kind, to)
                .map_err(std::io::Error::other),
        }
    }

    /// The same where an application of X owns it.
    fn give_of_x(
        &mut self,
        which: SelectionTarget,
        kind: String,
        to: OwnedFd,
    ) -> std::io::Result<()> {
        let events = self.events.clone();
        let display = self.x.display();
        let (Some(wm), Some(display)) = (self.x.wm(), display) else {
            return Err(ErrorKind::NotConnected.into());
        };
        if READ_BY_SMITHAY.contains(&kind.as_str()) {
            return wm
                .send_selection(which, kind, to, events)
                .map_err(std::io::Error::other);
        }
        let selection = match which {
            SelectionTarget::Clipboard => x_selection::CLIPBOARD,
            SelectionTarget::Primary => x_selection::PRIMARY,
        };
        let read = move || x_selection::read(display, selection, &kind, picture::FILE_MAX);
        self.aside(read, move |agent, read| match read {
            Some(Ok(bytes)) => agent.write_out(bytes.into(), to),
            // Who reads finds nothing.
            Some(Err(error)) => {
                tracing::warn!("a selection of X cannot be read: {}", chain(&error));
            }
            None => tracing::warn!("a selection of X was lost"),
        });
        Ok(())
    }

    fn offer_to_x(&mut self, which: SelectionTarget, kinds: Option<Vec<String>>) {
        if let Some(wm) = self.x.wm()
            && let Err(error) = wm.new_selection(which, kinds)
        {
            tracing::warn!("applications of X cannot be offered a selection: {error}");
        }
    }

    /// An application of X wants to read what it was offered.
    pub(super) fn give_to_x(&mut self, which: SelectionTarget, kind: String, to: OwnedFd) {
        match (&self.clipboard, which) {
            (Owner::Daemon(pasted), SelectionTarget::Clipboard) => {
                self.write_out(Arc::clone(pasted.bytes()), to);
            }
            _ => {
                if let Err(error) = self.give(which, kind, to) {
                    tracing::warn!("an application of X cannot be given a selection: {error}");
                }
            }
        }
    }

    /// An application of X has selected something, or nothing any more.
    pub(super) fn x_selected(&mut self, which: SelectionTarget, kinds: Option<Vec<String>>) {
        let (display, seat) = (self.display.clone(), self.seat.clone());
        match (which, kinds) {
            (SelectionTarget::Clipboard, Some(kinds)) => {
                self.clipboard = Owner::X(kinds.clone());
                set_data_device_selection(&display, &seat, kinds, Foreign::X);
            }
            (SelectionTarget::Primary, Some(kinds)) => {
                set_primary_selection(&display, &seat, kinds, Foreign::X);
            }
            (SelectionTarget::Clipboard, None) => {
                if matches!(self.clipboard, Owner::X(_)) {
                    self.clipboard = Owner::Nobody;
                    clear_data_device_selection(&display, &seat);
                }
            }
            (SelectionTarget::Primary, None) => {
                let current = current_primary_selection_userdata(&seat);
                let is_x = matches!(current.as_deref(), Some(Foreign::X));
                drop(current);
                if is_x {
                    clear_primary_selection(&display, &seat);
                }
            }
        }
    }

    /// Writes to an application as fast as it reads.
    pub(super) fn write_out(&self, text: Arc<[u8]>, to: OwnedFd) {
        let set = rustix::fs::fcntl_getfl(&to)
            .and_then(|flags| rustix::fs::fcntl_setfl(&to, flags | rustix::fs::OFlags::NONBLOCK));
        if let Err(error) = set {
            tracing::warn!("an application cannot be given the clipboard: {error}");
            return;
        }
        let mut written = 0;
        let source = Generic::new(std::fs::File::from(to), Interest::WRITE, Mode::Level);
        let inserted = self.events.insert_source(source, move |_, file, _| {
            let mut file: &std::fs::File = file;
            while let Some(rest) = text.get(written..).filter(|rest| !rest.is_empty()) {
                match file.write(rest) {
                    Ok(n) => written += n,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(PostAction::Continue),
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    // It does not want more.
                    Err(_) => break,
                }
            }
            Ok(PostAction::Remove)
        });
        if let Err(error) = inserted {
            tracing::warn!(
                "an application cannot be given the clipboard: {}",
                error.error
            );
        }
    }

    /// Selections are offered to the application that has the keyboard.
    pub(super) fn offer_selections(&mut self, focused: Option<&WlSurface>) {
        let client: Option<Client> = focused.and_then(Resource::client);
        let (display, seat) = (self.display.clone(), self.seat.clone());
        set_data_device_focus(&display, &seat, client.clone());
        set_primary_focus(&display, &seat, client);
    }
}

impl SelectionHandler for Agent {
    type SelectionUserData = Foreign;

    fn new_selection(
        &mut self,
        which: SelectionTarget,
        source: Option<SelectionSource>,
        _seat: Seat<Self>,
    ) {
        let kinds = source.map(|source| source.mime_types());
        if which == SelectionTarget::Clipboard {
            self.clipboard = kinds.clone().map_or(Owner::Nobody, Owner::Wayland);
        }
        self.offer_to_x(which, kinds);
    }

    fn send_selection(
        &mut self,
        which: SelectionTarget,
        kind: String,
        to: OwnedFd,
        _seat: Seat<Self>,
        from: &Foreign,
    ) {
        match from {
            Foreign::X => {
                if let Err(error) = self.give_of_x(which, kind, to) {
                    tracing::warn!("an application of X does not give its selection: {error}");
                }
            }
            Foreign::Daemon(text) => self.write_out(Arc::clone(text), to),
        }
    }
}

impl PrimarySelectionHandler for Agent {
    fn primary_selection_state(&self) -> &PrimarySelectionState {
        &self.globals.primary_selection
    }
}

smithay::delegate_primary_selection!(Agent);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_by_its_best_name() {
        let kinds = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            text_kind(&kinds(&["STRING", "text/plain"])),
            Some("text/plain")
        );
        assert_eq!(text_kind(&kinds(&["image/png"])), None);
    }

    #[test]
    fn text_is_wanted_more_than_pictures() {
        let kinds = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let best = |names: &[&str], pictures| {
            let wanted = wanted(&kinds(names), pictures);
            wanted.map(|(kind, _)| kind)
        };
        let both = ["image/png", "text/html", "text/plain"];
        assert_eq!(best(&both, true).as_deref(), Some("text/plain"));
        let pictures = ["image/bmp", "image/jpeg", "image/png"];
        assert_eq!(best(&pictures, true).as_deref(), Some("image/png"));
        assert_eq!(best(&pictures, false), None);
        assert_eq!(best(&["image/jpeg"], true), None);
    }

    #[test]
    fn a_clipboard_is_read_up_to_its_limit() {
        let read = |len: usize| {
            let mut reading = Reading::new(CLIPBOARD_MAX);
            assert!(reading.go_on(&mut &vec![b'x'; len][..]));
            reading.finish().map(|text| text.len())
        };
        assert_eq!(read(0), Some(0));
        assert_eq!(read(CLIPBOARD_MAX), Some(CLIPBOARD_MAX));
        assert_eq!(read(CLIPBOARD_MAX + 1), None);
        assert_eq!(read(10 * CLIPBOARD_MAX), None);
    }
}
