//! Packets between the daemon and the process that uses libxl: what decodes, encodes to something
//! that decodes to the same, and a configuration that passes its check is within all limits.
#![no_main]

use bulkhead_wire::relay::{decode, encode};
use bulkhead_wire::xl::{DISKS_MAX, DomId, FromXl, NICS_MAX, Operation, ToXl};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = decode::<FromXl>(data) {
        let packet = encode(&message).expect("no longer than it was");
        assert_eq!(decode::<FromXl>(&packet).expect("ours"), message);
    }
    let Ok(message) = decode::<ToXl>(data) else {
        return;
    };
    let packet = encode(&message).expect("no longer than it was");
    assert_eq!(decode::<ToXl>(&packet).expect("ours"), message);
    let ToXl::Request { operation, .. } = message;
    if let Operation::Create(config) = operation
        && config.check().is_ok()
    {
        assert!(config.domid != DomId::DOM0 && config.memory <= config.maximum);
        assert!(config.disks.len() <= DISKS_MAX && config.nics.len() <= NICS_MAX);
        assert!(config.nics.iter().all(|nic| nic.backend != DomId::DOM0));
    }
});
