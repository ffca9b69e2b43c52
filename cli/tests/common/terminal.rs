//! A terminal in front of which the command believes a person sits.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Longest wait for something that should come at once; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Terminal {
    master: File,
    child: Child,
    seen: String,
}

impl Terminal {
    /// Runs a command on a new terminal.
    pub(crate) fn run(mut command: Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("a terminal of ours");
        unlockpt(&master).expect("a terminal for use");
        let name = ptsname(&master, Vec::new()).expect("a named terminal");
        let name = name.into_string().expect("a readable name");
        let slave = File::options().read(true).write(true).open(name);
        let slave = slave.expect("the other end");
        let again = || slave.try_clone().expect("another descriptor");
        command.stdin(again()).stdout(again()).stderr(again());
        let child = command.spawn().expect("the command starts");
        Self {
            master: File::from(master),
            child,
            seen: String::new(),
        }
    }

    /// Waits until this was written, and returns everything up to and with it.
    #[track_caller]
    pub(crate) fn expect(&mut self, wanted: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(wanted) {
                let rest = self.seen.split_off(at + wanted.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            assert!(
                Instant::now() < end && self.read(),
                "`{wanted}` did not come; there was:\n{}",
                self.seen
            );
        }
    }

    /// Reads what is there, waiting for it; false when the command is gone.
    fn read(&mut self) -> bool {
        let wait = Timespec::try_from(PATIENCE).expect("a time");
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut fds, Some(&wait)).unwrap_or(0) == 0 {
            return false;
        }
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(got) => {
                let text = String::from_utf8_lossy(buffer.get(..got).unwrap_or_default());
                self.seen.push_str(&text.replace("\r\n", "\n"));
                true
            }
        }
    }

    /// Types a line.
    pub(crate) fn say(&mut self, line: &str) {
        self.master
            .write_all(format!("{line}\n").as_bytes())
            .expect("the terminal takes it");
    }

    /// Waits for the end; what was written since, and how it ended.
    pub(crate) fn end(mut self) -> (String, ExitStatus) {
        while self.read() {}
        let status = self.child.wait().expect("the command ends");
        (std::mem::take(&mut self.seen), status)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A failed test leaves no process behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
