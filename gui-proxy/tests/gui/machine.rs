//! Windows of qubes that a daemon runs: real programs at every end.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use bulkhead_gui::icon::of_label;
use bulkhead_testing::{Display, TestDaemon, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use x11rb::protocol::xproto::Window;

use crate::clipboard::{C, CTRL, SHIFT, V, stroke};
use crate::screen::Screen;
use crate::session::Session;

/// Qubes that have windows, and one whose windows nobody shows.
const SYSTEM: &str = r#"(
    templates: {"host": (source: Host)},
    labels: {"mine": (color: "0x12ab34")},
    defaults: (template: "host", netvm: None, default_dispvm: None),
    qubes: {
        "work": (label: "mine", features: {"gui": true}),
        "personal": (label: "yellow", features: {
            "gui": true,
            "gui-max-clipboard-picture-size": "1228799",
        }),
        "vault": (label: "black", features: {"gui": true}),
        "hidden": (label: "red"),
    },
    policy: [
        Rule(service: "qubes.ClipboardPaste", source: "@anyvm", target: "vault", action: Deny),
        Rule(service: "qubes.ClipboardPaste", source: "@anyvm", target: "@anyvm", action: Ask()),
        Rule(service: "qubes.WindowIconUpdater", source: "vault", target: "@adminvm", action: Deny),
        Rule(service: "qubes.WindowIconUpdater", source: "@anyvm", target: "@adminvm", action: Allow),
    ],
)"#;

pub(crate) struct Machine {
    pub(crate) daemon: TestDaemon,
    session: Session,
    pub(crate) screen: Screen,
}

/// A process that is told to end with the test.
pub(crate) struct Ends(Child);

impl Ends {
    fn end(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.end();
    }
}

impl Machine {
    pub(crate) fn start() -> Self {
        Self::start_on(Session::start())
    }

    /// One whose windows are to be shown in that session.
    pub(crate) fn start_on(session: Session) -> Self {
        let mut daemon = TestDaemon::new();
        fs::write(daemon.path("system.ron"), SYSTEM).expect("a description");
        daemon.start(daemon.daemon("system.ron"));
        daemon.must(&["apply", "--yes"]);
        daemon.must(&["start", "work", "personal", "vault", "hidden"]);
        let screen = Screen::of(&session);
        Self {
            daemon,
            session,
            screen,
        }
    }

    /// Somebody whose session shows windows.
    pub(crate) fn shows(&self) -> Ends {
        let mut command = self.daemon.client(&["windows"]);
        command
            .env("DISPLAY", self.session.display())
            .stdout(Stdio::null());
        Ends(command.spawn().expect("a client"))
    }

    /// Runs a command in a qube, in its session.
    #[track_caller]
    pub(crate) fn runs(&self, qube: &str, command: &str) -> String {
        self.daemon.must(&["call", qube, "qubes.WaitForSession"]);
        self.daemon.must(&["run", qube, "--", command])
    }

    /// Starts an application that stays.
    #[track_caller]
    pub(crate) fn opens(&self, qube: &str, application: &str) {
        self.runs(qube, &format!("setsid {application} >/dev/null 2>&1 &"));
    }

    /// The one window whose title begins so.
    #[track_caller]
    pub(crate) fn window(&self, title: &str) -> Window {
        wait_for(title, || {
            let all = self.screen.windows();
            let is_it = |window: &Window| {
                let shown = self.screen.text(*window, "_NET_WM_NAME");
                shown.starts_with(title)
            };
            all.into_iter().find(is_it)
        })
    }

    #[track_caller]
    fn must_log(&self, text: &str) {
        wait_for(text, || self.daemon.log().contains(text).then_some(()));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon said:\n{}", self.daemon.log());
        }
    }
}

#[test]
fn qubes_show_their_windows_where_a_session_offers_a_display() {
    let machine = Machine::start();
    machine.opens("work", "xclock");
    let mut session = machine.shows();
    machine.window("[work] ");
    // In a session that is there already.
    machine.opens("personal", "xclock");
    machine.window("[personal] ");
    machine.screen.must_have(2);
    // Nobody shows the windows of a qube that is not said to have any.
    let display = machine
        .daemon
        .must(&["run", "hidden", "--", "echo $DISPLAY"]);
    assert_eq!(display, "\n");

    // An application, and a whole session, that end and come again.
    machine.runs("personal", "pkill xclock");
    machine.screen.must_have(1);
    machine.opens("personal", "xclock");
    machine.window("[personal] ");
    machine.runs("personal", "pkill qube-gui-agent");
    machine.screen.must_have(1);
    wait_for("another session", || {
        machine.opens("personal", "xclock");
        (machine.screen.windows().len() > 1).then_some(())
    });
    wait_for("no clock that only begins", || {
        machine.runs("personal", "pkill xclock; true");
        (machine.screen.windows().len() == 1).then_some(())
    });

    // A session of the person that ends takes its windows along; the next one has them again.
    session.end();
    machine.screen.must_have(0);
    let _session = machine.shows();
    machine.window("[work] ");

    // A qube that stops has none.
    machine.daemon.must(&["kill", "work"]);
    machine.screen.must_have(0);
}

#[test]
fn a_daemon_that_starts_again_shows_the_windows_of_what_runs() {
    let mut machine = Machine::start();
    machine.opens("work", "xclock");
    let _session = machine.shows();
    machine.window("[work] ");
    machine.daemon.kill();
    machine.screen.must_have(0);
    machine.daemon.start(machine.daemon.daemon("system.ron"));
    let _session = machine.shows();
    machine.window("[work] ");
}

impl Machine {
    /// Presses keys in the window of a qube.
    fn stroke(&self, title: &str, keys: &[u8]) {
        self.screen.focus(self.window(title));
        stroke(&self.screen, keys);
    }

    /// Puts text on a qube's clipboard.
    fn holds(&self, qube: &str, text: &str) {
        let command = format!("printf %s '{text}' | xclip -selection clipboard >/dev/null 2>&1");
        self.runs(qube, &command);
    }

    /// What is on it.
    fn held(&self, qube: &str) -> String {
        self.runs(qube, "timeout 5 xclip -selection clipboard -out || true")
    }

    /// How many bytes are carried from one qube to another.
    fn carried(&self) -> Option<u64> {
        self.daemon.json(&["clipboard", "status", "--json"])["bytes"].as_u64()
    }

    #[track_caller]
    fn must_carry(&self, bytes: Option<u64>) {
        wait_for("what is carried", || {
            (self.carried() == bytes).then_some(())
        });
    }

    /// Copies what a qube holds, by keys. `xclip` ends before the clipboard is its own, so they
    /// are pressed again where the qube had nothing yet.
    #[track_caller]
    fn copies(&self, qube: &str, bytes: u64) {
        let refusals = || self.daemon.log().matches("nothing copied").count();
        wait_for("a copy", || {
            let before = refusals();
            self.stroke(&format!("[{qube}] "), &COPY);
            wait_for("what the copy came to", || {
                let told = self.carried() == Some(bytes) || refusals() > before;
                told.then_some(())
            });
            let copied = self.carried() == Some(bytes);
            if !copied {
                // What is pressed more often than the proxy takes does nothing.
                std::thread::sleep(Duration::from_millis(300));
            }
            copied.then_some(())
        });
    }
}

const COPY: [u8; 3] = [CTRL, SHIFT, C];
const PASTE: [u8; 3] = [CTRL, SHIFT, V];

#[test]
fn text_is_carried_to_where_policy_allows_and_once() {
    let machine = Machine::start();
    let _session = machine.shows();
    for qube in ["work", "personal", "vault"] {
        machine.opens(qube, "xclock");
        machine.window(&format!("[{qube}] "));
    }
    machine.holds("work", "Grüße");
    machine.copies("work", 7);
    let told = machine.daemon.must(&["clipboard", "status"]);
    assert!(
        told.starts_with("7 bytes of text from work; wiped in "),
        "{told}"
    );

    // Refused by a rule: it is carried on.
    machine.stroke("[vault] ", &PASTE);
    machine.must_log("text from work may not be pasted into vault");
    machine.must_carry(Some(7));
    // Allowed as `ask` is: the keys are the answer.
    machine.stroke("[personal] ", &PASTE);
    machine.must_carry(None);
    wait_for("the text", || {
        (machine.held("personal") == "Grüße").then_some(())
    });
    // Once.
    machine.stroke("[personal] ", &PASTE);
    machine.must_log("nothing to paste into personal");

    // By order.
    machine.copies("work", 7);
    let told = machine.daemon.must(&["clipboard", "clear"]);
    assert_eq!(told, "Wiped: 7 bytes of text from work\n");
    assert_eq!(
        machine.daemon.must(&["clipboard", "clear"]),
        "Nothing is carried.\n"
    );
}

#[test]
fn a_paste_is_asked_about_where_the_description_says_so_and_wiped_in_time() {
    let mut machine = Machine::start();
    let confirm = SYSTEM.replacen('(', "(dom0: (confirm_paste: true),", 1);
    fs::write(machine.daemon.path("system.ron"), confirm).expect("a description");
    machine.daemon.must(&["apply", "--yes"]);
    let session = machine.shows();
    for qube in ["work", "personal"] {
        machine.opens(qube, "xclock");
        machine.window(&format!("[{qube}] "));
    }
    machine.holds("work", "text");
    machine.copies("work", 4);
    for answer in ["deny", "allow"] {
        // What was refused is carried on.
        machine.must_carry(Some(4));
        machine.stroke("[personal] ", &PASTE);
        let ask = machine.daemon.wait_for_ask();
        let asked = machine.daemon.must(&["ask", "list"]);
        assert!(asked.contains("4 bytes of text"), "{asked}");
        machine.daemon.must(&["ask", answer, &ask]);
    }
    machine.must_carry(None);
    wait_for("the text", || {
        (machine.held("personal") == "text").then_some(())
    });
    // A question about what is carried no more is none.
    machine.copies("work", 4);
    machine.stroke("[personal] ", &PASTE);
    machine.daemon.wait_for_ask();
    machine.daemon.must(&["clipboard", "clear"]);
    let asks = machine.daemon.json(&["ask", "list", "--json"]);
    assert!(asks.as_array().is_some_and(Vec::is_empty), "{asks}");
    machine.must_log("is carried no more");
    // Nor is one about what another paste took, here back to where it came from, which needs no answer.
    machine.copies("work", 4);
    machine.stroke("[personal] ", &PASTE);
    machine.daemon.wait_for_ask();
    machine.stroke("[work] ", &PASTE);
    machine.must_carry(None);
    wait_for("no question", || {
        let asks = machine.daemon.json(&["ask", "list", "--json"]);
        asks.as_array().is_some_and(Vec::is_empty).then_some(())
    });
    let refusals = machine.daemon.log().matches("may not be pasted").count();
    assert_eq!(refusals, 1, "the one that the person denied");

    drop(session);
    machine.daemon.kill();
    machine.screen.must_have(0);
    let mut command = machine.daemon.daemon("system.ron");
    command.args(["--clipboard-timeout", "1"]);
    machine.daemon.start(command);
    let _session = machine.shows();
    machine.stroke("[work] ", &COPY);
    machine.must_log("text from work was wiped: nobody pasted it");
    machine.must_carry(None);
}

const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;

/// Squares of many colours, some of which let others through.
fn pixels() -> Vec<u8> {
    let byte = |n: u32| u8::try_from(n % 256).expect("a byte");
    let pixel = |x: u32, y: u32| [byte(11 * x), byte(13 * y), byte(x * y), byte(255 - x)];
    let all = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x / 80, y / 80)));
    all.flat_map(|(x, y)| pixel(x, y)).collect()
}

fn png(pixels: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    // It has to fit into a command.
    encoder.set_compression(png::Compression::Best);
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(pixels).expect("a picture");
    drop(writer);
    file
}

/// The pixels of a file, if it is one.
fn pixels_of(file: &[u8]) -> Option<(u32, u32, Vec<u8>)> {
    let mut reader = png::Decoder::new(file).read_info().ok()?;
    let mut pixels = vec![0; reader.output_buffer_size()];
    let info = reader.next_frame(&mut pixels).ok()?;
    assert_eq!(info.color_type, png::ColorType::Rgba);
    Some((info.width, info.height, pixels))
}

impl Machine {
    /// Puts a picture on a qube's clipboard.
    fn holds_picture(&self, qube: &str, file: &[u8]) {
        let bytes: String = file.iter().map(|byte| format!("\\{byte:03o}")).collect();
        let command =
            format!("printf '{bytes}' | xclip -selection clipboard -t image/png >/dev/null 2>&1");
        self.runs(qube, &command);
    }

    /// The file that applications of a qube are given.
    fn held_picture(&self, qube: &str) -> Vec<u8> {
        let command = "timeout 5 xclip -selection clipboard -t image/png -out 2>/dev/null \
                       | od -An -v -tu1";
        let told = self.runs(qube, command);
        let bytes = told
            .split_whitespace()
            .map(|byte| byte.parse().expect("a byte"));
        bytes.collect()
    }
}

#[test]
fn a_picture_is_carried_pixel_by_pixel_and_told_as_one() {
    let machine = Machine::start();
    let _session = machine.shows();
    for qube in ["work", "personal", "vault"] {
        machine.opens(qube, "xclock");
        machine.window(&format!("[{qube}] "));
    }
    let all = pixels();
    let bytes = 1_228_800;
    machine.holds_picture("work", &png(&all));
    machine.copies("work", bytes);
    let told = machine.daemon.must(&["clipboard", "status"]);
    let expected = "picture of 640 by 480 (1228800 bytes) from work; wiped in ";
    assert!(told.starts_with(expected), "{told}");
    let told = machine.daemon.json(&["clipboard", "status", "--json"]);
    assert_eq!(told["kind"], "picture");
    assert_eq!(
        (&told["width"], &told["height"]),
        (&640.into(), &480.into())
    );

    // The rules are those for text.
    machine.stroke("[vault] ", &PASTE);
    machine.must_log("picture of 640 by 480 from work may not be pasted into vault");
    machine.must_carry(Some(bytes));
    machine.stroke("[personal] ", &PASTE);
    machine.must_carry(None);
    machine.must_log(
        "picture of 640 by 480 (1228800 bytes) from work put on the clipboard of personal",
    );
    let got = wait_for("the picture", || {
        pixels_of(&machine.held_picture("personal"))
    });
    assert!(got == (WIDTH, HEIGHT, all), "{} by {}", got.0, got.1);

    // It has one byte more than may leave this qube.
    machine.stroke("[personal] ", &COPY);
    machine.must_log("nothing copied from personal: it is more than the qube may have carried");
    machine.must_carry(None);
}

impl Machine {
    /// Has a program of a qube put an icon on its clock, of a red pixel and a white one.
    #[track_caller]
    fn puts_icon(&self, qube: &str) {
        let icon = "2, 1, 4294901760, 4294967295";
        let set = format!("xprop -name xclock -f _NET_WM_ICON 32c -set _NET_WM_ICON '{icon}'");
        self.runs(qube, &set);
    }

    /// Waits until the clock of `work` has that icon in the colour of its label.
    #[track_caller]
    fn must_have_icon(&self) {
        let window = self.window("[work] ");
        let icon = wait_for("an icon", || {
            let icon = self.screen.numbers(window, "_NET_WM_ICON");
            icon.starts_with(&[2, 1]).then_some(icon)
        });
        let [_, _, red, white] = icon[..] else {
            panic!("{icon:x?}");
        };
        // As intense as can be, and a quarter of that beside white.
        assert_eq!([red, white], [0xff00_ff38, 0xffc0_ffcd], "{icon:x?}");
    }
}

#[test]
fn a_window_has_its_icon_in_the_colour_of_its_label_where_policy_allows() {
    let machine = Machine::start();
    for qube in ["work", "vault"] {
        machine.opens(qube, "xclock");
    }
    // A call that comes before a session waits for one.
    let call = "qrexec-client-vm -- dom0 qubes.WindowIconUpdater";
    let early = format!("(printf '1\\n1\\n' | {call}; echo $? >early) >/dev/null 2>&1 &");
    machine.runs("personal", &early);
    machine.must_log("source=personal requested=dom0 target=dom0 service=qubes.WindowIconUpdater");
    let mut session = machine.shows();
    for title in ["[work] ", "[vault] "] {
        machine.window(title);
    }
    machine.must_log("a line that is no size of an icon");
    wait_for("the end of the call", || {
        let code = machine.runs("personal", "cat early || true");
        (code == "1\n").then_some(())
    });
    for qube in ["vault", "work"] {
        machine.puts_icon(qube);
    }
    machine.must_have_icon();
    wait_for("a refusal", || {
        let told = machine.daemon.must(&["audit"]);
        let of_vault = |line: &str| line.contains("vault") && line.contains("WindowIconUpdater");
        told.lines().any(of_vault).then_some(())
    });
    let vault = machine.window("[vault] ");
    assert_eq!(machine.screen.numbers(vault, "_NET_WM_ICON"), of_label(0));

    // What an application of its own accord has.
    machine.opens(
        "work",
        "env -u WAYLAND_DISPLAY QT_QPA_PLATFORM=xcb featherpad",
    );
    machine.screen.must_have(3);
    let icon = wait_for("an application's icon", || {
        let windows = machine.screen.windows().into_iter();
        let mut icons = windows.map(|window| machine.screen.numbers(window, "_NET_WM_ICON"));
        icons.find(|icon| icon.starts_with(&[128, 128]))
    });
    let pixels = icon[2..].iter().map(|pixel| pixel.to_be_bytes());
    let seen: Vec<[u8; 4]> = pixels.filter(|[alpha, ..]| *alpha > 0).collect();
    assert!(seen.len() > 1000, "{} pixels", seen.len());
    for [_, red, green, blue] in seen {
        let [least, more, most] = [red, blue, green].map(i32::from);
        let expected = least + (most - least) * 56 / 255;
        assert!(
            most - least >= 60 && (more - expected).abs() <= 1,
            "{red} {green} {blue}"
        );
    }
    machine.runs("work", "pkill featherpad");
    machine.screen.must_have(2);

    // In another session of the person the same is shown.
    session.end();
    machine.screen.must_have(0);
    let _session = machine.shows();
    machine.must_have_icon();

    // What is no stream is refused, and nothing else is. There is no window here whose icon would
    // come by a call of its own.
    for (stream, why) in [
        ("-1\\n1 1\\n....", "a line that is no number of a window"),
        ("1\\n9999 9999\\n", "an icon of 9999 by 9999 pixels"),
        ("1\\n2 2\\n...", "it ended in the middle of an icon"),
    ] {
        let told = machine.runs(
            "personal",
            &format!("printf -- '{stream}' | {call}; echo $?"),
        );
        assert_eq!(told, "1\n", "{stream}");
        machine.must_log(why);
    }
    machine.opens("personal", "xclock");
    machine.window("[personal] ");
    machine.puts_icon("personal");
    wait_for("an icon after all", || {
        let personal = machine.window("[personal] ");
        let icon = machine.screen.numbers(personal, "_NET_WM_ICON");
        icon.starts_with(&[2, 1]).then_some(())
    });
    machine.must_have_icon();

    // A call of a qube whose windows nobody shows has nobody to read it.
    let told = machine.daemon.must(&[
        "run",
        "hidden",
        "--",
        &format!("{call} </dev/null; echo $?"),
    ]);
    assert_eq!(told, "125\n");
}

/// An Xauthority file that opens every display which knows this number.
fn authority(cookie: [u8; 16]) -> Vec<u8> {
    let field = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("a length");
        [&length.to_be_bytes(), bytes].concat()
    };
    let any_host = [0xff, 0xff];
    let fields: [&[u8]; 4] = [b"", b"", b"MIT-MAGIC-COOKIE-1", &cookie];
    [any_host.to_vec(), fields.map(field).concat()].concat()
}

#[test]
fn a_display_that_has_to_be_opened_is_opened_by_what_the_session_sends() {
    let machine = Machine::start();
    let [right, wrong] = [1, 2].map(|number| {
        let path = machine.daemon.path(&format!("authority{number}"));
        fs::write(&path, authority([number; 16])).expect("a file");
        path
    });
    let display = Display::guarded(800, 600, &right);
    let shows = |with: &std::path::Path| {
        let mut command = machine.daemon.client(&["windows"]);
        command
            .env("DISPLAY", display.name())
            .env("XAUTHORITY", with)
            .stdout(Stdio::null());
        Ends(command.spawn().expect("a client"))
    };
    machine.opens("work", "xclock");
    let session = shows(&wrong);
    machine.must_log("there is no display to use");
    drop(session);
    let _session = shows(&right);
    machine.must_log("shows windows qube=work");
}

#[test]
fn a_display_that_is_none_is_refused() {
    let machine = Machine::start();
    let offer = |display: &str| {
        let mut command = machine.daemon.client(&["windows"]);
        command.env("DISPLAY", display);
        bulkhead_testing::ended(command)
    };
    for display in ["far:0", "0", ""] {
        let ended = offer(display);
        assert_ne!(ended.code, 0, "{display}: {ended:?}");
        assert!(ended.err.contains("display"), "{ended:?}");
    }
    // One that nobody serves is told of in the log, and tried again.
    let mut command = machine.daemon.client(&["windows"]);
    command.env("DISPLAY", ":99999").stdout(Stdio::null());
    let _session = Ends(command.spawn().expect("a client"));
    machine.must_log("there is no display to use");
}
