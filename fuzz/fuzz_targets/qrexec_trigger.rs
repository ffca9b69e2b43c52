//! The trigger sanitiser: what it lets through, encoded again, is let through unchanged.
#![no_main]

use bulkhead_wire::qrexec::announced::Announced;
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
        let most = Announced {
            files: u64::MAX,
            folders: u64::MAX,
            bytes: u64::MAX,
            at_least: false,
        };
        for ident in [Ident::for_slot(7), Ident::announcing(u32::MAX, most)] {
            let _ = raw.forward(version, &ident);
        }
    }
    let version = raw.version();
    let Ok(trigger) = raw.validate() else { return };
    if let Some(announced) = trigger.ident.announced() {
        assert!(announced.is_possible());
        let slot = trigger.ident.slot().expect("both are read together");
        assert_eq!(Ident::announcing(slot, announced), trigger.ident);
    }
    let bytes = trigger.encode(version).expect("a valid trigger has a form");
    let again = UntrustedTrigger::parse(kind, &bytes[HEADER_LEN..]).expect("its form is one");
    assert_eq!(again.validate().expect("and valid"), trigger);
});
