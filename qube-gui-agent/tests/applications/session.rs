//! How others learn of the session.

use std::fs::read_to_string;

use rustix::process::{Pid, Signal, kill_process};

use crate::desk::{Desk, wait_for};

#[test]
fn a_session_is_told_of_while_it_is_served() {
    let desk = Desk::with(&["--session", "session"]);
    let file = desk.path("session");
    let text = wait_for("the session", || read_to_string(&file).ok());
    let number = text.strip_prefix("WAYLAND_DISPLAY=wayland-0\nDISPLAY=:");
    let number = number.and_then(|rest| rest.strip_suffix('\n'));
    assert!(number.is_some_and(|n| n.parse::<u32>().is_ok()), "{text}");
    let agent = i32::try_from(desk.agent()).ok().and_then(Pid::from_raw);
    kill_process(agent.unwrap(), Signal::TERM).unwrap();
    wait_for("the end of the session", || (!file.exists()).then_some(()));
}

#[test]
fn where_x_cannot_be_served_applications_of_wayland_are() {
    // It ends at once, and says why.
    let desk = Desk::with_programs(
        &[("Xwayland", "echo no X here >&2; exit 1")],
        &["--session", "session"],
    );
    let file = desk.path("session");
    let text = wait_for("the session", || read_to_string(&file).ok());
    assert_eq!(text, "WAYLAND_DISPLAY=wayland-0\n");
    let log = desk.agent_log();
    assert!(log.contains("no X here"), "{log}");
    assert!(log.contains("Xwayland ended before it served"), "{log}");
}
