//! A `bulkheadd` in folders of its own, as benches need it: the programs that ship, from
//! `$BULKHEAD_LIBEXEC` (`cargo xtask bench` builds them first), and a copy of the bench itself in
//! a qube.
//!
//! A bench prints one line for each thing that it found, `figure NAME VALUE UNIT`, which
//! `cargo xtask bench` holds against what is wanted.

#![allow(dead_code, reason = "not every bench needs all of it")]

mod clear;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clear::Remains;

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The daemon may take this long until it answers; on the slowest machine it takes a second.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Lines of the daemon's log that are shown when something fails.
const LOG_SHOWN: usize = 20;
/// A bench, as it calls itself in a qube.
const INSIDE: &str = "--inside";
/// Under which everyone may pass: each qube of root's daemon runs under a user of its own.
const PASSABLE: u32 = 0o711;

/// Where qubes have their private volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On disk wherever that is usual.
    Disk,
    /// In memory.
    Memory,
}

impl Place {
    fn folder(self) -> &'static Path {
        Path::new(match self {
            Self::Disk => "/var/tmp",
            Self::Memory => "/dev/shm",
        })
    }
}

/// The daemon and what it runs. Ended by [`Machine::end`]; also when dropped, and when the bench
/// is interrupted.
#[derive(Debug)]
pub(crate) struct Machine {
    programs: PathBuf,
    folder: PathBuf,
    runtime: PathBuf,
    daemon: u32,
    remains: Remains,
}

impl Machine {
    /// Starts a daemon on the description `system`, and applies nothing yet.
    pub(crate) fn start(system: &str, place: Place) -> Outcome<Self> {
        let programs = std::env::var_os("BULKHEAD_LIBEXEC")
            .map(PathBuf::from)
            .ok_or("BULKHEAD_LIBEXEC must name the folder of the programs to measure")?;
        let own = format!("bulkhead-bench.{}", std::process::id());
        let folder = place.folder().join(&own);
        let runtime = runtime_base().join(format!("{own}.run"));
        let remains = Remains::watch(&programs, &folder, &runtime)?;
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        fs::set_permissions(&folder, PermissionsExt::from_mode(PASSABLE))?;
        fs::write(folder.join("system.ron"), system)?;
        let log = fs::File::create(folder.join("log"))?;
        let child = Command::new(programs.join("bulkheadd"))
            .arg("--system")
            .arg(folder.join("system.ron"))
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg("--runtime-dir")
            .arg(&runtime)
            .arg("--service-path")
            .arg(folder.join("rpc"))
            .env("BULKHEAD_LIBEXEC", &programs)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // An interrupt from the terminal is for the bench, which needs the daemon to end it.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start bulkheadd: {error}"))?;
        let machine = Self {
            programs,
            folder,
            runtime,
            daemon: child.id(),
            remains,
        };
        machine.remains.daemon(child);
        machine.wait()?;
        Ok(machine)
    }

    fn wait(&self) -> Outcome<()> {
        let end = Instant::now() + START_LIMIT;
        while !self.bulkhead(&["ls"]).output()?.status.success() {
            if self.remains.daemon_ended() || Instant::now() > end {
                return Err(format!("bulkheadd does not answer\n{}", self.log()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Replaces the description; nothing is applied.
    pub(crate) fn describe(&self, system: &str) -> Outcome<()> {
        Ok(fs::write(self.folder.join("system.ron"), system)?)
    }

    /// `bulkhead` with these words, not yet started.
    pub(crate) fn bulkhead(&self, words: &[&str]) -> Command {
        clear::client(&self.programs, &self.runtime, words)
    }

    /// Runs `bulkhead` with these words; its output.
    pub(crate) fn must(&self, words: &[&str]) -> Outcome<String> {
        let output = self.bulkhead(words).output()?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("bulkhead {words:?}: {said}\n{}", self.log()).into())
    }

    /// Runs a shell command in a qube.
    pub(crate) fn sh(&self, qube: &str, script: &str) -> Outcome<String> {
        self.must(&["run", qube, "--", "sh", "-c", script])
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.len().saturating_sub(LOG_SHOWN);
        let shown = lines.get(last..).unwrap_or_default().join("\n");
        format!("the end of bulkheadd's log:\n{shown}")
    }

    /// Puts the running bench into a qube, which may not see where it is.
    pub(crate) fn bring_ourselves(&self, qube: &str) -> Outcome<()> {
        let own = fs::File::open(std::env::current_exe()?)?;
        let take = "cat >bench && chmod 755 bench";
        let status = self
            .bulkhead(&["run", qube, "--", "sh", "-c", take])
            .stdin(own)
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err("cannot copy the bench into its qube".into())
        }
    }

    /// Runs a part of this bench in `qube`; the numbers that it prints, by column, each sorted.
    pub(crate) fn inside<const N: usize>(
        &self,
        qube: &str,
        part: &[&str],
    ) -> Outcome<[Vec<f64>; N]> {
        let mut words = vec!["run", qube, "--", "./bench", INSIDE];
        words.extend(part);
        let text = self.must(&words)?;
        let mut columns = [const { Vec::new() }; N];
        for line in text.lines() {
            let mut words = line.split_whitespace();
            for column in &mut columns {
                column.push(words.next().ok_or("a number is missing")?.parse()?);
            }
        }
        for column in &mut columns {
            column.sort_by(f64::total_cmp);
        }
        Ok(columns)
    }

    /// Process number of the daemon.
    pub(crate) fn daemon(&self) -> u32 {
        self.daemon
    }

    /// Folder of description, state and log.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stops everything and removes everything, or says what is left.
    pub(crate) fn end(self) -> Outcome<()> {
        self.remains.clear().map_err(Into::into)
    }
}

/// Sockets are in memory, like those of a real daemon, wherever we may.
fn runtime_base() -> PathBuf {
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let candidates = [given, Some("/run".into()), Some("/dev/shm".into())];
    let usable = |path: &PathBuf| {
        let probe = path.join(format!("bulkhead-bench.{}.probe", std::process::id()));
        fs::create_dir(&probe)
            .and_then(|()| fs::remove_dir(probe))
            .is_ok()
    };
    let found = candidates.into_iter().flatten().find(usable);
    found.unwrap_or_else(|| "/tmp".into())
}

/// What the bench is to do here: the words after [`INSIDE`] in a qube, none in dom0. `cargo` says
/// `--bench`, which means nothing.
pub(crate) fn part() -> Option<Vec<String>> {
    let mut words = std::env::args().skip(1);
    (words.next().as_deref() == Some(INSIDE)).then(|| words.collect())
}

/// Runs a command to its end, which must be good.
pub(crate) fn timed(command: &mut Command) -> Outcome<Duration> {
    let start = Instant::now();
    let status = command.status()?;
    let took = start.elapsed();
    if status.success() {
        Ok(took)
    } else {
        Err(format!("{command:?} ended with {status}").into())
    }
}

/// Says what went wrong, if anything did.
pub(crate) fn exit_code(outcome: Outcome<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A percentile of sorted numbers.
pub(crate) fn at(sorted: &[f64], percent: usize) -> f64 {
    let index = sorted.len() * percent / 100;
    let last = sorted.len().saturating_sub(1);
    sorted.get(index.min(last)).copied().unwrap_or(f64::NAN)
}

/// Tells one figure.
pub(crate) fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.3} {unit}");
}

/// A description of qubes that all are alike; `options` of each is RON.
pub(crate) fn description(
    policy: &str,
    qubes: impl Iterator<Item = (String, &'static str)>,
) -> String {
    let mut text = String::from(
        "(\n    labels: {},\n    templates: {\"host\": (source: Host)},\n    \
         defaults: (template: \"host\", label: \"red\", vcpus: 2, \
         memory: (initial: 256, maximum: 256)),\n",
    );
    let _ = writeln!(text, "    policy: [{policy:?}],\n    qubes: {{");
    for (name, options) in qubes {
        let _ = writeln!(text, "        {name:?}: ({options}),");
    }
    text.push_str("    },\n)\n");
    text
}
