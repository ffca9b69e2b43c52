//! A client of a daemon's local socket.

use std::collections::VecDeque;

use thiserror::Error;

use super::message::{self, Frame, Framer, HeaderError, Kind, Message, Value};
use super::path::DbPath;

/// Requests that may be unanswered at once: enough to fill a socket, and a bound on what a program
/// can queue by mistake.
pub const OUTSTANDING_MAX: usize = 1024;

/// What the daemon says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// A request was carried out.
    Done,
    /// The value asked for.
    Value(Value),
    /// One key of a listing, with its value for MULTIREAD.
    Entry(DbPath, Option<Value>),
    /// The listing is complete.
    End,
    /// There is no such key or watch.
    Missing,
    /// The daemon refused the request.
    Refused,
    /// A watched key changed; answers no request.
    Changed(DbPath),
}

/// Why the conversation cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ClientError {
    /// A header that cannot be.
    #[error("the QubesDB daemon sent a bad header")]
    Header(#[source] HeaderError),
    /// An answer to nothing that was asked.
    #[error("the QubesDB daemon sent message type {} out of place", *.0 as u8)]
    OutOfPlace(Kind),
    /// [`OUTSTANDING_MAX`] requests are unanswered.
    #[error("more than {OUTSTANDING_MAX} QubesDB requests are unanswered")]
    TooManyRequests,
    /// Asked for something that is no request.
    #[error("message type {} is no QubesDB request", *.0 as u8)]
    NotARequest(Kind),
}

/// One connection to a daemon.
#[derive(Debug, Default)]
pub struct Client {
    framer: Framer,
    outstanding: VecDeque<Kind>,
}

impl Client {
    /// The bytes of a request; its answer comes out of [`Client::receive`] in turn.
    ///
    /// # Errors
    /// Where `kind` is no request or too many are unanswered.
    pub fn request(
        &mut self,
        kind: Kind,
        path: &DbPath,
        data: &[u8],
    ) -> Result<Vec<u8>, ClientError> {
        use Kind::{List, MultiRead, Read, Remove, Unwatch, Watch, Write};
        if !matches!(
            kind,
            Read | Write | MultiRead | List | Remove | Watch | Unwatch
        ) {
            return Err(ClientError::NotARequest(kind));
        }
        if self.outstanding.len() >= OUTSTANDING_MAX {
            return Err(ClientError::TooManyRequests);
        }
        let mut bytes = Vec::new();
        message::encode(&mut bytes, kind, path, data);
        self.outstanding.push_back(kind);
        Ok(bytes)
    }

    /// Takes bytes from the daemon.
    ///
    /// # Errors
    /// Where they answer nothing that was asked; the connection is of no use then.
    pub fn receive(&mut self, mut bytes: &[u8]) -> Result<Vec<ClientEvent>, ClientError> {
        let mut events = Vec::new();
        while let Some(frame) = self.framer.next(&mut bytes) {
            match frame {
                Frame::Message(message) => events.push(self.answer(message)?),
                Frame::Bad(error) => return Err(ClientError::Header(error)),
            }
        }
        Ok(events)
    }

    fn answer(&mut self, message: Message) -> Result<ClientEvent, ClientError> {
        let Message { kind, path, data } = message;
        if kind == Kind::WatchEvent {
            return Ok(ClientEvent::Changed(path));
        }
        let asked = self
            .outstanding
            .front()
            .copied()
            .ok_or(ClientError::OutOfPlace(kind))?;
        let event = match (asked, kind) {
            (_, Kind::Error) => ClientEvent::Refused,
            (Kind::Read | Kind::Remove | Kind::Unwatch, Kind::NoEntry) => ClientEvent::Missing,
            (Kind::Write | Kind::Remove | Kind::Watch | Kind::Unwatch, Kind::Ok) => {
                ClientEvent::Done
            }
            (Kind::Read, Kind::ReadReply) => ClientEvent::Value(data),
            (Kind::MultiRead, Kind::MultiReadReply) | (Kind::List, Kind::ListReply)
                if path.is_empty() =>
            {
                ClientEvent::End
            }
            (Kind::MultiRead, Kind::MultiReadReply) => ClientEvent::Entry(path, Some(data)),
            (Kind::List, Kind::ListReply) => ClientEvent::Entry(path, None),
            _ => return Err(ClientError::OutOfPlace(kind)),
        };
        if !matches!(event, ClientEvent::Entry(..)) {
            self.outstanding.pop_front();
        }
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> DbPath {
        DbPath::new(text).unwrap()
    }

    fn asked(kinds: &[Kind]) -> Client {
        let mut client = Client::default();
        for kind in kinds {
            client.request(*kind, &path("/a"), b"").unwrap();
        }
        client
    }

    fn reply(
        client: &mut Client,
        kind: Kind,
        at: &str,
        data: &[u8],
    ) -> Result<Vec<ClientEvent>, ClientError> {
        let mut bytes = Vec::new();
        message::encode(&mut bytes, kind, &path(at), data);
        client.receive(&bytes)
    }

    #[test]
    fn answers_come_in_turn_with_events_between() {
        let mut client = asked(&[Kind::MultiRead, Kind::Read]);
        let entry = ClientEvent::Entry(path("/a"), Some(Value::new("1")));
        assert_eq!(
            reply(&mut client, Kind::MultiReadReply, "/a", b"1").unwrap(),
            [entry]
        );
        let changed = ClientEvent::Changed(path("/x"));
        assert_eq!(
            reply(&mut client, Kind::WatchEvent, "/x", b"").unwrap(),
            [changed]
        );
        assert_eq!(
            reply(&mut client, Kind::MultiReadReply, "", b"").unwrap(),
            [ClientEvent::End]
        );
        let value = ClientEvent::Value(Value::new("v"));
        assert_eq!(
            reply(&mut client, Kind::ReadReply, "/a", b"v").unwrap(),
            [value]
        );
        let e = reply(&mut client, Kind::Ok, "/a", b"").unwrap_err();
        assert_eq!(e, ClientError::OutOfPlace(Kind::Ok));
    }

    #[test]
    fn each_request_takes_only_its_own_answers() {
        use Kind::*;
        let right = [
            (Read, ReadReply),
            (Read, NoEntry),
            (Write, Ok),
            (Remove, Ok),
            (Remove, NoEntry),
            (Watch, Ok),
            (Unwatch, Ok),
            (Unwatch, NoEntry),
            (MultiRead, MultiReadReply),
            (List, ListReply),
        ];
        for asked_kind in [Read, Write, MultiRead, List, Remove, Watch, Unwatch] {
            for n in 0..14 {
                let kind = Kind::from_u8(n).unwrap();
                let fits =
                    right.contains(&(asked_kind, kind)) || matches!(kind, Error | WatchEvent);
                let got = reply(&mut asked(&[asked_kind]), kind, "/a", b"");
                assert_eq!(got.is_ok(), fits, "{asked_kind:?} answered by {kind:?}");
            }
        }
    }

    #[test]
    fn one_request_past_the_limit_is_refused() {
        let mut client = asked(&[Kind::Read; OUTSTANDING_MAX]);
        let e = client.request(Kind::Read, &path("/a"), b"").unwrap_err();
        assert_eq!(e, ClientError::TooManyRequests);
        assert_eq!(
            Client::default().request(Kind::Ok, &path("/a"), b""),
            Err(ClientError::NotARequest(Kind::Ok))
        );
    }
}
