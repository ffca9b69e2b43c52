//! Input methods.

use bulkhead_wire::gui::geometry::{Place, Size};
use bulkhead_wire::gui::{DaemonMessage, Input, WindowId};

use crate::desk::{Daemon, Desk, InputMethod, keys, wait_for};
use crate::gtk::FORM;
use crate::x11::xterm_beside;

/// A form whose entry has the keyboard, and an input method that is told so.
#[track_caller]
fn form(desk: &mut Desk, daemon: &mut Daemon, method: &mut InputMethod) -> WindowId {
    desk.start(&["/usr/bin/python3", FORM]);
    let id = daemon.new_window("a form", &[]);
    daemon.focus(id, true);
    until_active(daemon, method, true);
    id
}

#[track_caller]
fn until_active(daemon: &mut Daemon, method: &mut InputMethod, active: bool) {
    daemon.until("a field that wants text, or not any more", |_| {
        method.hear();
        (method.told.active == active).then_some(())
    });
}

/// Waits until the input method was told of these keys, each down and up, and of no other.
#[track_caller]
fn until_keys(daemon: &mut Daemon, method: &mut InputMethod, keys: &[u32]) {
    let wanted: Vec<_> = keys
        .iter()
        .flat_map(|key| [(*key, true), (*key, false)])
        .collect();
    daemon.until("keys for the input method", |_| {
        method.hear();
        (method.told.keys.len() >= wanted.len()).then_some(())
    });
    assert_eq!(std::mem::take(&mut method.told.keys), wanted);
}

#[track_caller]
fn entered(desk: &Desk) -> String {
    wait_for("the text", || {
        let text = std::fs::read_to_string(desk.path("entered")).ok();
        text.filter(|text| !text.is_empty())
    })
}

#[test]
fn keys_become_what_an_input_method_makes_of_them_and_nothing_else() {
    let mut desk = Desk::new();
    let mut daemon = desk.daemon();
    let mut method = desk.input_method();
    let id = form(&mut desk, &mut daemon, &mut method);
    method.grab();
    daemon.type_text(id, "ka");
    until_keys(
        &mut daemon,
        &mut method,
        &[keys::key('k').0, keys::key('a').0],
    );

    let before = daemon.picture(id).pixels;
    method.compose("か");
    daemon.until_picture("text that is composed", id, |p| p.pixels != before);
    daemon.keep(id, "composing");
    method.write("漢字");
    daemon.tap(id, keys::RETURN);
    until_keys(&mut daemon, &mut method, &[keys::RETURN]);
    assert!(!desk.path("entered").exists(), "the form has had the key");
    method.pass_on(keys::RETURN);
    assert_eq!(entered(&desk), "漢字");
}

/// A group of input methods that has one for Chinese.
const PROFILE: &str = "[Groups/0]
Name=Default
Default Layout=us
DefaultIM=pinyin
[Groups/0/Items/0]
Name=pinyin
[GroupOrder]
0=Default
";

#[test]
fn fcitx_makes_chinese_of_latin_letters() {
    let mut desk = Desk::new();
    let mut daemon = desk.daemon();
    let config = desk.path(".config/fcitx5");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("profile"), PROFILE).unwrap();
    desk.start(&["/usr/bin/python3", FORM]);
    let id = daemon.new_window("a form", &[]);
    daemon.focus(id, true);
    let bus = desk.path("bus");
    let address = format!("unix:path={}", bus.display());
    let listen = format!("--address={address}");
    desk.start(&["dbus-daemon", "--session", "--nofork", &listen]);
    wait_for("a bus", || bus.exists().then_some(()));
    let address = format!("DBUS_SESSION_BUS_ADDRESS={address}");
    desk.start(&["env", &address, "fcitx5", "--disable=kimpanel"]);
    let log = || desk.agent_log().contains("an input method wants keys");
    daemon.until("fcitx", |_| log().then_some(()));

    daemon.type_text(id, "nihao");
    // It says in a small one first what it is.
    let shown = daemon.until("candidates", |daemon| {
        let mut popups = daemon.windows.iter().filter(|(popup, _)| **popup != id);
        let wide = popups.find(|(_, window)| window.size.width() > 100);
        wide.map(|(popup, _)| *popup)
    });
    daemon.until_picture("candidates", shown, |picture| {
        picture.size.width() > 100 && picture.colours() > 10
    });
    daemon.keep(id, "fcitx");
    daemon.keep(shown, "fcitx-candidates");
    let window = daemon.window(shown);
    assert!(window.override_redirect && window.mapped == Some(Some(id)));
    daemon.type_text(id, " ");
    daemon.until_gone(shown);
    daemon.tap(id, keys::RETURN);
    assert_eq!(entered(&desk), "你好");
}

#[test]
fn candidates_are_shown_where_text_is_and_while_it_is_wanted() {
    let mut desk = Desk::new();
    let mut daemon = desk.daemon();
    let mut method = desk.input_method();
    let id = form(&mut desk, &mut daemon, &mut method);
    let size = Size::near(500, 350);
    daemon.configure(id, Place::near(100, 100), size);
    daemon.until_picture("the new size", id, |picture| picture.size == size);

    let (popup, _surface) = method.show((120, 50));
    let shown = daemon.new_window("candidates", &[id]);
    let window = daemon.window(shown);
    assert!(window.override_redirect && window.mapped == Some(Some(id)));
    assert_eq!(window.size, Size::near(120, 50));
    // The entry is at the upper edge.
    let (x, y) = (window.place.x(), window.place.y());
    assert!(
        (100..200).contains(&x) && (110..160).contains(&y),
        "{x}, {y}"
    );
    daemon.keep(shown, "candidates");

    daemon.configure(id, Place::near(300, 150), size);
    let moved = Place::near(x + 200, y + 50);
    daemon.until("candidates to follow", |daemon| {
        (daemon.window(shown).place == moved).then_some(())
    });
    // Where there is no room below.
    daemon.configure(id, Place::near(300, 720), size);
    daemon.until("candidates above", |daemon| {
        let place = daemon.window(shown).place;
        (place.x() == x + 200 && (640..720).contains(&place.y())).then_some(())
    });

    daemon.focus(id, false);
    until_active(&mut daemon, &mut method, false);
    daemon.until_gone(shown);
    daemon.focus(id, true);
    until_active(&mut daemon, &mut method, true);
    let again = daemon.new_window("candidates", &[id]);
    popup.destroy();
    method.hear();
    daemon.until_gone(again);
}

#[test]
fn keys_for_who_wants_no_text_are_not_the_input_methods() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let mut method = desk.input_method();
    let form = form(&mut desk, &mut daemon, &mut method);
    method.grab();
    // It comes up where it went down.
    daemon.key(form, keys::SHIFT, true);
    daemon.focus(form, false);
    until_active(&mut daemon, &mut method, false);
    let shift = [(keys::SHIFT, true), (keys::SHIFT, false)];
    assert_eq!(std::mem::take(&mut method.told.keys), shift);

    let xterm = xterm_beside(&mut desk, &mut daemon, &[form]);
    daemon.key(xterm, keys::SHIFT, false);
    daemon.type_text(xterm, "echo plain > typed\n");
    wait_for("what was typed", || {
        let typed = std::fs::read_to_string(desk.path("typed"));
        typed.ok().filter(|text| text == "plain\n")
    });
    method.hear();
    assert_eq!(method.told.keys, []);

    // A grab that ends gives the keys back.
    daemon.focus(xterm, false);
    daemon.focus(form, true);
    until_active(&mut daemon, &mut method, true);
    let again = method.grab();
    again.release();
    method.hear();
    daemon.type_text(form, "ours\n");
    assert_eq!(entered(&desk), "ours");
    method.hear();
    assert_eq!(method.told.keys, []);
}

#[test]
fn there_is_one_input_method_and_its_end_is_no_end_of_typing() {
    let mut desk = Desk::new();
    let mut daemon = desk.daemon();
    let mut first = desk.input_method();
    let mut second = desk.input_method();
    assert!(second.told.refused && !first.told.refused);
    let id = form(&mut desk, &mut daemon, &mut first);
    first.grab();
    // What the other asks for is nothing.
    let _theirs = (second.grab(), second.show((10, 10)));
    drop(second);
    daemon.tap(id, keys::key('x').0);
    until_keys(&mut daemon, &mut first, &[keys::key('x').0]);
    first.hear();
    assert!(!first.told.refused && first.told.active);
    assert_eq!(daemon.windows.len(), 1);

    drop(first);
    let mut third = wait_for("an input method", || {
        Some(desk.input_method()).filter(|method| !method.told.refused)
    });
    until_active(&mut daemon, &mut third, true);
    third.grab();
    daemon.tap(id, keys::key('y').0);
    until_keys(&mut daemon, &mut third, &[keys::key('y').0]);
    drop(third);
    daemon.until("the end of it", |daemon| {
        daemon.type_text(id, "plain\n");
        desk.path("entered").exists().then_some(())
    });
    assert!(entered(&desk).contains("plain"));
}

#[test]
fn an_input_method_knows_modifiers_and_layout() {
    let mut desk = Desk::new();
    let mut daemon = desk.daemon();
    let mut method = desk.input_method();
    let id = form(&mut desk, &mut daemon, &mut method);
    method.grab();
    let (keycode, _) = keys::key('y');
    for (state, modifiers) in [(1 << 13, (0, 0, 1)), (1 << 1, (0, 2, 0)), (1, (1, 0, 0))] {
        for down in [true, false] {
            let input = Input {
                state,
                ..Input::default()
            };
            let message = DaemonMessage::Key {
                down,
                input,
                keycode,
            };
            daemon.say(id, &message);
        }
        until_keys(&mut daemon, &mut method, &[keycode]);
        assert_eq!(method.told.modifiers, modifiers);
    }
}

#[test]
fn a_virtual_keyboard_needs_a_keymap_that_is_there() {
    let desk = Desk::new();
    for (bytes, said) in [(0, 0), (10, 0), (10, 11), (10, u32::MAX)] {
        // The agent lets the one before go some time after it is gone.
        let mut method = wait_for("an input method", || {
            let method = desk.input_method();
            (!method.told.refused).then_some(method)
        });
        assert!(!method.set_keymap(&vec![b'x'; bytes], said));
    }
}
