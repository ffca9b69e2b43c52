//! What a person copies from a qube and pastes to it, with keys that no qube sees.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_gui::sealed;
use bulkhead_wire::gui::{AgentMessage, CLIPBOARD_MAX, CLIPBOARD_MAX_OLD, DaemonMessage, Version};
use bulkhead_wire::proxy::{FromProxy, NotCopied, NotPasted, Payload, ToProxy};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use x11rb::protocol::xproto::ConnectionExt as _;

use crate::agent::{Agent, size};
use crate::daemon::Daemon;
use crate::screen::Screen;
use crate::session::{Proxy, Session};
use crate::windows::pattern;

/// Keys, as X numbers them.
pub(crate) const CTRL: u8 = 37;
pub(crate) const A: u8 = 38;
pub(crate) const SHIFT: u8 = 50;
pub(crate) const C: u8 = 54;
pub(crate) const V: u8 = 55;
const ALT: u8 = 64;

/// A qube with a window that has the keyboard, and its daemon.
pub(crate) struct Desk {
    // It ends last.
    pub(crate) agent: Agent,
    pub(crate) daemon: Daemon,
    pub(crate) proxy: Proxy,
    screen: Screen,
    _session: Session,
}

/// The window.
const WINDOW: u32 = 5;

impl Desk {
    #[track_caller]
    pub(crate) fn start(more: &[&str]) -> Self {
        Self::start_old(Version::NEWEST, more)
    }

    #[track_caller]
    pub(crate) fn start_old(version: Version, more: &[&str]) -> Self {
        let session = Session::start();
        let screen = Screen::of(&session);
        let (proxy, mut agent, daemon) = Daemon::start_old(&session, "work", version, more);
        show(&mut agent, &screen);
        Self {
            agent,
            daemon,
            proxy,
            screen,
            _session: session,
        }
    }

    /// Presses keys one after the other, and releases them in the other order.
    pub(crate) fn stroke(&self, keys: &[u8]) {
        stroke(&self.screen, keys);
    }

    /// Waits until the agent is asked.
    #[track_caller]
    pub(crate) fn must_be_asked(&mut self) {
        let id = self.agent.until("a request", |id, message| {
            (*message == DaemonMessage::ClipboardRequest).then_some(id)
        });
        assert_eq!(id, WINDOW);
        self.must_have_told();
    }

    /// The daemon knows that the person copies.
    #[track_caller]
    fn must_have_told(&self) {
        let (said, files) = self.daemon.hears();
        assert!(
            matches!(said, FromProxy::CopyAsked { time: 1.. }),
            "{said:?}"
        );
        assert!(files.is_empty());
    }

    pub(crate) fn answer(&mut self, text: Vec<u8>) {
        self.agent.say(0, AgentMessage::Clipboard(Some(text)));
    }

    #[track_caller]
    fn copies(&mut self, text: Vec<u8>) -> (FromProxy, Vec<OwnedFd>) {
        self.stroke(&[CTRL, SHIFT, C]);
        self.must_be_asked();
        self.answer(text);
        self.daemon.hears()
    }

    #[track_caller]
    fn must_get(&mut self, text: &[u8]) {
        let got = self.agent.until("a clipboard", |_, message| match message {
            DaemonMessage::Clipboard(text) => Some(text.clone()),
            _ => None,
        });
        assert!(got == text, "{} bytes", got.len());
    }

    /// The daemon is told what became of a paste.
    #[track_caller]
    pub(crate) fn must_tell(&self, became: Result<(), NotPasted>) {
        let number = PASTE;
        let expected = match became {
            Ok(()) => FromProxy::Pasted { number },
            Err(why) => FromProxy::NotPasted { number, why },
        };
        let (said, files) = self.daemon.hears();
        assert_eq!((said, files.len()), (expected, 0));
    }

    #[track_caller]
    pub(crate) fn must_ask_to_paste(&self) {
        let (said, files) = self.daemon.hears();
        assert!(
            matches!(said, FromProxy::PasteAsked { time: 1.. }),
            "{said:?}"
        );
        assert!(files.is_empty());
    }
}

/// The number of every paste that a test asks for.
const PASTE: u64 = 7;

/// A paste of so many bytes.
pub(crate) fn paste(length: u32, what: Payload) -> ToProxy {
    ToProxy::Paste {
        number: PASTE,
        length,
        what,
    }
}

/// The same of text.
fn text_of(length: u32) -> ToProxy {
    paste(length, Payload::Text)
}

fn show(agent: &mut Agent, screen: &Screen) {
    screen.point(900, 900);
    agent.window(WINDOW, (100, 100), size(300, 200), pattern);
    screen.focus(screen.must_have(1)[0]);
    agent.until("the keyboard", |_, message| {
        matches!(message, DaemonMessage::Focus { here: true, .. }).then_some(())
    });
}

pub(crate) fn stroke(screen: &Screen, keys: &[u8]) {
    keys.iter().for_each(|key| screen.key(*key, true));
    keys.iter().rev().for_each(|key| screen.key(*key, false));
}

/// The keys that come up to the end of one that is told, and whether they go down.
fn keys_to(agent: &mut Agent, last: u8) -> Vec<(u8, bool)> {
    let mut keys = Vec::new();
    while keys.last() != Some(&(last, false)) {
        keys.push(agent.until("a key", |_, message| match message {
            DaemonMessage::Key { down, keycode, .. } => {
                Some((u8::try_from(*keycode).expect("a key"), *down))
            }
            _ => None,
        }));
    }
    keys
}

/// What comes of the modifiers of a keystroke.
const MODIFIERS: [(u8, bool); 4] = [(CTRL, true), (SHIFT, true), (SHIFT, false), (CTRL, false)];

#[test]
fn what_is_copied_is_carried_in_a_file_that_nobody_can_change() {
    let mut desk = Desk::start(&[]);
    desk.screen.key(CTRL, true);
    desk.screen.key(SHIFT, true);
    desk.screen.key(C, true);
    let mut heard = Vec::new();
    desk.agent.until("a request", |id, message| {
        if let DaemonMessage::Key { keycode, .. } = message {
            heard.push(*keycode);
        }
        (*message == DaemonMessage::ClipboardRequest).then_some(id)
    });
    assert_eq!(heard, [u32::from(CTRL), SHIFT.into()]);
    desk.must_have_told();
    let text = "Grüße\0\n".as_bytes();
    desk.answer(text.to_vec());
    let (said, mut files) = desk.daemon.hears();
    match said {
        FromProxy::Copied {
            length,
            what: Payload::Text,
            time: 1..,
        } => assert_eq!(length as usize, text.len()),
        other => panic!("{other:?}"),
    }
    let file = files.pop().expect("a file");
    assert!(files.is_empty());
    assert_eq!(sealed::read(&file, text.len()).expect("text"), text);
    assert!(File::from(file).write_all(b"x").is_err());
    // The modifiers come up and the key does not, in whatever order.
    for key in [CTRL, C, SHIFT] {
        desk.screen.key(key, false);
    }
    desk.stroke(&[A]);
    let rest = [(CTRL, false), (SHIFT, false), (A, true), (A, false)];
    assert_eq!(keys_to(&mut desk.agent, A), rest);
}

#[test]
fn what_the_daemon_allows_is_pasted() {
    let mut desk = Desk::start(&[]);
    desk.stroke(&[CTRL, SHIFT, V]);
    desk.must_ask_to_paste();
    assert_eq!(keys_to(&mut desk.agent, CTRL), MODIFIERS);
    for text in [&b"x"[..], &[7; CLIPBOARD_MAX]] {
        let length = u32::try_from(text.len()).expect("a length");
        let file = sealed::make(text).expect("a file");
        desk.daemon.say(&text_of(length), &[file.as_fd()]);
        desk.must_get(text);
        desk.must_tell(Ok(()));
    }
}

#[test]
fn the_daemon_is_told_that_an_agent_which_does_not_read_was_pasted_nothing() {
    let mut desk = Desk::start(&[]);
    let file = sealed::make(&[7; CLIPBOARD_MAX]).expect("a file");
    let length = u32::try_from(CLIPBOARD_MAX).expect("a length");
    // Some are in the channel, and one waits for it; no other may wait behind that.
    let mut pasted = 0;
    let why = loop {
        desk.daemon.say(&text_of(length), &[file.as_fd()]);
        match desk.daemon.hears().0 {
            FromProxy::Pasted { number: PASTE } => pasted += 1,
            FromProxy::NotPasted { number: PASTE, why } => break why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(why, NotPasted::Unread);
    for _ in 0..pasted {
        desk.must_get(&[7; CLIPBOARD_MAX]);
    }
    desk.daemon.say(&text_of(length), &[file.as_fd()]);
    desk.must_tell(Ok(()));
}

#[test]
fn a_copy_and_a_paste_of_all_that_can_be_do_not_wait_for_each_other() {
    let mut desk = Desk::start(&["--clipboard-max", "256000"]);
    desk.stroke(&[CTRL, SHIFT, C]);
    desk.must_be_asked();
    let text = vec![7; CLIPBOARD_MAX];
    let length = u32::try_from(text.len()).expect("a length");
    let file = sealed::make(&text).expect("a file");
    desk.daemon.say(&text_of(length), &[file.as_fd()]);
    desk.must_tell(Ok(()));
    // The agent reads nothing until it is heard.
    desk.answer(text.clone());
    let (said, files) = desk.daemon.hears();
    assert!(matches!(said, FromProxy::Copied { .. }), "{said:?}");
    assert_eq!(sealed::read(&files[0], text.len()).expect("text"), text);
    desk.must_get(&text);
}

#[test]
fn a_clipboard_that_nobody_asked_for_goes_nowhere() {
    let mut desk = Desk::start(&[]);
    desk.answer(b"unasked".to_vec());
    desk.proxy.must_say("a clipboard that nobody asked for");
    let (said, files) = desk.copies(b"asked".to_vec());
    assert!(
        matches!(said, FromProxy::Copied { length: 5, .. }),
        "{said:?}"
    );
    assert_eq!(sealed::read(&files[0], 5).expect("text"), b"asked");
    // One more than was asked for.
    desk.answer(b"again".to_vec());
    desk.agent.sync();
    desk.stroke(&[CTRL, SHIFT, V]);
    desk.must_ask_to_paste();
}

#[test]
fn one_byte_more_than_may_be_is_not_carried_and_nothing_is_neither() {
    let mut desk = Desk::start(&["--clipboard-max", "300"]);
    for (length, expected) in [
        (301, Some(NotCopied::TooLarge)),
        (CLIPBOARD_MAX, Some(NotCopied::TooLarge)),
        (0, Some(NotCopied::Empty)),
        (300, None),
    ] {
        let (said, files) = desk.copies(vec![7; length]);
        match (said, expected) {
            (FromProxy::NotCopied { time: 1.., why }, Some(expected)) => {
                assert_eq!((why, files.len()), (expected, 0));
            }
            (FromProxy::Copied { length: 300, .. }, None) => assert_eq!(files.len(), 1),
            other => panic!("{other:?}"),
        }
    }
    desk.stroke(&[CTRL, SHIFT, C]);
    desk.must_be_asked();
    desk.agent.say(0, AgentMessage::Clipboard(None));
    let why = NotCopied::TooLarge;
    match desk.daemon.hears().0 {
        FromProxy::NotCopied { why: said, .. } => assert_eq!(said, why),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_agent_that_does_not_answer_in_time_is_not_waited_for() {
    let mut desk = Desk::start(&[]);
    desk.stroke(&[CTRL, SHIFT, C]);
    desk.must_be_asked();
    let (said, _) = desk.daemon.hears();
    let why = NotCopied::NoAnswer;
    assert!(
        matches!(said, FromProxy::NotCopied { why: w, .. } if w == why),
        "{said:?}"
    );
    desk.answer(b"late".to_vec());
    desk.proxy.must_say("a clipboard that nobody asked for");
}

#[test]
fn files_that_are_not_what_was_announced_are_not_pasted() {
    let mut desk = Desk::start(&[]);
    let text = b"five!";
    let file = sealed::make(text).expect("a file");
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let open = File::from(memfd_create("x", flags).expect("a file"));
    (&open).write_all(text).expect("a file");
    let half = open.try_clone().expect("a file");
    fcntl_add_seals(&half, SealFlags::GROW | SealFlags::SHRINK).expect("seals");
    let (pipe, _writer) = std::io::pipe().expect("a pipe");
    let over = u32::try_from(CLIPBOARD_MAX).expect("a length") + 1;
    let long = sealed::make(&[7; CLIPBOARD_MAX + 1]).expect("a file");
    let wrong: [(u32, &[BorrowedFd<'_>], &str); 7] = [
        (5, &[], "it came with 0 files"),
        (5, &[file.as_fd(), file.as_fd()], "it came with 2 files"),
        (5, &[half.as_fd()], "the file can still be changed"),
        (5, &[pipe.as_fd()], "the file can still be changed"),
        (
            4,
            &[file.as_fd()],
            "the file has 5 bytes, and 4 were announced",
        ),
        (
            6,
            &[file.as_fd()],
            "the file has 5 bytes, and 6 were announced",
        ),
        (over, &[long.as_fd()], "256001 bytes are more than 256000"),
    ];
    for (length, files, why) in wrong {
        desk.daemon.say(&text_of(length), files);
        desk.proxy.must_say(&format!("nothing is pasted: {why}"));
        desk.must_tell(Err(NotPasted::Malformed));
    }
    desk.daemon.say(&text_of(5), &[file.as_fd()]);
    desk.must_get(text);
    desk.must_tell(Ok(()));
}

#[test]
fn an_older_agent_gets_no_more_than_it_can_take() {
    let version = Version::DUMPS_ANSWERED;
    let mut desk = Desk::start_old(version, &["--clipboard-max", "256000"]);
    for length in [CLIPBOARD_MAX_OLD + 1, CLIPBOARD_MAX_OLD] {
        let file = sealed::make(&vec![7; length]).expect("a file");
        let length = u32::try_from(length).expect("a length");
        desk.daemon.say(&text_of(length), &[file.as_fd()]);
    }
    desk.proxy.must_say("it is more than the agent can take");
    desk.must_tell(Err(NotPasted::TooLarge));
    desk.must_tell(Ok(()));
    desk.must_get(&[7; CLIPBOARD_MAX_OLD]);
}

#[test]
fn without_a_daemon_keystrokes_are_kept_and_do_nothing() {
    let session = Session::start();
    let screen = Screen::of(&session);
    let (proxy, mut agent) = session.qube("work", 0xcc00);
    show(&mut agent, &screen);
    stroke(&screen, &[CTRL, SHIFT, C]);
    stroke(&screen, &[CTRL, SHIFT, V]);
    proxy.must_say("nothing is copied: there is no daemon");
    proxy.must_say("nothing is pasted: there is no daemon");
    for _ in 0..2 {
        assert_eq!(keys_to(&mut agent, CTRL), MODIFIERS);
    }
    // What is no keystroke is the qube's.
    stroke(&screen, &[CTRL, C]);
    let all = [(CTRL, true), (C, true), (C, false), (CTRL, false)];
    assert_eq!(keys_to(&mut agent, CTRL), all);
}

#[test]
fn keystrokes_are_what_was_asked_for_on_the_keyboard_that_there_is() {
    let mut desk = Desk::start(&["--copy-keys", "Alt-F1", "--paste-keys", "Ctrl-Alt-q"]);
    desk.stroke(&[CTRL, SHIFT, C]);
    let keys = keys_to(&mut desk.agent, CTRL);
    assert!(keys.contains(&(C, true)), "{keys:?}");
    desk.stroke(&[ALT, 67]);
    desk.must_be_asked();
    desk.answer(b"x".to_vec());
    assert!(matches!(desk.daemon.hears().0, FromProxy::Copied { .. }));
    // The keyboard becomes one that has that letter where another was.
    let connection = &desk.screen.connection;
    let per_key = |key| {
        let asked = connection.get_keyboard_mapping(key, 1).expect("a keyboard");
        asked.reply().expect("a keyboard").keysyms
    };
    let (q, a) = (per_key(24), per_key(A));
    for (key, symbols) in [(24, &a), (A, &q)] {
        let count = u8::try_from(symbols.len()).expect("a count");
        let set = connection.change_keyboard_mapping(1, key, count, symbols);
        set.expect("a keyboard").check().expect("a keyboard");
    }
    desk.stroke(&[CTRL, ALT, A]);
    desk.must_ask_to_paste();
}

#[test]
fn keystrokes_that_no_person_makes_do_not_count() {
    let mut desk = Desk::start(&[]);
    let most = usize::try_from(bulkhead_gui::clipboard::KEYSTROKES_BURST).expect("a count");
    bulkhead_testing::wait_for("too many", || {
        desk.stroke(&[CTRL, SHIFT, V]);
        desk.proxy
            .log()
            .contains("too many keystrokes")
            .then_some(())
    });
    for _ in 0..most {
        desk.must_ask_to_paste();
    }
    desk.agent.sync();
    desk.proxy.must_run();
}
