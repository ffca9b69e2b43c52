//! Programs started from this machine: here, or by ssh on a bench machine.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::line::{Line, Running, Said};
use crate::protocol::PART_MAX;

/// Names, in the environment of a program on another machine, by whom it was started.
const MARK: &str = "BULKHEAD_HW_STARTED";

/// Programs that were started.
static STARTED: AtomicU64 = AtomicU64::new(0);

/// Where programs are started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spawned {
    /// On this machine.
    Here {
        /// What their environment has beside ours.
        environment: Vec<(&'static str, OsString)>,
    },
    /// On another, by ssh: its destination as ssh takes it, and perhaps a port.
    Ssh {
        /// `root@bench`.
        destination: String,
        /// Other than the usual one.
        port: Option<u16>,
    },
}

impl Spawned {
    /// A machine by its address, `ssh://[USER@]HOST[:PORT]`.
    pub fn at(address: &str) -> Result<Self> {
        let rest = address.strip_prefix("ssh://");
        let rest =
            rest.with_context(|| format!("`{address}` is no address `ssh://[USER@]HOST[:PORT]`"))?;
        let (destination, port) = match rest.rsplit_once(':') {
            Some((host, port)) => {
                let port = port
                    .parse()
                    .with_context(|| format!("`{port}` is no port"))?;
                (host, Some(port))
            }
            None => (rest, None),
        };
        // What begins with a dash would be an option of ssh.
        let fits = !destination.is_empty() && !destination.starts_with('-');
        ensure!(fits, "`{address}` names no machine");
        Ok(Self::Ssh {
            destination: destination.to_owned(),
            port,
        })
    }

    /// What starts a program, which on another machine has the mark `mark`.
    fn command(&self, words: &[&str], mark: &str) -> Result<Command> {
        match self {
            Self::Here { environment } => {
                let (program, arguments) = words.split_first().context("no program is named")?;
                let mut command = Command::new(program);
                command.args(arguments);
                command.envs(environment.iter().map(|(name, value)| (name, value)));
                Ok(command)
            }
            Self::Ssh { destination, port } => {
                let mut command = Command::new("ssh");
                // A question would wait for ever for somebody to answer it.
                command.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-T"]);
                if let Some(port) = port {
                    command.args(["-p", &port.to_string()]);
                }
                let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
                // A shell stays there and makes a code of a signal: ssh has one for all of them.
                let script = format!("env {MARK}={mark} {}; exit $?", quoted.join(" "));
                command.args([destination, "--", &script]);
                Ok(command)
            }
        }
    }

    /// Kills a program that runs in the process group `group` here, and by `mark` there.
    fn kill(&self, group: u32, mark: &str) -> Result<()> {
        match self {
            Self::Here { .. } => {
                let group = format!("-{group}");
                Command::new("kill")
                    .args(["-KILL", "--", &group])
                    .status()?;
            }
            Self::Ssh { .. } => {
                // What ends meanwhile is no longer there to be looked at.
                let script = format!(
                    "cd /proc; for id in [0-9]*; do \
                       if tr '\\0' '\\n' <$id/environ | grep -qx {MARK}={mark}; \
                       then kill -KILL $id; fi; done 2>/dev/null; true"
                );
                let line: &dyn Line = self;
                line.sh(&script)?;
            }
        }
        Ok(())
    }
}

/// One word for the shell at the other end.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl Line for Spawned {
    fn start(&self, words: &[&str]) -> Result<Running> {
        let what = words.join(" ");
        let mark = format!(
            "{}-{}",
            std::process::id(),
            STARTED.fetch_add(1, Ordering::Relaxed)
        );
        let mut child = self
            .command(words, &mark)?
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("`{what}` cannot be started"))?;
        let (tell, said) = mpsc::channel();
        let pumps = [
            child.stdout.take().map(|from| pump(from, Said::Out, &tell)),
            child.stderr.take().map(|from| pump(from, Said::Err, &tell)),
        ];
        let mut input = child.stdin.take();
        let group = child.id();
        let place = self.clone();
        thread::spawn(move || {
            let status = child.wait();
            for pump in pumps.into_iter().flatten() {
                // A pump that fell over has told what it could.
                let _ = pump.join();
            }
            let code = status.map_or(-1, |status| {
                status.code().unwrap_or(128 + status.signal().unwrap_or(0))
            });
            // A test that has lost interest is no error.
            let _ = tell.send(Said::Ended(code));
        });
        Ok(Running::new(
            what,
            said,
            Box::new(move |bytes| {
                if bytes.is_empty() {
                    input = None;
                    return Ok(());
                }
                let open = input.as_mut().context("its input is closed")?;
                open.write_all(bytes).context("it takes no more input")
            }),
            Box::new(move || place.kill(group, &mark)),
        ))
    }
}

fn pump(
    mut from: impl Read + Send + 'static,
    said: fn(Vec<u8>) -> Said,
    tell: &Sender<Said>,
) -> thread::JoinHandle<()> {
    let tell = tell.clone();
    thread::spawn(move || {
        let mut buffer = vec![0; PART_MAX];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let bytes = buffer.get(..length).unwrap_or_default().to_vec();
            if tell.send(said(bytes)).is_err() {
                return;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_what_is_none_is_refused() {
        let ssh = |destination: &str, port| Spawned::Ssh {
            destination: destination.into(),
            port,
        };
        assert_eq!(
            Spawned::at("ssh://root@bench").unwrap(),
            ssh("root@bench", None)
        );
        assert_eq!(
            Spawned::at("ssh://bench:2222").unwrap(),
            ssh("bench", Some(2222))
        );
        for wrong in [
            "bench",
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://bench:99999",
            "ssh://:22",
        ] {
            assert!(Spawned::at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_stay_words_at_the_other_end() {
        let bench = Spawned::at("ssh://bench:22").unwrap();
        let command = bench.command(&["echo", "it's $HOME; two"], "7-1").unwrap();
        let words: Vec<_> = command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect();
        assert_eq!(
            words.join(" "),
            r"-o BatchMode=yes -o ConnectTimeout=20 -T -p 22 bench -- env BULKHEAD_HW_STARTED=7-1 'echo' 'it'\''s $HOME; two'; exit $?"
        );
    }
}
