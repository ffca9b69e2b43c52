//! How many calls dom0 serves at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Calls of one qube, or of all disposables of one template, that dom0 serves at a time. Each is
/// three processes; a person's tools make a handful.
pub const HOSTED_PER_QUBE: usize = 32;
/// Calls that dom0 serves at a time in all: four qubes may do their worst, and dom0 still has
/// tasks and memory for its own.
pub const HOSTED_MAX: usize = 128;

/// Places that are taken, by share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(Arc<Mutex<BTreeMap<String, usize>>>);

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    share: String,
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        // Nothing that holds this lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more call of `share`.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn take(&self, share: &str) -> Result<Place, String> {
        let mut taken = self.taken();
        if taken.values().sum::<usize>() >= HOSTED_MAX {
            return Err(format!("more than {HOSTED_MAX} calls are served in dom0"));
        }
        let count = taken.entry(share.to_owned()).or_default();
        if *count >= HOSTED_PER_QUBE {
            return Err(format!(
                "more than {HOSTED_PER_QUBE} of its calls are served in dom0"
            ));
        }
        *count += 1;
        Ok(Place {
            places: self.clone(),
            share: share.to_owned(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(count) = taken.get_mut(&self.share) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.share);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_past_either_limit_is_refused_and_a_place_comes_back() {
        let places = Places::default();
        let mut held: Vec<Place> = (0..HOSTED_PER_QUBE)
            .map(|_| places.take("a").unwrap())
            .collect();
        assert!(places.take("a").unwrap_err().contains("32 of its calls"));
        held.pop();
        held.push(places.take("a").unwrap());
        for share in 1..HOSTED_MAX / HOSTED_PER_QUBE {
            held.extend((0..HOSTED_PER_QUBE).map(|_| places.take(&share.to_string()).unwrap()));
        }
        assert!(places.take("b").unwrap_err().contains("128 calls"));
        held.pop();
        held.push(places.take("b").unwrap());
        drop(held);
        assert!(places.taken().is_empty());
    }
}
