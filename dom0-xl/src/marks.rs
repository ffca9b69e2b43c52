//! Marks in xenstore, by which a later `bulkhead-xl` knows what an earlier one did.
//!
//! xenstore forgets exactly when the domains themselves are gone: when the machine starts anew.
//!
//! ```text
//!   /bulkhead/xl/creating/UUID   set before a domain is made, removed when it is whole;
//!                                whoever starts destroys the domain of each that is left
//!   /local/domain/N/bulkhead     its UUID: the domain is ours. Set by libxl in the transaction that
//!                                the domain appears with; only dom0 can write there
//! ```

use std::collections::BTreeSet;
use std::io;

use bulkhead_libxl_sys::Xenstore;
use bulkhead_wire::xl::{DomId, DomainUuid, Mib, Target};

/// The key in a domain's own folder.
pub(crate) const OURS: &str = "bulkhead";

/// The folder of domains that are being made.
const CREATING: &str = "/bulkhead/xl/creating";

fn creating(uuid: DomainUuid) -> String {
    format!("{CREATING}/{uuid}")
}

/// Says that a domain is being made.
pub(crate) fn begin(xenstore: &Xenstore, target: Target) -> io::Result<()> {
    xenstore.write(&creating(target.uuid), &target.domid.to_string())
}

/// Says that nothing is being made any more, or that it is whole.
pub(crate) fn finish(xenstore: &Xenstore, uuid: DomainUuid) -> io::Result<()> {
    xenstore.remove(&creating(uuid))
}

/// What was being made when whoever made it ended.
pub(crate) fn unfinished(xenstore: &Xenstore) -> io::Result<BTreeSet<DomainUuid>> {
    let names = xenstore.list(CREATING)?;
    // We alone write there; what is no uuid is not of this version and names no domain.
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Whether we made a domain.
pub(crate) fn is_ours(xenstore: &Xenstore, target: Target) -> io::Result<bool> {
    let path = format!("/local/domain/{}/{OURS}", target.domid);
    let mark = xenstore.read(&path)?;
    Ok(mark.is_some_and(|mark| mark == target.uuid.to_string()))
}

/// The memory that a domain may have at most, ever, where it is written down.
pub(crate) fn maximum(xenstore: &Xenstore, domid: DomId) -> io::Result<Option<Mib>> {
    let path = format!("/local/domain/{domid}/memory/static-max");
    let kib: Option<u64> = xenstore.read(&path)?.and_then(|text| text.parse().ok());
    Ok(kib.and_then(|kib| Mib::new(kib / 1024).ok()))
}
