//! Messages on their way to the daemon.

use std::collections::VecDeque;

use bulkhead_wire::relay::{self, FromRelay};

/// Bytes for the daemon past which nothing more is read from guests or clients: a few of the
/// longest requests, thousands of usual ones.
pub const QUEUE_HIGH: usize = 256 * 1024;

/// Whole packets, first one next.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    packets: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Queue {
    pub(crate) fn push(&mut self, message: &FromRelay) {
        // Every field is bounded well below a packet; were one not, losing the message is what a
        // full queue would do to it as well.
        if let Ok(packet) = relay::encode(message) {
            self.bytes += packet.len();
            self.packets.push_back(packet);
        }
    }

    /// Takes over what is in another one, behind what is here.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.packets.append(&mut other.packets);
        self.bytes += std::mem::take(&mut other.bytes);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.bytes < QUEUE_HIGH
    }

    pub(crate) fn front(&self) -> Option<&[u8]> {
        self.packets.front().map(Vec::as_slice)
    }

    pub(crate) fn pop(&mut self) {
        if let Some(packet) = self.packets.pop_front() {
            self.bytes -= packet.len();
        }
    }
}
