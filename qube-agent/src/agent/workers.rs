//! Threads that serve calls, one call at a time.
//!
//! A thread that is through with its call is kept for a while's next: to start one costs a stack,
//! its guard and a dozen system calls, while somebody waits for a service.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Threads that are kept without work: one for calls that follow each other, and one for the
/// call that comes while the last caller has not hung up yet. Each costs some pages.
const KEPT_MAX: usize = 2;
/// A call's thread holds no buffer on its stack; starting a process needs the most of it.
const STACK: usize = 128 * 1024;

/// What a thread is to do.
type Work = Box<dyn FnOnce() + Send>;

/// The threads.
#[derive(Debug, Default)]
pub(super) struct Workers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    given: Condvar,
}

#[derive(Default)]
struct State {
    /// Threads that wait, those included that were given something and have not seen it yet.
    idle: usize,
    /// Never more than there are idle threads.
    work: VecDeque<Work>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Workers {
    /// Has a thread do `work`: one that waits, or else a new one.
    ///
    /// # Errors
    /// What starting a thread said.
    pub(super) fn run(&self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut state = self.0.state();
        if state.idle > state.work.len() {
            state.work.push_back(Box::new(work));
            drop(state);
            self.0.given.notify_one();
            return Ok(());
        }
        drop(state);
        let shared = Arc::clone(&self.0);
        let thread = std::thread::Builder::new()
            .name("call".into())
            .stack_size(STACK);
        thread.spawn(move || {
            work();
            while let Some(work) = shared.next() {
                work();
            }
        })?;
        Ok(())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // It is whole between any two operations on it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for more to do; none if enough threads wait already.
    fn next(&self) -> Option<Work> {
        let mut state = self.state();
        if state.idle >= KEPT_MAX {
            return None;
        }
        state.idle += 1;
        loop {
            if let Some(work) = state.work.pop_front() {
                state.idle -= 1;
                return Some(work);
            }
            state = self
                .given
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::mpsc::channel;
    use std::thread::{ThreadId, current};
    use std::time::{Duration, Instant};

    use super::*;

    impl Workers {
        /// Until so many wait and there is no other.
        fn settle(&self, idle: usize) {
            let start = Instant::now();
            let settled = || self.0.state().idle == idle && Arc::strong_count(&self.0) == idle + 1;
            while !settled() {
                assert!(
                    start.elapsed() < Duration::from_secs(60),
                    "threads stay busy"
                );
                std::thread::sleep(Duration::from_millis(1));
            }
        }

        /// Has `count` threads at work at the same time; which they are.
        fn crowd(&self, count: usize) -> HashSet<ThreadId> {
            let (said, heard) = channel();
            let mut doors = Vec::new();
            for _ in 0..count {
                let (open, door) = channel::<()>();
                doors.push(open);
                let said = said.clone();
                let work = move || {
                    said.send(current().id()).unwrap();
                    let _ = door.recv();
                };
                self.run(work).unwrap();
            }
            heard.iter().take(count).collect()
        }
    }

    #[test]
    fn calls_in_turn_share_a_thread_and_calls_at_once_do_not() {
        let workers = Workers::default();
        let first = workers.crowd(1);
        workers.settle(1);
        assert_eq!(workers.crowd(1), first);
        workers.settle(1);
        let many = workers.crowd(40);
        assert_eq!(many.len(), 40);
        assert!(many.is_superset(&first));
    }

    #[test]
    fn no_more_threads_are_kept_than_the_limit() {
        let workers = Workers::default();
        let crowd = workers.crowd(KEPT_MAX + 1);
        assert_eq!(crowd.len(), KEPT_MAX + 1);
        workers.settle(KEPT_MAX);
        // The one past the limit ends; its successor is a new one.
        let next = workers.crowd(KEPT_MAX + 1);
        assert_eq!(crowd.intersection(&next).count(), KEPT_MAX);
    }
}
