//! Packets among the daemon, the pump and the starter of a call that dom0 serves: what decodes,
//! encodes to something that decodes to the same, and what fits the pump's room, fits it again.
#![no_main]

use std::fmt::Debug;

use bulkhead_wire::relay::{decode, encode};
use bulkhead_wire::service::{Order, Report, TO_PUMP_MAX, ToPump};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest packet that what `data` says has, if it says anything.
fn again<T: Debug + PartialEq + Serialize + DeserializeOwned>(data: &[u8]) -> usize {
    let Ok(message) = decode::<T>(data) else {
        return 0;
    };
    let packet = encode(&message).expect("no longer than it was");
    assert_eq!(decode::<T>(&packet).expect("ours"), message);
    packet.len()
}

fuzz_target!(|data: &[u8]| {
    assert!(again::<Report>(data) <= TO_PUMP_MAX);
    assert!(again::<ToPump>(data) <= TO_PUMP_MAX);
    again::<Order>(data);
});
