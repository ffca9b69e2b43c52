//! Command lines and service descriptors as an agent reads them.
#![no_main]

use bulkhead_wire::qrexec::command::{Command, ServiceCall, What};
use libfuzzer_sys::fuzz_target;

fn check(call: &ServiceCall) {
    for name in call.file_names() {
        assert!(
            !name.contains(['/', '\0']) && name != "." && name != "..",
            "{name:?}"
        );
    }
    for (key, value) in call.environment() {
        assert!(key.starts_with("QREXEC_") && !value.contains('\0'));
    }
}

fuzz_target!(|data: &[u8]| {
    for command in [Command::parse(data), Command::parse_rest(data)]
        .into_iter()
        .flatten()
    {
        if let Some(user) = &command.user {
            assert!(!user.is_empty() && !user.starts_with('-'));
        }
        if let What::Service(call) = &command.what {
            check(call);
        }
    }
    if let Ok(call) = ServiceCall::parse(data) {
        check(&call);
    }
});
