//! Notices in a session without a notification service.

use std::process::{Child, Command, Stdio};

use bulkhead_api::clipboard::{Carried, ClipboardNews, What};
use bulkhead_testing::wait_for;
use zbus::interface;

use crate::atspi::{Node, Reader, builder};
use crate::fake::ask;
use crate::notices::denied;
use crate::prompts::Stage;
use crate::session::Session;

/// Colours of labels, and where a note has that of its source.
const BLUE: u32 = 0x34_65a4;
const STRIPE: i32 = 4;

const WIDTH: i32 = 1280;
const MARGIN: i32 = 16;

/// Waits for notes that say this, from the corner on.
#[track_caller]
fn wait_for_notes(reader: &Reader, expected: &[&str]) -> Vec<Node> {
    let mut seen = Vec::new();
    let is = |notes: &[Node]| {
        let told: Vec<&str> = notes.iter().map(|note| note.name.as_str()).collect();
        told == expected
    };
    wait_for(&format!("{expected:?}"), || {
        seen = reader.notes();
        is(&seen).then_some(())
    });
    seen
}

/// Waits for the window; it, and where it is.
#[track_caller]
fn window(stage: &Stage) -> (u32, i32, i32) {
    wait_for("a window in the corner", || {
        let windows = stage.input.windows("Notices");
        let [(window, left, top)] = windows[..] else {
            return None;
        };
        let (width, _) = stage.input.size(window);
        (left + width == WIDTH - MARGIN && top == MARGIN).then_some((window, left, top))
    })
}

#[track_caller]
fn wait_for_pixel(stage: &Stage, x: i32, y: i32, colour: u32) {
    wait_for("a colour", || {
        (stage.input.pixel(x, y) == colour).then_some(())
    });
}

fn pasted() -> ClipboardNews {
    ClipboardNews::Pasted {
        source: "work".into(),
        target: "personal".into(),
        what: What::Picture {
            width: 640,
            height: 480,
        },
        bytes: 1_228_800,
    }
}

const PASTED: &str = "work to personal: Picture of 640 by 480 (1228800 bytes) is on the clipboard of \
                      personal now.";

#[test]
fn what_is_carried_is_noted_in_the_corner_and_takes_no_keyboard() {
    let stage = Stage::start();
    let other = stage.input.other_window();
    stage.fake.carried(&ClipboardNews::Copied(Carried {
        source: "work".into(),
        what: What::Text,
        bytes: 64_000,
        copied: 0,
        expires: 60,
    }));
    let copied = "Copied from work: 64000 bytes of text. Press the paste keys in a window of \
                  another qube to put it on its clipboard.";
    let notes = wait_for_notes(&stage.reader, &[copied]);
    assert!(notes[0].says("work: label blue"), "{}", notes[0].outline());
    let (id, left, top) = window(&stage);
    assert!(stage.input.is_unmanaged(id));
    wait_for_pixel(&stage, left + STRIPE, top + STRIPE, BLUE);
    stage.session.picture("note-copied", None);

    // The next takes its place.
    stage.fake.carried(&pasted());
    let notes = wait_for_notes(&stage.reader, &[PASTED]);
    assert!(notes[0].says("personal: label yellow"));
    let (_, left, top) = window(&stage);
    wait_for_pixel(&stage, left + STRIPE, top + STRIPE, BLUE);
    stage.session.picture("note", None);
    // Nor does a click give it the keyboard, with which it does nothing.
    stage.input.key(crate::input::ESCAPE);
    stage.input.point(left + 40, top + 40);
    assert_eq!(stage.input.focused(), other);
    stage.input.click();
    wait_for_notes(&stage.reader, &[]);
    wait_for("no window", || {
        stage.input.windows("Notices").is_empty().then_some(())
    });
    assert_eq!(stage.input.focused(), other);

    // Untouched, it goes by itself.
    stage.fake.carried(&pasted());
    wait_for_notes(&stage.reader, &[PASTED]);
    wait_for_notes(&stage.reader, &[]);
}

#[test]
fn notes_fill_no_screen_and_are_no_markup() {
    let stage = Stage::start();
    let mut hostile = denied("<b>\u{202e}");
    hostile.service = "<img src='x'/>+".into();
    stage.fake.decided(&hostile);
    for source in ["work", "personal", "untrusted"] {
        stage.fake.decided(&denied(source));
    }
    stage.fake.carried(&pasted());
    let refused = |source: &str| {
        format!("Call of {source} refused: {source} may not copy files to vault (30-user.policy:7)")
    };
    let (work, personal) = (refused("work"), refused("personal"));
    let hostile = "Call of <b>\\u{202e} refused: <b>\\u{202e} may not call <img src='x'/> in vault \
                   (30-user.policy:7)";
    wait_for_notes(&stage.reader, &[PASTED, hostile, &work, &personal]);
    window(&stage);
    stage.session.picture("notes", None);
    // The one that waits comes when there is room.
    let untrusted = refused("untrusted");
    wait_for("room", || {
        let notes = stage.reader.notes();
        notes
            .iter()
            .any(|note| note.name == untrusted)
            .then_some(())
    });
    wait_for_notes(&stage.reader, &[]);
}

#[test]
fn a_note_that_goes_starts_prompts_anew() {
    let stage = Stage::start();
    stage.ask(ask(1));
    stage.fake.carried(&pasted());
    wait_for_notes(&stage.reader, &[PASTED]);
    let (_, left, top) = window(&stage);
    let armed = |is: bool| {
        stage.reader.wait_until("a prompt", |prompts| {
            let allow = prompts.first()?.button("Allow");
            (allow.is_sensitive() == is).then_some(())
        });
    };
    let windows = stage.input.windows("Call of work");
    stage.input.focus(windows[0].0);
    stage.input.key(crate::input::DOWN);
    armed(true);
    stage.input.point(left + 40, top + 40);
    stage.input.click();
    armed(false);
}

/// A service that shows nothing.
struct Unwilling;

#[interface(name = "org.freedesktop.Notifications")]
impl Unwilling {
    fn get_capabilities(&self) -> zbus::fdo::Result<Vec<String>> {
        Err(zbus::fdo::Error::Failed("not now".to_owned()))
    }
}

#[test]
fn what_a_service_refuses_is_noted() {
    let stage = Stage::start();
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
    let _service = runtime.block_on(async {
        let served = builder(stage.session.bus());
        let served = served.serve_at("/org/freedesktop/Notifications", Unwilling);
        let named = served.name("org.freedesktop.Notifications");
        named.build().await.unwrap()
    });
    stage.fake.carried(&pasted());
    wait_for_notes(&stage.reader, &[PASTED]);
}

/// A Wayland compositor that shows nothing.
struct Compositor(Child);

impl Drop for Compositor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn beside_wayland_notes_are_on_the_x_display() {
    let session = Session::start();
    let mut compositor = Command::new("weston");
    let compositor = compositor
        .args(["--backend=headless-backend.so", "--socket=wayland-test"])
        .arg("--no-config")
        .env("XDG_RUNTIME_DIR", session.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _compositor = Compositor(compositor.expect("weston, as `cargo xtask setup` installs it"));
    wait_for("a compositor", || {
        session.path("wayland-test").exists().then_some(())
    });
    let mut command = session.command(&session.path("bus"));
    command
        .env("GDK_BACKEND", "wayland")
        .env("WAYLAND_DISPLAY", "wayland-test");
    let stage = Stage::of(session, command);
    stage.ask(ask(1));
    assert!(stage.input.windows("Call of work").is_empty());
    stage.fake.carried(&pasted());
    wait_for_notes(&stage.reader, &[PASTED]);
    let (_, left, top) = window(&stage);
    wait_for_pixel(&stage, left + STRIPE, top + STRIPE, BLUE);
    stage.session.picture("note-wayland", None);
    wait_for_notes(&stage.reader, &[]);
    assert_eq!(stage.reader.prompts().len(), 1);
}
