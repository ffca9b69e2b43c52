//! A service that is no child of ours: another process starts it and tells how it goes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_vchan::seqpacket;
use bulkhead_wire::relay::decode;
use bulkhead_wire::service::Report;

/// Room for the longest report, with some to spare.
const REPORT_MAX: usize = 64;

/// Where reports come from.
#[derive(Debug)]
pub struct Reports(OwnedFd);

/// One look at [`Reports`].
#[derive(Debug)]
pub enum Heard {
    /// Nothing so far.
    Nothing,
    /// A report and its descriptors.
    Report(Report, Vec<OwnedFd>),
    /// Nobody will report any more, or only nonsense.
    Gone,
}

impl Reports {
    /// Takes the socket.
    ///
    /// # Errors
    /// What making it non-blocking said.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(socket))
    }

    /// The next report, if it is there.
    pub fn next(&self) -> Heard {
        let (mut buffer, mut fds) = ([0; REPORT_MAX], Vec::new());
        match seqpacket::recv_packet(&self.0, &mut buffer, &mut fds) {
            Ok(length) => match decode(buffer.get(..length).unwrap_or_default()) {
                Ok(report) => Heard::Report(report, fds),
                Err(_) => Heard::Gone,
            },
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Heard::Nothing,
            Err(_) => Heard::Gone,
        }
    }
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
