//! Where windows that place themselves are put among others: above their own qube's, and never
//! above what is of others.

use std::collections::BTreeSet;

use x11rb::errors::ReplyError;
use x11rb::protocol::xproto::{
    AtomEnum, ConfigureWindowAux, ConnectionExt as _, StackMode, Window,
};

use super::{Done, Framed, X11};
use crate::display::Key;

/// Frames within frames that a window manager may make.
const NESTED_MAX: usize = 8;

impl X11 {
    /// Puts a window of the root's above its owner, or else the uppermost window of this qube, or
    /// below the window that is in use where the qube has none. What opens as soon as the person
    /// has clicked on an icon is its menu, and above all.
    pub(super) fn put_above_own(&self, outer: Window, owner: Option<Key>) -> Done {
        if self.tray.was_clicked() {
            let place = ConfigureWindowAux::new().stack_mode(StackMode::ABOVE);
            self.connection.configure_window(outer, &place)?;
            return Ok(());
        }
        let in_tray = |framed: &&Framed| framed.look.docked;
        let owner = owner.and_then(|key| self.windows.get(&key));
        let owner = owner.filter(|owner| !in_tray(owner));
        let owner = owner.map(|owner| self.top_of(owner));
        let all = self.connection.query_tree(self.root)?.reply()?.children;
        let own = self.windows.values().filter(|own| !in_tray(own));
        let own: BTreeSet<Window> = own.map(|own| self.top_of(own)).collect();
        let uppermost = || {
            all.iter()
                .rev()
                .find(|window| own.contains(window))
                .copied()
        };
        let below = match owner.filter(|owner| all.contains(owner)).or_else(uppermost) {
            Some(below) => Some((below, StackMode::ABOVE)),
            None => self.active()?.map(|above| (above, StackMode::BELOW)),
        };
        if let Some((sibling, mode)) = below {
            let place = ConfigureWindowAux::new().sibling(sibling).stack_mode(mode);
            self.connection.configure_window(outer, &place)?;
        }
        Ok(())
    }

    /// The child of the root that a window of ours is or is in.
    fn top_of(&self, framed: &Framed) -> Window {
        if framed.parent == self.root {
            framed.outer
        } else {
            framed.parent
        }
    }

    /// The child of the root that the window in use is in.
    fn active(&self) -> Done<Option<Window>> {
        let (name, kind) = (self.atoms._NET_ACTIVE_WINDOW, AtomEnum::WINDOW);
        let active = self.numbers(self.root, name, kind.into())?;
        match active.first() {
            Some(&window) if window != x11rb::NONE => self.top(window),
            _ => Ok(None),
        }
    }

    /// The child of the root that a window is in; none where it is gone.
    fn top(&self, window: Window) -> Done<Option<Window>> {
        let mut at = window;
        for _ in 0..NESTED_MAX {
            match self.connection.query_tree(at)?.reply() {
                Ok(tree) if tree.parent == self.root => return Ok(Some(at)),
                Ok(tree) if tree.parent != x11rb::NONE => at = tree.parent,
                Ok(_) | Err(ReplyError::X11Error(_)) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(None)
    }
}
