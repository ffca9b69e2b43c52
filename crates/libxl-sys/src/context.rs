//! One connection to libxl, and what is asked of it about domains that exist.

use std::ffi::CStr;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::Arc;

use bulkhead_wire::xl::{
    Capabilities, ConnectError, DomId, DomainUuid, Host, LibxlCode, Mib, SHOWN_NAME_MAX, Target,
    Vcpus, Weight, XenVersion,
};

use crate::library::{BOUND, Libxl};
use crate::log::{Log, Logger};
use crate::memory::{check, kib, mib};
use crate::raw;

/// Bytes of one of Xen's pages.
const PAGES_PER_KIB_SHIFT: u32 = 2;

/// libxl reaps its own children and nobody else's, so that many contexts can be in one process.
static CHILDREN: raw::libxl_childproc_hooks = raw::libxl_childproc_hooks {
    chldowner: raw::libxl_sigchld_owner_libxl_always_selective_reap,
    fork_replacement: None,
    reaped_callback: None,
};

/// A connection to libxl. Any thread may use it; most calls block the thread for as long as the
/// operation takes.
pub struct Context {
    pub(crate) library: Arc<Libxl>,
    pub(crate) pointer: *mut raw::libxl_ctx,
    /// libxl has a pointer to it.
    _logger: Box<Logger>,
}

// SAFETY: "struct libxl_ctx* is threadsafe" (libxl.h, "Some notes about threading"), and the log
// that it calls is `Sync`.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it was allocated by `open`, and whatever uses it borrows or shares `self`.
        unsafe { self.library.xl.libxl_ctx_free(self.pointer) };
    }
}

/// How a domain that still exists has ended, by Xen's number for the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended(pub u8);

/// A domain that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub target: Target,
    /// Nobody is to run it now.
    pub paused: bool,
    /// It has ended.
    pub ended: Option<Ended>,
    /// It is being removed.
    pub dying: bool,
    /// Memory that it has.
    pub memory: Mib,
    /// Memory that it may have now.
    pub maximum: Mib,
    /// Processors in use.
    pub vcpus: u32,
    /// Processors that it may use.
    pub vcpus_maximum: u32,
    /// Processor time used, in nanoseconds.
    pub cpu_time_ns: u64,
}

impl Context {
    /// Connects.
    ///
    /// # Errors
    /// Where there is no Xen, or another release than [`BOUND`].
    pub fn open(library: &Arc<Libxl>, log: Arc<dyn Log>) -> Result<Self, ConnectError> {
        let mut logger = Logger::new(log);
        let mut pointer = null_mut();
        // SAFETY: the logger outlives the context, and version and flags are the only ones there
        // are: 0.
        let returned = unsafe {
            let xl = &library.xl;
            xl.libxl_ctx_alloc(&raw mut pointer, 0, 0, logger.pointer())
        };
        check(returned).map_err(|code| ConnectError::NoXen {
            why: code.to_string(),
        })?;
        let context = Self {
            library: Arc::clone(library),
            pointer,
            _logger: logger,
        };
        // SAFETY: the context is new and has no children; the hooks are static.
        unsafe {
            let xl = &context.library.xl;
            xl.libxl_childproc_setmode(pointer, &raw const CHILDREN, null_mut());
        }
        let running = context.version()?.0;
        if running != BOUND {
            return Err(ConnectError::WrongVersion {
                bound: BOUND,
                running,
            });
        }
        Ok(context)
    }

    /// The release that runs, and the rest of its version.
    fn version(&self) -> Result<(XenVersion, String), ConnectError> {
        // SAFETY: the context is whole.
        let info = unsafe { self.library.xl.libxl_get_version_info(self.pointer) };
        // SAFETY: it is null or belongs to the context, which keeps it.
        let info = unsafe { info.as_ref() };
        let info = info.ok_or_else(|| ConnectError::NoXen {
            why: "it does not tell its version".to_owned(),
        })?;
        let number = |n: i32| u16::try_from(n).unwrap_or(u16::MAX);
        let version = XenVersion {
            major: number(info.xen_version_major),
            minor: number(info.xen_version_minor),
        };
        // SAFETY: null or a C string of the context's.
        Ok((version, unsafe { text(info.xen_version_extra) }))
    }

    /// The machine.
    ///
    /// # Errors
    /// What libxl says.
    pub fn host(&self) -> Result<Host, LibxlCode> {
        let (running, version_extra) = self.version().map_err(|_| LibxlCode::Fail)?;
        let mut info = MaybeUninit::uninit();
        let xl = &self.library.xl;
        // SAFETY: `init` fills all of it; nothing in it is allocated, so nothing is lost.
        let (returned, info) = unsafe {
            xl.libxl_physinfo_init(info.as_mut_ptr());
            let returned = xl.libxl_get_physinfo(self.pointer, info.as_mut_ptr());
            (returned, info.assume_init())
        };
        check(returned)?;
        let pages = |n: u64| mib(n << PAGES_PER_KIB_SHIFT);
        Ok(Host {
            bound: BOUND,
            running,
            version_extra,
            capabilities: Capabilities {
                pv: info.cap_pv,
                hvm: info.cap_hvm,
                hap: info.cap_hap,
                iommu: info.cap_hvm_directio,
            },
            memory: pages(info.total_pages),
            free: pages(info.free_pages),
            cpus: info.nr_cpus,
        })
    }

    /// All domains but dom0, by number. Those that are being destroyed are no longer there.
    ///
    /// # Errors
    /// What libxl says.
    pub fn domains(&self) -> Result<Vec<Found>, LibxlCode> {
        let mut length = 0;
        // SAFETY: the context is whole.
        let list = unsafe {
            let xl = &self.library.xl;
            xl.libxl_list_domain(self.pointer, &raw mut length)
        };
        if list.is_null() {
            return Err(LibxlCode::Fail);
        }
        let entries = usize::try_from(length).unwrap_or(0);
        // SAFETY: libxl returns an array of that length.
        let slice = unsafe { std::slice::from_raw_parts(list, entries) };
        let mut found: Vec<Found> = slice.iter().filter_map(read).collect();
        // SAFETY: it is libxl's own array, and nothing borrows it any more.
        unsafe { self.library.xl.libxl_dominfo_list_free(list, length) };
        found.sort_by_key(|found| found.target.domid);
        Ok(found)
    }

    /// One domain, unless there is none with this number.
    ///
    /// # Errors
    /// What libxl says.
    pub fn domain(&self, domid: DomId) -> Result<Option<Found>, LibxlCode> {
        let xl = &self.library.xl;
        let mut info = MaybeUninit::uninit();
        // SAFETY: `init` fills all of it, and it is disposed of once, after it was read.
        unsafe {
            xl.libxl_dominfo_init(info.as_mut_ptr());
            let mut info = info.assume_init();
            let returned = xl.libxl_domain_info(self.pointer, &raw mut info, number(domid));
            let found = read(&info);
            xl.libxl_dominfo_dispose(&raw mut info);
            match check(returned) {
                Ok(()) => Ok(found),
                Err(LibxlCode::DomainNotFound) => Ok(None),
                Err(code) => Err(code),
            }
        }
    }

    /// A domain's name, cut off after [`SHOWN_NAME_MAX`] bytes; empty if it has none.
    #[must_use]
    pub fn name(&self, domid: DomId) -> String {
        // SAFETY: the context is whole; what is returned is null or a C string made by `malloc`.
        unsafe {
            let name = self
                .library
                .xl
                .libxl_domid_to_name(self.pointer, number(domid));
            let shown = text(name);
            libc::free(name.cast());
            shown
        }
    }

    /// Freezes a domain.
    ///
    /// # Errors
    /// What libxl says.
    pub fn pause(&self, domid: DomId) -> Result<(), LibxlCode> {
        // SAFETY: the context is whole; without a `how` it is done when this returns.
        check(unsafe {
            let xl = &self.library.xl;
            xl.libxl_domain_pause(self.pointer, number(domid), null())
        })
    }

    /// Lets a domain go on.
    ///
    /// # Errors
    /// What libxl says.
    pub fn unpause(&self, domid: DomId) -> Result<(), LibxlCode> {
        // SAFETY: as in `pause`.
        check(unsafe {
            let xl = &self.library.xl;
            xl.libxl_domain_unpause(self.pointer, number(domid), null())
        })
    }

    /// Asks a domain to end.
    ///
    /// # Errors
    /// What libxl says.
    pub fn shutdown(&self, domid: DomId) -> Result<(), LibxlCode> {
        // SAFETY: as in `pause`.
        check(unsafe {
            let xl = &self.library.xl;
            xl.libxl_domain_shutdown(self.pointer, number(domid), null())
        })
    }

    /// Ends a domain and removes what there is of it.
    ///
    /// # Errors
    /// What libxl says.
    pub fn destroy(&self, domid: DomId) -> Result<(), LibxlCode> {
        // SAFETY: as in `pause`.
        check(unsafe {
            let xl = &self.library.xl;
            xl.libxl_domain_destroy(self.pointer, number(domid), null())
        })
    }

    /// Asks a domain's balloon driver to come to a size, and lets it have no more.
    ///
    /// # Errors
    /// What libxl says.
    pub fn set_memory(&self, domid: DomId, memory: Mib) -> Result<(), LibxlCode> {
        let target = i64::try_from(kib(memory)).map_err(|_| LibxlCode::Invalid)?;
        // SAFETY: the context is whole.
        check(unsafe {
            let xl = &self.library.xl;
            xl.libxl_set_memory_target(self.pointer, number(domid), target, 0, 1)
        })
    }

    /// Asks a domain to use so many processors.
    ///
    /// # Errors
    /// What libxl says.
    pub fn set_vcpus(&self, domid: DomId, vcpus: Vcpus) -> Result<(), LibxlCode> {
        let xl = &self.library.xl;
        let mut map = MaybeUninit::uninit();
        // SAFETY: `init` fills all of it, `fill` allocates, and it is disposed of once.
        unsafe {
            xl.libxl_bitmap_init(map.as_mut_ptr());
            let mut map = map.assume_init();
            let filled = self.fill(&mut map, vcpus, vcpus);
            let done = filled.and_then(|()| {
                let (ctx, domid) = (self.pointer, number(domid));
                check(xl.libxl_set_vcpuonline(ctx, domid, &raw mut map, null()))
            });
            xl.libxl_bitmap_dispose(&raw mut map);
            done
        }
    }

    /// Changes a domain's share of processor time, whatever scheduler Xen has.
    ///
    /// # Errors
    /// What libxl says.
    pub fn set_weight(&self, domid: DomId, weight: Weight) -> Result<(), LibxlCode> {
        let xl = &self.library.xl;
        let mut params = MaybeUninit::uninit();
        // SAFETY: `init` fills all of it, which leaves the rest as it is, and it is disposed of
        // once.
        unsafe {
            xl.libxl_domain_sched_params_init(params.as_mut_ptr());
            let mut params = params.assume_init();
            params.weight = weight.number().into();
            let (ctx, domid) = (self.pointer, number(domid));
            let done = check(xl.libxl_domain_sched_params_set(ctx, domid, &raw const params));
            xl.libxl_domain_sched_params_dispose(&raw mut params);
            done
        }
    }

    /// Makes room for `of` bits in an empty `map` and sets the first `set`.
    pub(crate) fn fill(
        &self,
        map: &mut raw::libxl_bitmap,
        set: Vcpus,
        of: Vcpus,
    ) -> Result<(), LibxlCode> {
        let xl = &self.library.xl;
        // SAFETY: the map is initialised and has nothing allocated; bits past its end are ignored.
        unsafe {
            let length = i32::from(of.number());
            check(xl.libxl_cpu_bitmap_alloc(self.pointer, map, length))?;
            for bit in 0..i32::from(set.number()) {
                xl.libxl_bitmap_set(map, bit);
            }
        }
        Ok(())
    }

    /// Memory that no domain has.
    ///
    /// # Errors
    /// What libxl says.
    pub fn free_memory(&self) -> Result<Mib, LibxlCode> {
        let mut free = 0;
        // SAFETY: the context is whole.
        check(unsafe {
            let xl = &self.library.xl;
            xl.libxl_get_free_memory(self.pointer, &raw mut free)
        })?;
        Ok(mib(free))
    }
}

/// A number as libxl wants it.
pub(crate) fn number(domid: DomId) -> u32 {
    domid.number().into()
}

/// What is told of a domain; none of dom0 and of one that is as good as gone.
fn read(info: &raw::libxl_dominfo) -> Option<Found> {
    let domid = DomId::new(info.domid.into()).ok()?;
    if domid == DomId::DOM0 || info.dying {
        return None;
    }
    let uuid = DomainUuid(info.uuid.uuid);
    Some(Found {
        target: Target { domid, uuid },
        paused: info.paused,
        ended: info
            .shutdown
            .then(|| Ended(u8::try_from(info.shutdown_reason).unwrap_or(u8::MAX))),
        dying: info.dying,
        memory: mib(info.current_memkb),
        maximum: mib(info.max_memkb),
        vcpus: info.vcpu_online,
        vcpus_maximum: info.vcpu_max_id.saturating_add(1),
        cpu_time_ns: info.cpu_time,
    })
}

/// A C string as text that can be shown.
///
/// # Safety
/// It is null or a C string.
unsafe fn text(pointer: *const std::ffi::c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) }.to_string_lossy();
    let mut shown = String::new();
    for c in text.chars().map(|c| if c.is_control() { '_' } else { c }) {
        if shown.len() + c.len_utf8() > SHOWN_NAME_MAX {
            break;
        }
        shown.push(c);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_fit_to_be_shown() {
        let long = format!("a\x1b{}\0", "é".repeat(SHOWN_NAME_MAX));
        // SAFETY: both are what they must be.
        let (shown, none) = unsafe { (text(long.as_ptr().cast()), text(null())) };
        assert_eq!(shown, format!("a_{}", "é".repeat(31)));
        assert_eq!(none, "");
    }
}
