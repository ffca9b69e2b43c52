//! Mistakes of QEMU that end domains, taken out of the copy that is run here.
//!
//! Both are in 10.0, and show only where a machine has several processors.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Instructions that are wrong, and what is put in their place: as hexadecimal digits, of as many bytes.
/// `__` is a byte of an offset, which may be any; in `right` these are those found in `wrong`, in order.
struct Mistake {
    before: &'static str,
    wrong: &'static str,
    right: &'static str,
    behind: &'static str,
}

const MISTAKES: &[Mistake] = &[INJECTED_TWICE, FLAGS_OF_ANOTHER];

/// Where Xen injects an interrupt into a domain, `helper_vmrun` (`target/i386/tcg/system/svm_helper.c`)
/// delivers it and leaves its vector in the processor's `exception_index`. Whoever then has that
/// processor leave its loop for something else, another processor's atomic instruction say, makes it
/// deliver the interrupt once more, at the first instruction of its handler. No kernel expects that:
/// the domain panics. Nothing but a log reads what is stored there.
///
/// ```text
/// mov  %r13d, error_code(%rbx)
/// mov  %esi,  exception_index(%rbx)      nopw 0(%rax,%rax)
/// movl $0,    exception_is_int(%rbx)
/// movq $-1,   exception_next_eip(%rbx)
/// ```
const INJECTED_TWICE: Mistake = Mistake {
    before: "4489ab____0000",
    wrong: "89b3____ffff",
    right: "660f1f440000",
    behind: "c783____000000000000 48c783____0000ffffffff",
};

/// A processor that loads its x87 registers clears a flag of the *first* processor (`cpu_clear_ignne` in
/// `target/i386/tcg/system/fpu_helper.c`), and so writes all flags in `hflags2` again that it has read
/// before. The first may have changed them meanwhile, and then runs Xen with a domain's nested page
/// tables, or a domain without them: the domain ends with a triple fault. With a locked instruction
/// there is no meanwhile.
///
/// ```text
/// call object_dynamic_cast_assert
/// andl $~0x80, hflags2(%rax)             lock andb $~0x80, hflags2(%rax); xchg %ax, %ax
/// add  $8, %rsp
/// xor  %eax, %eax
/// ```
const FLAGS_OF_ANOTHER: Mistake = Mistake {
    before: "e8________",
    wrong: "81a0____0000 7fffffff",
    right: "f080a0____0000 7f 6690",
    behind: "4883c408 31c0",
};

/// Takes the mistakes out of the program at `path`; whether each was there once.
pub(crate) fn mend(path: &Path) -> Result<bool> {
    let program = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut mended = program.clone();
    let each = MISTAKES.iter().filter(|mistake| mistake.mend(&mut mended));
    let all = each.count() == MISTAKES.len();
    if mended != program {
        let new = path.with_extension("mended");
        fs::write(&new, mended)
            .and_then(|()| fs::set_permissions(&new, Permissions::from_mode(0o755)))
            .and_then(|()| fs::rename(&new, path))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(all)
}

/// The bytes that `digits` stand for; none where it may be any.
fn bytes(digits: &str) -> Vec<Option<u8>> {
    let digits: Vec<_> = digits.bytes().filter(|byte| *byte != b' ').collect();
    let bytes = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    bytes.collect()
}

impl Mistake {
    /// What is looked for.
    fn place(&self) -> Vec<Option<u8>> {
        [self.before, self.wrong, self.behind].map(bytes).concat()
    }

    /// Takes it out, if it is there exactly once.
    fn mend(&self, program: &mut [u8]) -> bool {
        let place = self.place();
        let like = |window: &[u8]| {
            let mut pairs = window.iter().zip(&place);
            pairs.all(|(byte, wanted)| wanted.is_none_or(|wanted| wanted == *byte))
        };
        let windows = program.windows(place.len()).enumerate();
        let found: Vec<_> = windows.filter(|(_, window)| like(window)).collect();
        let [(start, _)] = found[..] else {
            return false;
        };
        let wrong = bytes(self.wrong);
        let at = start + bytes(self.before).len();
        let Some(found) = program.get_mut(at..at + wrong.len()) else {
            return false;
        };
        let offset: Vec<u8> = (wrong.iter().zip(&*found))
            .filter_map(|(wanted, byte)| wanted.is_none().then_some(*byte))
            .collect();
        let mut offset = offset.into_iter();
        let right = bytes(self.right).into_iter();
        for (byte, right) in found.iter_mut().zip(right) {
            if let Some(right) = right.or_else(|| offset.next()) {
                *byte = right;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a compiler may have written them; a byte of an offset tells where it is.
    fn written(mistakes: &[Mistake]) -> Vec<u8> {
        let bytes = mistakes.iter().flat_map(Mistake::place);
        (0..)
            .zip(bytes)
            .map(|(at, byte)| byte.unwrap_or(at))
            .collect()
    }

    /// What `mistake` leaves between a few other bytes.
    fn mended(mistake: &Mistake) -> Vec<u8> {
        let place = written(std::slice::from_ref(mistake));
        let mut program = [vec![1; 9], place, vec![2; 9]].concat();
        let before = program.clone();
        assert!(mistake.mend(&mut program));
        let start = 9 + bytes(mistake.before).len();
        let end = start + bytes(mistake.wrong).len();
        assert_eq!(program[..start], before[..start]);
        assert_eq!(program[end..], before[end..]);
        assert!(!mistake.mend(&mut program), "it is there no more");
        program[start..end].to_vec()
    }

    #[test]
    fn what_is_put_in_is_as_long_and_as_sure() {
        for mistake in MISTAKES {
            let (wrong, right) = (bytes(mistake.wrong), bytes(mistake.right));
            assert_eq!(wrong.len(), right.len());
            let any = |bytes: &[Option<u8>]| bytes.iter().filter(|byte| byte.is_none()).count();
            assert!(any(&right) <= any(&wrong));
        }
    }

    #[test]
    fn nothing_is_left_of_the_store() {
        assert_eq!(mended(&INJECTED_TWICE), [0x66, 0x0f, 0x1f, 0x44, 0, 0]);
    }

    #[test]
    fn the_flag_is_cleared_at_the_same_offset() {
        assert_eq!(
            mended(&FLAGS_OF_ANOTHER),
            [0xf0, 0x80, 0xa0, 7, 8, 0, 0, 0x7f, 0x66, 0x90]
        );
    }

    #[test]
    fn what_is_not_there_once_is_left_alone() {
        for mistake in MISTAKES {
            let once = written(std::slice::from_ref(mistake));
            for mut program in [vec![1; 99], [once.clone(), once].concat(), Vec::new()] {
                let before = program.clone();
                assert!(!mistake.mend(&mut program));
                assert_eq!(program, before);
            }
        }
    }

    #[test]
    fn a_program_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qemu");
        fs::write(&path, written(MISTAKES)).unwrap();
        assert!(mend(&path).unwrap());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert!(!mend(&path).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_mistake_is_taken_out_without_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qemu");
        let before = written(&[FLAGS_OF_ANOTHER]);
        fs::write(&path, &before).unwrap();
        assert!(!mend(&path).unwrap());
        assert_ne!(fs::read(&path).unwrap(), before);
    }
}
