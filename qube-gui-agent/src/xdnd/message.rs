//! The messages of XDND 5: five numbers each, the first of which says who sends it.

use smithay::reexports::x11rb::protocol::xproto::{Atom, Timestamp, Window};

/// The version that is spoken, and the oldest whose messages have all that is looked at.
pub(super) const VERSION: u32 = 5;
pub(super) const VERSION_MIN: u32 = 3;

/// Kinds that a message has room for. Of more it says that they are in a list.
pub(super) const KINDS_TOLD: usize = 3;

/// Where messages carry one bit for yes.
const YES: u32 = 1;

/// In an answer: positions are wanted wherever the pointer moves.
const ALL_POSITIONS: u32 = 1 << 1;

/// What a source says to a target, or a target to a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Enter {
        version: u32,
        /// There are more kinds than these, in a list of the source's.
        more: bool,
        kinds: [Atom; KINDS_TOLD],
    },
    /// Where the pointer is on the screen, in pixels.
    Position {
        x: u16,
        y: u16,
        time: Timestamp,
        action: Atom,
    },
    Leave,
    Drop {
        time: Timestamp,
    },
    Status {
        accepts: bool,
        action: Atom,
    },
    Finished {
        taken: bool,
        action: Atom,
    },
}

/// Which message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Enter,
    Position,
    Leave,
    Drop,
    Status,
    Finished,
}

impl Message {
    pub(super) fn name(self) -> Name {
        match self {
            Self::Enter { .. } => Name::Enter,
            Self::Position { .. } => Name::Position,
            Self::Leave => Name::Leave,
            Self::Drop { .. } => Name::Drop,
            Self::Status { .. } => Name::Status,
            Self::Finished { .. } => Name::Finished,
        }
    }

    /// Who sent it, and what it says.
    pub(super) fn read(name: Name, numbers: [u32; 5]) -> (Window, Self) {
        let [from, one, two, three, four] = numbers;
        let said = match name {
            Name::Enter => Self::Enter {
                version: one >> 24,
                more: one & YES != 0,
                kinds: [two, three, four],
            },
            Name::Position => {
                let [a, b, c, d] = two.to_be_bytes();
                Self::Position {
                    x: u16::from_be_bytes([a, b]),
                    y: u16::from_be_bytes([c, d]),
                    time: three,
                    action: four,
                }
            }
            Name::Leave => Self::Leave,
            Name::Drop => Self::Drop { time: two },
            Name::Status => Self::Status {
                accepts: one & YES != 0,
                action: four,
            },
            Name::Finished => Self::Finished {
                taken: one & YES != 0,
                action: two,
            },
        };
        (from, said)
    }

    /// The same as numbers.
    pub(super) fn write(self, from: Window) -> [u32; 5] {
        let bit = |on: bool| if on { YES } else { 0 };
        match self {
            Self::Enter {
                version,
                more,
                kinds: [one, two, three],
            } => [from, version << 24 | bit(more), one, two, three],
            Self::Position { x, y, time, action } => {
                let at = u32::from(x) << 16 | u32::from(y);
                [from, 0, at, time, action]
            }
            Self::Leave => [from, 0, 0, 0, 0],
            Self::Drop { time } => [from, 0, time, 0, 0],
            Self::Status { accepts, action } => [from, bit(accepts) | ALL_POSITIONS, 0, 0, action],
            Self::Finished { taken, action } => [from, bit(taken), action, 0, 0],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages() -> impl Strategy<Value = Message> {
        prop_oneof![
            (0..=0xff_u32, any::<bool>(), any::<[u32; 3]>()).prop_map(|(version, more, kinds)| {
                Message::Enter {
                    version,
                    more,
                    kinds,
                }
            }),
            any::<(u16, u16, u32, u32)>().prop_map(|(x, y, time, action)| Message::Position {
                x,
                y,
                time,
                action
            }),
            Just(Message::Leave),
            any::<u32>().prop_map(|time| Message::Drop { time }),
            any::<(bool, u32)>().prop_map(|(accepts, action)| Message::Status { accepts, action }),
            any::<(bool, u32)>().prop_map(|(taken, action)| Message::Finished { taken, action }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(said in messages(), from in any::<u32>()) {
            prop_assert_eq!(Message::read(said.name(), said.write(from)), (from, said));
        }
    }

    #[test]
    fn numbers_are_where_the_specification_has_them() {
        let at = Message::Position {
            x: 0x102,
            y: 0x304,
            time: 7,
            action: 9,
        };
        assert_eq!(at.write(5), [5, 0, 0x0102_0304, 7, 9]);
        let entered = Message::Enter {
            version: 5,
            more: true,
            kinds: [1, 2, 3],
        };
        assert_eq!(entered.write(5), [5, 0x0500_0001, 1, 2, 3]);
        let finished = Message::Finished {
            taken: true,
            action: 9,
        };
        assert_eq!(finished.write(5), [5, 1, 9, 0, 0]);
    }
}
