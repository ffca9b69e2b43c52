//! Gives applications of X what is dragged in Wayland, as they ask for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use smithay::reexports::x11rb::NONE;
use smithay::reexports::x11rb::connection::Connection as _;
use smithay::reexports::x11rb::protocol::xproto::{
    Atom, AtomEnum, ChangeWindowAttributesAux, ConnectionExt as _, EventMask, PropMode,
    SELECTION_NOTIFY_EVENT, SelectionNotifyEvent, SelectionRequestEvent, Window,
};
use smithay::reexports::x11rb::rust_connection::RustConnection;
use smithay::reexports::x11rb::wrapper::ConnectionExt as _;

use crate::x_client::XError;

use super::Number;
use super::transfer::Parts;

/// What is asked for or given in parts at the same time, at most.
pub(super) const TRANSFERS_MAX: usize = 16;

/// How long an application may take to give what it drags, or to take the next part of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is on its way to applications of X.
#[derive(Debug, Default)]
pub(super) struct Giving {
    /// Asked for, and not there yet.
    wanted: BTreeMap<Number, (SelectionRequestEvent, Instant)>,
    /// Given in parts, by the window and the property of it.
    parts: BTreeMap<(Window, Atom), (Parts, Atom, Instant)>,
    requests: Number,
}

/// Where an application wants it; old ones leave that to the owner.
fn property_of(request: &SelectionRequestEvent) -> Atom {
    match request.property {
        NONE => request.target,
        property => property,
    }
}

impl Giving {
    /// Remembers what is asked for; none where too much is asked for.
    pub(super) fn want(&mut self, now: Instant, request: SelectionRequestEvent) -> Option<Number> {
        if self.wanted.len() + self.parts.len() >= TRANSFERS_MAX {
            return None;
        }
        self.requests += 1;
        self.wanted.insert(self.requests, (request, now + PATIENCE));
        Some(self.requests)
    }

    /// Gives an application what it asked for, or tells it that there is nothing.
    pub(super) fn give(
        &mut self,
        connection: &RustConnection,
        (request, bytes): (Number, Option<Vec<u8>>),
        incr: Atom,
    ) -> Result<(), XError> {
        let Some((request, _)) = self.wanted.remove(&request) else {
            return Ok(());
        };
        let Some(bytes) = bytes else {
            return answer(connection, &request, NONE);
        };
        let (window, property, kind) = (request.requestor, property_of(&request), request.target);
        match Parts::of(bytes) {
            Ok(parts) => {
                let watch = ChangeWindowAttributesAux::new().event_mask(EventMask::PROPERTY_CHANGE);
                connection.change_window_attributes(window, &watch)?;
                let len = [parts.len()];
                connection.change_property32(PropMode::REPLACE, window, property, incr, &len)?;
                let until = Instant::now() + PATIENCE;
                self.parts.insert((window, property), (parts, kind, until));
            }
            Err(bytes) => {
                connection.change_property8(PropMode::REPLACE, window, property, kind, &bytes)?;
            }
        }
        answer(connection, &request, property)
    }

    /// An application has taken what was in a property: it is given the next part.
    pub(super) fn go_on(
        &mut self,
        connection: &RustConnection,
        (window, property): (Window, Atom),
    ) -> Result<(), XError> {
        let Some((parts, kind, until)) = self.parts.get_mut(&(window, property)) else {
            return Ok(());
        };
        *until = Instant::now() + PATIENCE;
        if let Some(part) = parts.next() {
            connection.change_property8(PropMode::REPLACE, window, property, *kind, part)?;
            connection.flush()?;
            return Ok(());
        }
        self.parts.remove(&(window, property));
        self.unwatch(connection, window)
    }

    fn unwatch(&self, connection: &RustConnection, window: Window) -> Result<(), XError> {
        if !self.parts.keys().any(|(other, _)| *other == window) {
            let watch = ChangeWindowAttributesAux::new().event_mask(EventMask::NO_EVENT);
            connection.change_window_attributes(window, &watch)?;
            connection.flush()?;
        }
        Ok(())
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let wanted = self.wanted.values().map(|(_, until)| *until);
        let parts = self.parts.values().map(|(.., until)| *until);
        wanted.chain(parts).min()
    }

    /// Forgets what took too long.
    pub(super) fn tick(&mut self, connection: &RustConnection, now: Instant) -> Result<(), XError> {
        let late = |until: &Instant| *until <= now;
        for (_, (request, _)) in self.wanted.extract_if(.., |_, (_, until)| late(until)) {
            answer(connection, &request, NONE)?;
        }
        let late: Vec<_> = self
            .parts
            .extract_if(.., |_, (.., until)| late(until))
            .collect();
        for ((window, _), _) in late {
            self.unwatch(connection, window)?;
        }
        Ok(())
    }
}

/// Tells an application which kinds there are.
pub(super) fn tell_targets(
    connection: &RustConnection,
    request: &SelectionRequestEvent,
    targets: &[Atom],
) -> Result<(), XError> {
    let (property, atom) = (property_of(request), AtomEnum::ATOM);
    connection.change_property32(
        PropMode::REPLACE,
        request.requestor,
        property,
        atom,
        targets,
    )?;
    answer(connection, request, property)
}

/// Tells an application where to find what it asked for, or that it is nowhere.
pub(super) fn answer(
    connection: &RustConnection,
    request: &SelectionRequestEvent,
    property: Atom,
) -> Result<(), XError> {
    let told = SelectionNotifyEvent {
        response_type: SELECTION_NOTIFY_EVENT,
        sequence: 0,
        time: request.time,
        requestor: request.requestor,
        selection: request.selection,
        target: request.target,
        property,
    };
    connection.send_event(false, request.requestor, EventMask::NO_EVENT, told)?;
    connection.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> SelectionRequestEvent {
        SelectionRequestEvent {
            response_type: 30,
            sequence: 0,
            time: 0,
            owner: 1,
            requestor: 2,
            selection: 3,
            target: 4,
            property: NONE,
        }
    }

    #[test]
    fn so_many_are_given_at_the_same_time_and_no_more() {
        let (mut giving, now) = (Giving::default(), Instant::now());
        for at in 1..=TRANSFERS_MAX {
            assert_eq!(giving.want(now, request()), Some(at as Number));
        }
        assert_eq!(giving.want(now, request()), None);
        assert_eq!(giving.deadline(), Some(now + PATIENCE));
    }

    #[test]
    fn old_applications_get_it_where_it_is_called_like_its_kind() {
        assert_eq!(property_of(&request()), 4);
        let named = SelectionRequestEvent {
            property: 9,
            ..request()
        };
        assert_eq!(property_of(&named), 9);
    }
}
