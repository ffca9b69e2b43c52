//! What a person drags with the mouse between windows of applications: real programs at every end.

use std::time::Duration;

use bulkhead_testing::wait_for;
use x11rb::protocol::xproto::{ConfigureWindowAux, ConnectionExt as _, Window};

use crate::machine::Machine;

/// Windows that text is dragged from and dropped to.
const DRAG: &str = include_str!("../../../qube-gui-agent/tests/applications/drag.py");

impl Machine {
    /// Whether an application has told this since it was asked last.
    fn tells(&self, qube: &str, what: &str) -> bool {
        let said = self.runs(qube, &format!("rm {what} 2>/dev/null && echo told || true"));
        said == "told\n"
    }

    /// Moves a window, as a window manager does.
    #[track_caller]
    fn puts(&self, window: Window, (x, y): (i32, i32)) {
        let to = ConfigureWindowAux::new().x(x).y(y);
        let moved = self.screen.connection.configure_window(window, &to);
        moved.expect("a window").check().expect("a window");
    }

    fn middle(&self, window: Window) -> (i32, i32) {
        let (x, y, width, height) = self.screen.area(window);
        (x + width.cast_signed() / 2, y + height.cast_signed() / 2)
    }

    /// Takes hold of what is in a window of a qube, and moves it there until it is dragged.
    #[track_caller]
    fn takes(&self, qube: &str, title: &str, window: Window) {
        let (x, y) = self.middle(window);
        self.screen.point(x, y);
        self.screen.button(1, true);
        let mut far = 0;
        wait_for("a drag", || {
            for _ in 0..10 {
                far = (far + 5) % 60;
                self.screen.point(x + far, y);
                std::thread::sleep(Duration::from_millis(20));
            }
            self.tells(qube, &format!("{title}-begun")).then_some(())
        });
        // It has told so itself before it told the display.
        for _ in 0..100 {
            far = (far + 5) % 60;
            self.screen.point(x + far, y);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Brings it to a point, moves it there, and lets go.
    fn drops(&self, (x, y): (i32, i32), name: &str) {
        for far in 0..20 {
            self.screen.point(x + far, y);
            std::thread::sleep(Duration::from_millis(20));
        }
        self.screen.keep(name);
        self.screen.button(1, false);
    }
}

/// A qube with a window that text is dragged from and one that it is dropped to, of such a kind,
/// between which some was dragged.
#[track_caller]
fn drags(machine: &Machine, backend: &str) -> Window {
    machine.runs("work", &format!("cat > drag.py <<'END'\n{DRAG}\nEND"));
    let opens = |arguments| {
        let python = "/usr/bin/python3 drag.py";
        let command = format!("env GDK_BACKEND={backend} GSK_RENDERER=cairo {python} {arguments}");
        machine.opens("work", &command);
    };
    opens("One of-one");
    let one = machine.window("[work] One");
    opens("Two ''");
    let two = machine.window("[work] Two");
    machine.puts(one, (60, 100));
    machine.puts(two, (600, 140));
    machine.screen.focus(one);
    wait_for("what was dropped", || {
        machine.takes("work", "One", one);
        machine.drops(machine.middle(two), &format!("drag-{backend}"));
        std::thread::sleep(Duration::from_millis(500));
        let told = machine.runs("work", "cat Two 2>/dev/null || true");
        (told == "of-one").then_some(())
    });
    wait_for("the end", || {
        machine.tells("work", "One-ended").then_some(())
    });
    machine.screen.keep(&format!("dropped-{backend}"));
    one
}

#[test]
fn what_is_dragged_is_dropped_in_the_qube_and_nowhere_else() {
    let machine = Machine::start();
    let _session = machine.shows();
    let one = drags(&machine, "wayland");
    // Another qube's window is above the second.
    machine.opens("vault", "xclock");
    let clock = machine.window("[vault] ");
    machine.puts(clock, (700, 200));
    machine.runs("work", "rm -f Two* One-*");
    machine.takes("work", "One", one);
    machine.drops(machine.middle(clock), "drag-covered");
    wait_for("the end", || {
        machine.tells("work", "One-kept").then_some(())
    });
    for nothing in ["Two", "Two-over"] {
        assert!(!machine.tells("work", nothing), "{nothing}");
    }
}

#[test]
fn what_applications_of_x_drag_is_dropped_in_the_qube() {
    let machine = Machine::start();
    let _session = machine.shows();
    drags(&machine, "x11");
}
