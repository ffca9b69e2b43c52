//! What qubes hear of the monitors of the display, and how their windows look on them.

use bulkhead_testing::wait_for;
use bulkhead_wire::proxy::FromProxy;
use x11rb::protocol::randr::{ConnectionExt as _, MonitorInfo};
use x11rb::protocol::xproto::{ConfigureWindowAux, ConnectionExt as _, Window};

use crate::daemon::Daemon;
use crate::machine::Machine;
use crate::screen::{Picture, Screen};
use crate::session::Session;

/// Width and height of each of two monitors beside each other.
const SIDES: (u16, u16) = (1600, 1100);

/// Millimetres of that of about 100 and of 250 dots per inch.
const USUAL: (u32, u32) = (406, 279);
const DENSE: (u32, u32) = (162, 112);

/// Has one of the two be a monitor.
fn set(screen: &Screen, name: &str, x: i16, millimetres: (u32, u32)) {
    let connection = &screen.connection;
    let asked = connection.randr_get_screen_resources_current(screen.root);
    let outputs = asked.expect("RandR").reply().expect("RandR").outputs;
    let (width, height) = SIDES;
    let monitor = MonitorInfo {
        name: screen.atom(name),
        primary: false,
        automatic: false,
        x,
        y: 0,
        width,
        height,
        width_in_millimeters: millimetres.0,
        height_in_millimeters: millimetres.1,
        // The only one there is stands for a monitor of the whole screen otherwise.
        outputs: if x == 0 { outputs } else { Vec::new() },
    };
    // Of a name there is one.
    let deleted = connection.randr_delete_monitor(screen.root, monitor.name);
    deleted.expect("RandR").ignore_error();
    let set = connection.randr_set_monitor(screen.root, monitor);
    set.expect("RandR").check().expect("a monitor");
}

fn session() -> Session {
    Session::start_with(2 * u32::from(SIDES.0), SIDES.1.into())
}

#[track_caller]
fn must_hear(daemon: &Daemon, expected: &str) {
    loop {
        match daemon.hears().0 {
            // What was true in between.
            FromProxy::Monitors(layout) if layout.to_string() != expected => {}
            FromProxy::Monitors(_) => return,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_qube_is_told_when_there_are_other_monitors() {
    let session = session();
    let screen = Screen::of(&session);
    let (_proxy, _agent, daemon) = Daemon::start(&session, "work", &[]);
    set(&screen, "left", 0, USUAL);
    set(&screen, "right", 1600, DENSE);
    must_hear(&daemon, "1600 1100 0 0 423 291\n1600 1100 1600 0 203 139\n");
    set(&screen, "right", 1600, (0, 0));
    must_hear(&daemon, "1600 1100 0 0 423 291\n1600 1100 1600 0\n");
}

impl Screen {
    fn put(&self, window: Window, x: i32, y: i32) {
        let to = ConfigureWindowAux::new().x(x).y(y);
        let put = self.connection.configure_window(window, &to);
        put.expect("a window").check().expect("a window");
    }

    /// All that is to be seen of a window and its frame.
    fn seen(&self, window: Window) -> Picture {
        let (x, y, width, height) = self.area(window);
        self.picture(x, y, width, height)
    }
}

/// Whether it is more than a smaller picture with each pixel four times, wherever that begins.
fn is_sharp(picture: &Picture) -> bool {
    let rows = u32::try_from(picture.pixels.len()).expect("rows") / picture.width;
    let lone = |x: u32, y: u32| {
        let (left, it, right) = (picture.at(x - 1, y), picture.at(x, y), picture.at(x + 1, y));
        it != left && it != right
    };
    // Below the strip, where the name is.
    (40..rows).any(|y| (1..picture.width - 1).any(|x| lone(x, y)))
}

#[test]
fn a_terminal_is_moved_to_a_denser_monitor_and_back() {
    let machine = Machine::start_on(session());
    set(&machine.screen, "left", 0, USUAL);
    set(&machine.screen, "right", 1600, DENSE);
    let _session = machine.shows();
    machine.runs("work", "true");
    let told = "cat $XDG_RUNTIME_DIR/qube-monitors 2>/dev/null || true";
    wait_for("the monitors", || {
        let text = machine.runs("work", told);
        (text == "1600 1100 0 0 423 291\n1600 1100 1600 0 203 139\n").then_some(())
    });
    machine.opens(
        "work",
        "foot --config=/dev/null --override=font=monospace:size=10 \
         --override=colors.background=101018 sh -c 'seq -s \" \" 600; exec sleep 1000'",
    );
    let window = machine.window("[work] ");
    let (.., width, height) = machine.screen.area(window);
    wait_for("numbers", || {
        is_sharp(&machine.screen.seen(window)).then_some(())
    });
    machine.screen.keep("monitors-first");

    machine.screen.put(window, 1700, 40);
    let second = wait_for("a larger window", || {
        let (.., wide, high) = machine.screen.area(window);
        // The frame stays as it is.
        let is_twice = |one: u32, two: u32| (2 * one - 60..=2 * one).contains(&two);
        (is_twice(width, wide) && is_twice(height, high)).then_some((wide, high))
    });
    wait_for("sharp numbers", || {
        is_sharp(&machine.screen.seen(window)).then_some(())
    });
    machine.screen.keep("monitors-second");
    assert_eq!(machine.screen.area(window), (1700, 40, second.0, second.1));

    // The other becomes as dense, and then the window moves there without a change.
    set(&machine.screen, "left", 0, DENSE);
    wait_for("the monitors", || {
        let text = machine.runs("work", told);
        text.contains("1600 1100 0 0 203 139\n").then_some(())
    });
    machine.screen.put(window, 10, 10);
    set(&machine.screen, "left", 0, USUAL);
    wait_for("the window of before", || {
        (machine.screen.area(window) == (10, 10, width, height)).then_some(())
    });
    machine.screen.keep("monitors-back");
}
