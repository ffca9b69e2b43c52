//! The thread that speaks XDND: hears the X server and the compositor, and does what the state
//! machines say.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smithay::reexports::calloop::channel::SyncSender;
use smithay::reexports::wayland_server::protocol::wl_data_device_manager::DndAction;
use smithay::reexports::x11rb::connection::Connection;
use smithay::reexports::x11rb::protocol::Event;
use smithay::reexports::x11rb::protocol::xfixes::{ConnectionExt as _, SelectionEventMask};
use smithay::reexports::x11rb::protocol::xproto::{
    Atom, AtomEnum, ClientMessageEvent, ConfigureWindowAux, ConnectionExt as _, CreateWindowAux,
    EventMask, PropMode, Property, SelectionRequestEvent, StackMode, Window, WindowClass,
};
use smithay::reexports::x11rb::rust_connection::RustConnection;
use smithay::reexports::x11rb::wrapper::ConnectionExt as _;
use smithay::reexports::x11rb::{COPY_DEPTH_FROM_PARENT, COPY_FROM_PARENT, CURRENT_TIME, NONE};

use super::aim::{Finder, numbers, unless_gone};
use super::kinds::{KIND_LEN_MAX, KINDS_MAX};
use super::message::{KINDS_TOLD, Message, Name, VERSION};
use super::selection::{Giving, answer, tell_targets};
use super::source::{Aim, Point, Source, Step as SourceStep, Word};
use super::target::{Step as TargetStep, Target};
use crate::x_client::{self, XError};

use super::{Command, News, Number, OfferNews, VisitNews, kinds};

/// A window that is as large as X allows covers every screen.
const COVER: u16 = 32_767;

/// Actions that a source names when the person is to be asked, at most.
const ACTIONS_MAX: u32 = 16;

/// Versions of the extension that tells who owns a selection: any.
const XFIXES: (u32, u32) = (1, 0);

mod atoms {
    smithay::reexports::x11rb::atom_manager! {
        pub(in crate::xdnd) Atoms:
        AtomsCookie {
            INCR,
            TARGETS,
            XdndActionAsk,
            XdndActionCopy,
            XdndActionList,
            XdndActionMove,
            XdndAware,
            XdndDrop,
            XdndEnter,
            XdndFinished,
            XdndLeave,
            XdndPosition,
            XdndProxy,
            XdndSelection,
            XdndStatus,
            XdndTypeList,
        }
    }
}
pub(super) use atoms::Atoms;

impl Atoms {
    fn message(&self, name: Name) -> Atom {
        match name {
            Name::Enter => self.XdndEnter,
            Name::Position => self.XdndPosition,
            Name::Leave => self.XdndLeave,
            Name::Drop => self.XdndDrop,
            Name::Status => self.XdndStatus,
            Name::Finished => self.XdndFinished,
        }
    }

    fn name(&self, message: Atom) -> Option<Name> {
        let all = [
            Name::Enter,
            Name::Position,
            Name::Leave,
            Name::Drop,
            Name::Status,
            Name::Finished,
        ];
        all.into_iter().find(|name| self.message(*name) == message)
    }

    /// Which action it is, if Wayland has it too.
    fn known_action(&self, action: Atom) -> Option<DndAction> {
        match action {
            NONE => None,
            atom if atom == self.XdndActionCopy => Some(DndAction::Copy),
            atom if atom == self.XdndActionMove => Some(DndAction::Move),
            atom if atom == self.XdndActionAsk => Some(DndAction::Ask),
            _ => None,
        }
    }

    /// The same, or else a copy, which every application of X can give and take.
    fn action(&self, action: Atom) -> DndAction {
        self.known_action(action).unwrap_or(DndAction::Copy)
    }

    fn of_action(&self, action: DndAction) -> Atom {
        match action {
            DndAction::Copy => self.XdndActionCopy,
            DndAction::Move => self.XdndActionMove,
            DndAction::Ask => self.XdndActionAsk,
            _ => NONE,
        }
    }
}

/// What an application of Wayland drags.
#[derive(Debug)]
struct Offered {
    drag: Number,
    names: Vec<String>,
    /// The numbers of those, once a window of X was entered.
    kinds: Vec<(Atom, String)>,
    actions: DndAction,
}

struct Server {
    connection: RustConnection,
    atoms: Atoms,
    root: Window,
    /// Drags what is dragged in Wayland.
    window: Window,
    /// Covers windows of Wayland for what is dragged in X.
    cover: Window,
    source: Source,
    offered: Option<Offered>,
    giving: Giving,
    target: Target,
    visit: Number,
    tell: SyncSender<News>,
}

/// Serves a display until it, or the compositor, is gone.
pub(super) fn serve(
    display: u32,
    commands: &Receiver<Command>,
    woken: &OwnedFd,
    tell: SyncSender<News>,
) -> Result<(), XError> {
    let mut server = Server::connect(display, tell)?;
    loop {
        while let Some(event) = server.connection.poll_for_event()? {
            server.heard(event)?;
        }
        let mut said = Vec::new();
        loop {
            match commands.try_recv() {
                Ok(command) => said.push(command),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
        let mut said = said.into_iter().peekable();
        while let Some(command) = said.next() {
            // Where the pointer was before does not matter any more.
            let is_past = matches!(command, Command::Point { .. })
                && matches!(said.peek(), Some(Command::Point { .. }));
            if !is_past {
                server.obey(command)?;
            }
        }
        server.tick()?;
        server.connection.flush()?;
        // Some came with answers that were waited for.
        match server.connection.poll_for_event()? {
            Some(event) => server.heard(event)?,
            None => server.wait(woken)?,
        }
    }
}

impl Server {
    fn connect(display: u32, tell: SyncSender<News>) -> Result<Self, XError> {
        let (connection, root) = x_client::connect(display)?;
        let atoms = Atoms::new(&connection)?.reply()?;
        let new = |size: u16| -> Result<Window, XError> {
            let window = connection.generate_id()?;
            let class = WindowClass::INPUT_ONLY;
            let attributes = CreateWindowAux::new().override_redirect(1);
            connection.create_window(
                COPY_DEPTH_FROM_PARENT,
                window,
                root,
                0,
                0,
                size,
                size,
                0,
                class,
                COPY_FROM_PARENT,
                &attributes,
            )?;
            Ok(window)
        };
        let (window, cover) = (new(1)?, new(COVER)?);
        let (property, kind) = (atoms.XdndAware, AtomEnum::ATOM);
        connection.change_property32(PropMode::REPLACE, cover, property, kind, &[VERSION])?;
        connection
            .xfixes_query_version(XFIXES.0, XFIXES.1)?
            .reply()?;
        let owners = SelectionEventMask::SET_SELECTION_OWNER
            | SelectionEventMask::SELECTION_WINDOW_DESTROY
            | SelectionEventMask::SELECTION_CLIENT_CLOSE;
        connection
            .xfixes_select_selection_input(window, atoms.XdndSelection, owners)?
            .check()?;
        Ok(Self {
            connection,
            atoms,
            root,
            window,
            cover,
            source: Source::default(),
            offered: None,
            giving: Giving::default(),
            target: Target::default(),
            visit: 0,
            tell,
        })
    }

    /// Until something is to be heard, or due.
    fn wait(&self, woken: &OwnedFd) -> Result<(), XError> {
        let deadlines = [
            self.source.deadline(),
            self.target.deadline(),
            self.giving.deadline(),
        ];
        let due = deadlines.into_iter().flatten().min();
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = [
            PollFd::new(self.connection.stream(), PollFlags::IN),
            PollFd::new(woken, PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(XError::Wait(error)),
        }
        match rustix::io::read(woken, &mut [0; 8]) {
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(XError::Wait(error)),
        }
    }

    fn tick(&mut self) -> Result<(), XError> {
        let now = Instant::now();
        let steps = self.source.tick(now);
        self.source_steps(steps)?;
        let steps = self.target.tick(now);
        self.target_steps(steps)?;
        self.giving.tick(&self.connection, now)
    }

    fn news(&self, news: News) {
        // Where nobody hears it, commands have ended too.
        let _ = self.tell.send(news);
    }

    fn obey(&mut self, command: Command) -> Result<(), XError> {
        let now = Instant::now();
        match command {
            Command::Offer {
                drag,
                kinds: names,
                actions,
            } => {
                let steps = self.source.cancel();
                self.source_steps(steps)?;
                self.offered = Some(Offered {
                    drag,
                    names: kinds::to_x(&names),
                    kinds: Vec::new(),
                    actions,
                });
                Ok(())
            }
            Command::Point { over, at } => self.point(over, at),
            Command::Drop => {
                let steps = self.source.release(now);
                self.source_steps(steps)
            }
            Command::Cancel => {
                let steps = self.source.cancel();
                self.source_steps(steps)?;
                self.offered = None;
                Ok(())
            }
            Command::Give { request, bytes } => {
                self.giving
                    .give(&self.connection, (request, bytes), self.atoms.INCR)
            }
            Command::Cover(true) => {
                let above = ConfigureWindowAux::new().stack_mode(StackMode::ABOVE);
                self.connection.configure_window(self.cover, &above)?;
                self.connection.map_window(self.cover)?;
                Ok(())
            }
            Command::Cover(false) => {
                self.connection.unmap_window(self.cover)?;
                Ok(())
            }
            Command::Release => {
                self.target.release(now);
                Ok(())
            }
            Command::Answer { visit, action } if visit == self.visit => {
                let steps = self.target.answer(action);
                self.target_steps(steps)
            }
            Command::Finish { visit, action } if visit == self.visit => {
                let steps = self.target.finish(action);
                self.target_steps(steps)
            }
            Command::Answer { .. } | Command::Finish { .. } => Ok(()),
        }
    }

    fn point(&mut self, over: Option<Window>, at: Point) -> Result<(), XError> {
        let finder = Finder {
            connection: &self.connection,
            atoms: &self.atoms,
            root: self.root,
        };
        let aim = match over {
            Some(window) => finder.find(window, at)?,
            None => None,
        };
        if aim.is_some() {
            self.own_selection()?;
        }
        let steps = self.source.point(Instant::now(), aim, at);
        self.source_steps(steps)
    }

    /// Says that we are who drags, before a target could ask.
    fn own_selection(&mut self) -> Result<(), XError> {
        let Some(offered) = self.offered.as_mut().filter(|it| it.kinds.is_empty()) else {
            return Ok(());
        };
        let connection = &self.connection;
        let names = std::mem::take(&mut offered.names);
        let asked = names
            .iter()
            .map(|name| connection.intern_atom(false, name.as_bytes()));
        let asked: Vec<_> = asked.collect::<Result<_, _>>()?;
        for (name, asked) in names.into_iter().zip(asked) {
            offered.kinds.push((asked.reply()?.atom, name));
        }
        let all: Vec<Atom> = offered.kinds.iter().map(|(atom, _)| *atom).collect();
        let actions = [DndAction::Copy, DndAction::Move, DndAction::Ask];
        let actions = actions
            .into_iter()
            .filter(|action| offered.actions.contains(*action));
        let actions: Vec<Atom> = actions.map(|action| self.atoms.of_action(action)).collect();
        let (mode, kind, window) = (PropMode::REPLACE, AtomEnum::ATOM, self.window);
        let list = self.atoms.XdndTypeList;
        connection.change_property32(mode, window, list, kind, &all)?;
        let list = self.atoms.XdndActionList;
        connection.change_property32(mode, window, list, kind, &actions)?;
        connection.set_selection_owner(window, self.atoms.XdndSelection, CURRENT_TIME)?;
        Ok(())
    }

    /// What an application of Wayland says to this target.
    fn message(&self, aim: Aim, word: Word) -> Option<Message> {
        let offered = self.offered.as_ref()?;
        Some(match word {
            Word::Enter => {
                let told = |at: usize| offered.kinds.get(at).map_or(NONE, |(atom, _)| *atom);
                Message::Enter {
                    version: aim.version,
                    more: offered.kinds.len() > KINDS_TOLD,
                    kinds: [told(0), told(1), told(2)],
                }
            }
            Word::Position((x, y)) => Message::Position {
                x,
                y,
                time: CURRENT_TIME,
                action: self.atoms.of_action(wanted(offered.actions)),
            },
            Word::Leave => Message::Leave,
            Word::Drop => Message::Drop { time: CURRENT_TIME },
        })
    }

    fn say(
        &self,
        (window, listener): (Window, Window),
        from: Window,
        said: Message,
    ) -> Result<(), XError> {
        let kind = self.atoms.message(said.name());
        let event = ClientMessageEvent::new(32, window, kind, said.write(from));
        self.connection
            .send_event(false, listener, EventMask::NO_EVENT, event)?;
        self.connection.flush()?;
        Ok(())
    }

    fn source_steps(&mut self, steps: Vec<SourceStep>) -> Result<(), XError> {
        for step in steps {
            let Some(drag) = self.offered.as_ref().map(|offered| offered.drag) else {
                return Ok(());
            };
            let news = match step {
                SourceStep::Say(aim, word) => {
                    if let Some(said) = self.message(aim, word) {
                        self.say((aim.window, aim.listener), self.window, said)?;
                    }
                    continue;
                }
                SourceStep::Status(how) => OfferNews::Status(how),
                SourceStep::Dropped => OfferNews::Dropped,
                SourceStep::Ended(how) => {
                    self.offered = None;
                    OfferNews::Ended(how)
                }
            };
            self.news(News::Offer(drag, news));
        }
        Ok(())
    }

    fn target_steps(&mut self, steps: Vec<TargetStep>) -> Result<(), XError> {
        for step in steps {
            let (to, said) = match step {
                TargetStep::Status(to, how) => (
                    to,
                    Message::Status {
                        accepts: how.is_some(),
                        action: how.map_or(NONE, |how| self.atoms.of_action(how)),
                    },
                ),
                TargetStep::Finished(to, how) => (
                    to,
                    Message::Finished {
                        taken: how.is_some(),
                        action: how.map_or(NONE, |how| self.atoms.of_action(how)),
                    },
                ),
                TargetStep::Moved(action, time) => {
                    self.news(News::Visit(self.visit, VisitNews::Moved(action, time)));
                    continue;
                }
                TargetStep::Left => {
                    self.news(News::Visit(self.visit, VisitNews::Left));
                    continue;
                }
                TargetStep::Dropped(time) => {
                    self.news(News::Visit(self.visit, VisitNews::Dropped(time)));
                    continue;
                }
            };
            self.say((to, to), self.cover, said)?;
        }
        Ok(())
    }

    fn heard(&mut self, event: Event) -> Result<(), XError> {
        match event {
            Event::ClientMessage(event) if event.format == 32 => {
                let Some(name) = self.atoms.name(event.type_) else {
                    return Ok(());
                };
                let (from, said) = Message::read(name, event.data.as_data32());
                self.told(from, said)
            }
            Event::SelectionRequest(request) => self.asked(request),
            Event::PropertyNotify(change) if change.state == Property::DELETE => self
                .giving
                .go_on(&self.connection, (change.window, change.atom)),
            Event::XfixesSelectionNotify(event) if event.owner == NONE => {
                let steps = self.target.end();
                self.target_steps(steps)?;
                self.news(News::Gone);
                Ok(())
            }
            Event::XfixesSelectionNotify(event) if event.owner != self.window => {
                self.news(News::Began);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn told(&mut self, from: Window, said: Message) -> Result<(), XError> {
        let now = Instant::now();
        match said {
            Message::Enter {
                version,
                more,
                kinds,
            } => self.entered(from, version, (more, kinds)),
            Message::Position { time, action, .. } => {
                let action = self.atoms.action(action);
                let steps = self.target.position(from, action, time);
                self.target_steps(steps)
            }
            Message::Leave => {
                let steps = self.target.leave(from);
                self.target_steps(steps)
            }
            Message::Drop { time } => {
                let steps = self.target.drop(now, from, time);
                self.target_steps(steps)
            }
            Message::Status { accepts, action } => {
                let how = accepts.then(|| self.taken(action));
                let steps = self.source.status(now, from, how.flatten());
                self.source_steps(steps)
            }
            Message::Finished { taken, action } => {
                let action = self.atoms.known_action(action);
                let steps = self.source.finished(from, taken, action);
                self.source_steps(steps)
            }
        }
    }

    /// How a target that accepts would take what is dragged: as the source can give it.
    fn taken(&self, action: Atom) -> Option<DndAction> {
        let can = self.offered.as_ref()?.actions;
        let said = self.atoms.action(action);
        if can.contains(said) {
            return Some(said);
        }
        Some(wanted(can)).filter(|action| !action.is_empty())
    }

    fn entered(
        &mut self,
        from: Window,
        version: u32,
        (more, told): (bool, [Atom; KINDS_TOLD]),
    ) -> Result<(), XError> {
        let Some(steps) = self.target.enter(from, version) else {
            return Ok(());
        };
        self.target_steps(steps)?;
        self.visit += 1;
        let told = if more {
            let max = u32::try_from(KINDS_MAX).unwrap_or(u32::MAX);
            numbers(&self.connection, from, self.atoms.XdndTypeList, max)?
        } else {
            told.to_vec()
        };
        let kinds = self.names(&told)?;
        let (list, max) = (self.atoms.XdndActionList, ACTIONS_MAX);
        let actions = numbers(&self.connection, from, list, max)?;
        let actions = actions
            .into_iter()
            .filter_map(|atom| self.atoms.known_action(atom));
        let actions = actions.fold(DndAction::Copy, |all, action| all | action);
        let entered = VisitNews::Entered { kinds, actions };
        self.news(News::Visit(self.visit, entered));
        Ok(())
    }

    /// What kinds are called. Those whose names nobody in Wayland could be told are none.
    fn names(&self, kinds: &[Atom]) -> Result<Vec<String>, XError> {
        let kinds = kinds.iter().filter(|kind| **kind != NONE).take(KINDS_MAX);
        let asked = kinds.map(|kind| self.connection.get_atom_name(*kind));
        let asked: Vec<_> = asked.collect::<Result<_, _>>()?;
        let mut names = Vec::new();
        for asked in asked {
            let name = unless_gone(asked.reply())?.map(|reply| reply.name);
            let name = name.filter(|name| name.len() <= KIND_LEN_MAX);
            names.extend(name.and_then(|name| String::from_utf8(name).ok()));
        }
        Ok(names)
    }

    /// An application of X asks for what is dragged in Wayland.
    fn asked(&mut self, request: SelectionRequestEvent) -> Result<(), XError> {
        let Some(offered) = self
            .offered
            .as_ref()
            .filter(|_| request.selection == self.atoms.XdndSelection)
        else {
            return answer(&self.connection, &request, NONE);
        };
        if request.target == self.atoms.TARGETS {
            let kinds = offered.kinds.iter().map(|(atom, _)| *atom);
            let kinds: Vec<Atom> = kinds.chain([self.atoms.TARGETS]).collect();
            return tell_targets(&self.connection, &request, &kinds);
        }
        let kind = offered
            .kinds
            .iter()
            .find(|(atom, _)| *atom == request.target);
        let wanted = kind.and_then(|(_, name)| {
            let number = self.giving.want(Instant::now(), request)?;
            Some((number, name.clone()))
        });
        match wanted {
            Some((number, kind)) => {
                let request = OfferNews::Wanted {
                    request: number,
                    kind,
                };
                self.news(News::Offer(offered.drag, request));
                Ok(())
            }
            None => answer(&self.connection, &request, NONE),
        }
    }
}

/// What is asked of targets for what can be done so.
fn wanted(actions: DndAction) -> DndAction {
    let all = [DndAction::Copy, DndAction::Move, DndAction::Ask];
    let found = all.into_iter().find(|action| actions.contains(*action));
    found.unwrap_or(DndAction::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copying_is_wanted_where_it_can_be_done() {
        assert_eq!(wanted(DndAction::Copy | DndAction::Move), DndAction::Copy);
        assert_eq!(wanted(DndAction::Move | DndAction::Ask), DndAction::Move);
        assert_eq!(wanted(DndAction::Ask), DndAction::Ask);
        assert_eq!(wanted(DndAction::empty()), DndAction::empty());
    }
}
