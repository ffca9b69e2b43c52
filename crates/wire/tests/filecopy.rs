//! The stream of files as a whole: any split, any cut, any damage.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use bulkhead_wire::filecopy::{
    DecodeError, Decoder, Dialect, EncodeError, Encoder, Entry, Event, HEADER_LEN, Kind, Limits,
    NAME_MAX, Names, Stamp, code,
};
use proptest::prelude::*;

/// An item with its content, as people think of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    name: Vec<u8>,
    what: What,
    permissions: u32,
    atime: Stamp,
    mtime: Stamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Directory,
    File { offset: u64, content: Vec<u8> },
    Link(Vec<u8>),
}

impl Item {
    fn new(name: &str, what: What) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            what,
            permissions: 0o640,
            atime: Stamp {
                seconds: 1,
                nanos: 2,
            },
            mtime: Stamp {
                seconds: 3,
                nanos: 4,
            },
        }
    }

    fn entry(&self) -> Entry<'_> {
        Entry {
            name: &self.name,
            kind: match &self.what {
                What::Directory => Kind::Directory,
                What::File { offset, content } => Kind::File {
                    size: offset + content.len() as u64,
                    offset: *offset,
                },
                What::Link(target) => Kind::Link {
                    length: target.len() as u64,
                },
            },
            permissions: self.permissions,
            atime: self.atime,
            mtime: self.mtime,
        }
    }
}

fn encode(dialect: Dialect, items: &[Item]) -> (Vec<u8>, u32) {
    let mut encoder = Encoder::new(dialect);
    let mut out = Vec::new();
    for item in items {
        encoder.entry(&item.entry(), &mut out).unwrap();
        let (What::File { content, .. } | What::Link(content)) = &item.what else {
            continue;
        };
        encoder.content(content).unwrap();
        out.extend_from_slice(content);
    }
    let crc = encoder.end(&mut out).unwrap();
    (out, crc)
}

/// Items, and the checksum if the end was read.
type Decoded = Result<(Vec<Item>, Option<u32>), DecodeError>;

fn decode(dialect: Dialect, pieces: &[&[u8]]) -> Decoded {
    let mut decoder = Decoder::new(dialect, Names::Listed, Limits::default());
    let mut items = Vec::new();
    let mut open: Option<Item> = None;
    for piece in pieces {
        let mut input = *piece;
        while let Some(event) = decoder.next(&mut input)? {
            let item = |entry: Entry<'_>, what| Item {
                name: entry.name.to_vec(),
                what,
                permissions: entry.permissions,
                atime: entry.atime,
                mtime: entry.mtime,
            };
            match event {
                Event::Entry(entry) => match entry.kind {
                    Kind::Directory => items.push(item(entry, What::Directory)),
                    Kind::File { offset, .. } => {
                        let what = What::File {
                            offset,
                            content: Vec::new(),
                        };
                        open = Some(item(entry, what));
                    }
                    Kind::Link { .. } => panic!("a link is never a bare entry"),
                },
                Event::Link { entry, target } => {
                    items.push(item(entry, What::Link(target.to_vec())));
                }
                Event::Content(bytes) => match &mut open.as_mut().unwrap().what {
                    What::File { content, .. } => content.extend_from_slice(bytes),
                    _ => panic!("only a file has content"),
                },
                Event::FileEnd => items.push(open.take().unwrap()),
                Event::End { crc } => return Ok((items, Some(crc))),
            }
        }
        assert!(
            input.is_empty(),
            "a decoder that wants more has read everything"
        );
    }
    decoder.finish()?;
    Ok((items, None))
}

prop_compose! {
    fn item()(
        parts in prop::collection::vec("[a-zA-Z0-9äж .]{0,6}[a-z]", 2..5),
        shape in 0..3,
        content in prop::collection::vec(any::<u8>(), 0..200),
        offset in 0..1000_u64,
        permissions in 0..=0o7777_u32,
        times in any::<[u32; 4]>(),
    ) -> Item {
        let stamp = |seconds, nanos: u32| Stamp { seconds, nanos: nanos % 1_000_000_000 };
        Item {
            name: parts.join("/").into_bytes(),
            what: match shape {
                0 => What::Directory,
                1 => What::Link(parts[0].clone().into_bytes()),
                _ => What::File { offset, content },
            },
            permissions,
            atime: stamp(times[0], times[1]),
            mtime: stamp(times[2], times[3]),
        }
    }
}

fn plain(mut items: Vec<Item>) -> Vec<Item> {
    for item in &mut items {
        if let What::File { offset, .. } = &mut item.what {
            *offset = 0;
        }
    }
    items
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded_in_any_pieces(
        items in prop::collection::vec(item(), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        resumable in any::<bool>(),
    ) {
        let (dialect, items) = if resumable {
            (Dialect::Resumable, items)
        } else {
            (Dialect::Plain, plain(items))
        };
        let (bytes, crc) = encode(dialect, &items);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(decode(dialect, &pieces), Ok((items, Some(crc))));
    }

    #[test]
    fn damage_is_an_error_or_other_items_but_never_a_name_that_is_not_allowed(
        items in prop::collection::vec(item(), 1..4),
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let (mut bytes, _) = encode(Dialect::Plain, &plain(items));
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok((items, _)) = decode(Dialect::Plain, &[&bytes]) {
            for item in items {
                prop_assert!(!item.name.split(|byte| *byte == b'/').any(|part| part == b".."));
                prop_assert!(!item.name.starts_with(b"/"));
            }
        }
    }

    #[test]
    fn garbage_is_never_more_than_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(Dialect::Plain, &[&bytes]);
        let _ = decode(Dialect::Resumable, &[&bytes]);
    }
}

#[test]
fn a_stream_cut_at_any_byte_says_whether_it_was_between_items() {
    let items = [
        Item::new("d", What::Directory),
        Item::new(
            "d/f",
            What::File {
                offset: 0,
                content: b"0123456789".to_vec(),
            },
        ),
        Item::new("d/l", What::Link(b"f".to_vec())),
        Item::new("d", What::Directory),
    ];
    let (bytes, crc) = encode(Dialect::Plain, &items);
    let mut between = vec![0];
    for end in 1..=items.len() {
        between.push(encode(Dialect::Plain, &items[..end]).0.len() - HEADER_LEN);
    }
    for cut in 0..bytes.len() {
        let error = decode(Dialect::Plain, &[&bytes[..cut]]).unwrap_err();
        let expected = if between.contains(&cut) {
            code::EREMOTEIO
        } else {
            code::UNEXPECTED_EOF
        };
        assert_eq!(error.code(), expected, "cut at {cut}");
    }
    assert_eq!(
        decode(Dialect::Plain, &[&bytes]),
        Ok((items.to_vec(), Some(crc)))
    );
}

#[track_caller]
fn refused(bytes: &[u8]) -> u32 {
    decode(Dialect::Plain, &[bytes]).unwrap_err().code()
}

fn header(namelen: u32, mode: u32, filelen: u64, nanos: [u32; 2]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&namelen.to_le_bytes());
    out.extend_from_slice(&mode.to_le_bytes());
    out.extend_from_slice(&filelen.to_le_bytes());
    for nanos in nanos {
        out.extend_from_slice(&0_u32.to_le_bytes());
        out.extend_from_slice(&nanos.to_le_bytes());
    }
    out
}

const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;

#[test]
fn a_hostile_header_is_refused_before_anything_follows_it() {
    let long = NAME_MAX as u32 + 2;
    for (bytes, expected) in [
        (header(long, FILE, 0, [0; 2]), code::ENAMETOOLONG),
        (header(u32::MAX, FILE, 0, [0; 2]), code::ENAMETOOLONG),
        (
            header(2, LINK, NAME_MAX as u64 + 1, [0; 2]),
            code::ENAMETOOLONG,
        ),
        (header(2, 0o020_644, 0, [0; 2]), code::EINVAL),
        (header(2, 0o060_644, 0, [0; 2]), code::EINVAL),
        (header(2, 0o010_644, 0, [0; 2]), code::EINVAL),
        (header(2, 0o140_644, 0, [0; 2]), code::EINVAL),
        (header(2, 0, 0, [0; 2]), code::EINVAL),
        (header(2, FILE, 1 << 63, [0; 2]), code::EINVAL),
        (header(2, FILE, 0, [1_000_000_000, 0]), code::EINVAL),
        (header(2, FILE, 0, [0, u32::MAX]), code::EINVAL),
        (header(2, 0o040_755, 1, [0; 2]), code::EINVAL),
        (header(0, FILE, 0, [0; 2]), code::EINVAL),
    ] {
        assert_eq!(refused(&bytes), expected, "{bytes:02x?}");
    }
    let longest = header(NAME_MAX as u32 + 1, FILE, i64::MAX as u64, [999_999_999; 2]);
    assert_eq!(
        refused(&longest),
        code::UNEXPECTED_EOF,
        "the bounds themselves pass"
    );
}

#[test]
fn a_hostile_name_is_refused() {
    for (name, expected) in [
        (&b"a"[..], code::EINVAL), // no NUL
        (b"\0", code::EILSEQ),
        (b"/a\0", code::EILSEQ),
        (b"../a\0", code::EILSEQ),
        (b"a\0b\0", code::EILSEQ),
        (b"a/\0", code::EILSEQ),
        ("a\u{202e}b\0".as_bytes(), code::EILSEQ),
    ] {
        let mut bytes = header(name.len() as u32, FILE, 0, [0; 2]);
        bytes.extend_from_slice(name);
        assert_eq!(refused(&bytes), expected, "{name:?}");
    }
}

#[test]
fn a_hostile_link_is_refused() {
    for (name, target, expected) in [
        (&b"l\0"[..], &b"x"[..], code::ENOLINK),
        (b"d/l\0", b"/etc", code::ENOLINK),
        (b"d/l\0", b"../x", code::ENOLINK),
        (b"d/l\0", b"", code::ENOLINK),
        (b"d/l\0", b"a\nb", code::EILSEQ),
    ] {
        let mut bytes = header(name.len() as u32, LINK, target.len() as u64, [0; 2]);
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(target);
        assert_eq!(refused(&bytes), expected, "{target:?}");
    }
}

#[test]
fn limits_hold_to_the_byte_and_the_item() {
    let items = [
        Item::new(
            "a",
            What::File {
                offset: 0,
                content: vec![0; 10],
            },
        ),
        Item::new(
            "b",
            What::File {
                offset: 0,
                content: vec![0; 10],
            },
        ),
    ];
    let (bytes, _) = encode(Dialect::Plain, &items);
    for (limits, passes) in [
        (
            Limits {
                bytes: 20,
                files: 2,
            },
            true,
        ),
        (
            Limits {
                bytes: 19,
                files: 2,
            },
            false,
        ),
        (
            Limits {
                bytes: 20,
                files: 1,
            },
            false,
        ),
    ] {
        let mut decoder = Decoder::new(Dialect::Plain, Names::Listed, limits);
        let mut input = &bytes[..];
        let result = loop {
            match decoder.next(&mut input) {
                Ok(Some(Event::End { .. })) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error.code()),
            }
        };
        assert_eq!(
            result,
            if passes { Ok(()) } else { Err(code::EDQUOT) },
            "{limits:?}"
        );
    }
}

#[test]
fn an_error_stays() {
    let mut decoder = Decoder::new(Dialect::Plain, Names::Listed, Limits::default());
    let bytes = header(2, 0, 0, [0; 2]);
    let first = decoder.next(&mut &bytes[..]).unwrap_err();
    assert_eq!(decoder.next(&mut &bytes[..]), Err(first));
    assert_eq!(decoder.finish(), Err(first));
}

#[test]
fn a_sender_cannot_lose_step() {
    let mut encoder = Encoder::new(Dialect::Plain);
    let mut out = Vec::new();
    let item = Item::new(
        "a",
        What::File {
            offset: 0,
            content: vec![0; 10],
        },
    );
    encoder.entry(&item.entry(), &mut out).unwrap();
    assert_eq!(encoder.content(&[0; 11]), Err(EncodeError::TooMuch(1)));
    assert_eq!(encoder.end(&mut out), Err(EncodeError::Unfinished(10)));
    let shifted = Item::new(
        "a",
        What::File {
            offset: 5,
            content: vec![0; 5],
        },
    );
    encoder.content(&[0; 10]).unwrap();
    assert_eq!(
        encoder.entry(&shifted.entry(), &mut out),
        Err(EncodeError::Offset(5))
    );
    let long = "a".repeat(NAME_MAX + 1);
    let long = Item::new(&long, What::Directory);
    assert_eq!(
        encoder.entry(&long.entry(), &mut out),
        Err(EncodeError::NameLength(NAME_MAX + 1))
    );
}
