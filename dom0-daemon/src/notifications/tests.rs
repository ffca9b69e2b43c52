//! The board, between qubes and sessions that say what no real ones do.

use std::sync::Mutex;

use proptest::prelude::*;

use super::*;

/// What a call was answered.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<ToDecoder>>);

impl Answers for Heard {
    fn answer(&self, message: ToDecoder) {
        self.0.lock().unwrap().push(message);
    }
}

impl Heard {
    fn take(&self) -> Vec<ToDecoder> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn open(board: &Arc<Board>, share: &str) -> (Call, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let call = board.open(Source {
        qube: share.to_owned(),
        color: "0x3465a4".to_owned(),
        share: share.to_owned(),
        answers: Arc::clone(&heard) as Arc<dyn Answers>,
    });
    (call, heard)
}

fn said(replaces: u32) -> notify::Notification {
    notify::Notification {
        replaces,
        summary: "Mail".to_owned(),
        body: "From ann".to_owned(),
        actions: vec![notify::Action {
            key: "open".to_owned(),
            label: "Open".to_owned(),
        }],
        urgency: None,
        timeout: -1,
        resident: false,
        transient: false,
        silent: false,
    }
}

/// A session and what it was ordered.
struct Session {
    offer: NotificationOffer,
    orders: mpsc::Receiver<NotificationOrder>,
}

fn session(board: &Arc<Board>) -> Session {
    let mut offer = board.offer();
    let orders = offer.orders().unwrap();
    assert!(offer.orders().is_none());
    Session { offer, orders }
}

impl Session {
    fn ordered(&mut self) -> Option<NotificationOrder> {
        self.orders.try_recv().ok()
    }

    /// The number of what is to be shown.
    #[track_caller]
    fn must_show(&mut self) -> u64 {
        match self.ordered() {
            Some(NotificationOrder::Show(notification)) => notification.number,
            other => panic!("{other:?}"),
        }
    }

    /// Shows what is to be shown.
    #[track_caller]
    fn shows(&mut self) -> u64 {
        let number = self.must_show();
        self.offer.news(number, &NotificationNews::Shown);
        number
    }

    #[track_caller]
    fn must_close(&mut self, number: u64) {
        let order = self.ordered();
        assert_eq!(order, Some(NotificationOrder::Close { number }));
    }
}

/// A time so long after another that no rate matters.
fn after(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

fn refused(sequence: u64, why: Refusal) -> ToDecoder {
    ToDecoder::Refused { sequence, why }
}

fn shown(sequence: u64, id: u32) -> ToDecoder {
    ToDecoder::Shown { sequence, id }
}

fn closed(id: u32, why: Closed) -> ToDecoder {
    ToDecoder::Closed { id, why }
}

#[test]
fn a_qube_hears_what_becomes_of_what_it_shows() {
    let board = Arc::new(Board::default());
    let mut session = session(&board);
    let (call, heard) = open(&board, "work");
    call.show(1, said(0));
    assert_eq!(heard.take(), []);
    let order = session.ordered().unwrap();
    let NotificationOrder::Show(notification) = &order else {
        panic!("{order:?}");
    };
    assert_eq!(notification.qube, "work");
    assert_eq!(notification.color, "0x3465a4");
    let number = notification.number;
    session.offer.news(number, &NotificationNews::Shown);
    assert_eq!(heard.take(), [shown(1, 1)]);
    // One of its buttons, and one that it does not have.
    for key in ["open", "close"] {
        let key = key.to_owned();
        session
            .offer
            .news(number, &NotificationNews::Clicked { key });
    }
    let (id, action) = (1, "open".to_owned());
    assert_eq!(heard.take(), [ToDecoder::Invoked { id, action }]);
    // In the place of the first.
    call.show(2, said(1));
    assert_eq!(session.shows(), number);
    assert_eq!(heard.take(), [shown(2, 1)]);
    // Another one.
    call.show(3, said(0));
    let other = session.shows();
    assert_eq!(heard.take(), [shown(3, 2)]);
    let dismissed = NotificationNews::Closed { reason: 2 };
    session.offer.news(number, &dismissed);
    session.offer.news(number, &dismissed);
    assert_eq!(heard.take(), [closed(1, Closed::Dismissed)]);
    call.close(1);
    call.close(2);
    assert_eq!(heard.take(), [closed(2, Closed::ByOrder)]);
    session.must_close(other);
    assert_eq!(session.ordered(), None);
    // What was closed can be shown again under its id, as applications expect.
    call.show(4, said(1));
    session.shows();
    assert_eq!(heard.take(), [shown(4, 1)]);
}

#[test]
fn a_desktop_that_shows_nothing_is_an_error() {
    let board = Arc::new(Board::default());
    let (call, heard) = open(&board, "work");
    call.show(1, said(0));
    assert_eq!(heard.take(), [refused(1, Refusal::Nobody)]);
    let mut session = session(&board);
    call.show(2, said(0));
    let number = session.must_show();
    session.offer.news(number, &NotificationNews::NotShown);
    assert_eq!(heard.take(), [refused(2, Refusal::Desktop)]);
    assert!(board.state().shown.is_empty());
    // Shown once, it stays when it cannot be replaced.
    call.show(3, said(0));
    session.shows();
    call.show(4, said(2));
    let number = session.must_show();
    session.offer.news(number, &NotificationNews::NotShown);
    assert_eq!(heard.take(), [shown(3, 2), refused(4, Refusal::Desktop)]);
    assert_eq!(board.state().shown.len(), 1);
}

#[test]
fn what_is_shown_after_it_was_given_up_is_closed() {
    let board = Arc::new(Board::default());
    let mut session = session(&board);
    let (call, heard) = open(&board, "work");
    call.show(1, said(0));
    let number = session.shows();
    // It expires on the way of what takes its place.
    call.show(2, said(1));
    assert_eq!(session.must_show(), number);
    let expired = NotificationNews::Closed { reason: 1 };
    session.offer.news(number, &expired);
    let ended = [
        shown(1, 1),
        refused(2, Refusal::Desktop),
        closed(1, Closed::Expired),
    ];
    assert_eq!(heard.take(), ended);
    session.offer.news(number, &NotificationNews::Shown);
    session.must_close(number);
    assert_eq!(heard.take(), []);
}

#[test]
fn an_id_is_given_once() {
    let board = Arc::new(Board::default());
    let mut session = session(&board);
    let (call, heard) = open(&board, "work");
    for (sequence, id) in [(1, 1), (2, 2), (3, 3)] {
        call.show(sequence, said(0));
        session.shows();
        call.close(id);
        session.ordered().unwrap();
        let both = [shown(sequence, id), closed(id, Closed::ByOrder)];
        assert_eq!(heard.take(), both);
    }
    // One that an application has named is not given to another.
    call.show(4, said(4));
    session.shows();
    call.show(5, said(0));
    session.shows();
    assert_eq!(heard.take(), [shown(4, 4), shown(5, 5)]);
}

#[test]
fn no_qube_and_no_call_reaches_what_another_shows() {
    let board = Arc::new(Board::default());
    let mut session = session(&board);
    let (work, heard) = open(&board, "work");
    work.show(1, said(0));
    let number = session.shows();
    for share in ["personal", "work"] {
        let (other, others) = open(&board, share);
        other.close(1);
        assert_eq!(session.ordered(), None);
        // The same id, of its own.
        other.show(1, said(1));
        assert_ne!(session.shows(), number);
        assert_eq!(others.take(), [shown(1, 1)]);
        other.close(1);
        assert_eq!(others.take(), [closed(1, Closed::ByOrder)]);
        session.ordered().unwrap();
    }
    assert_eq!(heard.take(), [shown(1, 1)]);
    assert!(board.state().shown.contains_key(&number));
}

#[test]
fn no_session_has_a_say_in_what_another_shows() {
    let board = Arc::new(Board::default());
    let mut first = session(&board);
    let (call, heard) = open(&board, "work");
    call.show(1, said(0));
    let number = first.shows();
    let mut second = session(&board);
    heard.take();
    let news = NotificationNews::Closed { reason: 2 };
    second.offer.news(number, &news);
    assert_eq!(heard.take(), []);
    // The newest shows what comes from now on, and what is replaced.
    call.show(2, said(1));
    first.must_close(number);
    second.shows();
    assert_eq!(heard.take(), [shown(2, 1)]);
    first.offer.news(number, &news);
    assert_eq!(heard.take(), []);
    // With it goes what it shows, and the other one shows again.
    call.show(3, said(0));
    second.must_show();
    drop(second);
    let lost = [closed(1, Closed::Otherwise), refused(3, Refusal::Nobody)];
    assert_eq!(heard.take(), lost);
    call.show(4, said(0));
    first.shows();
    assert_eq!(heard.take(), [shown(4, 3)]);
}

#[test]
fn what_a_call_shows_goes_with_it() {
    let board = Arc::new(Board::default());
    let mut session = session(&board);
    let (call, heard) = open(&board, "work");
    call.show(1, said(0));
    let number = session.shows();
    heard.take();
    drop(call);
    session.must_close(number);
    assert_eq!(heard.take(), []);
    assert!(board.state().shown.is_empty());
}

#[test]
fn for_one_too_many_the_oldest_of_the_qube_goes() {
    let board = Arc::new(Board::default());
    let mut session = session(&board);
    let (other, others) = open(&board, "personal");
    other.show_at(0, said(0), after(0));
    session.shows();
    let calls = [open(&board, "work"), open(&board, "work")];
    let mut numbers = Vec::new();
    for count in 0..SHOWN_PER_QUBE {
        let (call, heard) = &calls[count % 2];
        call.show_at(0, said(0), after(count as u64));
        numbers.push(session.shows());
        assert_eq!(heard.take().len(), 1);
    }
    assert_eq!(session.ordered(), None);
    calls[1].0.show_at(9, said(0), after(99));
    session.must_close(numbers[0]);
    session.shows();
    assert_eq!(calls[0].1.take(), [closed(1, Closed::Otherwise)]);
    let more = u32::try_from(SHOWN_PER_QUBE / 2 + 1).unwrap();
    assert_eq!(calls[1].1.take(), [shown(9, more)]);
    assert_eq!(others.take(), [shown(0, 1)], "not another qube's");
}

#[test]
fn one_too_fast_is_refused_and_only_its_qube_is() {
    let board = Arc::new(Board::default());
    let mut session = session(&board);
    let (call, heard) = open(&board, "work");
    let (again, heard_again) = open(&board, "work");
    for sequence in 0..u64::from(SHOWN_BURST) {
        call.show_at(sequence, said(1), after(1));
        session.shows();
    }
    heard.take();
    call.show_at(20, said(1), after(1));
    again.show_at(1, said(0), after(1));
    assert_eq!(heard.take(), [refused(20, Refusal::TooMany)]);
    assert_eq!(heard_again.take(), [refused(1, Refusal::TooMany)]);
    let (other, others) = open(&board, "personal");
    other.show_at(1, said(0), after(1));
    session.shows();
    assert_eq!(others.take().len(), 1);
    let soon = after(1) + Duration::from_secs(1) / SHOWN_PER_SECOND;
    call.show_at(21, said(1), soon);
    session.shows();
    assert_eq!(heard.take(), [shown(21, 1)]);
}

#[test]
fn a_session_that_takes_no_orders_shows_nothing_any_more() {
    let board = Arc::new(Board::default());
    let mut session = session(&board);
    let (call, heard) = open(&board, "work");
    for count in 0..ORDERS_MAX as u64 {
        call.show_at(count, said(1), after(count));
    }
    assert_eq!(heard.take(), []);
    call.show_at(0, said(1), after(ORDERS_MAX as u64));
    let all = heard.take();
    assert_eq!(all.len(), ORDERS_MAX + 1);
    assert!(all.contains(&refused(0, Refusal::Nobody)));
    // It is told by the end of its orders.
    for _ in 0..ORDERS_MAX {
        session.must_show();
    }
    let end = session.orders.try_recv();
    assert_eq!(end, Err(mpsc::error::TryRecvError::Disconnected));
}

proptest! {
    #[test]
    fn every_request_is_answered_once_and_nothing_is_left(
        steps in prop::collection::vec((0..8_u8, 0..4_u32, 0..3_usize), 0..120)
    ) {
        let board = Arc::new(Board::default());
        let mut sessions: Vec<Session> = Vec::new();
        let mut calls: Vec<(Call, Arc<Heard>)> = Vec::new();
        let mut closed_calls: Vec<Arc<Heard>> = Vec::new();
        let (mut asked, mut numbers, mut dropped) = (0, Vec::new(), 0);
        for (time, (step, id, which)) in steps.into_iter().enumerate() {
            let call = calls.get(which);
            match step {
                0 | 1 => if let Some((call, _)) = call {
                    asked += 1;
                    call.show_at(asked, said(id), after(time as u64));
                },
                2 => if let Some((call, _)) = call {
                    call.close(id);
                },
                3 => for session in &mut sessions {
                    while let Some(order) = session.ordered() {
                        if let NotificationOrder::Show(shown) = order {
                            numbers.push(shown.number);
                            session.offer.news(shown.number, &NotificationNews::Shown);
                        }
                    }
                },
                4 => for number in numbers.drain(..) {
                    for session in &sessions {
                        session.offer.news(number, &NotificationNews::Closed { reason: id });
                    }
                },
                5 => sessions.push(session(&board)),
                6 => if calls.len() < 3 {
                    calls.push(open(&board, ["a", "b", "c"][which]));
                },
                _ => if which < sessions.len() {
                    drop(sessions.remove(which));
                } else if which < calls.len() {
                    let (call, heard) = calls.remove(which);
                    let waits = board.state().shown.values()
                        .filter(|shown| shown.call == call.number)
                        .map(|shown| shown.waiting.len())
                        .sum::<usize>();
                    dropped += waits;
                    closed_calls.push(heard);
                },
            }
            let state = board.state();
            for share in ["a", "b", "c"] {
                let of_share = state.shown.values().filter(|shown| shown.share == share);
                prop_assert!(of_share.count() <= SHOWN_PER_QUBE);
            }
        }
        drop(sessions);
        prop_assert!(board.state().shown.is_empty());
        let heard = calls.iter().map(|(_, heard)| heard).chain(&closed_calls);
        let answers: usize = heard
            .flat_map(|heard| heard.take())
            .filter(|said| matches!(said, ToDecoder::Shown { .. } | ToDecoder::Refused { .. }))
            .count();
        // Who is gone is not answered.
        prop_assert_eq!(answers + dropped, usize::try_from(asked).unwrap());
    }
}
