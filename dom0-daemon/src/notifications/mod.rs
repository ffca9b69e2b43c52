//! Notifications of qubes: what each of them shows, and in which session.
//!
//! ```text
//!  qube --> pump --> decoder --FromDecoder--> board --NotificationOrder--> session
//!       <--      <--         <--ToDecoder----       <--NotificationNews---
//! ```
//!
//! A qube hears that something is shown once the session says so, and an error where it does not or
//! where there is none. What it shows is named by an id of the call that brought it, so that none
//! reaches what another qube, or another call, shows.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_api::notification::{
    Button, Notification, NotificationNews, NotificationOrder, Urgency,
};
use bulkhead_wire::bucket::Bucket;
use bulkhead_wire::notify::decoder::{Refusal, ToDecoder};
use bulkhead_wire::notify::{self, Closed};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub(crate) use call::{Decoder, Whose, serve};

mod call;
#[cfg(test)]
mod tests;

/// Notifications of one qube, or of all disposables of one template, that are shown at a time. The
/// oldest goes for one more: desktops that keep them for later would else leave it none.
pub const SHOWN_PER_QUBE: usize = 16;

/// Notifications of one qube a second, for long: what shows progress is as fast.
pub const SHOWN_PER_SECOND: u32 = 2;
/// The same at once: a mail program that has been offline.
pub const SHOWN_BURST: u32 = 20;

/// Orders that wait for a session to take them. One that falls behind shows nothing any more.
const ORDERS_MAX: usize = 1024;

/// Where a call is answered.
pub(crate) trait Answers: Debug + Send + Sync {
    /// Sends this, or has the call end.
    fn answer(&self, message: ToDecoder);
}

/// A call that brings notifications.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Its qube, as it is shown.
    pub(crate) qube: String,
    /// The colour of its label, `0xrrggbb`.
    pub(crate) color: String,
    /// Whose limits it counts against.
    pub(crate) share: String,
    pub(crate) answers: Arc<dyn Answers>,
}

/// Something that is shown, or is to be.
#[derive(Debug)]
struct Shown {
    session: u64,
    /// Number of the call that brought it.
    call: u64,
    /// What the call knows it by.
    id: u32,
    share: String,
    answers: Arc<dyn Answers>,
    /// Requests that the session has not answered.
    waiting: VecDeque<u64>,
    /// The session has shown it once.
    is_seen: bool,
    /// What its buttons are known by.
    keys: Vec<String>,
}

impl Shown {
    fn refuse_all(&mut self, why: Refusal) {
        for sequence in self.waiting.drain(..) {
            self.answers.answer(ToDecoder::Refused { sequence, why });
        }
    }

    /// It is shown no more.
    fn end(mut self, why: Closed, refusal: Refusal) {
        self.refuse_all(refusal);
        if self.is_seen {
            let id = self.id;
            self.answers.answer(ToDecoder::Closed { id, why });
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Counts sessions, calls and notifications: no number comes twice.
    last: u64,
    sessions: BTreeMap<u64, mpsc::Sender<NotificationOrder>>,
    /// By number, so that the oldest is first.
    shown: BTreeMap<u64, Shown>,
    rates: BTreeMap<String, Bucket>,
}

impl State {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn find(&self, call: u64, id: u32) -> Option<u64> {
        let mut all = self.shown.iter();
        let found = all.find(|(_, shown)| shown.call == call && shown.id == id);
        found.map(|(number, _)| *number)
    }

    /// Has a session do something. One that cannot take it is done with.
    fn order(&mut self, session: u64, order: NotificationOrder) -> bool {
        let to = self.sessions.get(&session);
        let sent = to.is_some_and(|to| to.try_send(order).is_ok());
        if !sent {
            self.end_session(session);
        }
        sent
    }

    fn end_session(&mut self, session: u64) {
        self.sessions.remove(&session);
        let gone = self
            .shown
            .extract_if(.., |_, shown| shown.session == session);
        for (_, shown) in gone {
            shown.end(Closed::Otherwise, Refusal::Nobody);
        }
    }

    /// Has the session show something no more.
    fn close(&mut self, number: u64, why: Closed) {
        if let Some(shown) = self.shown.remove(&number) {
            let session = shown.session;
            shown.end(why, Refusal::TooMany);
            self.order(session, NotificationOrder::Close { number });
        }
    }

    /// Makes room for one more of a share.
    fn make_room(&mut self, share: &str) {
        let of_share = self.shown.iter().filter(|(_, shown)| shown.share == share);
        let numbers: Vec<u64> = of_share.map(|(number, _)| *number).collect();
        let over = (numbers.len() + 1).saturating_sub(SHOWN_PER_QUBE);
        for number in numbers.into_iter().take(over) {
            self.close(number, Closed::Otherwise);
        }
    }
}

/// All notifications.
#[derive(Debug)]
pub(crate) struct Board {
    state: Mutex<State>,
    start: Instant,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            start: Instant::now(),
        }
    }
}

impl Board {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds this lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session shows notifications until what is returned is dropped.
    pub(crate) fn offer(self: &Arc<Self>) -> NotificationOffer {
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        let mut state = self.state();
        let session = state.number();
        state.sessions.insert(session, orders);
        tracing::info!("a session shows notifications");
        NotificationOffer {
            board: Arc::clone(self),
            session,
            orders: Some(taken),
        }
    }

    /// A call brings notifications until what is returned is dropped.
    pub(crate) fn open(self: &Arc<Self>, source: Source) -> Call {
        Call {
            number: self.state().number(),
            board: Arc::clone(self),
            source,
            last_id: AtomicU32::new(0),
        }
    }
}

/// A session that shows notifications, as long as this is there.
#[derive(Debug)]
pub struct NotificationOffer {
    board: Arc<Board>,
    session: u64,
    orders: Option<mpsc::Receiver<NotificationOrder>>,
}

impl NotificationOffer {
    /// What it is to do; once.
    pub(crate) fn orders(&mut self) -> Option<mpsc::Receiver<NotificationOrder>> {
        self.orders.take()
    }

    /// It says what became of a notification. What it was not to show is none of its business.
    pub(crate) fn news(&self, number: u64, news: &NotificationNews) {
        let mut state = self.board.state();
        let Some(shown) = state.shown.get_mut(&number) else {
            if let NotificationNews::Shown = news {
                // It was given up meanwhile, and nobody else would take it away.
                state.order(self.session, NotificationOrder::Close { number });
            }
            return;
        };
        if shown.session != self.session {
            return;
        }
        let id = shown.id;
        match news {
            NotificationNews::Shown => {
                shown.is_seen = true;
                if let Some(sequence) = shown.waiting.pop_front() {
                    shown.answers.answer(ToDecoder::Shown { sequence, id });
                }
            }
            NotificationNews::NotShown => {
                let why = Refusal::Desktop;
                if let Some(sequence) = shown.waiting.pop_front() {
                    shown.answers.answer(ToDecoder::Refused { sequence, why });
                }
                if !shown.is_seen && shown.waiting.is_empty() {
                    state.shown.remove(&number);
                }
            }
            NotificationNews::Closed { reason } => {
                if let Some(shown) = state.shown.remove(&number) {
                    shown.end(Closed::of(*reason), Refusal::Desktop);
                }
            }
            NotificationNews::Clicked { key } => {
                if shown.keys.contains(key) {
                    let action = key.clone();
                    shown.answers.answer(ToDecoder::Invoked { id, action });
                }
            }
        }
    }
}

impl Drop for NotificationOffer {
    fn drop(&mut self) {
        self.board.state().end_session(self.session);
    }
}

/// A call, as long as this is there.
#[derive(Debug)]
pub(crate) struct Call {
    board: Arc<Board>,
    number: u64,
    source: Source,
    /// The last id that was given.
    last_id: AtomicU32,
}

impl Call {
    /// Its qube wants something shown.
    pub(crate) fn show(&self, sequence: u64, said: notify::Notification) {
        self.show_at(sequence, said, self.board.start.elapsed());
    }

    fn show_at(&self, sequence: u64, said: notify::Notification, now: Duration) {
        let refuse = |why| {
            let refused = ToDecoder::Refused { sequence, why };
            self.source.answers.answer(refused);
        };
        let mut state = self.board.state();
        let rate = state.rates.entry(self.source.share.clone());
        let rate = rate.or_insert_with(|| Bucket::new(SHOWN_PER_SECOND, SHOWN_BURST));
        if rate.wait(now, 1) > Duration::ZERO {
            return refuse(Refusal::TooMany);
        }
        rate.take(now, 1);
        let Some(session) = state.sessions.keys().next_back().copied() else {
            return refuse(Refusal::Nobody);
        };
        let number = self.place(&mut state, session, said.replaces);
        if let Some(shown) = state.shown.get_mut(&number) {
            shown.waiting.push_back(sequence);
            let keys = said.actions.iter().map(|action| action.key.clone());
            shown.keys = keys.collect();
        }
        let notification = self.notification(number, said);
        state.order(session, NotificationOrder::Show(notification));
    }

    /// An id that nothing of the call has, nor had: applications of one qube may still name it.
    fn new_id(&self, state: &State) -> u32 {
        loop {
            let id = self.last_id.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if id != 0 && state.find(self.number, id).is_none() {
                return id;
            }
        }
    }

    /// The number under which something is shown in the place of `replaces`.
    fn place(&self, state: &mut State, session: u64, replaces: u32) -> u64 {
        let before = state.find(self.number, replaces);
        if let Some(number) = before {
            match state.shown.get(&number) {
                Some(shown) if shown.session == session => return number,
                // In a session that is not the newest any more: it moves.
                _ => state.close_unheard(number),
            }
        }
        state.make_room(&self.source.share);
        let id = match replaces {
            0 => self.new_id(state),
            id => id,
        };
        let number = state.number();
        let shown = Shown {
            session,
            call: self.number,
            id,
            share: self.source.share.clone(),
            answers: Arc::clone(&self.source.answers),
            waiting: VecDeque::new(),
            is_seen: false,
            keys: Vec::new(),
        };
        state.shown.insert(number, shown);
        number
    }

    fn notification(&self, number: u64, said: notify::Notification) -> Notification {
        let button = |action: notify::Action| Button {
            key: action.key,
            label: action.label,
        };
        Notification {
            number,
            qube: self.source.qube.clone(),
            color: self.source.color.clone(),
            title: said.summary,
            body: said.body,
            buttons: said.actions.into_iter().map(button).collect(),
            urgency: said.urgency.map(|urgency| match urgency {
                notify::Urgency::Low => Urgency::Low,
                notify::Urgency::Normal => Urgency::Normal,
                notify::Urgency::Critical => Urgency::Critical,
            }),
            timeout: said.timeout,
            resident: said.resident,
            transient: said.transient,
            silent: said.silent,
        }
    }

    /// Its qube wants something shown no more.
    pub(crate) fn close(&self, id: u32) {
        let mut state = self.board.state();
        if let Some(number) = state.find(self.number, id) {
            state.close(number, Closed::ByOrder);
        }
    }
}

impl State {
    /// Has a session show something no more that is shown elsewhere from now on.
    fn close_unheard(&mut self, number: u64) {
        if let Some(mut shown) = self.shown.remove(&number) {
            shown.refuse_all(Refusal::Nobody);
            self.order(shown.session, NotificationOrder::Close { number });
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = self.board.state();
        let mut gone: Vec<(u64, u64)> = Vec::new();
        state.shown.retain(|number, shown| {
            let is_of_it = shown.call == self.number;
            if is_of_it {
                gone.push((*number, shown.session));
            }
            !is_of_it
        });
        for (number, session) in gone {
            state.order(session, NotificationOrder::Close { number });
        }
    }
}
