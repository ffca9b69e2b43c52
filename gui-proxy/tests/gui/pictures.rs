//! Pictures that a person copies from a qube and pastes to it.

use std::os::fd::AsFd;

use bulkhead_gui::sealed;
use bulkhead_wire::gui::picture::{PICTURE_PART_MAX, PictureSize};
use bulkhead_wire::gui::text::UntrustedTitle;
use bulkhead_wire::gui::{AgentMessage, DaemonMessage, Version};
use bulkhead_wire::proxy::{FromProxy, NotCopied, NotPasted, Payload, ToProxy};

use crate::clipboard::{A, C, CTRL, Desk, SHIFT, V, paste};

fn size(width: u32, height: u32) -> PictureSize {
    PictureSize::new(width, height).expect("a size")
}

/// Bytes of which no two parts are the same.
fn pixels(size: PictureSize) -> Vec<u8> {
    (0..size.bytes())
        .map(|n| (n % 65_521 % 251) as u8)
        .collect()
}

fn copied(size: PictureSize, time: u32) -> FromProxy {
    let length = u32::try_from(size.bytes()).expect("a length");
    let what = Payload::from(size);
    FromProxy::Copied { length, what, time }
}

fn pasted(size: PictureSize) -> ToProxy {
    let length = u32::try_from(size.bytes()).expect("a length");
    paste(length, Payload::from(size))
}

/// Has the person copy, and the agent answer with that.
#[track_caller]
fn copies(desk: &mut Desk, said: impl IntoIterator<Item = AgentMessage>) -> FromProxy {
    desk.stroke(&[CTRL, SHIFT, C]);
    desk.must_be_asked();
    for message in said {
        desk.agent.say(0, message);
    }
    let (said, files) = desk.daemon.hears();
    assert!(files.is_empty(), "{said:?}");
    said
}

#[track_caller]
fn must_not_copy(said: FromProxy, expected: NotCopied) {
    match said {
        FromProxy::NotCopied { time: 1.., why } => assert_eq!(why, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_picture_is_carried_part_by_part_and_windows_go_on() {
    let mut desk = Desk::start(&[]);
    let size = size(600, 400);
    let pixels = pixels(size);
    desk.stroke(&[CTRL, SHIFT, C]);
    desk.must_be_asked();
    desk.agent.say(0, AgentMessage::Picture(Some(size)));
    for part in pixels.chunks(PICTURE_PART_MAX) {
        desk.agent.say(0, AgentMessage::PicturePart(part.to_vec()));
        let title = UntrustedTitle::new("another");
        desk.agent.say(5, AgentMessage::Title(Box::new(title)));
    }
    let (said, files) = desk.daemon.hears();
    let FromProxy::Copied { time, .. } = said else {
        panic!("{said:?}");
    };
    assert_eq!(said, copied(size, time));
    let read = sealed::read(&files[0], pixels.len()).expect("pixels");
    assert!(read == pixels);
}

#[test]
fn a_picture_is_pasted_between_what_the_person_does() {
    let mut desk = Desk::start(&[]);
    let size = size(2048, 2048);
    let pixels = pixels(size);
    let file = sealed::make(&pixels).expect("a file");
    desk.daemon.say(&pasted(size), &[file.as_fd()]);
    let told = desk.agent.until("a picture", |_, message| match message {
        DaemonMessage::Picture(size) => Some(*size),
        _ => None,
    });
    assert_eq!(told, Some(size));
    // The agent has read no more, and more is to come than a channel holds.
    desk.stroke(&[A]);
    let mut got = Vec::new();
    desk.agent.until("a key", |_, message| match message {
        DaemonMessage::PicturePart(part) => {
            got.extend_from_slice(part);
            None
        }
        DaemonMessage::Key { keycode, .. } => (*keycode == u32::from(A)).then_some(()),
        _ => None,
    });
    assert!(got.len() < pixels.len(), "the key came last");
    // What is pasted after it takes its place.
    let text = sealed::make(b"later").expect("a file");
    let later = paste(5, Payload::Text);
    desk.daemon.say(&later, &[text.as_fd()]);
    let told = desk.agent.until("a text", |_, message| match message {
        DaemonMessage::PicturePart(part) => {
            got.extend_from_slice(part);
            None
        }
        DaemonMessage::Clipboard(text) => Some(text.clone()),
        _ => None,
    });
    assert_eq!(told, b"later");
    assert!(got.len() < pixels.len(), "all of the picture came");
    got.clear();
    desk.daemon.say(&pasted(size), &[file.as_fd()]);
    while got.len() < pixels.len() {
        desk.agent.until("a part", |_, message| match message {
            DaemonMessage::PicturePart(part) => {
                got.extend_from_slice(part);
                Some(())
            }
            _ => None,
        });
    }
    assert!(got == pixels);
    for _ in 0..3 {
        desk.must_tell(Ok(()));
    }
    desk.stroke(&[CTRL, SHIFT, V]);
    desk.must_ask_to_paste();
}

#[test]
fn one_byte_more_than_a_picture_may_have_is_too_much() {
    let announced = |width, height| [AgentMessage::Picture(PictureSize::new(width, height))];
    let mut desk = Desk::start(&["--picture-max", "24"]);
    for (width, height) in [(7, 1), (1, 7), (4096, 4096), (4097, 4096)] {
        let said = copies(&mut desk, announced(width, height));
        must_not_copy(said, NotCopied::TooLarge);
        // Nobody told the agent.
        desk.agent.say(0, AgentMessage::PicturePart(vec![7; 28]));
    }
    desk.stroke(&[CTRL, SHIFT, C]);
    desk.must_be_asked();
    let size = size(3, 2);
    desk.agent.say(0, AgentMessage::Picture(Some(size)));
    desk.agent.say(0, AgentMessage::PicturePart(vec![7; 24]));
    let (said, files) = desk.daemon.hears();
    assert!(
        matches!(said, FromProxy::Copied { length: 24, .. }),
        "{said:?}"
    );
    assert_eq!(sealed::read(&files[0], 24).expect("pixels"), [7; 24]);

    let mut none = Desk::start(&["--picture-max", "0"]);
    let said = copies(&mut none, announced(1, 1));
    must_not_copy(said, NotCopied::TooLarge);
}

#[test]
fn a_picture_that_is_not_as_announced_goes_nowhere() {
    let mut desk = Desk::start(&[]);
    let picture = || AgentMessage::Picture(PictureSize::new(2, 2));
    let part = |len| AgentMessage::PicturePart(vec![7; len]);
    for said in [
        vec![picture(), part(17)],
        vec![picture(), part(15), part(2)],
        vec![picture(), part(1), part(PICTURE_PART_MAX)],
    ] {
        let said = copies(&mut desk, said);
        must_not_copy(said, NotCopied::Malformed);
    }
    desk.proxy
        .must_say("a picture that is not as large as it was announced");
    // Unasked, and twice.
    desk.agent.say(0, picture());
    desk.agent.say(0, part(16));
    desk.proxy.must_say("a clipboard that nobody asked for");
    let twice = [picture(), part(1), picture(), part(16)];
    must_not_copy(copies(&mut desk, twice), NotCopied::Malformed);
    // Text in the middle of one.
    desk.stroke(&[CTRL, SHIFT, C]);
    desk.must_be_asked();
    desk.agent.say(0, picture());
    desk.answer(b"text".to_vec());
    desk.agent.say(0, part(16));
    let (said, _) = desk.daemon.hears();
    assert!(
        matches!(said, FromProxy::Copied { length: 16, .. }),
        "{said:?}"
    );
}

#[test]
fn files_that_are_no_picture_are_not_pasted() {
    let mut desk = Desk::start(&[]);
    let file = sealed::make(&[7; 24]).expect("a file");
    let picture = |length, width, height| paste(length, Payload::Picture { width, height });
    for (length, width, height, why) in [
        (24, 3, 3, "24 bytes are no picture of 3 by 3"),
        (0, 0, 0, "0 bytes are no picture of 0 by 0"),
        (20, 5, 1, "the file has 24 bytes, and 20 were announced"),
    ] {
        desk.daemon
            .say(&picture(length, width, height), &[file.as_fd()]);
        desk.proxy.must_say(&format!("nothing is pasted: {why}"));
        desk.must_tell(Err(NotPasted::Malformed));
    }
    desk.daemon.say(&picture(24, 3, 2), &[file.as_fd()]);
    desk.must_tell(Ok(()));
    let got = desk.agent.until("a part", |_, message| match message {
        DaemonMessage::PicturePart(part) => Some(part.clone()),
        _ => None,
    });
    assert_eq!(got, [7; 24]);
}

#[test]
fn an_agent_of_qubes_hears_of_no_picture_and_may_say_none() {
    let mut desk = Desk::start_old(Version::PLAIN, &[]);
    let size = size(3, 2);
    let file = sealed::make(&[7; 24]).expect("a file");
    desk.daemon.say(&pasted(size), &[file.as_fd()]);
    desk.proxy
        .must_say("nothing is pasted: the agent does not know pictures");
    desk.must_tell(Err(NotPasted::NoPictures));
    desk.agent.say(0, AgentMessage::Picture(Some(size)));
    let last = desk.proxy.failed();
    assert!(last.contains("unknown type 16896"), "{last}");
}
