//! Bytes on their way out.

use zeroize::Zeroize;

use super::message::{self, Kind};
use super::path::DbPath;

/// A queue of encoded messages. What has been sent is overwritten: it may be a secret.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

/// Capacity that an emptied queue keeps.
const KEPT: usize = 8 * 1024;

impl Outbox {
    pub(super) fn push(&mut self, kind: Kind, path: &DbPath, data: &[u8]) {
        message::encode(&mut self.bytes, kind, path, data);
    }

    pub(super) fn pending(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.sent)
    }

    /// Drops the first `n` pending bytes.
    pub(super) fn consume(&mut self, n: usize) {
        let until = self.bytes.len().min(self.sent.saturating_add(n));
        if let Some(gone) = self.bytes.get_mut(self.sent..until) {
            gone.zeroize();
        }
        self.sent = until;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
            self.sent = 0;
        } else if self.sent > super::OUTPUT_HIGH {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consuming_in_any_steps_yields_all_bytes_in_order() {
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for n in 0..60_u8 {
            outbox.push(Kind::Write, &DbPath::empty(), &[n; 3000]);
            message::encode(&mut expected, Kind::Write, &DbPath::empty(), &[n; 3000]);
        }
        assert_eq!(outbox.len(), expected.len());
        let mut got = Vec::new();
        while outbox.len() > 0 {
            let n = outbox.len().min(777);
            got.extend_from_slice(&outbox.pending()[..n]);
            outbox.consume(n);
        }
        assert_eq!(got, expected);
        assert!(outbox.bytes.capacity() <= KEPT);
        outbox.consume(1);
        assert_eq!(outbox.len(), 0);
    }
}
