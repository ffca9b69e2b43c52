//! Icons of qubes, drawn in the colour of the label: a cube that is whole, layered or dashed.

use std::cell::Cell;
use std::f64::consts::PI;
use std::rc::Rc;

use gtk::cairo::{Context, Error, FontSlant, FontWeight};
use gtk::prelude::*;

use crate::desk::look::{Look, Rgb, Shape};

/// A drawn icon, which can be made to show another qube.
#[derive(Debug, Clone)]
pub(crate) struct Icon {
    pub(crate) area: gtk::DrawingArea,
    shows: Rc<Cell<(Rgb, Shape)>>,
}

impl Icon {
    /// An icon as many pixels wide and high. For a screen reader it is what its label says, or
    /// nothing where the text beside it says it all.
    pub(crate) fn new(look: &Look, size: i32, role: gtk::AccessibleRole) -> Self {
        let area = gtk::DrawingArea::builder()
            .content_width(size)
            .content_height(size)
            .valign(gtk::Align::Center)
            .accessible_role(role)
            .build();
        let shows = Rc::new(Cell::new((look.colour, look.shape)));
        let shown = Rc::clone(&shows);
        area.set_draw_func(move |_, cairo, width, height| {
            let (colour, shape) = shown.get();
            // A failed drawing leaves an empty place; the texts beside it stand.
            let _ = draw(cairo, colour, shape, f64::from(width.min(height)));
        });
        let icon = Self { area, shows };
        icon.show(look);
        icon
    }

    pub(crate) fn show(&self, look: &Look) {
        self.shows.set((look.colour, look.shape));
        self.area.queue_draw();
    }
}

/// A stripe in a label's colour.
pub(crate) fn stripe(look: &Look) -> Icon {
    let icon = Icon::new(look, 8, gtk::AccessibleRole::Presentation);
    icon.area.set_hexpand(true);
    icon.area.set_valign(gtk::Align::Start);
    let shown = Rc::clone(&icon.shows);
    icon.area.set_draw_func(move |_, cairo, _, _| {
        set(cairo, shown.get().0, 1.0, 1.0);
        let _ = cairo.paint();
    });
    icon
}

/// Stands between a source and a target.
pub(crate) fn arrow() -> gtk::Label {
    let arrow = gtk::Label::builder()
        .label("\u{2192}")
        .accessible_role(gtk::AccessibleRole::Presentation)
        .build();
    arrow.add_css_class("arrow");
    arrow
}

/// Sets a colour, made lighter or darker by a factor.
fn set(cairo: &Context, (r, g, b): Rgb, factor: f64, alpha: f64) {
    let part = |part: u8| {
        let part = f64::from(part) / 255.0;
        if factor > 1.0 {
            // Towards white, so that black has three faces too.
            part + (1.0 - part) * (factor - 1.0)
        } else {
            part * factor
        }
    };
    cairo.set_source_rgba(part(r), part(g), part(b), alpha);
}

fn draw(cairo: &Context, colour: Rgb, shape: Shape, size: f64) -> Result<(), Error> {
    let half = size / 2.0;
    cairo.translate(half, half);
    cairo.set_line_width((size / 24.0).max(1.0));
    match shape {
        Shape::Qube => cube(cairo, colour, half * 0.92, 1.0),
        Shape::Template => {
            cube(cairo, colour, half * 0.92, 1.0)?;
            layers(cairo, half * 0.92)
        }
        Shape::Disposable => {
            let dash = size / 10.0;
            cairo.set_dash(&[dash, dash * 0.7], 0.0);
            cairo.set_line_width((size / 16.0).max(1.5));
            cube(cairo, colour, half * 0.9, 0.45)
        }
        Shape::Machine => machine(cairo, colour, half * 0.9),
        Shape::Unknown => unknown(cairo, half * 0.85),
    }
}

/// Where the corners of the cube are: on a circle, from the top to the right.
fn corner(radius: f64, sixth: f64) -> (f64, f64) {
    let angle = sixth * PI / 3.0 - PI / 2.0;
    (radius * angle.cos(), radius * angle.sin())
}

fn cube(cairo: &Context, colour: Rgb, radius: f64, alpha: f64) -> Result<(), Error> {
    // Each face: two neighbours of the middle one of its outer corners, and how light it is.
    for (middle, light) in [(0.0, 1.35), (2.0, 0.75), (4.0, 1.12)] {
        cairo.move_to(0.0, 0.0);
        for sixth in [middle - 1.0, middle, middle + 1.0] {
            let (x, y) = corner(radius, sixth);
            cairo.line_to(x, y);
        }
        cairo.close_path();
        set(cairo, colour, light, alpha);
        cairo.fill_preserve()?;
        if alpha < 1.0 {
            set(cairo, colour, 1.0, 1.0);
        } else {
            // Seen on light and on dark ground, whatever the label.
            cairo.set_source_rgba(0.5, 0.5, 0.5, 0.9);
        }
        cairo.stroke()?;
    }
    Ok(())
}

fn layers(cairo: &Context, radius: f64) -> Result<(), Error> {
    cairo.set_source_rgba(1.0, 1.0, 1.0, 0.7);
    for height in [1.0 / 3.0, 2.0 / 3.0] {
        let (left, side) = corner(radius, 5.0);
        cairo.move_to(left, side + radius * height);
        cairo.line_to(0.0, radius * height);
        cairo.line_to(-left, side + radius * height);
        cairo.stroke()?;
    }
    Ok(())
}

fn machine(cairo: &Context, colour: Rgb, half: f64) -> Result<(), Error> {
    cairo.rectangle(-half, -half * 0.8, half * 2.0, half * 1.25);
    set(cairo, colour, 1.0, 1.0);
    cairo.fill_preserve()?;
    cairo.set_source_rgba(0.5, 0.5, 0.5, 1.0);
    cairo.stroke()?;
    cairo.move_to(0.0, half * 0.45);
    cairo.line_to(0.0, half * 0.85);
    cairo.move_to(-half * 0.5, half * 0.85);
    cairo.line_to(half * 0.5, half * 0.85);
    cairo.stroke()
}

fn unknown(cairo: &Context, half: f64) -> Result<(), Error> {
    cairo.set_source_rgba(0.5, 0.5, 0.5, 1.0);
    cairo.set_dash(&[half / 4.0, half / 5.0], 0.0);
    cairo.rectangle(-half, -half, half * 2.0, half * 2.0);
    cairo.stroke()?;
    cairo.select_font_face("sans", FontSlant::Normal, FontWeight::Bold);
    cairo.set_font_size(half * 1.3);
    let size = cairo.text_extents("?")?;
    cairo.move_to(
        -size.width() / 2.0 - size.x_bearing(),
        -size.height() / 2.0 - size.y_bearing(),
    );
    cairo.show_text("?")
}
