//! One prompt: a window for one call.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use gtk::accessible::Property;
use gtk::pango::{AttrInt, Weight};
use gtk::prelude::*;
use gtk::{gdk, glib};

use super::icon::{self, Icon};
use super::targets::Targets;
use super::{button, label, measure};
use crate::desk::call::CallView;
use crate::desk::look::Look;
use crate::desk::{Act, View};

/// Characters in a line of a prompt, by which its width follows the person's font.
const LINE_CHARS: i32 = 60;

/// Characters of a name beside its icon before it wraps.
const NAME_CHARS: i32 = 18;

/// Characters of a detail before it wraps.
const VALUE_CHARS: i32 = 44;

/// What is done in a prompt, on its way to the model.
type Acting = Rc<dyn Fn(Act)>;

/// A window and the parts of it that change.
#[derive(Debug)]
pub(crate) struct Prompt {
    window: gtk::Window,
    stripe: Icon,
    source: Party,
    target: Party,
    sentence: gtk::Label,
    claim: gtk::Label,
    meaning: gtk::Label,
    targets: Targets,
    status: gtk::Label,
    left: gtk::Label,
    others: gtk::Label,
    deny_all: gtk::Button,
    deny: gtk::Button,
    allow: gtk::Button,
    shown: RefCell<Option<View>>,
}

/// One of the two qubes of a call.
#[derive(Debug)]
struct Party {
    area: gtk::Box,
    icon: Icon,
    name: gtk::Label,
    label: gtk::Label,
}

impl Party {
    fn new(look: &Look) -> Self {
        let area = gtk::Box::new(gtk::Orientation::Horizontal, 10);
        area.add_css_class("party");
        area.set_hexpand(true);
        let icon = Icon::new(look, 44, gtk::AccessibleRole::Img);
        let texts = gtk::Box::new(gtk::Orientation::Vertical, 2);
        texts.set_valign(gtk::Align::Center);
        let (name, label) = (label("", &["name"]), label("", &["quiet"]));
        for text in [&name, &label] {
            measure(text, NAME_CHARS);
        }
        texts.append(&name);
        texts.append(&label);
        area.append(&icon.area);
        area.append(&texts);
        Self {
            area,
            icon,
            name,
            label,
        }
    }

    fn show(&self, role: &str, look: &Look) {
        self.icon.show(look);
        self.icon
            .area
            .update_property(&[Property::Label(&format!("{role}: {}", look.label))]);
        self.name.set_text(&look.title);
        self.label.set_text(&look.label);
    }
}

impl Prompt {
    /// Makes the window and puts it on the screen.
    pub(crate) fn open(view: &View, act: &Acting) -> Self {
        let prompt = Self::build(view, act);
        prompt.lay_out(view);
        prompt.connect(act);
        prompt.show(view);
        GtkWindowExt::set_focus(&prompt.window, Some(&prompt.targets.search));
        prompt.window.present();
        prompt
    }

    fn build(view: &View, act: &Acting) -> Self {
        let call = &view.call;
        let window = gtk::Window::builder()
            .title(format!("Call of {}", call.source.title))
            .resizable(false)
            .accessible_role(gtk::AccessibleRole::AlertDialog)
            .build();
        let status = gtk::Label::builder()
            .accessible_role(gtk::AccessibleRole::Status)
            .build();
        super::prepare(&status, &["status"]);
        Self {
            window,
            stripe: icon::stripe(&call.source),
            source: Party::new(&call.source),
            target: Party::new(&call.target),
            sentence: label("", &["sentence"]),
            claim: label(&call.claim, &[]),
            meaning: label(call.meaning, &["quiet"]),
            targets: Targets::new(act),
            status,
            left: label("", &["quiet"]),
            others: label("", &["quiet"]),
            deny_all: button(""),
            deny: button("Deny"),
            allow: button("Allow"),
            shown: RefCell::default(),
        }
    }

    fn lay_out(&self, view: &View) {
        let parties = gtk::Box::new(gtk::Orientation::Horizontal, 10);
        parties.set_homogeneous(false);
        parties.append(&self.source.area);
        parties.append(&icon::arrow());
        parties.append(&self.target.area);

        let buttons = gtk::Box::new(gtk::Orientation::Horizontal, 10);
        let gap = gtk::Box::new(gtk::Orientation::Horizontal, 0);
        gap.set_hexpand(true);
        self.deny_all.set_hexpand(false);
        buttons.append(&self.deny_all);
        buttons.append(&gap);
        buttons.append(&self.deny);
        buttons.append(&self.allow);
        self.allow.add_css_class("suggested-action");

        let content = gtk::Box::new(gtk::Orientation::Vertical, 12);
        content.add_css_class("prompt");
        for text in [
            &self.sentence,
            &self.claim,
            &self.meaning,
            &self.status,
            &self.left,
            &self.others,
        ] {
            measure(text, LINE_CHARS);
        }
        content.append(&parties);
        content.append(&self.sentence);
        self.claim.set_visible(!view.call.claim.is_empty());
        content.append(&self.claim);
        self.meaning.set_visible(!view.call.meaning.is_empty());
        content.append(&self.meaning);
        content.append(&details(&view.call));
        content.append(&self.targets.area);
        content.append(&self.status);
        content.append(&self.left);
        content.append(&self.others);
        content.append(&buttons);

        let all = gtk::Box::new(gtk::Orientation::Vertical, 12);
        all.append(&self.stripe.area);
        all.append(&content);
        self.window.set_child(Some(&all));
    }

    fn connect(&self, act: &Acting) {
        for (button, does) in [
            (&self.allow, Act::Allow),
            (&self.deny, Act::Deny),
            (&self.deny_all, Act::DenyAll),
        ] {
            let acting = Rc::clone(act);
            button.connect_clicked(move |_| acting(does.clone()));
        }
        // To close it is to say no.
        let acting = Rc::clone(act);
        self.window.connect_close_request(move |_| {
            acting(Act::Deny);
            glib::Propagation::Stop
        });
        let acting = Rc::clone(act);
        self.window.connect_is_active_notify(move |window| {
            if !window.is_active() {
                acting(Act::Left);
            }
        });
        // Not before it has been drawn once: until then nobody can have seen it.
        let acting = Rc::clone(act);
        self.window.connect_map(move |window| {
            let acting = Rc::clone(&acting);
            let drawn = std::cell::Cell::new(false);
            window.add_tick_callback(move |_, _| {
                if !drawn.replace(true) {
                    return glib::ControlFlow::Continue;
                }
                acting(Act::Shown);
                glib::ControlFlow::Break
            });
        });
        self.window.add_controller(pointer(act));
        self.window.add_controller(listener(act));
    }

    /// Shows what has changed.
    pub(crate) fn show(&self, view: &View) {
        if self.shown.borrow().as_ref() == Some(view) {
            return;
        }
        let call = &view.call;
        self.stripe.show(&call.source);
        self.source.show("Source", &call.source);
        self.target.show("Target", &call.target);
        self.show_sentence(call);
        self.targets.show(call);
        set_text(&self.status, &call.status);
        set_text(&self.left, &call.left.map_or_else(String::new, left));
        set_text(&self.others, &others(view));
        self.others.set_visible(view.waiting > 0);
        let all = format!("Deny all {} of {}", view.of_source, call.source.title);
        self.deny_all.set_label(&all);
        self.deny_all.update_property(&[Property::Label(&all)]);
        self.deny_all.set_visible(view.of_source > 1);
        self.deny_all.set_sensitive(call.may_deny);
        self.deny.set_sensitive(call.may_deny);
        self.allow.set_sensitive(call.may_allow);
        self.allow
            .update_property(&[Property::Description(&call.status)]);
        self.shown.replace(Some(view.clone()));
    }

    fn show_sentence(&self, call: &CallView) {
        let (source, target) = match call.chosen {
            Some(_) => (&call.source.title, call.target.title.as_str()),
            None => (&call.source.title, "a qube that you choose"),
        };
        let text = format!("{source} wants to {} {target}", call.doing);
        // Attributes, and never markup: no text can end them.
        let bold = super::plain();
        for (start, length) in [(0, source.len()), (text.len() - target.len(), target.len())] {
            let mut part = AttrInt::new_weight(Weight::Bold);
            part.set_start_index(u32::try_from(start).unwrap_or(0));
            part.set_end_index(u32::try_from(start + length).unwrap_or(0));
            bold.insert(part);
        }
        set_text(&self.sentence, &text);
        // What a screen reader says first.
        let first = match call.claim.as_str() {
            "" => text,
            claim => format!("{text}. {claim}"),
        };
        self.window
            .update_property(&[Property::Description(&first)]);
        self.sentence.set_attributes(Some(&bold));
    }

    /// Takes it off the screen.
    pub(crate) fn close(&self) {
        self.window.destroy();
    }
}

/// Tells the model where the pointer is.
fn pointer(act: &Acting) -> gtk::EventControllerMotion {
    let pointer = gtk::EventControllerMotion::new();
    pointer.set_propagation_phase(gtk::PropagationPhase::Capture);
    let acting = Rc::clone(act);
    pointer.connect_enter(move |pointer, x, y| {
        let display = pointer.widget().map(|widget| widget.display());
        // There a motion is a motion. A Wayland compositor may send one for a pointer that rests.
        let is_x11 = display.is_some_and(|display| display.backend().is_x11());
        acting(if is_x11 {
            Act::Entered(x, y)
        } else {
            Act::Rests(x, y)
        });
    });
    let acting = Rc::clone(act);
    pointer.connect_motion(move |pointer, x, y| {
        // What the toolkit makes up itself, after a window was laid out, has no time.
        if pointer.current_event_time() != gdk::CURRENT_TIME {
            acting(Act::Pointer(x, y));
        }
    });
    pointer
}

/// Tells the model of keys and fingers, and that Escape says no.
fn listener(act: &Acting) -> gtk::EventControllerLegacy {
    let listener = gtk::EventControllerLegacy::new();
    listener.set_propagation_phase(gtk::PropagationPhase::Capture);
    let acting = Rc::clone(act);
    listener.connect_event(move |_, event| {
        use gdk::EventType::{KeyPress, TouchBegin, TouchUpdate};
        match event.event_type() {
            TouchBegin | TouchUpdate => {
                if let Some((x, y)) = event.position() {
                    acting(Act::Pointer(x, y));
                }
            }
            KeyPress => {
                let Some(key) = event.downcast_ref::<gdk::KeyEvent>() else {
                    return glib::Propagation::Proceed;
                };
                if key.keyval() == gdk::Key::Escape {
                    acting(Act::Deny);
                    return glib::Propagation::Stop;
                }
                if !key.is_modifier() {
                    acting(Act::Key);
                }
            }
            _ => {}
        }
        glib::Propagation::Proceed
    });
    listener
}

fn details(call: &CallView) -> gtk::Grid {
    let grid = gtk::Grid::builder()
        .column_spacing(12)
        .row_spacing(4)
        .build();
    for (row, (what, value)) in (0..).zip(&call.details) {
        let heading = label(what, &["quiet"]);
        heading.set_valign(gtk::Align::Start);
        let told = format!("{what}: {value}");
        let value = label(value, &["value"]);
        measure(&value, VALUE_CHARS);
        value.update_property(&[Property::Label(&told)]);
        grid.attach(&heading, 0, row, 1, 1);
        grid.attach(&value, 1, row, 1, 1);
    }
    grid
}

fn set_text(label: &gtk::Label, text: &str) {
    if label.text() != text {
        label.set_text(text);
    }
}

/// The time left, in minutes and seconds that are rounded up: 0:00 is when it is over.
fn left(left: Duration) -> String {
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    format!(
        "Refused in {}:{:02} unless you answer",
        seconds / 60,
        seconds % 60
    )
}

fn others(view: &View) -> String {
    match view.waiting {
        0 => String::new(),
        1 => "1 more call waits to be shown".to_owned(),
        many => format!("{many} more calls wait to be shown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_rounded_up() {
        let told = [299_001, 60_000, 59_999, 1, 0].map(|ms| left(Duration::from_millis(ms)));
        insta::assert_debug_snapshot!(told, @r#"
        [
            "Refused in 5:00 unless you answer",
            "Refused in 1:00 unless you answer",
            "Refused in 1:00 unless you answer",
            "Refused in 0:01 unless you answer",
            "Refused in 0:00 unless you answer",
        ]
        "#);
    }
}
