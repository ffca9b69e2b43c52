use std::io::{Read as _, Write as _};
use std::thread;

use super::*;
use crate::id::Port;
use crate::xen::XenError;
use crate::xen::device::GrantDevice;
use crate::xen::store::{connect, rendezvous};

/// A xenstore that expects these requests, as kind, transaction and text, and replies so.
type Script = Vec<(Kind, u32, &'static str, Kind, &'static str)>;

fn scripted(
    script: Script,
    events: &'static [(&'static str, &'static str)],
) -> (Store, thread::JoinHandle<()>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let serving = thread::spawn(move || {
        let mut decoder = Decoder::default();
        for (kind, transaction, text, reply_kind, reply) in script {
            let message = loop {
                if let Some(message) = decoder.take().unwrap() {
                    break message;
                }
                let mut bytes = [0; 7];
                let n = theirs.read(&mut bytes).unwrap();
                assert!(n > 0, "`{text}` was never asked");
                decoder.push(&bytes[..n]);
            };
            let asked = String::from_utf8(message.payload).unwrap();
            assert_eq!(
                (message.kind, message.transaction, asked.as_str()),
                (kind, transaction, text)
            );
            for (path, token) in events {
                let event = format!("{path}\0{token}\0");
                let event = Message::request(Kind::WatchEvent, 0, 0, &[event.as_bytes()]);
                theirs.write_all(&event.unwrap().encode()).unwrap();
            }
            let reply = Message {
                kind: reply_kind,
                request: message.request,
                transaction: message.transaction,
                payload: reply.into(),
            };
            theirs.write_all(&reply.encode()).unwrap();
        }
    });
    (Store::adopt(ours.into()), serving)
}

#[test]
fn a_transaction_that_met_another_is_begun_again() {
    let (mut store, serving) = scripted(
        vec![
            (
                Kind::TransactionStart,
                0,
                "\0",
                Kind::TransactionStart,
                "7\0",
            ),
            (Kind::Write, 7, "a\0one", Kind::Write, "OK\0"),
            (Kind::TransactionEnd, 7, "T\0", Kind::Error, "EAGAIN\0"),
            (
                Kind::TransactionStart,
                0,
                "\0",
                Kind::TransactionStart,
                "8\0",
            ),
            (Kind::Write, 8, "a\0one", Kind::Write, "OK\0"),
            (Kind::TransactionEnd, 8, "T\0", Kind::TransactionEnd, "OK\0"),
        ],
        &[],
    );
    let mut times = 0;
    let done = store.transaction(|t| {
        times += 1;
        t.write("a", "one")?;
        Ok(times)
    });
    assert_eq!(done.unwrap(), 2);
    serving.join().unwrap();
}

#[test]
fn a_transaction_that_fails_is_taken_back() {
    let (mut store, serving) = scripted(
        vec![
            (
                Kind::TransactionStart,
                0,
                "\0",
                Kind::TransactionStart,
                "7\0",
            ),
            (Kind::Write, 7, "a\0one", Kind::Error, "EACCES\0"),
            (Kind::TransactionEnd, 7, "F\0", Kind::TransactionEnd, "OK\0"),
        ],
        &[],
    );
    let error = store.transaction(|t| t.write("a", "one")).unwrap_err();
    assert_eq!(error.refusal(), Some(io::ErrorKind::PermissionDenied));
    assert_eq!(error.to_string(), "xenstore refuses `a`");
    serving.join().unwrap();
}

#[test]
fn a_transaction_is_not_tried_forever() {
    let again = [
        (
            Kind::TransactionStart,
            0,
            "\0",
            Kind::TransactionStart,
            "7\0",
        ),
        (Kind::TransactionEnd, 7, "T\0", Kind::Error, "EAGAIN\0"),
    ];
    let script = again.repeat(TRANSACTION_TRIES as usize);
    let (mut store, serving) = scripted(script, &[]);
    let error = store.transaction(|_| Ok(())).unwrap_err();
    assert!(matches!(error, StoreError::Contended), "{error}");
    serving.join().unwrap();
}

#[test]
fn events_that_nobody_took_hold_up_nothing_and_are_kept_once() {
    let script = (0..1000)
        .map(|_| (Kind::Read, 0, "a\0", Kind::Read, "x"))
        .collect();
    let (mut store, serving) = scripted(script, &[("b", "t"), ("c", "t"), ("b", "u")]);
    for _ in 0..1000 {
        assert_eq!(store.read("a").unwrap(), "x");
    }
    serving.join().unwrap();
    let mut next = || store.next_event(Some(Instant::now())).ok().flatten();
    let events: Vec<_> = std::iter::from_fn(|| next().map(|e| (e.path, e.token))).collect();
    let expected = [("b", "t"), ("c", "t"), ("b", "u")];
    assert_eq!(
        events,
        expected.map(|(path, token)| (path.into(), token.into()))
    );
}

#[test]
fn permissions_are_written_and_read() {
    let (mut store, serving) = scripted(
        vec![
            (Kind::SetPerms, 0, "a\0n5\0r0\0", Kind::SetPerms, "OK\0"),
            (Kind::GetPerms, 0, "a\0", Kind::GetPerms, "n5\0r0\0"),
            (Kind::GetPerms, 0, "a\0", Kind::GetPerms, "n5\0x0\0"),
        ],
        &[],
    );
    let permissions = [
        Permission {
            domain: DomId::new(5).unwrap(),
            access: Access::None,
        },
        Permission {
            domain: DomId::DOM0,
            access: Access::Read,
        },
    ];
    store.set_permissions("a", &permissions).unwrap();
    assert_eq!(store.permissions("a").unwrap(), permissions);
    assert!(matches!(
        store.permissions("a"),
        Err(StoreError::Text { .. })
    ));
    serving.join().unwrap();
}

#[test]
fn keys_appear_in_one_step_with_permissions_and_after_the_old_ones_went() {
    let (mut store, serving) = scripted(
        vec![
            (Kind::Read, 0, "domid\0", Kind::Read, "3"),
            (
                Kind::TransactionStart,
                0,
                "\0",
                Kind::TransactionStart,
                "9\0",
            ),
            (Kind::Rm, 9, "data/vchan/0/513\0", Kind::Error, "ENOENT\0"),
            (
                Kind::Write,
                9,
                "data/vchan/0/513/ring-ref\x008",
                Kind::Write,
                "OK\0",
            ),
            (
                Kind::SetPerms,
                9,
                "data/vchan/0/513/ring-ref\0n3\0r0\0",
                Kind::SetPerms,
                "OK\0",
            ),
            (
                Kind::Write,
                9,
                "data/vchan/0/513/event-channel\x0021",
                Kind::Write,
                "OK\0",
            ),
            (
                Kind::SetPerms,
                9,
                "data/vchan/0/513/event-channel\0n3\0r0\0",
                Kind::SetPerms,
                "OK\0",
            ),
            (Kind::TransactionEnd, 9, "T\0", Kind::TransactionEnd, "OK\0"),
        ],
        &[],
    );
    let offer = crate::xen::Offer {
        page: crate::xen::layout::GrantRef(8),
        port: crate::xen::device::EventPort(21),
    };
    let _published = super::super::publish(&mut store, DomId::DOM0, Port::new(513), offer).unwrap();
    serving.join().unwrap();
}

#[test]
fn keys_of_a_successor_are_left_alone() {
    let (mut store, serving) = scripted(
        vec![
            (Kind::Read, 0, "domid\0", Kind::Read, "3"),
            (
                Kind::TransactionStart,
                0,
                "\0",
                Kind::TransactionStart,
                "9\0",
            ),
            (Kind::Rm, 9, "data/vchan/0/1\0", Kind::Rm, "OK\0"),
            (
                Kind::Write,
                9,
                "data/vchan/0/1/ring-ref\x008",
                Kind::Write,
                "OK\0",
            ),
            (
                Kind::SetPerms,
                9,
                "data/vchan/0/1/ring-ref\0n3\0r0\0",
                Kind::SetPerms,
                "OK\0",
            ),
            (
                Kind::Write,
                9,
                "data/vchan/0/1/event-channel\x0021",
                Kind::Write,
                "OK\0",
            ),
            (
                Kind::SetPerms,
                9,
                "data/vchan/0/1/event-channel\0n3\0r0\0",
                Kind::SetPerms,
                "OK\0",
            ),
            (Kind::TransactionEnd, 9, "T\0", Kind::TransactionEnd, "OK\0"),
            (
                Kind::TransactionStart,
                0,
                "\0",
                Kind::TransactionStart,
                "10\0",
            ),
            (Kind::Read, 10, "data/vchan/0/1/ring-ref\0", Kind::Read, "8"),
            (
                Kind::Read,
                10,
                "data/vchan/0/1/event-channel\0",
                Kind::Read,
                "22",
            ),
            (
                Kind::TransactionEnd,
                10,
                "T\0",
                Kind::TransactionEnd,
                "OK\0",
            ),
        ],
        &[],
    );
    let offer = crate::xen::Offer {
        page: crate::xen::layout::GrantRef(8),
        port: crate::xen::device::EventPort(21),
    };
    let published = super::super::publish(&mut store, DomId::DOM0, Port::new(1), offer).unwrap();
    published.withdraw(&mut store).unwrap();
    serving.join().unwrap();
}

fn seeking(after: Script) -> Result<Option<crate::xen::Offer>, StoreError> {
    let leaf = "/local/domain/5/data/vchan/3/513/event-channel\0vchan.5.513\0";
    let mut script = vec![
        (Kind::Read, 0, "domid\0", Kind::Read, "3"),
        (Kind::Watch, 0, leaf, Kind::Watch, "OK\0"),
        (Kind::Watch, 0, "domid\0vchan.5.513\0", Kind::Watch, "OK\0"),
        (
            Kind::Watch,
            0,
            "@releaseDomain\0vchan.5.513\0",
            Kind::Error,
            "EACCES\0",
        ),
        (Kind::Read, 0, "domid\0", Kind::Read, "3"),
        (
            Kind::TransactionStart,
            0,
            "\0",
            Kind::TransactionStart,
            "4\0",
        ),
    ];
    script.extend(after);
    let (mut store, serving) = scripted(script, &[("x", "vchan.5.513"), ("y", "of another")]);
    let mut seeker = super::super::seek(&mut store, DomId::new(5).unwrap(), Port::new(513))?;
    let found = seeker.next(&mut store, Instant::now());
    let other = store.next_event(Some(Instant::now()))?;
    assert_eq!(other.map(|e| e.token).as_deref(), Some("of another"));
    serving.join().unwrap();
    found
}

const RING: &str = "/local/domain/5/data/vchan/3/513/ring-ref\0";
const EVENTS: &str = "/local/domain/5/data/vchan/3/513/event-channel\0";
const ENDED: (Kind, u32, &str, Kind, &str) =
    (Kind::TransactionEnd, 4, "T\0", Kind::TransactionEnd, "OK\0");
const TAKEN_BACK: (Kind, u32, &str, Kind, &str) =
    (Kind::TransactionEnd, 4, "F\0", Kind::TransactionEnd, "OK\0");

#[test]
fn a_key_that_cannot_be_read_is_withdrawn_and_a_silent_store_tells_nothing() {
    let read = |kind, reply| (Kind::Read, 0, EVENTS, kind, reply);
    let (mut store, serving) = scripted(
        vec![
            read(Kind::Read, "21"),
            read(Kind::Error, "ENOENT\0"),
            read(Kind::Error, "EACCES\0"),
            read(Kind::Error, "EAGAIN\0"),
        ],
        &[],
    );
    let leaf = rendezvous::leaf(
        DomId::new(5).unwrap(),
        DomId::new(3).unwrap(),
        Port::new(513),
    );
    let mut is_withdrawn = || rendezvous::is_withdrawn(&mut store, &leaf);
    assert!(!is_withdrawn());
    assert!(is_withdrawn());
    assert!(is_withdrawn());
    assert!(!is_withdrawn());
    serving.join().unwrap();
    // It has hung up.
    assert!(!is_withdrawn());
}

#[test]
fn an_offer_is_found() {
    let offer = seeking(vec![
        (Kind::Read, 4, RING, Kind::Read, "8"),
        (Kind::Read, 4, EVENTS, Kind::Read, "21"),
        ENDED,
    ]);
    let offer = offer.unwrap().unwrap();
    assert_eq!((offer.page.0, offer.port.0), (8, 21));
}

#[test]
fn a_server_that_is_no_more_ends_the_search() {
    let found = seeking(vec![
        (Kind::Read, 4, RING, Kind::Error, "ENOENT\0"),
        (Kind::Read, 4, EVENTS, Kind::Error, "ENOENT\0"),
        ENDED,
        (
            Kind::IsDomainIntroduced,
            0,
            "5\0",
            Kind::IsDomainIntroduced,
            "F\0",
        ),
    ]);
    assert!(found.unwrap().is_none());
}

#[test]
fn numbers_that_are_none_are_errors() {
    for text in ["0", "+1", "01", " 1", "1\n", "0x1", "4294967296", "-1"] {
        let found = seeking(vec![(Kind::Read, 4, RING, Kind::Read, text), TAKEN_BACK]);
        let Err(StoreError::Text { len, .. }) = found else {
            panic!("{text}: {found:?}");
        };
        assert_eq!(len, text.len());
    }
}

/// Who only wants to know whether a server is there sets no watches.
#[test]
fn a_client_that_will_not_wait_looks_once() {
    let (mut store, serving) = scripted(
        vec![
            (Kind::Read, 0, "domid\0", Kind::Read, "3"),
            (
                Kind::TransactionStart,
                0,
                "\0",
                Kind::TransactionStart,
                "4\0",
            ),
            (Kind::Read, 4, RING, Kind::Error, "ENOENT\0"),
            (Kind::Read, 4, EVENTS, Kind::Error, "EACCES\0"),
            ENDED,
        ],
        &[],
    );
    let memory = GrantDevice::adopt(std::fs::File::open("/dev/null").unwrap().into());
    let (server, port) = (DomId::new(5).unwrap(), Port::new(513));
    let found = connect(&mut store, &memory, server, port, Instant::now());
    assert!(matches!(found, Err(XenError::NoServer { .. })), "{found:?}");
    serving.join().unwrap();
}

/// However often the keys change: what is stale at the deadline ends the search.
#[test]
fn an_offer_that_is_stale_is_not_found_again_after_the_deadline() {
    let look = [
        (Kind::Read, 0, "domid\0", Kind::Read, "3"),
        (
            Kind::TransactionStart,
            0,
            "\0",
            Kind::TransactionStart,
            "4\0",
        ),
        (Kind::Read, 4, RING, Kind::Read, "8"),
        (Kind::Read, 4, EVENTS, Kind::Read, "21"),
        ENDED,
    ];
    let mut script = vec![
        (Kind::Read, 0, "domid\0", Kind::Read, "3"),
        (
            Kind::Watch,
            0,
            "/local/domain/5/data/vchan/3/513/event-channel\0vchan.5.513\0",
            Kind::Watch,
            "OK\0",
        ),
        (Kind::Watch, 0, "domid\0vchan.5.513\0", Kind::Watch, "OK\0"),
        (
            Kind::Watch,
            0,
            "@releaseDomain\0vchan.5.513\0",
            Kind::Watch,
            "OK\0",
        ),
    ];
    script.extend(look);
    script.extend(look);
    let (mut store, serving) = scripted(script, &[("x", "vchan.5.513")]);
    let mut seeker =
        super::super::seek(&mut store, DomId::new(5).unwrap(), Port::new(513)).unwrap();
    assert!(seeker.next(&mut store, Instant::now()).unwrap().is_some());
    assert!(seeker.next(&mut store, Instant::now()).unwrap().is_none());
    serving.join().unwrap();
}

const START: (Kind, u32, &str, Kind, &str) = (
    Kind::TransactionStart,
    0,
    "\0",
    Kind::TransactionStart,
    "4\0",
);
const FOUND: &str = "/local/domain/5/data/vchan/3/513/event-channel\0found.5.513\0";

/// What a finder finds of domain 5 where its first look has these replies.
fn finding(first: Script) -> (super::super::Finder, thread::JoinHandle<()>) {
    let mut script = vec![
        (Kind::Read, 0, "domid\0", Kind::Read, "3"),
        (Kind::Watch, 0, FOUND, Kind::Watch, "OK\0"),
        START,
    ];
    script.extend(first);
    let (store, serving) = scripted(script, &[("x", "found.5.513"), ("y", "of another")]);
    let mut finder = super::super::Finder::new(store).unwrap();
    finder.seek(DomId::new(5).unwrap(), Port::new(513)).unwrap();
    (finder, serving)
}

#[test]
fn a_finder_tells_what_is_there_and_forgets_a_domain_with_all_of_it() {
    let (mut finder, serving) = finding(vec![
        (Kind::Read, 4, RING, Kind::Read, "8"),
        (Kind::Read, 4, EVENTS, Kind::Read, "21"),
        ENDED,
        (Kind::Unwatch, 0, FOUND, Kind::Error, "ENOENT\0"),
        (Kind::Rm, 0, "data/vchan/5\0", Kind::Error, "ENOENT\0"),
    ]);
    let found = finder.found().unwrap().unwrap();
    let [(server, port, offer)] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!((server.number(), port.number()), (5, 513));
    assert_eq!((offer.page.0, offer.port.0), (8, 21));
    finder.forget(*server).unwrap();
    serving.join().unwrap();
}

#[test]
fn who_publishes_nonsense_offers_nothing_and_holds_up_nothing() {
    let (mut finder, serving) = finding(vec![
        (Kind::Read, 4, RING, Kind::Read, "-8"),
        TAKEN_BACK,
        START,
        (Kind::Read, 4, RING, Kind::Error, "EACCES\0"),
        (Kind::Read, 4, EVENTS, Kind::Read, "21"),
        ENDED,
    ]);
    assert_eq!(finder.found().unwrap(), Some(Vec::new()));
    // Its event came with the replies of the first look, and the descriptor tells nothing of it.
    assert_eq!(finder.found().unwrap(), Some(Vec::new()));
    serving.join().unwrap();
    assert!(matches!(finder.found().unwrap_err(), StoreError::Broken(_)));
}
