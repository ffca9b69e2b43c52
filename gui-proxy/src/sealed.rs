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

/// A file that is not whole yet.
#[derive(Debug)]
pub struct Growing(OwnedFd);

impl Growing {
    /// An empty one.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        Ok(Self(memfd_create("clipboard", flags)?))
    }

    /// Puts these bytes behind those that are there.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = rustix::io::write(&self.0, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// The file, which nobody can change any more.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn seal(self) -> io::Result<OwnedFd> {
        fcntl_add_seals(&self.0, SEALS | SealFlags::SEAL)?;
        Ok(self.0)
    }
}

/// A file of these bytes.
///
/// # Errors
/// What the kernel said.
pub fn make(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = Growing::new()?;
    file.append(bytes)?;
    file.seal()
}

/// A file that nobody can change any more.
#[derive(Debug)]
pub struct Sealed<F> {
    file: F,
    length: usize,
}

/// Checks that a file has so many bytes, and for ever.
///
/// # Errors
/// [`SealedError`].
pub fn check<F: AsFd>(file: F, length: usize) -> Result<Sealed<F>, SealedError> {
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
    Ok(Sealed { file, length })
}

impl<F: AsFd> Sealed<F> {
    /// Bytes that it has.
    pub fn length(&self) -> usize {
        self.length
    }

    /// So many bytes from `from` on, or those up to its end.
    ///
    /// # Errors
    /// [`SealedError::Read`].
    pub fn part(&self, from: usize, most: usize) -> Result<Vec<u8>, SealedError> {
        let mut bytes = vec![0; self.length.saturating_sub(from).min(most)];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let read = rustix::io::pread(&self.file, rest, (from + done) as u64);
            match read.map_err(|e| SealedError::Read(e.into()))? {
                0 => return Err(SealedError::Read(io::ErrorKind::UnexpectedEof.into())),
                read => done += read,
            }
        }
        Ok(bytes)
    }
}

/// The bytes of a file, which has to have so many.
///
/// # Errors
/// [`SealedError`].
pub fn read(file: impl AsFd, length: usize) -> Result<Vec<u8>, SealedError> {
    check(file, length)?.part(0, length)
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
    fn a_file_is_made_and_read_in_parts() {
        let mut growing = Growing::new().expect("a file");
        for part in [&b"one"[..], b"", b"two"] {
            growing.append(part).expect("room");
        }
        let sealed = check(growing.seal().expect("seals"), 6).expect("a file");
        let part = |from| sealed.part(from, 4).expect("bytes");
        assert_eq!(
            [part(0), part(4), part(6), part(9)],
            [&b"onet"[..], b"wo", b"", b""]
        );
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
