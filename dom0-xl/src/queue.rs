//! What is done when: in order for one domain, beside each other for several, and never too much.

use std::collections::{BTreeSet, VecDeque};

use bulkhead_wire::xl::{DomId, REQUESTS_MAX};

/// Operations on domains at a time: each has a thread and a connection to libxl, and nearly all of
/// them wait for one dom0 kernel.
pub(crate) const RUNNING_MAX: usize = 8;

/// Jobs that wait, and domains with one that runs. `None` stands for the machine.
#[derive(Debug)]
pub(crate) struct Queue<J> {
    waiting: VecDeque<(Option<DomId>, J)>,
    busy: BTreeSet<DomId>,
    /// Jobs about the machine that run.
    machine: usize,
}

impl<J> Default for Queue<J> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            busy: BTreeSet::new(),
            machine: 0,
        }
    }
}

impl<J> Queue<J> {
    /// Adds a job that was asked for; gives it back if there are [`REQUESTS_MAX`] already.
    pub(crate) fn push(&mut self, domid: Option<DomId>, job: J) -> Result<(), J> {
        if self.waiting.len() + self.busy.len() + self.machine >= REQUESTS_MAX {
            return Err(job);
        }
        self.push_own(domid, job);
        Ok(())
    }

    /// Adds a job of our own. There is at most one for each domain.
    pub(crate) fn push_own(&mut self, domid: Option<DomId>, job: J) {
        self.waiting.push_back((domid, job));
    }

    /// The next job that may begin now. Those about the machine are quick and wait for nobody.
    pub(crate) fn next(&mut self) -> Option<J> {
        let room = self.busy.len() < RUNNING_MAX;
        let free = |(domid, _): &(Option<DomId>, J)| match domid {
            Some(domid) => room && !self.busy.contains(domid),
            None => true,
        };
        let at = self.waiting.iter().position(free)?;
        let (domid, job) = self.waiting.remove(at)?;
        match domid {
            Some(domid) => drop(self.busy.insert(domid)),
            None => self.machine += 1,
        }
        Some(job)
    }

    /// A job that [`Self::next`] returned is done.
    pub(crate) fn done(&mut self, domid: Option<DomId>) {
        match domid {
            Some(domid) => drop(self.busy.remove(&domid)),
            None => self.machine = self.machine.saturating_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dom(number: u64) -> Option<DomId> {
        Some(DomId::new(number).unwrap())
    }

    #[test]
    fn one_request_past_the_limit_is_refused_and_our_own_are_not() {
        let mut queue = Queue::default();
        for n in 0..REQUESTS_MAX {
            assert_eq!(queue.push(dom(1), n), Ok(()));
        }
        assert_eq!(queue.next(), Some(0));
        assert_eq!(queue.push(None, 99), Err(99));
        queue.push_own(dom(2), 100);
        assert_eq!(queue.next(), Some(100));
        queue.done(dom(1));
        queue.done(dom(2));
        assert_eq!(queue.push(None, 99), Ok(()));
    }

    #[test]
    fn one_domain_past_those_that_may_run_waits_and_the_machine_does_not() {
        let mut queue = Queue::default();
        for n in 0..=RUNNING_MAX as u64 {
            queue.push(dom(n), n).unwrap();
        }
        let begun: Vec<u64> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(begun, (0..RUNNING_MAX as u64).collect::<Vec<_>>());
        queue.push(None, 99).unwrap();
        assert_eq!(queue.next(), Some(99));
        queue.done(dom(3));
        assert_eq!(queue.next(), Some(RUNNING_MAX as u64));
    }

    proptest! {
        #[test]
        fn each_job_runs_once_and_in_order_of_its_domain(
            jobs in proptest::collection::vec(0..5_u64, 0..40),
            ends in proptest::collection::vec(any::<prop::sample::Index>(), 200),
        ) {
            let mut queue = Queue::default();
            for (n, domain) in jobs.iter().enumerate() {
                // Domain 0 stands for the machine.
                let domid = dom(*domain).filter(|_| *domain != 0);
                prop_assert!(queue.push(domid, (domid, n)).is_ok());
            }
            let (mut running, mut order) = (Vec::new(), Vec::new());
            for end in ends {
                while let Some((domid, n)) = queue.next() {
                    prop_assert!(domid.is_none() || running.iter().all(|(d, _)| *d != domid));
                    running.push((domid, n));
                    order.push((domid, n));
                }
                if !running.is_empty() {
                    let (domid, _) = running.remove(end.index(running.len()));
                    queue.done(domid);
                }
            }
            prop_assert_eq!(order.len(), jobs.len());
            for (at, (domid, n)) in order.iter().enumerate() {
                let later = order.iter().skip(at).filter(|(d, _)| d == domid && d.is_some());
                prop_assert!(later.clone().all(|(_, m)| m >= n));
            }
        }
    }
}
