//! Running programs in a dom0, wherever it is.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Longer than any command takes under emulation; only a test that fails waits for it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A way to start programs in a dom0.
pub trait Line: fmt::Debug + Send + Sync {
    /// Starts a program: its name and arguments.
    fn start(&self, words: &[&str]) -> Result<Running>;
}

/// One thing that a program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It wrote to its standard output.
    Out(Vec<u8>),
    /// It wrote to its standard error.
    Err(Vec<u8>),
    /// It ended with this code.
    Ended(i32),
    /// It could not be started.
    Failed(String),
}

type Write = Box<dyn FnMut(&[u8]) -> Result<()> + Send>;
type Kill = Box<dyn FnMut() -> Result<()> + Send>;

/// A program that runs in dom0.
pub struct Running {
    what: String,
    said: Receiver<Said>,
    write: Write,
    kill: Kill,
    out: Vec<u8>,
    err: Vec<u8>,
    /// Bytes of its output that were taken as lines.
    taken: usize,
    code: Option<i32>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}

impl Running {
    /// A program called `what`; writing nothing ends its input.
    pub(crate) fn new(what: String, said: Receiver<Said>, write: Write, kill: Kill) -> Self {
        Self {
            what,
            said,
            write,
            kill,
            out: Vec::new(),
            err: Vec::new(),
            taken: 0,
            code: None,
        }
    }

    /// Writes to its standard input.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            Ok(())
        } else {
            (self.write)(bytes)
        }
    }

    /// Ends its standard input.
    pub fn close_input(&mut self) -> Result<()> {
        (self.write)(&[])
    }

    /// Kills it and what it started.
    pub fn kill(&mut self) -> Result<()> {
        (self.kill)()
    }

    /// Waits until its standard output contains `text`.
    pub fn wait_for(&mut self, text: &str, within: Duration) -> Result<()> {
        let end = Instant::now() + within;
        while !String::from_utf8_lossy(&self.out).contains(text) {
            ensure!(
                self.step(end)?,
                "`{}` ended without saying `{text}`\n{}",
                self.what,
                self.shown()
            );
        }
        Ok(())
    }

    /// The next line of its standard output, without its end.
    pub fn line(&mut self, within: Duration) -> Result<String> {
        let end = Instant::now() + within;
        loop {
            let rest = self.out.get(self.taken..).unwrap_or_default();
            if let Some(length) = rest.iter().position(|&byte| byte == b'\n') {
                let line = String::from_utf8_lossy(rest.get(..length).unwrap_or_default());
                self.taken += length + 1;
                return Ok(line.into_owned());
            }
            ensure!(
                self.step(end)?,
                "`{}` ended instead of saying more\n{}",
                self.what,
                self.shown()
            );
        }
    }

    /// Waits for its end.
    pub fn wait(mut self, within: Duration) -> Result<Ended> {
        let end = Instant::now() + within;
        while self.step(end)? {}
        Ok(Ended {
            code: self.code.unwrap_or(-1),
            out: String::from_utf8_lossy(&self.out).into_owned(),
            err: String::from_utf8_lossy(&self.err).into_owned(),
            what: self.what,
        })
    }

    /// Takes in one thing; false once it has ended.
    fn step(&mut self, end: Instant) -> Result<bool> {
        if self.code.is_some() {
            return Ok(false);
        }
        match self
            .said
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            Ok(Said::Out(bytes)) => self.out.extend(bytes),
            Ok(Said::Err(bytes)) => self.err.extend(bytes),
            Ok(Said::Ended(code)) => self.code = Some(code),
            Ok(Said::Failed(why)) => bail!("`{}` cannot be started: {why}", self.what),
            Err(RecvTimeoutError::Timeout) => {
                let _ = self.kill();
                bail!("`{}` takes too long\n{}", self.what, self.shown());
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!(
                    "the line to dom0 broke during `{}`\n{}",
                    self.what,
                    self.shown()
                )
            }
        }
        Ok(true)
    }

    /// Everything that it has said.
    pub fn shown(&self) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        format!("{}{}", text(&self.out), text(&self.err))
    }
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Exit code; 128 and the signal's number where one ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    what: String,
}

impl Ended {
    /// Its output, if it succeeded.
    pub fn ok(self) -> Result<String> {
        ensure!(
            self.code == 0,
            "`{}` ended with {}\n{}{}",
            self.what,
            self.code,
            self.out,
            self.err
        );
        Ok(self.out)
    }
}

/// What is done with a line in more than one word.
impl dyn Line + '_ {
    /// Runs a program without input to its end.
    pub fn run(&self, words: &[&str]) -> Result<Ended> {
        let mut running = self.start(words)?;
        running.close_input()?;
        running.wait(PATIENCE)
    }

    /// Runs a script of `sh` to its end; its output, if it succeeded.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.run(&["sh", "-euc", script])?.ok()
    }

    /// Puts `bytes` into the file `path` there.
    pub fn put(&self, bytes: &[u8], path: &str) -> Result<()> {
        let mut running = self.start(&["dd", "bs=256K", "status=none", &format!("of={path}")])?;
        running.write(bytes)?;
        running.close_input()?;
        running.wait(PATIENCE)?.ok().map(drop)
    }

    /// Puts the file `from` there as `path`.
    pub fn put_file(&self, from: &Path, path: &str) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.put(&bytes, path)
    }

    /// Asks again and again until the script succeeds; its output.
    pub fn wait_until(&self, script: &str, within: Duration) -> Result<String> {
        let end = Instant::now() + within;
        loop {
            let ended = self.run(&["sh", "-euc", script])?;
            if ended.code == 0 || Instant::now() >= end {
                return ended.ok();
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
