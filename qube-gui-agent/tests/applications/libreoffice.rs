//! A word processor, by a toolkit of Wayland and as a plain application of X.

use std::fs;
use std::time::Duration;

use bulkhead_wire::gui::geometry::{Place, Size};
use bulkhead_wire::gui::{DaemonMessage, WindowId};

use crate::desk::{Daemon, Desk, keys, wait_for};
use crate::selection::copied;

const SETTINGS: &str = include_str!("libreoffice.xcu");

/// No letter twice in a row: as an application of X it takes two presses that follow each other at
/// once for one.
const TEXT: &str = "Words of Writer.";

/// What differs between toolkits.
struct Toolkit {
    environment: &'static [&'static str],
    /// How far down the first line of buttons is.
    buttons: i32,
    /// Where the question about saving has the button for no, in hundredths of its size.
    no: [u32; 2],
}

fn start(desk: &mut Desk, environment: &[&str]) {
    let user = desk.path("profile/user");
    fs::create_dir_all(&user).unwrap();
    fs::write(user.join("registrymodifications.xcu"), SETTINGS).unwrap();
    let profile = desk.path("profile");
    let profile = format!("-env:UserInstallation=file://{}", profile.display());
    let program = ["libreoffice", "--writer", "--norestore", "--nologo"];
    let words = [&["env"], environment, &program, &[&profile]].concat();
    desk.start(&words);
}

fn control(daemon: &mut Daemon, id: WindowId, letter: char) {
    daemon.key(id, keys::CONTROL, true);
    daemon.tap(id, keys::key(letter).0);
    daemon.key(id, keys::CONTROL, false);
}

/// Opens the first menu, which is to appear below its name, and closes it.
#[track_caller]
fn open_menu(daemon: &mut Daemon, id: WindowId, name: &str) {
    daemon.click(id, (15, 10), 1);
    let menu = daemon.new_window("a menu", &[id]);
    daemon.until_picture("lines of a menu", menu, |picture| picture.colours() > 10);
    daemon.keep(menu, name);
    let (owner, window) = (daemon.window(id).place, daemon.window(menu));
    assert!(window.override_redirect);
    let at = (window.place.x() - owner.x(), window.place.y() - owner.y());
    assert!(
        (0..10).contains(&at.0) && (15..35).contains(&at.1),
        "{at:?}"
    );
    daemon.tap(id, keys::ESCAPE);
    daemon.until_gone(menu);
    // The name of the menu is still marked.
    daemon.tap(id, keys::ESCAPE);
}

#[track_caller]
fn a_document_is_written(desk: &mut Desk, toolkit: &Toolkit, name: &str) {
    let mut daemon = desk.daemon();
    start(desk, toolkit.environment);
    let id = daemon.new_window("a word processor", &[]);
    daemon.focus(id, true);
    let (place, size) = (Place::near(60, 40), Size::near(900, 650));
    daemon.configure(id, place, size);
    daemon.until("its name", |daemon| {
        let window = daemon.window(id);
        let named = window.title == "Untitled 1 - LibreOffice Writer";
        (named && window.class.0 == "libreoffice-writer").then_some(())
    });
    daemon.until_picture("a page", id, |picture| {
        picture.size == size && picture.at(450, 400) == [0xff; 3]
    });

    // Nothing tells when it has begun to listen.
    wait_for("the text", || {
        control(&mut daemon, id, 'a');
        daemon.type_text(id, TEXT);
        control(&mut daemon, id, 'a');
        control(&mut daemon, id, 'c');
        // What it does not read for long is too much for its connection.
        daemon.idle(Duration::from_secs(1));
        (copied(&mut daemon, id)?.starts_with(TEXT.as_bytes())).then_some(())
    });
    daemon.keep(id, name);

    daemon.point(id, 450, 400);
    daemon.point(id, 20, toolkit.buttons);
    let tooltip = wait_for("a tooltip", || {
        // A pointer that has come to rest, as a hand has it.
        daemon.moves(id, (21, toolkit.buttons));
        daemon.moves(id, (20, toolkit.buttons));
        daemon.idle(Duration::from_secs(2));
        let mut windows = daemon.windows.iter();
        let found = windows.find(|(other, window)| **other != id && !window.damage.is_empty());
        found.map(|(other, _)| *other)
    });
    daemon.until_picture("its text", tooltip, |picture| picture.colours() > 2);
    daemon.keep(tooltip, &format!("{name}-tooltip"));
    let window = daemon.window(tooltip);
    assert!(window.override_redirect);
    let at = (window.place.x() - 60, window.place.y() - 40);
    let below = toolkit.buttons..toolkit.buttons + 40;
    assert!((-60..60).contains(&at.0) && below.contains(&at.1), "{at:?}");
    daemon.point(id, 450, 400);
    daemon.until_gone(tooltip);

    open_menu(&mut daemon, id, &format!("{name}-menu"));
    let (place, size) = (Place::near(140, 90), Size::near(760, 500));
    daemon.configure(id, place, size);
    daemon.until_picture("the new size", id, |picture| {
        picture.size == size && picture.at(755, 495) != [0; 3]
    });
    daemon.keep(id, &format!("{name}-resized"));
    open_menu(&mut daemon, id, &format!("{name}-menu-moved"));

    daemon.say(id, &DaemonMessage::Close);
    let question = daemon.new_window("a question", &[id]);
    daemon.until_picture("its words", question, |picture| picture.colours() > 10);
    daemon.keep(question, &format!("{name}-question"));
    let window = daemon.window(question);
    assert!(window.title == "Save Document?" && window.mapped == Some(Some(id)));
    let [x, y] = toolkit.no;
    let (width, height) = (window.size.width(), window.size.height());
    let no = [x * width / 100, y * height / 100].map(u32::cast_signed);
    daemon.focus(id, false);
    daemon.focus(question, true);
    daemon.click(question, no.into(), 1);
    daemon.until_gone(id);
    wait_for("it to end", || desk.has_ended().then_some(()));
}

#[test]
fn a_document_is_written_its_menus_and_tooltips_appear_and_its_question_is_answered() {
    let toolkit = Toolkit {
        environment: &["SAL_USE_VCLPLUGIN=gtk3", "GDK_BACKEND=wayland"],
        buttons: 45,
        no: [17, 88],
    };
    a_document_is_written(&mut Desk::new(), &toolkit, "writer");
}

#[test]
fn the_same_is_done_by_x() {
    let toolkit = Toolkit {
        environment: &["SAL_USE_VCLPLUGIN=gen"],
        buttons: 33,
        no: [46, 72],
    };
    a_document_is_written(&mut Desk::with_x(), &toolkit, "writer-x");
}
