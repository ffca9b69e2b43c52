//! Applications of X that drag as few do: a source that gives what it drags part by part, and targets
//! that answer nothing. GTK 4.8 cannot be the first: it waits for itself when it drops such a stream.

use std::time::Duration;

use bulkhead_wire::gui::WindowId;
use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ChangeWindowAttributesAux, ClientMessageEvent, ConnectionExt as _,
    CreateWindowAux, EventMask, PropMode, Property, SELECTION_NOTIFY_EVENT, SelectionNotifyEvent,
    SelectionRequestEvent, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;
use x11rb::{COPY_DEPTH_FROM_PARENT, COPY_FROM_PARENT, CURRENT_TIME, NONE};

use crate::desk::{Daemon, Desk, wait_for};
use crate::drag::{By, LEFT, MIDDLE, RIGHT, Told, dropped, drops, takes, tells, window};

/// Windows within windows that the agent looks at.
const DEPTH_MAX: usize = 16;

/// What it drags, and how much of that comes at once.
const TEXT: &str = "text/plain;charset=utf-8";
const PART: usize = 100_000;

x11rb::atom_manager! {
    Atoms:
    AtomsCookie {
        INCR,
        XdndActionCopy,
        XdndAware,
        XdndDrop,
        XdndEnter,
        XdndFinished,
        XdndLeave,
        XdndPosition,
        XdndProxy,
        XdndSelection,
        XdndStatus,
    }
}

/// An application with one window.
struct Client {
    connection: RustConnection,
    atoms: Atoms,
    root: Window,
    window: Window,
}

impl Client {
    #[track_caller]
    fn new(desk: &Desk, (x, y): (i32, i32)) -> Self {
        let (connection, screen) = RustConnection::connect(Some(desk.display())).unwrap();
        let atoms = Atoms::new(&connection).unwrap().reply().unwrap();
        let root = connection.setup().roots[screen].root;
        let window = connection.generate_id().unwrap();
        let events = EventMask::BUTTON_RELEASE | EventMask::BUTTON_PRESS | EventMask::BUTTON_MOTION;
        let attributes = CreateWindowAux::new()
            .event_mask(events)
            .background_pixel(0x00ff_ffff);
        let (x, y) = (x.try_into().unwrap(), y.try_into().unwrap());
        connection
            .create_window(
                COPY_DEPTH_FROM_PARENT,
                window,
                root,
                x,
                y,
                300,
                200,
                0,
                WindowClass::INPUT_OUTPUT,
                COPY_FROM_PARENT,
                &attributes,
            )
            .unwrap();
        connection.map_window(window).unwrap();
        connection.flush().unwrap();
        Self {
            connection,
            atoms,
            root,
            window,
        }
    }

    fn say(&self, to: Window, kind: Atom, [one, two, three, four]: [u32; 4]) {
        let data = [self.window, one, two, three, four];
        let said = ClientMessageEvent::new(32, to, kind, data);
        let sent = self
            .connection
            .send_event(false, to, EventMask::NO_EVENT, said);
        sent.unwrap();
        self.connection.flush().unwrap();
    }

    fn is_aware(&self, window: Window) -> bool {
        let (property, kind) = (self.atoms.XdndAware, AtomEnum::ATOM);
        let asked = self
            .connection
            .get_property(false, window, property, kind, 0, 1);
        asked
            .unwrap()
            .reply()
            .is_ok_and(|reply| reply.value_len == 1)
    }

    /// A window as large as its own in another one.
    #[track_caller]
    fn inside(&self, parent: Window) -> Window {
        let window = self.connection.generate_id().unwrap();
        let attributes = CreateWindowAux::new().background_pixel(0x00ff_ffff);
        self.connection
            .create_window(
                COPY_DEPTH_FROM_PARENT,
                window,
                parent,
                0,
                0,
                300,
                200,
                0,
                WindowClass::INPUT_OUTPUT,
                COPY_FROM_PARENT,
                &attributes,
            )
            .unwrap();
        self.connection.map_window(window).unwrap();
        window
    }

    #[track_caller]
    fn set(&self, window: Window, property: Atom, kind: AtomEnum, value: u32) {
        let mode = PropMode::REPLACE;
        let told = self
            .connection
            .change_property32(mode, window, property, kind, &[value]);
        told.unwrap().check().unwrap();
    }

    fn becomes_aware(&self, window: Window) {
        self.set(window, self.atoms.XdndAware, AtomEnum::ATOM, 5);
    }

    /// Messages that have come since it was asked last.
    fn messages(&self) -> Vec<Atom> {
        let mut all = Vec::new();
        while let Some(event) = self.connection.poll_for_event().unwrap() {
            if let Event::ClientMessage(message) = event {
                all.push(message.type_);
            }
        }
        all
    }
}

/// One that drags a text from its window.
struct Source {
    client: Client,
    text: String,
    kind: Atom,
    is_begun: bool,
    target: Option<Window>,
    accepted: bool,
    /// Where it gives the text, and how much of it is still to come.
    given: Option<(Window, Atom, usize)>,
    parts: usize,
    /// What the target said in the end.
    finished: Option<(u32, Atom)>,
}

impl Source {
    fn new(client: Client, text: String) -> Self {
        let asked = client.connection.intern_atom(false, TEXT.as_bytes());
        let kind = asked.unwrap().reply().unwrap().atom;
        Self {
            client,
            text,
            kind,
            is_begun: false,
            target: None,
            accepted: false,
            given: None,
            parts: 0,
            finished: None,
        }
    }

    /// Does what there is to do.
    fn go_on(&mut self) {
        while let Some(event) = self.client.connection.poll_for_event().unwrap() {
            let atoms = &self.client.atoms;
            match event {
                Event::MotionNotify(event) => self.moved((event.root_x, event.root_y)),
                Event::ButtonRelease(_) => {
                    if let Some(target) = self.target.filter(|_| self.accepted) {
                        self.client
                            .say(target, atoms.XdndDrop, [0, CURRENT_TIME, 0, 0]);
                    }
                }
                Event::SelectionRequest(request) => self.asked(request),
                Event::PropertyNotify(change) if change.state == Property::DELETE => {
                    self.give((change.window, change.atom));
                }
                Event::ClientMessage(message) => {
                    let data = message.data.as_data32();
                    if message.type_ == atoms.XdndStatus {
                        self.accepted = data[1] & 1 != 0;
                    } else if message.type_ == atoms.XdndFinished {
                        self.finished = Some((data[1] & 1, data[2]));
                    }
                }
                _ => {}
            }
        }
    }

    fn moved(&mut self, (x, y): (i16, i16)) {
        let (client, atoms) = (&self.client, &self.client.atoms);
        if !self.is_begun {
            self.is_begun = true;
            let owns = client.connection.set_selection_owner(
                client.window,
                atoms.XdndSelection,
                CURRENT_TIME,
            );
            owns.unwrap();
        }
        let asked = client
            .connection
            .translate_coordinates(client.root, client.root, x, y);
        let over = asked.unwrap().reply().unwrap().child;
        let over = Some(over).filter(|over| *over != NONE && client.is_aware(*over));
        if over != self.target {
            if let Some(old) = self.target {
                client.say(old, atoms.XdndLeave, [0; 4]);
            }
            if let Some(new) = over {
                client.say(new, atoms.XdndEnter, [5 << 24, self.kind, NONE, NONE]);
            }
            (self.target, self.accepted) = (over, false);
        }
        if let Some(target) = self.target {
            let at = u32::from(x.cast_unsigned()) << 16 | u32::from(y.cast_unsigned());
            let action = atoms.XdndActionCopy;
            client.say(target, atoms.XdndPosition, [0, at, CURRENT_TIME, action]);
        }
    }

    fn asked(&mut self, request: SelectionRequestEvent) {
        assert_eq!(request.target, self.kind, "it offers nothing else");
        let connection = &self.client.connection;
        let (window, property) = (request.requestor, request.property);
        let watch = ChangeWindowAttributesAux::new().event_mask(EventMask::PROPERTY_CHANGE);
        connection.change_window_attributes(window, &watch).unwrap();
        let (mode, incr, len) = (PropMode::REPLACE, self.client.atoms.INCR, self.text.len());
        let len_told = [u32::try_from(len).unwrap()];
        let written = connection.change_property32(mode, window, property, incr, &len_told);
        written.unwrap();
        let told = SelectionNotifyEvent {
            response_type: SELECTION_NOTIFY_EVENT,
            sequence: 0,
            time: request.time,
            requestor: window,
            selection: request.selection,
            target: request.target,
            property,
        };
        let sent = connection.send_event(false, window, EventMask::NO_EVENT, told);
        sent.unwrap();
        connection.flush().unwrap();
        self.given = Some((window, property, 0));
    }

    fn give(&mut self, taken: (Window, Atom)) {
        let Some((window, property, given)) = &mut self.given else {
            return;
        };
        if (*window, *property) != taken {
            return;
        }
        let rest = &self.text.as_bytes()[*given..];
        let part = &rest[..rest.len().min(PART)];
        let (connection, mode) = (&self.client.connection, PropMode::REPLACE);
        let written = connection.change_property8(mode, *window, *property, self.kind, part);
        written.unwrap();
        connection.flush().unwrap();
        *given += part.len();
        self.parts += 1;
        if part.is_empty() {
            self.given = None;
        }
    }
}

/// A window of a client, once it is shown.
#[track_caller]
fn shown(daemon: &mut Daemon) -> WindowId {
    let others: Vec<_> = daemon.windows.keys().copied().collect();
    daemon.new_window("a window of X", &others)
}

#[test]
fn what_comes_in_parts_is_dragged_from_x_to_wayland() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let text: String = ('a'..='z').cycle().take(3 * PART + 1).collect();
    let mut source = Source::new(Client::new(&desk, LEFT), text.clone());
    let one = shown(&mut daemon);
    let two = window(&mut desk, &mut daemon, ("Two", ""), By::Wayland, RIGHT);
    daemon.focus(one, true);
    daemon.point(one, MIDDLE.0, MIDDLE.1);
    daemon.button(one, MIDDLE, 1, true);
    let mut far = 0;
    let mut moves = |daemon: &mut Daemon, source: &mut Source, over: WindowId| {
        far = (far + 5) % 60;
        daemon.moves(over, (MIDDLE.0 + far, MIDDLE.1));
        daemon.idle(Duration::from_millis(20));
        source.go_on();
    };
    wait_for("the agent to hear of it", || {
        moves(&mut daemon, &mut source, one);
        let log = desk.agent_log();
        log.contains("something is dragged by X").then_some(())
    });
    daemon.cross(one, (-5, -5), false);
    daemon.cross(two, MIDDLE, true);
    wait_for("it to be accepted", || {
        moves(&mut daemon, &mut source, two);
        source.accepted.then_some(())
    });
    daemon.button(two, MIDDLE, 1, false);
    wait_for("the end", || {
        daemon.idle(Duration::from_millis(20));
        source.go_on();
        source.finished
    });
    let copied = source.client.atoms.XdndActionCopy;
    assert_eq!(source.finished, Some((1, copied)));
    // Three whole ones, the rest, and the end.
    assert_eq!(source.parts, 5);
    assert!(dropped(&desk, "Two").as_deref() == Some(&text));
}

/// Drags from Wayland to a window of X, which answers nothing, and lets go there.
#[track_caller]
fn is_kept_over(desk: &mut Desk, daemon: &mut Daemon, client: &Client) -> Vec<Atom> {
    let two = shown(daemon);
    let one = window(desk, daemon, ("One", "of one"), By::Wayland, LEFT);
    daemon.focus(one, true);
    takes(desk, daemon, (one, "One"));
    drops(daemon, (one, two), Told::ByAll);
    wait_for("the end", || {
        daemon.idle(Duration::from_millis(20));
        tells(desk, "One-kept").then_some(())
    });
    // It is said before the source is told.
    client.messages()
}

#[test]
fn a_target_of_x_that_never_answers_is_left() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let client = Client::new(&desk, RIGHT);
    client.becomes_aware(client.window);
    let heard = is_kept_over(&mut desk, &mut daemon, &client);
    let atoms = &client.atoms;
    assert_eq!(
        heard,
        [atoms.XdndEnter, atoms.XdndPosition, atoms.XdndLeave]
    );
}

#[test]
fn a_window_of_x_that_knows_nothing_of_drags_hears_nothing_of_them() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let client = Client::new(&desk, RIGHT);
    let heard = is_kept_over(&mut desk, &mut daemon, &client);
    assert!(heard.is_empty(), "{heard:?}");
}

/// What a window hears in which so many are, of which only the innermost takes what is dragged.
#[track_caller]
fn heard_within(windows: usize) -> Vec<Atom> {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let client = Client::new(&desk, RIGHT);
    let innermost = (1..windows).fold(client.window, |parent, _| client.inside(parent));
    client.becomes_aware(innermost);
    is_kept_over(&mut desk, &mut daemon, &client)
}

#[test]
fn targets_of_x_are_found_within_others_that_deep_and_no_deeper() {
    assert!(!heard_within(DEPTH_MAX).is_empty());
    assert!(heard_within(DEPTH_MAX + 1).is_empty());
}

#[test]
fn a_proxy_hears_what_is_dragged_over_a_window_of_x() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let client = Client::new(&desk, RIGHT);
    let proxy = Client::new(&desk, (0, 0));
    let known = shown(&mut daemon);
    daemon.until("both windows", |daemon| {
        (daemon.windows.len() == 2 && daemon.windows.contains_key(&known)).then_some(())
    });
    for window in [client.window, proxy.window] {
        client.set(
            window,
            client.atoms.XdndProxy,
            AtomEnum::WINDOW,
            proxy.window,
        );
    }
    proxy.becomes_aware(proxy.window);
    let to = daemon
        .windows
        .iter()
        .find(|(_, window)| (window.place.x(), window.place.y()) == RIGHT);
    let (to, _) = to.expect("the window that has a proxy");
    let to = *to;
    let one = window(&mut desk, &mut daemon, ("One", "of one"), By::Wayland, LEFT);
    daemon.focus(one, true);
    takes(&desk, &mut daemon, (one, "One"));
    drops(&mut daemon, (one, to), Told::ByAll);
    wait_for("the end", || {
        daemon.idle(Duration::from_millis(20));
        tells(&desk, "One-kept").then_some(())
    });
    assert!(client.messages().is_empty());
    assert!(proxy.messages().contains(&proxy.atoms.XdndEnter));
}
