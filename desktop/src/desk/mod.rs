//! The prompts as a model: which calls wait, which are on the screen, and what may be answered.
//!
//! It does nothing itself. Events and a time go in; out come answers for the daemon and, from
//! [`Desk::views`], everything that the windows show.
//!
//! Invariants, held by the random sequences in `tests.rs`:
//! - Allow is sent only for a prompt on the screen whose `Arming` is armed, for a target that
//!   policy offers and the prompt shows, and only to the daemon that asked.
//! - A call is answered once.
//! - Every waiting call has a window or is counted in one.

pub(crate) mod arming;
pub(crate) mod call;
pub(crate) mod look;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bulkhead_api::call::{Answer, Ask};
use bulkhead_api::qube::QubeRow;

use self::call::{Call, CallView, Stage};
use self::look::{Look, Qubes};

/// Prompts on the screen at a time: what a person can still tell apart.
pub(crate) const WINDOWS_MAX: usize = 5;

/// How many of them one qube may have, so that none fills the screen alone.
pub(crate) const WINDOWS_PER_SOURCE: usize = 2;

/// Calls that are kept. The daemon has at most 256 open; more than this would be another daemon's.
/// What comes on top is counted, and read again when there is room.
pub(crate) const CALLS_MAX: usize = 1024;

/// What the daemon says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// Everything, from a daemon that was connected to as the `epoch`th.
    Listed {
        epoch: u64,
        asks: Vec<Ask>,
        qubes: Vec<QubeRow>,
        /// Seconds since the epoch of clocks.
        wall: u64,
    },
    /// A call waits.
    Added { ask: Ask, wall: u64 },
    /// A call no longer waits.
    Removed(u64),
    /// A qube is new or another.
    Qube(QubeRow),
    /// A qube is gone.
    NoQube(String),
    /// An answer did not arrive.
    Failed { epoch: u64, id: u64, why: Why },
    /// The daemon is gone.
    Lost,
}

/// Why an answer did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// The call no longer waits.
    Gone,
    /// Anything else.
    Other(String),
}

/// What the person does in a prompt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Act {
    /// It is on the screen.
    Shown,
    /// The pointer is over it from now on, at this place.
    Entered(f64, f64),
    /// The same where a movement to this very place may be none.
    Rests(f64, f64),
    /// The pointer has moved to this place in it.
    Pointer(f64, f64),
    /// A key was pressed.
    Key,
    /// It is no longer the active window.
    Left,
    Search(String),
    Choose(usize),
    Allow,
    Deny,
    /// Denies every call of the same qube that waits.
    DenyAll,
}

/// What is to be told to the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    Answer {
        /// Of which connection the call is: the next daemon counts from 1 again.
        epoch: u64,
        id: u64,
        answer: Answer,
        target: String,
    },
    /// Everything is to be read again.
    ReadAgain { epoch: u64 },
}

/// One window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// Names the window; no other has had it before.
    pub(crate) key: (u64, u64),
    pub(crate) call: CallView,
    /// Waiting calls of the same qube, this one included.
    pub(crate) of_source: usize,
    /// Waiting calls that have no window.
    pub(crate) waiting: usize,
}

/// All prompts.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    epoch: u64,
    /// The qube whose prompts are shown here; none means dom0.
    guivm: Option<String>,
    calls: BTreeMap<u64, Call>,
    shown: BTreeSet<u64>,
    beyond: BTreeSet<u64>,
    qubes: Qubes,
    orders: Vec<Order>,
}

impl Desk {
    /// Shows the prompts of qubes whose windows `guivm` shows; none means dom0.
    pub(crate) fn new(guivm: Option<String>) -> Self {
        let guivm = guivm.filter(|name| name != "dom0");
        Self {
            guivm,
            ..Self::default()
        }
    }

    /// Takes note of what the daemon says.
    pub(crate) fn news(&mut self, news: News, now: Duration) {
        match news {
            News::Listed {
                epoch,
                asks,
                qubes,
                wall,
            } => self.listed(epoch, asks, qubes, now, wall),
            News::Added { ask, wall } => self.add(ask, now, wall),
            News::Removed(id) => self.remove(id, now),
            News::Qube(row) => {
                self.qubes.set(row);
                self.draw();
            }
            News::NoQube(name) => {
                self.qubes.remove(&name);
                self.draw();
            }
            News::Failed { epoch, id, why } if epoch == self.epoch => match why {
                Why::Gone => self.remove(id, now),
                Why::Other(why) => {
                    if let Some(call) = self.calls.get_mut(&id) {
                        call.failed(&why, now);
                    }
                }
            },
            News::Failed { .. } => {}
            News::Lost => {
                self.calls.clear();
                self.shown.clear();
                self.beyond.clear();
            }
        }
        self.fill();
    }

    fn listed(
        &mut self,
        epoch: u64,
        asks: Vec<Ask>,
        qubes: Vec<QubeRow>,
        now: Duration,
        wall: u64,
    ) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.calls.clear();
            self.shown.clear();
        }
        self.beyond.clear();
        self.qubes.replace(qubes);
        self.draw();
        let waiting: BTreeSet<u64> = asks.iter().map(|ask| ask.id).collect();
        let gone = self.calls.keys().filter(|id| !waiting.contains(id));
        for id in gone.copied().collect::<Vec<u64>>() {
            self.remove(id, now);
        }
        for ask in asks {
            self.add(ask, now, wall);
        }
    }

    fn draw(&mut self) {
        for call in self.calls.values_mut() {
            call.draw(&self.qubes);
        }
    }

    fn add(&mut self, ask: Ask, now: Duration, wall: u64) {
        let guivm = ask.guivm.as_deref().filter(|name| *name != "dom0");
        if guivm != self.guivm.as_deref() || self.calls.contains_key(&ask.id) {
            return;
        }
        if self.calls.len() >= CALLS_MAX {
            // Bounded too; what is beyond even this is found when everything is read again.
            if self.beyond.len() < CALLS_MAX {
                self.beyond.insert(ask.id);
            }
            return;
        }
        let call = Call::new(ask, &self.qubes, now, wall);
        self.calls.insert(call.id(), call);
    }

    fn remove(&mut self, id: u64, now: Duration) {
        self.beyond.remove(&id);
        if self.calls.remove(&id).is_none() {
            return;
        }
        if self.shown.remove(&id) {
            self.others_start_anew(id, now);
        }
        if !self.beyond.is_empty() {
            self.beyond.clear();
            self.orders.push(Order::ReadAgain { epoch: self.epoch });
        }
    }

    /// Takes note that something that may have lain over prompts is gone: what was meant for it must
    /// not reach them.
    pub(crate) fn uncovered(&mut self, now: Duration) {
        self.start_anew(|_| true, now);
    }

    /// How a qube is drawn.
    pub(crate) fn look(&self, untrusted: &str) -> Look {
        self.qubes.look(untrusted)
    }

    /// What was meant for the prompt that ends must not reach the one below it.
    fn others_start_anew(&mut self, id: u64, now: Duration) {
        self.start_anew(|other| other != id, now);
    }

    fn start_anew(&mut self, these: impl Fn(u64) -> bool, now: Duration) {
        for id in self.shown.iter().filter(|id| these(**id)) {
            if let Some(call) = self.calls.get_mut(id) {
                call.arming.restart(now);
            }
        }
    }

    /// Gives free places on the screen to waiting calls: those of the qube with the fewest prompts
    /// first, of these the oldest. No prompt is taken from the screen for another.
    fn fill(&mut self) {
        while self.shown.len() < WINDOWS_MAX {
            let windows_of = |source: &str| {
                let shown = self.shown.iter().filter_map(|id| self.calls.get(id));
                shown.filter(|call| call.source() == source).count()
            };
            let next = self
                .calls
                .values()
                .filter(|call| !self.shown.contains(&call.id()) && call.stage == Stage::Open)
                .map(|call| (windows_of(call.source()), call.id()))
                .filter(|(windows, _)| *windows < WINDOWS_PER_SOURCE)
                .min();
            let Some((_, id)) = next else { return };
            self.shown.insert(id);
        }
    }

    /// Takes note of what the person does in the prompt of a call.
    pub(crate) fn act(&mut self, key: (u64, u64), act: Act, now: Duration) {
        let (epoch, id) = key;
        if epoch != self.epoch || !self.shown.contains(&id) {
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        match act {
            Act::Shown => call.arming.shown(now),
            Act::Entered(x, y) => call.arming.entered(x, y),
            Act::Rests(x, y) => call.arming.rests(x, y),
            Act::Pointer(x, y) => call.arming.pointer(x, y),
            Act::Key => call.arming.key(),
            Act::Left => call.arming.restart(now),
            Act::Search(text) => call.search(&text),
            Act::Choose(index) => call.choose(index),
            Act::Allow => {
                if call.may_allow(now)
                    && let Some(target) = call.chosen().map(|target| target.name.clone())
                {
                    self.answer(id, Answer::Allow, target, now);
                }
            }
            Act::Deny => self.answer(id, Answer::Deny, String::new(), now),
            Act::DenyAll => {
                let source = call.source().to_owned();
                let of_it = self.calls.values().filter(|call| call.source() == source);
                for id in of_it.map(Call::id).collect::<Vec<u64>>() {
                    self.answer(id, Answer::Deny, String::new(), now);
                }
            }
        }
    }

    fn answer(&mut self, id: u64, answer: Answer, target: String, now: Duration) {
        let Some(call) = self
            .calls
            .get_mut(&id)
            .filter(|call| call.stage == Stage::Open)
        else {
            return;
        };
        call.sent();
        self.orders.push(Order::Answer {
            epoch: self.epoch,
            id,
            answer,
            target,
        });
        self.others_start_anew(id, now);
    }

    /// Takes note of the time: a call whose time is up is denied, should the daemon not have said
    /// so first.
    pub(crate) fn tick(&mut self, now: Duration) {
        let over = |call: &&Call| call.deadline.is_some_and(|deadline| now >= deadline);
        let late: Vec<u64> = self.calls.values().filter(over).map(Call::id).collect();
        for id in late {
            self.answer(id, Answer::Deny, String::new(), now);
        }
    }

    /// What is to be told to the daemon since this was last asked.
    pub(crate) fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// Every window there is to be, oldest call first.
    pub(crate) fn views(&self, now: Duration) -> Vec<View> {
        let waiting = self.calls.len() - self.shown.len() + self.beyond.len();
        let shown = self.shown.iter().filter_map(|id| self.calls.get(id));
        shown
            .map(|call| View {
                key: (self.epoch, call.id()),
                call: call.view(&self.qubes, now),
                of_source: self.of_source(call.source()),
                waiting,
            })
            .collect()
    }

    fn of_source(&self, source: &str) -> usize {
        let of_it = self.calls.values().filter(|call| call.source() == source);
        of_it.count()
    }

    /// When [`Desk::tick`] and [`Desk::views`] next give something new by themselves.
    pub(crate) fn next_change(&self, now: Duration) -> Option<Duration> {
        let shown = self.shown.iter().filter_map(|id| self.calls.get(id));
        let armed = shown.clone().filter_map(|call| call.arming.due());
        // The time left is shown in whole seconds.
        let seconds = shown.filter_map(|call| {
            let left = call.deadline?.saturating_sub(now);
            let wait = match left.subsec_nanos() {
                0 => Duration::from_secs(1),
                part => Duration::from_nanos(part.into()),
            };
            (!left.is_zero()).then(|| now + wait)
        });
        let deadlines = self.calls.values().filter(|call| call.stage == Stage::Open);
        let deadlines = deadlines.filter_map(|call| call.deadline);
        let next = armed.filter(|due| *due > now).chain(seconds);
        next.chain(deadlines.map(|deadline| deadline.max(now)))
            .min()
    }
}
