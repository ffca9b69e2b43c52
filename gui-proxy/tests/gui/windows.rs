//! What a qube's windows look like.

use bulkhead_testing::wait_for;
use bulkhead_wire::gui::geometry::{Part, Place};
use bulkhead_wire::gui::text::{UntrustedClass, UntrustedTitle};
use bulkhead_wire::gui::{AgentMessage, Cursor, DaemonMessage, Flags, WindowClass};
use x11rb::protocol::xfixes::ConnectionExt as _;
use x11rb::protocol::xproto::{ConfigureWindowAux, ConnectionExt as _};

use crate::agent::size;
use crate::screen::{Picture, Screen};
use crate::session::Session;

const GREEN: u32 = 0x00_cc00;
const RED: u32 = 0xcc_0000;

/// A pixel of a pattern in which no two rows or columns are alike.
pub(crate) fn pattern(x: u32, y: u32) -> u32 {
    (x * 7919 + y * 104_729) & 0xff_ffff
}

/// A frame, around a content of this size.
const BORDER: u32 = 4;
const STRIP: u32 = 18;

#[test]
fn a_window_shows_its_pixels_in_a_frame_of_the_label() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (proxy, mut agent) = session.qube("work", GREEN);
    let (width, height) = (301, 97);
    agent.create(7, (100, 200), size(width, height), false);
    let class = WindowClass {
        class: UntrustedClass::new("XTerm"),
        name: UntrustedClass::new("dom0"),
    };
    agent.say(7, AgentMessage::Class(Box::new(class)));
    let title = UntrustedTitle::new("Gr\u{fc}\u{df}e \u{1b}[31m \u{202e}x");
    agent.say(7, AgentMessage::Title(Box::new(title)));
    agent.map(7, None, false);
    agent.draw(7, size(width, height), pattern);
    screen.must_show((100, 200), &Picture::of(width, height, pattern));
    let bright = |pixel: &u32| *pixel == 0xff_ffff || *pixel == 0;
    let of_strip = (STRIP * (width + 2 * BORDER)) as usize;
    // The frame is painted when the display asks for it.
    let frame = wait_for("the name", || {
        let frame = screen.picture(
            100 - BORDER.cast_signed(),
            200 - STRIP.cast_signed(),
            width + 2 * BORDER,
            height + STRIP + BORDER,
        );
        let written = frame.pixels[..of_strip].iter().filter(|p| bright(p));
        (written.count() > 20).then_some(frame)
    });
    for y in 0..height + STRIP + BORDER {
        for x in [0, BORDER - 1, width + BORDER, width + 2 * BORDER - 1] {
            if y >= STRIP {
                assert_eq!(frame.at(x, y), GREEN, "{x} {y}");
            }
        }
    }
    for x in 0..width + 2 * BORDER {
        assert_eq!(frame.at(x, 0), GREEN);
        assert_eq!(frame.at(x, STRIP - 1), GREEN);
        assert_eq!(frame.at(x, height + STRIP), GREEN);
        assert_eq!(frame.at(x, height + STRIP + BORDER - 1), GREEN);
    }
    // The name is written in the strip, and in no other colour than these.
    let strip = &frame.pixels[..of_strip];
    assert!(strip.iter().all(|p| bright(p) || *p == GREEN));
    let window = screen.must_have(1)[0];
    assert_eq!(screen.text(window, "WM_CLASS"), "work:dom0\0work:XTerm\0");
    assert_eq!(screen.text(window, "_QUBES_VMNAME"), "work");
    assert_eq!(screen.number(window, "_QUBES_LABEL"), Some(4));
    assert_eq!(screen.number(window, "_QUBES_LABEL_COLOR"), Some(GREEN));
    assert_eq!(screen.number(window, "_QUBES_VMWINDOWID"), Some(7));
    assert_eq!(
        screen.text(window, "_NET_WM_NAME"),
        "[work] Gr\u{fc}\u{df}e _[31m _x"
    );
    proxy.must_say("the agent speaks 1.8");
}

#[test]
fn what_changed_is_painted_and_nothing_else() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_proxy, mut agent) = session.qube("work", GREEN);
    let whole = size(640, 480);
    let memory = agent.window(1, (50, 60), whole, pattern);
    screen.must_show((50, 60), &Picture::of(640, 480, pattern));
    let part = Part {
        x: 33,
        y: 21,
        size: size(200, 100),
    };
    let inside = |x: u32, y: u32| (33..233).contains(&x) && (21..121).contains(&y);
    // All of the memory changes, and only a part of that is told.
    crate::agent::fill(agent.memory(memory), whole, Part::all(whole), |_, _| {
        0x12_3456
    });
    agent.say(1, AgentMessage::Damage(part));
    let now = move |x, y| {
        if inside(x, y) {
            0x12_3456
        } else {
            pattern(x, y)
        }
    };
    screen.must_show((50, 60), &Picture::of(640, 480, now));
    // What reaches over an edge is cut, and what is beyond is nothing.
    for far in [(630, 470), (640, 480), (16_000, 6_000)] {
        let part = Part {
            x: far.0,
            y: far.1,
            size: size(100, 100),
        };
        agent.redraw((1, memory), whole, part_within(part, whole), |_, _| {
            0x65_4321
        });
        agent.say(1, AgentMessage::Damage(part));
    }
    let corner = move |x, y| {
        if x >= 630 && y >= 470 {
            0x65_4321
        } else {
            now(x, y)
        }
    };
    screen.must_show((50, 60), &Picture::of(640, 480, corner));
}

fn part_within(part: Part, whole: bulkhead_wire::gui::geometry::Size) -> Part {
    part.within(whole).unwrap_or(Part {
        x: 0,
        y: 0,
        size: size(0, 0),
    })
}

#[test]
fn a_window_that_was_covered_is_painted_again() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_one, mut lower) = session.qube("work", GREEN);
    let (mut two, mut upper) = session.qube("play", RED);
    lower.window(1, (100, 100), size(300, 200), pattern);
    screen.must_show((100, 100), &Picture::of(300, 200, pattern));
    upper.window(1, (150, 150), size(100, 60), |_, _| 0x11_1111);
    screen.must_show((150, 150), &Picture::of(100, 60, |_, _| 0x11_1111));
    drop(upper);
    assert!(two.ended().success(), "{}", two.log());
    screen.must_show((100, 100), &Picture::of(300, 200, pattern));
}

#[test]
fn a_frame_is_whole_around_the_smallest_of_windows() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_proxy, mut agent) = session.qube("a-qube-with-a-long-name", GREEN);
    for itself in [false, true] {
        let id = 1 + u32::from(itself);
        agent.create(id, (300, 300), size(0, 0), itself);
        agent.map(id, None, itself);
        let window = screen.must_have(1)[0];
        let (x, y, width, height) = screen.area(window);
        assert_eq!((x, y, height), (296, 282, 23));
        // As wide as the name in the font of frames, and some.
        assert!(width > 23 * 5, "{width}");
        agent.say(id, AgentMessage::Destroy);
        screen.must_have(0);
    }
}

#[test]
fn windows_that_place_themselves_have_frames_and_stay_on_the_screen() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (proxy, mut agent) = session.qube("work", GREEN);
    for at in [(-5000, -5000), (5000, 5000), (1200, 3), (0, 0)] {
        agent.create(9, at, size(200, 100), true);
        agent.map(9, None, true);
        agent.draw(9, size(200, 100), pattern);
        let window = screen.must_have(1)[0];
        let (x, y, width, height) = screen.area(window);
        assert!(x >= 0 && y >= 0, "{at:?}");
        assert!(x + width.cast_signed() <= 1280 && y + height.cast_signed() <= 1024);
        assert_eq!((width, height), (208, 122));
        let content = (x + 4, y + 18);
        screen.must_show(content, &Picture::of(200, 100, pattern));
        assert_eq!(screen.picture(x, y, 1, 1).pixels, [GREEN]);
        // The agent is told where it is.
        let place = agent.until("a place", |id, message| match message {
            DaemonMessage::Configure { place, .. } if id == 9 => Some(*place),
            _ => None,
        });
        assert_eq!((place.x(), place.y()), content);
        agent.say(9, AgentMessage::Destroy);
        screen.must_have(0);
    }
    // One that covers all is placed as others are.
    agent.create(9, (0, 0), size(1280, 1024), true);
    agent.map(9, None, true);
    let window = screen.must_have(1)[0];
    let attributes = screen.connection.get_window_attributes(window);
    let attributes = attributes.expect("a window").reply().expect("a window");
    assert!(!attributes.override_redirect);
    proxy.must_say("window 9 covers too much to place itself");
}

#[test]
fn menus_are_above_their_own_qube_and_below_what_is_above_that() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_one, mut work) = session.qube("work", GREEN);
    let (_two, mut vault) = session.qube("vault", RED);
    work.window(1, (100, 100), size(300, 200), |_, _| 0x11_1111);
    let below = screen.must_have(1)[0];
    // A prompt of another qube's covers a part of it.
    vault.window(1, (200, 150), size(300, 200), |_, _| 0x22_2222);
    screen.must_show((200, 150), &Picture::of(300, 200, |_, _| 0x22_2222));
    let above = screen.must_have(2)[1];
    for owner in [Some(1), None] {
        work.create(2, (150, 120), size(200, 200), true);
        work.map(2, owner, true);
        work.draw(2, size(200, 200), |_, _| 0x33_3333);
        let all = screen.must_have(3);
        assert_eq!((all[0], all[2]), (below, above), "{owner:?}");
        screen.must_show((150, 120), &Picture::of(40, 200, |_, _| 0x33_3333));
        assert_eq!(screen.picture(220, 170, 1, 1).pixels, [0x22_2222]);
        work.say(2, AgentMessage::Destroy);
        screen.must_have(2);
    }
}

#[test]
fn the_person_moves_and_resizes_and_the_agent_follows() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_proxy, mut agent) = session.qube("work", GREEN);
    agent.window(1, (100, 100), size(300, 200), pattern);
    let window = screen.must_have(1)[0];
    let by_person = ConfigureWindowAux::new()
        .x(400)
        .y(300)
        .width(508)
        .height(222);
    let moved = screen.connection.configure_window(window, &by_person);
    moved.expect("a window").check().expect("a window");
    let (place, size_now) = agent.until("a place", |_, message| match message {
        DaemonMessage::Configure { place, size, .. } => Some((*place, *size)),
        _ => None,
    });
    assert_eq!((place, size_now), (Place::near(404, 318), size(500, 200)));
    agent.say(
        1,
        AgentMessage::Configure {
            place,
            size: size_now,
        },
    );
    agent.draw(1, size_now, pattern);
    screen.must_show((404, 318), &Picture::of(500, 200, pattern));
    // Now it may move by itself again.
    let place = Place::near(20, 30);
    let size = size(100, 50);
    agent.say(1, AgentMessage::Configure { place, size });
    wait_for("a move", || {
        (screen.area(window) == (16, 12, 108, 72)).then_some(())
    });
}

#[test]
fn a_qube_that_wants_the_screen_is_maximised() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_proxy, mut agent) = session.qube("work", GREEN);
    agent.create(1, (100, 100), size(300, 200), false);
    let set = Flags {
        fullscreen: true,
        ..Flags::default()
    };
    let unset = Flags::default();
    agent.say(1, AgentMessage::Flags { set, unset });
    agent.map(1, None, false);
    let window = screen.must_have(1)[0];
    let states = screen.atoms(window, "_NET_WM_STATE");
    assert_eq!(
        states,
        [
            "_NET_WM_STATE_MAXIMIZED_HORZ",
            "_NET_WM_STATE_MAXIMIZED_VERT"
        ]
    );
    // There is nobody to grant it, so the qube is not told that it was.
    agent.create(2, (0, 0), size(1, 1), false);
    agent.say(2, AgentMessage::Destroy);
    agent.until("an answer", |_, message| match message {
        DaemonMessage::Flags { .. } => panic!("{message:?}"),
        DaemonMessage::Destroy => Some(()),
        _ => None,
    });
}

/// KiB of memory that a proxy may take more after a thousand windows than after a hundred: what the
/// allocator keeps in reserve.
const RESIDENT_SLACK: u64 = 256;

/// KiB of memory that a process has.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.expect("a field").split_whitespace().next();
    number.expect("a number").parse().expect("a number")
}

#[test]
fn a_thousand_windows_leave_nothing_behind() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (proxy, mut agent) = session.qube("work", GREEN);
    let status = |proxy: &crate::session::Proxy| {
        let folder = format!("/proc/{}", proxy.id());
        let files = std::fs::read_dir(format!("{folder}/fd"))
            .expect("files")
            .count();
        let maps = std::fs::read_to_string(format!("{folder}/maps")).expect("maps");
        (
            files,
            maps.lines().filter(|line| line.contains("memfd")).count(),
        )
    };
    agent.sync();
    let before = status(&proxy);
    let mut first = None;
    for round in 0..10 {
        for id in 1..=100 {
            agent.window(id, (10, 30), size(20, 20), pattern);
        }
        for id in 1..=100 {
            agent.say(id, AgentMessage::Destroy);
        }
        agent.forget();
        agent.sync();
        screen.must_have(0);
        assert_eq!(status(&proxy), before, "round {round}");
        let now = resident(proxy.id());
        let most = *first.get_or_insert(now) + RESIDENT_SLACK;
        assert!(now <= most, "{now} of {most} KiB in round {round}");
    }
}

#[test]
fn the_pointer_is_one_of_the_displays_own_and_can_always_be_seen() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (_proxy, mut agent) = session.qube("work", GREEN);
    let connection = &screen.connection;
    let version = connection.xfixes_query_version(4, 0).expect("XFIXES");
    version.reply().expect("XFIXES");
    let pointer = || {
        let asked = connection.xfixes_get_cursor_image().expect("a pointer");
        asked.reply().expect("a pointer").cursor_image
    };
    agent.window(1, (100, 100), size(300, 200), pattern);
    screen.must_have(1);
    screen.point(200, 200);
    let arrow_of_all = pointer();
    let mut show = |cursor, what: &str, wanted: &dyn Fn(&[u32]) -> bool| {
        agent.say(1, AgentMessage::Cursor(cursor));
        wait_for(what, || Some(pointer()).filter(|picture| wanted(picture)))
    };
    // XC_watch.
    let watch = show(Cursor::Font(150), "a watch", &|it| it != arrow_of_all);
    let arrow = show(Cursor::Font(68), "an arrow", &|it| it != watch);
    show(Cursor::Font(150), "a watch", &|it| it == watch);
    // No picture at all.
    show(Cursor::None, "an arrow", &|it| it == arrow);
    show(Cursor::Default, "what is outside", &|it| it == arrow_of_all);
    for picture in [arrow_of_all, watch, arrow] {
        assert!(picture.iter().filter(|pixel| *pixel >> 24 != 0).count() > 10);
    }
}
