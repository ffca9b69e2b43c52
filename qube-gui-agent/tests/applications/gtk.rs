//! An application of GTK 4, which knows no decoration but its own and one of KDE's.

use bulkhead_wire::gui::DaemonMessage;
use bulkhead_wire::gui::geometry::{Place, Size};

use crate::desk::{Desk, wait_for};

pub(crate) const FORM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/applications/gtk.py");

#[test]
fn a_form_is_filled_in_and_a_choice_made_from_its_menu() {
    let mut desk = Desk::new();
    let mut daemon = desk.daemon();
    // Debian's own, which finds Debian's bindings.
    desk.start(&["/usr/bin/python3", FORM]);
    let id = daemon.new_window("a form", &[]);
    assert_eq!(daemon.window(id).title, "a form");
    daemon.focus(id, true);
    let (place, size) = (Place::near(100, 100), Size::near(500, 350));
    daemon.configure(id, place, size);
    daemon.until_picture("the new size", id, |picture| picture.size == size);
    daemon.keep(id, "gtk");

    daemon.type_text(id, "Hello, World!\n");
    let entered = wait_for("the text", || {
        let text = std::fs::read_to_string(desk.path("entered")).ok();
        text.filter(|text| !text.is_empty())
    });
    assert_eq!(entered, "Hello, World!");

    daemon.point(id, 200, 30);
    let tooltip = daemon.new_window("a tooltip", &[id]);
    daemon.keep(tooltip, "gtk-tooltip");
    let window = daemon.window(tooltip);
    assert!(window.override_redirect && window.mapped == Some(Some(id)));
    let from = window.place;
    assert!(
        (200..400).contains(&from.x()) && (120..220).contains(&from.y()),
        "at {from:?}"
    );

    daemon.click(id, (250, 72), 1);
    daemon.until_gone(tooltip);
    let menu = daemon.new_window("a menu", &[id]);
    daemon.until_picture("a choice", menu, |picture| picture.colours() > 10);
    daemon.keep(id, "gtk-entered");
    daemon.keep(menu, "gtk-menu");
    let window = daemon.window(menu);
    assert!(window.override_redirect && window.mapped == Some(Some(id)));
    // Below the button.
    let (from, to) = (window.place, window.size);
    let middle = from.x() + to.width().cast_signed() / 2;
    assert!(
        (300..400).contains(&middle) && from.y() > 150,
        "at {from:?}"
    );
    let centre = [to.width(), to.height()].map(|length| length.cast_signed() / 2);
    daemon.click(menu, centre.into(), 1);
    wait_for("the choice", || desk.path("chosen").exists().then_some(()));

    daemon.say(id, &DaemonMessage::Close);
    daemon.until_gone(id);
    wait_for("the form to end", || desk.has_ended().then_some(()));
}
