//! What a receiver of ours still has of an interrupted transfer.
//!
//! Spoken only by the service `bulkhead.Filecopy`, which a sender calls when it repeats a transfer
//! that broke. The receiver starts with its offers; the sender compares length, time and digest
//! with its own file and sends the rest of it in [`Dialect::Resumable`](super::Dialect), or
//! everything. Layout: magic, count (4 bytes), then per offer the length of its name (4), the name,
//! size (8), seconds (4), nanoseconds (4), bytes kept (8), SHA-256 of these (32).

use super::NAME_MAX;
use super::header::Stamp;

/// First bytes of the offers; the digit is the version of the dialect.
pub const MAGIC: [u8; 8] = *b"BHCOPY\x001";

/// Most offers made or read: what a receiver keeps of one source is bounded by the same number.
pub const OFFERS_MAX: u32 = 16;

/// Length of a digest.
pub const DIGEST_LEN: usize = 32;

/// The start of one file that the receiver has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Name as it was sent.
    pub name: Vec<u8>,
    /// Length of the whole file as it was announced.
    pub size: u64,
    /// Its time of last change as it was announced.
    pub mtime: Stamp,
    /// How many bytes are there.
    pub have: u64,
    /// SHA-256 of these bytes.
    pub digest: [u8; DIGEST_LEN],
}

/// Why offers cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The peer does not speak this dialect.
    #[error("the receiver does not offer to resume")]
    Magic,
    /// More than [`OFFERS_MAX`].
    #[error("the receiver offers {0} files")]
    TooMany(u32),
    /// A name over [`NAME_MAX`].
    #[error("the receiver offers a name of {0} bytes")]
    NameLength(u32),
}

/// The bytes that a receiver sends first. Only the first [`OFFERS_MAX`] are sent.
pub fn encode(offers: &[Offer]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let offers = offers.get(..OFFERS_MAX as usize).unwrap_or(offers);
    out.extend_from_slice(&(u32::try_from(offers.len()).unwrap_or(0)).to_le_bytes());
    for offer in offers {
        out.extend_from_slice(&(u32::try_from(offer.name.len()).unwrap_or(0)).to_le_bytes());
        out.extend_from_slice(&offer.name);
        out.extend_from_slice(&offer.size.to_le_bytes());
        out.extend_from_slice(&offer.mtime.seconds.to_le_bytes());
        out.extend_from_slice(&offer.mtime.nanos.to_le_bytes());
        out.extend_from_slice(&offer.have.to_le_bytes());
        out.extend_from_slice(&offer.digest);
    }
    out
}

/// Reads offers from the start of `bytes`: the offers and how many bytes they took. None: there is
/// more to come.
pub fn decode(bytes: &[u8]) -> Result<Option<(Vec<Offer>, usize)>, OfferError> {
    let mut reader = Reader { rest: bytes };
    let seen = bytes.get(..MAGIC.len()).unwrap_or(bytes);
    if !MAGIC.starts_with(seen) {
        return Err(OfferError::Magic);
    }
    let (Some(_), Some(count)) = (reader.bytes(MAGIC.len()), reader.word()) else {
        return Ok(None);
    };
    if count > OFFERS_MAX {
        return Err(OfferError::TooMany(count));
    }
    let mut offers = Vec::new();
    for _ in 0..count {
        let Some(length) = reader.word() else {
            return Ok(None);
        };
        if length as usize > NAME_MAX {
            return Err(OfferError::NameLength(length));
        }
        match reader.offer(length as usize) {
            Some(offer) => offers.push(offer),
            None => return Ok(None),
        }
    }
    Ok(Some((offers, bytes.len() - reader.rest.len())))
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (now, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(now)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (now, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*now)
    }

    fn word(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn offer(&mut self, name: usize) -> Option<Offer> {
        Some(Offer {
            name: self.bytes(name)?.to_vec(),
            size: u64::from_le_bytes(self.array()?),
            mtime: Stamp {
                seconds: self.word()?,
                nanos: self.word()?,
            },
            have: u64::from_le_bytes(self.array()?),
            digest: self.array()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(count: usize) -> Vec<Offer> {
        (0..count)
            .map(|number| Offer {
                name: vec![b'n'; number + 1],
                size: 1 << 40,
                mtime: Stamp {
                    seconds: 7,
                    nanos: 8,
                },
                have: number as u64,
                digest: [9; DIGEST_LEN],
            })
            .collect()
    }

    #[test]
    fn offers_survive_and_every_part_of_them_waits_for_more() {
        let sent = offers(3);
        let bytes = encode(&sent);
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Ok(None), "{end} bytes");
        }
        let longer = [bytes.clone(), vec![1, 2, 3]].concat();
        assert_eq!(decode(&longer), Ok(Some((sent, bytes.len()))));
    }

    #[test]
    fn what_is_no_offer_is_refused_at_once() {
        assert_eq!(decode(b"\0"), Err(OfferError::Magic));
        let mut many = MAGIC.to_vec();
        many.extend_from_slice(&(OFFERS_MAX + 1).to_le_bytes());
        assert_eq!(decode(&many), Err(OfferError::TooMany(OFFERS_MAX + 1)));
        let mut long = MAGIC.to_vec();
        long.extend_from_slice(&1_u32.to_le_bytes());
        long.extend_from_slice(&(NAME_MAX as u32 + 1).to_le_bytes());
        assert_eq!(
            decode(&long),
            Err(OfferError::NameLength(NAME_MAX as u32 + 1))
        );
    }

    #[test]
    fn no_more_offers_are_sent_than_are_read() {
        let bytes = encode(&offers(OFFERS_MAX as usize + 1));
        let (read, used) = decode(&bytes).unwrap().unwrap();
        assert_eq!((read.len(), used), (OFFERS_MAX as usize, bytes.len()));
    }
}
