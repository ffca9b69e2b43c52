//! Notes: a window in the corner of the screen with those notices that no service of the session
//! shows.
//!
//! It is an X window that no window manager handles, as those of notification services are: it is
//! where it puts itself, above others, and the keyboard stays where it is. In a Wayland session it is
//! on the X display beside it, on which the windows of qubes are too.

use std::cell::RefCell;
use std::rc::Rc;

use gdk_x11::{X11Display, X11Monitor, X11Surface};
use gtk::accessible::Property;
use gtk::gdk;
use gtk::prelude::*;
use x11rb::connection::Connection;
use x11rb::errors::ReplyOrIdError;
use x11rb::protocol::xproto::{
    AtomEnum, ChangeWindowAttributesAux, ConfigureWindowAux, ConnectionExt as _, PropMode,
    StackMode, Window,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use super::icon::{self, Icon};
use super::{add_style, label, measure};
use crate::desk::look::Look;
use crate::failure::Failure;
use crate::notes::Note;

/// Characters in a line of a note, by which its width follows the person's font.
const LINE_CHARS: i32 = 36;

/// Width and height of the icon of a qube.
const ICON: i32 = 32;

/// Between the window and the edges of the screen.
const MARGIN: i32 = 16;

/// A note as it is drawn. All texts are safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoteView {
    number: u64,
    title: String,
    body: String,
    /// Of whom it tells, the source first.
    parties: Vec<Look>,
}

impl NoteView {
    pub(crate) fn new(note: &Note, look: impl Fn(&str) -> Look) -> Self {
        let notice = &note.notice;
        Self {
            number: note.number,
            title: notice.title.clone(),
            body: notice.body.clone(),
            parties: notice.qubes.iter().map(|qube| look(qube)).collect(),
        }
    }
}

/// The X display that notes are on.
pub(crate) struct Screen {
    display: gdk::Display,
    /// For what the toolkit has no words for.
    connection: RustConnection,
}

/// Why there is none.
const NO_SCREEN: &str =
    "notices cannot be shown: no notification service shows them, and no X display can be opened";

impl Screen {
    /// The display of the prompts or, where that is one of Wayland, the one beside it.
    pub(crate) fn open() -> Result<Self, Failure> {
        let of_prompts = gdk::Display::default().filter(|display| display.backend().is_x11());
        let display = match of_prompts {
            Some(display) => display,
            None => {
                let opened = X11Display::open(None).ok_or_else(|| {
                    Failure::new(NO_SCREEN)
                        .hint("In a Wayland session, start Xwayland or a notification service.")
                })?;
                add_style(&opened);
                opened
            }
        };
        let (connection, _) = x11rb::connect(Some(&display.name()))
            .map_err(|error| Failure::new(NO_SCREEN).because(&error))?;
        Ok(Self {
            display,
            connection,
        })
    }

    /// Takes a window from the window manager before it is on the screen.
    fn manage(&self, window: Window) -> Result<(), ReplyOrIdError> {
        // The toolkit has made it on a connection of its own.
        self.display.sync();
        let unmanaged = ChangeWindowAttributesAux::new().override_redirect(1);
        self.connection
            .change_window_attributes(window, &unmanaged)?
            .check()?;
        // Compositors draw it as what it is.
        let kind = self.atom("_NET_WM_WINDOW_TYPE")?;
        let notification = self.atom("_NET_WM_WINDOW_TYPE_NOTIFICATION")?;
        let values = [notification];
        self.connection
            .change_property32(PropMode::REPLACE, window, kind, AtomEnum::ATOM, &values)?
            .check()?;
        Ok(())
    }

    fn atom(&self, name: &str) -> Result<u32, ReplyOrIdError> {
        let atom = self.connection.intern_atom(false, name.as_bytes())?;
        Ok(atom.reply()?.atom)
    }

    /// Puts a window so wide, in units of the toolkit, into the corner above on the right.
    fn place(&self, surface: &X11Surface, width: i32) {
        if self.display.monitors().n_items() == 0 {
            return;
        }
        let Some(display) = self.display.downcast_ref::<X11Display>() else {
            return;
        };
        let monitor = display.primary_monitor();
        let area = match monitor.downcast_ref::<X11Monitor>() {
            // Without what panels take.
            Some(monitor) => monitor.workarea(),
            None => monitor.geometry(),
        };
        let scale = surface.scale_factor();
        let left = (area.x() + area.width() - MARGIN - width) * scale;
        let top = (area.y() + MARGIN) * scale;
        let place = ConfigureWindowAux::new()
            .x(left)
            .y(top)
            .stack_mode(StackMode::ABOVE);
        let Ok(window) = Window::try_from(surface.xid()) else {
            return;
        };
        // A display that is gone ends the program in another place.
        let _ = self.connection.configure_window(window, &place);
        let _ = self.connection.flush();
    }
}

/// The window. It is closed when it is dropped.
pub(crate) struct Corner {
    screen: Rc<Screen>,
    window: gtk::Window,
    surface: X11Surface,
    list: gtk::Box,
    dismiss: Rc<dyn Fn(u64)>,
    shown: RefCell<Vec<NoteView>>,
}

impl Drop for Corner {
    fn drop(&mut self) {
        self.window.destroy();
    }
}

impl Corner {
    /// A window that is not on the screen yet. What is clicked in it is told by its number.
    pub(crate) fn open(
        screen: &Rc<Screen>,
        dismiss: impl Fn(u64) + 'static,
    ) -> Result<Self, Failure> {
        let list = gtk::Box::new(gtk::Orientation::Vertical, 0);
        list.add_css_class("notes");
        let window = gtk::Window::builder()
            .display(&screen.display)
            .title("Notices")
            .decorated(false)
            .resizable(false)
            .focusable(false)
            .can_focus(false)
            .child(&list)
            .build();
        WidgetExt::realize(&window);
        let surface = window.surface().and_downcast::<X11Surface>();
        let surface = surface.ok_or_else(|| Failure::new(NO_SCREEN))?;
        // There is no window manager that would answer.
        surface.set_frame_sync_enabled(false);
        let id = Window::try_from(surface.xid()).unwrap_or_default();
        screen.manage(id).map_err(|error| {
            Failure::new("the window of notices cannot be made").because(&error)
        })?;
        let on = Rc::clone(screen);
        surface.connect_layout(move |surface, width, _| {
            if let Some(surface) = surface.downcast_ref() {
                on.place(surface, width);
            }
        });
        Ok(Self {
            screen: Rc::clone(screen),
            window,
            surface,
            list,
            dismiss: Rc::new(dismiss),
            shown: RefCell::default(),
        })
    }

    /// Shows these and no others.
    pub(crate) fn show(&self, views: &[NoteView]) {
        if *self.shown.borrow() == views {
            return;
        }
        while let Some(card) = self.list.first_child() {
            self.list.remove(&card);
        }
        for view in views {
            self.list.append(&self.card(view));
        }
        self.shown.replace(views.to_vec());
        let (_, width, _, _) = self.window.measure(gtk::Orientation::Horizontal, -1);
        self.screen.place(&self.surface, width);
        // To present it would give it the keyboard.
        self.window.set_visible(true);
    }

    fn card(&self, view: &NoteView) -> gtk::Box {
        let card = gtk::Box::builder()
            .orientation(gtk::Orientation::Vertical)
            .accessible_role(gtk::AccessibleRole::Alert)
            .build();
        card.add_css_class("note");
        let told = format!("{}: {}", view.title, view.body);
        card.update_property(&[Property::Label(&told)]);
        if let Some(source) = view.parties.first() {
            card.append(&icon::stripe(source).area);
        }
        let row = gtk::Box::new(gtk::Orientation::Horizontal, 10);
        row.add_css_class("texts");
        for (index, party) in view.parties.iter().enumerate() {
            if index > 0 {
                row.append(&icon::arrow());
            }
            let icon = Icon::new(party, ICON, gtk::AccessibleRole::Img);
            let told = format!("{}: {}", party.title, party.label);
            icon.area.update_property(&[Property::Label(&told)]);
            row.append(&icon.area);
        }
        let texts = gtk::Box::new(gtk::Orientation::Vertical, 2);
        for text in [label(&view.title, &["name"]), label(&view.body, &[])] {
            measure(&text, LINE_CHARS);
            texts.append(&text);
        }
        row.append(&texts);
        card.append(&row);
        let (click, dismiss, number) = (
            gtk::GestureClick::new(),
            Rc::clone(&self.dismiss),
            view.number,
        );
        // With any button.
        click.set_button(0);
        click.connect_released(move |_, _, _, _| dismiss(number));
        card.add_controller(click);
        card
    }
}
