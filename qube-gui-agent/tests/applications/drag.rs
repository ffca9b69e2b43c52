//! What is dragged from one window of a qube and dropped to another.

use std::time::Duration;

use bulkhead_wire::gui::geometry::{Place, Size};
use bulkhead_wire::gui::{Version, WindowId};

use crate::desk::{Daemon, Desk, wait_for};

const DRAG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/applications/drag.py");

/// Where in each window.
const MIDDLE: (i32, i32) = (150, 100);

fn size() -> Size {
    Size::near(300, 200)
}

/// How a window is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Wayland,
    X,
}

/// A window that this text can be dragged from, or any dropped to where it has none, at this place.
#[track_caller]
fn window(
    desk: &mut Desk,
    daemon: &mut Daemon,
    (title, text): (&str, &str),
    by: By,
    at: Place,
) -> WindowId {
    let backend = match by {
        By::Wayland => "GDK_BACKEND=wayland",
        By::X => "GDK_BACKEND=x11",
    };
    desk.start(&["env", backend, "/usr/bin/python3", DRAG, title, text]);
    let others: Vec<_> = daemon.windows.keys().copied().collect();
    let id = daemon.new_window(title, &others);
    daemon.configure(id, at, size());
    daemon.until_picture("the size", id, |picture| {
        picture.size == size() && picture.colours() > 2
    });
    id
}

/// Whether an application has told this since it was asked last.
fn tells(desk: &Desk, what: &str) -> bool {
    std::fs::remove_file(desk.path(what)).is_ok()
}

/// Takes hold of what is in a window, and moves it there until the application knows of it.
#[track_caller]
fn takes(desk: &Desk, daemon: &mut Daemon, by: By, (from, title): (WindowId, &str)) {
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
    // It has told so itself before it told the agent, which hears nothing of drags of X.
    wait_for("the agent to hear of it", || {
        daemon.moves(from, (x + far, y));
        daemon.idle(Duration::from_millis(20));
        (by == By::X || heard() > before).then_some(())
    });
}

/// How the pointer is told of where it is not over the window that has it.
#[derive(Debug, Clone, Copy)]
enum Told {
    /// Every window of the qube hears of it.
    ByAll,
    /// The one where the button went down hears of it.
    ByFirst,
}

/// Moves the pointer in a window, which it has come to from another one, and lets go there.
fn drops(daemon: &mut Daemon, (from, to): (WindowId, WindowId), told: Told) {
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

fn dropped(desk: &Desk, title: &str) -> Option<String> {
    let text = std::fs::read_to_string(desk.path(title)).ok();
    text.filter(|text| !text.is_empty())
}

/// Drags until it is dropped: applications have to agree before the button comes up.
#[track_caller]
fn drags(from: By, to: By, told: Told) {
    let mut desk = Desk::with_x();
    let mut daemon = match told {
        Told::ByAll => desk.daemon(),
        Told::ByFirst => desk.daemon_speaking(Version::PLAIN),
    };
    let (place, other) = (Place::near(50, 50), Place::near(500, 80));
    let one = window(&mut desk, &mut daemon, ("One", "of one"), from, place);
    let two = window(&mut desk, &mut daemon, ("Two", ""), to, other);
    daemon.focus(one, true);
    let text = wait_for("what was dropped", || {
        takes(&desk, &mut daemon, from, (one, "One"));
        drops(&mut daemon, (one, two), told);
        daemon.idle(Duration::from_millis(500));
        dropped(&desk, "Two")
    });
    assert_eq!(text, "of one");
    wait_for("the end", || tells(&desk, "One-ended").then_some(()));
    daemon.until_picture("the text", two, |picture| picture.colours() > 2);
    daemon.keep(two, &format!("dropped-{from:?}-{to:?}"));
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
    let (place, other) = (Place::near(50, 50), Place::near(500, 80));
    let (by, texts) = (By::Wayland, [("One", "of one"), ("Two", "")]);
    let one = window(&mut desk, &mut daemon, texts[0], by, place);
    let two = window(&mut desk, &mut daemon, texts[1], by, other);
    daemon.focus(one, true);
    takes(&desk, &mut daemon, by, (one, "One"));
    // The second is there by its place; the daemon does not say that the pointer is over it.
    drops(&mut daemon, (one, two), Told::ByFirst);
    wait_for("the end", || {
        daemon.idle(Duration::from_millis(20));
        tells(&desk, "One-kept").then_some(())
    });
    assert!(!tells(&desk, "Two-over"));
    assert_eq!(dropped(&desk, "Two"), None);
}
