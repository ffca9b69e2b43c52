//! xenstore, as far as marks for domains need it.

use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::io;
use std::sync::Arc;

use bulkhead_wire::xl::ConnectError;

use crate::library::Libxl;
use crate::raw_xenstore as raw;

/// Not inside a transaction.
const NO_TRANSACTION: raw::xs_transaction_t = 0;

/// A connection to xenstore.
pub struct Xenstore {
    library: Arc<Libxl>,
    handle: *mut raw::xs_handle,
}

// SAFETY: the library does not mind which thread uses a handle, and only one has it.
unsafe impl Send for Xenstore {}

impl fmt::Debug for Xenstore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Xenstore").finish_non_exhaustive()
    }
}

impl Drop for Xenstore {
    fn drop(&mut self) {
        // SAFETY: it was opened by `open`, and this is its end.
        unsafe { self.library.xenstore.xs_close(self.handle) };
    }
}

impl Xenstore {
    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError::NoXenstore`].
    pub fn open(library: &Arc<Libxl>) -> Result<Self, ConnectError> {
        // SAFETY: 0 is no flag at all.
        let handle = unsafe { library.xenstore.xs_open(0) };
        if handle.is_null() {
            let why = io::Error::last_os_error().to_string();
            return Err(ConnectError::NoXenstore { why });
        }
        Ok(Self {
            library: Arc::clone(library),
            handle,
        })
    }

    /// The value of a key, if there is one.
    ///
    /// # Errors
    /// What xenstore says.
    pub fn read(&self, path: &str) -> io::Result<Option<String>> {
        let (path, mut length) = (CString::new(path)?, 0);
        // SAFETY: handle and path are whole; what is returned is null, or `length` bytes and a NUL
        // made by `malloc`, which are freed once, after they were read.
        unsafe {
            let xs = &self.library.xenstore;
            let value = xs.xs_read(self.handle, NO_TRANSACTION, path.as_ptr(), &raw mut length);
            if value.is_null() {
                return absent(io::Error::last_os_error()).map(|()| None);
            }
            let text = CStr::from_ptr(value.cast::<c_char>());
            let text = text.to_string_lossy().into_owned();
            libc::free(value);
            Ok(Some(text))
        }
    }

    /// Sets a key.
    ///
    /// # Errors
    /// What xenstore says.
    pub fn write(&self, path: &str, value: &str) -> io::Result<()> {
        let path = CString::new(path)?;
        let length = u32::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: handle and path are whole, and the value has that length.
        let done = unsafe {
            let (xs, value) = (&self.library.xenstore, value.as_ptr().cast());
            xs.xs_write(self.handle, NO_TRANSACTION, path.as_ptr(), value, length)
        };
        if done {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Removes a key and all below it. It need not be there.
    ///
    /// # Errors
    /// What xenstore says.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let path = CString::new(path)?;
        // SAFETY: handle and path are whole.
        let done = unsafe {
            let xs = &self.library.xenstore;
            xs.xs_rm(self.handle, NO_TRANSACTION, path.as_ptr())
        };
        if done {
            Ok(())
        } else {
            absent(io::Error::last_os_error())
        }
    }

    /// The names of the keys right below one; none where it is not there.
    ///
    /// # Errors
    /// What xenstore says.
    pub fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let (path, mut length) = (CString::new(path)?, 0);
        // SAFETY: handle and path are whole; what is returned is null, or `length` C strings in
        // one piece made by `malloc`, which is freed once, after they were read.
        unsafe {
            let xs = &self.library.xenstore;
            let names =
                xs.xs_directory(self.handle, NO_TRANSACTION, path.as_ptr(), &raw mut length);
            if names.is_null() {
                return absent(io::Error::last_os_error()).map(|()| Vec::new());
            }
            let all = std::slice::from_raw_parts(names, usize::try_from(length).unwrap_or(0));
            let text = |name: &*mut c_char| CStr::from_ptr(*name).to_string_lossy().into_owned();
            let list = all.iter().map(text).collect();
            libc::free(names.cast());
            Ok(list)
        }
    }
}

/// No error where something is merely not there.
fn absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        return Ok(());
    }
    Err(error)
}
