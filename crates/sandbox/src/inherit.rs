//! Descriptors that a program was started with.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use thiserror::Error;

/// Why a number names no inherited descriptor.
#[derive(Debug, Error)]
pub enum InheritError {
    /// Standard streams and negative numbers.
    #[error("descriptor {0} cannot be inherited for this")]
    Reserved(RawFd),
    /// Not open.
    #[error("descriptor {0} is not open")]
    Closed(RawFd, #[source] io::Error),
    /// Close-on-exec, so it cannot have come through an `exec`; or it was taken before.
    #[error("descriptor {0} was not inherited")]
    NotInherited(RawFd),
}

/// Takes ownership of descriptor `fd`, which the starting program left open, and makes it
/// close-on-exec.
///
/// # Errors
/// Where `fd` is not such a descriptor, or has been taken before.
pub fn take_inherited(fd: RawFd) -> Result<OwnedFd, InheritError> {
    if fd <= 2 {
        return Err(InheritError::Reserved(fd));
    }
    // SAFETY: `fd` is not negative, and the borrow ends before anything could close it; where it is
    // not open the call on it fails without effect.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = fcntl_getfd(borrowed).map_err(|e| InheritError::Closed(fd, e.into()))?;
    if flags.contains(FdFlags::CLOEXEC) {
        return Err(InheritError::NotInherited(fd));
    }
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC)
        .map_err(|e| InheritError::Closed(fd, e.into()))?;
    // SAFETY: it is open, and nobody in this process owns it: Rust opens everything close-on-exec,
    // this descriptor was not, and no second call gets past the check above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes every descriptor that came through the `exec` and was not taken, standard streams aside:
/// whatever the starting program left open by mistake. Returns how many there were.
///
/// # Errors
/// Where the open descriptors cannot be listed.
pub fn close_uninvited() -> io::Result<usize> {
    let entries: Vec<_> = std::fs::read_dir("/proc/self/fd")?.collect::<Result<_, _>>()?;
    let numbers = entries
        .iter()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(numbers.filter_map(|fd| take_inherited(fd).ok()).count())
}

/// Leaves `fd` open for the program that `command` starts, under the number returned; for the
/// other programs that this process starts it stays closed.
pub fn pass_on(command: &mut Command, fd: OwnedFd) -> RawFd {
    let number = fd.as_raw_fd();
    let keep = move || Ok(fcntl_setfd(&fd, FdFlags::empty())?);
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing; the
    // descriptor it owns is open, since the command holds the closure.
    unsafe { command.pre_exec(keep) };
    number
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    #[test]
    fn an_inherited_descriptor_is_taken_once() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(
            take_inherited(file.as_raw_fd()),
            Err(InheritError::NotInherited(_))
        ));
        fcntl_setfd(&file, FdFlags::empty()).unwrap();
        let fd = file.into_raw_fd();
        let taken = take_inherited(fd).unwrap();
        assert!(fcntl_getfd(&taken).unwrap().contains(FdFlags::CLOEXEC));
        assert!(matches!(
            take_inherited(fd),
            Err(InheritError::NotInherited(_))
        ));
    }

    #[test]
    fn standard_streams_and_closed_descriptors_are_refused() {
        assert!(matches!(
            take_inherited(-1),
            Err(InheritError::Reserved(-1))
        ));
        assert!(matches!(take_inherited(2), Err(InheritError::Reserved(2))));
        assert!(matches!(
            take_inherited(1_000_000),
            Err(InheritError::Closed(..))
        ));
    }

    #[test]
    fn what_is_passed_on_is_open_in_that_program_only() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut first = Command::new("/bin/sh");
        let number = pass_on(&mut first, writer.into());
        first.arg("-c").arg(format!("echo first >&{number}"));
        let mut other = Command::new("/bin/sh");
        let script = format!("echo other >&{number}");
        other
            .arg("-c")
            .arg(script)
            .stderr(std::process::Stdio::null());
        assert!(!other.status().unwrap().success());
        assert!(first.status().unwrap().success());
        drop(first);
        let mut text = String::new();
        io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert_eq!(text, "first\n");
    }
}
