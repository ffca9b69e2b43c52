//! The kernel proper out of Debian's file, which is a loader around a compressed one.
//!
//! Xen starts either; unpacking it once here spares dom0 that at each start of a qube.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Where the boot protocol (Documentation/arch/x86/boot.rst) has the size of the loader in sectors, and the place and
/// length of what it loads.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

const SECTOR: usize = 512;

/// Behind the payload is its length when unpacked.
const LENGTH_BEHIND: usize = 4;

/// Unpacks the kernel in the file `from` to `to`.
pub(crate) fn unpack(from: &Path, to: &Path) -> Result<()> {
    let file = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let packed = payload(&file).with_context(|| format!("{} is no kernel", from.display()))?;
    ensure!(
        packed.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]),
        "the kernel is not packed by zstd"
    );
    let part = to.with_extension("zst");
    fs::write(&part, packed)?;
    let unpacked = fs::File::create(to)?;
    let status = Command::new("zstd")
        .args(["--decompress", "--stdout", "--quiet"])
        .arg(&part)
        .stdout(Stdio::from(unpacked))
        .status()
        .context("cannot start `zstd`")?;
    ensure!(status.success(), "`zstd` ended with {status}");
    fs::remove_file(part)?;
    let start = fs::read(to)?;
    ensure!(
        start.starts_with(b"\x7fELF"),
        "what was packed is no kernel"
    );
    Ok(())
}

fn payload(file: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| {
        let bytes = file.get(at..at + 4)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    if file.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let start = (usize::from(*file.get(SETUP_SECTORS)?) + 1) * SECTOR;
    let start = start.checked_add(number(PAYLOAD)?)?;
    let length = number(PAYLOAD_LENGTH)?.checked_sub(LENGTH_BEHIND)?;
    file.get(start..start.checked_add(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_where_the_header_says_and_nowhere_outside() {
        let mut file = vec![0; 4096];
        file[SETUP_SECTORS] = 1;
        file[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        file[PAYLOAD..PAYLOAD + 4].copy_from_slice(&100_u32.to_le_bytes());
        file[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&9_u32.to_le_bytes());
        file[1124..1129].copy_from_slice(b"inner");
        assert_eq!(payload(&file), Some(&b"inner"[..]));
        for length in [0_u32, 3, 4096, u32::MAX] {
            file[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
            assert_eq!(payload(&file), None, "{length}");
        }
        assert_eq!(payload(b"short"), None);
    }
}
