//! Hardware addresses.

use std::fmt;
use std::str::FromStr;

/// Of an Ethernet interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HardwareAddress([u8; 6]);

/// What the driver `xen-netback` gives to all of its ends.
pub(super) const BACKEND: HardwareAddress = HardwareAddress([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]);

/// A text that is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoAddress;

impl FromStr for HardwareAddress {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let hex = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            let part = parts.next().filter(hex).ok_or(NoAddress)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| NoAddress)?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(NoAddress),
        }
    }
}

impl fmt::Display for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&text.join(":"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_six_bytes_are_an_address() {
        let parsed = "00:16:3E:5e:01:2c".parse::<HardwareAddress>().unwrap();
        assert_eq!(parsed.to_string(), "00:16:3e:5e:01:2c");
        for text in [
            "",
            "00:16:3e:5e:01",
            "00:16:3e:5e:01:2c:00",
            "0:16:3e:5e:01:2c",
            "00:16:3e:5e:01:+c",
        ] {
            assert_eq!(text.parse::<HardwareAddress>(), Err(NoAddress), "{text}");
        }
    }
}
