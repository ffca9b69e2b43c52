//! Under a window manager, which decides where windows are and draws frames of its own.

use std::process::{Child, Command, Stdio};

use bulkhead_testing::wait_for;
use bulkhead_wire::gui::geometry::{Place, Size};
use bulkhead_wire::gui::{AgentMessage, DaemonMessage, Flags};
use bulkhead_wire::proxy::ToProxy;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ClientMessageEvent, ConnectionExt as _, EventMask, Window};

use crate::agent::{Agent, size};
use crate::daemon::Daemon;
use crate::screen::{Picture, Screen};
use crate::session::{Proxy, Session};
use crate::windows::pattern;

const GREEN: u32 = 0x00_cc00;
/// What can be read on it.
const WHITE: u32 = 0xff_ffff;

/// Nothing is bound to any key.
const CONFIG: &str = r#"<?xml version="1.0"?>
<openbox_config xmlns="http://openbox.org/3.4/rc"><keyboard/><mouse/></openbox_config>"#;

/// Openbox, which ends with the test.
struct Manager(Child);

impl Manager {
    fn start(session: &Session, screen: &Screen) -> Self {
        let config = session.folder().join("rc.xml");
        std::fs::write(&config, CONFIG).expect("a file");
        let child = Command::new("openbox")
            .args(["--sm-disable", "--config-file"])
            .arg(&config)
            .env("DISPLAY", session.display())
            .env("HOME", session.folder())
            .env("XDG_CONFIG_HOME", session.folder())
            .env("XDG_CACHE_HOME", session.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("openbox; `cargo xtask setup` installs it");
        let mut it = Self(child);
        wait_for("a window manager", || {
            let ended = it.0.try_wait().expect("a child");
            assert!(ended.is_none(), "openbox: {ended:?}");
            screen.number(screen.root, "_NET_WORKAREA")
        });
        it
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The window that the manager manages as the `n`th.
fn client(screen: &Screen, n: usize) -> Window {
    wait_for("a managed window", || {
        screen
            .numbers(screen.root, "_NET_CLIENT_LIST")
            .get(n)
            .copied()
    })
}

/// As task bars and keys of the manager do.
fn ask(screen: &Screen, window: Window, kind: &str, data: [u32; 5]) {
    let message = ClientMessageEvent::new(32, window, screen.atom(kind), data);
    let to = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
    let sent = screen
        .connection
        .send_event(false, screen.root, to, message);
    sent.expect("a window");
    screen.connection.flush().expect("a display");
}

/// An agent that answers as agents do, with a window.
fn with_window(session: &Session) -> (Proxy, Agent) {
    let (proxy, mut agent) = session.qube("work", GREEN);
    agent.answers = true;
    agent.window(1, (100, 100), size(300, 200), pattern);
    (proxy, agent)
}

/// Waits until the window is to be there, and draws it.
#[track_caller]
fn follow(agent: &mut Agent, place: Place, size: Size) {
    agent.until("a place", |id, message| match message {
        DaemonMessage::Configure {
            place: p, size: s, ..
        } => (id == 1 && (*p, *s) == (place, size)).then_some(()),
        _ => None,
    });
    agent.draw(1, size, pattern);
}

#[track_caller]
fn told_flags(agent: &mut Agent) -> (Flags, Flags) {
    agent.until("flags", |_, message| match message {
        DaemonMessage::Flags { set, unset } => Some((*set, *unset)),
        _ => None,
    })
}

#[track_caller]
fn must_show_all(screen: &Screen, place: Place, size: Size) {
    let at = (place.x(), place.y());
    screen.must_show(at, &Picture::of(size.width(), size.height(), pattern));
    // The frame, at all four corners of the content.
    let (width, height) = (size.width().cast_signed(), size.height().cast_signed());
    for (x, y) in [(-1, -1), (width, -1), (-1, height), (width, height)] {
        let corner = screen.picture(at.0 + x, at.1 + y, 1, 1);
        assert_eq!(corner.pixels, [GREEN], "{x} {y}");
    }
}

#[test]
fn places_are_those_that_the_manager_has_chosen() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let _manager = Manager::start(&session, &screen);
    let (_proxy, mut agent) = with_window(&session);
    let window = client(&screen, 0);
    // Each of place and size, by the person: gravity as it is, x, y, width, height.
    let all = 0xf00;
    ask(
        &screen,
        window,
        "_NET_MOVERESIZE_WINDOW",
        [all, 500, 400, 408, 322],
    );
    let (place, large) = (Place::near(504, 418), size(400, 300));
    follow(&mut agent, place, large);
    must_show_all(&screen, place, large);
    // And by the qube, which yields while the person is not done.
    let (place, size) = (Place::near(200, 150), size(250, 100));
    wait_for("a move by the qube", || {
        agent.say(1, AgentMessage::Configure { place, size });
        agent.sync();
        (screen.client_area(window) == (200 - 4, 150 - 18, 258, 122)).then_some(())
    });
    agent.draw(1, size, pattern);
    must_show_all(&screen, place, size);
}

#[test]
fn the_only_frame_is_ours_and_a_person_moves_and_sizes_by_it() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let _manager = Manager::start(&session, &screen);
    let (_proxy, mut agent) = with_window(&session);
    let window = client(&screen, 0);
    wait_for("no other frame", || {
        let extents = screen.numbers(window, "_NET_FRAME_EXTENTS");
        (extents == [0, 0, 0, 0]).then_some(())
    });
    let icon = screen.numbers(window, "_NET_WM_ICON");
    assert_eq!(icon[..2], [16, 16]);
    assert!(icon.contains(&(0xff00_0000 | GREEN)));
    // Placed and seen.
    let (x, y) = wait_for("a strip", || {
        let (x, y, ..) = screen.client_area(window);
        (screen.picture(x + 150, y + 10, 1, 1).pixels == [GREEN]).then_some((x, y))
    });
    let drag = |from: (i32, i32), by: (i32, i32), expected: (i32, i32, u32, u32)| {
        let from = (x + from.0, y + from.1);
        screen.must_have_free_pointer();
        screen.point(from.0, from.1);
        screen.button(1, true);
        // The manager takes the pointer some time after it was asked.
        wait_for("a window that follows", || {
            screen.point(from.0 + by.0 + 1, from.1 + by.1);
            screen.point(from.0 + by.0, from.1 + by.1);
            (screen.client_area(window) == expected).then_some(())
        });
        screen.button(1, false);
    };
    drag((150, 10), (60, 40), (x + 60, y + 40, 308, 222));
    // The lower right corner, which is elsewhere now.
    drag((366, 260), (50, 30), (x + 60, y + 40, 358, 252));
    let (place, larger) = (Place::near(x + 64, y + 58), size(350, 230));
    follow(&mut agent, place, larger);
    must_show_all(&screen, place, larger);
}

#[test]
fn buttons_of_a_frame_do_what_they_show_where_they_are_let_go() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let _manager = Manager::start(&session, &screen);
    let (_proxy, mut agent) = with_window(&session);
    let window = client(&screen, 0);
    // The middle of the `n`th from the right.
    let button = |n: i32| {
        let (x, y, width, _) = screen.client_area(window);
        (x + width.cast_signed() - 4 - n * 16 + 8, y + 11)
    };
    let press = |at: (i32, i32), down| {
        screen.point(at.0, at.1);
        screen.button(1, down);
    };
    let click = |n| {
        screen.must_have_free_pointer();
        press(button(n), true);
        press(button(n), false);
    };
    wait_for("a mark", || {
        let (x, y) = button(1);
        let around = screen.picture(x - 8, y - 7, 16, 14).pixels;
        (around.contains(&GREEN) && around.contains(&WHITE)).then_some(())
    });
    // Let go elsewhere, it does nothing; nor does another button of the mouse.
    screen.must_have_free_pointer();
    press(button(1), true);
    press(button(2), false);
    screen.button(3, true);
    screen.button(3, false);

    let (place, before) = {
        let (x, y, ..) = screen.client_area(window);
        (Place::near(x + 4, y + 18), size(300, 200))
    };
    click(2);
    follow(&mut agent, Place::near(4, 18), size(1280 - 8, 1024 - 22));
    click(2);
    follow(&mut agent, place, before);
    click(3);
    let (set, _) = told_flags(&mut agent);
    assert!(set.minimised);
    ask(&screen, window, "_NET_ACTIVE_WINDOW", [2, 0, 0, 0, 0]);
    let (_, unset) = told_flags(&mut agent);
    assert!(unset.minimised);
    click(1);
    agent.until("the wish to close", |id, message| match message {
        DaemonMessage::Close => (id == 1).then_some(()),
        // Nothing of it is the qube's to see.
        DaemonMessage::Button { .. } => panic!("a click on the frame: {message:?}"),
        _ => None,
    });
}

#[test]
fn only_the_person_has_a_window_fill_the_screen_and_its_frame_stays() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let _manager = Manager::start(&session, &screen);
    let (_proxy, mut agent) = with_window(&session);
    let window = client(&screen, 0);
    let fullscreen = Flags {
        fullscreen: true,
        ..Flags::default()
    };
    let none = Flags::default();
    let (set, unset) = (fullscreen, none);
    agent.say(1, AgentMessage::Flags { set, unset });
    let (set, _) = told_flags(&mut agent);
    assert_eq!(set, fullscreen);
    let states = screen.atoms(window, "_NET_WM_STATE");
    assert!(
        states
            .iter()
            .any(|state| state == "_NET_WM_STATE_MAXIMIZED_VERT")
    );
    assert!(
        states
            .iter()
            .all(|state| state != "_NET_WM_STATE_FULLSCREEN")
    );
    let (set, unset) = (none, fullscreen);
    agent.say(1, AgentMessage::Flags { set, unset });
    let (_, unset) = told_flags(&mut agent);
    assert_eq!(unset, fullscreen);
    let state = screen.atom("_NET_WM_STATE_FULLSCREEN");
    ask(&screen, window, "_NET_WM_STATE", [1, state, 0, 2, 0]);
    let (set, _) = told_flags(&mut agent);
    assert_eq!(set, fullscreen);
    let whole = size(1280 - 8, 1024 - 22);
    let place = Place::near(4, 18);
    follow(&mut agent, place, whole);
    must_show_all(&screen, place, whole);
}

#[test]
fn a_qube_that_minimises_is_told_and_comes_back() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let _manager = Manager::start(&session, &screen);
    let (_proxy, mut agent) = with_window(&session);
    let window = client(&screen, 0);
    let minimised = Flags {
        minimised: true,
        ..Flags::default()
    };
    let (set, unset) = (minimised, Flags::default());
    agent.say(1, AgentMessage::Flags { set, unset });
    let (set, _) = told_flags(&mut agent);
    assert_eq!(set, minimised);
    ask(&screen, window, "_NET_ACTIVE_WINDOW", [2, 0, 0, 0, 0]);
    let (_, unset) = told_flags(&mut agent);
    assert_eq!(unset, minimised);
}

#[test]
fn menus_are_above_the_managers_frame_of_their_own_qube_and_no_other() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let _manager = Manager::start(&session, &screen);
    let (_one, mut work) = session.qube("work", GREEN);
    work.window(1, (100, 100), size(300, 200), |_, _| 0x11_1111);
    client(&screen, 0);
    let (_two, mut vault) = session.qube("vault", 0xcc_0000);
    vault.window(1, (200, 150), size(300, 200), |_, _| 0x22_2222);
    let upper = client(&screen, 1);
    ask(&screen, upper, "_NET_ACTIVE_WINDOW", [2, 0, 0, 0, 0]);
    let top = |window| {
        let tree = screen.connection.query_tree(window).expect("a window");
        tree.reply().expect("a window").parent
    };
    let order = |of: Window| {
        let all = screen.windows();
        all.iter().position(|window| *window == of)
    };
    let (below, above) = (top(client(&screen, 0)), top(upper));
    wait_for("an order", || (order(below)? < order(above)?).then_some(()));
    let before = screen.windows();
    work.create(2, (150, 120), size(200, 200), true);
    work.map(2, Some(1), true);
    work.draw(2, size(200, 200), |_, _| 0x33_3333);
    let menu = wait_for("a menu", || {
        let now = screen.windows();
        now.into_iter().find(|window| !before.contains(window))
    });
    wait_for("its place", || {
        (order(below)? < order(menu)? && order(menu)? < order(above)?).then_some(())
    });
}

#[test]
fn a_menu_that_grows_over_the_screen_is_a_window_like_others() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let _manager = Manager::start(&session, &screen);
    let (proxy, mut agent) = with_window(&session);
    let window = client(&screen, 0);
    agent.create(2, (150, 120), size(200, 200), true);
    agent.map(2, Some(1), true);
    agent.sync();
    let managed = || screen.numbers(screen.root, "_NET_CLIENT_LIST");
    assert_eq!(managed(), [window]);
    let place = Place::near(4, 18);
    let size = size(1272, 1002);
    agent.say(2, AgentMessage::Configure { place, size });
    proxy.must_say("window 2 covers too much to place itself");
    let other = client(&screen, 1);
    assert_eq!(screen.number(other, "_QUBES_VMWINDOWID"), Some(2));
}

#[test]
fn a_qube_takes_the_keyboard_from_nobody_unless_the_person_waits_for_its_window() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let _manager = Manager::start(&session, &screen);
    let (_proxy, mut vault) = session.qube("vault", 0xcc_0000);
    vault.window(1, (600, 400), size(300, 200), |_, _| 0x22_2222);
    let used = client(&screen, 0);
    ask(&screen, used, "_NET_ACTIVE_WINDOW", [2, 0, 0, 0, 0]);
    let active = || screen.number(screen.root, "_NET_ACTIVE_WINDOW");
    wait_for("the keyboard", || (active()? == used).then_some(()));
    let (proxy, mut work, daemon) = Daemon::start(&session, "work", &[]);
    work.window(1, (100, 100), size(300, 200), |_, _| 0x11_1111);
    let unasked = client(&screen, 1);
    // What is asked for after it was managed is done after that.
    ask(
        &screen,
        unasked,
        "_NET_WM_STATE",
        [1, attention(&screen), 0, 2, 0],
    );
    wait_for("the manager", || {
        let states = screen.atoms(unasked, "_NET_WM_STATE");
        let is_told = states.iter().any(|state| state.ends_with("ATTENTION"));
        is_told.then_some(())
    });
    assert_eq!(active(), Some(used));
    daemon.say(&ToProxy::Awaited, &[]);
    // It hears one thing after the other.
    daemon.say(&ToProxy::Icons, &[]);
    proxy.must_say("no icons come");
    work.window(2, (100, 400), size(300, 200), |_, _| 0x11_1111);
    let awaited = client(&screen, 2);
    wait_for("the keyboard", || (active()? == awaited).then_some(()));
}

fn attention(screen: &Screen) -> u32 {
    screen.atom("_NET_WM_STATE_DEMANDS_ATTENTION")
}
