//! Which keys a qube is told of, and which are what the person wants of dom0.
//!
//! A key goes where it went down, until it comes up: one that a keystroke was made with is kept
//! from the qube, also while it repeats and although the modifiers have come up before it; one that
//! went down elsewhere is nothing to the qube, and no keystroke.

use crate::keys::Keys;
use crate::keystroke::Modifiers;

/// What the person wants of dom0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To have what the qube has on its clipboard.
    Copy,
    /// To have the qube have what was copied.
    Paste,
}

/// The keys that make a keystroke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chord {
    /// Exactly these are held.
    pub modifiers: Modifiers,
    /// Any of these goes down; none where the keyboard has no such key.
    pub keys: Keys,
}

impl Chord {
    fn is(&self, modifiers: Modifiers, key: u8) -> bool {
        self.modifiers == modifiers && self.keys.contains(key)
    }
}

/// All that the person can want by keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chords {
    /// For [`Wish::Copy`].
    pub copy: Chord,
    /// For [`Wish::Paste`].
    pub paste: Chord,
}

impl Chords {
    fn wish(&self, modifiers: Modifiers, key: u8) -> Option<Wish> {
        let all = [(&self.copy, Wish::Copy), (&self.paste, Wish::Paste)];
        all.into_iter()
            .find_map(|(chord, wish)| chord.is(modifiers, key).then_some(wish))
    }
}

/// A key going down or coming up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stroke {
    /// By X's numbers.
    pub key: u8,
    /// What is held with it.
    pub modifiers: Modifiers,
    /// When, in milliseconds.
    pub time: u32,
}

/// Who is to know of a key that went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressed {
    /// The qube.
    Told,
    /// Nobody.
    Kept,
    /// Dom0.
    Wished(Wish),
}

/// Keys that are down, as far as they are of interest.
#[derive(Debug, Clone, Default)]
pub struct Typed {
    /// Those that the qube believes pressed.
    told: Keys,
    /// Those that it knows nothing of.
    kept: Keys,
    /// What came up last, and whether the qube was told.
    last_up: Option<(u8, u32, bool)>,
}

impl Typed {
    /// Keys that the qube believes pressed.
    #[must_use]
    pub fn told(&self) -> Keys {
        self.told
    }

    /// A key goes down.
    pub fn down(&mut self, stroke: Stroke, chords: &Chords) -> Pressed {
        let Stroke {
            key,
            modifiers,
            time,
        } = stroke;
        // A key that repeats comes up and goes down in one moment.
        let repeated = self.last_up.filter(|(up, at, _)| (*up, *at) == (key, time));
        let pressed = if self.told.contains(key) {
            Pressed::Told
        } else if self.kept.contains(key) {
            Pressed::Kept
        } else if let Some((.., was_told)) = repeated {
            if was_told {
                Pressed::Told
            } else {
                Pressed::Kept
            }
        } else {
            let wish = chords.wish(modifiers, key);
            wish.map_or(Pressed::Told, Pressed::Wished)
        };
        match pressed {
            Pressed::Told => self.told.insert(key),
            Pressed::Kept | Pressed::Wished(_) => self.kept.insert(key),
        }
        pressed
    }

    /// A key comes up; says whether the qube is to know.
    pub fn up(&mut self, key: u8, time: u32) -> bool {
        self.kept.remove(key);
        let told = self.told.remove(key);
        self.last_up = Some((key, time, told));
        told
    }

    /// Forgets keys that are not pressed any more, or whose coming up will be told to others.
    pub fn keep(&mut self, pressed: Keys) {
        self.told = self.told.and(pressed);
        self.kept = self.kept.and(pressed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CTRL: u8 = 37;
    const SHIFT: u8 = 50;
    const C: u8 = 54;
    const V: u8 = 55;
    const BOTH: u32 = 5;

    fn chords() -> Chords {
        let chord = |key| {
            let mut keys = Keys::default();
            keys.insert(key);
            let modifiers = Modifiers::of_state(BOTH);
            Chord { modifiers, keys }
        };
        Chords {
            copy: chord(C),
            paste: chord(V),
        }
    }

    impl Typed {
        fn press(&mut self, key: u8, state: u32, time: u32) -> Pressed {
            let modifiers = Modifiers::of_state(state);
            let stroke = Stroke {
                key,
                modifiers,
                time,
            };
            self.down(stroke, &chords())
        }
    }

    #[test]
    fn a_keystroke_is_kept_whole_and_its_modifiers_come_up() {
        let mut typed = Typed::default();
        assert_eq!(typed.press(CTRL, 0, 1), Pressed::Told);
        assert_eq!(typed.press(SHIFT, 4, 2), Pressed::Told);
        assert_eq!(typed.press(C, 5, 3), Pressed::Wished(Wish::Copy));
        // It repeats, also after the modifiers have come up.
        assert!(!typed.up(C, 500));
        assert_eq!(typed.press(C, 5, 500), Pressed::Kept);
        assert!(typed.up(SHIFT, 510) && typed.up(CTRL, 510));
        assert!(!typed.up(C, 530));
        assert_eq!(typed.press(C, 0, 530), Pressed::Kept);
        assert!(!typed.up(C, 540));
        assert!(typed.told().is_empty() && typed.kept.is_empty());
        // And then it is a letter again.
        assert_eq!(typed.press(C, 0, 600), Pressed::Told);
    }

    #[test]
    fn other_modifiers_make_another_keystroke() {
        for state in [0, 1, 4, 5 + 8, 5 + 64] {
            assert_eq!(
                Typed::default().press(C, state, 1),
                Pressed::Told,
                "{state}"
            );
        }
        // Locks and buttons do not.
        let wished = Typed::default().press(V, 5 + 2 + 16 + 256, 1);
        assert_eq!(wished, Pressed::Wished(Wish::Paste));
    }

    #[test]
    fn a_key_that_is_down_makes_no_keystroke() {
        let mut typed = Typed::default();
        assert_eq!(typed.press(C, 0, 1), Pressed::Told);
        assert!(typed.up(C, 400));
        assert_eq!(typed.press(C, 5, 400), Pressed::Told);
        // With a display that does not tell that it came up.
        assert_eq!(typed.press(C, 5, 430), Pressed::Told);
        assert!(typed.up(C, 460));
        assert_eq!(typed.press(C, 5, 461), Pressed::Wished(Wish::Copy));
    }

    #[test]
    fn a_key_that_went_down_in_another_window_is_none_of_the_qubes() {
        // The window comes while the person holds a keystroke that was for another.
        let mut typed = Typed::default();
        assert!(!typed.up(C, 400));
        assert_eq!(typed.press(C, 5, 400), Pressed::Kept);
        // Its own, whose end it will not hear.
        typed.up(C, 401);
        assert_eq!(typed.press(C, 5, 410), Pressed::Wished(Wish::Copy));
        typed.keep(Keys::default());
        assert_eq!(typed.press(C, 5, 900), Pressed::Wished(Wish::Copy));
    }

    proptest! {
        /// A person with few keys, whose display repeats one of them and loses the end of some.
        #[test]
        fn a_qube_hears_of_both_ends_of_a_key_or_of_none(
            acts in proptest::collection::vec((0..4_usize, 0..4_u8), 1..200),
        ) {
            let keys = [CTRL, SHIFT, C, V];
            let (mut typed, mut believed) = (Typed::default(), Keys::default());
            let mut down = [false; 4];
            let mut wished_with = Keys::default();
            for (n, (which, act)) in acts.into_iter().enumerate() {
                let (key, time) = (keys[which], u32::try_from(n).expect("a time"));
                let state = u32::from(down[0]) * 4 + u32::from(down[1]);
                let mut press = |typed: &mut Typed, believed: &mut Keys| {
                    match typed.press(key, state, time) {
                        Pressed::Told => {
                            assert!(!wished_with.contains(key), "a keystroke is told");
                            believed.insert(key);
                        }
                        Pressed::Kept => {}
                        Pressed::Wished(_) => {
                            assert_eq!(state, BOTH);
                            assert!(!wished_with.contains(key), "one keystroke is two");
                            wished_with.insert(key);
                        }
                    }
                };
                match (act, down[which]) {
                    (0 | 1, false) => {
                        down[which] = true;
                        press(&mut typed, &mut believed);
                    }
                    (0, true) => {
                        prop_assert_eq!(typed.up(key, time), believed.remove(key));
                        press(&mut typed, &mut believed);
                    }
                    (1 | 2, true) => {
                        down[which] = false;
                        prop_assert_eq!(typed.up(key, time), believed.remove(key));
                        wished_with.remove(key);
                    }
                    (3, _) => {
                        // The keyboard goes, and comes back once all keys are up.
                        typed.keep(Keys::default());
                        believed = Keys::default();
                        wished_with = Keys::default();
                        down = [false; 4];
                    }
                    _ => {}
                }
                prop_assert_eq!(typed.told(), believed);
            }
        }
    }
}
