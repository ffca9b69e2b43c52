//! Packets between daemon and relay, both of which may lie: what decodes, encodes to something
//! that decodes to the same.
#![no_main]

use bulkhead_wire::relay::{FromRelay, ToRelay, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = decode::<FromRelay>(data) {
        let packet = encode(&message).expect("no longer than it was");
        assert_eq!(decode::<FromRelay>(&packet).expect("ours"), message);
    }
    if let Ok(message) = decode::<ToRelay>(data) {
        let packet = encode(&message).expect("no longer than it was");
        assert_eq!(decode::<ToRelay>(&packet).expect("ours"), message);
    }
});
