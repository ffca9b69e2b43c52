//! Memory that libxl frees, and the units it counts in.

use std::ffi::{CString, c_char};

use bulkhead_wire::xl::{LibxlCode, MIB_MAX, Mib};

/// What most functions of libxl return.
pub(crate) fn check(returned: i32) -> Result<(), LibxlCode> {
    if returned < 0 {
        return Err(LibxlCode::from_number(returned));
    }
    Ok(())
}

/// A copy of `text` made by `malloc`, for a field that libxl frees.
pub(crate) fn string(text: &str) -> Result<*mut c_char, LibxlCode> {
    let text = CString::new(text).map_err(|_| LibxlCode::Invalid)?;
    // SAFETY: it is a C string.
    let copy = unsafe { libc::strdup(text.as_ptr()) };
    if copy.is_null() {
        return Err(LibxlCode::NoMemory);
    }
    Ok(copy)
}

/// An array of zeros made by `calloc`, for a field that libxl frees.
pub(crate) fn array<T>(length: usize) -> Result<*mut T, LibxlCode> {
    // SAFETY: it takes any two numbers; their overflow is its own error.
    let array = unsafe { libc::calloc(length.max(1), size_of::<T>()) };
    if array.is_null() {
        return Err(LibxlCode::NoMemory);
    }
    Ok(array.cast())
}

/// Memory as libxl counts it, rounded down; at most [`MIB_MAX`], which Xen uses up for "no limit".
pub(crate) fn mib(kib: u64) -> Mib {
    let most = u64::from(MIB_MAX);
    Mib::new((kib / 1024).min(most)).expect("no more than the limit")
}

/// The same rounded up, for what is needed.
pub(crate) fn mib_up(kib: u64) -> Mib {
    mib(kib.saturating_add(1023))
}

/// Memory for libxl.
pub(crate) fn kib(mib: Mib) -> u64 {
    u64::from(mib.number()) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kib_become_mib_and_back() {
        assert_eq!((mib(2047).number(), mib_up(2047).number()), (1, 2));
        assert_eq!((mib(2048).number(), mib_up(2048).number()), (2, 2));
        assert_eq!(mib(u64::MAX).number(), MIB_MAX);
        assert_eq!(mib_up(u64::MAX).number(), MIB_MAX);
        assert_eq!(mib(kib(mib(u64::MAX))).number(), MIB_MAX);
    }

    #[test]
    fn no_text_is_cut_at_a_nul() {
        assert_eq!(string("a\0b"), Err(LibxlCode::Invalid));
        let copy = string("text").unwrap();
        // SAFETY: made just now, and freed once.
        unsafe {
            assert_eq!(libc::strlen(copy), 4);
            libc::free(copy.cast());
        }
    }
}
