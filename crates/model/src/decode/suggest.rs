//! "did you mean".

use std::cell::Cell;

/// How many suggestions one check computes: comparing with every known name is slow, and who
/// has more errors than this has another problem than spelling.
pub(crate) const SUGGESTIONS_MAX: usize = 50;

/// Finds what was probably meant, for the first [`SUGGESTIONS_MAX`] times that it is asked.
#[derive(Debug)]
pub(crate) struct Suggester {
    left: Cell<usize>,
}

impl Default for Suggester {
    fn default() -> Self {
        Self {
            left: Cell::new(SUGGESTIONS_MAX),
        }
    }
}

impl Suggester {
    /// The known word nearest to `wrong`, if any is near.
    pub(crate) fn nearest<'a>(
        &self,
        wrong: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        self.left.set(self.left.get().checked_sub(1)?);
        let wrong = wrong.to_lowercase();
        // A third of the letters may differ, and never so many that any short word fits.
        let tolerance = (wrong.chars().count() / 3).clamp(1, 4);
        (known.into_iter())
            .filter(|word| word.len().abs_diff(wrong.len()) <= tolerance)
            .map(|word| (strsim::osa_distance(&wrong, &word.to_lowercase()), word))
            .filter(|(distance, _)| *distance <= tolerance)
            .min()
            .map(|(_, word)| word)
    }
}
