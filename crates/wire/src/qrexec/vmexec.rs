//! `qubes.VMExec`: an argument vector as a service argument.
//!
//! Arguments are joined by `+`. Letters, digits, `.` and `_` stand for themselves, `--` for a
//! minus, and `-XX` (upper-case hexadecimal) for any other byte.

use thiserror::Error;

/// The text is no encoded argument vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum VmExecError {
    /// A character that stands for nothing.
    #[error("character at {at} of an encoded command is not allowed")]
    Character {
        /// Byte offset.
        at: usize,
    },
    /// A minus without another minus or two hexadecimal digits.
    #[error("escape at {at} of an encoded command is broken")]
    Escape {
        /// Byte offset.
        at: usize,
    },
}

/// Encodes arguments.
#[must_use]
pub fn encode<A: AsRef<[u8]>>(arguments: &[A]) -> String {
    let mut out = String::new();
    for (index, argument) in arguments.iter().enumerate() {
        if index > 0 {
            out.push('+');
        }
        for &byte in argument.as_ref() {
            match byte {
                b'-' => out.push_str("--"),
                b if b.is_ascii_alphanumeric() || b == b'.' || b == b'_' => out.push(b.into()),
                b => {
                    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0');
                    out.push('-');
                    out.push(digit(b >> 4).to_ascii_uppercase());
                    out.push(digit(b & 15).to_ascii_uppercase());
                }
            }
        }
    }
    out
}

/// Decodes arguments.
///
/// # Errors
/// [`VmExecError`] with the offset.
pub fn decode(text: &str) -> Result<Vec<Vec<u8>>, VmExecError> {
    let mut out = vec![Vec::new()];
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        let decoded = match byte {
            b'+' => {
                out.push(Vec::new());
                continue;
            }
            b'-' => match bytes.next() {
                Some((_, b'-')) => b'-',
                Some((_, high)) => {
                    let low = bytes.next().map(|(_, low)| low);
                    let byte = low.and_then(|low| Some(nibble(high)? << 4 | nibble(low)?));
                    byte.ok_or(VmExecError::Escape { at })?
                }
                None => return Err(VmExecError::Escape { at }),
            },
            b if b.is_ascii_alphanumeric() || b == b'.' || b == b'_' => b,
            _ => return Err(VmExecError::Character { at }),
        };
        if let Some(last) = out.last_mut() {
            last.push(decoded);
        }
    }
    Ok(out)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_text() {
        assert_eq!(encode(&["ls", "-l", "/a b"]), "ls+--l+-2Fa-20b");
        assert_eq!(
            decode("ls+--l+-2Fa-20b").unwrap(),
            [&b"ls"[..], b"-l", b"/a b"]
        );
        assert_eq!(decode("a+"), Ok(vec![b"a".to_vec(), Vec::new()]));
    }

    #[test]
    fn broken_text_says_where() {
        for (text, error) in [
            ("a-", VmExecError::Escape { at: 1 }),
            ("a-2", VmExecError::Escape { at: 1 }),
            ("a-2f", VmExecError::Escape { at: 1 }),
            ("a/b", VmExecError::Character { at: 1 }),
        ] {
            assert_eq!(decode(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn decode_of_encode_is_identity(
            arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..6),
        ) {
            prop_assert_eq!(decode(&encode(&arguments)), Ok(arguments));
        }
    }
}
