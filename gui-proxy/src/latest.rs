//! Where pointer and keyboard are, for an agent that does not read.
//!
//! While much waits for the agent, of what the next message of its kind makes void only the last is
//! kept, and said before whatever is not: the agent learns no key or button that it takes for that of
//! another window, and a qube that is paused has what the person does elsewhere cost nothing.

use std::mem::discriminant;

use bulkhead_wire::gui::{DaemonMessage, WindowId};

/// What is to be said once the agent reads, or before what cannot wait: at most one message of each
/// kind for each window.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    kept: Vec<(WindowId, DaemonMessage)>,
}

/// Whether the next such message for the same window makes it void.
fn is_void_by_the_next(message: &DaemonMessage) -> bool {
    matches!(
        message,
        DaemonMessage::Crossing(_) | DaemonMessage::Focus { .. } | DaemonMessage::Keymap(_)
    )
}

impl Latest {
    /// What is to be said now where this was to be said, in order.
    pub(crate) fn pass(
        &mut self,
        is_high: bool,
        id: WindowId,
        message: DaemonMessage,
    ) -> Vec<(WindowId, DaemonMessage)> {
        if is_high && is_void_by_the_next(&message) {
            let is_void = |(other, earlier): &(WindowId, DaemonMessage)| {
                *other == id && discriminant(earlier) == discriminant(&message)
            };
            self.kept.retain(|kept| !is_void(kept));
            self.kept.push((id, message));
            return Vec::new();
        }
        let mut said = self.take();
        said.push((id, message));
        said
    }

    /// What was kept, in order.
    pub(crate) fn take(&mut self) -> Vec<(WindowId, DaemonMessage)> {
        std::mem::take(&mut self.kept)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bulkhead_wire::gui::{Crossing, Input, KEYMAP_LEN};
    use proptest::prelude::*;

    use super::*;

    const WINDOWS: u32 = 3;

    /// What can be void.
    fn state() -> impl Strategy<Value = (WindowId, DaemonMessage)> {
        let id = || (1..=WINDOWS).prop_map(WindowId);
        let crossing = |(id, here, x)| {
            let input = Input {
                x,
                ..Input::default()
            };
            let crossing = Crossing {
                here,
                input,
                mode: 0,
                detail: 0,
                focus: false,
            };
            (id, DaemonMessage::Crossing(crossing))
        };
        let focus = |(id, here, detail)| {
            let mode = 0;
            (id, DaemonMessage::Focus { here, mode, detail })
        };
        let keymap = |byte| (WindowId(0), DaemonMessage::Keymap([byte; KEYMAP_LEN]));
        prop_oneof![
            (id(), any::<bool>(), any::<i32>()).prop_map(crossing),
            (id(), any::<bool>(), any::<u32>()).prop_map(focus),
            any::<u8>().prop_map(keymap),
        ]
    }

    fn key() -> impl Strategy<Value = (WindowId, DaemonMessage)> {
        let key = |(id, keycode, down)| {
            let input = Input::default();
            let key = DaemonMessage::Key {
                down,
                input,
                keycode,
            };
            (WindowId(id), key)
        };
        (1..=WINDOWS, any::<u32>(), any::<bool>()).prop_map(key)
    }

    /// What an agent knows after each message that is no state, and at the end: the last of each.
    fn learnt(said: &[(WindowId, DaemonMessage)]) -> Vec<String> {
        let mut last = BTreeMap::new();
        let mut learnt = Vec::new();
        for (id, message) in said {
            if is_void_by_the_next(message) {
                let kind = format!("{:?}", discriminant(message));
                last.insert((*id, kind), message);
            } else {
                learnt.push(format!("{id:?} {message:?} at {last:?}"));
            }
        }
        learnt.push(format!("{last:?}"));
        learnt
    }

    proptest! {
        #[test]
        fn an_agent_learns_each_key_and_the_last_of_all_else(
            said in prop::collection::vec(
                (any::<bool>(), prop_oneof![4 => state(), 1 => key()]),
                0..200,
            ),
        ) {
            let mut latest = Latest::default();
            let mut heard = Vec::new();
            for (is_high, (id, message)) in said.clone() {
                heard.extend(latest.pass(is_high, id, message));
            }
            heard.extend(latest.take());
            let all: Vec<_> = said.into_iter().map(|(_, said)| said).collect();
            prop_assert!(heard.len() <= all.len());
            prop_assert_eq!(learnt(&heard), learnt(&all));
        }

        #[test]
        fn what_waits_is_one_of_each_kind_for_each_window(
            said in prop::collection::vec(state(), 0..200),
        ) {
            let mut latest = Latest::default();
            for (id, message) in said {
                prop_assert_eq!(latest.pass(true, id, message), []);
                // Crossings and focus of each, and the keys.
                prop_assert!(latest.kept.len() <= 2 * WINDOWS as usize + 1);
            }
        }
    }
}
