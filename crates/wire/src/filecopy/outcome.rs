//! What the receiver answers.

use super::NAME_MAX;

/// Length of an outcome without the name that may follow.
pub const OUTCOME_LEN: usize = 16;
/// Longest name a receiver may report; the protocol's bound for the sender's buffer.
const REPORTED_NAME_MAX: u32 = 16_384;

/// Error codes that mean something of their own; others are errno values.
pub mod code {
    /// Done; compare the checksum.
    pub const OK: u32 = 0;
    /// The name is there already.
    pub const EEXIST: u32 = 17;
    /// An unsupported type or a malformed stream.
    pub const EINVAL: u32 = 22;
    /// The disk is full.
    pub const ENOSPC: u32 = 28;
    /// A name or link target is too long.
    pub const ENAMETOOLONG: u32 = 36;
    /// An unsafe symbolic link.
    pub const ENOLINK: u32 = 67;
    /// A forbidden character or form of path.
    pub const EILSEQ: u32 = 84;
    /// The stream ended without an end.
    pub const EREMOTEIO: u32 = 121;
    /// Too many bytes or files.
    pub const EDQUOT: u32 = 122;
    /// The stream ended inside an item; the sender is expected to know why.
    pub const UNEXPECTED_EOF: u32 = 31_415_926;
    /// A forbidden directory name as older receivers report it, with the sign the wrong way.
    pub const EILSEQ_OF_DIRECTORY: u32 = EILSEQ.wrapping_neg();
}

/// The answer to a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// One of [`code`], or an errno value.
    pub code: u32,
    /// CRC-32 of everything received.
    pub crc: u32,
    /// The last name the receiver saw; none from older receivers. Untrusted bytes.
    pub last_name: Option<Vec<u8>>,
}

impl Outcome {
    /// The bytes to send. A name over [`NAME_MAX`] is cut.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(OUTCOME_LEN + 4 + 64);
        out.extend_from_slice(&self.code.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&u64::from(self.crc).to_le_bytes());
        if let Some(name) = &self.last_name {
            let name = name.get(..NAME_MAX).unwrap_or(name);
            let length = u32::try_from(name.len()).unwrap_or(0);
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(name);
        }
        out
    }

    /// The last name with everything but printable ASCII (and `"`) made `_`, fit to be shown.
    pub fn shown_name(&self) -> Option<String> {
        let shown = |byte: &u8| match byte {
            b'"' => '_',
            0x20..=0x7e => char::from(*byte),
            _ => '_',
        };
        Some(self.last_name.as_ref()?.iter().map(shown).collect())
    }
}

/// Why an answer cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutcomeError {
    /// The stream ended within the fixed part.
    #[error("the receiver's answer ends after {0} of {OUTCOME_LEN} bytes")]
    Truncated(usize),
    /// The name is longer than a name can be.
    #[error("the receiver reports a name of {0} bytes")]
    NameTooLong(u32),
}

/// Collects an answer from pieces.
#[derive(Debug, Clone, Default)]
pub struct OutcomeDecoder {
    buffer: Vec<u8>,
}

impl OutcomeDecoder {
    /// Nothing received yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more bytes; what lies past a complete answer is dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        let most = OUTCOME_LEN + 4 + NAME_MAX + 1;
        let room = most.saturating_sub(self.buffer.len());
        self.buffer
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// Whether anything came at all.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The answer, if it is complete with its name.
    pub fn complete(&self) -> Result<Option<Outcome>, OutcomeError> {
        let Some((fixed, rest)) = self.buffer.split_first_chunk::<OUTCOME_LEN>() else {
            return Ok(None);
        };
        let Some((length, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length);
        if length > REPORTED_NAME_MAX {
            return Err(OutcomeError::NameTooLong(length));
        }
        let name = usize::try_from(length).ok().and_then(|end| rest.get(..end));
        Ok(name.map(|name| outcome(fixed, Some(name.to_vec()))))
    }

    /// The answer at the end of the stream; a missing or cut name is no error.
    pub fn finish(&self) -> Result<Outcome, OutcomeError> {
        if let Some(outcome) = self.complete()? {
            return Ok(outcome);
        }
        match self.buffer.first_chunk::<OUTCOME_LEN>() {
            Some(fixed) => Ok(outcome(fixed, None)),
            None => Err(OutcomeError::Truncated(self.buffer.len())),
        }
    }
}

fn outcome(fixed: &[u8; OUTCOME_LEN], last_name: Option<Vec<u8>>) -> Outcome {
    let word = |at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(fixed.get(at..at + 4).unwrap_or(&[0; 4]));
        u32::from_le_bytes(word)
    };
    Outcome {
        code: word(0),
        crc: word(8),
        last_name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Outcome {
        Outcome {
            code: code::EEXIST,
            crc: 0x1234_5678,
            last_name: Some(b"a/\"b\x1b".to_vec()),
        }
    }

    #[test]
    fn an_outcome_survives_any_split() {
        let bytes = sample().encode();
        for cut in 0..=bytes.len() {
            let mut decoder = OutcomeDecoder::new();
            decoder.push(&bytes[..cut]);
            let early = decoder.complete().unwrap();
            assert_eq!(early.is_some(), cut == bytes.len());
            decoder.push(&bytes[cut..]);
            assert_eq!(decoder.complete().unwrap(), Some(sample()));
        }
    }

    #[test]
    fn an_older_receiver_sends_no_name() {
        let mut decoder = OutcomeDecoder::new();
        decoder.push(&sample().encode()[..OUTCOME_LEN]);
        assert_eq!(decoder.complete(), Ok(None));
        assert_eq!(decoder.finish().unwrap().last_name, None);
        let mut short = OutcomeDecoder::new();
        short.push(&[0; OUTCOME_LEN - 1]);
        assert_eq!(short.finish(), Err(OutcomeError::Truncated(15)));
    }

    #[test]
    fn a_name_of_the_bound_is_read_and_one_byte_more_is_refused() {
        let mut fixed = vec![0; OUTCOME_LEN];
        fixed.extend_from_slice(&REPORTED_NAME_MAX.to_le_bytes());
        fixed.resize(fixed.len() + 16_384, b'x');
        let mut decoder = OutcomeDecoder::new();
        decoder.push(&fixed);
        assert!(decoder.complete().unwrap().is_some());
        let mut decoder = OutcomeDecoder::new();
        decoder.push(&[0; OUTCOME_LEN]);
        decoder.push(&(REPORTED_NAME_MAX + 1).to_le_bytes());
        assert_eq!(decoder.complete(), Err(OutcomeError::NameTooLong(16_385)));
    }

    #[test]
    fn a_name_is_made_harmless_before_it_is_shown() {
        assert_eq!(sample().shown_name().unwrap(), "a/_b_");
    }
}
