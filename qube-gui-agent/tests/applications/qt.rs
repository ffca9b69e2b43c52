//! An application of Qt.

use bulkhead_wire::gui::DaemonMessage;
use bulkhead_wire::gui::geometry::{Place, Size};

use crate::desk::{Desk, keys, wait_for};

const EDITOR: &[&str] = &[
    "env",
    "QT_QPA_PLATFORM=wayland",
    "featherpad",
    "--standalone",
    "text",
];

#[test]
fn a_text_is_edited_and_a_menu_opened() {
    let mut desk = Desk::new();
    let mut daemon = desk.daemon();
    let text = desk.path("text");
    std::fs::write(&text, "").unwrap();
    desk.start(EDITOR);
    let id = daemon.new_window("an editor", &[]);
    daemon.until("its name", |daemon| {
        let window = daemon.window(id);
        (window.title.contains("text") && window.class.1 == "featherpad").then_some(())
    });
    daemon.focus(id, true);
    let (place, size) = (Place::near(100, 80), Size::near(640, 420));
    daemon.configure(id, place, size);
    daemon.until_picture("the new size", id, |picture| picture.size == size);

    daemon.type_text(id, "Hello, Qt!");
    daemon.key(id, keys::CONTROL, true);
    daemon.tap(id, keys::key('s').0);
    daemon.key(id, keys::CONTROL, false);
    wait_for("the text", || {
        let saved = std::fs::read_to_string(&text).ok();
        saved.filter(|saved| saved.trim_end() == "Hello, Qt!")
    });

    daemon.click(id, (20, 10), 1);
    let menu = daemon.new_window("a menu", &[id]);
    daemon.until_picture("lines of a menu", menu, |picture| picture.colours() > 10);
    daemon.keep(id, "qt");
    daemon.keep(menu, "qt-menu");
    let window = daemon.window(menu);
    assert!(window.override_redirect && window.mapped == Some(Some(id)));
    let below = (window.place.x() - 100, window.place.y() - 80);
    assert!(
        (0..10).contains(&below.0) && (15..40).contains(&below.1),
        "{below:?}"
    );
    daemon.tap(id, keys::ESCAPE);
    daemon.until_gone(menu);

    daemon.say(id, &DaemonMessage::Close);
    daemon.until_gone(id);
    wait_for("the editor to end", || desk.has_ended().then_some(()));
}
