//! Network interfaces, whose other end is in a domain that is slow, or gone.

use std::thread;
use std::time::{Duration, Instant};

use bulkhead_libxl_sys::{Context, Xenstore};
use bulkhead_wire::xl::{DomId, Failure, LibxlCode, Nic, NicId};

use crate::operate::{SERVED, failure, xenstore};

/// The state of a backend that its driver has not looked at yet (xen/io/xenbus.h).
const INITIALISING: &str = "1";

/// How long a backend may take after libxl has waited for its ten seconds: a domain whose kernel has
/// much else to do, on a slow machine.
const LATE: Duration = Duration::from_secs(50);

/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(100);

/// Where the other end of an interface has its entries.
fn backend(domid: DomId, nic: &Nic) -> String {
    format!(
        "/local/domain/{}/backend/vif/{domid}/{}",
        nic.backend, nic.id
    )
}

/// Gives a domain an interface, and waits until the domain that it leads to has taken it.
pub(crate) fn attach(
    context: &Context,
    store: &Xenstore,
    domid: DomId,
    nic: &Nic,
) -> Result<(), Failure> {
    match context.attach_nic(domid, nic) {
        Ok(()) => return Ok(()),
        // What is there is not this one.
        Err(code @ LibxlCode::DeviceExists) => return Err(failure(code)),
        Err(_) => {}
    }
    let taken = taken_late(store, domid, nic);
    if taken.is_err() {
        // Whatever becomes of it, the reason is why it is not there.
        let _ = context.detach_nic(domid, nic.id);
    }
    taken
}

/// libxl leaves all entries in place when it gives up, so that the interface is as good as any if it
/// is taken now.
fn taken_late(store: &Xenstore, domid: DomId, nic: &Nic) -> Result<(), Failure> {
    let path = format!("{}/state", backend(domid, nic));
    let fails = |why: String| {
        Err(Failure::Nic {
            nic: nic.id,
            backend: nic.backend,
            why,
        })
    };
    let end = Instant::now() + LATE;
    let mut told = false;
    loop {
        match store.read(&path).map_err(|e| xenstore(&e))?.as_deref() {
            Some(state) if SERVED.contains(&state) => return Ok(()),
            Some(INITIALISING) if Instant::now() < end => {}
            Some(INITIALISING) => {
                return fails("it did not take it in time; has it the driver xen-netback?".into());
            }
            Some(state) => return fails(format!("its end is in state {state}")),
            None => return fails("it has ended".into()),
        }
        if !told {
            let (backend, nic) = (nic.backend, nic.id);
            tracing::warn!(
                %domid, %nic, %backend, wait = ?LATE,
                "a network interface is not taken yet, and is waited for"
            );
            told = true;
        }
        thread::sleep(LOOK);
    }
}

/// Takes an interface away. That its other end is gone, with its domain, is no error.
pub(crate) fn detach(
    context: &Context,
    store: &Xenstore,
    domid: DomId,
    nic: NicId,
) -> Result<(), Failure> {
    let Err(code) = context.detach_nic(domid, nic) else {
        return Ok(());
    };
    if code == LibxlCode::NotFound {
        return Err(failure(code));
    }
    // Its last entries go with it, and libxl removes them whatever else fails.
    let left = store.read(&format!("/libxl/{domid}/device/vif/{nic}/frontend"));
    match left.map_err(|e| xenstore(&e))? {
        None => Ok(()),
        Some(_) => Err(failure(code)),
    }
}
