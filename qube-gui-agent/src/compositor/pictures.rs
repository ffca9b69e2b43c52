//! Pictures on their way between the clipboard and the daemon: part by part, so that windows do not
//! wait for them. Files of applications are read and written on threads of their own.

use std::sync::Arc;

use bulkhead_wire::causes::chain;
use bulkhead_wire::gui::picture::{Arriving, PICTURE_PART_MAX, PictureSize};
use bulkhead_wire::gui::{AgentMessage, WindowId};
use image::ImageFormat;
use smithay::reexports::calloop::channel::{Event, channel};

use super::Agent;
use super::selection::Pasted;
use crate::model::Said;
use crate::picture::{Bitmap, FILE_MAX, PictureError, decode, encode};
use crate::x_selection::{self, XSelectionError};

/// Parts that are said before applications are heard again.
const PARTS_AT_ONCE: usize = 8;

/// A picture that the daemon has not heard all of.
#[derive(Debug)]
struct Sending {
    window: WindowId,
    bitmap: Arc<Bitmap>,
    said: usize,
}

impl Sending {
    fn next(&mut self) -> Option<AgentMessage> {
        let rest = self.bitmap.pixels.get(self.said..)?;
        let part = rest.chunks(PICTURE_PART_MAX).next()?;
        self.said += part.len();
        Some(AgentMessage::PicturePart(part.to_vec()))
    }
}

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    sending: Option<Sending>,
    arriving: Option<(Arriving, Vec<u8>)>,
    /// How often something came from the daemon.
    pastes: u64,
}

impl Pictures {
    /// The daemon is gone.
    pub(super) fn forget(&mut self) {
        self.sending = None;
        self.arriving = None;
    }

    /// Nobody waits any more for what was copied before.
    pub(super) fn stop_sending(&mut self) {
        self.sending = None;
    }

    /// Something else than a picture was pasted: none that is on its way may take its place.
    pub(super) fn is_overtaken(&mut self) {
        self.arriving = None;
        self.pastes += 1;
    }
}

impl Agent {
    /// Works on a thread of its own, and `then` in here. The work may end without a result.
    pub(super) fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(&mut Self, Option<T>) + 'static,
    ) {
        let (sender, receiver) = channel();
        let mut then = Some(then);
        let inserted = self
            .events
            .insert_source(receiver, move |event, (), agent| {
                let done = match event {
                    Event::Msg(done) => Some(done),
                    Event::Closed => None,
                };
                if let Some(then) = then.take() {
                    then(agent, done);
                }
            });
        match inserted {
            Ok(_) => {
                std::thread::spawn(move || {
                    // Nobody is left to tell only where the agent ends.
                    let _ = sender.send(work());
                });
            }
            Err(error) => tracing::error!("a picture is lost: {}", error.error),
        }
    }

    /// The daemon is to have the picture in this file, which was copied as that one.
    pub(super) fn copy_picture(
        &mut self,
        (id, copy): (WindowId, u64),
        format: ImageFormat,
        file: Option<Vec<u8>>,
    ) {
        let Some(file) = file else {
            return self.windows.copied_picture(id, None);
        };
        let decoded = move |agent: &mut Self, done: Option<Result<Bitmap, PictureError>>| {
            if agent.copies != copy {
                return;
            }
            match done {
                Some(Ok(bitmap)) => agent.send_picture(id, Arc::new(bitmap)),
                Some(Err(PictureError::TooLarge)) => agent.windows.copied_picture(id, None),
                Some(Err(error)) => {
                    tracing::warn!("nothing is copied: {}", chain(&error));
                    agent.windows.copied(id, Some(Vec::new()));
                }
                None => agent.windows.copied(id, Some(Vec::new())),
            }
        };
        self.aside(move || decode(format, &file), decoded);
    }

    /// The same of what an application of X has copied.
    pub(super) fn copy_picture_of_x(
        &mut self,
        (id, copy): (WindowId, u64),
        kind: String,
        format: ImageFormat,
    ) {
        let Some(display) = self.x.display() else {
            return self.windows.copied(id, Some(Vec::new()));
        };
        let read = move || x_selection::read(display, x_selection::CLIPBOARD, &kind, FILE_MAX);
        self.aside(read, move |agent, read| {
            if agent.copies != copy {
                return;
            }
            match read {
                Some(Ok(file)) => agent.copy_picture((id, copy), format, Some(file)),
                Some(Err(XSelectionError::TooMuch(_))) => {
                    agent.copy_picture((id, copy), format, None);
                }
                Some(Err(error)) => {
                    tracing::warn!("the clipboard of X cannot be read: {}", chain(&error));
                    agent.windows.copied(id, Some(Vec::new()));
                }
                None => agent.windows.copied(id, Some(Vec::new())),
            }
        });
    }

    pub(super) fn send_picture(&mut self, window: WindowId, bitmap: Arc<Bitmap>) {
        self.windows.copied_picture(window, Some(bitmap.size));
        self.pictures.sending = Some(Sending {
            window,
            bitmap,
            said: 0,
        });
    }

    /// Says more of a picture to a daemon that has heard all so far.
    pub(super) fn send_parts(&mut self) {
        for _ in 0..PARTS_AT_ONCE {
            if self.link.has_waiting() {
                return;
            }
            let Some(sending) = &mut self.pictures.sending else {
                return;
            };
            match sending.next() {
                Some(part) => {
                    let said = (sending.window, Said::Message(part));
                    self.link.send(&[said]);
                    self.link.flush();
                }
                None => self.pictures.sending = None,
            }
        }
        let woken = self.wake_after(std::time::Duration::ZERO, |_| {});
        if let Err(error) = woken {
            tracing::error!("a picture is lost: {}", chain(&error));
            self.pictures.sending = None;
        }
    }

    /// The daemon begins with a picture.
    pub(super) fn picture_begins(&mut self, size: Option<PictureSize>) {
        self.pictures.is_overtaken();
        self.pictures.arriving = size.map(|size| (Arriving::new(size), Vec::new()));
    }

    /// The daemon goes on with it.
    pub(super) fn picture_goes_on(&mut self, part: &[u8]) {
        let Some((arriving, pixels)) = &mut self.pictures.arriving else {
            return;
        };
        match arriving.part(part) {
            Ok(whole) => {
                pixels.extend_from_slice(part);
                if !whole {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!("nothing is pasted: {error}");
                self.pictures.arriving = None;
                return;
            }
        }
        if let Some((arriving, pixels)) = self.pictures.arriving.take() {
            let size = arriving.size();
            self.paste_picture(Bitmap { size, pixels });
        }
    }

    fn paste_picture(&mut self, bitmap: Bitmap) {
        let paste = self.pictures.pastes;
        let work = move || encode(&bitmap).map(|file| (bitmap, file));
        self.aside(work, move |agent, done| match done {
            Some(Ok((bitmap, file))) if agent.pictures.pastes == paste => {
                let (bitmap, file) = (Arc::new(bitmap), file.into());
                agent.offer_pasted(Pasted::Picture { bitmap, file });
            }
            Some(Err(error)) => tracing::warn!("nothing is pasted: {}", chain(&error)),
            Some(Ok(_)) => {}
            None => tracing::warn!("nothing is pasted: a picture was lost"),
        });
    }
}
