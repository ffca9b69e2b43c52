//! What the source of a call says it will send, and how that is told.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

/// Figures as the source gave them: its claim, which nobody has checked and nothing is decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// Files, and whatever else is no folder.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Bytes of content of the files.
    pub bytes: u64,
    /// The source says that it did not look at all: it may be more.
    #[serde(default)]
    pub at_least: bool,
}

/// `3 files and 1 folder, 12.4 MiB`, in printable ASCII and at most 100 characters.
impl Display for Announced {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        if self.at_least {
            out.write_str("at least ")?;
        }
        match (self.files, self.folders) {
            (0, 0) => out.write_str("no files")?,
            (0, folders) => counted(out, folders, "folder")?,
            (files, 0) => counted(out, files, "file")?,
            (files, folders) => {
                counted(out, files, "file")?;
                out.write_str(" and ")?;
                counted(out, folders, "folder")?;
            }
        }
        out.write_str(", ")?;
        size(out, self.bytes)
    }
}

fn counted(out: &mut Formatter<'_>, count: u64, what: &str) -> fmt::Result {
    grouped(out, count)?;
    let plural = if count == 1 { "" } else { "s" };
    write!(out, " {what}{plural}")
}

/// With a comma between thousands.
fn grouped(out: &mut Formatter<'_>, number: u64) -> fmt::Result {
    let digits = number.to_string();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.write_str(",")?;
        }
        write!(out, "{digit}")?;
    }
    Ok(())
}

fn size(out: &mut Formatter<'_>, bytes: u64) -> fmt::Result {
    if bytes < 1024 {
        return counted(out, bytes, "byte");
    }
    let (mut unit, mut name) = (1024_u128, "KiB");
    let tenths = |unit: u128| (u128::from(bytes) * 10 + unit / 2) / unit;
    for larger in ["MiB", "GiB", "TiB", "PiB", "EiB"] {
        if tenths(unit) < 10_240 {
            break;
        }
        (unit, name) = (unit * 1024, larger);
    }
    let tenths = tenths(unit);
    write!(out, "{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(files: u64, folders: u64, bytes: u64) -> String {
        let announced = Announced {
            files,
            folders,
            bytes,
            at_least: false,
        };
        let at_least = Announced {
            at_least: true,
            ..announced
        };
        assert_eq!(at_least.to_string(), format!("at least {announced}"));
        announced.to_string()
    }

    #[test]
    fn figures_are_told_in_words() {
        for (files, folders, bytes, expected) in [
            (3, 0, 13_002_342, "3 files, 12.4 MiB"),
            (1, 1, 1, "1 file and 1 folder, 1 byte"),
            (0, 2, 0, "2 folders, 0 bytes"),
            (0, 0, 0, "no files, 0 bytes"),
            (10_000, 12, 1023, "10,000 files and 12 folders, 1,023 bytes"),
            (
                999,
                1_000_000,
                1024,
                "999 files and 1,000,000 folders, 1.0 KiB",
            ),
        ] {
            assert_eq!(told(files, folders, bytes), expected);
        }
    }

    #[test]
    fn sizes_have_one_decimal_and_the_largest_unit_that_fits() {
        const KIB: u64 = 1024;
        for (bytes, expected) in [
            (KIB + 51, "1.0 KiB"),
            (KIB + 52, "1.1 KiB"),
            (KIB * KIB - 52, "1023.9 KiB"),
            (KIB * KIB - 51, "1.0 MiB"),
            (KIB.pow(3), "1.0 GiB"),
            (KIB.pow(4), "1.0 TiB"),
            (KIB.pow(5), "1.0 PiB"),
            (KIB.pow(6), "1.0 EiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(told(1, 0, bytes), format!("1 file, {expected}"), "{bytes}");
        }
    }

    #[test]
    fn the_largest_numbers_that_there_are_stay_short() {
        let longest = told(u64::MAX, u64::MAX, u64::MAX);
        assert_eq!(
            longest,
            "18,446,744,073,709,551,615 files and 18,446,744,073,709,551,615 folders, 16.0 EiB"
        );
        assert!("at least ".len() + longest.len() <= 100);
    }
}
