//! What libxl says, line by line.

use std::ffi::{CStr, c_char, c_int, c_ulong};
use std::sync::Arc;

use crate::raw;

/// Bytes of one line of libxl that are kept.
const LINE_MAX: usize = 1024;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Steps of an operation.
    Debug,
    /// What a person may want to know.
    Info,
    /// What may explain an error to come.
    Warning,
    /// Something failed.
    Error,
}

impl Level {
    fn of(level: raw::xentoollog_level) -> Self {
        match level {
            raw::XTL_ERROR | raw::XTL_CRITICAL => Self::Error,
            raw::XTL_WARN => Self::Warning,
            raw::XTL_INFO | raw::XTL_NOTICE => Self::Info,
            _ => Self::Debug,
        }
    }
}

/// Where a [`crate::Context`] says what it does. Called on any thread that uses the context.
pub trait Log: Send + Sync {
    /// One line, without its end.
    fn line(&self, level: Level, line: &str);
}

/// A logger as libxl wants it: its functions first, what they need behind them.
#[repr(C)]
pub(crate) struct Logger {
    functions: raw::xentoollog_logger,
    to: Arc<dyn Log>,
}

impl Logger {
    /// A logger that stays where it is as long as its context.
    pub(crate) fn new(to: Arc<dyn Log>) -> Box<Self> {
        let functions = raw::xentoollog_logger {
            vmessage: Some(message),
            progress: Some(progress),
            destroy: None,
        };
        Box::new(Self { functions, to })
    }

    /// What libxl is given.
    pub(crate) fn pointer(self: &mut Box<Self>) -> *mut raw::xentoollog_logger {
        (&raw mut **self).cast()
    }
}

unsafe extern "C" {
    /// The C library's; its last argument as C passes a `va_list` on this processor.
    fn vsnprintf(
        to: *mut c_char,
        size: usize,
        format: *const c_char,
        arguments: *mut raw::__va_list_tag,
    ) -> c_int;
}

unsafe extern "C" fn message(
    logger: *mut raw::xentoollog_logger,
    level: raw::xentoollog_level,
    errno: c_int,
    context: *const c_char,
    format: *const c_char,
    arguments: *mut raw::__va_list_tag,
) {
    let mut buffer = [0_u8; LINE_MAX];
    // SAFETY: the buffer has the size that is told, and libxl's format fits its arguments.
    let written = unsafe { vsnprintf(buffer.as_mut_ptr().cast(), LINE_MAX, format, arguments) };
    let text = CStr::from_bytes_until_nul(&buffer).unwrap_or_default();
    let mut line = text.to_string_lossy().trim_end().to_owned();
    if written < 0 {
        "a line that cannot be written".clone_into(&mut line);
    }
    if !context.is_null() {
        // SAFETY: where it is not null it is a C string, which lives as long as this call.
        let context = unsafe { CStr::from_ptr(context) };
        line.insert_str(0, &format!("{}: ", context.to_string_lossy()));
    }
    if errno > 0 {
        line.push_str(&format!(": {}", std::io::Error::from_raw_os_error(errno)));
    }
    // SAFETY: libxl passes the pointer that it was given, and the logger outlives the context.
    let logger = unsafe { &*logger.cast::<Logger>() };
    logger.to.line(Level::of(level), &line);
}

/// Progress of building a domain's memory and the like: nobody looks at it.
unsafe extern "C" fn progress(
    _logger: *mut raw::xentoollog_logger,
    _context: *const c_char,
    _doing: *const c_char,
    _percent: c_int,
    _done: c_ulong,
    _total: c_ulong,
) {
}
