//! Both ends against each other, and dom0's against what no guest of ours says.

use proptest::prelude::*;

use super::dom0_end::{Dom0End, GuestEvent};
use super::fields::{put_length, put_text};
use super::guest_end::{Dom0Event, GuestEnd};
use super::*;

fn plain() -> Notification {
    Notification {
        replaces: 0,
        summary: "Mail".to_owned(),
        body: "From ann".to_owned(),
        actions: vec![Action {
            key: "default".to_owned(),
            label: "Open".to_owned(),
        }],
        urgency: Some(Urgency::Normal),
        timeout: -1,
        resident: false,
        transient: true,
        silent: false,
    }
}

fn show(notification: Notification) -> Request {
    Request::Show {
        sequence: 7,
        notification,
    }
}

/// What dom0 makes of a stream that comes in steps, once it has offered `offered`.
fn heard(offered: Version, stream: &[u8], step: usize) -> (Vec<GuestEvent>, Option<NotifyError>) {
    let (mut end, mut events) = (Dom0End::new(offered, &mut Vec::new()), Vec::new());
    for mut part in stream.chunks(step) {
        loop {
            match end.receive(&mut part) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
        assert!(part.is_empty());
    }
    (events, None)
}

/// A stream of messages of these bodies.
fn stream(version: Version, bodies: &[&[u8]]) -> Vec<u8> {
    let mut stream = version.encode().to_vec();
    for body in bodies {
        fields::message(&mut stream, |output| output.extend(*body));
    }
    stream
}

/// The body of a message with this summary, text and strings of actions, and what is behind them.
fn body(summary: &str, text: &str, actions: &[&str], behind: &[u8]) -> Vec<u8> {
    let mut body = 7_u64.to_le_bytes().to_vec();
    body.extend([0; 4]);
    body.extend([0, 0, 0, 0]);
    body.extend([0; 4]);
    put_text(&mut body, summary);
    put_text(&mut body, text);
    put_length(&mut body, actions.len());
    for action in actions {
        put_text(&mut body, action);
    }
    body.extend(behind);
    body
}

/// No category, the timeout -1, no image.
const END: [u8; 6] = [0, 0xff, 0xff, 0xff, 0xff, 0];

/// The one event of one message.
#[track_caller]
fn only(body: &[u8]) -> GuestEvent {
    let (mut events, error) = heard(Version::PLAIN, &stream(Version::PLAIN, &[body]), usize::MAX);
    assert_eq!(error, None);
    assert_eq!(events.len(), 2);
    events.pop().unwrap()
}

#[track_caller]
fn shown(body: &[u8]) -> Notification {
    match only(body) {
        GuestEvent::Request(Request::Show { notification, .. }) => {
            assert!(notification.is_fit());
            notification
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unfit(body: &[u8]) -> Unfit {
    match only(body) {
        GuestEvent::Unfit { sequence: 7, why } => why,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn malformed(body: &[u8]) -> String {
    let (events, error) = heard(Version::PLAIN, &stream(Version::PLAIN, &[body]), usize::MAX);
    assert_eq!(events.len(), 1);
    error.expect("an error").to_string()
}

#[test]
fn a_message_is_laid_out_as_that_of_qubes() {
    let mut said = Vec::new();
    show(plain()).encode(&mut said);
    let expected = [
        &93_u32.to_le_bytes()[..],
        &7_u64.to_le_bytes(),
        &[0, 0, 0, 0],
        // Not silent, transient, not resident, urgency 1.
        &[0, 1, 0, 1, 1, 0, 0, 0],
        &[0, 0, 0, 0],
        &[4, 0, 0, 0, 0, 0, 0, 0],
        b"Mail",
        &[8, 0, 0, 0, 0, 0, 0, 0],
        b"From ann",
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[7, 0, 0, 0, 0, 0, 0, 0],
        b"default",
        &[4, 0, 0, 0, 0, 0, 0, 0],
        b"Open",
        &END,
    ]
    .concat();
    assert_eq!(said, expected);

    let mut replies = Vec::new();
    Reply::Shown { id: 3, sequence: 7 }.encode(&mut replies);
    Reply::Invoked {
        id: 3,
        action: "default".to_owned(),
    }
    .encode(&mut replies);
    let expected = [
        &[16, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0][..],
        &7_u64.to_le_bytes(),
        &[23, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0],
        &7_u64.to_le_bytes(),
        b"default",
    ]
    .concat();
    assert_eq!(replies, expected);
}

#[test]
fn a_version_is_agreed_and_decides_whether_a_qube_closes() {
    for (offered, expected) in [
        (Version::PLAIN, Version::PLAIN),
        (Version::WITH_CLOSE, Version::WITH_CLOSE),
        // A later Qubes.
        (Version { major: 1, minor: 7 }, Version::PLAIN),
    ] {
        let (mut guest, mut output) = (GuestEnd::new(), Vec::new());
        assert!(!guest.send(&Request::Close { id: 1 }, &mut output));
        let event = guest.receive(&mut &offered.encode()[..], &mut output);
        assert_eq!(event, Ok(Some(Dom0Event::Ready(expected))));
        let closes = guest.send(&Request::Close { id: 1 }, &mut output);
        assert_eq!(closes, expected == Version::WITH_CLOSE);
        let (events, error) = heard(offered, &output, usize::MAX);
        assert_eq!(error, None);
        let close = GuestEvent::Request(Request::Close { id: 1 });
        assert_eq!(events.get(1), closes.then_some(&close));
    }
    let mut close = Vec::new();
    Request::Close { id: 1 }.encode(&mut close);
    let (_, error) = heard(
        Version::PLAIN,
        &[&Version::PLAIN.encode()[..], &close].concat(),
        1,
    );
    assert_eq!(error, Some(NotifyError::Malformed("its kind is unknown")));
    let (major, minor) = (2, 0);
    let later = Version { major, minor };
    let (_, error) = heard(Version::PLAIN, &later.encode(), 1);
    assert_eq!(error, Some(NotifyError::Version(later)));
    let not_offered = Version::WITH_CLOSE;
    let (_, error) = heard(Version::PLAIN, &not_offered.encode(), 1);
    assert_eq!(error, Some(NotifyError::Version(not_offered)));
    let mut guest = GuestEnd::new();
    let error = guest.receive(&mut &later.encode()[..], &mut Vec::new());
    assert_eq!(error, Err(NotifyError::Version(later)));
}

#[test]
fn the_longest_texts_are_whole_and_longer_ones_cut() {
    let longest = ["s".repeat(SUMMARY_MAX), "b".repeat(BODY_MAX)];
    let label = "l".repeat(ACTION_LABEL_MAX);
    let said = shown(&body(&longest[0], &longest[1], &["k", &label], &END));
    assert_eq!([&said.summary, &said.body], [&longest[0], &longest[1]]);
    assert_eq!(said.actions[0].label, label);
    let more = longest.map(|text| text + "x");
    let said = shown(&body(&more[0], &more[1], &["k", &(label + "x")], &END));
    for (text, max) in [
        (&said.summary, SUMMARY_MAX),
        (&said.body, BODY_MAX),
        (&said.actions[0].label, ACTION_LABEL_MAX),
    ] {
        assert_eq!(text.chars().count(), max);
        assert!(text.ends_with('…'));
    }
    let lines = "\n".repeat(BODY_LINES_MAX);
    let said = shown(&body("", &lines[1..], &[], &END));
    assert_eq!(said.body, lines[1..]);
    let said = shown(&body("", &lines, &[], &END));
    assert_eq!(said.body, format!("{}…", &lines[1..]));
}

#[test]
fn actions_are_within_their_limits() {
    let key = "k".repeat(ACTION_KEY_MAX);
    let said = shown(&body("", "", &[&key, "a"].repeat(ACTIONS_MAX), &END));
    assert_eq!(said.actions.len(), ACTIONS_MAX);
    // What is too many is left out.
    let said = shown(&body("", "", &[&key, "a"].repeat(ACTIONS_MAX + 1), &END));
    assert_eq!(said.actions.len(), ACTIONS_MAX);
    for bad in [&*(key + "k"), "", "1", "-a", "a b", "ü", "a\n"] {
        assert_eq!(unfit(&body("", "", &[bad, "a"], &END)), Unfit::ActionKey);
    }
    assert_eq!(unfit(&body("", "", &["a"], &END)), Unfit::OddActions);
}

#[test]
fn the_longest_message_is_read_and_of_more_only_the_beginning_or_nothing() {
    // Everything else in it is so long.
    let rest = body("", "", &[], &END).len();
    let said = shown(&body("", &"x".repeat(FIELDS_MAX - rest), &[], &END));
    assert_eq!(said.body.chars().count(), BODY_MAX);
    let longer = body("", &"x".repeat(FIELDS_MAX - rest + 1), &[], &END);
    assert_eq!(unfit(&longer), Unfit::TooLong);

    // An image of any length is passed over, with the timeout before it.
    let image = |bytes: usize| {
        let mut behind = vec![0, 1, 0, 0, 0, 1];
        behind.extend([0; 12]);
        behind.push(1);
        behind.extend([0; 8]);
        put_length(&mut behind, bytes);
        behind
    };
    let empty = body("Mail", "", &[], &image(0)).len();
    let most = MESSAGE_MAX - empty;
    for bytes in [0, 1, FIELDS_MAX, most] {
        let mut message = body("Mail", "", &[], &image(bytes));
        message.resize(empty + bytes, 0xaa);
        let said = shown(&message);
        assert_eq!((said.summary.as_str(), said.timeout), ("Mail", 1));
        message.push(0);
        let (events, error) = heard(
            Version::PLAIN,
            &stream(Version::PLAIN, &[&message]),
            usize::MAX,
        );
        assert_eq!(events.len(), 1);
        let expected = match bytes {
            bytes if bytes == most => NotifyError::TooLong(MESSAGE_MAX + 1),
            _ => NotifyError::Malformed("its length is not that of its fields"),
        };
        assert_eq!(error, Some(expected));
    }
}

#[test]
fn what_has_not_the_form_of_a_message_ends_the_stream() {
    let good = body("Mail", "", &[], &END);
    shown(&good);
    let with = |at: usize, value: u8| {
        let mut bad = good.clone();
        bad[at] = value;
        malformed(&bad)
    };
    let mut errors = vec![
        with(8, 1),
        with(12, 2),
        with(15, 2),
        // The length of the summary.
        with(20, 200),
        with(27, 0x80),
        // In the summary.
        with(28, 0xff),
        malformed(&good[..good.len() - 1]),
        malformed(&[&good[..], &[0]].concat()),
        malformed(&[]),
    ];
    // A number of actions of which each would take memory.
    let many = good.len() - END.len() - 8;
    errors.push(with(many + 7, 0x7f));
    let expected = [
        "its kind is unknown",
        "a flag is neither 0 nor 1",
        "a flag is neither 0 nor 1",
        "it ends within a field",
        "it ends within a field",
        "a text is not UTF-8",
        "it ends within a field",
        "its length is not that of its fields",
        "it ends within a field",
        "it ends within a field",
    ];
    let expected = expected.map(|why| format!("a malformed message: {why}"));
    assert_eq!(errors, expected);
    let mut timeout = good.clone();
    let at = timeout.len() - 5;
    timeout[at] = 0xfe;
    assert_eq!(unfit(&timeout), Unfit::Timeout);
}

#[test]
fn a_stream_that_failed_stays_so() {
    let mut end = Dom0End::new(Version::PLAIN, &mut Vec::new());
    let bad = [0xff; 4];
    assert!(end.receive(&mut &bad[..]).is_err());
    let good = Version::PLAIN.encode();
    assert_eq!(end.receive(&mut &good[..]), Err(NotifyError::Failed));
    let mut guest = GuestEnd::new();
    assert!(guest.receive(&mut &bad[..], &mut Vec::new()).is_err());
    let again = guest.receive(&mut &good[..], &mut Vec::new());
    assert_eq!(again, Err(NotifyError::Failed));
}

#[test]
fn the_longest_reply_is_read_and_one_more_byte_is_not() {
    let read = |length: usize| {
        let mut replies = Version::PLAIN.encode().to_vec();
        let action = "a".repeat(length);
        Reply::Invoked { id: 1, action }.encode(&mut replies);
        let (mut guest, mut input) = (GuestEnd::new(), &replies[..]);
        let mut next = || guest.receive(&mut input, &mut Vec::new());
        next().unwrap();
        next()
    };
    assert!(matches!(read(REPLY_MAX - 16), Ok(Some(_))));
    let over = read(REPLY_MAX - 15);
    assert_eq!(over, Err(NotifyError::TooLong(REPLY_MAX + 1)));
}

fn texts() -> impl Strategy<Value = String> {
    "(?s).{0,60}"
}

fn notifications() -> impl Strategy<Value = Notification> {
    let action = ("[a-zA-Z][a-z0-9.:_-]{0,9}", texts());
    let action = action.prop_map(|(key, label)| Action { key, label });
    let urgency = prop::sample::select(vec![Urgency::Low, Urgency::Normal, Urgency::Critical]);
    (
        any::<(u32, bool, bool, bool)>(),
        (texts(), texts()),
        prop::collection::vec(action, 0..12),
        prop::option::of(urgency),
        -1..i32::MAX,
    )
        .prop_map(|(flags, (summary, body), actions, urgency, timeout)| {
            let (replaces, resident, transient, silent) = flags;
            Notification {
                replaces,
                summary,
                body,
                actions,
                urgency,
                timeout,
                resident,
                transient,
                silent,
            }
        })
}

fn replies() -> impl Strategy<Value = Reply> {
    let shown = any::<(u32, u64)>().prop_map(|(id, sequence)| Reply::Shown { id, sequence });
    let failed = (
        any::<u64>(),
        prop::option::of((texts(), prop::option::of(texts()))),
    );
    let failed = failed.prop_map(|(sequence, why)| {
        let (name, message) = why.unzip();
        Reply::Failed {
            sequence,
            name,
            message: message.flatten(),
        }
    });
    let closed = any::<(u32, u32)>().prop_map(|(id, why)| {
        let why = Closed::of(why % 5);
        Reply::Closed { id, why }
    });
    let invoked = (any::<u32>(), texts());
    let invoked = invoked.prop_map(|(id, action)| Reply::Invoked { id, action });
    prop_oneof![shown, failed, closed, invoked, Just(Reply::Restarted)]
}

proptest! {
    #[test]
    fn dom0_hears_what_may_be_shown_of_what_was_said(
        said in prop::collection::vec(notifications(), 0..4),
        step in 1..200_usize,
    ) {
        let (mut guest, mut output) = (GuestEnd::new(), Vec::new());
        guest.receive(&mut &Version::PLAIN.encode()[..], &mut output).unwrap();
        let mut expected = vec![GuestEvent::Ready(Version::PLAIN)];
        for notification in said {
            guest.send(&show(notification.clone()), &mut output);
            expected.push(GuestEvent::Request(show(notification.fit().unwrap())));
        }
        prop_assert_eq!(heard(Version::PLAIN, &output, step), (expected, None));
    }

    #[test]
    fn the_qube_hears_what_dom0_says(said in prop::collection::vec(replies(), 0..6), step in 1..99_usize) {
        let mut output = Vec::new();
        let end = Dom0End::new(Version::PLAIN, &mut output);
        for reply in &said {
            end.send(reply, &mut output);
        }
        let (mut guest, mut events) = (GuestEnd::new(), Vec::new());
        for mut part in output.chunks(step) {
            while let Some(event) = guest.receive(&mut part, &mut Vec::new()).unwrap() {
                events.push(event);
            }
        }
        let said = said.into_iter().map(Dom0Event::Reply);
        let expected: Vec<_> = [Dom0Event::Ready(Version::PLAIN)].into_iter().chain(said).collect();
        prop_assert_eq!(events, expected);
    }

    #[test]
    fn no_bytes_make_more_than_may_be_shown(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        at in 0..110_usize,
        step in 1..50_usize,
    ) {
        // A good message with other bytes in it.
        let mut stream = Version::PLAIN.encode().to_vec();
        show(plain()).encode(&mut stream);
        stream.splice(at.min(stream.len()).., bytes);
        let whole = heard(Version::PLAIN, &stream, usize::MAX);
        for event in &whole.0 {
            if let GuestEvent::Request(Request::Show { notification, .. }) = event {
                prop_assert!(notification.is_fit());
            }
        }
        prop_assert_eq!(whole, heard(Version::PLAIN, &stream, step));
    }
}
