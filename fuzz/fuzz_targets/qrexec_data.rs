//! The data channel, both roles: any split of the bytes gives the same streams and end.
#![no_main]

use bulkhead_fuzz::stepped;
use bulkhead_wire::qrexec::data::{DataDecoder, DataError, DataEvent, Role, Sink};
use bulkhead_wire::qrexec::{Version, hello};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, PartialEq)]
enum Seen {
    Bytes(Sink, Vec<u8>),
    Other(String),
}

fn run(role: Role, greeted: bool, data: &[u8], step: usize) -> (Vec<Seen>, Option<DataError>) {
    let (mut decoder, mut seen) = (DataDecoder::new(role), Vec::new());
    if greeted {
        decoder.push(&mut &hello(Version::V3)[..]).expect("hello");
    }
    for mut part in data.chunks(step) {
        loop {
            match decoder.push(&mut part) {
                Ok(Some(DataEvent::Bytes(sink, bytes))) => {
                    assert!(!bytes.is_empty());
                    match seen.last_mut() {
                        Some(Seen::Bytes(last, all)) if *last == sink => {
                            all.extend_from_slice(bytes)
                        }
                        _ => seen.push(Seen::Bytes(sink, bytes.to_vec())),
                    }
                }
                Ok(Some(event)) => seen.push(Seen::Other(format!("{event:?}"))),
                Ok(None) => break,
                Err(e) => return (seen, Some(e)),
            }
        }
        assert!(part.is_empty(), "all of a part is taken");
    }
    (seen, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((step, rest)) = stepped(data) else {
        return;
    };
    let Some((mode, rest)) = rest.split_first() else {
        return;
    };
    let role = if mode & 1 == 1 {
        Role::Caller
    } else {
        Role::Service
    };
    let greeted = mode & 2 == 2;
    let whole = run(role, greeted, rest, rest.len().max(1));
    assert_eq!(whole, run(role, greeted, rest, step));
});
