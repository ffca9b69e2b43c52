//! The pump of one call that dom0 itself makes of a service in a qube: what the service is sent is there
//! already, and what it says is dropped.
//!
//! As with calls that dom0 serves, nothing is said to the daemon: it sees how the process has ended.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use bulkhead_qrexec::pump::{self, Errors, Input, Options, Streams};
use bulkhead_sandbox::confine::Confinement;
use bulkhead_vchan::xen::Server;
use bulkhead_vchan::{AnyChannel, SocketChannel, seqpacket};
use bulkhead_wire::end::End;
use bulkhead_wire::qrexec::EXIT_DISCONNECTED;
use bulkhead_wire::qrexec::data::Role;
use bulkhead_wire::relay::decode;
use bulkhead_wire::service::{TO_PUMP_MAX, ToCaller};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SocketFlags, accept_with};

use crate::call::{self, CallError};
use crate::ends;

/// All that there is of a call before the qube has come.
#[derive(Debug)]
pub struct CallerSetup {
    domid: u32,
    end: End,
    listener: Vec<OwnedFd>,
    life: OwnedFd,
    input: Input,
}

impl CallerSetup {
    /// How this process is to be confined.
    #[must_use]
    pub fn confinement(&self) -> Confinement {
        call::confinement(self.domid, self.end.carrier())
    }
}

/// Waits for the one message on `daemon`.
///
/// # Errors
/// Where there is none, or it has other descriptors than belong to it.
pub fn receive_setup(daemon: &OwnedFd) -> Result<CallerSetup, CallError> {
    const WANTED: CallError = CallError::Unexpected("the setup of a call of its own");
    let (mut buffer, mut fds) = ([0; TO_PUMP_MAX], Vec::new());
    let len = seqpacket::recv_packet(daemon, &mut buffer, &mut fds).map_err(CallError::Receive)?;
    if len == 0 {
        return Err(WANTED);
    }
    let message = decode(buffer.get(..len).unwrap_or_default()).map_err(CallError::Malformed)?;
    let ToCaller { domid, end } = message;
    let mut fds = fds.into_iter();
    let (Some(input), Some(life)) = (fds.next(), fds.next()) else {
        return Err(WANTED);
    };
    Ok(CallerSetup {
        domid,
        end,
        listener: fds.collect(),
        life,
        input: Input::new(input).map_err(CallError::Stream)?,
    })
}

/// Where the qube comes to.
enum Listener {
    Socket(OwnedFd),
    Rings(Server),
}

impl Listener {
    fn new(end: End, mut fds: Vec<OwnedFd>) -> Result<Self, CallError> {
        match end {
            End::Socket if fds.len() == 1 => Ok(Self::Socket(fds.remove(0))),
            End::Socket => Err(CallError::Unexpected("a listening socket")),
            other => {
                let server = ends::serve(other, fds).map_err(CallError::Channel)?;
                Ok(Self::Rings(server))
            }
        }
    }

    fn try_accept(self) -> Result<AnyChannel, (Self, io::Error)> {
        match self {
            Self::Socket(socket) => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                match accept_with(&socket, flags) {
                    Ok(accepted) => Ok(AnyChannel::Socket(SocketChannel::again(accepted))),
                    Err(error) => Err((Self::Socket(socket), error.into())),
                }
            }
            Self::Rings(server) => match server.try_accept() {
                Ok(channel) => Ok(AnyChannel::Xen(channel)),
                Err((server, error)) => Err((Self::Rings(server), error)),
            },
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Socket(socket) => socket.as_fd(),
            Self::Rings(server) => server.as_fd(),
        }
    }
}

/// Waits for the qube; none if the daemon says that it will not come.
fn accept(mut listener: Listener, life: &OwnedFd) -> Result<Option<AnyChannel>, CallError> {
    loop {
        let mut fds = [
            PollFd::new(&listener, PollFlags::IN),
            PollFd::new(life, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(CallError::Receive(error.into())),
        }
        let over = !fds[1].revents().is_empty();
        // Looked at after `life`: a qube that came and a service that has ended are both seen.
        match listener.try_accept() {
            Ok(channel) => return Ok(Some(channel)),
            Err((back, error)) if error.kind() == io::ErrorKind::WouldBlock => listener = back,
            Err((_, error)) => return Err(CallError::Receive(error)),
        }
        if over {
            return Ok(None);
        }
    }
}

/// Makes the call to its end; with the code of the service. The first guest byte is read in here.
///
/// # Errors
/// What the qube broke.
pub fn serve(setup: CallerSetup) -> Result<ExitCode, CallError> {
    let listener = Listener::new(setup.end, setup.listener)?;
    let Some(mut channel) = accept(listener, &setup.life)? else {
        return Ok(ExitCode::from(EXIT_DISCONNECTED));
    };
    let streams = Streams {
        input: Some(setup.input),
        output: None,
        errors: Errors::None,
    };
    let mut options = Options::new(Role::Caller);
    if let AnyChannel::Xen(_) = channel {
        options.peer = Some(setup.life);
    }
    let ending = pump::run(&mut channel, streams, None, options).map_err(CallError::Pump)?;
    let [code, ..] = pump::exit_code(&ending).to_le_bytes();
    Ok(ExitCode::from(code))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use bulkhead_wire::relay::encode;
    use bulkhead_wire::service::ToPump;

    use super::*;

    fn file() -> OwnedFd {
        io::pipe().unwrap().0.into()
    }

    #[test]
    fn a_setup_has_its_descriptors() {
        let receive = |packet: &[u8], fds: usize| {
            let (ours, theirs) = seqpacket::pair().unwrap();
            let fds: Vec<_> = (0..fds).map(|_| file()).collect();
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            seqpacket::send_packet(&ours, packet, &fds).unwrap();
            drop(ours);
            receive_setup(&theirs)
        };
        let end = End::Socket;
        let good = encode(&ToCaller { domid: 7, end }).unwrap();
        assert_eq!(receive(&good, 3).unwrap().listener.len(), 1);
        for (packet, fds) in [(&good[..], 1), (&good[..], 0), (&good[1..], 3)] {
            assert!(receive(packet, fds).is_err(), "{packet:?} with {fds}");
        }
        let (_, theirs) = seqpacket::pair().unwrap();
        assert!(receive_setup(&theirs).is_err(), "a daemon that has gone");
        // None, another end than a server's, and one more.
        let client = End::Client {
            server: 7,
            page: 1,
            port: 1,
        };
        for (end, fds) in [(end, 0), (end, 2), (client, 2)] {
            let fds = (0..fds).map(|_| file()).collect();
            assert!(Listener::new(end, fds).is_err(), "{end:?}");
        }
        let channel = ToPump::Channel(end);
        let error = receive(&encode(&channel).unwrap(), 1);
        assert!(error.is_err(), "the message of another pump");
    }

    #[test]
    fn a_qube_that_will_not_come_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let again = || OwnedFd::from(listener.try_clone().unwrap());
        let (life, writer) = io::pipe().unwrap();
        drop(writer);
        let life = OwnedFd::from(life);
        let came = accept(Listener::Socket(again()), &life).unwrap();
        assert!(came.is_none());
        // One that came before is heard.
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let came = accept(Listener::Socket(again()), &life).unwrap();
        assert!(came.is_some());
    }
}
