//! The description: loading never panics, formatting is stable and changes nothing that is meant.
#![no_main]

use std::path::Path;

use bulkhead_model::format::format;
use bulkhead_model::load::{check_file, load};
use bulkhead_model::source::MemoryReader;
use libfuzzer_sys::fuzz_target;

/// What a text means. Where its rules stand is for messages and no part of that.
fn loaded(text: &str) -> Option<String> {
    let reader = MemoryReader::new([("/system.ron", text)]);
    let mut meant = load(Path::new("/system.ron"), &reader).ok()?.description;
    for rules in meant.policy.iter_mut().chain(&mut meant.policy_tests) {
        rules.first_line = 1;
    }
    Some(format!("{meant:?}"))
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = check_file("system.ron", text);
    let before = loaded(text);
    if let Ok(formatted) = format("system.ron", text) {
        let again = format("system.ron", &formatted).ok();
        assert_eq!(
            again.as_deref(),
            Some(formatted.as_str()),
            "formatting is stable"
        );
        assert_eq!(loaded(&formatted), before, "formatting changes no meaning");
    } else {
        assert!(
            before.is_none(),
            "what cannot be formatted cannot be loaded"
        );
    }
});
