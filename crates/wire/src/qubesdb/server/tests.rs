use proptest::prelude::*;

use super::super::message::{self, HEADER_LEN, VALUE_MAX, Value};
use super::super::store::STORE_MAX;
use super::*;

struct Bench {
    server: Server,
    store: Store,
    id: ClientId,
}

fn path(text: &str) -> DbPath {
    DbPath::new(text).unwrap()
}

fn parse(bytes: &[u8]) -> Vec<(Kind, String, Vec<u8>)> {
    let (mut framer, mut rest) = (Framer::default(), bytes);
    std::iter::from_fn(|| framer.next(&mut rest))
        .map(|frame| match frame {
            Frame::Message(m) => (m.kind, m.path.to_string(), m.data.as_bytes().to_vec()),
            Frame::Bad(e) => panic!("we sent a bad header: {e}"),
        })
        .collect()
}

impl Bench {
    fn new(access: Access, keys: &[(&str, &str)]) -> Self {
        let mut server = Server::new(STORE_MAX);
        let mut store = Store::default();
        for (key, value) in keys {
            store
                .write(&path(key), Value::new(*value), STORE_MAX)
                .unwrap();
        }
        let id = server.connect(access).unwrap();
        Self { server, store, id }
    }

    fn send(&mut self, kind: Kind, at: &str, data: &[u8]) -> Vec<(Kind, String, Vec<u8>)> {
        let mut bytes = Vec::new();
        message::encode(&mut bytes, kind, &path(at), data);
        self.server.receive(self.id, &bytes, &mut self.store);
        self.drain()
    }

    fn kinds(&mut self, kind: Kind, at: &str, data: &[u8]) -> Vec<Kind> {
        self.send(kind, at, data)
            .into_iter()
            .map(|(kind, ..)| kind)
            .collect()
    }

    fn drain(&mut self) -> Vec<(Kind, String, Vec<u8>)> {
        let mut all = Vec::new();
        loop {
            let out = self.server.output(self.id).to_vec();
            if out.is_empty() {
                return parse(&all);
            }
            all.extend_from_slice(&out);
            self.server.sent(self.id, out.len(), &mut self.store);
        }
    }
}

#[test]
fn reads_writes_and_removes() {
    let mut b = Bench::new(Access::ReadWrite, &[]);
    assert_eq!(
        b.send(Kind::Read, "/a", b""),
        [(Kind::NoEntry, "/a".into(), vec![])]
    );
    assert_eq!(
        b.send(Kind::Write, "/a", b"v"),
        [(Kind::Ok, "/a".into(), vec![])]
    );
    assert_eq!(
        b.send(Kind::Read, "/a", b""),
        [(Kind::ReadReply, "/a".into(), b"v".to_vec())]
    );
    assert_eq!(b.kinds(Kind::Remove, "/a", b""), [Kind::Ok]);
    assert_eq!(b.kinds(Kind::Remove, "/a", b""), [Kind::NoEntry]);
}

#[test]
fn listings_end_with_an_empty_path() {
    let mut b = Bench::new(
        Access::ReadOnly,
        &[("/a/b", "1"), ("/a/c", "2"), ("/b", "3")],
    );
    let paths =
        |got: Vec<(Kind, String, Vec<u8>)>| got.into_iter().map(|m| m.1).collect::<Vec<_>>();
    assert_eq!(paths(b.send(Kind::List, "/a", b"")), ["/a/b", "/a/c", ""]);
    assert_eq!(
        paths(b.send(Kind::List, "", b"")),
        ["/a/b", "/a/c", "/b", ""]
    );
    assert_eq!(
        paths(b.send(Kind::MultiRead, "", b"")),
        ["/b", "/a/c", "/a/b", ""]
    );
    let values: Vec<_> = b
        .send(Kind::MultiRead, "/a/", b"")
        .into_iter()
        .map(|m| m.2)
        .collect();
    assert_eq!(values, [b"1".to_vec(), b"2".to_vec(), vec![]]);
}

#[test]
fn changes_come_out_for_the_link() {
    let mut b = Bench::new(Access::ReadWrite, &[("/x/y", "")]);
    let mut bytes = Vec::new();
    message::encode(&mut bytes, Kind::Write, &path("/a"), b"v");
    message::encode(&mut bytes, Kind::Remove, &path("/x/"), b"");
    let changes = b.server.receive(b.id, &bytes, &mut b.store);
    let set = Change {
        path: path("/a"),
        value: Some(Value::new("v")),
    };
    assert_eq!(
        changes,
        [
            set,
            Change {
                path: path("/x/"),
                value: None
            }
        ]
    );
}

#[test]
fn watches_fire_as_often_as_registered_and_for_equal_values_too() {
    let mut b = Bench::new(Access::ReadWrite, &[("/a", "v")]);
    b.send(Kind::Watch, "/a", b"");
    b.send(Kind::Watch, "/a", b"");
    assert_eq!(
        b.kinds(Kind::Write, "/a", b"v"),
        [Kind::Ok, Kind::WatchEvent, Kind::WatchEvent]
    );
    b.send(Kind::Unwatch, "/a", b"");
    assert_eq!(
        b.kinds(Kind::Write, "/a", b"v"),
        [Kind::Ok, Kind::WatchEvent]
    );
    assert_eq!(b.kinds(Kind::Unwatch, "/b", b""), [Kind::NoEntry]);
}

#[test]
fn removing_a_subtree_fires_once_with_its_path() {
    let mut b = Bench::new(Access::ReadWrite, &[("/foo/bar", "v"), ("/foo/baz", "v")]);
    let watcher = b.server.connect(Access::ReadOnly).unwrap();
    for watch in ["/foo/", "/foo/bar"] {
        let mut bytes = Vec::new();
        message::encode(&mut bytes, Kind::Watch, &path(watch), b"");
        b.server.receive(watcher, &bytes, &mut b.store);
    }
    b.send(Kind::Remove, "/foo/", b"");
    let got = parse(b.server.output(watcher));
    assert_eq!(
        got.last().unwrap(),
        &(Kind::WatchEvent, "/foo/".into(), vec![])
    );
    assert_eq!(got.len(), 3);
}

#[test]
fn the_table_of_bad_requests() {
    // Kind, path, data, answers, disconnected.
    type Case<'a> = (Kind, &'a str, &'a [u8], &'a [Kind], bool);
    let cases: [Case<'_>; 12] = [
        (Kind::Ok, "/a", b"", &[Kind::Error], false),
        (Kind::NoEntry, "/a", b"", &[Kind::Error], false),
        (Kind::WatchEvent, "/a", b"x", &[Kind::Error], false),
        (Kind::Write, "/a", b"\0", &[Kind::Error], false),
        (Kind::Write, "/a/", b"v", &[Kind::Error], true),
        (Kind::Write, "a", b"v", &[Kind::Error], true),
        (Kind::Write, "", b"v", &[Kind::Error], false),
        (Kind::Remove, "", b"", &[Kind::Error], false),
        (Kind::Remove, "/a", b"x", &[Kind::Error], false),
        (Kind::Watch, "", b"", &[Kind::Error], false),
        (Kind::MultiRead, "", b"x", &[Kind::Error], false),
        (Kind::Read, "/a", b"x", &[], true),
    ];
    for (kind, at, data, answers, closing) in cases {
        let mut b = Bench::new(Access::ReadWrite, &[("/a", "v")]);
        assert_eq!(b.kinds(kind, at, data), answers, "{kind:?} {at:?}");
        assert_eq!(b.server.is_closing(b.id), closing, "{kind:?} {at:?}");
        assert_eq!(b.store.len(), 1);
    }
}

#[test]
fn bad_headers_are_answered_and_skipped() {
    let mut b = Bench::new(Access::ReadWrite, &[]);
    let mut bytes = vec![0; HEADER_LEN];
    bytes[0] = 99;
    bytes[68] = 10;
    bytes.extend([1; 10]);
    message::encode(&mut bytes, Kind::Write, &path("/a"), b"v");
    b.server.receive(b.id, &bytes, &mut b.store);
    let kinds: Vec<_> = b.drain().into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, [Kind::Error, Kind::Ok]);
}

#[test]
fn the_read_only_socket_changes_nothing() {
    let mut b = Bench::new(Access::ReadOnly, &[("/a", "v")]);
    assert_eq!(b.kinds(Kind::Write, "/a", b"w"), [Kind::Error]);
    assert_eq!(b.kinds(Kind::Remove, "/a", b""), [Kind::Error]);
    assert_eq!(b.store.get(&path("/a")).unwrap().as_bytes(), b"v");
    assert_eq!(b.kinds(Kind::Watch, "/a", b""), [Kind::Ok]);
}

#[test]
fn one_client_past_the_limit_is_refused_and_a_place_is_freed() {
    let mut b = Bench::new(Access::ReadWrite, &[]);
    for _ in 1..CLIENTS_MAX {
        b.server.connect(Access::ReadOnly).unwrap();
    }
    assert_eq!(b.server.connect(Access::ReadOnly), Err(TooManyClientsError));
    b.server.disconnect(b.id);
    b.server.connect(Access::ReadOnly).unwrap();
}

#[test]
fn one_watch_past_the_limit_is_refused() {
    let mut b = Bench::new(Access::ReadOnly, &[]);
    for _ in 0..WATCHES_MAX {
        assert_eq!(b.kinds(Kind::Watch, "/a", b""), [Kind::Ok]);
    }
    assert_eq!(b.kinds(Kind::Watch, "/a", b""), [Kind::Error]);
}

#[test]
fn a_client_that_reads_nothing_costs_one_buffer_and_stalls_nobody() {
    let keys: Vec<_> = (0..200).map(|n| format!("/{n}")).collect();
    let value = "x".repeat(VALUE_MAX);
    let keys: Vec<_> = keys
        .iter()
        .map(|key| (key.as_str(), value.as_str()))
        .collect();
    let mut b = Bench::new(Access::ReadWrite, &keys);
    let slow = b.server.connect(Access::ReadOnly).unwrap();
    let mut flood = Vec::new();
    for _ in 0..100 {
        message::encode(&mut flood, Kind::MultiRead, &DbPath::empty(), b"");
    }
    b.server.receive(slow, &flood, &mut b.store);
    assert!(b.server.output(slow).len() < OUTPUT_HIGH + HEADER_LEN + VALUE_MAX);
    assert!(!b.server.wants_input(slow));
    assert_eq!(b.kinds(Kind::Read, "/1", b""), [Kind::ReadReply]);
    // All of it comes once it reads.
    let mut ends = 0;
    while !b.server.output(slow).is_empty() {
        let got = b.server.output(slow).to_vec();
        ends += got.len();
        b.server.sent(slow, got.len(), &mut b.store);
    }
    let sizes: usize = keys.iter().map(|(_, v)| HEADER_LEN + v.len()).sum();
    assert_eq!(ends, 100 * (sizes + HEADER_LEN));
}

#[test]
fn a_watcher_that_reads_nothing_is_dropped_at_the_limit() {
    let mut b = Bench::new(Access::ReadWrite, &[]);
    let slow = b.server.connect(Access::ReadOnly).unwrap();
    let mut watch = Vec::new();
    message::encode(&mut watch, Kind::Watch, &path("/a"), b"");
    b.server.receive(slow, &watch, &mut b.store);
    // The answer to the watch takes the first place.
    for _ in 1..CLIENT_OUTPUT_MAX.div_ceil(HEADER_LEN) {
        b.send(Kind::Write, "/a", b"v");
    }
    assert!(!b.server.is_closing(slow));
    b.send(Kind::Write, "/a", b"v");
    assert!(b.server.is_closing(slow));
    assert!(b.server.output(slow).len() <= CLIENT_OUTPUT_MAX + HEADER_LEN);
}

proptest! {
    #[test]
    fn any_requests_at_any_split_give_the_same_answers(
        requests in prop::collection::vec((0..16_u8, "(/[ab]{0,2}/?)?", 0..4_u8), 0..40),
        cut in 1..300_usize,
    ) {
        let mut input = Vec::new();
        for (kind, at, len) in requests {
            let before = input.len();
            message::encode(&mut input, Kind::Write, &path(&at), &vec![b'v'; usize::from(len)]);
            input[before] = kind;
        }
        let run = |step: usize| {
            let mut b = Bench::new(Access::ReadWrite, &[("/a", "1"), ("/b/c", "2")]);
            let mut changes = Vec::new();
            for part in input.chunks(step.max(1)) {
                changes.extend(b.server.receive(b.id, part, &mut b.store));
            }
            (b.drain(), changes, b.server.is_closing(b.id), b.store.size())
        };
        prop_assert_eq!(run(input.len()), run(cut));
    }
}
