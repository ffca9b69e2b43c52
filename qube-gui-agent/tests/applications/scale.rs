//! Applications that are shown larger than they think.

use bulkhead_wire::gui::DaemonMessage;
use bulkhead_wire::gui::geometry::{Place, Size};

use crate::desk::daemon::Picture;
use crate::desk::{Daemon, Desk, wait_for};
use crate::gtk::FORM;
use crate::wayland::foot;

fn desk(scale: &str) -> (Desk, Daemon) {
    let desk = Desk::with(&["--no-x", "--scale", scale]);
    let daemon = desk.daemon();
    (desk, daemon)
}

/// Whether it is more than a smaller picture with each pixel four times.
fn is_sharp(picture: &Picture) -> bool {
    let (columns, rows) = (picture.size.width() / 2, picture.size.height() / 2);
    let is_even = |x: u32, y: u32| {
        let first = picture.at(x, y);
        [(1, 0), (0, 1), (1, 1)]
            .iter()
            .all(|(dx, dy)| picture.at(x + dx, y + dy) == first)
    };
    (0..columns).any(|x| (0..rows).any(|y| !is_even(2 * x, 2 * y)))
}

#[test]
fn a_terminal_is_larger_and_as_sharp() {
    // What it makes of 700 and 500 units, less what is no whole letter.
    for (scale, width, height) in [("1", 700, 500), ("1.5", 1050, 750), ("2", 1400, 1000)] {
        let (mut desk, mut daemon) = desk(scale);
        let id = foot(&mut desk, &mut daemon);
        daemon.until_picture("a prompt", id, |p| p.colours() > 2 && is_sharp(p));
        let size = daemon.picture(id).size;
        assert_eq!(size, daemon.window(id).size);
        let near = |a: u32, b: u32| a <= b && a + 40 > b;
        assert!(near(size.width(), width), "{scale}: {size:?}");
        assert!(near(size.height(), height), "{scale}: {size:?}");
        daemon.type_text(id, "echo sharp > typed\n");
        wait_for("what was typed", || {
            desk.path("typed").exists().then_some(())
        });
        daemon.keep(id, &format!("foot-at-{scale}"));

        daemon.configure(id, Place::near(30, 20), Size::near(601, 401));
        daemon.until("the new size", |daemon| {
            let (picture, window) = (daemon.picture(id).size, daemon.window(id).size);
            let fits = near(picture.width(), 602) && near(picture.height(), 402);
            (fits && picture == window).then_some(())
        });
    }
}

/// The point of a form that shows its menu, in units.
const MENU: (f64, f64) = (250.0, 72.0);

#[test]
fn a_form_is_pointed_at_where_it_is_seen() {
    for (scale, factor) in [("1.5", 1.5), ("2", 2.0)] {
        let (mut desk, mut daemon) = desk(scale);
        desk.start(&["/usr/bin/python3", FORM]);
        let id = daemon.new_window("a form", &[]);
        daemon.focus(id, true);
        let size = Size::near((500.0 * factor) as u32, (350.0 * factor) as u32);
        daemon.configure(id, Place::near(100, 50), size);
        daemon.until_picture("the new size", id, |p| p.size == size);
        daemon.until_picture("a sharp form", id, is_sharp);

        let at = ((MENU.0 * factor) as i32, (MENU.1 * factor) as i32);
        daemon.click(id, at, 1);
        let menu = daemon.new_window("a menu", &[id]);
        daemon.until_picture("a choice", menu, |picture| picture.colours() > 10);
        daemon.keep(id, &format!("gtk-at-{scale}"));
        daemon.keep(menu, &format!("gtk-menu-at-{scale}"));
        let window = daemon.window(menu);
        let (from, to) = (window.place, window.size);
        // Under the middle of the button, wherever on the screen that is.
        let middle = from.x() + to.width().cast_signed() / 2;
        let expected = 100 + at.0;
        assert!((middle - expected).abs() <= 3, "{middle} for {expected}");
        assert!(from.y() > 50 + at.1, "at {from:?}");
        let centre = [to.width(), to.height()].map(|length| length.cast_signed() / 2);
        daemon.click(menu, centre.into(), 1);
        wait_for("the choice", || desk.path("chosen").exists().then_some(()));
        daemon.say(id, &DaemonMessage::Close);
        daemon.until_gone(id);
    }
}

#[test]
fn text_of_an_application_of_x_is_larger() {
    let sizes = ["1", "2"].map(|scale| {
        let mut desk = Desk::with_scaled_x(scale);
        let mut daemon = desk.daemon();
        desk.start(&["xterm", "-fa", "DejaVu Sans Mono", "-fs", "10", "-e", "sh"]);
        let id = daemon.new_window("an xterm", &[]);
        daemon.until_picture("a prompt", id, |picture| picture.colours() > 2);
        daemon.keep(id, &format!("xterm-at-{scale}"));
        daemon.window(id).size
    });
    let [one, two] = sizes;
    // Letters twice as wide and high, but for what is rounded; the scroll bar stays.
    let is_twice = |one: u32, two: u32| two * 10 > one * 17 && two * 10 < one * 23;
    assert!(
        is_twice(one.width(), two.width()) && is_twice(one.height(), two.height()),
        "{sizes:?}"
    );
}
