//! Which port each data connection uses. Source: wire page on qrexec, "Port allocation".
//!
//! Every running qube has one table. A connection between two qubes is in both tables and is free
//! again in each once that qube's own agent has said that it is over: so a port is never reused
//! while one side may still be talking on it.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

/// Ports of data connections.
pub const DATA_PORTS: RangeInclusive<u32> = 513..=768;

/// The tables of all running qubes, by domain number. dom0 has none.
#[derive(Debug, Default)]
pub(super) struct Ports {
    tables: HashMap<u32, BTreeMap<u32, u32>>,
}

impl Ports {
    fn is_free(&self, domain: u32, port: u32) -> bool {
        let table = self.tables.get(&domain);
        table.is_none_or(|table| !table.contains_key(&port))
    }

    /// A port for a call of `caller` to `target` (0 for dom0), or none where all are taken.
    ///
    /// Of dom0 and to it the lowest free one. Between qubes the target allocates: even ports where its
    /// number is the lower one and odd ports where it is the higher one, so that the two
    /// directions between a pair never meet.
    pub(super) fn allocate(&mut self, caller: u32, target: u32) -> Option<u32> {
        let port = if caller == 0 || target == 0 {
            let mut all = DATA_PORTS;
            all.find(|port| self.is_free(caller.max(target), *port))?
        } else {
            let parity = u32::from(target > caller);
            DATA_PORTS
                .filter(|port| port % 2 == parity)
                .find(|port| self.is_free(target, *port) && self.is_free(caller, *port))?
        };
        self.reserve(caller, target, port);
        Some(port)
    }

    /// Notes that a connection uses `port`.
    pub(super) fn reserve(&mut self, caller: u32, target: u32, port: u32) {
        for (own, peer) in [(target, caller), (caller, target)] {
            if own != 0 {
                self.tables.entry(own).or_default().insert(port, peer);
            }
        }
    }

    /// Whether `domain` has a connection to `peer` on this port.
    pub(super) fn holds(&self, domain: u32, peer: u32, port: u32) -> bool {
        let table = self.tables.get(&domain);
        table.is_some_and(|table| table.get(&port) == Some(&peer))
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.tables.values().map(BTreeMap::len).sum()
    }

    /// The agent of `domain` says that its connection to `peer` is over. False if there is none:
    /// a port is not freed on the word of the wrong one.
    pub(super) fn release(&mut self, domain: u32, peer: u32, port: u32) -> bool {
        let Some(table) = self.tables.get_mut(&domain) else {
            return false;
        };
        let known = table.get(&port) == Some(&peer);
        if known {
            table.remove(&port);
        }
        known
    }

    /// The domain is gone; its number will not be used again.
    pub(super) fn forget(&mut self, domain: u32) {
        self.tables.remove(&domain);
        for table in self.tables.values_mut() {
            table.retain(|_, peer| *peer != domain);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn directions_between_a_pair_use_ports_of_their_own() {
        let mut ports = Ports::default();
        assert_eq!(ports.allocate(1, 2), Some(513));
        assert_eq!(ports.allocate(2, 1), Some(514));
        assert_eq!(ports.allocate(1, 2), Some(515));
        assert_eq!(ports.allocate(0, 2), Some(516), "dom0 takes the lowest");
        assert_eq!(
            ports.allocate(2, 0),
            Some(517),
            "and has no table of its own"
        );
        assert_eq!(ports.allocate(1, 0), Some(516), "so others do not count");
        assert!(ports.release(2, 0, 517) && !ports.release(0, 2, 517));
    }

    #[test]
    fn one_call_past_the_last_port_gets_none() {
        let mut ports = Ports::default();
        for _ in 0..256 {
            assert!(ports.allocate(0, 1).is_some());
        }
        assert_eq!(ports.allocate(0, 1), None);
        assert!(ports.release(1, 0, 600));
        assert_eq!(ports.allocate(0, 1), Some(600));
        for _ in 0..128 {
            assert!(ports.allocate(3, 2).is_some());
        }
        assert_eq!(ports.allocate(3, 2), None);
    }

    #[test]
    fn a_port_stays_taken_until_both_ends_and_only_those_have_let_go() {
        let mut ports = Ports::default();
        let port = ports.allocate(1, 2).unwrap();
        assert!(!ports.release(2, 3, port), "another peer");
        assert!(!ports.release(3, 1, port), "not its connection");
        assert!(ports.release(2, 1, port));
        assert!(!ports.release(2, 1, port), "twice");
        assert_ne!(ports.allocate(1, 2), Some(port));
        assert!(ports.release(1, 2, port));
        assert_eq!(ports.allocate(1, 2), Some(port));
    }

    proptest! {
        #[test]
        fn live_connections_of_a_qube_never_share_a_port(
            calls in prop::collection::vec((0u32..5, 0u32..5, any::<bool>()), 0..400)
        ) {
            let mut ports = Ports::default();
            let mut live: Vec<(u32, u32, u32)> = Vec::new();
            for (caller, target, end) in calls {
                if caller == target {
                    continue;
                }
                if end && !live.is_empty() {
                    let (a, b, port) = live.remove(0);
                    prop_assert!(b == 0 || ports.release(b, a, port));
                    prop_assert!(a == 0 || ports.release(a, b, port));
                } else if let Some(port) = ports.allocate(caller, target) {
                    prop_assert!(DATA_PORTS.contains(&port));
                    let taken = live.iter().any(|(a, b, p)| {
                        *p == port && [a, b].iter().any(|d| **d != 0 && (**d == target || **d == caller))
                    });
                    prop_assert!(!taken);
                    live.push((caller, target, port));
                }
            }
        }
    }
}
