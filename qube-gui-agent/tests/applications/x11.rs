//! Applications of X.

use std::time::Duration;

use bulkhead_wire::gui::geometry::{Place, Size};
use bulkhead_wire::gui::{DaemonMessage, WindowId};

use rustix::process::{Pid, Signal, kill_process};

use crate::desk::daemon::Picture;
use crate::desk::{Daemon, Desk, keys, wait_for};
use crate::wayland::foot;

/// A terminal with a shell, which copies to the clipboard what is selected.
const XTERM: &[&str] = &[
    "xterm",
    "-title",
    "an xterm",
    "-fn",
    "fixed",
    "-xrm",
    "*selectToClipboard: true",
    "-e",
    "sh",
];

#[track_caller]
fn xterm(desk: &mut Desk, daemon: &mut Daemon) -> WindowId {
    xterm_beside(desk, daemon, &[])
}

#[track_caller]
pub(crate) fn xterm_beside(desk: &mut Desk, daemon: &mut Daemon, others: &[WindowId]) -> WindowId {
    desk.start(XTERM);
    let id = daemon.new_window("an xterm", others);
    focus(daemon, id);
    id
}

/// Gives an xterm the keyboard. X hears of that on another way than of keys: typing that begins
/// before it has would be lost.
#[track_caller]
pub(crate) fn focus(daemon: &mut Daemon, id: WindowId) {
    daemon.focus(id, true);
    daemon.until_picture("a filled cursor", id, has_cursor);
}

/// Whether there is a block of ink as no letter has.
fn has_cursor(picture: &Picture) -> bool {
    let (width, height) = (picture.size.width(), picture.size.height());
    let dark = |x: u32, y: u32| picture.at(x, y) == [0, 0, 0];
    let block = |x: u32, y: u32| (0..5).all(|dx| (0..9).all(|dy| dark(x + dx, y + dy)));
    (0..height.saturating_sub(9)).any(|y| (0..width.saturating_sub(5)).any(|x| block(x, y)))
}

#[test]
fn an_xterm_opens_is_typed_into_resizes_and_closes() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let id = xterm(&mut desk, &mut daemon);

    daemon.until("its names", |daemon| {
        let window = daemon.window(id);
        (window.title == "an xterm").then_some(())
    });
    let window = daemon.window(id);
    assert_eq!(window.class, ("XTerm".into(), "xterm".into()));
    assert!(!window.override_redirect);
    // Whole letters, besides a frame and a scroll bar.
    assert!(window.hints.increment.is_some() && window.hints.base.is_some());

    let typed = desk.path("typed");
    daemon.type_text(id, "echo Hello_World > typed\n");
    let text = wait_for("what was typed", || {
        let text = std::fs::read_to_string(&typed).ok();
        text.filter(|text| !text.is_empty())
    });
    assert_eq!(text, "Hello_World\n");
    daemon.keep(id, "xterm");

    let (place, size) = (Place::near(200, 100), Size::near(600, 300));
    daemon.configure(id, place, size);
    daemon.until_picture("a picture of the new size", id, |picture| {
        picture.size == size
    });
    assert_eq!(
        (daemon.window(id).place, daemon.window(id).size),
        (place, size)
    );
    daemon.keep(id, "xterm-resized");

    daemon.say(id, &DaemonMessage::Close);
    daemon.until_gone(id);
    wait_for("xterm to end", || desk.has_ended().then_some(()));
}

#[test]
fn a_menu_of_x_appears_where_it_was_called_and_goes() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let id = xterm(&mut desk, &mut daemon);
    let (place, size) = (Place::near(300, 150), Size::near(500, 320));
    daemon.configure(id, place, size);
    // X has moved it too then.
    daemon.until_picture("the new size", id, |picture| picture.size == size);

    // Control and the left button call the main menu, which stays while the button is held.
    daemon.key(id, keys::CONTROL, true);
    daemon.point(id, 50, 60);
    daemon.button(id, (50, 60), 1, true);
    let menu = daemon.new_window("a menu", &[id]);
    let window = daemon.window(menu);
    assert!(window.override_redirect);
    let (x, y) = (window.place.x(), window.place.y());
    assert!(
        (250..=350).contains(&x) && (150..=250).contains(&y),
        "at {x}, {y}"
    );
    daemon.until_picture("the menu's lines", menu, |picture| picture.colours() > 1);
    daemon.keep(menu, "xterm-menu");

    daemon.button(id, (50, 60), 1, false);
    daemon.key(id, keys::CONTROL, false);
    daemon.until_gone(menu);
}

/// Waits until X has one window above another, each by something that it is listed with.
#[track_caller]
fn until_above(desk: &Desk, one: &str, other: &str) {
    wait_for(&format!("{one} above {other}"), || {
        let windows = desk.x_windows();
        (windows.find(one)? < windows.find(other)?).then_some(())
    });
}

#[test]
fn a_menu_of_x_stays_above_windows_that_are_raised() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let id = xterm(&mut desk, &mut daemon);
    let (place, size) = (Place::near(300, 150), Size::near(500, 320));
    daemon.configure(id, place, size);
    daemon.until_picture("the new size", id, |picture| picture.size == size);
    // Beside it, for it is above it at first.
    desk.start(&["xclock"]);
    let clock = daemon.new_window("a clock", &[id]);
    daemon.key(id, keys::CONTROL, true);
    daemon.point(id, 50, 60);
    daemon.button(id, (50, 60), 1, true);
    let menu = daemon.new_window("a menu", &[id, clock]);
    let menu = daemon.window(menu);
    // It has no name.
    let (place, size) = (menu.place, menu.size);
    let menu = format!(
        "{}x{}+{}+{} ",
        size.width(),
        size.height(),
        place.x(),
        place.y()
    );
    let (clocks, xterms) = ("\"xclock\": ", "\"an xterm\": ");

    // While a button is held, what the pointer comes to is raised.
    daemon.cross(clock, (10, 10), true);
    until_above(&desk, clocks, xterms);
    until_above(&desk, &menu, clocks);
    daemon.cross(id, (50, 60), true);
    until_above(&desk, xterms, clocks);
    until_above(&desk, &menu, xterms);

    // And so is what gets the keyboard.
    daemon.focus(id, false);
    daemon.focus(clock, true);
    until_above(&desk, clocks, xterms);
    until_above(&desk, &menu, clocks);
}

#[test]
fn a_clock_is_shown_and_killed() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    desk.start(&["xclock", "-digital", "-update", "1"]);
    let id = daemon.new_window("a clock", &[]);
    assert_eq!(daemon.window(id).class, ("XClock".into(), "xclock".into()));
    daemon.until_picture("the time", id, |picture| picture.colours() >= 2);
    daemon.keep(id, "xclock");
    let before = daemon.window(id).damage.len();
    daemon.until("the next second", |daemon| {
        (daemon.window(id).damage.len() > before).then_some(())
    });
    daemon.say(id, &DaemonMessage::Close);
    daemon.until_gone(id);
}

/// The process that an agent has started under a name.
#[track_caller]
fn child_of(agent: u32, name: &str) -> Pid {
    let found = std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let (pid, rest) = stat.split_once(" (")?;
        let (comm, rest) = rest.rsplit_once(") ")?;
        let parent = rest.split(' ').nth(1)?;
        let is = comm == name && parent.parse() == Ok(agent);
        is.then(|| pid.parse().ok())?
    });
    Pid::from_raw(found.expect("a child")).unwrap()
}

#[test]
fn an_x_server_that_dies_is_started_again_and_takes_nothing_else_along() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let terminal = foot(&mut desk, &mut daemon);
    let old = xterm_beside(&mut desk, &mut daemon, &[terminal]);
    let server = child_of(desk.agent(), "Xwayland");
    kill_process(server, Signal::KILL).unwrap();
    daemon.until_gone(old);
    // It is served at the same display, when it is.
    let new = loop {
        desk.start(XTERM);
        wait_for("an xterm to be shown or to give up", || {
            daemon.idle(Duration::from_millis(20));
            (desk.has_ended() || daemon.windows.len() == 2).then_some(())
        });
        if daemon.windows.len() == 2 {
            break daemon.new_window("an xterm", &[terminal]);
        }
    };
    focus(&mut daemon, new);
    daemon.type_text(new, "echo again > typed\n");
    let typed = desk.path("typed");
    wait_for("what was typed", || {
        let text = std::fs::read_to_string(&typed).ok()?;
        (text == "again\n").then_some(())
    });
}
