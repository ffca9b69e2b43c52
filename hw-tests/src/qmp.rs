//! QEMU's machine protocol: one command at a time.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// QEMU answers at once, or is busy with a machine that is being saved.
const ANSWER: Duration = Duration::from_secs(60);

/// How often the state of something under way is asked for.
const PAUSE: Duration = Duration::from_millis(10);

/// A connection to one QEMU.
#[derive(Debug)]
pub(crate) struct Qmp {
    from: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to the socket at `path`, which QEMU makes as it starts.
    pub(crate) fn connect(path: &Path, within: Duration) -> Result<Self> {
        let end = Instant::now() + within;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < end => std::thread::sleep(PAUSE),
                Err(error) => return Err(error).context("QEMU does not come up"),
            }
        };
        stream.set_read_timeout(Some(ANSWER))?;
        let mut qmp = Self {
            from: BufReader::new(stream),
        };
        qmp.message()?;
        qmp.command("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.from
            .read_line(&mut line)
            .context("QEMU does not answer")?;
        serde_json::from_str(&line).context("QEMU is gone")
    }

    /// Gives a command and returns its answer; events in between are dropped.
    pub(crate) fn command(&mut self, name: &str, arguments: Value) -> Result<Value> {
        let command = json!({ "execute": name, "arguments": arguments });
        writeln!(self.from.get_mut(), "{command}").context("QEMU is gone")?;
        loop {
            let mut message = self.message()?;
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = message.get("error") {
                bail!("QEMU refuses `{name}`: {error}");
            }
        }
    }

    /// Waits until a migration, out or in, is complete.
    pub(crate) fn migrated(&mut self, within: Duration) -> Result<()> {
        let end = Instant::now() + within;
        loop {
            let state = self.command("query-migrate", json!({}))?;
            match state.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => bail!("the machine's state did not pass: {state}"),
                _ if Instant::now() < end => std::thread::sleep(PAUSE),
                _ => bail!("the machine's state takes too long: {state}"),
            }
        }
    }
}
