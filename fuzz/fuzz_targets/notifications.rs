//! What a qube says of notifications, as dom0 reads it: splits change nothing, what is heard is fit to
//! be shown, and the same said again is heard the same. The first byte says which version is offered.
#![no_main]

use bulkhead_fuzz::stepped;
use bulkhead_wire::notify::dom0_end::{Dom0End, GuestEvent};
use bulkhead_wire::notify::guest_end::GuestEnd;
use bulkhead_wire::notify::{NotifyError, Request, Version};
use libfuzzer_sys::fuzz_target;

type End = (Vec<GuestEvent>, Result<(), NotifyError>);

fn run(offered: Version, data: &[u8], step: usize) -> End {
    let (mut end, mut events) = (Dom0End::new(offered, &mut Vec::new()), Vec::new());
    let ended = data.chunks(step).try_for_each(|mut part| {
        while let Some(event) = end.receive(&mut part)? {
            events.push(event);
        }
        assert!(part.is_empty());
        Ok(())
    });
    (events, ended)
}

fuzz_target!(|data: &[u8]| {
    let Some((step, rest)) = stepped(data) else {
        return;
    };
    let Some((mode, rest)) = rest.split_first() else {
        return;
    };
    let offered = match mode % 2 {
        0 => Version::PLAIN,
        _ => Version::WITH_CLOSE,
    };
    let whole = run(offered, rest, rest.len().max(1));
    assert_eq!(whole, run(offered, rest, step));
    let Some((GuestEvent::Ready(version), events)) = whole.0.split_first() else {
        return;
    };
    let (mut guest, mut again) = (GuestEnd::new(), Vec::new());
    let ready = guest.receive(&mut &version.encode()[..], &mut again);
    assert!(matches!(ready, Ok(Some(_))));
    let mut said = vec![GuestEvent::Ready(*version)];
    for event in events {
        if let GuestEvent::Request(request) = event {
            if let Request::Show { notification, .. } = request {
                assert!(notification.is_fit());
            }
            assert!(guest.send(request, &mut again));
            said.push(event.clone());
        }
    }
    assert_eq!(run(offered, &again, again.len()).0, said);
});
