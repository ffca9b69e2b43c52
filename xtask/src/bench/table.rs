//! Figures held against what is wanted, and the table of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Figures;
use super::marks::{Limit, Mark};

/// How a row came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Met,
    Missed,
    /// Nothing is wanted.
    Noted,
    /// A figure that it needs is not there.
    Unknown,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Noted => "",
            Self::Unknown => "not measured",
        }
    }
}

/// One line of the table.
#[derive(Debug)]
pub(super) struct Row {
    mark: &'static Mark,
    measured: String,
    verdict: Verdict,
}

impl Row {
    pub(super) fn of(mark: &'static Mark, figures: &Figures) -> Self {
        let known = mark.limits.iter().map(|limit| limit.holds(figures));
        let known: Option<Vec<bool>> = known.collect();
        let (measured, verdict) = match (fill(mark.shown, figures), known) {
            (Some(measured), Some(held)) if held.is_empty() => (measured, Verdict::Noted),
            (Some(measured), Some(held)) if held.contains(&true) => (measured, Verdict::Met),
            (Some(measured), Some(_)) => (measured, Verdict::Missed),
            _ => (String::new(), Verdict::Unknown),
        };
        Self {
            mark,
            measured,
            verdict,
        }
    }

    fn command(&self) -> String {
        format!("cargo xtask bench {}", self.mark.bench)
    }
}

impl Limit {
    /// None: its figure is not there.
    fn holds(self, figures: &Figures) -> Option<bool> {
        match self {
            Self::AtMost(name, most) => figures.get(name).map(|(value, _)| *value <= most),
            Self::AtLeast(name, least) => figures.get(name).map(|(value, _)| *value >= least),
        }
    }
}

/// Puts figures in the place of `{NAME}`; None if one is not there.
fn fill(text: &str, figures: &Figures) -> Option<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        let (value, unit) = figures.get(name)?;
        filled.push_str(before);
        let _ = write!(filled, "{} {unit}", readable(*value));
        rest = after;
    }
    filled.push_str(rest);
    Some(filled)
}

/// Three significant digits or all before the point, thousands apart.
fn readable(value: f64) -> String {
    let digits = match value.abs() {
        small if small < 10.0 => 2,
        middle if middle < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && digit.is_ascii_digit() && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

/// Everything that one command found.
#[derive(Debug)]
pub(super) struct Run {
    machine: String,
    pub(super) rows: Vec<Row>,
    pub(super) figures: BTreeMap<&'static str, Figures>,
}

impl Run {
    /// An empty one, on the machine as it is now.
    pub(super) fn now() -> Self {
        Self {
            machine: machine(),
            rows: Vec::new(),
            figures: BTreeMap::new(),
        }
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = String::from(
            "| what | wanted | measured | | command |\n| --- | --- | --- | --- | --- |\n",
        );
        for row in &self.rows {
            let (what, wanted) = (row.mark.what, row.mark.wanted);
            let verdict = match row.verdict {
                Verdict::Met | Verdict::Noted => row.verdict.word().to_owned(),
                Verdict::Missed | Verdict::Unknown => format!("**{}**", row.verdict.word()),
            };
            let (measured, command) = (&row.measured, row.command());
            let _ = writeln!(
                text,
                "| {what} | {wanted} | {measured} | {verdict} | `{command}` |"
            );
        }
        let _ = write!(text, "\n{}", self.machine);
        text
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let row = |row: &Row| {
            serde_json::json!({
                "what": row.mark.what,
                "wanted": row.mark.wanted,
                "measured": row.measured,
                "verdict": row.verdict.word(),
                "command": row.command(),
            })
        };
        let figure =
            |(value, unit): &(f64, String)| serde_json::json!({"value": value, "unit": unit});
        let bench = |figures: &Figures| -> serde_json::Map<String, serde_json::Value> {
            let all = figures.iter();
            all.map(|(name, found)| (name.clone(), figure(found)))
                .collect()
        };
        let figures: serde_json::Map<String, serde_json::Value> = (self.figures.iter())
            .map(|(name, figures)| ((*name).to_owned(), bench(figures).into()))
            .collect();
        serde_json::json!({
            "machine": self.machine,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "figures": figures,
        })
    }
}

/// What the figures were measured on, and how busy it was.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or("unknown");
    format!(
        "{cores} cores, Linux {}, load {load} before.",
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::super::marks::{BENCHES, Limit, MARKS, Mark};
    use super::*;

    const MARK: Mark = Mark {
        bench: "call",
        what: "a call",
        wanted: "2 x",
        limits: &[Limit::AtMost("ratio", 2.0), Limit::AtLeast("rate", 1024.0)],
        shown: "{ratio} and {rate}",
    };

    fn figures(ratio: f64, rate: f64) -> Figures {
        [
            ("ratio".to_owned(), (ratio, "x".to_owned())),
            ("rate".to_owned(), (rate, "MiB/s".to_owned())),
        ]
        .into()
    }

    #[test]
    fn one_limit_that_holds_is_enough_and_what_is_missing_is_told() {
        for (ratio, rate, verdict) in [
            (2.0, 1.0, Verdict::Met),
            (2.1, 1024.0, Verdict::Met),
            (2.1, 1023.9, Verdict::Missed),
        ] {
            let row = Row::of(&MARK, &figures(ratio, rate));
            assert_eq!(row.verdict, verdict, "{ratio} {rate}");
        }
        let mut some = figures(1.0, 2000.0);
        some.remove("rate");
        assert_eq!(Row::of(&MARK, &some).verdict, Verdict::Unknown);
        assert_eq!(
            Row::of(&MARK, &figures(1.0, 5e6)).measured,
            "1.00 x and 5,000,000 MiB/s"
        );
    }

    #[test]
    fn the_table_is_markdown() {
        let run = Run {
            machine: "2 cores.".to_owned(),
            rows: vec![Row::of(&MARK, &figures(2.87, 12.34))],
            figures: BTreeMap::new(),
        };
        assert_eq!(
            run.markdown(),
            "| what | wanted | measured | | command |\n\
             | --- | --- | --- | --- | --- |\n\
             | a call | 2 x | 2.87 x and 12.3 MiB/s | **missed** | `cargo xtask bench call` |\n\
             \n2 cores."
        );
    }

    #[test]
    fn every_row_belongs_to_a_benchmark_and_every_benchmark_has_a_row() {
        for mark in MARKS {
            let known = BENCHES.iter().any(|bench| bench.name == mark.bench);
            assert!(known, "{} of {}", mark.what, mark.bench);
        }
        for bench in BENCHES {
            let used = MARKS.iter().any(|mark| mark.bench == bench.name);
            assert!(used, "{}", bench.name);
        }
    }
}
