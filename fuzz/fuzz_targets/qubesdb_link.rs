//! Either end of the QubesDB link: splits change nothing, the store stays within its limit, and
//! what is sent is well-formed.
#![no_main]

use bulkhead_fuzz::stepped;
use bulkhead_wire::qubesdb::link::{Link, LinkError, LinkEvent, Role};
use bulkhead_wire::qubesdb::message::{Frame, Framer, Value};
use bulkhead_wire::qubesdb::path::DbPath;
use bulkhead_wire::qubesdb::store::{STORE_GUEST_MAX, STORE_MAX, Store};
use libfuzzer_sys::fuzz_target;

type End = (Vec<LinkEvent>, Result<(), LinkError>, Vec<u8>, usize);

fn run(role: Role, data: &[u8], step: usize) -> End {
    let (mut store, mut link, mut events) = (Store::default(), Link::new(role), Vec::new());
    for key in ["/name", "/qubes-service/a", "/qubes-service/b"] {
        let key = DbPath::new(key).expect("a path");
        store.write(&key, Value::new("1"), STORE_MAX).expect("room");
    }
    let mut sent = Vec::new();
    let end = data.chunks(step).try_for_each(|part| {
        link.receive(part, &mut store, &mut events)?;
        while !link.output().is_empty() {
            sent.extend_from_slice(link.output());
            link.sent(link.output().len(), &mut store, &mut events)?;
        }
        Ok(())
    });
    sent.extend_from_slice(link.output());
    let limit = if role == Role::Dom0 {
        STORE_GUEST_MAX
    } else {
        STORE_MAX
    };
    assert!(store.size() <= limit);
    (events, end, sent, store.size())
}

fuzz_target!(|data: &[u8]| {
    let Some((step, rest)) = stepped(data) else {
        return;
    };
    let Some((role, rest)) = rest.split_first() else {
        return;
    };
    let role = if role & 1 == 1 {
        Role::Guest
    } else {
        Role::Dom0
    };
    let whole = run(role, rest, rest.len().max(1));
    assert_eq!(whole, run(role, rest, step));
    let (mut framer, mut sent) = (Framer::default(), &whole.2[..]);
    while let Some(frame) = framer.next(&mut sent) {
        assert!(matches!(frame, Frame::Message(_)), "we sent {frame:?}");
    }
    assert!(sent.is_empty());
});
