//! Both ends of the control link: any split of the bytes gives the same events, and what comes out
//! is what the sanitising rules allow.
#![no_main]

use bulkhead_fuzz::stepped;
use bulkhead_wire::qrexec::control::{AgentLink, ControlError, DaemonEvent, DaemonLink};
use bulkhead_wire::qrexec::local::{ClientSide, DaemonSide};
use bulkhead_wire::qrexec::{SERVICE_FIELD_MAX, Version, hello};
use libfuzzer_sys::fuzz_target;

type Seen<E> = (Vec<E>, Option<ControlError>, Vec<u8>);

fn daemon(greeted: bool, data: &[u8], step: usize) -> Seen<DaemonEvent> {
    let (mut link, mut events, mut reply) = (DaemonLink::new(), Vec::new(), Vec::new());
    if greeted {
        link.push(&mut &hello(Version::V4)[..], &mut reply)
            .expect("hello");
    }
    for mut part in data.chunks(step) {
        loop {
            match link.push(&mut part, &mut reply) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(e) => return (events, Some(e), reply),
            }
        }
        assert!(part.is_empty(), "all of a part is taken");
    }
    (events, None, reply)
}

fn agent(greeted: bool, data: &[u8], step: usize) -> Seen<String> {
    let (mut link, mut events) = (AgentLink::start().0, Vec::new());
    if greeted {
        link.push(&mut &hello(Version::V4)[..]).expect("hello");
    }
    for mut part in data.chunks(step) {
        loop {
            match link.push(&mut part) {
                Ok(Some(event)) => events.push(format!("{event:?}")),
                Ok(None) => break,
                Err(e) => return (events, Some(e), Vec::new()),
            }
        }
    }
    (events, None, Vec::new())
}

fuzz_target!(|data: &[u8]| {
    let Some((step, rest)) = stepped(data) else {
        return;
    };
    let Some((mode, rest)) = rest.split_first() else {
        return;
    };
    let greeted = mode & 1 == 1;
    match mode >> 1 & 3 {
        0 | 1 => {
            let whole = daemon(greeted, rest, rest.len().max(1));
            assert_eq!(whole, daemon(greeted, rest, step));
            for event in whole.0 {
                match event {
                    DaemonEvent::Request(request) => {
                        let plain = |text: &str, more: &[u8]| {
                            text.bytes()
                                .all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
                        };
                        assert!(
                            plain(&request.service, b"_.-+") && plain(&request.target, b"_.-@:")
                        );
                        assert!(plain(&request.source, b"_.-@:"));
                        assert!(!request.service.is_empty() && !request.service.starts_with('+'));
                        assert!(request.service.len() < SERVICE_FIELD_MAX);
                        assert!(request.target.len() < 64 && request.source.len() < 64);
                        assert!(request.ident.announced().is_none_or(|it| it.is_possible()));
                    }
                    DaemonEvent::Terminated(end) => assert!((513..=768).contains(&end.port)),
                    DaemonEvent::Connected { .. } | DaemonEvent::Withdrawn(_) => {}
                }
            }
        }
        2 => {
            let whole = agent(greeted, rest, rest.len().max(1));
            assert_eq!(whole, agent(greeted, rest, step));
        }
        _ => {
            // The local sockets: whatever is said, no more than one command comes of it.
            let (mut side, mut commands) = (DaemonSide::start().0, 0);
            for part in rest.chunks(step) {
                match side.push(part) {
                    Ok(command) => commands += usize::from(command.is_some()),
                    Err(_) => break,
                }
            }
            assert!(commands <= 1);
            let (mut side, mut input) = (ClientSide::new(), rest);
            while let Ok(Some(_)) = side.push(&mut input) {}
        }
    }
});
