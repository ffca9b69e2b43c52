use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[test]
fn only_canonical_socket_names_are_read() {
    assert_eq!(parse_socket_name("vchan.1.2.513.sock"), Some((1, 2, 513)));
    for bad in [
        "vchan.01.2.513.sock",
        "vchan.1.2.sock",
        "vchan.1.2.3.4.sock",
        "vchan.1.2.+513.sock",
        "vchan.1.2.99999999999.sock",
        "xvchan.1.2.3.sock",
        "vchan.1.2.513.sockx",
        "vchan.../../etc.sock",
    ] {
        assert_eq!(parse_socket_name(bad), None, "{bad}");
    }
}

fn qube() -> Destination {
    Destination::Qube {
        name: "vault".into(),
        uuid: uuid::Uuid::nil(),
    }
}

fn new_disposable() -> Destination {
    Destination::NewDisposable {
        base: "dvm".into(),
        uuid: uuid::Uuid::nil(),
    }
}

#[test]
fn one_call_under_way_too_many_is_refused() {
    let calls = Calls::new();
    let ticket = |number: usize| (0, RequestId(number as u64));
    let begin = |caller, ticket| calls.begin(caller, ticket, &qube()).is_ok();
    for number in 0..PENDING_PER_QUBE {
        assert!(begin(1, ticket(number)));
    }
    let late = ticket(PENDING_PER_QUBE);
    assert!(!begin(1, late));
    assert!(begin(2, late), "another qube has its own count");
    // One that is taken back counts until it is over.
    calls.forsake(1, ticket(0));
    assert!(!begin(1, late));
    assert!(!calls.finish(1, ticket(0)));
    assert!(begin(1, late));
    assert!(calls.finish(1, late));
}

#[test]
fn one_disposable_too_many_is_refused_whether_others_run_or_are_being_started() {
    let calls = Calls::new();
    let ticket = |number: usize| (0, RequestId(number as u64));
    let begin = |caller, ticket| calls.begin(caller, ticket, &new_disposable());
    for number in 0..DISPOSABLES_PER_QUBE {
        begin(1, ticket(number)).unwrap();
        // Half of them have come up.
        if number % 2 == 0 {
            assert!(calls.finish(1, ticket(number)));
            let connection = Connection {
                disposable: Some(QubeName::new("disp1").unwrap()),
                ..Connection::default()
            };
            let to = u32::try_from(number).unwrap() + 10;
            calls.connections().add(1, to, connection).unwrap();
        }
    }
    let late = ticket(DISPOSABLES_PER_QUBE);
    assert!(begin(1, late).unwrap_err().contains("32 disposables"));
    assert!(
        calls.begin(1, late, &qube()).is_ok(),
        "others are not held up"
    );
    assert!(begin(2, late).is_ok());
    calls.finish(1, ticket(1));
    assert!(begin(1, ticket(99)).is_ok());
}

#[test]
fn a_port_is_taken_until_the_socket_of_its_connection_is_gone() {
    let mut connections = Connections::default();
    let port = connections.add(0, 1, Connection::default()).unwrap();
    assert!(connections.end(2, 0, port).is_none(), "not its connection");
    let ended = connections.end(1, 0, port).unwrap();
    assert_eq!(ended.unwrap().0, (0, 1, port));
    // While the socket is removed, nobody may bind another of that name.
    assert_ne!(connections.add(0, 1, Connection::default()), Some(port));
    assert!(connections.ports.release(1, 0, port));
    assert_eq!(connections.add(0, 1, Connection::default()), Some(port));
}

/// One end after the other, as the agents tell it.
fn end_both(connections: &mut Connections, (from, to, port): Key) {
    assert!(connections.end(to, from, port).unwrap().is_some());
    assert!(connections.ports.release(to, from, port));
    if from != 0 {
        let second = connections.end(from, to, port).unwrap();
        assert!(second.is_none(), "its connection is gone already");
        assert!(connections.ports.release(from, to, port));
    }
    assert!(connections.end(to, from, port).is_none(), "told twice");
}

/// Three qubes and dom0 call each other with a few calls open at a time, so that
/// ports come back and are used again.
#[test]
fn a_million_calls_leave_nothing_behind() {
    const CALLS: u32 = 1_000_000;
    const OPEN: usize = 8;
    let calls = Calls::new();
    let mut open = VecDeque::new();
    let mut room = 0;
    for n in 0..CALLS {
        let (from, to) = [(1, 2), (2, 1), (0, 1), (3, 2), (0, 3), (1, 3)][n as usize % 6];
        let ticket = (0, RequestId(u64::from(n)));
        calls.begin(from, ticket, &qube()).unwrap();
        let mut connections = calls.connections();
        let port = connections.add(from, to, Connection::default());
        open.push_back((
            from,
            to,
            port.expect("a port is free again after each call"),
        ));
        if open.len() == OPEN {
            end_both(&mut connections, open.pop_front().unwrap());
        }
        if n == 10_000 {
            room = connections.open.capacity();
        }
        drop(connections);
        assert!(calls.finish(from, ticket));
    }
    let mut connections = calls.connections();
    assert_eq!(connections.open.len(), OPEN - 1);
    assert_eq!(connections.open.capacity(), room, "it grows with the calls");
    for key in open {
        end_both(&mut connections, key);
    }
    assert!(connections.open.is_empty() && connections.pending.is_empty());
    assert_eq!(connections.ports.taken(), 0);
}

proptest! {
    /// Whatever agents tell, in whatever order: a connection is closed once, and its ports come
    /// back.
    #[test]
    fn ends_in_any_order_and_of_anybody_close_each_connection_once(
        calls in prop::collection::vec((0u32..4, 1u32..4), 1..60),
        told in prop::collection::vec((1u32..5, 0u32..5, 510u32..560), 0..200),
    ) {
        let mut connections = Connections::default();
        let mut closed = Vec::new();
        let mut made = Vec::new();
        for (from, to) in calls.into_iter().filter(|(from, to)| from != to) {
            let port = connections.add(from, to, Connection::default()).unwrap();
            made.push((from, to, port));
        }
        let ends = made.iter().flat_map(|(from, to, port)| [(*to, *from, *port), (*from, *to, *port)]);
        for (domain, peer, port) in told.into_iter().chain(ends.collect::<Vec<_>>()) {
            if let Some(ended) = connections.end(domain, peer, port) {
                closed.extend(ended.map(|(key, _)| key));
                prop_assert!(connections.ports.release(domain, peer, port));
            }
        }
        closed.sort_unstable();
        made.sort_unstable();
        prop_assert_eq!(closed, made);
        prop_assert!(connections.open.is_empty());
        prop_assert_eq!(connections.ports.taken(), 0);
    }
}
