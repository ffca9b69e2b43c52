//! Icons of a qube's windows, by calls that the test makes.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use bulkhead_gui::icon::{SHOWN_MAX, of_label};
use bulkhead_gui::icons::{ICONS_BURST, UNKNOWN_BURST};
use bulkhead_gui::windows::{EARLY_MAX, WINDOWS_MAX};
use bulkhead_testing::{PATIENCE, wait_for};
use bulkhead_vchan::seqpacket::{pair, recv_packet};
use bulkhead_wire::gui::{AgentMessage, WindowId};
use bulkhead_wire::icons::{ICON_SIDE_MAX, Icon, IconSize, encode};
use bulkhead_wire::proxy::ToProxy;
use bulkhead_wire::relay::decode;
use bulkhead_wire::service::Report;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::agent::{Agent, size};
use crate::daemon::Daemon;
use crate::screen::Screen;
use crate::session::{Proxy, Session};
use crate::windows::pattern;

/// The label's colour.
const GREEN: u32 = 0x00_cc00;

/// One call.
struct Call {
    stream: UnixStream,
    report: OwnedFd,
}

impl Call {
    fn make(daemon: &Daemon) -> Self {
        let (stream, theirs) = UnixStream::pair().expect("sockets");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let (report, reports) = pair().expect("sockets");
        daemon.say(&ToProxy::Icons, &[theirs.as_fd(), reports.as_fd()]);
        Self { stream, report }
    }

    /// A window is to have an icon of this colour.
    fn icon(&mut self, window: u32, (width, height): (u32, u32), pixel: [u8; 4]) {
        let bytes = bytes(window, (width, height), pixel);
        self.stream.write_all(&bytes).expect("a proxy");
    }

    /// Ends the stream; the exit code.
    #[track_caller]
    fn ended(self) -> i32 {
        drop(self.stream);
        exit_code(&self.report)
    }
}

#[track_caller]
fn exit_code(report: &OwnedFd) -> i32 {
    let (mut buffer, mut files) = ([0; 64], Vec::new());
    let patience = Timespec::try_from(PATIENCE).expect("a time");
    let mut fds = [PollFd::new(report, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&patience)), Ok(1), "no report");
    let length = recv_packet(report, &mut buffer, &mut files).expect("a report");
    match decode(&buffer[..length]).expect("a report") {
        Report::Ended { code } => code,
        other => panic!("{other:?}"),
    }
}

fn bytes(window: u32, (width, height): (u32, u32), pixel: [u8; 4]) -> Vec<u8> {
    let size = IconSize::new(width, height).expect("a size");
    let pixels = pixel.repeat(size.bytes() / 4);
    let mut bytes = Vec::new();
    let icon = Icon::new(size, pixels).expect("an icon");
    encode(WindowId(window), &icon, &mut bytes);
    bytes
}

const RED: [u8; 4] = [255, 0, 0, 255];
const WHITE: [u8; 4] = [255, 255, 255, 128];

/// What the colours above are in the hue of the label.
const RED_SHOWN: u32 = 0xff00_ff00;
const WHITE_SHOWN: u32 = 0x80c0_ffc0;

struct Desk {
    // It ends last.
    agent: Agent,
    daemon: Daemon,
    proxy: Proxy,
    screen: Screen,
    _session: Session,
}

impl Desk {
    #[track_caller]
    fn start() -> Self {
        let session = Session::start();
        let screen = Screen::of(&session);
        let (proxy, agent, daemon) = Daemon::start(&session, "work", &[]);
        Self {
            agent,
            daemon,
            proxy,
            screen,
            _session: session,
        }
    }

    fn shows(&mut self, window: u32) {
        let at = i32::try_from(window).expect("a small number") * 100;
        self.agent.window(window, (at, at), size(50, 50), pattern);
    }

    /// Waits for the icon of what is shown with this number.
    #[track_caller]
    fn must_have(&self, window: u32, icon: &[u32]) {
        wait_for("an icon", || {
            let numbered =
                |shown: &&u32| self.screen.number(**shown, "_QUBES_VMWINDOWID") == Some(window);
            let windows = self.screen.windows();
            let shown = windows.iter().find(numbered)?;
            (self.screen.numbers(*shown, "_NET_WM_ICON") == icon).then_some(())
        });
    }

    /// That a call is refused with this in the log, and all else goes on: windows, and the next call.
    #[track_caller]
    fn must_refuse(&mut self, call: Call, why: &str) {
        assert_eq!(exit_code(&call.report), 1);
        let log = self.proxy.log();
        let said = log.lines().last().unwrap_or_default();
        let prefix = "bulkhead-gui work: a call with icons is refused: ";
        assert_eq!(said.strip_prefix(prefix), Some(why), "{log}");
        self.agent.sync();
        self.proxy.must_run();
    }
}

#[test]
fn windows_have_their_icons_in_the_colour_of_the_label() {
    let mut desk = Desk::start();
    desk.shows(1);
    desk.must_have(1, &of_label(GREEN));
    let mut call = Call::make(&desk.daemon);
    call.icon(1, (2, 1), RED);
    desk.must_have(1, &[2, 1, RED_SHOWN, RED_SHOWN]);
    call.icon(1, (1, 1), WHITE);
    desk.must_have(1, &[1, 1, WHITE_SHOWN]);
    // One before its window, and one that is larger than is shown.
    call.icon(2, (1, 1), RED);
    call.icon(3, (ICON_SIDE_MAX, ICON_SIDE_MAX), RED);
    for window in [3, 2] {
        desk.shows(window);
    }
    desk.must_have(2, &[1, 1, RED_SHOWN]);
    let all = vec![RED_SHOWN; (SHOWN_MAX * SHOWN_MAX) as usize];
    desk.must_have(3, &[vec![SHOWN_MAX; 2], all].concat());
    // It stays when the call is over or the window out of sight, and goes with the window.
    assert_eq!(call.ended(), 0);
    desk.agent.say(2, AgentMessage::Unmap);
    desk.screen.must_have(2);
    desk.agent.map(2, None, false);
    desk.must_have(2, &[1, 1, RED_SHOWN]);
    desk.agent.say(2, AgentMessage::Destroy);
    desk.screen.must_have(2);
    desk.shows(2);
    desk.must_have(2, &of_label(GREEN));
}

#[test]
fn what_is_no_stream_of_icons_ends_its_call_and_nothing_else() {
    let mut desk = Desk::start();
    desk.shows(1);
    let side = ICON_SIDE_MAX + 1;
    let no_stream = "what the qube sends is no stream of icons: ";
    for (stream, why) in [
        (
            "-1\n1 1\n....".to_owned(),
            "a line that is no number of a window",
        ),
        (
            "4294967296\n".to_owned(),
            "a line that is no number of a window",
        ),
        (
            "1\n-1 1\n....".to_owned(),
            "a line that is no size of an icon",
        ),
        ("1\n1\n....".to_owned(), "a line that is no size of an icon"),
        ("1\n0 1\n".to_owned(), "an icon of 0 by 1 pixels"),
        (format!("1\n1 {side}\n"), "an icon of 1 by 1025 pixels"),
        (
            "1\n65535 9999\n".to_owned(),
            "an icon of 65535 by 9999 pixels",
        ),
        (
            "1\n4294967295 1\n".to_owned(),
            "a line of more than 10 bytes",
        ),
        ("x".repeat(100_000), "a line of more than 10 bytes"),
    ] {
        let mut call = Call::make(&desk.daemon);
        // It may be refused before it has all been written.
        let _ = call.stream.write_all(stream.as_bytes());
        desk.must_refuse(call, &format!("{no_stream}{why}"));
    }
    let whole = bytes(1, (8, 8), RED);
    for cut in [1, 2, 4, whole.len() - 1] {
        let mut call = Call::make(&desk.daemon);
        call.stream.write_all(&whole[..cut]).expect("a proxy");
        let end = std::net::Shutdown::Write;
        call.stream.shutdown(end).expect("a socket");
        desk.must_refuse(call, "it ended in the middle of an icon");
    }
    let mut call = Call::make(&desk.daemon);
    call.icon(1, (1, 1), RED);
    desk.must_have(1, &[1, 1, RED_SHOWN]);
    assert_eq!(call.ended(), 0);
}

#[test]
fn a_call_with_icons_of_one_window_more_that_there_is_not_is_refused() {
    let mut desk = Desk::start();
    desk.shows(1);
    let mut call = Call::make(&desk.daemon);
    for window in 0..UNKNOWN_BURST {
        call.icon(100 + window, (1, 1), WHITE);
    }
    call.icon(1, (1, 1), RED);
    desk.must_have(1, &[1, 1, RED_SHOWN]);
    // Those that came last wait for their windows.
    let last = 100 + UNKNOWN_BURST - 1;
    let first = last - u32::try_from(EARLY_MAX).expect("a small number") + 1;
    for window in [first - 1, first, last] {
        desk.agent.window(window, (300, 300), size(50, 50), pattern);
        let expected = if window < first {
            of_label(GREEN)
        } else {
            vec![1, 1, WHITE_SHOWN]
        };
        desk.must_have(window, &expected);
    }
    // It is not told when there is room for one more, and so they go on until there is none.
    let refused = (0..10 * UNKNOWN_BURST).any(|window| {
        let bytes = bytes(1000 + window, (1, 1), WHITE);
        call.stream.write_all(&bytes).is_err()
    });
    assert!(refused || exit_code(&call.report) == 1);
    desk.proxy
        .must_say("is refused: it brought too many icons of windows that there are not");
    desk.agent.sync();
    desk.proxy.must_run();
}

#[test]
fn icons_that_come_too_fast_wait_and_nothing_else_does() {
    let mut desk = Desk::start();
    desk.shows(1);
    let mut call = Call::make(&desk.daemon);
    // Large enough that few are read at once, and small enough to be read faster than they may come.
    let mut sent = 0;
    while !desk.proxy.log().contains("icons come too fast, and wait") {
        call.icon(1, (16, 16), WHITE);
        sent += 1;
    }
    assert!(sent > ICONS_BURST, "{sent}");
    desk.agent.sync();
    call.icon(1, (1, 1), RED);
    desk.must_have(1, &[1, 1, RED_SHOWN]);
    assert_eq!(desk.proxy.log().matches("too fast").count(), 1);
    assert_eq!(call.ended(), 0);
}

#[test]
fn as_many_windows_as_there_may_be_have_icons_as_large_as_are_shown() {
    let mut desk = Desk::start();
    let mut call = Call::make(&desk.daemon);
    let side = SHOWN_MAX;
    // One is left for what waits until all was done.
    let last = u32::try_from(WINDOWS_MAX).expect("a small number") - 1;
    for window in 1..=last {
        desk.agent.create(window, (0, 0), size(50, 50), false);
    }
    desk.agent.sync();
    for window in 1..=last {
        call.icon(window, (side, side), RED);
    }
    let all = vec![RED_SHOWN; (side * side) as usize];
    desk.agent.map(last, None, false);
    desk.must_have(last, &[vec![side; 2], all].concat());
    assert_eq!(call.ended(), 0);
    desk.proxy.must_run();
}

#[test]
fn another_call_takes_the_place_of_the_one_before() {
    let mut desk = Desk::start();
    desk.shows(1);
    let mut before = Call::make(&desk.daemon);
    before.icon(1, (1, 1), WHITE);
    desk.must_have(1, &[1, 1, WHITE_SHOWN]);
    let mut after = Call::make(&desk.daemon);
    after.icon(1, (1, 1), RED);
    desk.must_have(1, &[1, 1, RED_SHOWN]);
    assert_eq!(exit_code(&before.report), 1);
    assert_eq!(after.ended(), 0);
    // A call has two streams.
    let (one, _other) = pair().expect("sockets");
    desk.daemon.say(&ToProxy::Icons, &[one.as_fd()]);
    desk.proxy.must_say("no icons come: the call has 1 streams");
}
