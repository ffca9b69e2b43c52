//! What is dragged from one window of a qube and dropped to another.

use std::time::Duration;

use bulkhead_wire::gui::geometry::{Place, Size};
use bulkhead_wire::gui::{Version, WindowId};

use crate::desk::{Daemon, Desk, keys, wait_for};

const DRAG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/applications/drag.py");

/// Where in each window.
pub(crate) const MIDDLE: (i32, i32) = (150, 100);

/// Where windows are.
pub(crate) const LEFT: (i32, i32) = (50, 50);
pub(crate) const RIGHT: (i32, i32) = (500, 80);
const BELOW: (i32, i32) = (60, 400);

fn size() -> Size {
    Size::near(300, 200)
}

/// How a window is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Wayland,
    X,
}

/// Words before those of an application that is shown so.
fn backend(by: By) -> &'static str {
    match by {
        By::Wayland => "GDK_BACKEND=wayland",
        By::X => "GDK_BACKEND=x11",
    }
}

/// A window that this text can be dragged from, or any dropped to where it has none, at this place.
#[track_caller]
pub(crate) fn window(
    desk: &mut Desk,
    daemon: &mut Daemon,
    (title, text): (&str, &str),
    by: By,
    at: (i32, i32),
) -> WindowId {
    let more = &["env", backend(by), "/usr/bin/python3", DRAG, title, text];
    shown(desk, daemon, (title, at), more)
}

/// The same by these words.
#[track_caller]
fn shown(
    desk: &mut Desk,
    daemon: &mut Daemon,
    (title, (x, y)): (&str, (i32, i32)),
    words: &[&str],
) -> WindowId {
    desk.start(words);
    let others: Vec<_> = daemon.windows.keys().copied().collect();
    let id = daemon.new_window(title, &others);
    daemon.configure(id, Place::near(x, y), size());
    daemon.until_picture("the size", id, |picture| {
        picture.size == size() && picture.colours() > 2
    });
    id
}

/// Whether an application has told this since it was asked last.
pub(crate) fn tells(desk: &Desk, what: &str) -> bool {
    std::fs::remove_file(desk.path(what)).is_ok()
}

/// Takes hold of what is in a window, and moves it there until the agent knows of it.
#[track_caller]
pub(crate) fn takes(desk: &Desk, daemon: &mut Daemon, (from, title): (WindowId, &str)) {
    let (x, y) = MIDDLE;
    let heard = || desk.agent_log().matches("something is dragged").count();
    let before = heard();
    daemon.point(from, x, y);
    daemon.button(from, MIDDLE, 1, true);
    let mut far = 0;
    wait_for("a drag", || {
        far = (far + 5) % 60;
        daemon.moves(from, (x + far, y));
        daemon.idle(Duration::from_millis(20));
        tells(desk, &format!("{title}-begun")).then_some(())
    });
    // It has told so itself before it told the agent.
    wait_for("the agent to hear of it", || {
        daemon.moves(from, (x + far, y));
        daemon.idle(Duration::from_millis(20));
        (heard() > before).then_some(())
    });
}

/// How the pointer is told of where it is not over the window that has it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Told {
    /// Every window of the qube hears of it.
    ByAll,
    /// The one where the button went down hears of it.
    ByFirst,
}

/// Moves the pointer in a window, which it has come to from another one, and lets go there.
pub(crate) fn drops(daemon: &mut Daemon, (from, to): (WindowId, WindowId), told: Told) {
    let apart = daemon.window(to).place;
    let here = daemon.window(from).place;
    let apart = (apart.x() - here.x(), apart.y() - here.y());
    daemon.cross(from, (-5, -5), false);
    if let Told::ByAll = told {
        daemon.cross(to, MIDDLE, true);
    }
    let at = |far| {
        let (x, y) = (MIDDLE.0 + far, MIDDLE.1);
        match told {
            Told::ByAll => (to, (x, y)),
            Told::ByFirst => (from, (x + apart.0, y + apart.1)),
        }
    };
    for far in 0..20 {
        let (by, at) = at(far);
        daemon.moves(by, at);
        daemon.idle(Duration::from_millis(20));
    }
    let (by, at) = at(20);
    daemon.button(by, at, 1, false);
    daemon.cross(to, MIDDLE, true);
}

pub(crate) fn dropped(desk: &Desk, title: &str) -> Option<String> {
    let text = std::fs::read_to_string(desk.path(title)).ok();
    text.filter(|text| !text.is_empty())
}

/// Drags until it is dropped: applications have to agree before the button comes up.
#[track_caller]
fn until_dropped(
    desk: &Desk,
    daemon: &mut Daemon,
    (one, two): (WindowId, WindowId),
    told: Told,
) -> String {
    daemon.focus(one, true);
    let text = wait_for("what was dropped", || {
        takes(desk, daemon, (one, "One"));
        drops(daemon, (one, two), told);
        daemon.idle(Duration::from_millis(500));
        dropped(desk, "Two")
    });
    wait_for("the end", || desk.path("One-ended").exists().then_some(()));
    text
}

#[track_caller]
fn drags(from: By, to: By, told: Told) {
    let mut desk = Desk::with_x();
    let mut daemon = match told {
        Told::ByAll => desk.daemon(),
        Told::ByFirst => desk.daemon_speaking(Version::PLAIN),
    };
    let one = window(&mut desk, &mut daemon, ("One", "of one"), from, LEFT);
    let two = window(&mut desk, &mut daemon, ("Two", ""), to, RIGHT);
    let text = until_dropped(&desk, &mut daemon, (one, two), told);
    assert_eq!(text, "of one");
    daemon.until_picture("the text", two, |picture| picture.colours() > 2);
    daemon.keep(two, &format!("dropped-{from:?}-{to:?}-{told:?}"));
}

/// Drags more than X hands over at once.
#[track_caller]
fn drags_much(from: By, to: By) {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let times = "100000";
    let words = &[
        "env",
        backend(from),
        "/usr/bin/python3",
        DRAG,
        "One",
        "of one",
        times,
    ];
    let one = shown(&mut desk, &mut daemon, ("One", LEFT), words);
    let two = window(&mut desk, &mut daemon, ("Two", ""), to, RIGHT);
    let text = until_dropped(&desk, &mut daemon, (one, two), Told::ByAll);
    assert!(text == "of one".repeat(100_000), "{} bytes", text.len());
}

/// Drags what is not to stay where it was.
#[track_caller]
fn moves(from: By, to: By) {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let how = "DRAG_ACTION=move";
    let words = |by, title, text| [how, backend(by), "/usr/bin/python3", DRAG, title, text];
    let started = |by, title, text| [&["env"][..], &words(by, title, text)].concat();
    let words = started(from, "One", "of one");
    let one = shown(&mut desk, &mut daemon, ("One", LEFT), &words);
    let words = started(to, "Two", "");
    let two = shown(&mut desk, &mut daemon, ("Two", RIGHT), &words);
    let text = until_dropped(&desk, &mut daemon, (one, two), Told::ByAll);
    assert_eq!(text, "of one");
    let how = wait_for("how it ended", || {
        let how = std::fs::read_to_string(desk.path("One-ended")).ok();
        how.filter(|how| !how.is_empty())
    });
    assert_eq!(how, "moved");
}

/// What becomes of a drag that is over the second window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The person presses Escape.
    Escaped,
    /// It is dropped where no window is.
    Nowhere,
    /// The application that it is from ends.
    Orphaned,
}

#[track_caller]
fn ends(from: By, to: By, fate: Fate) {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let one = window(&mut desk, &mut daemon, ("One", "of one"), from, LEFT);
    let source = desk.started();
    let two = window(&mut desk, &mut daemon, ("Two", ""), to, RIGHT);
    daemon.focus(one, true);
    takes(&desk, &mut daemon, (one, "One"));
    daemon.cross(one, (-5, -5), false);
    daemon.cross(two, MIDDLE, true);
    let mut far = 0;
    wait_for("it to be over the other window", || {
        far = (far + 3) % 60;
        daemon.moves(two, (MIDDLE.0 + far, MIDDLE.1));
        daemon.idle(Duration::from_millis(20));
        tells(&desk, "Two-over").then_some(())
    });
    tells(&desk, "Two-left");
    match fate {
        Fate::Escaped => daemon.tap(one, keys::ESCAPE),
        Fate::Nowhere => {
            daemon.cross(two, (-5, -5), false);
            daemon.moves(one, (0, 500));
        }
        Fate::Orphaned => desk.kill(source),
    }
    wait_for("it to leave", || {
        daemon.idle(Duration::from_millis(20));
        tells(&desk, "Two-left").then_some(())
    });
    match fate {
        Fate::Escaped | Fate::Orphaned => {
            let by = if fate == Fate::Escaped { one } else { two };
            daemon.button(by, MIDDLE, 1, false);
        }
        Fate::Nowhere => daemon.button(one, (0, 500), 1, false),
    }
    if fate != Fate::Orphaned {
        wait_for("the end", || {
            daemon.idle(Duration::from_millis(20));
            desk.path("One-kept").exists().then_some(())
        });
    }
    assert_eq!(dropped(&desk, "Two"), None);
    // Nothing of it stays in the way of the next.
    let three = window(&mut desk, &mut daemon, ("Three", "of three"), from, BELOW);
    daemon.focus(three, true);
    let text = wait_for("what was dropped", || {
        takes(&desk, &mut daemon, (three, "Three"));
        drops(&mut daemon, (three, two), Told::ByAll);
        daemon.idle(Duration::from_millis(500));
        dropped(&desk, "Two")
    });
    assert_eq!(text, "of three");
}

#[test]
fn text_is_dragged_from_wayland_to_wayland() {
    drags(By::Wayland, By::Wayland, Told::ByAll);
}

#[test]
fn text_is_dragged_where_the_daemon_tells_one_window() {
    drags(By::Wayland, By::Wayland, Told::ByFirst);
}

#[test]
fn text_is_dragged_from_x_to_x() {
    drags(By::X, By::X, Told::ByAll);
}

#[test]
fn what_is_dragged_to_what_is_covered_stays_where_it_was() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let (by, texts) = (By::Wayland, [("One", "of one"), ("Two", "")]);
    let one = window(&mut desk, &mut daemon, texts[0], by, LEFT);
    let two = window(&mut desk, &mut daemon, texts[1], by, RIGHT);
    daemon.focus(one, true);
    takes(&desk, &mut daemon, (one, "One"));
    // The second is there by its place; the daemon does not say that the pointer is over it.
    drops(&mut daemon, (one, two), Told::ByFirst);
    wait_for("the end", || {
        daemon.idle(Duration::from_millis(20));
        tells(&desk, "One-kept").then_some(())
    });
    assert!(!tells(&desk, "Two-over"));
    assert_eq!(dropped(&desk, "Two"), None);
}

#[test]
fn text_is_dragged_from_x_to_wayland() {
    drags(By::X, By::Wayland, Told::ByAll);
}

#[test]
fn text_is_dragged_from_x_to_wayland_where_the_daemon_tells_one_window() {
    drags(By::X, By::Wayland, Told::ByFirst);
}

#[test]
fn text_is_dragged_from_wayland_to_x() {
    drags(By::Wayland, By::X, Told::ByAll);
}

#[test]
fn much_text_is_dragged_from_wayland_to_x() {
    drags_much(By::Wayland, By::X);
}

#[test]
fn text_is_moved_from_x_to_wayland() {
    moves(By::X, By::Wayland);
}

#[test]
fn text_is_moved_from_wayland_to_x() {
    moves(By::Wayland, By::X);
}

#[test]
fn a_drag_from_x_to_wayland_ends_by_escape() {
    ends(By::X, By::Wayland, Fate::Escaped);
}

#[test]
fn a_drag_from_wayland_to_x_ends_by_escape() {
    ends(By::Wayland, By::X, Fate::Escaped);
}

#[test]
fn a_drag_from_wayland_to_wayland_ends_by_escape() {
    ends(By::Wayland, By::Wayland, Fate::Escaped);
}

#[test]
fn a_drag_from_x_ends_where_no_window_is() {
    ends(By::X, By::Wayland, Fate::Nowhere);
}

#[test]
fn a_drag_from_wayland_ends_where_no_window_is() {
    ends(By::Wayland, By::X, Fate::Nowhere);
}

#[test]
fn a_drag_from_x_ends_with_its_application() {
    ends(By::X, By::Wayland, Fate::Orphaned);
}

#[test]
fn a_drag_from_wayland_ends_with_its_application() {
    ends(By::Wayland, By::X, Fate::Orphaned);
}

/// Applications of X show what is dragged in a window that is where the pointer is.
#[test]
fn what_x_drags_is_dropped_below_what_shows_it() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let one = window(&mut desk, &mut daemon, ("One", "of one"), By::X, LEFT);
    let two = window(&mut desk, &mut daemon, ("Two", ""), By::Wayland, RIGHT);
    daemon.focus(one, true);
    takes(&desk, &mut daemon, (one, "One"));
    let icon = daemon.new_window("what shows it", &[one, two]);
    assert!(daemon.window(icon).override_redirect);
    daemon.cross(one, (-5, -5), false);
    daemon.cross(icon, (5, 5), true);
    // It moves with the pointer, which is said to be in it.
    let text = wait_for("what was dropped", || {
        let at = |daemon: &Daemon, far: i32| {
            let place = daemon.window(icon).place;
            let (x, y) = (RIGHT.0 + MIDDLE.0 + far, RIGHT.1 + MIDDLE.1);
            (x - place.x(), y - place.y())
        };
        if daemon.windows.contains_key(&icon) {
            for far in 0..20 {
                let at = at(&daemon, far);
                daemon.moves(icon, at);
                daemon.idle(Duration::from_millis(20));
            }
            if tells(&desk, "Two-over") {
                let at = at(&daemon, 20);
                daemon.button(icon, at, 1, false);
            }
        }
        daemon.idle(Duration::from_millis(200));
        dropped(&desk, "Two")
    });
    assert_eq!(text, "of one");
}
