//! The decoder of one call of `qubes.Notifications`: what a qube says on the stream towards the guest,
//! typed messages to the daemon on the other side.
//!
//! ```text
//!  pump --what the qube sends--> +---------+ --FromDecoder--> bulkheadd
//!       <-------answers--------- | decoder | <---ToDecoder---
//!                                +---------+
//! ```
//!
//! It ends when the qube has sent everything, or the daemon is gone.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use bulkhead_sandbox::confine::Confinement;
use bulkhead_vchan::{local, seqpacket};
use bulkhead_wire::end::Carrier;
use bulkhead_wire::notify::decoder::{FromDecoder, ToDecoder};
use bulkhead_wire::notify::dom0_end::{Dom0End, GuestEvent};
use bulkhead_wire::notify::{NotifyError, Reply, Request, Version};
use bulkhead_wire::relay::{PACKET_MAX, PacketError, decode, encode};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use thiserror::Error;

use crate::call;
use crate::line::{chunk, is_readable, unblock, wanted};

/// The error of D-Bus for what a qube should not have asked for.
const UNFIT: &str = "org.freedesktop.DBus.Error.InvalidArgs";

/// Answers that wait for a qube to read them; then it is not listened to.
const OUTPUT_HIGH: usize = 64 * 1024;
/// Bytes that wait where the person goes on clicking; then the call is over.
pub const OUTPUT_MAX: usize = 256 * 1024;
/// Messages that wait for the daemon; then the qube is not listened to.
const PACKETS_HIGH: usize = 16;

/// Why a call is over before its qube has sent everything.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// A socket failed.
    #[error("a socket of the call failed")]
    Io(#[from] io::Error),
    /// The daemon sent what is no message.
    #[error("a message of the daemon is malformed")]
    Packet(#[from] PacketError),
    /// Another message, or other descriptors, than were due.
    #[error("the daemon sent something else than {0}")]
    Unexpected(&'static str),
    /// What the qube sends is no stream of notifications.
    #[error("the stream of the qube cannot go on")]
    Guest(#[from] NotifyError),
    /// Past [`OUTPUT_MAX`].
    #[error("the qube does not read what it is sent")]
    Unread,
}

impl From<Errno> for DecodeError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// All that a decoder has before it reads.
#[derive(Debug)]
pub struct DecoderSetup {
    /// The calling qube.
    pub domid: u32,
    offered: Version,
    daemon: OwnedFd,
    input: OwnedFd,
    output: OwnedFd,
}

/// Waits for the first message on `daemon`.
///
/// # Errors
/// Where there is none, or it is not a setup with its descriptors.
pub fn receive_setup(daemon: OwnedFd) -> Result<DecoderSetup, DecodeError> {
    const WANTED: DecodeError = DecodeError::Unexpected("a setup");
    let (mut buffer, mut fds) = (vec![0; PACKET_MAX], Vec::new());
    let length = seqpacket::recv_packet(&daemon, &mut buffer, &mut fds)?;
    let message = decode(buffer.get(..length).unwrap_or_default())?;
    let ToDecoder::Setup { domid, offered } = message else {
        return Err(WANTED);
    };
    let [input, output] = fds.try_into().map_err(|_| WANTED)?;
    for fd in [&daemon, &input, &output] {
        unblock(fd)?;
    }
    Ok(DecoderSetup {
        domid,
        offered,
        daemon,
        input,
        output,
    })
}

/// How the decoder of a call from domain `domid` is confined: as the pump of that call, which has
/// read the same bytes.
#[must_use]
pub fn confinement(domid: u32) -> Confinement {
    call::confinement(domid, Carrier::Sockets)
}

/// Serves the call to its end. The first guest byte is read in here.
///
/// # Errors
/// [`DecodeError`].
pub fn serve(setup: DecoderSetup) -> Result<(), DecodeError> {
    let mut output = Vec::new();
    let end = Dom0End::new(setup.offered, &mut output);
    let mut decoder = Decoder {
        end,
        output,
        is_heard: true,
        packets: VecDeque::new(),
    };
    let mut buffer = vec![0; PACKET_MAX];
    while decoder.turn(&setup, &mut buffer)? {}
    Ok(())
}

#[derive(Debug)]
struct Decoder {
    end: Dom0End,
    /// To the qube.
    output: Vec<u8>,
    /// The qube has not hung up on what it is sent.
    is_heard: bool,
    /// To the daemon.
    packets: VecDeque<Vec<u8>>,
}

impl Decoder {
    fn wants_input(&self) -> bool {
        self.output.len() < OUTPUT_HIGH && self.packets.len() < PACKETS_HIGH
    }

    /// Waits, and carries what can be carried. False once the call is over.
    fn turn(&mut self, setup: &DecoderSetup, buffer: &mut [u8]) -> Result<bool, DecodeError> {
        let (from_daemon, from_guest) = self.wait(setup)?;
        if from_daemon && !self.hear_daemon(setup, buffer)? {
            return Ok(false);
        }
        if from_guest && self.wants_input() {
            match local::read(&setup.input, chunk(buffer))? {
                None => {}
                Some([]) if self.end.is_between_messages() => return Ok(false),
                Some([]) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Some(bytes) => self.hear_guest(bytes)?,
            }
        }
        self.flush(setup)?;
        Ok(true)
    }

    /// Whether there is something of the daemon, and of the qube.
    fn wait(&self, setup: &DecoderSetup) -> Result<(bool, bool), DecodeError> {
        let listens = self.wants_input();
        let daemon = wanted(true, !self.packets.is_empty());
        let mut fds = vec![PollFd::new(&setup.daemon, daemon)];
        if listens {
            fds.push(PollFd::new(&setup.input, PollFlags::IN));
        }
        if !self.output.is_empty() {
            fds.push(PollFd::new(&setup.output, PollFlags::OUT));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let told = |at: usize| fds.get(at).map_or(PollFlags::empty(), PollFd::revents);
        Ok((is_readable(told(0)), listens && is_readable(told(1))))
    }

    /// False once the daemon is gone.
    fn hear_daemon(
        &mut self,
        setup: &DecoderSetup,
        buffer: &mut [u8],
    ) -> Result<bool, DecodeError> {
        let length = match seqpacket::recv_packet(&setup.daemon, buffer, &mut Vec::new()) {
            Ok(0) => return Ok(false),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let reply = match decode(buffer.get(..length).unwrap_or_default())? {
            ToDecoder::Setup { .. } => return Err(DecodeError::Unexpected("an answer")),
            ToDecoder::Shown { sequence, id } => Reply::Shown { id, sequence },
            ToDecoder::Refused { sequence, why } => Reply::Failed {
                sequence,
                name: Some(why.error_name().to_owned()),
                message: Some(why.to_string()),
            },
            ToDecoder::Closed { id, why } => Reply::Closed { id, why },
            ToDecoder::Invoked { id, action } => Reply::Invoked { id, action },
        };
        self.end.send(&reply, &mut self.output);
        if self.output.len() > OUTPUT_MAX {
            return Err(DecodeError::Unread);
        }
        Ok(true)
    }

    fn hear_guest(&mut self, mut bytes: &[u8]) -> Result<(), DecodeError> {
        while let Some(event) = self.end.receive(&mut bytes)? {
            let message = match event {
                GuestEvent::Ready(_) => continue,
                GuestEvent::Request(Request::Show {
                    sequence,
                    notification,
                }) => FromDecoder::Show {
                    sequence,
                    notification,
                },
                GuestEvent::Request(Request::Close { id }) => FromDecoder::Close { id },
                GuestEvent::Unfit { sequence, why } => {
                    let reply = Reply::Failed {
                        sequence,
                        name: Some(UNFIT.to_owned()),
                        message: Some(why.to_string()),
                    };
                    self.end.send(&reply, &mut self.output);
                    continue;
                }
            };
            self.packets.push_back(encode(&message)?);
        }
        Ok(())
    }

    fn flush(&mut self, setup: &DecoderSetup) -> Result<(), DecodeError> {
        match local::write(&setup.output, &self.output) {
            Ok(sent) if self.is_heard => drop(self.output.drain(..sent)),
            // What it has sent before is read all the same.
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => {
                self.is_heard = false;
                self.output.clear();
            }
            Err(error) => return Err(error.into()),
        }
        while let Some(packet) = self.packets.front() {
            match seqpacket::send_packet(&setup.daemon, packet, &[]) {
                Ok(()) => drop(self.packets.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread::JoinHandle;

    use bulkhead_wire::notify::decoder::Refusal;
    use bulkhead_wire::notify::guest_end::{Dom0Event, GuestEnd};
    use bulkhead_wire::notify::{Closed, Notification};
    use std::io::{Read, Write};

    use super::*;

    /// A qube, a daemon, and what decodes between them.
    struct Call {
        guest: UnixStream,
        end: GuestEnd,
        daemon: OwnedFd,
        decoder: JoinHandle<Result<(), DecodeError>>,
    }

    fn call() -> Call {
        let (daemon, theirs) = seqpacket::pair().unwrap();
        let (guest, input) = UnixStream::pair().unwrap();
        let output = input.try_clone().unwrap();
        let offered = Version::WITH_CLOSE;
        let setup = encode(&ToDecoder::Setup { domid: 1, offered }).unwrap();
        let fds = [input.as_fd(), output.as_fd()];
        seqpacket::send_packet(&daemon, &setup, &fds).unwrap();
        drop((input, output));
        let decoder = std::thread::spawn(|| serve(receive_setup(theirs)?));
        let mut call = Call {
            guest,
            end: GuestEnd::new(),
            daemon,
            decoder,
        };
        assert_eq!(call.told(), Dom0Event::Ready(offered));
        call
    }

    impl Call {
        fn told(&mut self) -> Dom0Event {
            loop {
                let (mut byte, mut answer) = ([0], Vec::new());
                assert_eq!(self.guest.read(&mut byte).unwrap(), 1);
                let event = self.end.receive(&mut &byte[..], &mut answer).unwrap();
                self.guest.write_all(&answer).unwrap();
                if let Some(event) = event {
                    return event;
                }
            }
        }

        fn reply(&mut self) -> Reply {
            match self.told() {
                Dom0Event::Reply(reply) => reply,
                Dom0Event::Ready(_) => panic!("twice"),
            }
        }

        fn say(&mut self, request: &Request) {
            let mut bytes = Vec::new();
            assert!(self.end.send(request, &mut bytes));
            self.guest.write_all(&bytes).unwrap();
        }

        fn heard(&self) -> FromDecoder {
            let mut buffer = vec![0; PACKET_MAX];
            let length = seqpacket::recv_packet(&self.daemon, &mut buffer, &mut Vec::new());
            decode(&buffer[..length.unwrap()]).unwrap()
        }

        fn answer(&self, message: &ToDecoder) {
            let packet = encode(message).unwrap();
            seqpacket::send_packet(&self.daemon, &packet, &[]).unwrap();
        }

        fn ended(self) -> Result<(), DecodeError> {
            drop(self.guest);
            self.decoder.join().unwrap()
        }
    }

    fn notification(summary: &str, timeout: i32) -> Notification {
        Notification {
            replaces: 0,
            summary: summary.to_owned(),
            body: String::new(),
            actions: Vec::new(),
            urgency: None,
            timeout,
            resident: false,
            transient: false,
            silent: false,
        }
    }

    fn show(summary: &str, timeout: i32) -> Request {
        Request::Show {
            sequence: 5,
            notification: notification(summary, timeout),
        }
    }

    #[test]
    fn what_a_qube_says_is_carried_clean_and_answers_come_back() {
        let mut call = call();
        call.say(&show("a\u{202e}b", 0));
        let notification = notification("a_b", 0);
        let sequence = 5;
        let expected = FromDecoder::Show {
            sequence,
            notification,
        };
        assert_eq!(call.heard(), expected);
        call.say(&Request::Close { id: 3 });
        assert_eq!(call.heard(), FromDecoder::Close { id: 3 });

        call.answer(&ToDecoder::Shown { sequence, id: 3 });
        assert_eq!(call.reply(), Reply::Shown { id: 3, sequence });
        let (id, why) = (3, Closed::Dismissed);
        call.answer(&ToDecoder::Closed { id, why });
        assert_eq!(call.reply(), Reply::Closed { id, why });
        let action = "open".to_owned();
        call.answer(&ToDecoder::Invoked {
            id,
            action: action.clone(),
        });
        assert_eq!(call.reply(), Reply::Invoked { id, action });
        let why = Refusal::Nobody;
        call.answer(&ToDecoder::Refused { sequence, why });
        let Reply::Failed { name, .. } = call.reply() else {
            panic!("it failed");
        };
        assert_eq!(name.as_deref(), Some(why.error_name()));
        call.ended().unwrap();
    }

    #[test]
    fn what_is_unfit_is_answered_here_and_the_call_goes_on() {
        let mut call = call();
        call.say(&show("", -2));
        let Reply::Failed {
            sequence, message, ..
        } = call.reply()
        else {
            panic!("it failed");
        };
        assert_eq!(sequence, 5);
        assert_eq!(message.as_deref(), Some("its timeout is less than -1"));
        call.say(&show("good", -1));
        assert!(matches!(call.heard(), FromDecoder::Show { .. }));
        call.ended().unwrap();
    }

    #[test]
    fn a_hostile_stream_ends_the_call() {
        let mut cut = call();
        cut.guest.write_all(&[9, 0]).unwrap();
        let ended = cut.ended().unwrap_err();
        assert!(matches!(ended, DecodeError::Io(_)), "{ended:?}");
        let mut long = call();
        long.guest.write_all(&[0xff; 4]).unwrap();
        let ended = long.ended().unwrap_err();
        assert!(matches!(ended, DecodeError::Guest(_)), "{ended:?}");
    }

    #[test]
    fn a_qube_that_does_not_read_is_heard_no_more() {
        let mut call = call();
        let mut bytes = Vec::new();
        for _ in 0..40_000 {
            call.end.send(&show("", -2), &mut bytes);
        }
        call.guest.set_nonblocking(true).unwrap();
        // Until the answers fill what there is for them.
        let (mut rest, mut quiet) = (&bytes[..], 0);
        while quiet < 100 {
            match call.guest.write(rest) {
                Ok(sent) => (rest, quiet) = (&rest[sent..], 0),
                Err(_) => {
                    quiet += 1;
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            }
        }
        assert!(!rest.is_empty(), "it is listened to no more");
        let id = 1;
        let action = "a".repeat(200);
        for _ in 0..2 * OUTPUT_MAX / 200 {
            let clicked = ToDecoder::Invoked {
                id,
                action: action.clone(),
            };
            let packet = encode(&clicked).unwrap();
            if seqpacket::send_packet(&call.daemon, &packet, &[]).is_err() {
                break;
            }
        }
        let ended = call.decoder.join().unwrap().unwrap_err();
        assert!(matches!(ended, DecodeError::Unread), "{ended:?}");
    }

    #[test]
    fn a_daemon_that_is_gone_ends_the_call() {
        let call = call();
        drop(call.daemon);
        call.decoder.join().unwrap().unwrap();
    }
}
