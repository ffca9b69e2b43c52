//! Where each property of a qube comes from.

use crate::diagnostic::{At, Problem};
use crate::name::QubeName;
use crate::property::QubeProperty;

const COUNT: usize = QubeProperty::ALL.len();

/// The place of every property. One that is written nowhere is placed at the qube's name.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    name: At,
    properties: [At; COUNT],
    /// Bits of the properties that come from a profile or `defaults`.
    inherited: u32,
}

impl Places {
    pub(super) fn new(name: At) -> Self {
        Self {
            name,
            properties: [name; COUNT],
            inherited: 0,
        }
    }

    pub(super) fn set(&mut self, property: QubeProperty, at: At, inherited: bool) {
        if let Some(place) = self.properties.get_mut(property as usize) {
            *place = at;
        }
        if inherited {
            self.inherited |= 1 << (property as u32);
        }
    }

    pub(crate) fn name(&self) -> At {
        self.name
    }

    pub(crate) fn of(&self, property: QubeProperty) -> At {
        self.properties
            .get(property as usize)
            .copied()
            .unwrap_or(self.name)
    }

    /// An error about a property, that says of which qube when the place alone does not.
    pub(crate) fn error(
        &self,
        qube: &QubeName,
        property: QubeProperty,
        message: String,
    ) -> Problem {
        self.error_at(qube, property, self.of(property), message)
    }

    /// The same, at a place within the property.
    pub(crate) fn error_at(
        &self,
        qube: &QubeName,
        property: QubeProperty,
        at: At,
        message: String,
    ) -> Problem {
        let problem = Problem::error(at, message);
        match self.inherited & (1 << (property as u32)) {
            0 => problem,
            _ => problem.inherited(self.name, qube.as_str()),
        }
    }
}
