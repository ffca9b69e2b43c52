//! Loading libxl.

use std::fmt;
use std::sync::Arc;

use bulkhead_wire::xl::{ConnectError, XenVersion};

use crate::{raw, raw_xenstore};

/// The release that the bindings are of.
pub const BOUND: XenVersion = XenVersion {
    major: 4,
    minor: 20,
};

/// Its library, as every Linux system names it.
const LIBXL: &str = "libxenlight.so.4.20";

/// xenstore's library, which libxl itself uses; its interface is stable.
const LIBXENSTORE: &str = "libxenstore.so.4";

/// The loaded libraries.
pub struct Libxl {
    pub(crate) xl: raw::Libxl,
    pub(crate) xenstore: raw_xenstore::Libxenstore,
}

impl fmt::Debug for Libxl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Libxl").finish_non_exhaustive()
    }
}

impl Libxl {
    /// Loads the libraries of [`BOUND`].
    ///
    /// # Errors
    /// [`ConnectError::NoLibrary`] where one is missing, or lacks a function.
    pub fn load() -> Result<Arc<Self>, ConnectError> {
        Self::load_from(LIBXL, LIBXENSTORE)
    }

    fn load_from(libxl: &str, libxenstore: &str) -> Result<Arc<Self>, ConnectError> {
        // SAFETY: the libraries are Xen's own by their full names, and what runs when they are
        // loaded expects nothing of us. Every symbol has the type that its own header gives.
        let xl = unsafe { raw::Libxl::new(libxl) }.map_err(|e| missing(libxl, &e))?;
        // SAFETY: as above.
        let xenstore = unsafe { raw_xenstore::Libxenstore::new(libxenstore) };
        let xenstore = xenstore.map_err(|e| missing(libxenstore, &e))?;
        Ok(Arc::new(Self { xl, xenstore }))
    }
}

fn missing(library: &str, error: &libloading::Error) -> ConnectError {
    ConnectError::NoLibrary {
        library: library.to_owned(),
        why: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named() {
        let error = Libxl::load_from("libxenlight.so.0.0", LIBXENSTORE).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("`libxenlight.so.0.0` cannot be loaded: libxenlight.so.0.0: "),
            "{text}"
        );
    }

    #[test]
    fn a_library_that_is_not_libxl_is_refused() {
        let error = Libxl::load_from("libc.so.6", LIBXENSTORE).unwrap_err();
        assert!(
            error.to_string().contains("undefined symbol: libxl_"),
            "{error}"
        );
    }
}
