//! Asking before something is changed.

use std::io::{self, BufRead, IsTerminal};

use crate::failure::Failure;
use crate::output::{note, style};

/// Whether a person can be asked.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks, and takes only a clear yes for one.
pub(super) fn ask(question: &str) -> Result<(), Failure> {
    note(&format!("{} [y/N] ", style::stderr().strong(question)));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::io("cannot read the answer", &error))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing was changed: the answer was not yes")),
    }
}

/// What makes a change one that needs a yes even where nobody can be asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Grave {
    /// Volumes that are destroyed.
    pub(super) destroys: Vec<String>,
    /// Running qubes that are stopped or restarted.
    pub(super) stops: Vec<String>,
}

/// Lets a change go ahead, asks, or refuses.
pub(super) fn confirm(question: &str, grave: &Grave) -> Result<(), Failure> {
    if can_ask() {
        return ask(question);
    }
    let mut reasons = Vec::new();
    if !grave.destroys.is_empty() {
        reasons.push(format!(
            "it destroys the data of {}",
            grave.destroys.join(", ")
        ));
    }
    if !grave.stops.is_empty() {
        reasons.push(format!("it stops {}", grave.stops.join(", ")));
    }
    if reasons.is_empty() {
        return Ok(());
    }
    let refusal = Failure::new("nothing was changed: this needs a yes, and nobody can be asked");
    let refusal = reasons.into_iter().fold(refusal, Failure::cause);
    Err(refusal.hint("Pass --yes to go ahead without being asked."))
}
