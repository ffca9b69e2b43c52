//! Opening a file or an address in another qube: `qvm-open-in-vm`, `qvm-open-in-dvm`, and the
//! services `qubes.OpenInVM` and `qubes.OpenURL`.
//!
//! The stream of `qubes.OpenInVM` is a field of 256 bytes with the file's name and then its
//! content; the answer is the content as it was edited, or nothing.

mod ask;
mod serve;

use std::ffi::OsString;
use std::process::ExitCode;

/// Length of the field with the name, NUL included.
const NAME_FIELD: usize = 256;
/// Before the name of a file that may only be looked at.
const VIEW_ONLY: &[u8] = b"view-only-";
/// What `qubes.OpenURL` takes.
const SCHEMES: [&str; 3] = ["http://", "https://", "ftp://"];
/// Longest address that is read; browsers take less.
const URL_MAX: u64 = 64 * 1024;

/// `qvm-open-in-vm [--view-only] TARGET FILE|URL`.
pub fn qvm_open_in_vm(arguments: Vec<OsString>) -> ExitCode {
    ask::run("qvm-open-in-vm", None, arguments)
}

/// `qvm-open-in-dvm [--view-only] FILE|URL`.
pub fn qvm_open_in_dvm(arguments: Vec<OsString>) -> ExitCode {
    ask::run("qvm-open-in-dvm", Some("@dispvm"), arguments)
}

/// The service `qubes.OpenInVM`.
pub fn open_in_vm_service(_arguments: Vec<OsString>) -> ExitCode {
    serve::run("qubes.OpenInVM", serve::open_file)
}

/// The service `qubes.OpenURL`.
pub fn open_url_service(_arguments: Vec<OsString>) -> ExitCode {
    serve::run("qubes.OpenURL", serve::open_url)
}

/// The field for a file's name: of a long name the end stays, which has the extension.
fn name_field(name: &[u8], view_only: bool) -> [u8; NAME_FIELD] {
    let prefix: &[u8] = if view_only { VIEW_ONLY } else { b"" };
    let room = NAME_FIELD - 1 - prefix.len();
    let name = name.get(name.len().saturating_sub(room)..).unwrap_or(name);
    let mut field = [0; NAME_FIELD];
    for (to, from) in field.iter_mut().zip(prefix.iter().chain(name)) {
        *to = *from;
    }
    field
}

/// The name in a field from another qube, safe to create, and whether it may only be looked at.
/// None: it holds a path, or nothing.
fn read_name(field: &[u8; NAME_FIELD]) -> Option<(String, bool)> {
    let text = field.split(|byte| *byte == 0).next()?;
    let text = text.get(..NAME_FIELD - 1).unwrap_or(text);
    let (text, view_only) = match text.strip_prefix(VIEW_ONLY) {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    if text.contains(&b'/') || matches!(text, b"" | b"." | b"..") {
        return None;
    }
    let safe = |byte: &u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'.' | b'_' | b'-' | b'+' | b'@' => {
            char::from(*byte)
        }
        _ => '_',
    };
    Some((text.iter().map(safe).collect(), view_only))
}

fn is_url(text: &str) -> bool {
    let known = |scheme: &&str| {
        let start = text.get(..scheme.len()).unwrap_or_default();
        start.eq_ignore_ascii_case(scheme)
    };
    SCHEMES.iter().any(known) && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_its_field() {
        for (name, view_only) in [("a.pdf", false), ("a.pdf", true), ("x", true)] {
            let field = name_field(name.as_bytes(), view_only);
            assert_eq!(read_name(&field), Some((name.to_owned(), view_only)));
        }
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        for view_only in [false, true] {
            let long = "x".repeat(300) + ".pdf";
            let field = name_field(long.as_bytes(), view_only);
            assert_eq!(field[NAME_FIELD - 1], 0);
            let (name, _) = read_name(&field).unwrap();
            assert!(name.ends_with("x.pdf"));
            let prefix = if view_only { VIEW_ONLY.len() } else { 0 };
            assert_eq!(name.len() + prefix, NAME_FIELD - 1);
        }
    }

    #[test]
    fn a_hostile_name_becomes_harmless_or_nothing() {
        let field = |name: &[u8]| name_field(name, false);
        for name in [
            &b""[..],
            b"..",
            b".",
            b"/etc/passwd",
            b"a/b",
            b"view-only-",
            b"view-only-..",
        ] {
            assert_eq!(read_name(&field(name)), None);
        }
        let (name, _) = read_name(&field(b"a b\x1b$(x)\xff;.txt")).unwrap();
        assert_eq!(name, "a_b___x___.txt");
        let (name, _) = read_name(&[b'a'; NAME_FIELD]).unwrap();
        assert_eq!(
            name.len(),
            NAME_FIELD - 1,
            "the last byte counts as the end"
        );
    }

    #[test]
    fn only_addresses_of_known_kinds_are_opened() {
        for good in ["http://a", "HTTPS://a/b?c", "ftp://a"] {
            assert!(is_url(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "file:///etc/passwd",
            "javascript:x",
            "http://a\nb",
            " http://a",
            "é",
        ] {
            assert!(!is_url(bad), "{bad:?}");
        }
    }
}
