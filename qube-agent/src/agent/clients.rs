//! Local programs that ask for calls.
//!
//! ```text
//! reading --whole trigger--> waiting --dom0: connect--> connected --closed--> gone (told to dom0)
//!    |                          |--dom0: refused / link lost--> gone
//!    +--garbage, closed--> gone +--closed--> gone (taken back; told to dom0 if it connects)
//! ```

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use bulkhead_wire::qrexec::announced::Announced;
use bulkhead_wire::qrexec::trigger::UntrustedTrigger;
use bulkhead_wire::qrexec::{CONTROL_BODY_MAX, Endpoint, FrameReader, Ident, PENDING_REQUESTS_MAX};

/// A program's connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: UnixStream,
    frames: FrameReader,
    state: State,
    /// Names its request to dom0, and says what it announces.
    ident: Ident,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Reading,
    Waiting,
    Connected(Endpoint),
}

/// What became of a program.
#[derive(Debug)]
pub(super) enum Heard {
    /// Nothing yet.
    Nothing,
    /// It asks for a call.
    Request(UntrustedTrigger, Ident),
    /// It is gone before its request was answered.
    Withdrawn(Ident),
    /// It is gone; its connection, if it had one.
    Gone(Option<Endpoint>),
}

/// All of them, by slot. A slot is never used twice while the agent runs.
#[derive(Debug, Default)]
pub(super) struct Clients {
    all: BTreeMap<u32, Client>,
    next: u32,
    malformed: u64,
}

/// Requests that cannot be understood are logged one by one up to this many: a program that makes
/// mistakes is found by them. Any user of the qube could fill its log with more.
const MALFORMED_LOGGED: u64 = 16;

/// Whether the `count`th mistake has a line: the first ones, then each time they have doubled.
fn is_logged(count: u64) -> bool {
    count <= MALFORMED_LOGGED || count.is_power_of_two()
}

impl Clients {
    /// Takes a new program, which has announced this; dropped at once if there are too many.
    pub(super) fn add(
        &mut self,
        stream: UnixStream,
        announced: Option<Announced>,
    ) -> io::Result<()> {
        if self.all.len() >= PENDING_REQUESTS_MAX {
            return Ok(());
        }
        stream.set_nonblocking(true)?;
        let frames = FrameReader::new(CONTROL_BODY_MAX);
        let ident = match announced {
            Some(announced) => Ident::announcing(self.next, announced),
            None => Ident::for_slot(self.next),
        };
        self.all.insert(
            self.next,
            Client {
                stream,
                frames,
                state: State::Reading,
                ident,
            },
        );
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Client)> {
        self.all.iter().map(|(slot, client)| (*slot, client))
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.all.remove(&slot);
    }

    /// Reads what a program wrote.
    pub(super) fn hear(&mut self, slot: u32) -> Heard {
        let Some(client) = self.all.get_mut(&slot) else {
            return Heard::Nothing;
        };
        match client.read() {
            Ok(heard) => {
                if matches!(heard, Heard::Gone(_) | Heard::Withdrawn(_)) {
                    self.all.remove(&slot);
                }
                heard
            }
            Err(problem) => {
                self.malformed += 1;
                if is_logged(self.malformed) {
                    eprintln!(
                        "{}: request {} of a local program that was dropped: {problem}",
                        super::NAME,
                        self.malformed
                    );
                }
                self.all.remove(&slot);
                Heard::Gone(None)
            }
        }
    }

    /// Tells a program where to connect; false if it is gone.
    pub(super) fn connect(&mut self, slot: u32, endpoint: Endpoint) -> bool {
        let Some(client) = self.all.get_mut(&slot) else {
            return false;
        };
        if client.state != State::Waiting || client.stream.write_all(&endpoint.encode()).is_err() {
            self.all.remove(&slot);
            return false;
        }
        client.state = State::Connected(endpoint);
        true
    }

    /// Drops every program that still waits for an answer: none will come.
    pub(super) fn refuse_waiting(&mut self) {
        self.all.retain(|_, client| client.state != State::Waiting);
    }
}

impl Client {
    fn read(&mut self) -> Result<Heard, String> {
        let mut buffer = [0; 4096];
        loop {
            let n = match self.stream.read(&mut buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Heard::Nothing),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            let State::Reading = self.state else {
                // Nothing may follow a request, so this is the end in any case.
                return Ok(match self.state {
                    State::Connected(endpoint) => Heard::Gone(Some(endpoint)),
                    State::Waiting => Heard::Withdrawn(self.ident.clone()),
                    State::Reading => Heard::Gone(None),
                });
            };
            if n == 0 {
                return Ok(Heard::Gone(None));
            }
            let mut rest = buffer.get(..n).unwrap_or_default();
            if let Some((kind, body)) = self.frames.push(&mut rest).map_err(|e| e.to_string())? {
                if !rest.is_empty() {
                    return Err("bytes after the request".into());
                }
                self.state = State::Waiting;
                let request = UntrustedTrigger::parse(kind, &body).map_err(|e| e.to_string())?;
                return Ok(Heard::Request(request, self.ident.clone()));
            }
        }
    }
}

/// The slot that an identifier of ours names.
pub(super) fn slot(ident: &Ident) -> Option<u32> {
    ident.slot()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_wire::qrexec::Version;
    use bulkhead_wire::qrexec::trigger::Trigger;

    fn pair(clients: &mut Clients) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        clients.add(theirs, None).unwrap();
        ours
    }

    fn trigger(service: &str) -> Vec<u8> {
        Trigger::ask("", "work", service)
            .encode(Version::V4)
            .unwrap()
    }

    #[test]
    fn a_request_may_come_in_pieces_and_be_long() {
        let mut clients = Clients::default();
        let mut near = pair(&mut clients);
        let bytes = trigger(&"s".repeat(4096));
        let (a, b) = bytes.split_at(100);
        near.write_all(a).unwrap();
        assert!(matches!(clients.hear(0), Heard::Nothing));
        near.write_all(b).unwrap();
        assert!(matches!(clients.hear(0), Heard::Request(..)));
        let endpoint = Endpoint {
            domain: 5,
            port: 513,
        };
        assert!(clients.connect(0, endpoint));
        drop(near);
        assert!(matches!(clients.hear(0), Heard::Gone(Some(e)) if e == endpoint));
        assert!(!clients.connect(0, endpoint));
    }

    #[test]
    fn a_program_that_leaves_while_it_waits_takes_its_request_back() {
        let some = Announced {
            files: 3,
            folders: 0,
            bytes: 5,
            at_least: false,
        };
        for announced in [None, Some(some)] {
            let mut clients = Clients::default();
            let (mut near, theirs) = UnixStream::pair().unwrap();
            clients.add(theirs, announced).unwrap();
            near.write_all(&trigger("a")).unwrap();
            let Heard::Request(_, ident) = clients.hear(0) else {
                panic!("a request")
            };
            assert_eq!((ident.announced(), slot(&ident)), (announced, Some(0)));
            drop(near);
            // By the name that dom0 knows it by.
            assert!(matches!(clients.hear(0), Heard::Withdrawn(same) if same == ident));
            assert_eq!(clients.iter().count(), 0);
        }
    }

    #[test]
    fn garbage_and_half_a_message_go_away() {
        let mut clients = Clients::default();
        for bytes in [
            &[0xff; 64][..],
            &trigger("a")[..20],
            &[trigger("a"), vec![1]].concat(),
        ] {
            let mut near = pair(&mut clients);
            let slot = clients.iter().next().unwrap().0;
            near.write_all(bytes).unwrap();
            drop(near);
            assert!(
                matches!(clients.hear(slot), Heard::Gone(None)),
                "{}",
                bytes.len()
            );
            assert_eq!(clients.iter().count(), 0);
        }
    }

    #[test]
    fn a_million_mistakes_have_a_few_lines() {
        assert!((1..=MALFORMED_LOGGED).all(is_logged));
        assert!(!is_logged(MALFORMED_LOGGED + 1));
        assert_eq!(
            (1..=1_000_000).filter(|count| is_logged(*count)).count(),
            31
        );
    }

    #[test]
    fn one_program_past_the_limit_is_turned_away() {
        let mut clients = Clients::default();
        let near: Vec<_> = (0..PENDING_REQUESTS_MAX)
            .map(|_| pair(&mut clients))
            .collect();
        assert_eq!(clients.iter().count(), PENDING_REQUESTS_MAX);
        let mut late = pair(&mut clients);
        assert_eq!(clients.iter().count(), PENDING_REQUESTS_MAX);
        assert_eq!(late.read(&mut [0]).unwrap(), 0);
        drop(near);
    }

    #[test]
    fn those_who_wait_are_refused_when_dom0_is_lost() {
        let mut clients = Clients::default();
        let mut waiting = pair(&mut clients);
        let _reading = pair(&mut clients);
        waiting.write_all(&trigger("a")).unwrap();
        assert!(matches!(clients.hear(0), Heard::Request(..)));
        clients.refuse_waiting();
        assert_eq!(waiting.read(&mut [0]).unwrap(), 0);
        assert_eq!(clients.iter().count(), 1);
    }
}
