//! Argument vectors in service arguments: decode undoes encode, and what decodes, encodes to
//! something that decodes to the same.
#![no_main]

use bulkhead_wire::qrexec::vmexec::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let arguments: Vec<&[u8]> = data.split(|b| *b == b'\n').collect();
    let text = encode(&arguments);
    assert_eq!(decode(&text).expect("what we encode decodes"), arguments);
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(arguments) = decode(text)
    {
        assert_eq!(decode(&encode(&arguments)).as_ref(), Ok(&arguments));
    }
});
