//! An X display of a test's own.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

/// Displays of each process that runs tests. No number is used twice: a server that ends takes the
/// socket of its number away, also that of one that has just begun.
const DISPLAYS_EACH: u32 = 100;

/// The numbers of displays that have a port of their own begin after those of real ones.
const FIRST: u32 = 100;

/// Processes that have numbers of their own.
const PROCESSES: u32 = 590;

/// An Xvfb on which nothing else is; ends when dropped.
#[derive(Debug)]
pub struct Display {
    server: Child,
    name: String,
}

impl Display {
    /// Starts a server with a screen of this size in pixels, and returns when it listens.
    #[must_use]
    pub fn start(width: u32, height: u32) -> Self {
        Self::start_with(width, height, &[])
    }

    /// The same for those alone who have what is in this Xauthority file.
    #[must_use]
    pub fn guarded(width: u32, height: u32, authority: &Path) -> Self {
        let authority = [OsStr::new("-auth"), authority.as_os_str()];
        Self::start_with(width, height, &authority)
    }

    fn start_with(width: u32, height: u32, more: &[&OsStr]) -> Self {
        let mut tries = (0..DISPLAYS_EACH).filter_map(|_| Self::try_start(width, height, more));
        tries.next().expect("a display whose number is free")
    }

    /// None where the number is taken.
    fn try_start(width: u32, height: u32, more: &[&OsStr]) -> Option<Self> {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let first = FIRST + std::process::id() % PROCESSES * DISPLAYS_EACH;
        let number = first + LAST.fetch_add(1, Ordering::Relaxed) % DISPLAYS_EACH;
        let name = format!(":{number}");
        let mut server = Command::new("Xvfb")
            .args([&name, "-displayfd", "1", "-screen", "0"])
            .arg(format!("{width}x{height}x24"))
            // No key repeats that a slow machine holds down for long.
            .args(["-nolisten", "tcp", "-noreset", "-r"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb; `cargo xtask setup` installs it");
        let mut ready = String::new();
        let out = server.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut ready).expect("a line");
        if ready.trim() == number.to_string() {
            return Some(Self { server, name });
        }
        let _ = server.wait();
        None
    }

    /// As `DISPLAY` names it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.server), Signal::TERM);
        let _ = self.server.wait();
    }
}
