//! A machine as it is described, for judging policy away from what happens to run.

use bulkhead_model::qube::Description;
use uuid::Uuid;

use crate::view::{QubeView, SystemView, SystemViewError};

impl SystemView {
    /// The declared qubes, all of them running: what policy lets happen at most. UUIDs only tell
    /// the qubes apart, since a description has none.
    pub fn declared(description: &Description) -> Result<Self, SystemViewError> {
        let numbered = (1..).map(|number: u128| Uuid::from_u128(u128::MAX - number));
        let qubes = description.qubes.values().zip(numbered);
        Self::new(qubes.map(|(qube, uuid)| QubeView::declared(qube, uuid, true)))
    }
}
