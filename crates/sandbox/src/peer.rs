//! Who is at the other end of a Unix socket.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Most supplementary groups the kernel gives a process (`NGROUPS_MAX`).
const GROUPS_MAX: usize = 65_536;

/// Groups asked for at first: nearly every process has fewer.
const GROUPS_FIRST: usize = 64;

/// The supplementary groups of the process that connected `socket`, as they were at that moment.
///
/// The kernel keeps them with the connection, so nothing is looked up by process id and a process
/// that ends or changes its groups afterwards makes no difference.
pub fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; GROUPS_FIRST];
    loop {
        let mut bytes =
            libc::socklen_t::try_from(groups.len() * size_of::<u32>()).map_err(io::Error::other)?;
        // SAFETY: `groups` is writable for `bytes` bytes, which the kernel is told, and both live
        // through the call; `socket` is borrowed, so it is open.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = usize::try_from(bytes).map_err(io::Error::other)? / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // ERANGE: there are more, and `bytes` says how many.
        let too_small = error.raw_os_error() == Some(libc::ERANGE);
        if !too_small || count <= groups.len() || count > GROUPS_MAX {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn tells_the_groups_of_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let mut found = peer_groups(one.as_fd()).unwrap();
        found.sort_unstable();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Groups:"))
            .unwrap();
        let mut expected: Vec<u32> = line
            .split_whitespace()
            .map(|group| group.parse().unwrap())
            .collect();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn refuses_what_is_not_a_unix_socket() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(peer_groups(file.as_fd()).is_err());
    }
}
