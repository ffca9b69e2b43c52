//! What a qube leaves in its folder of sockets, and when that is too much.
//!
//! The folder is in the machine's own runtime file system, and each name in it takes memory of
//! the machine. A qube can make sockets only, by the guard that it runs under; this is about how
//! many, and about attributes of the folder itself, which the guard does not know.

use super::folder::News;

/// Sockets that belong to no connection and yet may be there at once: those of callers that gave
/// up and of an agent that was killed, some times over.
pub(super) const LITTER_MAX: usize = 1000;
/// New names after which the folder is looked at, however few are left: a qube that keeps
/// just below the limit must not have each of its calls cost a look.
const STEP: usize = 64;

/// Why a qube is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misuse {
    /// More than [`LITTER_MAX`] names.
    #[error("it made more than {LITTER_MAX} sockets that no call needs")]
    Crowded,
    /// Attributes take room as files do.
    #[error("it gave its folder of sockets attributes, which only take room")]
    Decorated,
}

/// Counts names until the folder has to be looked at.
#[derive(Debug, Default)]
pub(super) struct Litter {
    /// New names until the next look; none before the first.
    left: usize,
    /// It was too much: the qube is being ended, which is told once.
    over: bool,
}

impl Litter {
    /// Whether to look now.
    pub(super) fn is_due(&mut self, news: &News) -> bool {
        self.left = self.left.saturating_sub(news.names.len());
        !self.over && (self.left == 0 || news.overflow || news.attributes)
    }

    /// What a look means that found `names` of no connection, and `attributes` of the folder or not.
    pub(super) fn looked(&mut self, names: usize, attributes: bool) -> Result<(), Misuse> {
        let found = match LITTER_MAX.checked_sub(names) {
            _ if attributes => Err(Misuse::Decorated),
            Some(left) => Ok(left),
            None => Err(Misuse::Crowded),
        };
        self.over = found.is_err();
        self.left = found?.max(STEP);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> News {
        News {
            names: vec!["n".to_owned(); count],
            ..News::default()
        }
    }

    #[test]
    fn one_past_the_limit_is_misuse_and_told_once() {
        let mut litter = Litter::default();
        assert!(
            litter.is_due(&names(0)),
            "what was there before is looked at"
        );
        assert_eq!(litter.looked(LITTER_MAX, false), Ok(()));
        assert_eq!(litter.looked(LITTER_MAX + 1, false), Err(Misuse::Crowded));
        assert!(!litter.is_due(&names(LITTER_MAX)));
    }

    #[test]
    fn a_folder_is_looked_at_before_it_can_be_much_past_the_limit() {
        let mut litter = Litter::default();
        litter.looked(0, false).unwrap();
        assert!(!litter.is_due(&names(LITTER_MAX - 1)));
        assert!(litter.is_due(&names(1)));
        litter.looked(LITTER_MAX, false).unwrap();
        assert!(!litter.is_due(&names(STEP - 1)));
        assert!(litter.is_due(&names(1)));
    }

    #[test]
    fn lost_names_and_attributes_are_looked_after_at_once() {
        let mut litter = Litter::default();
        litter.looked(0, false).unwrap();
        for (overflow, attributes) in [(true, false), (false, true)] {
            let news = News {
                overflow,
                attributes,
                ..News::default()
            };
            assert!(litter.is_due(&news));
        }
        assert_eq!(litter.looked(0, true), Err(Misuse::Decorated));
    }
}
