//! Applications of Wayland.

use crate::desk::daemon::{Picture, SCREEN, Window};
use crate::desk::{Daemon, Desk, keys, wait_for};
use bulkhead_wire::gui::geometry::{Place, Size};
use bulkhead_wire::gui::{DaemonMessage, Flags, Input, WindowId};

/// A terminal with a shell, without anything of the person's own.
pub(crate) const FOOT: &[&str] = &[
    "foot",
    "--config=/dev/null",
    "--override=font=monospace:size=12",
    "--override=key-bindings.fullscreen=F11",
    "--title=a terminal",
    "--app-id=terminal",
    "sh",
];

#[track_caller]
pub(crate) fn foot(desk: &mut Desk, daemon: &mut Daemon) -> WindowId {
    foot_beside(desk, daemon, &[])
}

#[track_caller]
pub(crate) fn foot_beside(desk: &mut Desk, daemon: &mut Daemon, others: &[WindowId]) -> WindowId {
    desk.start(FOOT);
    let id = daemon.new_window("a terminal", others);
    daemon.focus(id, true);
    id
}

#[test]
fn a_terminal_opens_is_typed_into_resizes_and_closes() {
    let mut desk = Desk::new();
    let mut daemon = desk.daemon();
    let id = foot(&mut desk, &mut daemon);

    let window = daemon.window(id);
    assert_eq!(window.title, "a terminal");
    assert_eq!(window.class, ("terminal".into(), "terminal".into()));
    assert_eq!(window.mapped, Some(None));
    assert!(!window.override_redirect);
    daemon.until_picture("a prompt", id, |picture| picture.colours() > 2);
    assert_eq!(daemon.picture(id).size, daemon.window(id).size);

    let typed = desk.path("typed");
    daemon.type_text(id, "echo Hello_World > typed\n");
    let text = wait_for("what was typed", || {
        std::fs::read_to_string(&typed)
            .ok()
            .filter(|text| !text.is_empty())
    });
    assert_eq!(text, "Hello_World\n");
    // Keys that the daemon's display repeats, and one with a shift that is held elsewhere.
    daemon.type_text(id, "echo ");
    let (a, _) = keys::key('a');
    for _ in 0..3 {
        daemon.key(id, a, true);
    }
    daemon.key(id, a, false);
    // A keyboard of Germany has z where others have y.
    let german = 1 << 13;
    let (b, y) = (keys::key('b').0, keys::key('y').0);
    let pressed = [
        (b, true, 1),
        (b, false, 1),
        (y, true, german),
        (y, false, german),
    ];
    for (keycode, down, state) in pressed {
        let (x, y) = (0, 0);
        let input = Input { x, y, state };
        daemon.say(
            id,
            &DaemonMessage::Key {
                down,
                input,
                keycode,
            },
        );
    }
    daemon.type_text(id, "c > typed\n");
    wait_for("repeated keys", || {
        let text = std::fs::read_to_string(&typed).ok();
        text.filter(|text| text == "aaaBzc\n")
    });
    daemon.keep(id, "foot");

    let (place, size) = (Place::near(100, 50), Size::near(500, 300));
    daemon.configure(id, place, size);
    daemon.until("a picture of the new size", |daemon| {
        let window = daemon.window(id);
        // Terminals have whole letters, and may take a little less.
        let near = |a: u32, b: u32| a <= b && a + 40 > b;
        let picture = daemon.picture(id).size;
        let fits = near(picture.width(), 500) && near(picture.height(), 300);
        (fits && picture == window.size && window.place == place).then_some(())
    });
    daemon.keep(id, "foot-resized");

    daemon.say(id, &DaemonMessage::Close);
    daemon.until_gone(id);
    wait_for("foot to end", || desk.has_ended().then_some(()));
}

#[test]
fn a_terminal_fills_the_screen_when_the_daemon_lets_it() {
    let mut desk = Desk::new();
    let mut daemon = desk.daemon();
    let id = foot(&mut desk, &mut daemon);
    let before = daemon.window(id).size;
    let wants = |daemon: &Daemon| daemon.window(id).flags.fullscreen;
    let (screen, full) = (
        Size::near(SCREEN.width, SCREEN.height),
        Flags {
            fullscreen: true,
            ..Flags::default()
        },
    );
    daemon.tap(id, keys::F11);
    daemon.until("a wish", |daemon| wants(daemon).then_some(()));
    let (set, unset) = (full, Flags::default());
    daemon.say(id, &DaemonMessage::Flags { set, unset });
    daemon.configure(id, Place::default(), screen);
    daemon.until_picture("the screen to be filled", id, |picture| {
        picture.size == screen
    });

    daemon.tap(id, keys::F11);
    daemon.until("another wish", |daemon| (!wants(daemon)).then_some(()));
    let (set, unset) = (Flags::default(), full);
    daemon.say(id, &DaemonMessage::Flags { set, unset });
    daemon.configure(id, Place::default(), before);
    daemon.until_picture("the old size", id, |picture| picture.size == before);
}

#[test]
fn an_animation_goes_on_and_a_search_is_shown_over_its_window() {
    let mut desk = Desk::new();
    let mut daemon = desk.daemon();
    desk.start(&["weston-simple-shm"]);
    let shm = daemon.new_window("an animation", &[]);
    assert_eq!(daemon.window(shm).size, Size::near(250, 250));
    daemon.until_picture("rings", shm, |picture| picture.colours() > 50);
    let seen = daemon.picture(shm).pixels;
    daemon.until_picture("others", shm, |picture| picture.pixels != seen);
    daemon.until("many frames", |daemon| {
        (daemon.window(shm).damage.len() > 20).then_some(())
    });
    daemon.keep(shm, "simple-shm");

    // The box for it is a surface of its own, below that of the window.
    let id = foot_beside(&mut desk, &mut daemon, &[shm]);
    daemon.until_picture("a prompt", id, |picture| picture.colours() > 2);
    let corner = |picture: &Picture| {
        let (right, bottom) = (picture.size.width() - 40, picture.size.height() - 20);
        picture.at(right, bottom)
    };
    let before = corner(&daemon.picture(id));
    daemon.key(id, keys::CONTROL, true);
    daemon.key(id, keys::SHIFT, true);
    daemon.tap(id, keys::key('r').0);
    daemon.key(id, keys::SHIFT, false);
    daemon.key(id, keys::CONTROL, false);
    daemon.until_picture("a box", id, |picture| corner(picture) != before);
    daemon.type_text(id, "needle");
    daemon.keep(id, "foot-search");
    daemon.tap(id, keys::ESCAPE);
    daemon.until_picture("no box", id, |picture| corner(picture) == before);
}

#[test]
fn a_menu_appears_at_the_pointer_follows_its_window_and_is_dismissed() {
    let mut desk = Desk::new();
    let mut daemon = desk.daemon();
    desk.start(&["weston-terminal", "--shell=/bin/sh"]);
    let id = daemon.new_window("a terminal", &[]);
    daemon.focus(id, true);
    let (place, size) = (Place::near(200, 100), daemon.window(id).size);
    daemon.configure(id, place, size);
    daemon.until_picture("a prompt", id, |picture| picture.colours() > 10);
    daemon.keep(id, "weston-terminal");

    daemon.click(id, (120, 150), 3);
    let menu = daemon.new_window("a menu", &[id]);
    let window = daemon.window(menu);
    assert!(window.override_redirect);
    assert_eq!(window.mapped, Some(Some(id)));
    let at = |window: &Window| (window.place.x() - 200, window.place.y() - 100);
    let (x, y) = at(window);
    // Its shadow begins 48 pixels before the pointer, which is on its first line.
    assert_eq!((x, y), (120 - 48, 150 - 48));
    daemon.until_picture("lines of a menu", menu, |picture| picture.colours() > 5);
    daemon.keep(menu, "weston-menu");

    let moved = Place::near(230, 120);
    daemon.configure(id, moved, size);
    daemon.until("the menu to follow", |daemon| {
        (at(daemon.window(menu)) == (x + 30, y + 20)).then_some(())
    });

    // A press elsewhere in the qube.
    daemon.click(id, (20, 300), 1);
    daemon.until_gone(menu);

    // And one that the person does not finish, but goes away from.
    daemon.click(id, (120, 150), 3);
    let menu = daemon.new_window("a menu", &[id]);
    daemon.focus(id, false);
    daemon.until_gone(menu);
    daemon.say(id, &DaemonMessage::Close);
    daemon.until_gone(id);
}
