//! What a GUI agent says, as the daemon reads it: splits change nothing, and what was read says the
//! same again.
#![no_main]

use bulkhead_fuzz::stepped;
use bulkhead_wire::gui::daemon_end::{AgentEvent, DaemonEnd};
use bulkhead_wire::gui::text::Letters;
use bulkhead_wire::gui::picture::{PICTURE_MAX, PICTURE_PART_MAX};
use bulkhead_wire::gui::{AgentMessage, GuiError, PAGE_LEN, Screen, Version};
use libfuzzer_sys::fuzz_target;

const SCREEN: Screen = Screen {
    width: 1920,
    height: 1080,
    depth: 24,
};

type End = (Vec<AgentEvent>, Result<(), GuiError>, Vec<u8>);

fn run(data: &[u8], step: usize) -> End {
    let (mut end, mut events, mut output) = (DaemonEnd::new(Version::NEWEST, SCREEN), Vec::new(), Vec::new());
    let ended = data.chunks(step).try_for_each(|mut part| {
        while let Some(event) = end.receive(&mut part, &mut output)? {
            events.push(event);
        }
        assert!(part.is_empty());
        Ok(())
    });
    (events, ended, output)
}

fn check(message: &AgentMessage) {
    match message {
        AgentMessage::Dump(dump) => assert!(dump.pages.len() * PAGE_LEN >= dump.size.bytes()),
        AgentMessage::Title(title) => {
            let ascii = title.shown(Letters::Ascii);
            assert!(ascii.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            assert!(!title.shown(Letters::Utf8).contains(char::is_control));
        }
        AgentMessage::Configure { size, .. } => assert!(!size.is_empty()),
        AgentMessage::Picture(Some(size)) => assert!((4..=PICTURE_MAX).contains(&size.bytes())),
        AgentMessage::PicturePart(bytes) => assert!(bytes.len() <= PICTURE_PART_MAX),
        _ => {}
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((step, rest)) = stepped(data) else {
        return;
    };
    let whole = run(rest, rest.len().max(1));
    assert_eq!(whole, run(rest, step));
    let Some((AgentEvent::Ready(version), events)) = whole.0.split_first() else {
        return;
    };
    let mut again = version.encode().to_vec();
    let mut said = vec![AgentEvent::Ready(*version)];
    for event in events {
        if let AgentEvent::Message(window, message) = event {
            check(message);
            message.encode(*version, *window, &mut again);
            said.push(event.clone());
        }
    }
    assert_eq!(run(&again, again.len()).0, said);
});
