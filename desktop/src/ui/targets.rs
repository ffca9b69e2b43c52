//! The list of targets with its search.

use std::cell::RefCell;
use std::rc::Rc;

use gtk::accessible::Property;
use gtk::prelude::*;

use super::icon::Icon;
use super::label;
use crate::desk::Act;
use crate::desk::call::CallView;
use crate::desk::look::Look;

/// Height of the list in pixels, four targets or so; more are scrolled to.
const HEIGHT: i32 = 150;

/// Characters of a name before it wraps; that of any qube fits.
const TITLE_CHARS: i32 = 40;

#[derive(Debug)]
pub(crate) struct Targets {
    pub(crate) area: gtk::Box,
    pub(crate) search: gtk::SearchEntry,
    list: gtk::ListBox,
    none: gtk::Label,
    rows: RefCell<Vec<(Look, gtk::ListBoxRow)>>,
}

impl Targets {
    pub(crate) fn new(act: &Rc<dyn Fn(Act)>) -> Self {
        let search = gtk::SearchEntry::builder()
            .placeholder_text("Search targets")
            .build();
        search.update_property(&[Property::Label("Search targets")]);
        let acting = Rc::clone(act);
        search.connect_search_changed(move |search| acting(Act::Search(search.text().into())));
        let list = gtk::ListBox::builder()
            .selection_mode(gtk::SelectionMode::Single)
            .build();
        list.update_property(&[Property::Label("Targets that policy allows")]);
        let acting = Rc::clone(act);
        list.connect_row_selected(move |_, row| {
            let index = row.and_then(|row| usize::try_from(row.index()).ok());
            if let Some(index) = index {
                acting(Act::Choose(index));
            }
        });
        let none = label("", &["quiet"]);
        let scrolled = gtk::ScrolledWindow::builder()
            .child(&list)
            .hscrollbar_policy(gtk::PolicyType::Never)
            .min_content_height(HEIGHT)
            .max_content_height(HEIGHT)
            .has_frame(true)
            .build();
        let area = gtk::Box::new(gtk::Orientation::Vertical, 6);
        area.append(&search);
        area.append(&scrolled);
        area.append(&none);
        Self {
            area,
            search,
            list,
            none,
            rows: RefCell::default(),
        }
    }

    pub(crate) fn show(&self, view: &CallView) {
        self.show_rows(&view.targets);
        for ((_, row), listed) in self.rows.borrow().iter().zip(&view.listed) {
            // Not a filter of the list, which a screen reader would not be told of.
            row.set_visible(*listed);
        }
        let chosen = view.chosen.and_then(|index| self.row(index));
        if self.list.selected_row() != chosen {
            match &chosen {
                Some(row) => self.list.select_row(Some(row)),
                None => self.list.unselect_all(),
            }
        }
        let listed = view.listed.iter().filter(|listed| **listed).count();
        let mut said = String::new();
        if listed == 0 {
            said.push_str("No target is called so. ");
        }
        if view.left_out > 0 {
            said.push_str(&format!(
                "{} more targets: use `bulkhead ask`.",
                view.left_out
            ));
        }
        self.none.set_visible(!said.is_empty());
        self.none.set_text(said.trim_end());
        self.area.set_sensitive(view.may_deny);
    }

    fn row(&self, index: usize) -> Option<gtk::ListBoxRow> {
        let rows = self.rows.borrow();
        rows.get(index).map(|(_, row)| row.clone())
    }

    /// Makes the rows anew where the targets look different from before.
    fn show_rows(&self, targets: &[Look]) {
        let mut rows = self.rows.borrow_mut();
        for (index, look) in targets.iter().enumerate() {
            match rows.get_mut(index) {
                Some((shown, _)) if shown == look => {}
                Some((shown, row)) => {
                    fill(row, look);
                    shown.clone_from(look);
                }
                None => {
                    let row = gtk::ListBoxRow::new();
                    fill(&row, look);
                    self.list.append(&row);
                    rows.push((look.clone(), row));
                }
            }
        }
    }
}

fn fill(row: &gtk::ListBoxRow, look: &Look) {
    let content = gtk::Box::new(gtk::Orientation::Horizontal, 10);
    let icon = Icon::new(look, 24, gtk::AccessibleRole::Presentation);
    content.append(&icon.area);
    let title = label(&look.title, &[]);
    title.set_max_width_chars(TITLE_CHARS);
    content.append(&title);
    content.append(&label(&look.label, &["quiet"]));
    row.set_child(Some(&content));
    row.update_property(&[
        Property::Label(&look.title),
        Property::Description(&look.label),
    ]);
}
