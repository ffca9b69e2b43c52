//! What is carried between clipboards: a file in memory that nobody can change any more.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use thiserror::Error;

/// What can be done to the file never again.
const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::GROW)
    .union(SealFlags::SHRINK);

/// Why a file is not what was to be carried.
#[derive(Debug, Error)]
pub enum SealedError {
    /// Whoever has it open could change it.
    #[error("the file can still be changed")]
    NotSealed,
    /// Its length is another.
    #[error("the file has {is} bytes, and {said} were announced")]
    Length {
        /// That it has.
        is: u64,
        /// That it was to have.
        said: usize,
    },
    /// The kernel refused.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
}

/// A file of these bytes.
///
/// # Errors
/// What the kernel said.
pub fn make(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("clipboard", flags)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    fcntl_add_seals(&file, SEALS | SealFlags::SEAL)?;
    Ok(file)
}

/// The bytes of a file, which has to have so many.
///
/// # Errors
/// [`SealedError`].
pub fn read(file: impl AsFd, length: usize) -> Result<Vec<u8>, SealedError> {
    // Only files of memory have seals.
    let seals = fcntl_get_seals(&file).map_err(|_| SealedError::NotSealed)?;
    if !seals.contains(SEALS) {
        return Err(SealedError::NotSealed);
    }
    let failed = |e: rustix::io::Errno| SealedError::Read(e.into());
    let is = fstat(&file).map_err(failed)?.st_size.cast_unsigned();
    if u64::try_from(length) != Ok(is) {
        return Err(SealedError::Length { is, said: length });
    }
    let mut bytes = vec![0; length];
    let mut done = 0;
    while done < length {
        let rest = bytes.get_mut(done..).unwrap_or_default();
        match rustix::io::pread(&file, rest, done as u64).map_err(failed)? {
            0 => return Err(SealedError::Read(io::ErrorKind::UnexpectedEof.into())),
            read => done += read,
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn what_was_put_in_is_read_wherever_others_have_read_up_to() {
        for len in [1, 4096, bulkhead_wire::gui::CLIPBOARD_MAX] {
            let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            let mut file = std::fs::File::from(make(&bytes).expect("a file"));
            assert_eq!(read(&file, len).expect("bytes"), bytes);
            file.seek(io::SeekFrom::Start(0)).expect("a file");
            file.read_exact(&mut [0]).expect("a byte");
            assert_eq!(read(&file, len).expect("bytes"), bytes);
            assert!(file.write_all(b"x").is_err() && file.set_len(0).is_err());
        }
    }

    #[test]
    fn a_file_that_could_change_or_has_another_length_is_refused() {
        let sealed = make(b"five!").expect("a file");
        for said in [0, 4, 6] {
            let e = read(&sealed, said).expect_err("another length");
            assert!(matches!(e, SealedError::Length { is: 5, .. }), "{e:?}");
        }
        let all = [SealFlags::WRITE, SealFlags::GROW, SealFlags::SHRINK];
        for without in all {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let file = memfd_create("x", flags).expect("a file");
            fcntl_add_seals(&file, SEALS - without).expect("seals");
            let e = read(&file, 0).expect_err("no seal");
            assert!(matches!(e, SealedError::NotSealed), "{e:?}");
        }
        let on_disk = tempfile::tempfile().expect("a file");
        let (pipe, _writer) = io::pipe().expect("a pipe");
        for other in [on_disk.as_fd(), pipe.as_fd()] {
            let e = read(other, 0).expect_err("no memory");
            assert!(matches!(e, SealedError::NotSealed), "{e:?}");
        }
    }
}
