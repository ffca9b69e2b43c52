//! The request, byte by byte.
//!
//! Version 4 of a trigger as `bulkhead_wire::qrexec::trigger` describes it, whose encoder needs
//! memory and cannot be used yet; a test of the agent holds both against each other.

/// Most bytes of a service that is asked for early: any usual one with its argument. Longer ones
/// are asked for once the program has started.
pub const SERVICE_MAX: usize = 255;
/// Field of a name, with its NUL.
const NAME_FIELD: usize = 64;
const IDENT_FIELD: usize = 32;
const HEADER: usize = 8;
/// The longest message.
pub const MESSAGE_MAX: usize = HEADER + 2 * NAME_FIELD + IDENT_FIELD + SERVICE_MAX + 1;
/// Kind of the message.
const TRIGGER_4: u32 = 0x213;
/// What stands for an identifier until the agent has given its own.
const IDENT: &[u8] = b"SOCKET";

/// Whether these two arguments are a request that needs no further thought: no option, no old
/// spelling, nothing that is refused or said in another way.
#[must_use]
#[inline(always)]
pub fn is_plain(target: &[u8], service: &[u8]) -> bool {
    target.len() < NAME_FIELD
        && !matches!(target.first(), None | Some(b'-'))
        && target
            .iter()
            .all(|byte| byte.is_ascii_graphic() && *byte != b'$')
        && service.len() <= SERVICE_MAX
        && !matches!(service.first(), None | Some(b'+'))
        && service.iter().all(u8::is_ascii_graphic)
}

/// Gives the message of a plain request to `put`, byte by byte.
#[inline(always)]
pub fn write(target: &[u8], service: &[u8], mut put: impl FnMut(u8)) {
    let body = 2 * NAME_FIELD + IDENT_FIELD + service.len() + 1;
    let mut field = |bytes: &[u8], size: usize| {
        for at in 0..size {
            put(bytes.get(at).copied().unwrap_or(0));
        }
    };
    field(&TRIGGER_4.to_le_bytes(), HEADER / 2);
    field(&body.to_le_bytes(), HEADER / 2);
    field(&[], NAME_FIELD);
    field(target, NAME_FIELD);
    field(IDENT, IDENT_FIELD);
    field(service, service.len() + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_plainest_requests_are_early() {
        for (target, service) in [("work", "a.B"), ("@default", "a.B+c"), ("a", "-b")] {
            assert!(is_plain(target.as_bytes(), service.as_bytes()), "{target}");
        }
        let long = "x".repeat(SERVICE_MAX + 1);
        for (target, service) in [
            ("", "a"),
            ("-t", "a"),
            ("--", "a"),
            ("$default", "a"),
            ("a b", "a"),
            ("\u{e9}", "a"),
            ("a", ""),
            ("a", "+b"),
            ("a", "b\u{e9}"),
            ("a", "b\n"),
            ("a", &long),
            (&"t".repeat(NAME_FIELD), "a"),
        ] {
            assert!(!is_plain(target.as_bytes(), service.as_bytes()), "{target}");
        }
        let (target, service) = ("t".repeat(NAME_FIELD - 1), "x".repeat(SERVICE_MAX));
        assert!(is_plain(target.as_bytes(), service.as_bytes()));
        let mut count = 0;
        write(target.as_bytes(), service.as_bytes(), |_| count += 1);
        assert_eq!(count, MESSAGE_MAX);
    }
}
