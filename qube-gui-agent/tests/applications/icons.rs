//! Icons of windows, and a stand-in for dom0 that writes down what it is sent.

use std::fs;

use bulkhead_wire::gui::{DaemonMessage, WindowId};
use bulkhead_wire::icons::{Icon, Reader};

use crate::desk::{Daemon, Desk, wait_for};
use crate::wayland::foot;

/// Makes a call: what was asked for and what is sent are in files, the latter by the number of the
/// call. It ends when a file of that name appears.
const CLIENT: &str = r#"
echo "$*" >>calls
number=$(wc -l <calls)
[ ! -e refuse ] || exit 126
exec 3<&0
cat <&3 >"stream$number" &
cat=$!
while [ ! -e "end$number" ] && kill -0 $cat 2>/dev/null; do sleep 0.05; done
kill $cat 2>/dev/null
exit 1
"#;

/// A window with an icon of its own.
const OWN: &[&str] = &[
    "/usr/bin/python3",
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/applications/icon.py"),
];

struct Dom0(Desk);

impl Dom0 {
    fn start(arguments: &[&str]) -> Self {
        let tell = ["--", "sh", "-c", "echo $DISPLAY > told; mv told display"];
        let arguments = [arguments, &tell].concat();
        Self(Desk::with_programs(
            &[("qrexec-client-vm", CLIENT)],
            &arguments,
        ))
    }

    /// How many calls were made, each of which is the right one.
    fn calls(&self) -> usize {
        let calls = fs::read_to_string(self.0.path("calls")).unwrap_or_default();
        let asked = |line: &str| assert_eq!(line, "-- dom0 qubes.WindowIconUpdater");
        calls.lines().map(asked).count()
    }

    /// What has come by a call.
    fn icons(&self, call: usize) -> Vec<(WindowId, Icon)> {
        let stream = fs::read(self.0.path(&format!("stream{call}"))).unwrap_or_default();
        let (mut reader, mut rest, mut icons) = (Reader::new(), &stream[..], Vec::new());
        while let Some(icon) = reader.next(&mut rest).expect("a stream of icons") {
            icons.push(icon);
        }
        icons
    }

    /// Waits until the last icon of a window is of this side and begins with this pixel.
    #[track_caller]
    fn must_have(&self, call: usize, window: WindowId, side: u32, pixel: [u8; 4]) {
        wait_for("an icon", || {
            let icons = self.icons(call);
            let (_, icon) = icons.iter().rev().find(|(of, _)| *of == window)?;
            (icon.size().width() == side && icon.pixels()[..4] == pixel).then_some(())
        });
    }

    fn display(&self) -> String {
        let told = self.0.path("display");
        let display = wait_for("Xwayland", || fs::read_to_string(&told).ok());
        display.trim().to_owned()
    }

    /// A window of X, and an icon that is put on it.
    #[track_caller]
    fn clock(&mut self, daemon: &mut Daemon) -> WindowId {
        let display = self.display();
        self.0.start(&["xclock", "-display", &display]);
        daemon.new_window("a clock", &[])
    }

    #[track_caller]
    fn puts(&mut self, icon: &str) {
        let display = self.display();
        let name = "_NET_WM_ICON";
        self.0.start(&[
            "xprop", "-display", &display, "-name", "xclock", "-f", name, "32c", "-set", name, icon,
        ]);
        wait_for("a property", || self.0.has_ended().then_some(()));
    }
}

/// One of one pixel, and one of two, of which the first is half red.
const SMALL: &str = "1, 1, 4294967295";
const BOTH: &str = "1, 1, 4294967295, 2, 2, 2164195328, 0, 0, 0";
const HALF_RED: [u8; 4] = [255, 0, 0, 128];
const WHITE: [u8; 4] = [255; 4];

#[test]
fn icons_of_x_are_sent_when_they_change_and_again_when_the_call_or_the_daemon_is_another() {
    let mut dom0 = Dom0::start(&[]);
    let mut daemon = dom0.0.daemon();
    assert_eq!(dom0.calls(), 0, "not before the first");
    // It has one of its own, which it draws.
    let clock = dom0.clock(&mut daemon);
    wait_for("a call", || (dom0.calls() == 1).then_some(()));
    dom0.puts(BOTH);
    dom0.must_have(1, clock, 2, HALF_RED);
    dom0.puts(SMALL);
    dom0.must_have(1, clock, 1, WHITE);
    // The call ends, and is made again with what there is.
    fs::write(dom0.0.path("end1"), "").unwrap();
    dom0.must_have(2, clock, 1, WHITE);
    assert_eq!(dom0.calls(), 2);
    // A daemon that comes knows of nothing.
    drop(daemon);
    let mut daemon = dom0.0.daemon();
    let again = daemon.new_window("the clock again", &[]);
    wait_for("its icon again", || {
        let icons = dom0.icons(2);
        (icons.iter().filter(|(of, _)| *of == again).count() == 2).then_some(())
    });
    dom0.puts(BOTH);
    dom0.must_have(2, again, 2, HALF_RED);
    assert_eq!(dom0.calls(), 2);
    daemon.say(again, &DaemonMessage::Close);
    daemon.until_gone(again);
}

#[test]
fn an_xterm_has_the_icon_that_it_draws_itself() {
    let mut dom0 = Dom0::start(&[]);
    let mut daemon = dom0.0.daemon();
    let display = dom0.display();
    dom0.0
        .start(&["xterm", "-display", &display, "-e", "sleep 60"]);
    let xterm = daemon.new_window("an xterm", &[]);
    let icon = wait_for("an icon", || {
        let mut icons = dom0.icons(1).into_iter();
        icons.find(|(of, _)| *of == xterm)
    });
    let (pixels, _) = icon.1.pixels().as_chunks::<4>();
    // A screen on a ground that is not there.
    for alpha in [0, 255] {
        assert!(pixels.iter().any(|pixel| pixel[3] == alpha), "{alpha}");
    }
}

#[test]
fn an_application_of_wayland_has_the_icon_that_its_entry_names() {
    let mut dom0 = Dom0::start(&["--no-x"]);
    let data = dom0.0.path(".local/share");
    for folder in ["applications", "pixmaps"] {
        fs::create_dir_all(data.join(folder)).unwrap();
    }
    let entry = "[Desktop Entry]\nType=Application\nIcon=terminal-icon\n";
    // As `foot` calls itself here.
    fs::write(data.join("applications/terminal.desktop"), entry).unwrap();
    let file = fs::File::create(data.join("pixmaps/terminal-icon.png")).unwrap();
    let mut encoder = png::Encoder::new(file, 24, 24);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[7, 8, 9].repeat(24 * 24)).unwrap();
    writer.finish().unwrap();
    let mut daemon = dom0.0.daemon();
    let terminal = foot(&mut dom0.0, &mut daemon);
    dom0.must_have(1, terminal, 24, [7, 8, 9, 255]);
}

#[test]
fn an_application_of_wayland_has_the_icon_that_it_gives_itself_from_its_commit_on() {
    let mut dom0 = Dom0::start(&["--no-x"]);
    let mut daemon = dom0.0.daemon();
    dom0.0.start(OWN);
    let window = daemon.new_window("a window", &[]);
    dom0.must_have(1, window, 32, HALF_RED);
    fs::write(dom0.0.path("change"), "").unwrap();
    dom0.must_have(1, window, 16, [0, 0, 255, 255]);
}

#[test]
fn a_qube_that_may_not_asks_again_only_when_another_daemon_comes() {
    let mut dom0 = Dom0::start(&[]);
    fs::write(dom0.0.path("refuse"), "").unwrap();
    let mut daemon = dom0.0.daemon();
    dom0.clock(&mut daemon);
    dom0.puts(SMALL);
    let refused = "policy does not let this qube have icons of its windows shown";
    wait_for("a refusal", || {
        dom0.0.agent_log().contains(refused).then_some(())
    });
    dom0.puts(BOTH);
    daemon.idle(std::time::Duration::from_secs(2));
    assert_eq!(dom0.calls(), 1);
    fs::remove_file(dom0.0.path("refuse")).unwrap();
    drop(daemon);
    let mut daemon = dom0.0.daemon();
    let clock = daemon.new_window("the clock again", &[]);
    dom0.must_have(2, clock, 2, HALF_RED);
}
