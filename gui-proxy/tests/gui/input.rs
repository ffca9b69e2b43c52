//! Keys, buttons and the pointer.

use bulkhead_wire::gui::{AgentMessage, DaemonMessage, Input, KEYMAP_LEN};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    ClientMessageEvent, ConfigureWindowAux, ConnectionExt as _, EventMask, GrabMode, GrabStatus,
};

use crate::agent::{Agent, size};
use crate::screen::Screen;
use crate::session::Session;
use crate::windows::pattern;

/// Keys of letters, as X numbers them.
const A: u8 = 38;
const S: u8 = 39;

const NO_KEYS: DaemonMessage = DaemonMessage::Keymap([0; KEYMAP_LEN]);

const FOCUS_IN: DaemonMessage = DaemonMessage::Focus {
    here: true,
    mode: 0,
    detail: 0,
};

const FOCUS_OUT: DaemonMessage = DaemonMessage::Focus {
    here: false,
    mode: 0,
    detail: 0,
};

fn next(agent: &mut Agent) -> DaemonMessage {
    agent.until("a message", |_, message| Some(message.clone()))
}

/// The next key that comes, and whether it goes down.
fn next_key(agent: &mut Agent) -> (u32, bool) {
    agent.until("a key", |_, message| match message {
        DaemonMessage::Key { down, keycode, .. } => Some((*keycode, *down)),
        _ => None,
    })
}

#[test]
fn keys_come_to_the_window_that_has_the_keyboard() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_proxy, mut agent) = session.qube("work", 0xcc00);
    screen.point(900, 900);
    agent.window(1, (100, 100), size(300, 200), pattern);
    agent.window(2, (500, 100), size(300, 200), pattern);
    let windows = screen.must_have(2);
    agent.sync();
    // Nobody has it.
    screen.key(S, true);
    screen.key(S, false);
    screen.focus(windows[1]);
    // No key is down, whatever else may be.
    assert_eq!(next(&mut agent), NO_KEYS);
    assert_eq!(next(&mut agent), FOCUS_IN);
    screen.key(A, true);
    screen.key(A, false);
    for down in [true, false] {
        let (id, keycode, is_down, input) = agent.until("a key", |id, message| match message {
            DaemonMessage::Key {
                down,
                keycode,
                input,
            } => Some((id, *keycode, *down, *input)),
            _ => None,
        });
        assert_eq!((id, keycode, is_down), (2, A.into(), down));
        // From the corner of the content.
        assert_eq!((input.x, input.y), (400, 800));
    }
}

#[test]
fn no_key_stays_down_and_none_is_told_that_was_typed_elsewhere() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_one, mut work) = session.qube("work", 0xcc00);
    let (_two, mut vault) = session.qube("vault", 0xcc_0000);
    screen.point(900, 900);
    work.window(1, (100, 100), size(300, 200), pattern);
    work.sync();
    let first = screen.must_have(1)[0];
    vault.window(1, (500, 100), size(300, 200), pattern);
    vault.sync();
    let second = screen.must_have(2)[1];
    screen.focus(first);
    assert_eq!(next(&mut work), NO_KEYS);
    assert_eq!(next(&mut work), FOCUS_IN);
    screen.key(A, true);
    assert_eq!(next_key(&mut work), (A.into(), true));
    screen.focus(second);
    assert_eq!(next(&mut work), NO_KEYS);
    assert_eq!(next(&mut work), FOCUS_OUT);
    // Although the key is down still.
    assert_eq!(next(&mut vault), NO_KEYS);
    assert_eq!(next(&mut vault), FOCUS_IN);
    screen.key(A, false);
    screen.key(S, true);
    assert_eq!(next_key(&mut vault), (S.into(), true));
    screen.key(S, false);
    screen.focus(first);
    assert_eq!(next(&mut work), NO_KEYS);
    assert_eq!(next(&mut work), FOCUS_IN);
    screen.key(S, true);
    assert_eq!(next_key(&mut work), (S.into(), true));
}

#[test]
fn who_grabs_the_keyboard_takes_the_keys_with_it() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_proxy, mut work) = session.qube("work", 0xcc00);
    screen.point(900, 900);
    work.window(1, (100, 100), size(300, 200), pattern);
    work.sync();
    screen.focus(screen.must_have(1)[0]);
    assert_eq!(next(&mut work), NO_KEYS);
    assert_eq!(next(&mut work), FOCUS_IN);
    screen.key(A, true);
    assert_eq!(next_key(&mut work), (A.into(), true));
    let mode = GrabMode::ASYNC;
    let time = x11rb::CURRENT_TIME;
    let grab = screen
        .connection
        .grab_keyboard(false, screen.root, time, mode, mode);
    let grabbed = grab.expect("a grab").reply().expect("a grab").status;
    assert_eq!(grabbed, GrabStatus::SUCCESS);
    assert_eq!(next(&mut work), NO_KEYS);
    screen.key(A, false);
    screen.key(S, true);
    screen.key(S, false);
    let ungrab = screen.connection.ungrab_keyboard(time);
    ungrab.expect("a grab").check().expect("a grab");
    // It kept the focus all the time, so that is not told again.
    assert_eq!(next(&mut work), NO_KEYS);
    screen.key(A, true);
    assert_eq!(next_key(&mut work), (A.into(), true));
}

#[test]
fn the_pointer_is_told_from_the_contents_corner() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_proxy, mut agent) = session.qube("work", 0xcc00);
    screen.point(900, 900);
    agent.window(5, (100, 100), size(300, 200), pattern);
    screen.must_have(1);
    agent.sync();
    screen.point(110, 120);
    assert_eq!(next(&mut agent), NO_KEYS);
    match next(&mut agent) {
        DaemonMessage::Crossing(crossing) => {
            let Input { x, y, .. } = crossing.input;
            assert_eq!((crossing.here, x, y), (true, 10, 20));
        }
        other => panic!("{other:?}"),
    }
    screen.button(1, true);
    screen.point(90, 95);
    screen.button(1, false);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let at = |input: &Input| (input.x, input.y);
        seen.extend(agent.until("the pointer", |_, message| match message {
            DaemonMessage::Button {
                down,
                input,
                button,
            } => Some(Some((*button, *down, at(input)))),
            // It goes on while the button is held.
            DaemonMessage::Motion { input, .. } if at(input) == (-10, -5) => {
                Some(Some((0, true, at(input))))
            }
            _ => Some(None),
        }));
    }
    assert_eq!(
        seen,
        [
            (1, true, (10, 20)),
            (0, true, (-10, -5)),
            (1, false, (-10, -5))
        ]
    );
    agent.until("the end of it", |_, message| match message {
        DaemonMessage::Crossing(crossing) if !crossing.here => Some(()),
        _ => None,
    });
    // The frame is nothing to the qube.
    screen.point(102, 90);
    screen.button(1, true);
    screen.button(1, false);
    screen.point(150, 150);
    screen.button(3, true);
    let button = agent.until("a button", |_, message| match message {
        DaemonMessage::Button { button, .. } => Some(*button),
        _ => None,
    });
    assert_eq!(button, 3);
}

/// What an agent hears of the pointer and of buttons.
#[derive(Debug, PartialEq)]
enum Heard {
    Comes(u32),
    Leaves(u32),
    Moves(u32, (i32, i32)),
    Up(u32, (i32, i32)),
}

/// The next that is heard, and all before it, as soon as one is the last.
fn heard_until(agent: &mut Agent, last: &Heard) -> Vec<Heard> {
    let mut all = Vec::new();
    while all.last() != Some(last) {
        let at = |input: &Input| (input.x, input.y);
        all.push(agent.until("the pointer", |id, message| match message {
            DaemonMessage::Crossing(crossing) if crossing.here => Some(Heard::Comes(id)),
            DaemonMessage::Crossing(_) => Some(Heard::Leaves(id)),
            DaemonMessage::Motion { input, .. } => Some(Heard::Moves(id, at(input))),
            DaemonMessage::Button { down, input, .. } if !down => Some(Heard::Up(id, at(input))),
            _ => None,
        }));
    }
    all
}

#[test]
fn while_a_button_is_held_the_window_that_the_pointer_is_over_hears_of_it() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_one, mut work) = session.qube("work", 0xcc00);
    let (_two, mut vault) = session.qube("vault", 0xcc_0000);
    screen.point(900, 900);
    work.window(1, (100, 100), size(200, 200), pattern);
    work.window(2, (400, 100), size(200, 200), pattern);
    screen.must_have(2);
    work.sync();
    // It covers half of the other qube's second window.
    vault.window(7, (500, 120), size(200, 300), pattern);
    screen.must_have(3);
    vault.sync();
    screen.point(110, 110);
    screen.button(1, true);
    let dragged = [(450, 150), (550, 150), (450, 160)];
    for (x, y) in dragged {
        screen.point(x, y);
    }
    // On the strip of the second window's frame.
    screen.point(450, 90);
    screen.button(1, false);
    let up = Heard::Up(2, (50, -10));
    let heard = heard_until(&mut work, &up);
    let from_press = heard.iter().position(|heard| *heard == Heard::Leaves(1));
    assert_eq!(
        heard[from_press.expect("it left")..],
        [
            Heard::Leaves(1),
            Heard::Comes(2),
            Heard::Moves(2, (50, 50)),
            Heard::Leaves(2),
            // Of the other qube's window there is nothing but that it is none of ours.
            Heard::Moves(1, (450, 50)),
            Heard::Comes(2),
            Heard::Moves(2, (50, 60)),
            Heard::Leaves(2),
            Heard::Moves(1, (350, -10)),
            up,
        ]
    );
    screen.point(660, 400);
    let first = vault.until("a message", |_, message| Some(message.clone()));
    assert_eq!(first, NO_KEYS);
    let came = vault.until("the pointer", |id, message| match message {
        DaemonMessage::Crossing(crossing) => Some((id, crossing.input.x, crossing.input.y)),
        _ => None,
    });
    assert_eq!(came, (7, 160, 280));
}

#[test]
fn a_button_that_came_up_where_no_window_heard_of_it_is_up() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_proxy, mut agent) = session.qube("work", 0xcc00);
    screen.point(900, 900);
    agent.window(1, (100, 100), size(200, 200), pattern);
    agent.window(2, (400, 100), size(200, 200), pattern);
    screen.must_have(2);
    screen.point(150, 150);
    screen.button(1, true);
    agent.until("a button", |id, message| match message {
        DaemonMessage::Button { down: true, .. } => (id == 1).then_some(()),
        _ => None,
    });
    // The display lets go of the pointer then.
    agent.say(1, AgentMessage::Unmap);
    agent.sync();
    screen.must_have(1);
    screen.point(900, 900);
    screen.button(1, false);
    screen.point(450, 150);
    let heard = heard_until(&mut agent, &Heard::Moves(2, (50, 50)));
    let up = heard.iter().filter(|it| matches!(it, Heard::Up(..)));
    assert_eq!(up.collect::<Vec<_>>(), [&Heard::Up(2, (0, 0))]);
}

#[test]
fn a_new_window_says_when_the_person_last_used_its_qube() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_one, mut work) = session.qube("work", 0xcc00);
    let (_two, mut vault) = session.qube("vault", 0xcc_0000);
    let name = "_NET_WM_USER_TIME";
    screen.point(900, 900);
    work.window(1, (100, 100), size(300, 200), pattern);
    work.sync();
    let first = screen.must_have(1)[0];
    // It takes the keyboard from nobody.
    assert_eq!(screen.number(first, name), Some(0));
    screen.point(110, 110);
    screen.button(1, true);
    screen.button(1, false);
    let used = bulkhead_testing::wait_for("a time", || {
        screen.number(first, name).filter(|time| *time > 0)
    });
    for (agent, expected) in [(&mut work, Some(used)), (&mut vault, Some(0))] {
        let before = screen.windows();
        agent.window(2, (500, 500), size(30, 20), pattern);
        agent.sync();
        let new = bulkhead_testing::wait_for("a window", || {
            let now = screen.windows();
            now.into_iter().find(|window| !before.contains(window))
        });
        assert_eq!(screen.number(new, name), expected);
    }
}

#[test]
fn a_window_is_followed_long_after_it_was_placed() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_proxy, mut agent) = session.qube("work", 0xcc00);
    agent.window(1, (100, 100), size(300, 200), pattern);
    let window = screen.must_have(1)[0];
    agent.sync();
    screen.focus(window);
    // More requests than events have numbers for, half of which would be before the other half.
    for _ in 0..40 {
        for _ in 0..1000 {
            screen.key_soon(A, true);
            screen.key_soon(A, false);
        }
        agent.sync();
    }
    let by_person = ConfigureWindowAux::new().x(400).y(300);
    let moved = screen.connection.configure_window(window, &by_person);
    moved.expect("a window").check().expect("a window");
    let x = agent.until("a place", |_, message| match message {
        DaemonMessage::Configure { place, .. } => Some(place.x()),
        _ => None,
    });
    assert_eq!(x, 404);
}

#[test]
fn a_window_is_asked_to_close() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_proxy, mut agent) = session.qube("work", 0xcc00);
    agent.window(3, (100, 100), size(300, 200), pattern);
    let window = screen.must_have(1)[0];
    let [protocols, delete] = ["WM_PROTOCOLS", "WM_DELETE_WINDOW"].map(|name| screen.atom(name));
    let message = ClientMessageEvent::new(32, window, protocols, [delete, 0, 0, 0, 0]);
    let sent = screen
        .connection
        .send_event(false, window, EventMask::NO_EVENT, message);
    sent.expect("a window");
    screen.connection.flush().expect("a display");
    let id = agent.until("a close", |id, message| {
        (*message == DaemonMessage::Close).then_some(id)
    });
    assert_eq!(id, 3);
}
