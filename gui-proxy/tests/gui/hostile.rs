//! Agents that mean harm. Each ends at most its own proxy.

use std::io::IoSlice;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bulkhead_gui::OUTBOX_MAX;
use bulkhead_gui::log::LINES_MAX;
use bulkhead_gui::proxy::{CHANGES_BURST, CHANGES_PER_SECOND, IMAGE_PAGES_MAX};
use bulkhead_vchan::{Channel, SharedMemory};
use bulkhead_wire::gui::geometry::{Part, Place, Size};
use bulkhead_wire::gui::picture::{PICTURE_PART_MAX, PictureSize};
use bulkhead_wire::gui::text::{UntrustedClass, UntrustedTitle};
use bulkhead_wire::gui::{
    AgentMessage, Cursor, DaemonMessage, Dump, Flags, Hints, PAGE_LEN, PAGES_MAX, WindowClass,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::agent::{Agent, size};
use crate::clipboard::{A, C, V};
use crate::screen::{Picture, Screen};
use crate::session::{Proxy, Session};
use crate::windows::pattern;

fn word(number: u32) -> [u8; 4] {
    number.to_le_bytes()
}

/// A message, whatever it is.
fn raw(kind: u32, window: u32, len: u32, fields: &[u32]) -> Vec<u8> {
    let all = [kind, window, len]
        .into_iter()
        .chain(fields.iter().copied());
    all.flat_map(word).collect()
}

/// What a proxy says last whose agent does this, while another's goes on.
#[track_caller]
fn end_of(act: impl FnOnce(&mut Agent)) -> String {
    let session = Session::start();
    let (mut proxy, mut agent) = session.qube("evil", 0xcc_0000);
    let (mut other, mut calm) = session.qube("calm", 0xcc00);
    act(&mut agent);
    let said = proxy.failed();
    drop(agent);
    calm.sync();
    other.must_run();
    said
}

/// Has a proxy go on whatever its agent does.
#[track_caller]
fn survives(act: impl FnOnce(&Session, &Screen, &mut Proxy, &mut Agent)) {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (mut proxy, mut agent) = session.qube("evil", 0xcc_0000);
    act(&session, &screen, &mut proxy, &mut agent);
    agent.sync();
    proxy.must_run();
}

/// Writes what the proxy may not want to read to its end.
fn offend(agent: &mut Agent, bytes: &[u8]) {
    let _ = agent.raw(bytes);
}

#[test]
fn wrong_lengths_and_kinds_end_it() {
    for (bytes, said) in [
        (
            raw(130, 1, 23, &[0; 6]),
            "sent a message Create with 23 bytes",
        ),
        (
            raw(130, 1, 25, &[0; 7]),
            "sent a message Create with 25 bytes",
        ),
        (
            raw(134, 1, u32::MAX, &[0; 5]),
            "sent a message Configure with 4294967295 bytes",
        ),
        (
            raw(147, 1, 17, &[0; 5]),
            "sent a message WindowDump with 17 bytes",
        ),
        (
            raw(147, 1, 16 + 4 * 98_305, &[0; 5]),
            "sent a message WindowDump with 393236 bytes",
        ),
        (
            raw(140, 0, 256_002, &[]),
            "sent a message ClipboardData with 256002 bytes",
        ),
        (
            raw(135, 1, 28, &[0; 7]),
            "sent a message MfnDump, which is not served",
        ),
        (
            raw(0x4200, 0, 9, &[1; 3]),
            "sent a message Picture with 9 bytes",
        ),
        (
            raw(0x4201, 0, 0, &[]),
            "sent a message PicturePart with 0 bytes",
        ),
        (
            raw(0x4201, 0, 32_769, &[]),
            "sent a message PicturePart with 32769 bytes",
        ),
        (raw(0x4202, 0, 0, &[]), "unknown type 16898"),
        (raw(138, 1, 255, &[]), "unknown type 138"),
        (raw(124, 1, 20, &[0; 5]), "unknown type 124"),
        (raw(0, 0, 0, &[]), "unknown type 0"),
    ] {
        let last = end_of(|agent| offend(agent, &bytes));
        assert!(last.contains(said), "{last}");
    }
}

#[test]
fn another_protocol_ends_it() {
    let session = Session::start();
    let (mut proxy, listener, _own) = session.silent_qube("evil", 0xcc_0000);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut channel = listener.accept(Some(deadline)).expect("a proxy");
    let version = (2_u32 << 16).to_le_bytes();
    channel.write(&[IoSlice::new(&version)]).expect("a proxy");
    let last = proxy.failed();
    assert!(last.contains("speaks version 2, and not 1"), "{last}");
}

#[test]
fn windows_that_there_are_not_end_it() {
    let destroy = AgentMessage::Destroy;
    let last = end_of(|agent| agent.say(9, destroy));
    assert!(
        last.contains("a message Destroy for window 9, which there is not"),
        "{last}"
    );
    let last = end_of(|agent| {
        agent.create(9, (0, 0), size(1, 1), false);
        agent.say(9, AgentMessage::Destroy);
        agent.say(9, AgentMessage::Destroy);
    });
    assert!(
        last.contains("a message Destroy for window 9, which there is not"),
        "{last}"
    );
    let last = end_of(|agent| {
        agent.create(9, (0, 0), size(1, 1), false);
        agent.create(9, (0, 0), size(1, 1), false);
    });
    assert!(last.contains("window 9 was created twice"), "{last}");
}

#[test]
fn one_window_more_than_there_may_be_ends_it() {
    survives(|_, _, _, agent| {
        for id in 1..500 {
            agent.create(id, (0, 0), size(1, 1), false);
        }
    });
    let last = end_of(|agent| {
        for id in 1..=501 {
            let bytes = agent.bytes(
                id,
                &AgentMessage::Create {
                    place: Place::default(),
                    size: size(1, 1),
                    override_redirect: false,
                },
            );
            offend(agent, &bytes);
        }
    });
    assert!(last.contains("more than 500 windows"), "{last}");
}

#[test]
fn sizes_below_nothing_are_refused_and_huge_ones_cut() {
    survives(|_, screen, proxy, agent| {
        let minus = (-5_i32).cast_unsigned();
        offend(agent, &raw(130, 1, 24, &[0, 0, minus, 5, 0, 0]));
        proxy.must_say("a message Create for window 1 is refused: a size of -5 by 5");
        agent.create(1, (0, 0), size(10, 10), false);
        offend(agent, &raw(134, 1, 20, &[0, 0, 0, 5, 0]));
        proxy.must_say("a message Configure for window 1 is refused: a size of 0 by 5");
        let most = i32::MAX.cast_unsigned();
        offend(agent, &raw(130, 2, 24, &[most, most, most, most, 77, 0]));
        // An owner that there is not.
        agent.map(2, Some(12_345), false);
        let window = screen.must_have(1)[0];
        let (_, _, width, height) = screen.area(window);
        assert_eq!((width, height), (16_384 + 8, 6_144 + 22));
        // Damages beyond everything.
        for part in [
            [most; 4],
            [u32::MAX; 4],
            [0, 0, most, most],
            [minus, 0, 5, 5],
        ] {
            offend(agent, &raw(136, 2, 16, &part));
        }
    });
}

#[test]
fn asking_on_for_what_cannot_be_ends_it() {
    let last = end_of(|agent| {
        agent.create(1, (0, 0), size(10, 10), false);
        for _ in 0..101 {
            offend(agent, &raw(148, 1, 4, &[0x19a]));
        }
    });
    assert!(
        last.contains("asked 100 times for what cannot be"),
        "{last}"
    );
    survives(|_, _, proxy, agent| {
        agent.create(1, (0, 0), size(10, 10), false);
        for _ in 0..100 {
            offend(agent, &raw(148, 1, 4, &[u32::MAX]));
        }
        proxy.must_say("a message Cursor for window 1 is refused: pointer 0xffffffff");
    });
}

#[test]
fn a_million_moves_are_one_at_a_time_for_the_display() {
    survives(|session, screen, _, agent| {
        let (mut other, mut calm) = session.qube("calm", 0xcc00);
        agent.window(1, (100, 100), size(50, 50), pattern);
        screen.must_have(1);
        let mut many = Vec::new();
        for n in 0..1000 {
            let place = Place::near(100 + n % 500, 100);
            let size = size(50, 50);
            many.extend(agent.bytes(1, &AgentMessage::Configure { place, size }));
        }
        for n in 0..1000 {
            agent.raw(&many).expect("a proxy");
            if n % 200 == 0 {
                calm.sync();
            }
        }
        agent.sync();
        let window = screen.must_have(1)[0];
        bulkhead_testing::wait_for("the last place", || {
            (screen.area(window).0 == 100 + 499 - 4).then_some(())
        });
        other.must_run();
    });
}

#[test]
fn pages_that_cannot_be_looked_at_are_not_shown() {
    survives(|_, screen, proxy, agent| {
        let whole = size(64, 64);
        let pages = || (0..4).collect::<Vec<u32>>();
        let acknowledged = |agent: &mut Agent| {
            agent.until("an answer", |id, message| {
                (id == 1 && *message == DaemonMessage::DumpAck).then_some(())
            });
        };
        agent.window(1, (100, 100), whole, pattern);
        screen.must_show((100, 100), &Picture::of(64, 64, pattern));
        acknowledged(agent);
        // Nothing is shared.
        let dump = Dump {
            size: whole,
            pages: pages(),
        };
        agent.say(1, AgentMessage::Dump(dump.clone()));
        agent.say(1, AgentMessage::Damage(Part::all(whole)));
        proxy.must_say("window 1 is not shown: no file came with the pages");
        acknowledged(agent);
        // Something that could shrink is.
        let file = tempfile::tempfile().expect("a file");
        file.set_len(4 * PAGE_LEN as u64).expect("a file");
        send_with_file(agent, &AgentMessage::Dump(dump.clone()), &file);
        proxy.must_say("window 1 is not shown: the file is not a sealed file of memory");
        acknowledged(agent);
        // Too little is.
        let little = agent.sharer.make(3).expect("memory");
        agent.channel.offer(&little, 0).expect("an offer");
        agent.say(1, AgentMessage::Dump(dump));
        proxy.must_say("the file has 12288 bytes, and is to have 4 pages");
        acknowledged(agent);
        // And then what is right is shown.
        agent.draw(1, whole, |x, y| pattern(y, x));
        screen.must_show((100, 100), &Picture::of(64, 64, |x, y| pattern(y, x)));
    });
}

fn send_with_file(agent: &Agent, message: &AgentMessage, file: &std::fs::File) {
    let bytes = agent.bytes(1, message);
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
    let parts = [IoSlice::new(&bytes)];
    let flags = SendFlags::NOSIGNAL;
    let sent = rustix::net::sendmsg(agent.channel.fd(), &parts, &mut control, flags);
    assert_eq!(sent, Ok(bytes.len()));
}

#[test]
fn less_pages_than_pixels_end_it() {
    let last = end_of(|agent| {
        agent.create(1, (0, 0), size(64, 64), false);
        offend(agent, &raw(147, 1, 28, &[0, 64, 64, 24, 0, 1, 2]));
    });
    assert!(last.contains("3 pages for 16384 bytes"), "{last}");
    let last = end_of(|agent| {
        agent.create(1, (0, 0), size(64, 64), false);
        offend(agent, &raw(147, 1, 20, &[0, u32::MAX, u32::MAX, 24, 0]));
    });
    assert!(
        last.contains("an image of 4294967295 by 4294967295"),
        "{last}"
    );
}

#[test]
fn files_without_messages_end_it() {
    let last = end_of(|agent| {
        let memory = agent.sharer.make(1).expect("memory");
        agent.create(1, (0, 0), size(1, 1), false);
        let unmap = agent.bytes(1, &AgentMessage::Unmap);
        for _ in 0..5 {
            agent.channel.offer(&memory, 0).expect("an offer");
            offend(agent, &unmap);
        }
    });
    assert!(last.contains("more files than messages"), "{last}");
}

#[test]
fn pixels_may_change_while_they_are_copied() {
    survives(|_, screen, _, agent| {
        let whole = size(300, 300);
        agent.create(1, (100, 100), whole, false);
        agent.map(1, None, false);
        let memory = agent.draw(1, whole, |_, _| 0);
        let done = AtomicBool::new(false);
        // One that nobody but the thread below writes to.
        let shared = agent
            .sharer
            .make(whole.bytes().div_ceil(PAGE_LEN))
            .expect("memory");
        let pages = agent.channel.offer(&shared, 0).expect("an offer");
        let dump = Dump { size: whole, pages };
        agent.say(1, AgentMessage::Dump(dump));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut n = 0;
                while !done.load(Ordering::Relaxed) {
                    n += 1;
                    crate::agent::fill(&shared, whole, Part::all(whole), |x, y| x * y + n);
                }
            });
            for _ in 0..200 {
                agent.say(1, AgentMessage::Damage(Part::all(whole)));
            }
            agent.sync();
            done.store(true, Ordering::Relaxed);
        });
        crate::agent::fill(&shared, whole, Part::all(whole), pattern);
        agent.say(1, AgentMessage::Damage(Part::all(whole)));
        screen.must_show((100, 100), &Picture::of(300, 300, pattern));
        agent.redraw((1, memory), whole, Part::all(whole), |_, _| 7);
        agent.sync();
    });
}

#[test]
fn titles_and_pointers_are_as_many_as_one_likes_and_show_nothing_else() {
    survives(|_, screen, proxy, agent| {
        agent.create(1, (100, 100), size(50, 50), false);
        let hostile = "\u{1b}]0;x\u{7}<b>&amp;\u{202e}\r\n[dom0]";
        let class = WindowClass {
            class: UntrustedClass::new("a\u{0}b:\u{1b}"),
            name: UntrustedClass::new("\u{fc}:vault"),
        };
        agent.say(1, AgentMessage::Class(Box::new(class)));
        agent.say(
            1,
            AgentMessage::Title(Box::new(UntrustedTitle::new(hostile))),
        );
        agent.map(1, None, false);
        let window = screen.must_have(1)[0];
        let shown = "[evil] _]0;x_<b>&amp;___[dom0]";
        assert_eq!(screen.text(window, "_NET_WM_NAME"), shown);
        assert_eq!(screen.text(window, "WM_CLASS"), "evil:__:vault\0evil:a\0");
        for n in 0..5000_u32 {
            let title = UntrustedTitle::new(&format!("{n}"));
            agent.say(1, AgentMessage::Title(Box::new(title)));
            let picture = u8::try_from(n % 77 * 2).expect("a picture");
            agent.say(1, AgentMessage::Cursor(Cursor::Font(picture)));
            agent.say(1, AgentMessage::Cursor(Cursor::None));
        }
        agent.sync();
        bulkhead_testing::wait_for("the last title", || {
            (screen.text(window, "_NET_WM_NAME") == "[evil] 4999").then_some(())
        });
        let log = proxy.log();
        assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "{log}");
    });
}

#[test]
fn a_clipboard_that_nobody_asked_for_is_dropped() {
    survives(|_, _, proxy, agent| {
        agent.say(0, AgentMessage::Clipboard(Some(vec![b'x'; 256_000])));
        agent.say(0, AgentMessage::Clipboard(None));
        agent.say(0, AgentMessage::Picture(PictureSize::new(4096, 4096)));
        for _ in 0..300 {
            agent.say(0, AgentMessage::PicturePart(vec![7; PICTURE_PART_MAX]));
        }
        proxy.must_say("a clipboard that nobody asked for");
    });
}

/// Shows a window these pages, and waits until the proxy has looked at them.
fn dump(agent: &mut Agent, id: u32, memory: &SharedMemory, size: Size) {
    let pages = agent.channel.offer(memory, 0).expect("an offer");
    agent.say(id, AgentMessage::Dump(Dump { size, pages }));
    agent.until("an answer", |of, message| {
        (of == id && *message == DaemonMessage::DumpAck).then_some(())
    });
}

#[test]
fn one_page_more_than_all_images_may_have_is_not_shown() {
    survives(|_, screen, proxy, agent| {
        let (shown, whole) = (size(10, 10), Size::near(u32::MAX, u32::MAX));
        // Nobody writes to it, so it takes no room.
        let large = agent.sharer.make(PAGES_MAX).expect("memory");
        let windows = u32::try_from(IMAGE_PAGES_MAX / PAGES_MAX).expect("a count");
        for id in 1..=windows {
            agent.create(id, (0, 0), shown, false);
            dump(agent, id, &large, whole);
        }
        let text = format!("is not shown: more than {IMAGE_PAGES_MAX} pages");
        assert!(!proxy.log().contains(&text), "{}", proxy.log());
        let one_more = windows + 1;
        agent.window(one_more, (100, 100), shown, pattern);
        proxy.must_say(&format!("window {one_more} {text}"));
        let picture = Picture::of(10, 10, pattern);
        screen.must_have(1);
        agent.sync();
        assert!(screen.picture(100, 100, 10, 10) != picture, "it is shown");
        // With one that goes there is room.
        agent.say(1, AgentMessage::Destroy);
        agent.draw(one_more, shown, pattern);
        screen.must_show((100, 100), &picture);
    });
}

#[test]
fn changes_past_those_at_once_are_waited_for() {
    survives(|_, _, _, agent| {
        let owed = 3 * CHANGES_PER_SECOND;
        agent.create(1, (0, 0), size(1, 1), false);
        let memory = agent.sharer.make(1).expect("memory");
        let begin = Instant::now();
        // Each is a change by itself; those of looks are taken together.
        for _ in 0..CHANGES_BURST + owed {
            dump(agent, 1, &memory, size(1, 1));
        }
        // This may have been read together with the last.
        agent.sync();
        agent.sync();
        let least = Duration::from_secs(1) / CHANGES_PER_SECOND * owed;
        let took = begin.elapsed();
        assert!(took >= least, "{took:?} for {owed} changes past the limit");
    });
}

#[test]
fn one_line_more_than_an_agent_may_cause_is_not_written() {
    survives(|_, _, proxy, agent| {
        let text = "a clipboard that nobody asked for";
        let last = "what the agent does wrong is not told any more";
        let mut say = |count: u32| {
            for _ in 0..count {
                agent.say(0, AgentMessage::Clipboard(Some(Vec::new())));
            }
            agent.sync();
            let log = proxy.log();
            [text, last].map(|text| u32::try_from(log.matches(text).count()).expect("a count"))
        };
        assert_eq!(say(LINES_MAX - 1), [LINES_MAX - 1, 0]);
        // The last line says that it is the last.
        assert_eq!(say(1), [LINES_MAX - 1, 1]);
        assert_eq!(say(1), [LINES_MAX - 1, 1]);
    });
}

/// Has an agent say so much without reading that nothing more is taken; says how many pairs of
/// messages, each with one answer, were written whole, and what is missing of the next.
fn flood(agent: &mut Agent) -> (usize, Vec<u8>) {
    let create = AgentMessage::Create {
        place: Place::default(),
        size: Size::default(),
        override_redirect: false,
    };
    let mut pair = agent.bytes(1, &create);
    pair.extend(agent.bytes(1, &AgentMessage::Destroy));
    let many = pair.repeat(100);
    // More answers than any queue of the kernel and ours hold.
    let most = many.len() * 2000;
    let (mut written, mut stuck) = (0, None);
    while stuck.is_none_or(|since: Instant| since.elapsed() < Duration::from_millis(300)) {
        let at = written % many.len();
        match agent.channel.write(&[IoSlice::new(&many[at..])]) {
            Ok(n) => (written, stuck) = (written + n, None),
            Err(_) => {
                stuck.get_or_insert_with(Instant::now);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(written < most, "it is read on");
    }
    let rest = written % pair.len();
    (written / pair.len(), pair.split_off(rest))
}

#[test]
fn an_agent_that_does_not_read_is_not_read_and_loses_nothing() {
    survives(|_, _, _, agent| {
        let (pairs, rest) = flood(agent);
        for _ in 0..pairs {
            agent.until("an answer", |id, message| {
                (id == 1 && *message == DaemonMessage::Destroy).then_some(())
            });
        }
        agent.raw(&rest).expect("a proxy");
    });
}

#[test]
fn an_agent_that_goes_without_reading_is_gone() {
    let session = Session::start();
    let (mut proxy, mut agent) = session.qube("evil", 0xcc_0000);
    flood(&mut agent);
    drop(agent);
    proxy.ended();
}

#[test]
fn an_agent_that_leaves_all_keys_unread_is_gone() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (mut proxy, mut agent) = session.qube("evil", 0xcc_0000);
    agent.window(2, (100, 100), size(10, 10), pattern);
    agent.sync();
    screen.focus(screen.must_have(1)[0]);
    bulkhead_testing::wait_for("the end", || {
        for _ in 0..1000 {
            screen.key_soon(38, true);
            screen.key_soon(38, false);
        }
        screen.windows();
        proxy.has_ended().then_some(())
    });
    let last = proxy.failed();
    assert!(last.contains("left 1048576 bytes unread"), "{last}");
}

#[test]
fn a_paused_qube_hears_each_key_and_where_the_pointer_was_last() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (mut proxy, mut agent) = session.qube("paused", 0xcc00);
    agent.window(2, (100, 100), size(200, 200), pattern);
    agent.sync();
    screen.focus(screen.must_have(1)[0]);
    agent.until("the keyboard", |_, message| {
        matches!(message, DaemonMessage::Focus { here: true, .. }).then_some(())
    });
    // More than may wait: each time it comes and goes is more than a hundred bytes.
    for _ in 0..OUTBOX_MAX / 80 {
        screen.point_soon(150, 150);
        screen.point_soon(900, 900);
    }
    let mut keys = Vec::new();
    for key in [A, C, V].repeat(20) {
        screen.key_soon(key, true);
        screen.key_soon(key, false);
        keys.extend([(u32::from(key), true), (u32::from(key), false)]);
    }
    screen.point_soon(170, 180);
    // The display has done all of it, and the proxy lives to hear it.
    screen.windows();
    let mut heard = Vec::new();
    agent.until("the last", |_, message| match message {
        DaemonMessage::Key { keycode, down, .. } => {
            heard.push((*keycode, *down));
            None
        }
        DaemonMessage::Crossing(crossing) => {
            (crossing.here && crossing.input.x == 70 && crossing.input.y == 80).then_some(())
        }
        _ => None,
    });
    assert_eq!(heard, keys);
    agent.sync();
    proxy.must_run();
}

#[test]
fn leaving_in_the_middle_of_any_message_is_an_end() {
    let whole = size(10, 10);
    let every = [
        AgentMessage::Create {
            place: Place::default(),
            size: whole,
            override_redirect: false,
        },
        AgentMessage::Destroy,
        AgentMessage::Map {
            transient_for: None,
            override_redirect: false,
        },
        AgentMessage::Unmap,
        AgentMessage::Configure {
            place: Place::default(),
            size: whole,
        },
        AgentMessage::Damage(Part::all(whole)),
        AgentMessage::Clipboard(Some(vec![7; 100])),
        AgentMessage::Title(Box::new(UntrustedTitle::new("x"))),
        AgentMessage::Dock,
        AgentMessage::Hints(Hints::default()),
        AgentMessage::Flags {
            set: Flags::default(),
            unset: Flags::default(),
        },
        AgentMessage::Dump(Dump {
            size: whole,
            pages: vec![0],
        }),
        AgentMessage::Cursor(Cursor::Default),
    ];
    let session = Session::start();
    for message in every {
        let mut cuts = Vec::new();
        let (mut proxy, mut agent) = session.qube("evil", 0xcc_0000);
        let bytes = agent.bytes(1, &message);
        cuts.extend([1, 11, bytes.len() - 1]);
        let cut = cuts[bytes.len() % cuts.len()].min(bytes.len() - 1);
        agent.raw(&bytes[..cut]).expect("a proxy");
        drop(agent);
        let last = proxy.failed();
        assert!(last.contains("left in the middle of a message"), "{last}");
    }
    let (mut proxy, agent) = session.qube("evil", 0xcc_0000);
    drop(agent);
    assert!(proxy.ended().success());
    proxy.must_say("the agent has gone");
}
