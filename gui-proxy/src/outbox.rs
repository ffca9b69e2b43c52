//! What waits to be written to the agent, which may not read.

use std::io::{self, IoSlice};

use bulkhead_vchan::Channel;

/// Bytes from which on the agent is not listened to, the pointer's ways are left out, and of where
/// it and the keyboard are only the last waits.
pub const OUTBOX_HIGH: usize = 64 * 1024;

/// Bytes that may wait at most: what a person types and clicks in an hour. An agent that leaves more unread
/// has gone.
pub const OUTBOX_MAX: usize = 1024 * 1024;

/// Bytes for the agent.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    /// Bytes of what the person pastes that wait among them.
    pasted: usize,
}

impl Outbox {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn is_high(&self) -> bool {
        // The agent may have as much to say itself and read nothing before it is heard.
        self.len() >= OUTBOX_HIGH + self.pasted
    }

    /// Whether what a person pastes may be appended: not behind another.
    pub(crate) fn takes_paste(&self) -> bool {
        self.pasted == 0 && !self.is_high()
    }

    /// Appends what a person pastes.
    pub(crate) fn paste<T>(&mut self, append: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let before = self.len();
        let appended = append(self.end());
        self.pasted = self.len() - before;
        appended
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() > OUTBOX_MAX
    }

    /// Where messages are appended.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        if self.written == self.bytes.len() || self.written >= OUTBOX_HIGH {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        &mut self.bytes
    }

    /// Writes what the channel takes. An agent that has gone takes all: what it said before is
    /// still to be heard.
    pub(crate) fn write_to(&mut self, channel: &mut impl Channel) -> io::Result<()> {
        while let Some(rest) = self
            .bytes
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            match channel.write(&[IoSlice::new(rest)]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => *self = Self::default(),
                Err(e) => return Err(e),
            }
        }
        self.pasted = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_vchan::xen::RingSizes;
    use bulkhead_vchan::xen::pair::pair;

    use super::*;

    #[test]
    fn what_the_agent_does_not_read_waits_and_is_counted() {
        let (mut ours, mut theirs, _memory) = pair(RingSizes::CONTROL).expect("rings");
        let mut outbox = Outbox::default();
        let all: Vec<u8> = (0..OUTBOX_HIGH).map(|n| (n % 251) as u8).collect();
        outbox.end().extend_from_slice(&all);
        assert!(outbox.is_high() && !outbox.is_full());
        let mut back = Vec::new();
        while back.len() < all.len() {
            outbox.write_to(&mut ours).expect("a peer");
            outbox.end();
            assert_eq!(outbox.len() + 4096, (all.len() - back.len()).max(4096));
            let mut part = [0; 4096];
            let n = theirs.read(&mut part).expect("bytes");
            back.extend_from_slice(&part[..n]);
        }
        assert_eq!(back, all);
        assert!(outbox.is_empty());
        outbox.end().resize(OUTBOX_MAX, 0);
        assert!(!outbox.is_full());
        outbox.end().push(0);
        assert!(outbox.is_full());
        // One paste may wait besides, and the agent is heard all the same.
        outbox = Outbox::default();
        outbox.end().resize(OUTBOX_HIGH - 1, 0);
        assert!(outbox.takes_paste());
        outbox.paste(|out| out.resize(out.len() + 250_000, 0));
        assert!(!outbox.takes_paste() && !outbox.is_high());
        outbox.end().push(0);
        assert!(outbox.is_high());
        drop(theirs);
        outbox.write_to(&mut ours).expect("nobody");
        assert!(outbox.is_empty());
    }
}
