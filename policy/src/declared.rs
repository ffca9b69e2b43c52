//! A machine as it is described, for judging policy away from what happens to run.

use bulkhead_model::qube::Description;
use uuid::Uuid;

use crate::view::{QubeView, SystemView, SystemViewError};

impl SystemView {
    /// The declared qubes, remote ones too, all of them running: what policy lets happen at most. UUIDs only tell
    /// the qubes apart, since a description has none.
    pub fn declared(description: &Description) -> Result<Self, SystemViewError> {
        let numbered = (1..).map(|number: u128| Uuid::from_u128(u128::MAX - number));
        let mut uuids = numbered;
        let mut uuid = || uuids.next().unwrap_or_default();
        let qubes = description.qubes.values();
        let qubes = qubes.map(|qube| QubeView::declared(qube, uuid(), true));
        let mut all: Vec<QubeView> = qubes.collect();
        let remotes = description.remotes.values();
        all.extend(remotes.map(|remote| QubeView::remote(remote, uuid())));
        Self::new(all)
    }
}
