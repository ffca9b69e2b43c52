//! The local QubesDB sockets: a daemon with two clients, one of them hostile, and a client with a
//! hostile daemon.
#![no_main]

use bulkhead_fuzz::stepped;
use bulkhead_wire::qubesdb::client::Client;
use bulkhead_wire::qubesdb::message::{Kind, Value};
use bulkhead_wire::qubesdb::path::DbPath;
use bulkhead_wire::qubesdb::server::{Access, CLIENT_OUTPUT_MAX, Server};
use bulkhead_wire::qubesdb::store::{STORE_GUEST_MAX, Store};
use libfuzzer_sys::fuzz_target;

fn run(access: Access, data: &[u8], step: usize) -> (Vec<u8>, usize, bool) {
    let (mut store, mut server) = (Store::default(), Server::new(STORE_GUEST_MAX));
    for key in ["/name", "/a/b", "/a/c"] {
        let key = DbPath::new(key).expect("a path");
        store
            .write(&key, Value::new("1"), STORE_GUEST_MAX)
            .expect("room");
    }
    let before = store.size();
    let id = server.connect(access).expect("room");
    let other = server.connect(Access::ReadWrite).expect("room");
    let mut sent = Vec::new();
    for part in data.chunks(step) {
        server.receive(id, part, &mut store);
        while !server.output(id).is_empty() {
            assert!(server.output(id).len() <= CLIENT_OUTPUT_MAX + 4096);
            sent.extend_from_slice(server.output(id));
            server.sent(id, server.output(id).len(), &mut store);
        }
    }
    assert!(store.size() <= STORE_GUEST_MAX);
    assert!(
        access == Access::ReadWrite || store.size() == before,
        "read-only wrote"
    );
    // Whatever one client does, another is served.
    assert!(server.output(other).is_empty() && server.wants_input(other));
    (sent, store.size(), server.is_closing(id))
}

fuzz_target!(|data: &[u8]| {
    let Some((step, rest)) = stepped(data) else {
        return;
    };
    let Some((mode, rest)) = rest.split_first() else {
        return;
    };
    let access = if mode & 1 == 1 {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    };
    let whole = run(access, rest, rest.len().max(1));
    assert_eq!(whole, run(access, rest, step));
    let mut client = Client::default();
    let path = DbPath::new("/a").expect("a path");
    for kind in [
        Kind::MultiRead,
        Kind::Read,
        Kind::List,
        Kind::Write,
        Kind::Watch,
    ] {
        client.request(kind, &path, b"").expect("a request");
    }
    let _ = client.receive(rest);
});
