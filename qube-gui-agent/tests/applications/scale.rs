//! Applications that are shown larger than they think.

use bulkhead_wire::gui::geometry::{Place, Size};
use bulkhead_wire::gui::{DaemonMessage, WindowId};

use crate::desk::daemon::Picture;
use crate::desk::{Daemon, Desk, wait_for};
use crate::gtk::FORM;
use crate::wayland::{FOOT, foot};

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

/// A monitor of 96 dots per inch, and right of it one of 192.
const TWO: &str = "1280 800 0 0 338 211\n1280 800 1280 0 169 105\n";

/// Where the second begins.
const SECOND: i32 = 1280;

/// Has a terminal say how many lines and letters fit into it.
#[track_caller]
fn letters(desk: &Desk, daemon: &mut Daemon, id: WindowId) -> (u32, u32) {
    let file = desk.path("letters");
    let _ = std::fs::remove_file(&file);
    daemon.type_text(id, "stty size > new; mv new letters\n");
    let told = wait_for("how many letters", || std::fs::read_to_string(&file).ok());
    let mut numbers = told
        .split_whitespace()
        .map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn twice(size: Size) -> Size {
    Size::near(2 * size.width(), 2 * size.height())
}

#[test]
fn a_terminal_is_as_dense_as_the_monitor_that_it_is_on() {
    let mut desk = Desk::new();
    desk.set_monitors(TWO);
    let mut daemon = desk.daemon();
    // With all that is said to it, and by it.
    let foot = format!("WAYLAND_DEBUG=1 exec foot {}", FOOT[1..].join(" "));
    let foot = foot.replace("a terminal", "terminal");
    desk.start(&["/bin/sh", "-c", &foot]);
    let id = daemon.new_window("a terminal", &[]);
    daemon.focus(id, true);
    daemon.until_picture("a prompt", id, |p| p.colours() > 2);
    let said = |desk: &Desk, text: &str| {
        let log = std::fs::read_to_string(desk.path("sh.log")).unwrap_or_default();
        log.matches(text).count()
    };
    let one = daemon.window(id).size;
    let first = letters(&desk, &mut daemon, id);
    // Letters twice as large may be a bit narrower than two.
    let fits = |now: (u32, u32)| now.0 == first.0 && now.1.abs_diff(first.1) < 8;
    daemon.keep(id, "foot-on-first");
    assert_eq!(said(&desk, ".enter(wl_output@"), 1);

    // The person moves it: it keeps what it shows, with twice the pixels.
    daemon.configure(id, Place::near(SECOND + 100, 50), one);
    daemon.until_picture("twice the size", id, |p| {
        p.size == twice(one) && is_sharp(p)
    });
    daemon.until("twice the window", |daemon| {
        (daemon.window(id).size == twice(one)).then_some(())
    });
    assert_eq!(daemon.window(id).place, Place::near(SECOND + 100, 50));
    let second = letters(&desk, &mut daemon, id);
    assert!(fits(second), "{second:?} for {first:?}");
    daemon.keep(id, "foot-on-second");
    // It knows no parts, and goes by where it is.
    assert_eq!(said(&desk, ".enter(wl_output@"), 2);
    assert_eq!(said(&desk, ".leave(wl_output@"), 1);
    // A daemon that has not heard of that when the person moves on.
    daemon.configure(id, Place::near(SECOND + 200, 50), one);
    daemon.until("twice the window", |daemon| {
        let window = daemon.window(id);
        let is_there = window.place == Place::near(SECOND + 200, 50);
        (is_there && window.size == twice(one)).then_some(())
    });
    daemon.configure(id, Place::near(0, 0), twice(one));
    daemon.until_picture("the size of before", id, |p| p.size == one);
    daemon.until("the window of before", |daemon| {
        (daemon.window(id).size == one).then_some(())
    });
    assert_eq!(letters(&desk, &mut daemon, id), first);

    // Its monitor becomes another one under it.
    desk.set_monitors("1280 800 0 0 169 105\n");
    daemon.until_picture("twice the size", id, |p| {
        p.size == twice(one) && is_sharp(p)
    });
    // What is no layout changes nothing.
    desk.set_monitors("1280 800\n");
    desk.set_monitors(&"1280 800 0 0\n".repeat(17));
    wait_for("two refusals", || {
        (desk.agent_log().matches("passed over").count() == 2).then_some(())
    });
    daemon.until_picture("twice the size", id, |p| p.size == twice(one));
}

/// A window that draws each pixel of the screen.
const FRACTIONAL: &[&str] = &[
    "/usr/bin/python3",
    concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/applications/fractional.py"
    ),
];

#[test]
fn what_an_application_draws_for_parts_of_pixels_is_shown_pixel_by_pixel() {
    let mut desk = Desk::new();
    // Of 96 dots per inch, of 144, and of 240.
    desk.set_monitors("500 800 0 0 132 211\n500 800 500 0 88 141\n500 800 1000 0 52 84\n");
    let mut daemon = desk.daemon();
    desk.start(FRACTIONAL);
    let id = daemon.new_window("a window", &[]);
    let sizes = [(60, 40), (90, 60), (150, 100), (60, 40)];
    let mut now = Size::near(60, 40);
    for (x, (width, height)) in [0, 600, 1200, 100].into_iter().zip(sizes) {
        if x > 0 {
            daemon.configure(id, Place::near(x, 30), now);
        }
        now = Size::near(width, height);
        let white = |x, y| [if (x + y) % 2 == 1 { 255 } else { 0 }; 3];
        daemon.until_picture("every pixel", id, |picture| {
            let mut all = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
            picture.size == now && all.all(|(x, y)| picture.at(x, y) == white(x, y))
        });
        daemon.until("the window of the picture", |daemon| {
            (daemon.window(id).size == now).then_some(())
        });
        daemon.keep(id, &format!("every-pixel-at-{width}"));
    }
    let told = std::fs::read_to_string(desk.path("told")).unwrap();
    let told = |of: &str| -> Vec<String> {
        let of_it = told.lines().filter_map(|line| line.strip_prefix(of));
        of_it.map(str::to_owned).collect()
    };
    assert_eq!(told("parts "), ["120", "180", "300", "120"]);
    assert_eq!(told("below "), ["120", "180", "300", "120"]);
    // Never fewer pixels than there are.
    assert_eq!(told("whole "), ["2", "3", "1"]);
}

#[test]
fn a_form_that_the_person_has_sized_keeps_its_pixels_and_its_menus_are_beside_it() {
    let mut desk = Desk::new();
    desk.set_monitors(TWO);
    let mut daemon = desk.daemon();
    desk.start(&["/usr/bin/python3", FORM]);
    let id = daemon.new_window("a form", &[]);
    daemon.focus(id, true);
    let size = Size::near(1000, 700);
    daemon.configure(id, Place::near(100, 50), size);
    daemon.until_picture("the new size", id, |p| p.size == size);
    daemon.configure(id, Place::near(SECOND + 100, 50), size);
    let at = ((MENU.0 * 2.0) as i32, (MENU.1 * 2.0) as i32);
    let menu = daemon.until("a menu", |daemon| {
        daemon.click(id, at, 1);
        daemon.idle(std::time::Duration::from_millis(500));
        let mut windows = daemon.windows.iter();
        let found = windows.find(|(known, window)| {
            **known != id && window.mapped == Some(Some(id)) && !window.damage.is_empty()
        });
        found.map(|(id, _)| *id)
    });
    daemon.until_picture("a choice", menu, |picture| picture.colours() > 10);
    daemon.keep(id, "gtk-on-second");
    daemon.keep(menu, "gtk-menu-on-second");
    assert_eq!(daemon.window(id).size, size);
    let window = daemon.window(menu);
    let (from, to) = (window.place, window.size);
    let middle = from.x() + to.width().cast_signed() / 2;
    let expected = SECOND + 100 + at.0;
    assert!((middle - expected).abs() <= 3, "{middle} for {expected}");
    let centre = [to.width(), to.height()].map(|length| length.cast_signed() / 2);
    daemon.click(menu, centre.into(), 1);
    wait_for("the choice", || desk.path("chosen").exists().then_some(()));
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
