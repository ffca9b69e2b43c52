//! Pictures that are copied and pasted.

use bulkhead_wire::gui::picture::{PICTURE_PART_MAX, PictureSize};
use bulkhead_wire::gui::{DaemonMessage, Version, WindowId};
use image::{ImageFormat, Rgba, RgbaImage};

use crate::desk::{Daemon, Desk, wait_for};
use crate::gtk::FORM;
use crate::x11::{focus, xterm_beside};

/// A picture of which no two pixels that are near are the same, and some let others through.
fn picture(width: u32, height: u32) -> RgbaImage {
    let byte = |n: u32| u8::try_from(n % 251).unwrap();
    RgbaImage::from_fn(width, height, |x, y| {
        Rgba([byte(x), byte(7 * y), byte(x + y), byte(255 - x % 3)])
    })
}

/// One that cannot be told in few bytes, and lets nothing through.
fn noise(width: u32, height: u32) -> RgbaImage {
    let mut state = 1_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    RgbaImage::from_fn(width, height, |_, _| Rgba([byte(), byte(), byte(), 255]))
}

/// Has a shell in `window` do what a file says.
#[track_caller]
fn run(desk: &Desk, daemon: &mut Daemon, window: WindowId, name: &str, script: &str) {
    std::fs::write(desk.path(name), script).unwrap();
    daemon.type_text(window, &format!("sh {name}\n"));
}

/// Puts a file on the clipboard of X.
#[track_caller]
fn hold(desk: &Desk, daemon: &mut Daemon, window: WindowId, kind: &str, file: &str) {
    let script = format!(
        "xclip -selection clipboard -t {kind} -i {file} >/dev/null 2>&1
        until xclip -selection clipboard -t TARGETS -o | grep -q {kind}; do sleep 0.1; done
        echo > holds-{file}"
    );
    run(desk, daemon, window, "hold", &script);
    wait_for("a clipboard", || {
        desk.path(&format!("holds-{file}")).exists().then_some(())
    });
}

/// Copies until the answer is a picture: X tells of its clipboard on another way than of its end.
#[track_caller]
fn copied(daemon: &mut Daemon, id: WindowId, (width, height): (u32, u32)) -> Vec<u8> {
    daemon.pictures.clear();
    daemon.clipboards.clear();
    daemon.say(id, &DaemonMessage::ClipboardRequest);
    daemon.until("a picture", |daemon| {
        if daemon.clipboards.pop().is_some() {
            daemon.say(id, &DaemonMessage::ClipboardRequest);
        }
        let (size, pixels) = daemon.pictures.last()?;
        let size = (*size)?;
        if pixels.len() < size.bytes() {
            return None;
        }
        if (size.width(), size.height()) == (width, height) {
            return Some(pixels.clone());
        }
        // One that was there before.
        daemon.pictures.clear();
        daemon.say(id, &DaemonMessage::ClipboardRequest);
        None
    })
}

fn paste(daemon: &mut Daemon, picture: &RgbaImage) {
    let window = WindowId(0);
    let size = PictureSize::new(picture.width(), picture.height());
    daemon.say(window, &DaemonMessage::Picture(size));
    for part in picture.chunks(PICTURE_PART_MAX) {
        daemon.say(window, &DaemonMessage::PicturePart(part.to_vec()));
    }
}

/// Has X take the picture from the clipboard.
#[track_caller]
fn take(desk: &Desk, daemon: &mut Daemon, window: WindowId, file: &str) -> RgbaImage {
    let script = format!(
        "until xclip -selection clipboard -t TARGETS -o | grep -q image/png; do sleep 0.1; done
        xclip -selection clipboard -t image/png -o > part && mv part {file}"
    );
    run(desk, daemon, window, "take", &script);
    let path = desk.path(file);
    let bytes = wait_for("a file", || std::fs::read(&path).ok());
    image::load_from_memory_with_format(&bytes, ImageFormat::Png)
        .unwrap()
        .into_rgba8()
}

#[test]
fn pictures_of_applications_are_copied_as_their_pixels() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let id = xterm_beside(&mut desk, &mut daemon, &[]);
    let all = picture(640, 480);
    for (kind, format, file) in [
        ("image/png", ImageFormat::Png, "one.png"),
        ("image/bmp", ImageFormat::Bmp, "one.bmp"),
    ] {
        all.save_with_format(desk.path(file), format).unwrap();
        hold(&desk, &mut daemon, id, kind, file);
        let pixels = copied(&mut daemon, id, (640, 480));
        assert!(pixels == *all.as_raw(), "{kind}");
    }
    // What is no picture is nothing.
    std::fs::write(desk.path("none.png"), "no picture").unwrap();
    hold(&desk, &mut daemon, id, "image/png", "none.png");
    daemon.clipboards.clear();
    daemon.say(id, &DaemonMessage::ClipboardRequest);
    let answer = daemon.until("an answer", |daemon| daemon.clipboards.pop());
    assert_eq!(answer, Some(Vec::new()));
}

#[test]
fn a_picture_of_another_qube_is_pasted_and_given_back() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let id = xterm_beside(&mut desk, &mut daemon, &[]);
    let all = picture(300, 200);
    paste(&mut daemon, &all);
    assert!(take(&desk, &mut daemon, id, "taken.png") == all);
    let pixels = copied(&mut daemon, id, (300, 200));
    assert!(pixels == *all.as_raw());

    // A text that comes behind a picture takes its place, even before that is ready.
    paste(&mut daemon, &all);
    daemon.say(id, &DaemonMessage::Clipboard(b"text".to_vec()));
    daemon.say(id, &DaemonMessage::ClipboardRequest);
    let answer = daemon.until("an answer", |daemon| daemon.clipboards.pop());
    assert_eq!(answer, Some(b"text".to_vec()));
    // Parts of nothing, and more than there is, are nothing.
    daemon.say(id, &DaemonMessage::PicturePart(vec![1]));
    daemon.say(id, &DaemonMessage::Picture(PictureSize::new(1, 1)));
    daemon.say(id, &DaemonMessage::PicturePart(vec![1; 5]));
    daemon.say(id, &DaemonMessage::ClipboardRequest);
    let answer = daemon.until("an answer", |daemon| daemon.clipboards.pop());
    assert_eq!(answer, Some(b"text".to_vec()));
}

#[test]
fn applications_of_wayland_are_given_pictures_too() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    let all = picture(64, 48);
    desk.start(&["/usr/bin/python3", FORM]);
    let form = daemon.new_window("a form", &[]);
    daemon.focus(form, true);
    paste(&mut daemon, &all);
    // The form looks for one whenever it is given the keyboard.
    let path = desk.path("seen.png");
    let seen = daemon.until("a picture", |daemon| {
        daemon.focus(form, false);
        daemon.focus(form, true);
        let bytes = std::fs::read(&path).ok()?;
        image::load_from_memory_with_format(&bytes, ImageFormat::Png).ok()
    });
    assert_eq!((seen.width(), seen.height()), (64, 48));
    // What an application of Wayland copies, as one of X sees it.
    let xterm = xterm_beside(&mut desk, &mut daemon, &[form]);
    daemon.focus(xterm, false);
    daemon.focus(form, true);
    daemon.type_text(form, "copy\n");
    wait_for("a copy", || desk.path("entered").exists().then_some(()));
    let pixels = copied(&mut daemon, form, (2, 1));
    assert_eq!(pixels, [255, 0, 0, 255, 0, 0, 255, 255]);
    daemon.focus(form, false);
    focus(&mut daemon, xterm);
    let taken = take(&desk, &mut daemon, xterm, "taken.png");
    assert_eq!(taken.into_raw(), pixels);
}

#[test]
fn a_picture_of_x_is_pasted_into_wayland() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon();
    desk.start(&["/usr/bin/python3", FORM]);
    let form = daemon.new_window("a form", &[]);
    let xterm = xterm_beside(&mut desk, &mut daemon, &[form]);
    // The second is more than X hands over at once.
    for (file, all) in [("one.png", noise(64, 48)), ("two.png", noise(900, 700))] {
        all.save(desk.path(file)).unwrap();
        hold(&desk, &mut daemon, xterm, "image/png", file);
        daemon.focus(xterm, false);
        let path = desk.path("seen.png");
        let size = all.dimensions();
        let seen = daemon.until("a picture", |daemon| {
            daemon.focus(form, true);
            daemon.focus(form, false);
            let bytes = std::fs::read(&path).ok()?;
            let seen = image::load_from_memory_with_format(&bytes, ImageFormat::Png).ok()?;
            let seen = seen.into_rgba8();
            (seen.dimensions() == size).then_some(seen)
        });
        assert!(seen == all, "{file}");
        focus(&mut daemon, xterm);
    }
}

#[test]
fn a_daemon_of_qubes_hears_of_no_picture() {
    let mut desk = Desk::with_x();
    let mut daemon = desk.daemon_speaking(Version::PLAIN);
    let id = xterm_beside(&mut desk, &mut daemon, &[]);
    picture(20, 10).save(desk.path("one.png")).unwrap();
    hold(&desk, &mut daemon, id, "image/png", "one.png");
    daemon.say(id, &DaemonMessage::ClipboardRequest);
    // It would not understand another message.
    let answer = daemon.until("an answer", |daemon| daemon.clipboards.pop());
    assert_eq!(answer, Some(Vec::new()));
}
