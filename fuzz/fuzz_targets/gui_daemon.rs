//! What a GUI daemon says, as the agent reads it: splits change nothing, and what was read says the
//! same again.
#![no_main]

use bulkhead_fuzz::stepped;
use bulkhead_wire::gui::agent_end::{AgentEnd, DaemonEvent};
use bulkhead_wire::gui::{GuiError, Version};
use libfuzzer_sys::fuzz_target;

type End = (Vec<DaemonEvent>, Result<(), GuiError>);

fn run(data: &[u8], step: usize) -> End {
    let mut end = AgentEnd::new(Version::NEWEST, &mut Vec::new());
    let mut events = Vec::new();
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
    let whole = run(rest, rest.len().max(1));
    assert_eq!(whole, run(rest, step));
    let Some((DaemonEvent::Ready(version, screen), events)) = whole.0.split_first() else {
        return;
    };
    let mut again = version.encode().to_vec();
    again.extend_from_slice(&screen.encode());
    for event in events {
        if let DaemonEvent::Message(window, message) = event {
            message.encode(*version, *window, &mut again);
        }
    }
    assert_eq!(run(&again, again.len()).0.get(1..), Some(events));
});
