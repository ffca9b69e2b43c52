//! Icons of windows, on their way to dom0: the service `qubes.WindowIconUpdater`.
//!
//! ```text
//!  compositor --wanted--> Board --next--> call --stream--> dom0
//! ```
//!
//! The [`Board`] knows which icon each window is to have and what dom0 has not heard. A window whose
//! icon changes often is told of now and then, with the icon that it has then. To a daemon that comes,
//! and by a call that is made again, all icons are sent.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_wire::bucket::Bucket;
use bulkhead_wire::gui::WindowId;
use bulkhead_wire::icons::Icon;
use tokio::sync::Notify;
use tokio::time::Instant;

mod call;
pub(crate) mod pixels;
mod theme;
pub(crate) mod x;

/// Between two icons of one window.
const WINDOW_PAUSE: Duration = Duration::from_secs(1);

/// Icons a second, for long: fewer than our dom0 takes.
const ICONS_PER_SECOND: u32 = 8;
/// Icons at once, of all windows that there may be but some.
const ICONS_BURST: u32 = 400;

/// Where the icon of a window comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// From its application.
    Pixels(Arc<Icon>),
    /// From the icon theme, by this name.
    Named(String),
    /// From the entry of its application, which has the first of these ids that there is.
    Application(Vec<String>),
}

impl Source {
    /// None where there is no such icon. Reads files.
    fn find(&self) -> Option<Arc<Icon>> {
        match self {
            Self::Pixels(icon) => Some(Arc::clone(icon)),
            Self::Named(name) => theme::icon(&theme::folders(), name).map(Arc::new),
            Self::Application(ids) => {
                let folders = theme::folders();
                let mut icons = ids.iter().map(|id| theme::of_application(&folders, id));
                icons.find_map(|icon| icon).map(Arc::new)
            }
        }
    }
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Send(WindowId, Source),
    /// Nothing until then.
    In(Duration),
    Nothing,
}

#[derive(Debug)]
struct State {
    has_daemon: bool,
    /// How often one came.
    daemons: u64,
    wanted: BTreeMap<WindowId, Source>,
    unsent: BTreeSet<WindowId>,
    /// When an icon of a window was sent.
    sent: BTreeMap<WindowId, Duration>,
    rate: Bucket,
}

impl State {
    fn new() -> Self {
        Self {
            has_daemon: false,
            daemons: 0,
            wanted: BTreeMap::new(),
            unsent: BTreeSet::new(),
            sent: BTreeMap::new(),
            rate: Bucket::new(ICONS_PER_SECOND, ICONS_BURST),
        }
    }

    fn set(&mut self, id: WindowId, source: Source) {
        if self.wanted.get(&id) != Some(&source) {
            self.wanted.insert(id, source);
            self.unsent.insert(id);
        }
    }

    fn remove(&mut self, id: WindowId) {
        self.wanted.remove(&id);
        self.unsent.remove(&id);
        self.sent.remove(&id);
    }

    fn daemon_came(&mut self) {
        self.has_daemon = true;
        self.daemons += 1;
        self.send_again();
    }

    /// Whoever had been told knows nothing any more.
    fn send_again(&mut self) {
        self.unsent = self.wanted.keys().copied().collect();
    }

    fn next(&mut self, now: Duration) -> Next {
        let due = |id: &WindowId| {
            let sent = self.sent.get(id);
            let due = sent.map_or(Duration::ZERO, |at| *at + WINDOW_PAUSE);
            (due.saturating_sub(now), *id)
        };
        let first = self.unsent.iter().map(due).min();
        let Some((pause, id)) = first.filter(|_| self.has_daemon) else {
            return Next::Nothing;
        };
        let pause = pause.max(self.rate.wait(now, 1));
        if !pause.is_zero() {
            return Next::In(pause);
        }
        self.unsent.remove(&id);
        match self.wanted.get(&id) {
            Some(source) => {
                self.rate.take(now, 1);
                self.sent.insert(id, now);
                Next::Send(id, source.clone())
            }
            None => Next::Nothing,
        }
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    start: Instant,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds this lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for an icon that is to be sent. Nothing is lost where this is dropped while it waits.
    async fn next(&self) -> (WindowId, Arc<Icon>) {
        loop {
            let next = self.state().next(self.start.elapsed());
            match next {
                Next::Send(id, source) => {
                    if let Some(icon) = source.find() {
                        return (id, icon);
                    }
                }
                Next::In(pause) => tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.changed.notified() => {}
                },
                Next::Nothing => self.changed.notified().await,
            }
        }
    }

    /// Waits for another daemon than the one that there is.
    async fn another_daemon(&self) {
        let daemons = self.state().daemons;
        while self.state().daemons == daemons {
            self.changed.notified().await;
        }
    }
}

/// Where the compositor says which icons its windows have.
#[derive(Debug)]
pub(crate) struct Board(Arc<Shared>);

impl Board {
    /// One whose icons are sent by a thread of its own.
    ///
    /// # Errors
    /// Where there are no resources for it.
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new()),
            changed: Notify::new(),
            start: Instant::now(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build()?;
        let board = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("icons".to_owned())
            .spawn(move || runtime.block_on(call::keep(&board)))?;
        Ok(Self(shared))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.state());
        self.0.changed.notify_one();
    }

    /// A window has this icon.
    pub(crate) fn set(&self, id: WindowId, source: Source) {
        self.change(|state| state.set(id, source));
    }

    /// A window has none, or is not there any more.
    pub(crate) fn remove(&self, id: WindowId) {
        self.change(|state| state.remove(id));
    }

    /// A GUI daemon has come that knows of no window.
    pub(crate) fn daemon_came(&self) {
        self.change(State::daemon_came);
    }

    /// It has gone: nobody shows icons.
    pub(crate) fn daemon_left(&self) {
        self.change(|state| state.has_daemon = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Source {
        Source::Named(name.to_owned())
    }

    fn sent(state: &mut State, now: Duration) -> Vec<(u32, Source)> {
        let next = || match state.next(now) {
            Next::Send(id, source) => Some((id.0, source)),
            Next::In(_) | Next::Nothing => None,
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn an_icon_is_sent_once_to_each_daemon_and_by_each_call() {
        let mut state = State::new();
        let mut now = Duration::from_secs(1);
        state.set(WindowId(1), named("a"));
        assert_eq!(state.next(now), Next::Nothing, "nobody is there");
        state.daemon_came();
        assert_eq!(sent(&mut state, now), [(1, named("a"))]);
        state.set(WindowId(1), named("a"));
        assert_eq!(state.next(now), Next::Nothing, "it is the same");
        state.set(WindowId(2), named("b"));
        assert_eq!(sent(&mut state, now), [(2, named("b"))]);
        for again in [State::send_again, State::daemon_came] {
            now += WINDOW_PAUSE;
            again(&mut state);
            assert_eq!(sent(&mut state, now), [(1, named("a")), (2, named("b"))]);
        }
        now += WINDOW_PAUSE;
        state.set(WindowId(1), named("c"));
        state.set(WindowId(2), named("c"));
        state.remove(WindowId(1));
        assert_eq!(sent(&mut state, now), [(2, named("c"))]);
        state.has_daemon = false;
        state.set(WindowId(3), named("d"));
        assert_eq!(state.next(now), Next::Nothing);
    }

    #[test]
    fn a_window_that_changes_its_icon_often_is_told_of_now_and_then() {
        let mut state = State::new();
        let now = Duration::from_secs(1);
        state.daemon_came();
        state.set(WindowId(1), named("0"));
        assert_eq!(sent(&mut state, now), [(1, named("0"))]);
        for n in 1..100 {
            state.set(WindowId(1), named(&n.to_string()));
        }
        assert_eq!(state.next(now), Next::In(WINDOW_PAUSE));
        // Others do not wait for it.
        state.set(WindowId(2), named("b"));
        assert_eq!(sent(&mut state, now), [(2, named("b"))]);
        let later = now + WINDOW_PAUSE;
        assert_eq!(sent(&mut state, later), [(1, named("99"))]);
    }

    #[test]
    fn one_icon_more_than_may_be_sent_at_once_waits() {
        let mut state = State::new();
        let now = Duration::from_secs(1);
        state.daemon_came();
        for id in 1..=ICONS_BURST + 1 {
            state.set(WindowId(id), named("a"));
        }
        assert_eq!(sent(&mut state, now).len(), ICONS_BURST as usize);
        let pause = Duration::from_secs(1) / ICONS_PER_SECOND;
        assert_eq!(state.next(now), Next::In(pause));
        assert_eq!(sent(&mut state, now + pause).len(), 1);
    }
}
