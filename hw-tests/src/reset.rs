//! Bringing a bench machine back to what it was.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::line::Line;
use crate::spawned::Spawned;

/// For a bench machine to boot and answer.
const ANSWERS: Duration = Duration::from_secs(900);

/// Between questions whether it answers.
const PAUSE: Duration = Duration::from_secs(2);

/// A shell command on this machine after which the bench machine is as it was first: it switches
/// power, or rolls back a disk and boots. When it ends, the machine as it was before answers no
/// more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    command: String,
}

impl Reset {
    /// By this command.
    pub fn by(command: String) -> Self {
        Self { command }
    }

    /// Does it, and waits until the machine answers.
    pub fn run(&self, machine: &Spawned) -> Result<()> {
        self.run_within(machine, ANSWERS)
    }

    fn run_within(&self, machine: &Spawned, within: Duration) -> Result<()> {
        let Self { command } = self;
        let status = Command::new("sh")
            .args(["-c", command])
            .status()
            .context("no shell could be started")?;
        ensure!(status.success(), "`{command}`, which resets it: {status}");
        let end = Instant::now() + within;
        let machine: &dyn Line = machine;
        loop {
            // One that boots may not even refuse.
            let answer = machine.run(&["true"]);
            if matches!(&answer, Ok(ended) if ended.code == 0) {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "the machine does not answer after `{command}`: {answer:?}"
            );
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_that_fails_or_leaves_no_machine_is_told() {
        let here = Spawned::Here {
            environment: Vec::new(),
        };
        Reset::by("true".to_owned()).run(&here).unwrap();
        let error = Reset::by("exit 3".to_owned()).run(&here).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`exit 3`, which resets it: exit status: 3"
        );
        // Nothing answers at a port that nothing can listen on.
        let nobody = Spawned::at("ssh://127.0.0.1:1").unwrap();
        let error = Reset::by("true".to_owned())
            .run_within(&nobody, Duration::ZERO)
            .unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("the machine does not answer"), "{error}");
    }
}
