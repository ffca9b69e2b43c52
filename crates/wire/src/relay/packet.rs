//! Messages to and from one packet's bytes.

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::PACKET_MAX;

/// Why a packet is no message.
#[derive(Debug, Error)]
pub enum PacketError {
    /// Past [`PACKET_MAX`].
    #[error("a packet of {0} bytes is past the limit of {PACKET_MAX}")]
    TooLong(usize),
    /// Bytes after the message.
    #[error("a packet has {0} bytes after its message")]
    Trailing(usize),
    /// Not the postcard form of a message.
    #[error("a packet is malformed")]
    Malformed(#[source] postcard::Error),
}

/// One packet for `message`.
///
/// # Errors
/// [`PacketError::TooLong`] for a message that fits no packet.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, PacketError> {
    let packet = postcard::to_stdvec(message).map_err(PacketError::Malformed)?;
    if packet.len() > PACKET_MAX {
        return Err(PacketError::TooLong(packet.len()));
    }
    Ok(packet)
}

/// The message in `packet`, which must hold nothing else.
///
/// # Errors
/// Where the packet is too long, malformed, or has trailing bytes.
pub fn decode<T: DeserializeOwned>(packet: &[u8]) -> Result<T, PacketError> {
    if packet.len() > PACKET_MAX {
        return Err(PacketError::TooLong(packet.len()));
    }
    let (message, rest) = postcard::take_from_bytes(packet).map_err(PacketError::Malformed)?;
    if !rest.is_empty() {
        return Err(PacketError::Trailing(rest.len()));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qrexec::announced::Announced;
    use crate::relay::{FromRelay, RequestId, ToRelay};

    fn execute(len: usize) -> ToRelay {
        let cmdline = vec![b'x'; len];
        ToRelay::Execute {
            connect_domain: 1,
            connect_port: 513,
            cmdline,
            just_exec: false,
        }
    }

    #[test]
    fn decode_undoes_encode() {
        let message = FromRelay::CallRequest {
            request: RequestId(u64::MAX),
            service: "qubes.Filecopy".into(),
            target: String::new(),
            requested_source: "work".into(),
            announced: Some(Announced {
                files: 3,
                folders: 1,
                bytes: u64::MAX,
                at_least: true,
            }),
        };
        let packet = encode(&message).unwrap();
        assert_eq!(decode::<FromRelay>(&packet).unwrap(), message);
    }

    #[test]
    fn the_longest_command_line_fits_and_one_past_the_packet_does_not() {
        assert!(encode(&execute(65_535)).unwrap().len() < PACKET_MAX);
        let overhead = encode(&execute(PACKET_MAX - 100)).unwrap().len() - (PACKET_MAX - 100);
        assert_eq!(
            encode(&execute(PACKET_MAX - overhead)).unwrap().len(),
            PACKET_MAX
        );
        let e = encode(&execute(PACKET_MAX - overhead + 1)).unwrap_err();
        assert_eq!(
            e.to_string(),
            "a packet of 73729 bytes is past the limit of 73728"
        );
    }

    #[test]
    fn trailing_bytes_and_half_a_message_are_refused() {
        let mut packet = encode(&execute(9)).unwrap();
        assert!(matches!(
            decode::<ToRelay>(&packet[..packet.len() - 3]),
            Err(PacketError::Malformed(_))
        ));
        packet.push(0);
        assert!(matches!(
            decode::<ToRelay>(&packet),
            Err(PacketError::Trailing(1))
        ));
    }

    #[test]
    fn a_length_past_the_packet_allocates_nothing() {
        // Variant 2 (Execute), domain, port, then a command line that claims 2^63 bytes.
        let packet = [
            2, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
        ];
        assert!(decode::<ToRelay>(&packet).is_err());
    }
}
