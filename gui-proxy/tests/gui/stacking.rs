//! Windows that place themselves, among those of others.

use bulkhead_testing::wait_for;
use rustix::process::{Pid, Signal, kill_process};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    ConfigureWindowAux, ConnectionExt as _, CreateWindowAux, Window, WindowClass,
};
use x11rb::{COPY_DEPTH_FROM_PARENT, COPY_FROM_PARENT};

use crate::agent::{Agent, size};
use crate::screen::Screen;
use crate::session::Session;

const GREEN: u32 = 0x00_cc00;
const CONTENT: u32 = 0x33_3333;

/// A window of somebody else's, in another or in the root.
fn others(screen: &Screen, parent: Window, (width, height): (u16, u16)) -> Window {
    let connection = &screen.connection;
    let window = connection.generate_id().expect("a number");
    let attributes = CreateWindowAux::new()
        .override_redirect(1)
        .background_pixel(0x50);
    let made = connection.create_window(
        COPY_DEPTH_FROM_PARENT,
        window,
        parent,
        0,
        0,
        width,
        height,
        0,
        WindowClass::INPUT_OUTPUT,
        COPY_FROM_PARENT,
        &attributes,
    );
    made.expect("a window").check().expect("a window");
    let mapped = connection.map_window(window).expect("a window");
    mapped.check().expect("a window");
    window
}

/// Opens a menu; the window that it is.
fn menu(screen: &Screen, agent: &mut Agent, owner: Option<u32>) -> Window {
    let before = screen.windows();
    agent.create(8, (150, 150), size(300, 200), true);
    agent.map(8, owner, true);
    agent.draw(8, size(300, 200), |_, _| CONTENT);
    wait_for("a menu", || {
        let mut now = screen.windows().into_iter();
        now.find(|window| !before.contains(window))
    })
}

fn order(screen: &Screen, of: Window) -> Option<usize> {
    screen.windows().iter().position(|window| *window == of)
}

#[test]
fn where_nothing_is_in_use_a_qube_without_windows_is_below_all() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let locker = others(&screen, screen.root, (1280, 1024));
    let (_proxy, mut evil) = session.qube("evil", GREEN);
    let menu = menu(&screen, &mut evil, None);
    assert!(order(&screen, menu) < order(&screen, locker));
}

#[test]
fn menus_are_above_their_window_however_deep_a_manager_has_framed_it() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_proxy, mut agent) = session.qube("work", GREEN);
    agent.window(1, (100, 100), size(400, 300), |_, _| CONTENT);
    let window = screen.must_have(1)[0];
    let frame = others(&screen, screen.root, (500, 400));
    let inner = others(&screen, frame, (450, 350));
    let put = screen.connection.reparent_window(window, inner, 0, 0);
    put.expect("a window").check().expect("a window");
    agent.sync();
    let menu = menu(&screen, &mut agent, Some(1));
    wait_for("its place", || {
        (order(&screen, frame)? < order(&screen, menu)?).then_some(())
    });
}

#[test]
fn the_frame_is_above_the_content_before_the_proxy_knows_how_large_it_is() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (proxy, mut agent) = session.qube("work", GREEN);
    agent.window(1, (100, 100), size(400, 300), |_, _| CONTENT);
    let window = screen.must_have(1)[0];
    wait_for("the content", || {
        (screen.picture(499, 399, 1, 1).pixels == [CONTENT]).then_some(())
    });
    let process = Pid::from_raw(proxy.id().cast_signed()).expect("a process");
    kill_process(process, Signal::STOP).expect("a process");
    // As a manager that does not ask: the content is larger than what it leaves of the frame.
    let small = ConfigureWindowAux::new().width(208).height(122);
    let changed = screen.connection.configure_window(window, &small);
    changed.expect("a window").check().expect("a window");
    for at in 0..4 {
        assert_eq!(
            screen.picture(300 + at, 150, 1, 1).pixels,
            [GREEN],
            "right {at}"
        );
        assert_eq!(
            screen.picture(200, 200 + at, 1, 1).pixels,
            [GREEN],
            "below {at}"
        );
    }
    assert_eq!(screen.picture(299, 199, 1, 1).pixels, [CONTENT]);
    kill_process(process, Signal::CONT).expect("a process");
}
