//! Standard output, colour, and questions.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use serde::Serialize;

use crate::args::ColorChoice;
use crate::error::CommandError;

/// Whether to colour, and how.
#[derive(Debug, Clone, Copy)]
pub struct Paint(pub bool);

impl Paint {
    fn with(self, sequence: &str, text: &str) -> String {
        if self.0 {
            format!("\u{1b}[{sequence}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn red_bold(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn cyan_bold(self, text: &str) -> String {
        self.with("1;36", text)
    }

    /// The sequence for a label's colour (`0xRRGGBB`).
    pub(crate) fn label(self, color: &str) -> Option<String> {
        let digits = color
            .strip_prefix("0x")
            .or_else(|| color.strip_prefix('#'))?;
        let value = u32::from_str_radix(digits, 16).ok()?;
        let [_, red, green, blue] = value.to_be_bytes();
        // Near-black text cannot be read on the usual dark terminal.
        let dark = red < 0x40 && green < 0x40 && blue < 0x40;
        let plain = !self.0 || digits.len() != 6 || dark;
        (!plain).then(|| format!("\u{1b}[38;2;{red};{green};{blue}m"))
    }

    /// Colours a plan: green what is added, red what goes, yellow what changes.
    pub(crate) fn plan(self, text: &str) -> String {
        if !self.0 {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len() + text.len() / 4);
        for line in text.split_inclusive('\n') {
            let sequence = match line.trim_start().split(' ').next() {
                Some("+") => "32",
                Some("-") => "31",
                Some("~" | "-/+" | "±") => "33",
                _ => "",
            };
            if sequence.is_empty() {
                out.push_str(line);
            } else {
                out.push_str(&self.with(sequence, line.trim_end_matches('\n')));
                out.push('\n');
            }
        }
        out
    }
}

/// Whether `stream` gets colour.
pub(crate) fn wants_color(choice: ColorChoice, stream: &impl IsTerminal) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
            stream.is_terminal() && !no_color && !dumb
        }
    }
}

/// Where a command writes its answer.
#[derive(Debug)]
pub(crate) struct Out {
    to: BufWriter<StdoutLock<'static>>,
    pub(crate) paint: Paint,
}

impl Out {
    pub(crate) fn new(color: ColorChoice) -> Self {
        let stdout = io::stdout();
        Self {
            paint: Paint(wants_color(color, &stdout)),
            to: BufWriter::new(stdout.lock()),
        }
    }

    /// Writes text, and a line break if it has none at its end.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CommandError> {
        self.to.write_all(text.as_bytes())?;
        if !text.is_empty() && !text.ends_with('\n') {
            self.to.write_all(b"\n")?;
        }
        self.to.flush()?;
        Ok(())
    }

    /// Writes text as it is: a part of something longer.
    pub(crate) fn bare(&mut self, text: &str) -> Result<(), CommandError> {
        self.to.write_all(text.as_bytes())?;
        self.to.flush()?;
        Ok(())
    }

    /// Writes what the daemon sent as JSON.
    pub(crate) fn raw_json(&mut self, json: &str) -> Result<(), CommandError> {
        self.text(json)
    }

    /// Writes a value as JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), CommandError> {
        let text = bulkhead_api::to_json(value)?;
        self.raw_json(&text)
    }
}

/// Asks a yes-or-no question; anything but yes is no. Without a terminal nobody is asked.
pub(crate) fn confirm(question: &str) -> Result<bool, CommandError> {
    Ok(matches!(
        ask_line(&format!("{question} [y/N] "))?.trim(),
        "y" | "Y" | "yes" | "Yes"
    ))
}

/// Reads a line from the person; empty at the end of input.
pub(crate) fn ask_line(prompt: &str) -> Result<String, CommandError> {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{prompt}");
    let _ = stderr.flush();
    drop(stderr);
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .map_err(|error| CommandError::new("the answer cannot be read").because(&error))?;
    Ok(line)
}

/// Whether a person is there to be asked.
pub(crate) fn interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_colour_must_be_one() {
        let paint = Paint(true);
        assert_eq!(
            paint.label("0xcc0000").as_deref(),
            Some("\u{1b}[38;2;204;0;0m")
        );
        for bad in [
            "",
            "red",
            "0x",
            "0xfff",
            "0xgggggg",
            "0x000000",
            "0x11223344",
        ] {
            assert_eq!(paint.label(bad), None, "`{bad}`");
        }
        assert_eq!(Paint(false).label("0xcc0000"), None);
    }

    #[test]
    fn a_plan_keeps_its_text_under_the_colour() {
        let text = "+ qube work\n    ~ netvm: a -> b\nPlan: 1 to add.\n";
        let colored = Paint(true).plan(text);
        let mut bare = colored.clone();
        for sequence in ["\u{1b}[32m", "\u{1b}[33m", "\u{1b}[0m"] {
            bare = bare.replace(sequence, "");
        }
        assert_eq!(bare, text);
        assert_ne!(colored, text);
    }
}
