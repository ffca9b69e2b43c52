use proptest::prelude::*;

use super::super::message::{self, HEADER_LEN, VALUE_MAX, Value};
use super::*;

fn path(text: &str) -> DbPath {
    DbPath::new(text).unwrap()
}

fn bytes(messages: &[(Kind, &str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, at, data) in messages {
        message::encode(&mut out, *kind, &path(at), data);
    }
    out
}

fn store(keys: &[(&str, &str)]) -> Store {
    let mut store = Store::default();
    for (key, value) in keys {
        store
            .write(&path(key), Value::new(*value), STORE_MAX)
            .unwrap();
    }
    store
}

/// Sends everything there is; the messages as kind, path, data.
fn drain(link: &mut Link, store: &mut Store) -> Vec<(Kind, String, Vec<u8>)> {
    let out = link.output().to_vec();
    link.sent(out.len(), store, &mut Vec::new()).unwrap();
    let (mut framer, mut rest) = (Framer::default(), &out[..]);
    std::iter::from_fn(|| framer.next(&mut rest))
        .map(|frame| match frame {
            Frame::Message(m) => (m.kind, m.path.to_string(), m.data.as_bytes().to_vec()),
            Frame::Bad(e) => panic!("we sent a bad header: {e}"),
        })
        .collect()
}

fn synchronised(role: Role, store: &mut Store) -> Link {
    let mut link = Link::new(role);
    let hello = match role {
        Role::Dom0 => bytes(&[(Kind::MultiRead, "", b"")]),
        Role::Guest => bytes(&[(Kind::MultiReadReply, "", b"")]),
    };
    link.receive(&hello, store, &mut Vec::new()).unwrap();
    drain(&mut link, store);
    assert!(link.is_synchronised());
    link
}

fn set(key: &str, value: &str) -> Change {
    Change {
        path: path(key),
        value: Some(Value::new(value)),
    }
}

#[test]
fn dom0_dumps_descending_and_forwards_only_after() {
    let mut store = store(&[("/a", "1"), ("/b", "")]);
    let mut link = Link::new(Role::Dom0);
    link.forward(&set("/b", "")).unwrap();
    assert!(link.output().is_empty());
    let mut events = Vec::new();
    link.receive(
        &bytes(&[(Kind::MultiRead, "", b"")]),
        &mut store,
        &mut events,
    )
    .unwrap();
    assert_eq!(events, [LinkEvent::Synchronised]);
    link.forward(&set("/c", "3")).unwrap();
    link.forward(&Change {
        path: path("/a/"),
        value: None,
    })
    .unwrap();
    assert_eq!(
        drain(&mut link, &mut store),
        [
            (Kind::MultiReadReply, "/b".into(), vec![]),
            (Kind::MultiReadReply, "/a".into(), b"1".to_vec()),
            (Kind::MultiReadReply, String::new(), vec![]),
            (Kind::Write, "/c".into(), b"3".to_vec()),
            (Kind::Remove, "/a/".into(), vec![]),
        ]
    );
}

#[test]
fn the_guest_asks_once_and_stores_the_dump_over_what_it_had() {
    let mut store = store(&[("/old", "kept")]);
    let mut link = Link::new(Role::Guest);
    assert_eq!(
        drain(&mut link, &mut store),
        [(Kind::MultiRead, String::new(), vec![])]
    );
    let mut events = Vec::new();
    let dump = bytes(&[
        (Kind::MultiReadReply, "/a", b"1"),
        (Kind::MultiReadReply, "", b""),
    ]);
    link.receive(&dump, &mut store, &mut events).unwrap();
    assert_eq!(
        events,
        [LinkEvent::Changed(set("/a", "1")), LinkEvent::Synchronised]
    );
    assert_eq!(store.len(), 2);
    assert!(link.output().is_empty());
}

#[test]
fn changes_are_applied_answered_and_not_echoed() {
    for role in [Role::Dom0, Role::Guest] {
        let mut store = store(&[("/x/y", "1")]);
        let mut link = synchronised(role, &mut store);
        let mut events = Vec::new();
        let input = bytes(&[(Kind::Write, "/a", b"v"), (Kind::Remove, "/x/", b"")]);
        link.receive(&input, &mut store, &mut events).unwrap();
        let removed = Change {
            path: path("/x/"),
            value: None,
        };
        let expected = [
            LinkEvent::Changed(set("/a", "v")),
            LinkEvent::Changed(removed),
        ];
        assert_eq!(events, expected);
        let answers = drain(&mut link, &mut store);
        let answers: Vec<_> = answers
            .iter()
            .map(|(kind, at, _)| (*kind, at.as_str()))
            .collect();
        assert_eq!(answers, [(Kind::Ok, "/a"), (Kind::Ok, "/x/")]);
    }
}

#[test]
fn a_nul_in_a_value_is_refused_and_the_link_stays() {
    let mut store = Store::default();
    let mut link = synchronised(Role::Dom0, &mut store);
    let input = bytes(&[(Kind::Write, "/a", b"x\0y"), (Kind::Write, "/b", b"z")]);
    link.receive(&input, &mut store, &mut Vec::new()).unwrap();
    let kinds: Vec<_> = drain(&mut link, &mut store)
        .into_iter()
        .map(|(k, ..)| k)
        .collect();
    assert_eq!(kinds, [Kind::Error, Kind::Ok]);
    assert_eq!(store.len(), 1);
}

#[test]
fn answers_are_ignored_and_a_refusal_is_told() {
    let mut store = Store::default();
    let mut link = synchronised(Role::Dom0, &mut store);
    let mut events = Vec::new();
    let input = bytes(&[(Kind::Ok, "/a", b""), (Kind::Error, "/a", b"")]);
    link.receive(&input, &mut store, &mut events).unwrap();
    assert_eq!(events, [LinkEvent::PeerRefused]);
    assert!(link.output().is_empty());
}

#[test]
fn everything_else_ends_the_link() {
    use Kind::*;
    let anywhere = [
        Read, List, Watch, Unwatch, NoEntry, ReadReply, ListReply, WatchEvent,
    ];
    for role in [Role::Dom0, Role::Guest] {
        // After the dump a second request for it and entries nobody asked for are no better.
        for kind in anywhere.into_iter().chain([MultiRead, MultiReadReply]) {
            let mut store = Store::default();
            let mut link = synchronised(role, &mut store);
            let input = bytes(&[(kind, "/a", b"")]);
            let e = link
                .receive(&input, &mut store, &mut Vec::new())
                .unwrap_err();
            assert_eq!(e, LinkError::OutOfPlace(kind), "{role:?}");
            assert!(store.is_empty());
        }
    }
}

#[test]
fn headers_data_and_paths_that_end_the_link() {
    let mut long = bytes(&[(Kind::Write, "/a", b"")]);
    long[68..72].copy_from_slice(&(u32::try_from(VALUE_MAX).unwrap() + 1).to_le_bytes());
    let cases = [
        (long, LinkError::Header(HeaderError::Length(3072))),
        (
            vec![0xff; HEADER_LEN],
            LinkError::Header(HeaderError::Kind(0xff)),
        ),
        (
            bytes(&[(Kind::Write, "/a/", b"v")]),
            LinkError::Store(StoreError::Path),
        ),
        (
            bytes(&[(Kind::Write, "", b"v")]),
            LinkError::Store(StoreError::Path),
        ),
        (
            bytes(&[(Kind::Error, "/a", b"x")]),
            LinkError::Data(Kind::Error),
        ),
        (
            bytes(&[(Kind::Remove, "/a", b"x")]),
            LinkError::Data(Kind::Remove),
        ),
        (bytes(&[(Kind::Remove, "", b"")]), LinkError::RemoveMissing),
        (
            bytes(&[(Kind::Remove, "/no", b"")]),
            LinkError::RemoveMissing,
        ),
    ];
    for (input, expected) in cases {
        let mut store = Store::default();
        let mut link = synchronised(Role::Dom0, &mut store);
        let e = link
            .receive(&input, &mut store, &mut Vec::new())
            .unwrap_err();
        assert_eq!(e, expected);
    }
}

#[test]
fn removing_what_is_missing_is_answered_before_the_end() {
    let mut store = Store::default();
    let mut link = synchronised(Role::Guest, &mut store);
    let input = bytes(&[(Kind::Remove, "/no", b"")]);
    link.receive(&input, &mut store, &mut Vec::new())
        .unwrap_err();
    assert_eq!(link.output().first(), Some(&(Kind::NoEntry as u8)));
}

#[test]
fn a_nul_or_a_full_store_in_the_dump_ends_the_link() {
    let mut store = Store::default();
    let input = bytes(&[(Kind::MultiReadReply, "/a", b"\0")]);
    let e = Link::new(Role::Guest)
        .receive(&input, &mut store, &mut Vec::new())
        .unwrap_err();
    assert_eq!(e, LinkError::Store(StoreError::Value));
}

#[test]
fn a_guest_cannot_take_the_room_kept_for_dom0() {
    let mut store = Store::default();
    let mut link = synchronised(Role::Dom0, &mut store);
    for n in 0..400 {
        let input = bytes(&[(Kind::Write, &format!("/{n}"), &[b'x'; VALUE_MAX])]);
        link.receive(&input, &mut store, &mut Vec::new()).unwrap();
        let answer = drain(&mut link, &mut store)[0].0;
        let full = store.size() + HEADER_LEN + 4 + VALUE_MAX > STORE_GUEST_MAX;
        assert!(
            answer == Kind::Ok || full && answer == Kind::Error,
            "write {n}: {answer:?}"
        );
    }
    assert!(store.size() <= STORE_GUEST_MAX);
    store
        .write(&path("/name"), Value::new("work"), STORE_MAX)
        .unwrap();
}

#[test]
fn a_guest_that_never_reads_holds_bounded_memory() {
    let mut store = Store::default();
    let mut link = synchronised(Role::Dom0, &mut store);
    let flood = bytes(&[(Kind::Write, "/a", &b"v"[..]); 2000]);
    link.receive(&flood, &mut store, &mut Vec::new()).unwrap();
    assert!(!link.wants_input());
    assert!(link.output().len() < OUTPUT_HIGH + HEADER_LEN);
    // It goes on, and loses nothing, once it reads.
    let mut answers = 0;
    while !link.output().is_empty() {
        answers += drain(&mut link, &mut store).len();
    }
    assert_eq!(answers, 2000);
    assert!(link.wants_input());
}

#[test]
fn dom0_changes_past_the_cap_drop_a_guest_that_never_reads() {
    let mut store = Store::default();
    let mut link = synchronised(Role::Dom0, &mut store);
    let change = Change {
        path: path("/a"),
        value: Some(Value::new([b'x'; VALUE_MAX])),
    };
    let each = HEADER_LEN + VALUE_MAX;
    for _ in 0..LINK_OUTPUT_MAX.div_ceil(each) {
        link.forward(&change).unwrap();
    }
    assert_eq!(link.forward(&change), Err(LinkError::Stalled));
}

#[test]
fn a_full_store_and_as_many_changes_fit_the_link() {
    let mut store = Store::default();
    let mut n = 0;
    while store
        .write(
            &path(&format!("/{n}")),
            Value::new([1; VALUE_MAX]),
            STORE_MAX,
        )
        .is_ok()
    {
        n += 1;
    }
    let mut link = Link::new(Role::Dom0);
    link.receive(
        &bytes(&[(Kind::MultiRead, "", b"")]),
        &mut store,
        &mut Vec::new(),
    )
    .unwrap();
    for n in 0..n {
        let change = Change {
            path: path(&format!("/{n}")),
            value: Some(Value::new([2; VALUE_MAX])),
        };
        link.forward(&change).unwrap();
    }
}

proptest! {
    #[test]
    fn any_bytes_at_any_split_give_the_same_end(
        kinds in prop::collection::vec((0..16_u8, "(/[ab]{0,2}/?)?", 0..4_u8), 0..30),
        cut in 1..300_usize,
    ) {
        let mut input = Vec::new();
        for (kind, at, len) in kinds {
            let before = input.len();
            message::encode(&mut input, Kind::Write, &path(&at), &vec![b'v'; usize::from(len)]);
            input[before] = kind;
        }
        let run = |step: usize| {
            let (mut store, mut link, mut events) = (Store::default(), Link::new(Role::Dom0), vec![]);
            let end = input.chunks(step.max(1)).try_for_each(|c| link.receive(c, &mut store, &mut events));
            (end, events, link.output().to_vec(), store.size())
        };
        prop_assert_eq!(run(input.len()), run(cut));
    }
}
