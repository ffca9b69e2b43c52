//! Errors as our processes tell them to each other and to a log.

use std::error::Error;

/// An error and what caused it, on one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("the file is not read")]
    struct Outer(#[source] Inner);

    #[derive(Debug, Error)]
    #[error("the disk does not answer")]
    struct Inner;

    #[test]
    fn causes_follow_what_they_caused() {
        assert_eq!(chain(&Inner), "the disk does not answer");
        assert_eq!(
            chain(&Outer(Inner)),
            "the file is not read: the disk does not answer"
        );
    }
}
