//! Where windows that place themselves are put among others: above their own qube's, and never
//! above what is of others.

use std::collections::BTreeSet;
use std::time::Duration;

use x11rb::errors::ReplyError;
use x11rb::protocol::xproto::{
    AtomEnum, ConfigureWindowAux, ConnectionExt as _, StackMode, Window,
};

use super::{Done, Framed, X11};
use crate::display::Key;

/// Frames within frames that a window manager may make.
const NESTED_MAX: usize = 8;

/// Windows at the bottom that may be the desktop, of which the uppermost is looked for.
const DESKTOPS_MAX: usize = 8;

/// How long the menu of an icon may open others above all.
const SUBMENU_TIME: Duration = Duration::from_secs(60);

impl X11 {
    /// Puts a new window of the root's above its owner, or else the uppermost window of this qube, or
    /// below the window that is in use where the qube has none. What opens first after the person has
    /// clicked on an icon is its menu, and above all, and so is what that opens; says whether it is.
    pub(super) fn put_above_own(&mut self, outer: Window, owner: Option<Key>) -> Done<bool> {
        // A new window is above all, and it stays where it is if what it is to be put beside goes.
        self.put_at_the_bottom(outer)?;
        let is_menu = |framed: &Framed| framed.menu_since.is_some();
        let opens_more = |framed: &Framed| {
            framed
                .menu_since
                .is_some_and(|at| at.elapsed() < SUBMENU_TIME)
        };
        let owner = owner.and_then(|key| self.windows.get(&key));
        let owner = owner.filter(|owner| !owner.look.docked);
        if owner.is_some_and(opens_more) || self.tray.takes_click() {
            let place = ConfigureWindowAux::new().stack_mode(StackMode::ABOVE);
            self.connection.configure_window(outer, &place)?;
            return Ok(true);
        }
        let all = self.connection.query_tree(self.root)?.reply()?.children;
        let owner = owner.filter(|owner| !is_menu(owner));
        let owner = owner.map_or(Ok(None), |owner| self.top_of(owner, &all))?;
        let below = match owner {
            Some(owner) => Some(owner),
            None => {
                let own = self.windows.values();
                let own = own.filter(|own| !own.look.docked && !is_menu(own) && own.outer != outer);
                let mut tops = BTreeSet::new();
                for framed in own {
                    tops.extend(self.top_of(framed, &all)?);
                }
                all.iter()
                    .rev()
                    .find(|window| tops.contains(window))
                    .copied()
            }
        };
        match below {
            Some(below) => self.put_beside(outer, (below, StackMode::ABOVE))?,
            None => self.put_below_others(outer)?,
        }
        Ok(false)
    }

    /// Menus of icons are above all until the person goes on with something else.
    pub(super) fn lower_menus(&mut self) -> Done {
        let menus = self.windows.values_mut();
        let menus = menus.filter_map(|framed| framed.menu_since.take().map(|_| framed.outer));
        for outer in menus.collect::<Vec<_>>() {
            self.put_at_the_bottom(outer)?;
            self.put_below_others(outer)?;
        }
        Ok(())
    }

    fn put_at_the_bottom(&self, outer: Window) -> Done {
        let place = ConfigureWindowAux::new().stack_mode(StackMode::BELOW);
        self.connection.configure_window(outer, &place)?;
        Ok(())
    }

    fn put_beside(&self, outer: Window, (sibling, mode): (Window, StackMode)) -> Done {
        let place = ConfigureWindowAux::new().sibling(sibling).stack_mode(mode);
        self.connection.configure_window(outer, &place)?;
        Ok(())
    }

    /// Puts a window that is at the bottom below the one in use; where none is, above the desktop.
    fn put_below_others(&self, outer: Window) -> Done {
        let active = self.active()?.map(|above| (above, StackMode::BELOW));
        let desktop = || Done::Ok(self.desktop()?.map(|below| (below, StackMode::ABOVE)));
        match active.map_or_else(desktop, |active| Ok(Some(active)))? {
            Some(beside) => self.put_beside(outer, beside),
            None => Ok(()),
        }
    }

    /// The child of the root that a window of ours is or is in, if it is one of these.
    fn top_of(&self, framed: &Framed, all: &[Window]) -> Done<Option<Window>> {
        let near = if framed.parent == self.root {
            framed.outer
        } else {
            framed.parent
        };
        if all.contains(&near) {
            return Ok(Some(near));
        }
        // Frames of window managers may be in frames.
        Ok(self.top(near)?.filter(|top| all.contains(top)))
    }

    /// The child of the root that shows the desktop, behind all windows.
    fn desktop(&self) -> Done<Option<Window>> {
        let (name, kind) = (self.atoms._NET_CLIENT_LIST_STACKING, AtomEnum::WINDOW);
        let lowest = self.numbers(self.root, name, kind.into())?;
        let (name, kind) = (self.atoms._NET_WM_WINDOW_TYPE, AtomEnum::ATOM);
        let mut desktop = None;
        for window in lowest.into_iter().take(DESKTOPS_MAX) {
            let types = self.numbers(window, name, kind.into())?;
            if types.contains(&self.atoms._NET_WM_WINDOW_TYPE_DESKTOP) {
                desktop = self.top(window)?;
            }
        }
        Ok(desktop)
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
