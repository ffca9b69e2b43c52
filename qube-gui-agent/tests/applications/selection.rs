//! What is copied and pasted.

use std::time::Duration;

use bulkhead_wire::gui::{CLIPBOARD_MAX, DaemonMessage, WindowId};

use crate::desk::{Daemon, Desk, keys, wait_for};
use crate::wayland::foot;
use crate::x11::xterm_beside;

/// Control, shift and a letter.
fn shortcut(daemon: &mut Daemon, id: WindowId, letter: char) {
    daemon.key(id, keys::CONTROL, true);
    daemon.key(id, keys::SHIFT, true);
    daemon.tap(id, keys::key(letter).0);
    daemon.key(id, keys::SHIFT, false);
    daemon.key(id, keys::CONTROL, false);
}

#[track_caller]
pub(crate) fn copied(daemon: &mut Daemon, id: WindowId) -> Option<Vec<u8>> {
    daemon.clipboards.clear();
    daemon.say(id, &DaemonMessage::ClipboardRequest);
    daemon.until("an answer", |daemon| daemon.clipboards.pop())
}

/// Selects a word by two clicks and `copy`s it, until it is the right one. Nothing tells when it is
/// where it is to be.
#[track_caller]
fn copy_word(
    daemon: &mut Daemon,
    id: WindowId,
    at: (i32, i32),
    word: &str,
    copy: impl Fn(&mut Daemon),
) {
    wait_for(word, || {
        // Clicks that are further apart are no third and fourth.
        daemon.idle(Duration::from_millis(700));
        daemon.click(id, at, 1);
        daemon.click(id, at, 1);
        copy(daemon);
        daemon.idle(Duration::from_millis(200));
        (copied(daemon, id)? == word.as_bytes()).then_some(())
    });
}

/// Waits until a file has this text.
#[track_caller]
fn until_file(desk: &Desk, name: &str, text: &str) {
    let path = desk.path(name);
    wait_for(name, || {
        let there = std::fs::read_to_string(&path);
        (there.ok()?.trim_end() == text.trim_end()).then_some(())
    });
}

#[test]
fn text_of_another_qube_is_pasted_and_given_back() {
    let mut desk = Desk::new();
    let mut daemon = desk.daemon();
    let id = foot(&mut desk, &mut daemon);
    daemon.until_picture("a prompt", id, |picture| picture.colours() > 2);
    assert_eq!(copied(&mut daemon, id), Some(Vec::new()));

    let text = b"echo pasted > from-outside\n".to_vec();
    daemon.say(id, &DaemonMessage::Clipboard(text.clone()));
    shortcut(&mut daemon, id, 'v');
    until_file(&desk, "from-outside", "pasted\n");
    assert_eq!(copied(&mut daemon, id), Some(text));

    let much = vec![b'x'; CLIPBOARD_MAX];
    daemon.say(id, &DaemonMessage::Clipboard(much.clone()));
    assert_eq!(copied(&mut daemon, id), Some(much));
}

#[test]
fn what_is_selected_is_copied_between_wayland_and_x_and_to_the_daemon() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let terminal = foot(&mut desk, &mut daemon);
    daemon.until_picture("a prompt", terminal, |picture| picture.colours() > 2);
    daemon.type_text(terminal, "clear; echo from_wayland > w; cat w\n");
    until_file(&desk, "w", "from_wayland\n");
    copy_word(&mut daemon, terminal, (30, 10), "from_wayland", |daemon| {
        shortcut(daemon, terminal, 'c');
    });

    // The clipboard of Wayland to X.
    daemon.focus(terminal, false);
    let xterm = xterm_beside(&mut desk, &mut daemon, &[terminal]);
    daemon.type_text(xterm, "clear; cat > x\n");
    wait_for("cat", || desk.path("x").exists().then_some(()));
    daemon.key(xterm, keys::SHIFT, true);
    daemon.tap(xterm, keys::INSERT);
    daemon.key(xterm, keys::SHIFT, false);
    wait_for("what was pasted", || {
        // It comes when it comes, and is read by lines.
        daemon.tap(xterm, keys::RETURN);
        daemon.idle(Duration::from_millis(100));
        let there = std::fs::read_to_string(desk.path("x")).unwrap();
        (there.trim() == "from_wayland").then_some(())
    });
    daemon.key(xterm, keys::CONTROL, true);
    daemon.tap(xterm, keys::key('d').0);
    daemon.key(xterm, keys::CONTROL, false);

    // And that of X to the daemon and to Wayland.
    daemon.type_text(xterm, "clear; echo from_x; echo > there\n");
    until_file(&desk, "there", "\n");
    copy_word(&mut daemon, xterm, (10, 8), "from_x", |_| ());
    daemon.focus(xterm, false);
    daemon.focus(terminal, true);
    daemon.type_text(terminal, "echo ");
    shortcut(&mut daemon, terminal, 'v');
    daemon.type_text(terminal, " > back\n");
    until_file(&desk, "back", "from_x\n");
}
