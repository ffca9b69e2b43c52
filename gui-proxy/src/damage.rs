//! What of each window is to be painted, while the display is busy.

use std::collections::VecDeque;

use bulkhead_wire::gui::geometry::{Part, Size};

use crate::display::Key;

/// One rectangle for each window, around all that has changed. Windows have their turns in the
/// order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Damage(VecDeque<(Key, Part)>);

impl Damage {
    pub(crate) fn add(&mut self, window: Key, part: Part) {
        match self.0.iter_mut().find(|(key, _)| *key == window) {
            Some((_, old)) => *old = around(*old, part),
            None => self.0.push_back((window, part)),
        }
    }

    /// Forgets a window.
    pub(crate) fn remove(&mut self, window: Key) {
        self.0.retain(|(key, _)| *key != window);
    }

    /// Whose turn it is.
    pub(crate) fn first(&self) -> Option<(Key, Part)> {
        self.0.front().copied()
    }

    /// Notes that of the first window, whose `part` was to be painted, the upper `rows` are.
    pub(crate) fn painted(&mut self, part: Part, rows: u32) {
        let Some((key, _)) = self.0.pop_front() else {
            return;
        };
        let left = part.size.height().saturating_sub(rows);
        if left > 0 {
            let rest = Part {
                y: part.y.saturating_add(rows),
                size: Size::near(part.size.width(), left),
                ..part
            };
            self.0.push_back((key, rest));
        }
    }
}

/// The least rectangle around both.
fn around(a: Part, b: Part) -> Part {
    let span = |a: u32, a_len: u32, b: u32, b_len: u32| {
        let start = a.min(b);
        let end = a.saturating_add(a_len).max(b.saturating_add(b_len));
        (start, end - start)
    };
    let (x, width) = span(a.x, a.size.width(), b.x, b.size.width());
    let (y, height) = span(a.y, a.size.height(), b.y, b.size.height());
    Part {
        x,
        y,
        size: Size::near(width, height),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(x: u32, y: u32, width: u32, height: u32) -> Part {
        let size = Size::near(width, height);
        Part { x, y, size }
    }

    #[test]
    fn windows_take_turns_and_lose_nothing() {
        let mut damage = Damage::default();
        damage.add(Key(1), part(0, 0, 10, 10));
        damage.add(Key(2), part(5, 5, 1, 1));
        damage.add(Key(1), part(20, 30, 5, 5));
        assert_eq!(damage.first(), Some((Key(1), part(0, 0, 25, 35))));
        damage.painted(part(0, 0, 25, 35), 20);
        assert_eq!(damage.first(), Some((Key(2), part(5, 5, 1, 1))));
        damage.painted(part(5, 5, 1, 1), 1);
        assert_eq!(damage.first(), Some((Key(1), part(0, 20, 25, 15))));
        damage.painted(part(0, 20, 25, 15), 15);
        assert_eq!(damage.first(), None);
        damage.add(Key(3), part(0, 0, 1, 1));
        damage.remove(Key(3));
        assert_eq!(damage.first(), None);
    }

    #[test]
    fn numbers_at_the_end_of_their_range_are_no_trouble() {
        let far = part(u32::MAX, u32::MAX, 10, 10);
        assert_eq!(
            around(part(0, 0, 1, 1), far),
            part(0, 0, u32::MAX, u32::MAX)
        );
    }
}
