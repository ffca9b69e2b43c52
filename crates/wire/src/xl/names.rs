//! Values that cannot be mixed up or malformed once they exist.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest name of a domain we make: a qube's name.
pub const NAME_MAX: usize = 31;

/// Longest path, in bytes: libxl puts it into a xenstore value with more around it (at most 4096).
pub const PATH_MAX: usize = 1024;

/// Longest kernel command line, in bytes: Linux keeps 2048 with the NUL.
pub const CMDLINE_MAX: usize = 2047;

/// Most memory, 16 TiB: what Xen 4.20 supports in one machine.
pub const MIB_MAX: u32 = 16 << 20;

/// Most processors of a domain: Xen's limit for HVM and PVH.
pub const VCPUS_MAX: u16 = 128;

/// A number that is out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} {value} is not in {least}..={most}")]
pub struct ValueError {
    what: &'static str,
    value: u64,
    least: u64,
    most: u64,
}

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TextError {
    /// Too many bytes.
    #[error("{what} of {len} bytes is longer than {max}")]
    TooLong {
        /// What it should be.
        what: &'static str,
        /// Its bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Not of the right form.
    #[error("`{text}` is no {what}")]
    Malformed {
        /// What it should be.
        what: &'static str,
        /// The text, escaped.
        text: String,
    },
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $what:literal, $least:expr, $most:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name($inner);

        impl $name {
            /// Checks a number.
            ///
            /// # Errors
            /// Where it is out of bounds.
            pub fn new(value: u64) -> Result<Self, ValueError> {
                let (least, most) = (u64::from($least), u64::from($most));
                let error = ValueError { what: $what, value, least, most };
                let inside = (least..=most).contains(&value);
                let small = <$inner>::try_from(value).ok().filter(|_| inside);
                small.map(Self).ok_or(error)
            }

            /// The number.
            #[must_use]
            pub const fn number(self) -> $inner {
                self.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = ValueError;

            fn try_from(value: u64) -> Result<Self, ValueError> {
                Self::new(value)
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> u64 {
                value.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A domain's number; from 0x7FF0 on Xen keeps them for itself.
    DomId(u16), "domain id", 0_u16, 0x7FEF_u16
);
number!(
    /// An amount of memory, at most [`MIB_MAX`].
    Mib(u32), "memory in MiB", 0_u32, MIB_MAX
);
number!(
    /// Processors of a domain, at most [`VCPUS_MAX`].
    Vcpus(u16), "number of processors", 1_u16, VCPUS_MAX
);
number!(
    /// A domain's share of processor time where they contend; 256 is usual.
    Weight(u16), "weight", 1_u16, u16::MAX
);
number!(
    /// Which of a domain's network interfaces.
    NicId(u8), "network interface", 0_u8, 31_u8
);

impl DomId {
    /// The domain that we run in.
    pub const DOM0: Self = Self(0);
}

impl Default for Weight {
    fn default() -> Self {
        Self(256)
    }
}

/// What tells a domain from all that ever were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DomainUuid(pub [u8; 16]);

impl fmt::Display for DomainUuid {
    /// As `xl list --uuid` and xenstore write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for DomainUuid {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let number = u128::from_str_radix(&digits, 16).map(|n| Self(n.to_be_bytes()));
        let same = |uuid: &Self| uuid.to_string() == text;
        number
            .ok()
            .filter(same)
            .ok_or_else(|| TextError::malformed("domain uuid", text))
    }
}

/// A release of Xen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct XenVersion {
    /// 4.
    pub major: u16,
    /// 20.
    pub minor: u16,
}

impl fmt::Display for XenVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a domain may do with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Only read.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

/// A function of a PCI device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u16, u8, u8, u8)", into = "(u16, u8, u8, u8)")]
pub struct PciAddress {
    segment: u16,
    bus: u8,
    device: u8,
    function: u8,
}

impl PciAddress {
    /// Checks an address: a bus has 32 devices, a device 8 functions.
    ///
    /// # Errors
    /// Where it is out of bounds.
    pub fn new(segment: u16, bus: u8, device: u8, function: u8) -> Result<Self, ValueError> {
        let within = |what, value: u8, most: u8| {
            let (value, least, most) = (value.into(), 0, most.into());
            let error = ValueError {
                what,
                value,
                least,
                most,
            };
            if value > most { Err(error) } else { Ok(()) }
        };
        within("PCI device", device, 31)?;
        within("PCI function", function, 7)?;
        Ok(Self {
            segment,
            bus,
            device,
            function,
        })
    }

    /// Segment, bus, device and function.
    #[must_use]
    pub const fn parts(self) -> (u16, u8, u8, u8) {
        (self.segment, self.bus, self.device, self.function)
    }
}

impl TryFrom<(u16, u8, u8, u8)> for PciAddress {
    type Error = ValueError;

    fn try_from((segment, bus, device, function): (u16, u8, u8, u8)) -> Result<Self, ValueError> {
        Self::new(segment, bus, device, function)
    }
}

impl From<PciAddress> for (u16, u8, u8, u8) {
    fn from(address: PciAddress) -> Self {
        address.parts()
    }
}

impl fmt::Display for PciAddress {
    /// As Linux names it: `0000:00:14.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (segment, bus, device, function) = self.parts();
        write!(f, "{segment:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

/// The address of a network interface: of one station, and not all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "[u8; 6]", into = "[u8; 6]")]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// Checks an address.
    ///
    /// # Errors
    /// For addresses of many stations and the one of none.
    pub fn new(bytes: [u8; 6]) -> Result<Self, TextError> {
        let [first, ..] = bytes;
        if first & 1 == 1 || bytes == [0; 6] {
            let text = Self(bytes).to_string();
            return Err(TextError::malformed(
                "address of a network interface",
                &text,
            ));
        }
        Ok(Self(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl TryFrom<[u8; 6]> for MacAddress {
    type Error = TextError;

    fn try_from(bytes: [u8; 6]) -> Result<Self, TextError> {
        Self::new(bytes)
    }
}

impl From<MacAddress> for [u8; 6] {
    fn from(mac: MacAddress) -> Self {
        mac.0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What makes a kind of [`Text`].
pub trait Kind {
    /// What it is, for errors.
    const WHAT: &'static str;
    /// Its limit in bytes.
    const MAX: usize;
    /// Whether a text within the limit is one.
    fn accepts(text: &str) -> bool;
}

/// A text that was checked. No kind of it may contain a NUL.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String", bound = "K: Kind")]
pub struct Text<K> {
    text: String,
    kind: std::marker::PhantomData<fn() -> K>,
}

impl<K: Kind> Text<K> {
    /// Checks a text.
    ///
    /// # Errors
    /// Where it is too long or not of its form.
    pub fn new(text: impl Into<String>) -> Result<Self, TextError> {
        let text = text.into();
        if text.len() > K::MAX {
            let (what, len, max) = (K::WHAT, text.len(), K::MAX);
            return Err(TextError::TooLong { what, len, max });
        }
        if !K::accepts(&text) || text.contains('\0') {
            return Err(TextError::malformed(K::WHAT, &text));
        }
        Ok(Self {
            text,
            kind: std::marker::PhantomData,
        })
    }
}

impl<K> Text<K> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<K> Clone for Text<K> {
    fn clone(&self) -> Self {
        Self {
            text: self.text.clone(),
            kind: self.kind,
        }
    }
}

impl<K> PartialEq for Text<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<K> Eq for Text<K> {}

impl<K> fmt::Display for Text<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl<K: Kind> TryFrom<String> for Text<K> {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        Self::new(text)
    }
}

impl<K> From<Text<K>> for String {
    fn from(text: Text<K>) -> Self {
        text.text
    }
}

impl TextError {
    fn malformed(what: &'static str, text: &str) -> Self {
        let text = text.escape_debug().collect();
        Self::Malformed { what, text }
    }
}

macro_rules! text {
    ($(#[$doc:meta])* $alias:ident, $kind:ident, $what:literal, $max:expr, $accepts:expr) => {
        #[doc(hidden)]
        #[derive(Debug)]
        pub struct $kind;

        impl Kind for $kind {
            const WHAT: &'static str = $what;
            const MAX: usize = $max;

            fn accepts(text: &str) -> bool {
                let accepts: fn(&str) -> bool = $accepts;
                accepts(text)
            }
        }

        $(#[$doc])*
        pub type $alias = Text<$kind>;
    };
}

text!(
    /// The name of a domain: as of a qube, letters, digits, `_`, `.` and `-`, at most [`NAME_MAX`].
    DomainName, NameKind, "domain name", NAME_MAX,
    |text| text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
);
text!(
    /// An absolute path in dom0, or in a disk's backend; at most [`PATH_MAX`].
    HostPath, PathKind, "absolute path", PATH_MAX,
    |text| text.starts_with('/') && !text.contains(char::is_control)
);
text!(
    /// A kernel's command line, one line; at most [`CMDLINE_MAX`].
    Cmdline, CmdlineKind, "kernel command line", CMDLINE_MAX,
    |text| !text.contains(char::is_control)
);
text!(
    /// The name of a Xen disk in its domain: `xvda` to `xvdz`, or a partition up to `xvdz15`.
    Vdev, VdevKind, "disk name (xvda to xvdz15)", 6,
    |text| {
        let Some(rest) = text.strip_prefix("xvd") else { return false };
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_lowercase());
        let number = digits.parse::<u8>().ok().filter(|n| n.to_string() == digits);
        rest.len() == digits.len() + 1
            && (digits.is_empty() || number.is_some_and(|n| (1..=15).contains(&n)))
    }
);
