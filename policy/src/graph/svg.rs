//! The graph as a picture: callers on the left, who is called on the right, one line for each pair.
//!
//! Every line leaves its caller at a height of its own, straight under the services that it stands
//! for, so no two texts can overlap; then it bends to its target.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Edge, Graph, How, Node};

const MARGIN: f64 = 24.0;
const BOX_WIDTH: f64 = 170.0;
/// Between two lines at one box: a line of text fits.
const PORT: f64 = 22.0;
const GAP: f64 = 18.0;
/// Straight part of a line, which carries its text.
const TEXT_WIDTH: f64 = 250.0;
const BEND_WIDTH: f64 = 260.0;
const LEFT: f64 = MARGIN;
const RIGHT: f64 = LEFT + BOX_WIDTH + TEXT_WIDTH + BEND_WIDTH;
const TOP: f64 = 84.0;
const HEADING: f64 = 30.0;
/// Characters that fit over the straight part, at 11 pixels.
const TEXT_CHARS: usize = 38;
/// Characters that fit in a box, at 14 pixels.
const NAME_CHARS: usize = 19;
/// Rounds of putting each column in the order of what it is joined to.
const ROUNDS: usize = 8;

/// A box of one column.
#[derive(Debug, Clone)]
struct Placed {
    node: Node,
    /// Numbers of its edges, from the top.
    ports: Vec<usize>,
    y: f64,
}

impl Placed {
    fn height(&self) -> f64 {
        PORT * (self.ports.len().max(1) as f64) + 14.0
    }

    fn middle(&self) -> f64 {
        self.y + self.height() / 2.0
    }

    /// Where an edge meets it.
    fn port(&self, edge: usize) -> f64 {
        let at = self
            .ports
            .iter()
            .position(|port| *port == edge)
            .unwrap_or(0);
        let all = PORT * self.ports.len() as f64;
        self.middle() - all / 2.0 + PORT * (at as f64 + 0.5) + 3.0
    }
}

/// On the right, qubes come first, then what is set apart.
fn group(node: &Node) -> usize {
    match node {
        Node::Qube(_) => 0,
        Node::Disposable(_) => 1,
        Node::Dom0 => 2,
        Node::Nothing(_) => 3,
    }
}

const HEADINGS: [&str; 4] = ["is called", "new disposables", "dom0", "not there"];

struct Picture {
    left: Vec<Placed>,
    right: Vec<Placed>,
}

fn column(edges: &[Edge], end: fn(&Edge) -> &Node) -> Vec<Placed> {
    let mut boxes: BTreeMap<&Node, Vec<usize>> = BTreeMap::new();
    for (number, edge) in edges.iter().enumerate() {
        boxes.entry(end(edge)).or_default().push(number);
    }
    let placed = boxes.into_iter().map(|(node, ports)| Placed {
        node: node.clone(),
        ports,
        y: 0.0,
    });
    placed.collect()
}

/// Puts boxes below one another, groups apart; returns where the column ends.
fn stack(column: &mut [Placed]) -> f64 {
    let mut y = TOP;
    let mut last = None;
    for placed in column {
        let own = group(&placed.node);
        if last.is_some_and(|last| last != own) {
            y += HEADING;
        }
        last = Some(own);
        placed.y = y;
        y += placed.height() + GAP;
    }
    y
}

/// Orders boxes by the mean height of what they are joined to, and their ports likewise.
fn order(column: &mut [Placed], other: &[Placed]) {
    let mut heights = BTreeMap::new();
    for placed in other {
        for edge in &placed.ports {
            heights.insert(*edge, placed.middle());
        }
    }
    let height = |edge: &usize| heights.get(edge).copied().unwrap_or_default();
    for placed in column.iter_mut() {
        placed
            .ports
            .sort_by(|a, b| height(a).total_cmp(&height(b)).then(a.cmp(b)));
    }
    let mean = |placed: &Placed| {
        let sum: f64 = placed.ports.iter().map(height).sum();
        sum / placed.ports.len().max(1) as f64
    };
    column.sort_by(|a, b| {
        let groups = group(&a.node).cmp(&group(&b.node));
        groups
            .then(mean(a).total_cmp(&mean(b)))
            .then(a.node.cmp(&b.node))
    });
    stack(column);
}

impl Picture {
    fn new(edges: &[Edge]) -> Self {
        let mut left = column(edges, |edge| &edge.from);
        let mut right = column(edges, |edge| &edge.to);
        stack(&mut left);
        stack(&mut right);
        for _ in 0..ROUNDS {
            order(&mut right, &left);
            order(&mut left, &right);
        }
        order(&mut right, &left);
        // The shorter column stands in the middle of the longer.
        let (ends_left, ends_right) = (stack(&mut left), stack(&mut right));
        let (shift_left, shift_right) = match ends_left < ends_right {
            true => ((ends_right - ends_left) / 2.0, 0.0),
            false => (0.0, (ends_left - ends_right) / 2.0),
        };
        left.iter_mut().for_each(|placed| placed.y += shift_left);
        right.iter_mut().for_each(|placed| placed.y += shift_right);
        Self { left, right }
    }

    fn bottom(&self) -> f64 {
        let ends = (self.left.iter().chain(&self.right)).map(|placed| placed.y + placed.height());
        ends.fold(TOP, f64::max)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn cut(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    let kept: String = text.chars().take(chars.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// As many services as fit, and how many more there are.
fn services(edge: &Edge) -> String {
    let mut line = String::new();
    for (at, service) in edge.services.iter().enumerate() {
        let more = edge.services.len() - at - 1;
        let comma = if at == 0 { "" } else { ", " };
        let longer = format!("{line}{comma}{service}");
        let room = if more == 0 {
            TEXT_CHARS
        } else {
            TEXT_CHARS - 4
        };
        if longer.chars().count() > room {
            if at == 0 {
                line = cut(service, room);
                return if more == 0 {
                    line
                } else {
                    format!("{line} +{more}")
                };
            }
            return format!("{line} +{}", more + 1);
        }
        line = longer;
    }
    line
}

/// Dark enough to be read as a line on white.
fn dark(colour: &str) -> String {
    let number = u32::from_str_radix(colour.trim_start_matches('#'), 16).unwrap_or(0);
    let [_, r, g, b] = number.to_be_bytes();
    let luma = (u32::from(r) * 299 + u32::from(g) * 587 + u32::from(b) * 114) / 1000;
    if luma <= LUMA_MAX {
        return colour.to_owned();
    }
    let less = |part: u8| u32::from(part) * LUMA_MAX / luma;
    format!("#{:02x}{:02x}{:02x}", less(r), less(g), less(b))
}

/// Lightest line, of 255.
const LUMA_MAX: u32 = 150;

impl Graph {
    /// The graph as an SVG picture.
    pub fn svg(&self) -> String {
        let picture = Picture::new(&self.edges);
        let width = RIGHT + BOX_WIDTH + MARGIN;
        let alone = self.alone.len().div_ceil(8) as f64 * 18.0;
        let height = picture.bottom() + 76.0 + alone;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"DejaVu Sans, sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let title = match &self.service {
            Some(service) => format!("Who may call {service}"),
            None => "Who may call whom".to_owned(),
        };
        text(
            &mut out,
            LEFT,
            38.0,
            "font-size=\"20\" font-weight=\"bold\"",
            &title,
        );
        if self.edges.is_empty() {
            text(
                &mut out,
                LEFT,
                TOP,
                "font-size=\"14\"",
                "No call is allowed or asked about.",
            );
        }
        self.headings(&mut out, &picture);
        for (number, edge) in self.edges.iter().enumerate() {
            self.edge(&mut out, &picture, number, edge);
        }
        for (column, x) in [(&picture.left, LEFT), (&picture.right, RIGHT)] {
            for placed in column {
                self.place(&mut out, placed, x);
            }
        }
        self.legend(&mut out, picture.bottom() + 40.0);
        out.push_str("</svg>\n");
        out
    }

    fn headings(&self, out: &mut String, picture: &Picture) {
        let style = "font-size=\"12\" fill=\"#555753\" font-style=\"italic\"";
        if let Some(first) = picture.left.first() {
            text(out, LEFT, first.y - 9.0, style, "calls");
        }
        let mut last = None;
        for placed in &picture.right {
            let own = group(&placed.node);
            if last != Some(own) {
                let heading = HEADINGS.get(own).copied().unwrap_or_default();
                text(out, RIGHT, placed.y - 9.0, style, heading);
            }
            last = Some(own);
        }
    }

    fn edge(&self, out: &mut String, picture: &Picture, number: usize, edge: &Edge) {
        let find = |column: &[Placed], node: &Node| {
            let placed = column.iter().find(|placed| placed.node == *node);
            placed.map_or(TOP, |placed| placed.port(number))
        };
        let (from, to) = (
            find(&picture.left, &edge.from),
            find(&picture.right, &edge.to),
        );
        let colour = dark(self.colour(&edge.from));
        let (dashes, verb) = match edge.how {
            How::Allow => ("", "may call"),
            How::Ask => (" stroke-dasharray=\"7 4\"", "asks to call"),
        };
        let (start, straight, end) = (LEFT + BOX_WIDTH, LEFT + BOX_WIDTH + TEXT_WIDTH, RIGHT - 8.0);
        let half = (straight + end) / 2.0;
        let (caller, called) = (escaped(&edge.from.shown()), escaped(&edge.to.shown()));
        let _ = writeln!(
            out,
            "<g><title>{caller} {verb} {called}: {}</title><path d=\"M{start} {from:.1} \
             H{straight} C{half} {from:.1} {half} {to:.1} {end} {to:.1}\" fill=\"none\" \
             stroke=\"{colour}\" stroke-width=\"1.6\"{dashes}/><path d=\"M{RIGHT} {to:.1} l-10 \
             -4.5 v9 z\" fill=\"{colour}\"/>",
            escaped(&edge.services.join(", "))
        );
        text(
            out,
            start + 8.0,
            from - 4.0,
            "font-size=\"11\" fill=\"#2e3436\"",
            &services(edge),
        );
        out.push_str("</g>\n");
    }

    fn place(&self, out: &mut String, placed: &Placed, x: f64) {
        let colour = self.colour(&placed.node);
        let (y, height) = (placed.y, placed.height());
        let (radius, dashes, fill) = match placed.node {
            Node::Qube(_) => (6, "", "#ffffff"),
            Node::Disposable(_) => (16, " stroke-dasharray=\"5 3\"", "#fafaf5"),
            Node::Dom0 => (0, "", "#eeeeec"),
            Node::Nothing(_) => (0, " stroke-dasharray=\"2 3\"", "#fff0f0"),
        };
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y:.1}\" width=\"{BOX_WIDTH}\" height=\"{height:.1}\" \
             rx=\"{radius}\" fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>"
        );
        if matches!(placed.node, Node::Dom0) {
            let _ = writeln!(
                out,
                "<rect x=\"{}\" y=\"{:.1}\" width=\"{}\" height=\"{:.1}\" fill=\"none\" \
                 stroke=\"{colour}\"/>",
                x + 4.0,
                y + 4.0,
                BOX_WIDTH - 8.0,
                height - 8.0
            );
        } else if matches!(placed.node, Node::Qube(_)) {
            let _ = writeln!(
                out,
                "<rect x=\"{}\" y=\"{:.1}\" width=\"8\" height=\"{:.1}\" rx=\"3\" \
                 fill=\"{colour}\"/>",
                x + 5.0,
                y + 6.0,
                height - 12.0
            );
        }
        let name = cut(&placed.node.shown(), NAME_CHARS);
        text(
            out,
            x + 22.0,
            placed.middle() + 5.0,
            "font-size=\"14\"",
            &name,
        );
    }

    fn legend(&self, out: &mut String, y: f64) {
        let style = "font-size=\"12\" fill=\"#555753\"";
        for (x, dashes, meaning) in [
            (LEFT, "", "allowed"),
            (LEFT + 140.0, " stroke-dasharray=\"7 4\"", "after asking"),
        ] {
            let end = x + 40.0;
            let _ = writeln!(
                out,
                "<path d=\"M{x} {y:.1} H{end}\" stroke=\"#2e3436\" stroke-width=\"1.6\"{dashes}/>"
            );
            text(out, end + 8.0, y + 4.0, style, meaning);
        }
        for (row, names) in (1..).zip(self.alone.chunks(8)) {
            let lead = if row == 1 { "takes no part: " } else { "" };
            let line = format!("{lead}{}", names.join(", "));
            text(out, LEFT, y + 8.0 + f64::from(row) * 18.0, style, &line);
        }
    }
}

fn text(out: &mut String, x: f64, y: f64, style: &str, text: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{y:.1}\" {style}>{}</text>",
        escaped(text)
    );
}
