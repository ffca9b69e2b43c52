//! Icons of the tray, in one of the test's own.

use std::time::{Duration, Instant};

use bulkhead_testing::wait_for;
use bulkhead_wire::gui::geometry::{Place, Size};
use bulkhead_wire::gui::{AgentMessage, DaemonMessage};
use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    AtomEnum, ClientMessageEvent, ConfigureWindowAux, ConnectionExt as _, CreateWindowAux,
    EventMask, PropMode, SetMode, Window, WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;

use crate::agent::{Agent, size};
use crate::screen::{Picture, Screen};
use crate::session::Session;
use crate::windows::pattern;

const GREEN: u32 = 0x00_cc00;

/// A side of what the tray gives an icon.
const CELL: u16 = 30;

/// The border around an icon.
const BORDER: i32 = 2;

/// A bar at the top of the screen that takes icons, one beside the other.
struct Tray {
    screen: Screen,
    bar: Window,
    icons: Vec<Window>,
}

impl Tray {
    fn start(session: &Session) -> Self {
        let screen = Screen::of(session);
        let connection = &screen.connection;
        let bar = connection.generate_id().expect("a number");
        let attributes = CreateWindowAux::new()
            .override_redirect(1)
            .background_pixel(0x55_5555)
            .event_mask(EventMask::SUBSTRUCTURE_NOTIFY);
        let (class, visual) = (WindowClass::INPUT_OUTPUT, 0);
        let made = connection.create_window(
            0,
            bar,
            screen.root,
            700,
            10,
            20 * CELL,
            CELL,
            0,
            class,
            visual,
            &attributes,
        );
        made.expect("a bar").check().expect("a bar");
        connection.map_window(bar).expect("a bar");
        let selection = screen.atom("_NET_SYSTEM_TRAY_S0");
        let owned = connection.set_selection_owner(bar, selection, x11rb::CURRENT_TIME);
        owned.expect("a selection").check().expect("a selection");
        let data = [x11rb::CURRENT_TIME, selection, bar, 0, 0];
        let message = ClientMessageEvent::new(32, screen.root, screen.atom("MANAGER"), data);
        let to = EventMask::STRUCTURE_NOTIFY;
        connection
            .send_event(false, screen.root, to, message)
            .expect("a message");
        connection.flush().expect("a display");
        Self {
            screen,
            bar,
            icons: Vec::new(),
        }
    }

    /// Waits for the next icon and takes it in.
    #[track_caller]
    fn takes(&mut self) -> Window {
        let opcode = self.screen.atom("_NET_SYSTEM_TRAY_OPCODE");
        let connection = &self.screen.connection;
        let icon = wait_for("an icon", || {
            match connection.poll_for_event().expect("a display")? {
                Event::ClientMessage(event) if event.type_ == opcode => {
                    let [_, request, icon, ..] = event.data.as_data32();
                    (request == 0).then_some(icon)
                }
                _ => None,
            }
        });
        let info = self.screen.numbers(icon, "_XEMBED_INFO");
        assert_eq!(info, [0, 1]);
        let x = i16::try_from(self.icons.len()).expect("few") * CELL.cast_signed();
        let saved = connection.change_save_set(SetMode::INSERT, icon);
        saved.expect("an icon").check().expect("an icon");
        let taken = connection.reparent_window(icon, self.bar, x, 0);
        taken.expect("an icon").check().expect("an icon");
        let side = ConfigureWindowAux::new()
            .width(u32::from(CELL))
            .height(u32::from(CELL));
        let sized = connection.configure_window(icon, &side);
        sized.expect("an icon").check().expect("an icon");
        let shown = connection.map_window(icon);
        shown.expect("an icon").check().expect("an icon");
        self.icons.push(icon);
        icon
    }
}

/// The size of the content of an icon in the tray.
fn inner() -> Size {
    size(u32::from(CELL) - 4, u32::from(CELL) - 4)
}

/// Where the content of the first one is.
const FIRST: (i32, i32) = (700 + BORDER, 10 + BORDER);

fn dock(agent: &mut Agent, id: u32) {
    agent.create(id, (0, 0), size(64, 64), true);
    agent.say(id, AgentMessage::Dock);
}

#[track_caller]
fn must_be_told(agent: &mut Agent, id: u32, place: Place, size: Size) {
    agent.until("a place", |told, message| match message {
        DaemonMessage::Configure {
            place: p, size: s, ..
        } => ((told, *p, *s) == (id, place, size)).then_some(()),
        _ => None,
    });
}

#[track_caller]
fn must_have_border(screen: &Screen) {
    let side = i32::from(CELL);
    for (x, y) in [
        (0, 0),
        (side - 1, 0),
        (0, side - 1),
        (side - 1, side - 1),
        (1, 15),
        (15, 28),
    ] {
        let pixel = screen.picture(700 + x, 10 + y, 1, 1).pixels;
        assert_eq!(pixel, [GREEN], "{x} {y}");
    }
}

#[test]
fn an_icon_is_in_the_tray_with_a_border_that_it_cannot_cover() {
    let session = Session::start();
    let mut tray = Tray::start(&session);
    let screen = Screen::of(&session);
    let (_proxy, mut agent) = session.qube("work", GREEN);
    dock(&mut agent, 7);
    let icon = tray.takes();
    let place = Place::near(FIRST.0, FIRST.1);
    must_be_told(&mut agent, 7, place, inner());
    // Whatever else it wants to be.
    agent.say(
        7,
        AgentMessage::Configure {
            place: Place::near(0, 0),
            size: size(500, 500),
        },
    );
    must_be_told(&mut agent, 7, place, inner());
    agent.map(7, None, true);
    agent.draw(7, size(500, 500), pattern);
    let picture = Picture::of(inner().width(), inner().height(), pattern);
    screen.must_show(FIRST, &picture);
    must_have_border(&screen);
    assert_eq!(screen.text(icon, "_QUBES_VMNAME"), "work");
    assert_eq!(screen.text(icon, "WM_CLASS"), "work:\0work:\0");
    // A click, from the corner of the content.
    screen.point(FIRST.0 + 5, FIRST.1 + 6);
    screen.button(1, true);
    screen.button(1, false);
    let at = agent.until("a button", |id, message| match message {
        DaemonMessage::Button {
            down: true,
            input,
            button: 1,
        } => Some((id, input.x, input.y)),
        _ => None,
    });
    assert_eq!(at, (7, 5, 6));
    agent.say(7, AgentMessage::Destroy);
    agent.sync();
    wait_for("no icon", || {
        let tree = screen.connection.query_tree(tray.bar).expect("a bar");
        tree.reply()
            .expect("a bar")
            .children
            .is_empty()
            .then_some(())
    });
}

#[test]
fn icons_wait_for_a_tray_and_for_the_next_one() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (proxy, mut agent) = session.qube("work", GREEN);
    dock(&mut agent, 7);
    agent.sync();
    proxy.must_say("window 7 is no tray icon so far: there is no tray");
    assert!(screen.windows().is_empty());
    // One that keeps its icons from ending with it, and one that does not.
    for keeps in [true, false] {
        let mut tray = Tray::start(&session);
        let icon = tray.takes();
        agent.draw(7, inner(), pattern);
        let picture = Picture::of(inner().width(), inner().height(), pattern);
        screen.must_show(FIRST, &picture);
        must_have_border(&screen);
        if keeps {
            drop(tray);
        } else {
            let connection = &tray.screen.connection;
            let bar = connection.destroy_window(tray.bar);
            bar.expect("a bar").check().expect("a bar");
            let gone = connection.get_geometry(icon).expect("an icon").reply();
            assert!(gone.is_err());
        }
        // It is no window among others meanwhile.
        wait_for("no window", || screen.windows().is_empty().then_some(()));
        agent.sync();
    }
    Tray::start(&session).takes();
}

#[test]
fn the_menu_of_an_icon_is_above_all_once_the_person_has_clicked_on_it() {
    let session = Session::start();
    let mut tray = Tray::start(&session);
    let screen = Screen::of(&session);
    let (_one, mut work) = session.qube("work", GREEN);
    let (_two, mut vault) = session.qube("vault", 0xcc_0000);
    dock(&mut work, 7);
    tray.takes();
    vault.window(1, (200, 200), size(300, 300), pattern);
    let window = screen.must_have(2)[1];
    // What is in use, as a window manager would say.
    let name = screen.atom("_NET_ACTIVE_WINDOW");
    let (replace, kind) = (PropMode::REPLACE, AtomEnum::WINDOW);
    let said = screen
        .connection
        .change_property32(replace, screen.root, name, kind, &[window]);
    said.expect("a root").check().expect("a root");
    let menu = |work: &mut Agent, id| {
        let before = screen.windows();
        work.create(id, (250, 250), size(50, 50), true);
        work.map(id, Some(7), true);
        work.sync();
        // The display takes what it was told some time after it was told.
        wait_for("a menu", || {
            let now = screen.windows();
            let new = now.iter().position(|window| !before.contains(window))?;
            Some((new, now.iter().position(|other| *other == window)?))
        })
    };
    let (unasked, used) = menu(&mut work, 8);
    assert!(unasked < used);
    screen.point(FIRST.0 + 5, FIRST.1 + 5);
    // The person may be slow, and so may this machine.
    let deadline = Instant::now() + Duration::from_secs(60);
    for id in 9.. {
        screen.button(3, true);
        screen.button(3, false);
        work.until("a click", |_, message| {
            matches!(message, DaemonMessage::Button { down: false, .. }).then_some(())
        });
        let (asked, used) = menu(&mut work, id);
        if asked > used {
            let (late, used) = menu(&mut work, id + 1);
            assert!(late < used, "one click has one menu");
            break;
        }
        assert!(Instant::now() < deadline, "no menu is above");
    }
    // The person goes on with something else.
    let said = screen
        .connection
        .change_property32(replace, screen.root, name, kind, &[window]);
    said.expect("a root").check().expect("a root");
    wait_for("all menus below", || {
        (screen.windows().last() == Some(&window)).then_some(())
    });
}
