//! A layout of monitors, as a qube hears it of dom0: never more than may be, and what was heard is
//! heard the same when it is told again.
#![no_main]

use bulkhead_wire::monitors::{LAYOUT_MAX, Layout, MONITORS_MAX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(layout) = Layout::parse(data) else {
        return;
    };
    assert!((1..=MONITORS_MAX).contains(&layout.monitors().len()));
    let text = layout.to_string();
    assert!(text.len() <= LAYOUT_MAX);
    assert_eq!(Layout::parse(text.as_bytes()), Ok(layout));
});
