//! A mistake of QEMU that ends domains, taken out of the copy that is run here.
//!
//! Where Xen injects an interrupt into a domain, `helper_vmrun` (`target/i386/tcg/system/svm_helper.c`,
//! 10.0 and before) delivers it and leaves its vector in the processor's `exception_index`. Whoever then
//! has that processor leave its loop for something else, another processor's atomic instruction say,
//! makes it deliver the interrupt once more, at the first instruction of its handler. No kernel expects
//! that: the domain panics. Nothing but a log reads what is stored there.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// The store, with what is before and behind it, as hexadecimal digits; `__` is a byte of an offset,
/// which may be any:
///
/// ```text
/// mov  %r13d, error_code(%rbx)
/// mov  %esi,  exception_index(%rbx)
/// movl $0,    exception_is_int(%rbx)
/// movq $-1,   exception_next_eip(%rbx)
/// ```
const STORE: &str = "4489ab____0000 89b3____ffff c783____000000000000 48c783____0000ffffffff";

/// Where the store itself is in [`STORE`].
const AT: usize = 7;

/// Does nothing, and is as long.
const NOTHING: [u8; 6] = [0x66, 0x0f, 0x1f, 0x44, 0, 0];

/// Takes the mistake out of the program at `path`; whether it was there once.
pub(crate) fn mend(path: &Path) -> Result<bool> {
    let mut program = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mended = mend_bytes(&mut program);
    if mended {
        let new = path.with_extension("mended");
        fs::write(&new, program)
            .and_then(|()| fs::set_permissions(&new, Permissions::from_mode(0o755)))
            .and_then(|()| fs::rename(&new, path))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(mended)
}

/// The bytes of [`STORE`]; none where it may be any.
fn store() -> Vec<Option<u8>> {
    let digits: Vec<_> = STORE.bytes().filter(|byte| *byte != b' ').collect();
    let bytes = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    bytes.collect()
}

fn mend_bytes(program: &mut [u8]) -> bool {
    let store = store();
    let like = |window: &[u8]| {
        let mut pairs = window.iter().zip(&store);
        pairs.all(|(byte, wanted)| wanted.is_none_or(|wanted| wanted == *byte))
    };
    let windows = program.windows(store.len()).enumerate();
    let found: Vec<_> = windows.filter(|(_, window)| like(window)).collect();
    let [(start, _)] = found[..] else {
        return false;
    };
    let at = start + AT;
    let Some(found) = program.get_mut(at..at + NOTHING.len()) else {
        return false;
    };
    found.copy_from_slice(&NOTHING);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a compiler may have written it.
    fn written() -> Vec<u8> {
        let bytes = store();
        assert_eq!(bytes.len(), 34);
        bytes.iter().map(|byte| byte.unwrap_or(0x33)).collect()
    }

    #[test]
    fn the_store_alone_is_taken_out() {
        let mut program = [vec![1; 9], written(), vec![2; 9]].concat();
        let before = program.clone();
        assert!(mend_bytes(&mut program));
        let differ: Vec<_> = (0..program.len())
            .filter(|&at| program[at] != before[at])
            .collect();
        assert_eq!(differ, (16..22).collect::<Vec<_>>());
        assert_eq!(program[16..22], NOTHING);
        assert!(!mend_bytes(&mut program), "it is there no more");
    }

    #[test]
    fn what_is_not_there_once_is_left_alone() {
        for mut program in [vec![1; 99], [written(), written()].concat(), Vec::new()] {
            let before = program.clone();
            assert!(!mend_bytes(&mut program));
            assert_eq!(program, before);
        }
    }

    #[test]
    fn a_program_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qemu");
        fs::write(&path, written()).unwrap();
        assert!(mend(&path).unwrap());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert!(!mend(&path).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
