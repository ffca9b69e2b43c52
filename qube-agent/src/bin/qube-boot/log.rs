//! Messages, on the kernel's log: that has the time of each, and is what the console shows.

use std::error::Error;
use std::fs::File;
use std::io::Write;

use bulkhead_wire::causes;

/// Level and facility: a notice of a daemon.
const NOTICE: &str = "<29>";

/// Says one thing.
pub(crate) fn say(what: &str) {
    // Nobody can be told that nobody can be told.
    if let Ok(mut log) = File::options().write(true).open("/dev/kmsg") {
        let _ = log.write_all(format!("{NOTICE}qube-boot: {what}\n").as_bytes());
    }
}

/// Says what failed and why.
pub(crate) fn chain(error: &dyn Error) {
    say(&causes::chain(error));
}
