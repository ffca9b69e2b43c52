//! What becomes of drags from or to applications of X, as [`crate::xdnd`] tells of them.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use bulkhead_wire::causes::chain;
use rustix::pipe::{PipeFlags, pipe_with};
use smithay::reexports::calloop::channel::{Event, sync_channel};
use smithay::reexports::calloop::generic::Generic;
use smithay::reexports::calloop::{Interest, Mode, PostAction};
use smithay::reexports::wayland_server::protocol::wl_data_device_manager::DndAction;
use smithay::reexports::wayland_server::protocol::wl_data_source::WlDataSource;
use smithay::reexports::x11rb::protocol::xproto::Timestamp;
use smithay::utils::IsAlive;

use super::negotiation::End;
use super::offer::Giver;
use super::{DRAGGED_MAX, Entered, OfX, Over, Source};
use crate::compositor::Agent;
use crate::compositor::selection::Reading;
use crate::compositor::views::Role;
use crate::x_selection;
use crate::xdnd::{self, Command, Handle, NEWS_MAX, News, Number, OfferNews, VisitNews, kinds};

impl Agent {
    /// Hears from now on what is dragged in an X server.
    pub(in crate::compositor) fn watch_x_drags(&mut self, display: u32) {
        let (tell, told) = sync_channel(NEWS_MAX);
        let inserted = self.events.insert_source(told, |event, (), agent| {
            if let Event::Msg(news) = event {
                agent.x_drag_news(news);
            }
        });
        let started = match inserted {
            Ok(_) => Handle::start(display, tell).map_err(std::io::Error::from),
            Err(error) => Err(std::io::Error::other(error.error)),
        };
        match started {
            Ok(handle) => self.dnd.x = Some(handle),
            Err(error) => tracing::error!("nothing can be dragged to or from X: {error}"),
        }
    }

    /// The X server is no more.
    pub(in crate::compositor) fn forget_x_drags(&mut self) {
        self.dnd.x = None;
        let drag = self.dnd.drag.as_ref();
        let is_of_x = drag.is_some_and(|drag| {
            matches!(drag.source, Source::X { .. }) || matches!(drag.over, Over::X)
        });
        if is_of_x {
            self.cancel_drag();
        }
    }

    fn x_drag_news(&mut self, news: News) {
        match news {
            News::Began => self.x_drags(),
            News::Gone => {
                let drag = self.dnd.drag.as_ref();
                if drag.is_some_and(|drag| matches!(drag.source, Source::X { .. })) {
                    self.cancel_drag();
                }
            }
            News::Visit(visit, news) => self.x_visit_news(visit, news),
            News::Offer(number, news) => {
                let drag = self.dnd.drag.as_ref();
                let source = drag.and_then(|drag| match &drag.source {
                    Source::Wayland { source, kinds, .. } if drag.number == number => {
                        Some((source.clone(), kinds.clone()))
                    }
                    _ => None,
                });
                match source {
                    Some(source) => self.x_offer_news(source, news),
                    None => self.refuse(&news),
                }
            }
        }
    }

    /// What is wanted of a drag that is over cannot be had.
    fn refuse(&self, news: &OfferNews) {
        if let OfferNews::Wanted { request, .. } = news {
            let (request, bytes) = (*request, None);
            self.dnd.tell(Command::Give { request, bytes });
        }
    }

    /// An application of X begins to drag, if the person holds a button in one of its windows.
    fn x_drags(&mut self) {
        let view = self.pressed.and_then(|id| self.views.get(&id));
        let in_x = view.is_some_and(|view| matches!(view.role, Role::X11(_)));
        let goes_on = self
            .dnd
            .drag
            .as_ref()
            .is_some_and(|drag| !drag.is_released && matches!(drag.source, Source::X { .. }));
        if !in_x || goes_on {
            return;
        }
        tracing::debug!("something is dragged by X");
        self.begin_drag(Source::X {
            covers: false,
            entered: None,
        });
        self.drag_again();
    }

    fn x_visit_news(&mut self, visit: Number, news: VisitNews) {
        let drag = self.dnd.drag.as_mut();
        let Some((entered, is_released)) = drag.and_then(|drag| match &mut drag.source {
            Source::X { entered, .. } => Some((entered, drag.is_released)),
            Source::Wayland { .. } => None,
        }) else {
            if let VisitNews::Dropped(_) = news {
                let action = None;
                self.dnd.tell(Command::Finish { visit, action });
            }
            return;
        };
        match news {
            VisitNews::Entered { kinds, actions } => {
                *entered = Some(Entered {
                    visit,
                    kinds,
                    actions,
                    requested: None,
                });
            }
            VisitNews::Moved(action, time) => {
                let Some(entered) = entered.as_mut().filter(|it| it.visit == visit) else {
                    return;
                };
                let was = entered.requested.replace(action);
                let actions = entered.actions | action;
                self.dnd.of_x = Some(OfX {
                    visit,
                    kinds: entered.kinds.clone(),
                    time,
                });
                if was.is_none() && !is_released {
                    self.drag_again();
                } else if was != Some(action)
                    && let Some(drag) = &self.dnd.drag
                    && let Over::Wayland(over) = &drag.over
                {
                    over.can(self, actions, action);
                }
            }
            VisitNews::Left => {
                *entered = None;
                if is_released {
                    self.cancel_drag();
                } else if let Some(drag) = &mut self.dnd.drag
                    && let Over::Wayland(over) = std::mem::replace(&mut drag.over, Over::Nothing)
                {
                    over.leave(self);
                }
            }
            VisitNews::Dropped(time) => self.x_dropped(visit, time),
        }
    }

    fn x_dropped(&mut self, visit: Number, time: Timestamp) {
        if let Some(of_x) = self.dnd.of_x.as_mut().filter(|of_x| of_x.visit == visit) {
            of_x.time = time;
        }
        let over = self.dnd.drag.take().map(|drag| drag.over);
        self.dnd.tell(Command::Cover(false));
        let is_taken = match over {
            Some(Over::Wayland(over)) => over.drop(),
            Some(Over::Nothing | Over::X) | None => false,
        };
        if !is_taken {
            Giver::X(visit).tell_end(self, End::NotTaken);
        }
    }

    fn x_offer_news(&mut self, (source, kinds): (WlDataSource, Vec<String>), news: OfferNews) {
        let giver = Giver::Wayland(source.clone());
        match news {
            OfferNews::Status(action) => {
                tracing::debug!("what is dragged can be dropped to X: {action:?}");
                // Which kind it would take, no target of X tells.
                let kind = kinds.first().filter(|_| action.is_some());
                source.target(kind.cloned());
                giver.tell_action(action.unwrap_or(DndAction::empty()));
            }
            OfferNews::Dropped => giver.tell_dropped(),
            OfferNews::Ended(action) => {
                self.dnd.drag = None;
                if let Some(action) = action {
                    giver.tell_action(action);
                }
                giver.tell_end(self, action.map_or(End::NotTaken, End::Taken));
            }
            OfferNews::Wanted { request, kind } => {
                let asked = kinds::asked(&kinds, &kind).map(str::to_owned);
                if let Err(error) = self.give_dragged_to_x(&source, request, asked) {
                    tracing::warn!("an application of X is not given what is dragged: {error}");
                    self.refuse(&OfferNews::Wanted { request, kind });
                }
            }
        }
    }

    /// An application of X wants to read what one of Wayland drags.
    fn give_dragged_to_x(
        &mut self,
        source: &WlDataSource,
        request: Number,
        kind: Option<String>,
    ) -> std::io::Result<()> {
        let Some(kind) = kind.filter(|_| source.alive()) else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        if !self.dnd.carried.take() {
            return Err(std::io::ErrorKind::QuotaExceeded.into());
        }
        let read = self.read_dragged(source, request, kind);
        if read.is_err() {
            self.dnd.carried.give_back();
        }
        read
    }

    fn read_dragged(
        &self,
        source: &WlDataSource,
        request: Number,
        kind: String,
    ) -> std::io::Result<()> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Who writes may count on waiting.
        rustix::fs::fcntl_setfl(&theirs, rustix::fs::OFlags::empty())?;
        source.send(kind, theirs.as_fd());
        drop(theirs);
        let mut reading = Some(Reading::new(DRAGGED_MAX));
        let from = Generic::new(File::from(ours), Interest::READ, Mode::Level);
        let inserted = self.events.insert_source(from, move |_, file, agent| {
            let mut file: &File = file;
            let is_done = reading.as_mut().is_none_or(|it| it.go_on(&mut file));
            if !is_done {
                return Ok(PostAction::Continue);
            }
            agent.dnd.carried.give_back();
            let bytes = reading.take().and_then(Reading::finish);
            agent.dnd.tell(Command::Give { request, bytes });
            Ok(PostAction::Remove)
        });
        inserted
            .map(|_| ())
            .map_err(|e| std::io::Error::other(e.error))
    }

    /// An application of Wayland wants to read what one of X drags.
    pub(super) fn give_dragged_of_x(&mut self, visit: Number, kind: &str, to: OwnedFd) {
        let of_x = self.dnd.of_x.as_ref().filter(|of_x| of_x.visit == visit);
        let asked = of_x.and_then(|of_x| {
            let kind = kinds::asked(&of_x.kinds, kind)?.to_owned();
            Some((kind, of_x.time))
        });
        let (Some((kind, time)), Some(display)) = (asked, self.x.display()) else {
            return;
        };
        if !self.dnd.carried.take() {
            tracing::warn!("an application reads what is dragged too often at once");
            return;
        }
        let read =
            move || x_selection::read_at(display, xdnd::SELECTION, (&kind, time), DRAGGED_MAX);
        self.aside(read, move |agent, read| {
            agent.dnd.carried.give_back();
            match read {
                Some(Ok(bytes)) => agent.write_out(bytes.into(), to),
                // Who reads finds nothing.
                Some(Err(error)) => {
                    tracing::warn!("what is dragged in X cannot be read: {}", chain(&error));
                }
                None => tracing::warn!("what is dragged in X was lost"),
            }
        });
    }
}
