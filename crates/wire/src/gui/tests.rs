//! Both ends against each other, and the agent's every lie.

use proptest::prelude::*;

use super::agent_end::{AgentEnd, DaemonEvent};
use super::daemon_end::{AgentEvent, DaemonEnd};
use super::geometry::{HEIGHT_MAX, Part, Place, Size, WIDTH_MAX};
use super::picture::{PICTURE_PART_MAX, PictureSize};
use super::text::{UntrustedClass, UntrustedTitle};
use super::*;

const SCREEN: Screen = Screen {
    width: 1920,
    height: 1080,
    depth: 24,
};

const W: WindowId = WindowId(7);

/// A daemon's end that speaks 1.`minor`.
fn daemon(minor: u16) -> DaemonEnd {
    let mut end = DaemonEnd::new(Version::NEWEST, SCREEN);
    let version = Version::new(minor).unwrap();
    let ready = end.receive(&mut &version.encode()[..], &mut Vec::new());
    assert_eq!(ready, Ok(Some(AgentEvent::Ready(version))));
    end
}

fn raw(kind: u32, window: u32, len: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    fields::write(&mut out, &[kind, window, len]);
    out.extend_from_slice(body);
    out
}

fn numbers(fields: &[i32]) -> Vec<u8> {
    fields
        .iter()
        .flat_map(|field| field.to_le_bytes())
        .collect()
}

/// What a daemon makes of a message with these numbers.
fn said(minor: u16, kind: Kind, body: &[u8]) -> Result<Option<AgentEvent>, GuiError> {
    let len = u32::try_from(body.len()).unwrap();
    let bytes = raw(kind.number(), W.0, len, body);
    daemon(minor).receive(&mut &bytes[..], &mut Vec::new())
}

fn message(event: Result<Option<AgentEvent>, GuiError>) -> AgentMessage {
    match event {
        Ok(Some(AgentEvent::Message(W, message))) => message,
        other => panic!("no message: {other:?}"),
    }
}

fn text<const LEN: usize>() -> impl Strategy<Value = text::UntrustedText<LEN>> {
    "[ -~ü…]{0,60}".prop_map(|text| text::UntrustedText::new(&text))
}

fn place() -> impl Strategy<Value = Place> {
    (any::<i32>(), any::<i32>()).prop_map(|(x, y)| Place::near(x, y))
}

fn size() -> impl Strategy<Value = Size> {
    (1..=WIDTH_MAX, 1..=HEIGHT_MAX).prop_map(|(width, height)| Size::near(width, height))
}

fn flags() -> impl Strategy<Value = Flags> {
    (0..8_u32).prop_map(Flags::of)
}

fn hints() -> impl Strategy<Value = Hints> {
    let size = || proptest::option::of(size());
    let less = (1..WIDTH_MAX, 1..HEIGHT_MAX).prop_map(|(w, h)| Size::near(w, h));
    let less = proptest::option::of(less);
    (any::<bool>(), any::<bool>(), size(), size(), less, size()).prop_map(
        |(person_placed, program_placed, min, max, increment, base)| Hints {
            person_placed,
            program_placed,
            min,
            max,
            increment,
            base,
        },
    )
}

fn picture_size() -> impl Strategy<Value = Option<PictureSize>> {
    (0..5000_u32, 0..5000_u32).prop_map(|(width, height)| PictureSize::new(width, height))
}

fn picture_part() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..200)
}

fn agent_message() -> impl Strategy<Value = AgentMessage> {
    let dump = (1..60_u32, 1..60_u32).prop_flat_map(|(width, height)| {
        let size = Size::near(width, height);
        let least = size.bytes().div_ceil(PAGE_LEN);
        proptest::collection::vec(any::<u32>(), least..least + 3)
            .prop_map(move |pages| AgentMessage::Dump(Dump { size, pages }))
    });
    let owner = || proptest::option::of((1..u32::MAX).prop_map(WindowId));
    prop_oneof![
        (place(), size(), any::<bool>()).prop_map(|(place, size, override_redirect)| {
            AgentMessage::Create {
                place,
                size,
                override_redirect,
            }
        }),
        Just(AgentMessage::Destroy),
        (owner(), any::<bool>()).prop_map(|(transient_for, override_redirect)| {
            AgentMessage::Map {
                transient_for,
                override_redirect,
            }
        }),
        Just(AgentMessage::Unmap),
        (place(), size()).prop_map(|(place, size)| AgentMessage::Configure { place, size }),
        (0..WIDTH_MAX, 0..HEIGHT_MAX, size()).prop_map(|(x, y, size)| AgentMessage::Damage(Part {
            x,
            y,
            size
        })),
        proptest::collection::vec(any::<u8>(), 0..200)
            .prop_map(|text| AgentMessage::Clipboard(Some(text))),
        picture_size().prop_map(AgentMessage::Picture),
        picture_part().prop_map(AgentMessage::PicturePart),
        text().prop_map(|title: UntrustedTitle| AgentMessage::Title(Box::new(title))),
        Just(AgentMessage::Dock),
        hints().prop_map(AgentMessage::Hints),
        (flags(), flags()).prop_map(|(set, unset)| AgentMessage::Flags {
            set,
            unset: Flags::of(unset.bits() & !set.bits()),
        }),
        (text(), text()).prop_map(|(class, name): (UntrustedClass, UntrustedClass)| {
            AgentMessage::Class(Box::new(WindowClass { class, name }))
        }),
        dump,
        prop_oneof![
            Just(Cursor::Default),
            Just(Cursor::None),
            (0..77_u8).prop_map(|index| Cursor::Font(index * 2)),
        ]
        .prop_map(AgentMessage::Cursor),
    ]
}

fn daemon_message() -> impl Strategy<Value = DaemonMessage> {
    let input = || {
        (any::<i32>(), any::<i32>(), any::<u32>()).prop_map(|(x, y, state)| Input { x, y, state })
    };
    prop_oneof![
        (any::<bool>(), input(), any::<u32>()).prop_map(|(down, input, keycode)| {
            DaemonMessage::Key {
                down,
                input,
                keycode,
            }
        }),
        (any::<bool>(), input(), any::<u32>()).prop_map(|(down, input, button)| {
            DaemonMessage::Button {
                down,
                input,
                button,
            }
        }),
        (input(), any::<bool>())
            .prop_map(|(input, is_hint)| DaemonMessage::Motion { input, is_hint }),
        (any::<bool>(), input(), any::<(u32, u32)>(), any::<bool>()).prop_map(
            |(here, input, (mode, detail), focus)| {
                DaemonMessage::Crossing(Crossing {
                    here,
                    input,
                    mode,
                    detail,
                    focus,
                })
            }
        ),
        any::<(bool, u32, u32)>().prop_map(|(here, mode, detail)| DaemonMessage::Focus {
            here,
            mode,
            detail
        }),
        Just(DaemonMessage::Destroy),
        (place(), size(), any::<bool>()).prop_map(|(place, size, override_redirect)| {
            DaemonMessage::Configure {
                place,
                size,
                override_redirect,
            }
        }),
        Just(DaemonMessage::Close),
        Just(DaemonMessage::ClipboardRequest),
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(DaemonMessage::Clipboard),
        picture_size().prop_map(DaemonMessage::Picture),
        picture_part().prop_map(DaemonMessage::PicturePart),
        any::<[u8; KEYMAP_LEN]>().prop_map(DaemonMessage::Keymap),
        (flags(), flags()).prop_map(|(set, unset)| DaemonMessage::Flags { set, unset }),
        Just(DaemonMessage::DumpAck),
    ]
}

proptest! {
    #[test]
    fn an_agent_says_and_a_daemon_reads_the_same_in_any_parts(
        mut messages in proptest::collection::vec((any::<u32>(), agent_message()), 0..12),
        step in 1..300_usize,
        minor in 0..=9_u16,
    ) {
        let version = Version::new(minor).unwrap_or(Version::NEWEST);
        messages.retain(|(_, message)| message.kind().is_known_to(version));
        let mut bytes = version.encode().to_vec();
        for (window, message) in &messages {
            message.encode(version, WindowId(*window), &mut bytes);
        }
        let (mut end, mut answer, mut read) = (DaemonEnd::new(Version::NEWEST, SCREEN), Vec::new(), Vec::new());
        for mut part in bytes.chunks(step) {
            while let Some(event) = end.receive(&mut part, &mut answer).unwrap() {
                read.push(event);
            }
            prop_assert!(part.is_empty());
        }
        prop_assert!(end.is_between_messages());
        prop_assert_eq!(end.wrong_lengths(), 0);
        let mut expect = vec![AgentEvent::Ready(version)];
        expect.extend(messages.into_iter().map(|(window, message)| {
            // The clipboard is nobody's, and before 1.2 its length is in the place of a window.
            let window = match &message {
                AgentMessage::Clipboard(Some(text)) if minor < 2 => u32::try_from(text.len()).unwrap(),
                _ => window,
            };
            AgentEvent::Message(WindowId(window), message)
        }));
        prop_assert_eq!(read, expect);
        prop_assert_eq!(answer.len(), if minor < 4 { 0 } else { VERSION_LEN + XCONF_LEN });
    }

    #[test]
    fn a_daemon_says_and_an_agent_reads_the_same_in_any_parts(
        messages in proptest::collection::vec((any::<u32>(), daemon_message()), 0..12),
        step in 1..300_usize,
    ) {
        let (mut first, mut bytes) = (Vec::new(), Vec::new());
        let mut agent = AgentEnd::new(Version::NEWEST, &mut first);
        let mut daemon = DaemonEnd::new(Version::NEWEST, SCREEN);
        daemon.receive(&mut &first[..], &mut bytes).unwrap();
        for (window, message) in &messages {
            prop_assert!(daemon.send(WindowId(*window), message, &mut bytes));
            // What agents do not know they pass over.
            bytes.extend(raw(999, 1, 3, b"new"));
        }
        let mut read = Vec::new();
        for mut part in bytes.chunks(step) {
            while let Some(event) = agent.receive(&mut part).unwrap() {
                read.push(event);
            }
        }
        let mut expect = vec![DaemonEvent::Ready(Version::NEWEST, SCREEN)];
        expect.extend(messages.into_iter().map(|(window, message)| {
            DaemonEvent::Message(WindowId(window), message)
        }));
        prop_assert_eq!(read, expect);
    }

    #[test]
    fn nothing_an_agent_says_is_out_of_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut end = daemon(8);
        let mut input = &bytes[..];
        while let Ok(Some(event)) = end.receive(&mut input, &mut Vec::new()) {
            if let AgentEvent::Message(_, AgentMessage::Dump(dump)) = event {
                prop_assert!(dump.pages.len() * PAGE_LEN >= dump.size.bytes());
            }
        }
    }
}

#[test]
fn a_number_that_no_agent_sends_ends_the_connection() {
    for number in [0, 123, 129, 138, 150, u32::MAX] {
        let refused = daemon(8).receive(&mut &raw(number, 1, 0, b"")[..], &mut Vec::new());
        assert_eq!(refused, Err(GuiError::UnknownKind(number)));
    }
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.from_agent()) {
        let refused = said(8, kind, b"");
        assert_eq!(refused, Err(GuiError::UnknownKind(kind.number())));
    }
    let refused = said(8, Kind::MfnDump, &[0; 28]);
    assert_eq!(refused, Err(GuiError::Refused(Kind::MfnDump)));
}

#[test]
fn pictures_are_for_those_who_know_of_them() {
    let small = PictureSize::new(2, 3);
    let mut first = Vec::new();
    AgentMessage::Picture(small).encode(Version::NEWEST, W, &mut first);
    assert_eq!(first, raw(0x4200, W.0, 8, &numbers(&[2, 3])));
    // An agent that did not say so, and one that was not told so.
    for (own, offered) in [
        (Version::NEWEST, Version::PLAIN),
        (Version::PLAIN, Version::NEWEST),
    ] {
        let mut end = DaemonEnd::new(own, SCREEN);
        let ready = end.receive(&mut &offered.encode()[..], &mut Vec::new());
        assert_eq!(ready, Ok(Some(AgentEvent::Ready(Version::PLAIN))));
        assert!(!end.send(W, &DaemonMessage::Picture(small), &mut Vec::new()));
        assert!(!end.send(W, &DaemonMessage::PicturePart(vec![1]), &mut Vec::new()));
        let refused = end.receive(&mut &first[..], &mut Vec::new());
        assert_eq!(refused, Err(GuiError::UnknownKind(0x4200)));
    }
    let said = |kind: Kind, len, body: &[u8]| {
        let mut end = DaemonEnd::new(Version::NEWEST, SCREEN);
        let offered = Version::NEWEST.encode();
        end.receive(&mut &offered[..], &mut Vec::new()).unwrap();
        end.receive(
            &mut &raw(kind.number(), W.0, len, body)[..],
            &mut Vec::new(),
        )
    };
    let size = |width, height| message(said(Kind::Picture, 8, &numbers(&[width, height])));
    assert_eq!(size(2, 3), AgentMessage::Picture(small));
    for (width, height) in [(0, 0), (4097, 4096), (-1, -1), (1, 16385)] {
        assert_eq!(size(width, height), AgentMessage::Picture(None));
    }
    let whole = vec![7; PICTURE_PART_MAX];
    let most = u32::try_from(PICTURE_PART_MAX).unwrap();
    let part = message(said(Kind::PicturePart, most, &whole));
    assert_eq!(part, AgentMessage::PicturePart(whole));
    for (kind, len) in [
        (Kind::Picture, 7),
        (Kind::Picture, 9),
        (Kind::PicturePart, 0),
        (Kind::PicturePart, most + 1),
        (Kind::PicturePart, u32::MAX),
    ] {
        assert_eq!(said(kind, len, b""), Err(GuiError::Length { kind, len }));
    }
}

#[test]
fn after_an_error_nothing_is_read() {
    let mut end = daemon(8);
    let bytes = [raw(0, 1, 0, b""), raw(Kind::Unmap.number(), 1, 0, b"")].concat();
    let mut input = &bytes[..];
    let mut receive = || end.receive(&mut input, &mut Vec::new());
    assert_eq!(receive(), Err(GuiError::UnknownKind(0)));
    assert_eq!(receive(), Err(GuiError::Failed));
    assert!(!end.send(W, &DaemonMessage::Close, &mut Vec::new()));
}

#[test]
fn a_wrong_length_is_fatal_from_1_6_and_never_believed() {
    let body = numbers(&[0, 0, 10, 10]);
    for wrong in [0, 15, 17, u32::MAX] {
        let bytes = raw(Kind::ShmImage.number(), W.0, wrong, &body);
        let fatal = daemon(6).receive(&mut &bytes[..], &mut Vec::new());
        let length = GuiError::Length {
            kind: Kind::ShmImage,
            len: wrong,
        };
        assert_eq!(fatal, Err(length));
        let mut old = daemon(5);
        let read = message(old.receive(&mut &bytes[..], &mut Vec::new()));
        assert_eq!(read, AgentMessage::Damage(Part::all(Size::near(10, 10))));
        assert_eq!(old.wrong_lengths(), 1);
    }
}

#[test]
fn a_clipboard_is_as_long_as_its_version_allows() {
    let read = |minor, len: usize| said(minor, Kind::ClipboardData, &vec![b'x'; len]);
    for (minor, most) in [
        (2, CLIPBOARD_MAX_OLD),
        (7, CLIPBOARD_MAX_OLD),
        (8, CLIPBOARD_MAX),
    ] {
        let whole = AgentMessage::Clipboard(Some(vec![b'x'; most]));
        assert_eq!(message(read(minor, most)), whole);
    }
    // One more says that there is too much, where the version can say so.
    assert_eq!(
        message(read(8, CLIPBOARD_MAX + 1)),
        AgentMessage::Clipboard(None)
    );
    for (minor, len) in [(7, CLIPBOARD_MAX_OLD + 1), (8, CLIPBOARD_MAX + 2)] {
        let kind = Kind::ClipboardData;
        let len = u32::try_from(len).unwrap();
        let refused = daemon(minor).receive(&mut &raw(140, 0, len, b"")[..], &mut Vec::new());
        assert_eq!(refused, Err(GuiError::Length { kind, len }));
    }
    let mut out = Vec::new();
    let much = AgentMessage::Clipboard(Some(vec![0; CLIPBOARD_MAX + 1]));
    much.encode(Version::NEWEST, W, &mut out);
    let read = message(daemon(8).receive(&mut &out[..], &mut Vec::new()));
    assert_eq!(read, AgentMessage::Clipboard(None));
}

#[test]
fn sizes_below_zero_are_violations_and_large_ones_are_cut() {
    let create = |width, height| said(8, Kind::Create, &numbers(&[5, -5, width, height, 3, 1]));
    for (width, height) in [(-1, 5), (5, i32::MIN)] {
        let violation = AgentEvent::Violation(W, Kind::Create, Violation::Size { width, height });
        assert_eq!(create(width, height), Ok(Some(violation)));
    }
    let most = AgentMessage::Create {
        place: Place::near(5, -5),
        size: Size::near(WIDTH_MAX, HEIGHT_MAX),
        override_redirect: true,
    };
    assert_eq!(message(create(i32::MAX, 6_145)), most);
    // A window may be of nothing when it is made, and not when it is configured.
    assert!(matches!(message(create(0, 0)), AgentMessage::Create { .. }));
    for (width, height) in [(0, 5), (5, 0), (-1, 1)] {
        let body = numbers(&[0, 0, width, height, 0]);
        let violation = Violation::Size { width, height };
        let violation = AgentEvent::Violation(W, Kind::Configure, violation);
        assert_eq!(said(8, Kind::Configure, &body), Ok(Some(violation)));
    }
}

#[test]
fn a_damage_below_zero_or_of_nothing_is_passed_over() {
    for fields in [[-1, 0, 1, 1], [0, 0, -5, 1], [0, 0, 0, 1], [i32::MIN; 4]] {
        let ignored = AgentEvent::Ignored(W, Ignored::Damage);
        assert_eq!(
            said(8, Kind::ShmImage, &numbers(&fields)),
            Ok(Some(ignored))
        );
    }
}

#[test]
fn a_dump_has_its_pages_and_no_more_than_there_can_be() {
    let dump = |kind, width, height, pages: usize| {
        let mut body = numbers(&[kind, width, height, 24]);
        body.resize(16 + 4 * pages, 1);
        said(8, Kind::WindowDump, &body)
    };
    let malformed = |why| {
        Err(GuiError::Malformed {
            kind: Kind::WindowDump,
            why,
        })
    };
    let read = message(dump(0, 1024, 1, 1));
    assert!(matches!(read, AgentMessage::Dump(Dump { pages, .. }) if pages == [0x0101_0101]));
    assert_eq!(dump(1, 1, 1, 1), malformed(Malformed::PageKind(1)));
    let too_few = Malformed::TooFewPages {
        pages: 1,
        bytes: 4100,
    };
    assert_eq!(dump(0, 1025, 1, 1), malformed(too_few));
    for (width, height) in [(16_385_i32, 1), (1_i32, 6_145_i32), (-1, 1)] {
        let why = Malformed::ImageSize {
            width: width.cast_unsigned(),
            height: height.cast_unsigned(),
        };
        assert_eq!(dump(0, width, height, 9), malformed(why));
    }
    let whole = dump(
        0,
        WIDTH_MAX.cast_signed(),
        HEIGHT_MAX.cast_signed(),
        PAGES_MAX,
    );
    assert!(matches!(message(whole), AgentMessage::Dump(dump) if dump.pages.len() == PAGES_MAX));
    for len in [
        0,
        15,
        17,
        16 + 4 * (u32::try_from(PAGES_MAX).unwrap() + 1),
        u32::MAX,
    ] {
        let refused = daemon(8).receive(&mut &raw(147, 7, len, b"")[..], &mut Vec::new());
        let kind = Kind::WindowDump;
        assert_eq!(refused, Err(GuiError::Length { kind, len }));
    }
}

#[test]
fn hints_out_of_range_are_dropped_by_themselves() {
    let read = |fields: [i32; 9]| match message(said(8, Kind::WindowHints, &numbers(&fields))) {
        AgentMessage::Hints(hints) => hints,
        other => panic!("{other:?}"),
    };
    let all = 1 | 4 | 16 | 32 | 64 | 256;
    let whole = read([all, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(whole.increment, Size::new(5, 6));
    assert!(whole.person_placed && whole.program_placed);
    let most = (WIDTH_MAX.cast_signed(), HEIGHT_MAX.cast_signed());
    let at = read([
        all,
        most.0,
        most.1,
        most.0,
        most.1,
        most.0 - 1,
        most.1 - 1,
        most.0,
        most.1,
    ]);
    assert!(at.min.is_some() && at.max.is_some() && at.increment.is_some() && at.base.is_some());
    let past = read([all, most.0 + 1, 1, 0, 1, most.0, 1, -1, 1]);
    let none = Hints {
        person_placed: true,
        program_placed: true,
        ..Hints::default()
    };
    assert_eq!(past, none);
    assert_eq!(read([0, 1, 2, 3, 4, 5, 6, 7, 8]), Hints::default());
}

#[test]
fn flags_and_pointers_that_cannot_be_are_violations() {
    let both = said(8, Kind::WindowFlags, &numbers(&[0b101, 0b100]));
    let violation = AgentEvent::Violation(W, Kind::WindowFlags, Violation::Flags(4));
    assert_eq!(both, Ok(Some(violation)));
    // Bits that mean nothing are in nobody's way.
    let read = message(said(8, Kind::WindowFlags, &numbers(&[0b1010, 0b1000])));
    let set = Flags {
        attention: true,
        ..Flags::default()
    };
    let expect = AgentMessage::Flags {
        set,
        unset: Flags::default(),
    };
    assert_eq!(read, expect);

    let cursor = |number| said(8, Kind::Cursor, &numbers(&[number]));
    assert_eq!(message(cursor(0)), AgentMessage::Cursor(Cursor::Default));
    assert_eq!(
        message(cursor(0x100)),
        AgentMessage::Cursor(Cursor::Font(0))
    );
    assert_eq!(
        message(cursor(0x198)),
        AgentMessage::Cursor(Cursor::Font(0x98))
    );
    assert_eq!(message(cursor(0x199)), AgentMessage::Cursor(Cursor::None));
    for number in [1_i32, 0xff, 0x19a, -1] {
        let violation = Violation::Cursor(number.cast_unsigned());
        let violation = AgentEvent::Violation(W, Kind::Cursor, violation);
        assert_eq!(cursor(number), Ok(Some(violation)));
    }
}

#[test]
fn an_old_agent_is_not_told_what_it_does_not_know() {
    let mut out = Vec::new();
    assert!(!daemon(4).send(W, &DaemonMessage::Destroy, &mut out));
    assert!(!daemon(6).send(W, &DaemonMessage::DumpAck, &mut out));
    let large = DaemonMessage::Clipboard(vec![0; CLIPBOARD_MAX_OLD + 1]);
    assert!(!daemon(7).send(W, &large, &mut out));
    assert!(out.is_empty());
    assert!(daemon(8).send(W, &large, &mut out));
    assert!(!daemon(8).send(
        W,
        &DaemonMessage::Clipboard(vec![0; CLIPBOARD_MAX + 1]),
        &mut out
    ));
}

#[test]
fn an_agent_leaves_a_daemon_that_is_too_old_without_waiting() {
    let mut agent = AgentEnd::new(Version::NEWEST, &mut Vec::new());
    let old = Version::new(3).unwrap().encode();
    assert!(matches!(
        agent.receive(&mut &old[..]),
        Err(GuiError::Version(VersionError::TooOld(3)))
    ));
    assert_eq!(agent.receive(&mut &[0; 16][..]), Err(GuiError::Failed));
}
