//! How a qube is drawn: from its description, and from nothing that it says itself.

use std::collections::HashMap;

use bulkhead_api::qube::QubeRow;

use crate::text;

/// A colour, each part from 0 to 255.
pub(crate) type Rgb = (u8, u8, u8);

/// What is not known is drawn in this.
const UNKNOWN: Rgb = (0x88, 0x88, 0x88);

/// dom0, which has no label: nothing a qube may have.
const DOM0: Rgb = (0x2b, 0x2b, 0x2b);

/// What the icon shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A qube of one's own.
    Qube,
    /// A template.
    Template,
    /// A disposable, or one to be made.
    Disposable,
    /// dom0.
    Machine,
    /// None is chosen, or it is not known.
    Unknown,
}

/// A qube as it is drawn. All texts are safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// Its name; what is to be made is told as such.
    pub(crate) title: String,
    /// Its label in words.
    pub(crate) label: String,
    pub(crate) colour: Rgb,
    pub(crate) shape: Shape,
}

/// The labels and kinds of all qubes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Qubes(HashMap<String, QubeRow>);

impl Qubes {
    pub(crate) fn replace(&mut self, rows: Vec<QubeRow>) {
        self.0 = rows
            .into_iter()
            .map(|row| (row.name.clone(), row))
            .collect();
    }

    pub(crate) fn set(&mut self, row: QubeRow) {
        self.0.insert(row.name.clone(), row);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// How the target of a call, or its source, is drawn.
    pub(crate) fn look(&self, untrusted: &str) -> Look {
        match untrusted {
            "dom0" | "@adminvm" => Look {
                title: "dom0".to_owned(),
                label: "this machine itself".to_owned(),
                colour: DOM0,
                shape: Shape::Machine,
            },
            "@dispvm" => Look {
                title: "new disposable".to_owned(),
                ..unknown("label not known")
            },
            other => match other.strip_prefix("@dispvm:") {
                Some(base) => Look {
                    title: format!("new disposable of {}", text::name(base)),
                    shape: Shape::Disposable,
                    ..self.declared(base)
                },
                None => self.declared(other),
            },
        }
    }

    fn declared(&self, untrusted: &str) -> Look {
        let title = text::name(untrusted);
        let Some(row) = self.0.get(untrusted) else {
            return Look {
                title,
                ..unknown("label not known")
            };
        };
        let shape = match row.kind.as_str() {
            "template" => Shape::Template,
            "disposable" | "named_disposable" | "disposable_template" => Shape::Disposable,
            _ => Shape::Qube,
        };
        let mut label = format!("label {}", text::name(&row.label));
        if row.kind == "remote" {
            label.push_str(", on another machine");
        }
        Look {
            title,
            label,
            colour: color(&row.color),
            shape,
        }
    }
}

/// The colour of a label as the daemon has it.
pub(crate) fn color(of_label: &str) -> Rgb {
    rgb(of_label).unwrap_or(UNKNOWN)
}

fn unknown(label: &str) -> Look {
    Look {
        title: String::new(),
        label: label.to_owned(),
        colour: UNKNOWN,
        shape: Shape::Unknown,
    }
}

/// What stands for a target that nobody has chosen yet.
pub(crate) fn none_chosen() -> Look {
    Look {
        title: "choose below".to_owned(),
        ..unknown("no target yet")
    }
}

/// Reads `0xRRGGBB`.
fn rgb(color: &str) -> Option<Rgb> {
    let digits = color.strip_prefix("0x").filter(|d| d.len() == 6)?;
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let [_, r, g, b] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some((r, g, b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::tests::row;

    fn qubes() -> Qubes {
        let mut qubes = Qubes::default();
        qubes.replace(vec![
            row("vault", "black", "0x000000", "app"),
            row("untrusted", "red", "0xcc0000", "disposable_template"),
            row("far", "gray", "0x555753", "remote"),
            row("odd", "odd\n<i>", "0xxyz", "app"),
        ]);
        qubes
    }

    #[test]
    fn a_qube_has_the_colour_of_its_label() {
        let look = qubes().look("untrusted");
        assert_eq!((look.colour, look.shape), ((0xcc, 0, 0), Shape::Disposable));
        assert_eq!(look.label, "label red");
        assert_eq!(qubes().look("vault").shape, Shape::Qube);
        assert_eq!(qubes().look("far").label, "label gray, on another machine");
    }

    #[test]
    fn a_disposable_to_be_made_looks_like_its_template_and_says_what_it_is() {
        let look = qubes().look("@dispvm:untrusted");
        assert_eq!(look.title, "new disposable of untrusted");
        assert_eq!((look.colour, look.shape), ((0xcc, 0, 0), Shape::Disposable));
    }

    #[test]
    fn nothing_unknown_takes_a_label() {
        for name in ["ghost", "@dispvm:ghost", "@dispvm", "Vault", "vault "] {
            assert_eq!(qubes().look(name).colour, UNKNOWN, "{name}");
        }
        let odd = qubes().look("odd");
        assert_eq!(
            (odd.colour, odd.label.as_str()),
            (UNKNOWN, "label odd\\u{a}<i>")
        );
        // No qube can be called so; should one be, it is still not dom0.
        assert_eq!(qubes().look("dom0").shape, Shape::Machine);
    }
}
