//! Daemons that go and come.

use std::io::{Read, Write};

use bulkhead_wire::gui::DaemonMessage;

use crate::desk::{Desk, wait_for};
use crate::wayland::{foot, foot_beside};
use crate::x11::xterm_beside;

#[test]
fn a_daemon_that_comes_is_shown_everything_as_it_is() {
    let mut desk = Desk::with_x();
    let mut first = desk.daemon();
    let terminal = foot(&mut desk, &mut first);
    let xterm = xterm_beside(&mut desk, &mut first, &[terminal]);
    first.focus(terminal, true);
    first.type_text(terminal, "echo before > typed\n");
    let typed = desk.path("typed");
    let read = |text: &str| {
        let there = std::fs::read_to_string(&typed);
        (there.ok()?.as_str() == text).then_some(())
    };
    wait_for("what was typed", || read("before\n"));
    // A key that nobody releases.
    first.key(terminal, crate::desk::keys::SHIFT, true);
    drop(first);

    let mut second = desk.daemon();
    for (id, title) in [(terminal, "a terminal"), (xterm, "an xterm")] {
        second.until("a window with its picture", |daemon| {
            let window = daemon.windows.get(&id)?;
            (window.mapped.is_some() && !window.damage.is_empty()).then_some(())
        });
        let window = second.window(id);
        assert_eq!(window.title, title);
        assert_eq!(window.size, second.picture(id).size);
        second.until_picture("letters", id, |picture| picture.colours() >= 2);
    }
    assert_eq!(second.windows.len(), 2);
    second.focus(terminal, true);
    second.type_text(terminal, "echo after > typed\n");
    wait_for("what was typed after", || read("after\n"));
    second.keep(terminal, "foot-reconnected");
}

#[test]
fn a_daemon_that_comes_last_is_shown_what_there_is() {
    let mut desk = Desk::new();
    desk.start(&["weston-simple-shm"]);
    wait_for("a window", || {
        desk.agent_log().contains("shown").then_some(())
    });
    let mut daemon = desk.daemon();
    let id = daemon.new_window("an animation", &[]);
    let seen = daemon.picture(id).pixels;
    daemon.until_picture("others", id, |picture| picture.pixels != seen);
}

#[test]
fn a_daemon_that_cannot_be_understood_makes_room_for_another() {
    let mut desk = Desk::new();
    for version in [[8, 0, 2, 0], [3, 0, 1, 0], [9, 0, 1, 0]] {
        let mut other = desk.raw_daemon();
        let mut offered = [0; 4];
        other.read_exact(&mut offered).unwrap();
        assert_eq!(offered, [8, 1, 1, 0]);
        other.write_all(&version).unwrap();
        // The agent leaves without another word.
        assert_eq!(other.read(&mut offered).unwrap(), 0);
    }
    let mut daemon = desk.daemon();
    foot(&mut desk, &mut daemon);
}

#[test]
fn windows_that_open_and_close_without_a_daemon_are_no_trouble() {
    let mut desk = Desk::new();
    let first = desk.daemon();
    drop(first);
    desk.start(&["foot", "--config=/dev/null", "sh", "-c", "exit"]);
    wait_for("a terminal to end", || desk.has_ended().then_some(()));
    let mut second = desk.daemon();
    let id = foot(&mut desk, &mut second);
    assert_eq!(second.windows.len(), 1);
    second.say(id, &DaemonMessage::Close);
    second.until_gone(id);
}

#[test]
fn the_number_of_a_window_is_not_used_while_the_daemon_holds_it() {
    let mut desk = Desk::new();
    let mut daemon = desk.daemon();
    daemon.answers_destroy = false;
    for _ in 0..3 {
        let held = daemon.destroyed.clone();
        // The daemon itself minds that no number of those comes again.
        let id = foot_beside(&mut desk, &mut daemon, &held);
        daemon.say(id, &DaemonMessage::Close);
        daemon.until_gone(id);
    }
    assert_eq!(daemon.destroyed.len(), 3);
}
