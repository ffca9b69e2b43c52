//! Per-service configuration: comments and blank lines change nothing.
#![no_main]

use bulkhead_wire::qrexec::config::ServiceConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(config) = ServiceConfig::parse(data) else {
        return;
    };
    let commented = [b"# a comment\n\n", data].concat();
    assert_eq!(ServiceConfig::parse(&commented), Ok(config));
});
