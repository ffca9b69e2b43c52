//! A browser, with processes of its own for pages, and menus that it draws itself.

use std::fs;

use bulkhead_wire::gui::geometry::{Place, Size};
use bulkhead_wire::gui::{DaemonMessage, WindowId};

use crate::desk::daemon::Picture;
use crate::desk::{Daemon, Desk, keys, wait_for};

const PREFERENCES: &str = include_str!("firefox.js");
const PAGE: &str = include_str!("firefox.html");

const BACKGROUND: [u8; 3] = [0x20, 0x40, 0x80];
const WITH_TOOLTIP: [u8; 3] = [0xe0, 0x80, 0x20];

/// Where the page begins in the window.
fn corner(picture: &Picture) -> Option<(i32, i32)> {
    let at = picture.pixels.iter().position(|&p| p == BACKGROUND)?;
    let width = picture.size.width() as usize;
    let [x, y] = [at % width, at / width].map(|n| i32::try_from(n).unwrap());
    Some((x, y))
}

/// Waits until the page says something in the title.
#[track_caller]
fn until_title(daemon: &mut Daemon, id: WindowId, text: &str) {
    daemon.until(text, |daemon| {
        daemon.window(id).title.starts_with(text).then_some(())
    });
}

#[test]
fn a_page_is_typed_into_its_menus_and_tooltips_appear_and_it_follows_its_window() {
    let mut desk = Desk::new();
    let mut daemon = desk.daemon();
    let profile = desk.path("profile");
    fs::create_dir(&profile).unwrap();
    fs::write(profile.join("user.js"), PREFERENCES).unwrap();
    let page = desk.path("page.html");
    fs::write(&page, PAGE).unwrap();
    desk.start(&[
        "env",
        "MOZ_ENABLE_WAYLAND=1",
        "firefox-esr",
        "--no-remote",
        "--profile",
        profile.to_str().unwrap(),
        page.to_str().unwrap(),
    ]);
    let id = daemon.new_window("a browser", &[]);
    until_title(&mut daemon, id, "page of ");
    daemon.focus(id, true);
    let (place, size) = (Place::near(50, 40), Size::near(800, 600));
    daemon.configure(id, place, size);
    daemon.until_picture("the page", id, |picture| {
        picture.size == size && picture.pixels.contains(&WITH_TOOLTIP)
    });
    daemon.keep(id, "firefox");
    let (x, y) = corner(&daemon.picture(id)).unwrap();

    daemon.click(id, (x + 200, y + 55), 1);
    daemon.type_text(id, "Hello, Fox!\n");
    until_title(&mut daemon, id, "entered Hello, Fox!");

    // What is shown where the pointer rests: in the window itself, below the pointer.
    daemon.point(id, x + 150, y + 150);
    daemon.point(id, x + 152, y + 151);
    let tip = [x + 165, y + 190].map(i32::cast_unsigned);
    daemon.until_picture("a tooltip", id, |picture| {
        picture.at(tip[0], tip[1]) != BACKGROUND
    });
    daemon.keep(id, "firefox-tooltip");
    daemon.point(id, x + 500, y + 300);
    daemon.until_picture("no tooltip", id, |picture| {
        picture.at(tip[0], tip[1]) == BACKGROUND
    });

    // The menu of the other button.
    daemon.click(id, (x + 500, y + 300), 3);
    let menu = daemon.new_window("a menu", &[id]);
    daemon.until_picture("lines of a menu", menu, |picture| picture.colours() > 10);
    daemon.keep(menu, "firefox-menu");
    let window = daemon.window(menu);
    assert!(window.override_redirect && window.mapped == Some(Some(id)));
    let at = (window.place.x() - 50 - x, window.place.y() - 40 - y);
    assert!((490..515).contains(&at.0), "{at:?}");
    daemon.tap(id, keys::ESCAPE);
    daemon.until_gone(menu);
    daemon.click(id, (x + 150, y + 150), 1);
    until_title(&mut daemon, id, "clicked");

    let size = Size::near(1000, 700);
    daemon.configure(id, place, size);
    until_title(&mut daemon, id, "page of 1000 by ");
    daemon.until_picture("the new size", id, |picture| {
        picture.size == size && picture.at(980, 680) == BACKGROUND
    });

    daemon.say(id, &DaemonMessage::Close);
    daemon.until_gone(id);
    wait_for("the browser to end", || desk.has_ended().then_some(()));
}
