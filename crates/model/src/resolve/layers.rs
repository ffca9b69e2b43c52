//! Which of several values counts.

use crate::decode::Located;
use crate::property::QubeProperty;
use crate::written::QubeOptions;

use super::Places;

/// Where a value stands, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    Own,
    Profile,
    Defaults,
}

/// All that is written about one qube, the strongest first.
#[derive(Debug)]
pub(super) struct Layers<'u> {
    pub(super) list: Vec<(Origin, &'u QubeOptions)>,
}

impl<'u> Layers<'u> {
    /// The strongest value, from a layer that counts.
    pub(super) fn pick<T>(
        &self,
        weakest: Origin,
        read: impl Fn(&'u QubeOptions) -> Option<&'u Located<T>>,
    ) -> Option<(Origin, &'u Located<T>)> {
        (self.list.iter())
            .filter(|(origin, _)| *origin <= weakest)
            .find_map(|(origin, options)| Some((*origin, read(options)?)))
    }

    /// The strongest value and its place, noted in `places`.
    pub(super) fn take<T>(
        &self,
        property: QubeProperty,
        places: &mut Places,
        read: impl Fn(&'u QubeOptions) -> Option<&'u Located<T>>,
    ) -> Option<&'u T> {
        let (origin, located) = self.pick(Origin::Defaults, read)?;
        places.set(property, located.at, origin != Origin::Own);
        Some(&located.value)
    }

    /// All values, the weakest first, with the place of the strongest noted.
    pub(super) fn join<T>(
        &self,
        property: QubeProperty,
        places: &mut Places,
        read: impl Fn(&'u QubeOptions) -> Option<&'u Located<T>>,
    ) -> Vec<(Origin, &'u T)> {
        self.take(property, places, &read);
        (self.list.iter().rev())
            .filter_map(|(origin, options)| Some((*origin, &read(options)?.value)))
            .collect()
    }
}
