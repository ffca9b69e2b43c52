//! What an application of X is given, part by part where it is too much for one request (INCR).

/// Bytes that are given at once; of more, as many in each part.
pub(super) const PART_MAX: usize = 256 * 1024;

/// What is to be written for one application.
#[derive(Debug)]
pub(super) struct Parts {
    bytes: Vec<u8>,
    given: usize,
    is_over: bool,
}

impl Parts {
    /// None where all of it can be given at once.
    pub(super) fn of(bytes: Vec<u8>) -> Result<Self, Vec<u8>> {
        if bytes.len() <= PART_MAX {
            return Err(bytes);
        }
        Ok(Self {
            bytes,
            given: 0,
            is_over: false,
        })
    }

    /// How many bytes there are in all, as far as X can say it.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    /// The next part. The last one has nothing in it, and says by that that it is the last.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        if self.is_over {
            return None;
        }
        let rest = self.bytes.get(self.given..).unwrap_or_default();
        let part = rest.get(..PART_MAX).unwrap_or(rest);
        self.given += part.len();
        self.is_over = part.is_empty();
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_at_once_comes_in_parts_and_ends_with_nothing() {
        assert!(Parts::of(vec![1; PART_MAX]).is_err());
        let bytes: Vec<u8> = (0..=2 * PART_MAX).map(|n| n.to_le_bytes()[0]).collect();
        let mut parts = Parts::of(bytes.clone()).unwrap();
        assert_eq!(parts.len() as usize, bytes.len());
        let (mut all, mut lengths) = (Vec::new(), Vec::new());
        while let Some(part) = parts.next() {
            all.extend_from_slice(part);
            lengths.push(part.len());
        }
        assert_eq!(lengths, [PART_MAX, PART_MAX, 1, 0]);
        assert_eq!(all, bytes);
    }
}
