//! A picture that a person pastes, on its way to an agent.

use std::os::fd::OwnedFd;

use bulkhead_wire::gui::picture::PICTURE_PART_MAX;

use crate::sealed::{Sealed, SealedError};

/// What an agent has not been told of a picture. It stays in its file until the agent has heard
/// what came before.
#[derive(Debug)]
pub(crate) struct Pasting {
    file: Sealed<OwnedFd>,
    said: usize,
}

impl Pasting {
    pub(crate) fn new(file: Sealed<OwnedFd>) -> Self {
        Self { file, said: 0 }
    }

    /// The next part; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, SealedError> {
        let part = self.file.part(self.said, PICTURE_PART_MAX)?;
        self.said += part.len();
        Ok((!part.is_empty()).then_some(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealed;

    #[test]
    fn parts_are_all_of_a_picture_and_none_is_too_large() {
        let all: Vec<u8> = (0..2 * PICTURE_PART_MAX + 3)
            .map(|n| (n % 251) as u8)
            .collect();
        let file = sealed::make(&all).expect("a file");
        let mut pasting = Pasting::new(sealed::check(file, all.len()).expect("a file"));
        let mut next = || pasting.next().expect("bytes");
        let parts: Vec<_> = std::iter::from_fn(&mut next).collect();
        let lengths: Vec<_> = parts.iter().map(Vec::len).collect();
        assert_eq!(lengths, [PICTURE_PART_MAX, PICTURE_PART_MAX, 3]);
        assert_eq!(parts.concat(), all);
        assert_eq!(next(), None);
    }
}
