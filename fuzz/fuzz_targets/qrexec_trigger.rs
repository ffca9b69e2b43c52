//! The trigger sanitiser: what it lets through, encoded again, is let through unchanged.
#![no_main]

use bulkhead_wire::qrexec::trigger::UntrustedTrigger;
use bulkhead_wire::qrexec::{HEADER_LEN, Ident, Kind, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((mode, body)) = data.split_first() else {
        return;
    };
    let kind = [Kind::Trigger2, Kind::Trigger3, Kind::Trigger4][usize::from(mode % 3)];
    let Ok(raw) = UntrustedTrigger::parse(kind, body) else {
        return;
    };
    for version in [Version::V2, Version::V3, Version::V4] {
        let _ = raw.forward(version, &Ident::for_slot(7));
    }
    let version = raw.version();
    let Ok(trigger) = raw.validate() else { return };
    let bytes = trigger.encode(version).expect("a valid trigger has a form");
    let again = UntrustedTrigger::parse(kind, &bytes[HEADER_LEN..]).expect("its form is one");
    assert_eq!(again.validate().expect("and valid"), trigger);
});
