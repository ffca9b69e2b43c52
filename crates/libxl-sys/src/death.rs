//! Being told when domains end.

use std::fmt;
use std::ptr::null_mut;
use std::sync::Arc;

use bulkhead_wire::xl::{DomId, LibxlCode};

use crate::context::{Context, Ended, number};
use crate::memory::check;
use crate::raw;

/// The kinds of events that are waited for.
const KINDS: u64 =
    1 << raw::LIBXL_EVENT_TYPE_DOMAIN_SHUTDOWN | 1 << raw::LIBXL_EVENT_TYPE_DOMAIN_DEATH;

/// What has happened to a watched domain. First the one, later the other; or at once the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It has ended, and what is left of it is to be removed.
    Ended(Ended),
    /// It is no more.
    Gone,
}

/// Has one domain watched until it is dropped.
pub struct DeathWatch {
    context: Arc<Context>,
    pointer: *mut raw::libxl_evgen_domain_death,
}

// SAFETY: it is only a handle for its context, which any thread may use.
unsafe impl Send for DeathWatch {}

impl fmt::Debug for DeathWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeathWatch").finish_non_exhaustive()
    }
}

impl DeathWatch {
    /// Watches a domain; what happens to it is told by [`Context::next_death`] with `cookie`, also
    /// what happened before.
    ///
    /// # Errors
    /// What libxl says.
    pub fn new(context: &Arc<Context>, domid: DomId, cookie: u64) -> Result<Self, LibxlCode> {
        let mut pointer = null_mut();
        // SAFETY: the context is whole and lives as long as the handle.
        check(unsafe {
            let xl = &context.library.xl;
            let (ctx, domid) = (context.pointer, number(domid));
            xl.libxl_evenable_domain_death(ctx, domid, cookie, &raw mut pointer)
        })?;
        Ok(Self {
            context: Arc::clone(context),
            pointer,
        })
    }
}

impl Drop for DeathWatch {
    fn drop(&mut self) {
        // SAFETY: the handle is of this context, and this is its end.
        unsafe {
            let xl = &self.context.library.xl;
            xl.libxl_evdisable_domain_death(self.context.pointer, self.pointer);
        }
    }
}

impl Context {
    /// Waits until something happens to a watched domain: its cookie, and what. None for an event
    /// that is none of ours.
    ///
    /// # Errors
    /// What libxl says.
    pub fn next_death(&self) -> Result<Option<(u64, Death)>, LibxlCode> {
        let (xl, mut event) = (&self.library.xl, null_mut());
        // SAFETY: the context is whole, and no predicate is given.
        check(unsafe {
            xl.libxl_event_wait(self.pointer, &raw mut event, KINDS, None, null_mut())
        })?;
        // SAFETY: on success it is an event of the context's, whose union is of its type, and which
        // is freed once, after it was read.
        unsafe {
            let told = match (*event).type_ {
                raw::LIBXL_EVENT_TYPE_DOMAIN_DEATH => Some(Death::Gone),
                raw::LIBXL_EVENT_TYPE_DOMAIN_SHUTDOWN => Some(Death::Ended(Ended(
                    (*event).u.domain_shutdown.shutdown_reason,
                ))),
                _ => None,
            };
            let cookie = (*event).for_user;
            xl.libxl_event_free(self.pointer, event);
            Ok(told.map(|death| (cookie, death)))
        }
    }
}
