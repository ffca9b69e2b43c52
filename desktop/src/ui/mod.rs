//! The windows: they show what the model says and tell it what is done in them.
//!
//! Invariant: nothing is decided here. Allow is a button that the model makes sensitive, and a
//! press that reaches it in another way is checked by the model again.

mod icon;
mod notes;
mod prompt;
mod targets;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use gtk::prelude::*;
use gtk::{gdk, glib, pango};
use tokio::sync::mpsc;

use self::notes::{Corner, NoteView, Screen};
use self::prompt::Prompt;
use crate::bus::Bus;
use crate::desk::{Act, Desk, News, Order};
use crate::failure::Failure;
use crate::notes::{Gone, Notes};
use crate::notices::Notice;

/// Names a prompt.
type Key = (u64, u64);

/// Opens the display.
pub(crate) fn open_display() -> Result<(), Failure> {
    glib::set_prgname(Some("org.bulkhead.Desktop"));
    glib::set_application_name("Bulkhead");
    gtk::init().map_err(|error| {
        Failure::new("no display can be opened")
            .because(&error)
            .hint("Start this from a desktop session; on a terminal, use `bulkhead ask`.")
    })?;
    if let Some(display) = gdk::Display::default() {
        add_style(&display);
    }
    Ok(())
}

fn add_style(display: &gdk::Display) {
    let style = gtk::CssProvider::new();
    style.load_from_data(include_str!("style.css"));
    let priority = gtk::STYLE_PROVIDER_PRIORITY_APPLICATION;
    gtk::style_context_add_provider_for_display(display, &style, priority);
}

/// Shows prompts and notes until the session ends or somebody ends us.
pub(crate) fn run(bus: Bus, guivm: Option<String>) {
    let end = glib::MainLoop::new(None, false);
    let app = Rc::new(App {
        desk: RefCell::new(Desk::new(guivm)),
        prompts: RefCell::default(),
        notes: RefCell::default(),
        screen: RefCell::default(),
        corner: RefCell::default(),
        acts: RefCell::default(),
        note_failed: Cell::new(false),
        settling: Cell::new(false),
        orders: bus.orders,
        began: Instant::now(),
        timer: RefCell::default(),
    });
    let mut notices = bus.notices;
    let noted = Rc::clone(&app);
    glib::spawn_future_local(async move {
        while let Some(notice) = notices.recv().await {
            noted.input(Input::Notice(notice));
        }
    });
    let mut news = bus.news;
    let quit = end.clone();
    glib::spawn_future_local(async move {
        while let Some(news) = news.recv().await {
            app.news(news);
        }
        quit.quit();
    });
    end.run();
}

/// What comes of an event.
enum Input {
    News(Box<News>),
    Act(Key, Act),
    Notice(Notice),
    /// A note was clicked.
    Dismiss(u64),
    Tick,
}

struct App {
    desk: RefCell<Desk>,
    prompts: RefCell<BTreeMap<Key, Prompt>>,
    notes: RefCell<Notes>,
    /// The X display, from the first note on.
    screen: RefCell<Option<Rc<Screen>>>,
    /// Where the notes are, while there are any.
    corner: RefCell<Option<Corner>>,
    note_failed: Cell<bool>,
    /// A window that is drawn may say something itself; that comes after the drawing.
    acts: RefCell<VecDeque<Input>>,
    settling: Cell<bool>,
    orders: mpsc::UnboundedSender<Order>,
    began: Instant,
    timer: RefCell<Option<glib::SourceId>>,
}

impl App {
    fn news(self: &Rc<Self>, news: News) {
        self.input(Input::News(Box::new(news)));
    }

    fn input(self: &Rc<Self>, input: Input) {
        self.acts.borrow_mut().push_back(input);
        if self.settling.replace(true) {
            return;
        }
        while let Some(input) = self.next_input() {
            let now = self.began.elapsed();
            self.take(input, now);
            for order in self.desk.borrow_mut().take_orders() {
                // Without the thread there is no session left either.
                let _ = self.orders.send(order);
            }
            self.draw(now);
            self.draw_notes();
        }
        self.settling.set(false);
        self.set_timer();
    }

    fn take(&self, input: Input, now: Duration) {
        let mut desk = self.desk.borrow_mut();
        let mut notes = self.notes.borrow_mut();
        let mut gone = notes.tick(now) == Gone::Some;
        match input {
            Input::News(news) => desk.news(*news, now),
            Input::Act(key, act) => desk.act(key, act, now),
            Input::Notice(notice) => notes.add(notice, now),
            Input::Dismiss(number) => gone |= notes.dismiss(number, now) == Gone::Some,
            Input::Tick => {}
        }
        if gone {
            desk.uncovered(now);
        }
        desk.tick(now);
    }

    fn next_input(&self) -> Option<Input> {
        self.acts.borrow_mut().pop_front()
    }

    fn draw(self: &Rc<Self>, now: Duration) {
        let views = self.desk.borrow().views(now);
        let mut prompts = self.prompts.borrow_mut();
        let wanted = |key: &Key| views.iter().any(|view| view.key == *key);
        let gone = prompts.extract_if(.., |key, _| !wanted(key));
        for (_, prompt) in gone.collect::<Vec<_>>() {
            prompt.close();
        }
        for view in &views {
            match prompts.get(&view.key) {
                Some(prompt) => prompt.show(view),
                None => {
                    let (app, key) = (Rc::downgrade(self), view.key);
                    let act: Rc<dyn Fn(Act)> = Rc::new(move |act| {
                        if let Some(app) = app.upgrade() {
                            app.input(Input::Act(key, act));
                        }
                    });
                    prompts.insert(key, Prompt::open(view, &act));
                }
            }
        }
    }

    fn draw_notes(self: &Rc<Self>) {
        let desk = self.desk.borrow();
        let views: Vec<NoteView> = self
            .notes
            .borrow()
            .shown()
            .iter()
            .map(|note| NoteView::new(note, |qube| desk.look(qube)))
            .collect();
        let mut corner = self.corner.borrow_mut();
        if views.is_empty() {
            *corner = None;
            return;
        }
        if corner.is_none() {
            match self.open_corner() {
                Ok(opened) => *corner = Some(opened),
                // They go as if they had been shown.
                Err(failure) => return self.cannot_note(&failure),
            }
        }
        if let Some(corner) = &*corner {
            corner.show(&views);
        }
    }

    fn open_corner(self: &Rc<Self>) -> Result<Corner, Failure> {
        let mut screen = self.screen.borrow_mut();
        let screen = match &mut *screen {
            Some(screen) => screen,
            none => none.insert(Rc::new(Screen::open()?)),
        };
        let app = Rc::downgrade(self);
        Corner::open(screen, move |number| {
            if let Some(app) = app.upgrade() {
                app.input(Input::Dismiss(number));
            }
        })
    }

    /// Says once that nobody sees notices.
    fn cannot_note(&self, failure: &Failure) {
        if !self.note_failed.replace(true) {
            failure.show();
        }
    }

    fn set_timer(self: &Rc<Self>) {
        if let Some(timer) = self.timer.take() {
            timer.remove();
        }
        let now = self.began.elapsed();
        let prompts = self.desk.borrow().next_change(now);
        let notes = self.notes.borrow().next_change();
        let Some(next) = prompts.into_iter().chain(notes).min() else {
            return;
        };
        let app = Rc::downgrade(self);
        let wait = next.saturating_sub(now) + Duration::from_millis(1);
        let timer = glib::timeout_add_local_once(wait, move || {
            if let Some(app) = app.upgrade() {
                app.timer.take();
                app.input(Input::Tick);
            }
        });
        self.timer.replace(Some(timer));
    }
}

/// A text that wraps and is never read as markup.
fn label(text: &str, classes: &[&str]) -> gtk::Label {
    let label = gtk::Label::new(None);
    prepare(&label, classes);
    label.set_text(text);
    label
}

fn prepare(label: &gtk::Label, classes: &[&str]) {
    label.set_attributes(Some(&plain()));
    label.set_xalign(0.0);
    label.set_wrap(true);
    label.set_wrap_mode(pango::WrapMode::WordChar);
    for class in classes {
        label.add_css_class(class);
    }
}

/// No hyphen where a word is broken: it would be read as a part of the name.
fn plain() -> pango::AttrList {
    let attributes = pango::AttrList::new();
    attributes.insert(pango::AttrInt::new_insert_hyphens(false));
    attributes
}

/// Gives a text so many characters before it wraps. Without, the height of the window is measured
/// for the narrowest there could be, and a long text makes it as wide as the screen.
fn measure(label: &gtk::Label, characters: i32) {
    label.set_width_chars(characters);
    label.set_max_width_chars(characters);
}

/// A button without a letter that presses it from afar.
fn button(text: &str) -> gtk::Button {
    gtk::Button::builder()
        .label(text)
        .use_underline(false)
        .build()
}
