//! Starts one service for a pump that runs elsewhere, and attends to it until it has ended.
//!
//! Everything here is dom0's own doing: the process that runs this has the service's user, sees no
//! byte that the caller sent, and is there so that neither the daemon nor the pump has to be.
//!
//! ```text
//! serving --pump or daemon gone--> grace --HANG_UP_GRACE--> hung up --KILL_GRACE--> killed
//! ```

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_sandbox::spawn::{Process, Program, Stream};
use bulkhead_vchan::seqpacket;
use bulkhead_wire::qrexec::EXIT_PROBLEM;
use bulkhead_wire::qrexec::command::{CommandError, ServiceCall};
use bulkhead_wire::relay::{PACKET_MAX, PacketError, decode, encode};
use bulkhead_wire::service::{Address, Identity, Order, Report, What};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;

use crate::launch::set_environment;
use crate::serve::{HANG_UP_GRACE, run_session, session_call};

/// How long a service that was hung up on may take to end, before it and its group are killed.
pub const KILL_GRACE: Duration = Duration::from_secs(5);

/// How long a socket service may take to accept and to read what it is told.
pub const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where programs are, for a user who is not ours.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
const PATH_OF_ROOT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What came with an order.
#[derive(Debug)]
pub struct Ends {
    /// To the daemon: nothing is said on it, and its end is the end of the call.
    pub daemon: OwnedFd,
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    report: OwnedFd,
}

/// A service that could not be started or attended to.
#[derive(Debug, Error)]
pub enum AttendError {
    /// Nothing came, or with other descriptors.
    #[error("cannot receive an order from the daemon")]
    Receive(#[source] io::Error),
    /// What came is none.
    #[error("the order from the daemon is malformed")]
    Malformed(#[source] PacketError),
    /// It names no call.
    #[error("the call in an order is malformed")]
    Call(#[source] CommandError),
    /// The service does not start.
    #[error("cannot start `{service}`")]
    Start {
        /// Which, with its argument.
        service: String,
        /// Why.
        source: io::Error,
    },
    /// The service cannot be watched.
    #[error("cannot watch a service")]
    Watch(#[source] io::Error),
    /// A report cannot be sent.
    #[error("cannot report on a service")]
    Report(#[source] io::Error),
}

/// Waits for the order.
///
/// # Errors
/// Where there is none, or it lacks a descriptor.
pub fn receive(daemon: OwnedFd) -> Result<(Order, Ends), AttendError> {
    let (mut buffer, mut fds) = (vec![0; PACKET_MAX], Vec::new());
    let len =
        seqpacket::recv_packet(&daemon, &mut buffer, &mut fds).map_err(AttendError::Receive)?;
    let order = decode(buffer.get(..len).unwrap_or_default()).map_err(AttendError::Malformed)?;
    let fds: [OwnedFd; 4] = fds
        .try_into()
        .map_err(|_| AttendError::Receive(io::ErrorKind::InvalidData.into()))?;
    let [stdin, stdout, stderr, report] = fds;
    let ends = Ends {
        daemon,
        stdin,
        stdout,
        stderr,
        report,
    };
    Ok((order, ends))
}

/// Starts what is ordered, as the user that this process is by now, and attends to it to its end.
/// Something to read on `switch` means that the service wants its standard input for both
/// directions.
///
/// # Errors
/// [`AttendError`]; the pump has been told then, as far as it can be.
pub fn attend(order: &Order, ends: Ends, switch: OwnedFd) -> Result<(), AttendError> {
    let report = ends.report.try_clone().map_err(AttendError::Watch)?;
    let outcome = try_attend(order, ends, switch);
    if outcome.is_err() {
        let code = EXIT_PROBLEM.into();
        // It may be the very reason.
        let _ = tell(&report, Report::Failed { code }, &[]);
    }
    outcome
}

fn try_attend(order: &Order, ends: Ends, switch: OwnedFd) -> Result<(), AttendError> {
    let call = ServiceCall::parse(order.descriptor.as_bytes()).map_err(AttendError::Call)?;
    let start = |source| AttendError::Start {
        service: call.full_name(),
        source,
    };
    if let Some((program, user)) = &order.session {
        wait_for_session(order, &call, program, user);
    }
    let path = match &order.what {
        What::Program(path) => path,
        What::Socket {
            at,
            introduce,
            exit_on_client_eof,
            exit_on_service_eof,
        } => {
            let told = introduce.then_some(order.descriptor.as_str());
            let socket = connect(at, told).map_err(start)?;
            let connected = Report::Connected {
                exit_on_client_eof: *exit_on_client_eof,
                exit_on_service_eof: *exit_on_service_eof,
            };
            return tell(&ends.report, connected, &[socket]).map_err(AttendError::Report);
        }
    };
    let mut command = command(path, order.user.as_ref(), &call);
    let argument = call.argument.as_deref();
    command.args(argument.filter(|argument| !argument.is_empty()));
    let streams = [ends.stdin, ends.stdout, ends.stderr].map(Stream::Is);
    let child = command.start(streams).map_err(start)?;
    // A pump that is gone already has ended the call, which is seen below.
    let _ = tell(&ends.report, Report::Running, &[]);
    let attended = Attended {
        child,
        daemon: ends.daemon,
        report: ends.report,
        switch: Some(switch),
    };
    attended.see_through()
}

fn tell(report: &OwnedFd, what: Report, fds: &[OwnedFd]) -> io::Result<()> {
    let packet = encode(&what).map_err(io::Error::other)?;
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    seqpacket::send_packet(report, &packet, &fds)
}

/// A program of a user, in their home and with an environment of theirs alone; of our own user
/// with ours.
fn command(program: &Path, user: Option<&Identity>, call: &ServiceCall) -> Program {
    let mut command = Program::new(program);
    if let Some(user) = user {
        let path = if user.uid == 0 { PATH_OF_ROOT } else { PATH };
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", &user.home)
            .env("SHELL", &user.shell)
            .env("USER", &user.name)
            .env("LOGNAME", &user.name)
            .current_dir(if user.home.is_dir() {
                user.home.as_path()
            } else {
                Path::new("/")
            });
        for name in ["LANG", "QREXEC_SERVICE_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
    }
    // That one is between the daemon and who started it.
    command.env_remove("NOTIFY_SOCKET");
    set_environment(&mut command, Some(call));
    command
}

/// Whatever comes of it, the call goes on.
fn wait_for_session(order: &Order, call: &ServiceCall, program: &Path, user: &str) {
    let command = command(program, order.user.as_ref(), &session_call(call));
    if let Err(error) = run_session(&command, user) {
        // Nobody reads it if standard error is closed.
        let _ = writeln!(io::stderr(), "`{}`: {error}", program.display());
    }
}

/// A connection to a socket service, which has been told what was called.
fn connect(at: &Address, told: Option<&str>) -> io::Result<OwnedFd> {
    let socket: OwnedFd = match at {
        Address::Tcp(at) => {
            let stream = TcpStream::connect_timeout(at, ACCEPT_TIMEOUT)?;
            stream.set_write_timeout(Some(ACCEPT_TIMEOUT))?;
            stream.into()
        }
        Address::Unix(path) => {
            let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
            let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
            // Of connecting too: a listener with a full queue would keep us for ever.
            set_socket_timeout(&socket, Timeout::Send, Some(ACCEPT_TIMEOUT))?;
            rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
            socket
        }
    };
    if let Some(descriptor) = told {
        let mut stream = UnixStream::from(socket);
        stream.write_all(&[descriptor.as_bytes(), &[0]].concat())?;
        return Ok(stream.into());
    }
    Ok(socket)
}

/// A service that runs.
struct Attended {
    child: Process,
    daemon: OwnedFd,
    report: OwnedFd,
    /// None once it was used.
    switch: Option<OwnedFd>,
}

/// How far the end of a service has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    Grace(Instant),
    HungUp(Instant),
    Killed,
}

impl Attended {
    fn see_through(mut self) -> Result<(), AttendError> {
        let pid = self.child.pid();
        let watched = self.watch(pid);
        if watched.is_err() {
            // Nobody would see to its end.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        watched.map_err(|e| AttendError::Watch(e.into()))?;
        let code = self.child.wait().map_err(AttendError::Watch)?;
        // The pump may be gone: then nobody wants to know.
        let _ = tell(&self.report, Report::Ended { code }, &[]);
        Ok(())
    }

    /// Returns when the service has ended.
    fn watch(&mut self, pid: Pid) -> rustix::io::Result<()> {
        let mut stage = Stage::Serving;
        while !self.wait(stage)? {
            stage = self.next(stage, pid);
        }
        Ok(())
    }

    /// Waits for what may end or change the stage; true when the service has ended.
    fn wait(&self, stage: Stage) -> rustix::io::Result<bool> {
        let until = match stage {
            Stage::Serving | Stage::Killed => None,
            Stage::Grace(until) | Stage::HungUp(until) => Some(until),
        };
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec::try_from(left).unwrap_or_default());
        let mut fds = vec![PollFd::new(&self.child, PollFlags::IN)];
        if stage == Stage::Serving {
            fds.push(PollFd::new(&self.daemon, PollFlags::empty()));
            fds.push(PollFd::new(&self.report, PollFlags::empty()));
            if let Some(switch) = &self.switch {
                fds.push(PollFd::new(switch, PollFlags::IN));
            }
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e),
        }
        Ok(fds.first().is_some_and(|fd| !fd.revents().is_empty()))
    }

    fn next(&mut self, stage: Stage, pid: Pid) -> Stage {
        let now = Instant::now();
        match stage {
            Stage::Serving if is_closed(&self.daemon) || is_closed(&self.report) => {
                Stage::Grace(now + HANG_UP_GRACE)
            }
            Stage::Grace(until) if now >= until => {
                // Nobody has waited for it, so the number is still its own and its group's.
                for signal in [Signal::HUP, Signal::CONT] {
                    let _ = kill_process_group(pid, signal);
                }
                Stage::HungUp(now + KILL_GRACE)
            }
            Stage::HungUp(until) if now >= until => {
                let _ = kill_process_group(pid, Signal::KILL);
                Stage::Killed
            }
            Stage::Serving => {
                if let Some(switch) = self.switch.take_if(|switch| is_ready(switch)) {
                    drop(switch);
                    // A pump that is gone is seen next.
                    let _ = tell(&self.report, Report::Switch, &[]);
                }
                stage
            }
            Stage::Grace(_) | Stage::HungUp(_) | Stage::Killed => stage,
        }
    }
}

fn look(fd: &OwnedFd, flags: PollFlags) -> PollFlags {
    let mut fds = [PollFd::new(fd, flags)];
    let now = Timespec::default();
    let looked = poll(&mut fds, Some(&now));
    let [fd] = &fds;
    looked.map_or(PollFlags::empty(), |_| fd.revents())
}

fn is_closed(fd: &OwnedFd) -> bool {
    look(fd, PollFlags::empty()).intersects(PollFlags::HUP | PollFlags::ERR)
}

fn is_ready(fd: &OwnedFd) -> bool {
    look(fd, PollFlags::IN).contains(PollFlags::IN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_whose_call_is_over_before_it_runs_is_hung_up_on() {
        let (daemon, _bulkheadd) = seqpacket::pair().unwrap();
        let (report, pump) = seqpacket::pair().unwrap();
        let null = || {
            let mut null = std::fs::File::options();
            OwnedFd::from(null.read(true).write(true).open("/dev/null").unwrap())
        };
        let ends = Ends {
            daemon,
            stdin: null(),
            stdout: null(),
            stderr: null(),
            report,
        };
        let order = Order {
            user: None,
            descriptor: "test.Sleep+600 work keyword adminvm".to_owned(),
            session: None,
            what: What::Program("/bin/sleep".into()),
        };
        let (switch, _signals) = UnixStream::pair().unwrap();
        drop(pump);
        // Returns when the service has ended, and not before.
        attend(&order, ends, switch.into()).unwrap();
    }
}
