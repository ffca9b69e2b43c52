//! The file copy stream and its answers: splits change nothing, and no name or link leaves the
//! folder it is unpacked in.
#![no_main]

use bulkhead_fuzz::stepped;
use bulkhead_wire::filecopy::{
    DecodeError, Decoder, Dialect, Event, Limits, Names, OutcomeDecoder, check_name, offer,
};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, PartialEq)]
enum Seen {
    Content(Vec<u8>),
    Other(String),
}

fn inside(name: &[u8]) -> bool {
    !name.starts_with(b"/")
        && !name.contains(&0)
        && name
            .split(|b| *b == b'/')
            .all(|part| !part.is_empty() && part != b"." && part != b"..")
}

fn run(
    (dialect, names): (Dialect, Names),
    data: &[u8],
    step: usize,
) -> (Vec<Seen>, Option<DecodeError>) {
    let limits = Limits {
        bytes: 1 << 20,
        files: 1000,
    };
    let (mut decoder, mut seen) = (Decoder::new(dialect, names, limits), Vec::new());
    for mut part in data.chunks(step) {
        loop {
            match decoder.next(&mut part) {
                Ok(Some(Event::Content(bytes))) => match seen.last_mut() {
                    Some(Seen::Content(all)) => all.extend_from_slice(bytes),
                    _ => seen.push(Seen::Content(bytes.to_vec())),
                },
                Ok(Some(event)) => {
                    if let Event::Entry(entry) | Event::Link { entry, .. } = &event {
                        assert!(inside(entry.name) && check_name(entry.name, names).is_ok());
                    }
                    if let Event::Link { target, .. } = &event {
                        assert!(!target.starts_with(b"/") && !target.contains(&0));
                    }
                    seen.push(Seen::Other(format!("{event:?}")));
                }
                Ok(None) => break,
                Err(e) => return (seen, Some(e)),
            }
        }
    }
    (seen, decoder.finish().err())
}

fuzz_target!(|data: &[u8]| {
    let Some((step, rest)) = stepped(data) else {
        return;
    };
    let Some((mode, rest)) = rest.split_first() else {
        return;
    };
    let dialect = if mode & 1 == 1 {
        Dialect::Resumable
    } else {
        Dialect::Plain
    };
    let names = if mode & 2 == 2 {
        Names::All
    } else {
        Names::Listed
    };
    let whole = run((dialect, names), rest, rest.len().max(1));
    assert_eq!(whole, run((dialect, names), rest, step));
    let mut outcome = OutcomeDecoder::new();
    rest.chunks(step).for_each(|part| outcome.push(part));
    if let Ok(outcome) = outcome.finish()
        && let Some(name) = outcome.shown_name()
    {
        assert!(name.bytes().all(|b| (0x20..0x7f).contains(&b)));
    }
    if let Ok(Some((offers, taken))) = offer::decode(rest) {
        assert!(taken <= rest.len());
        assert_eq!(offer::encode(&offers), rest[..taken]);
    }
});
