//! A `bulkheadd` in a scratch folder, and the command that drives it.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{capture, root};

/// How long the daemon may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The running desktop.
pub(super) struct Desktop {
    scratch: PathBuf,
    programs: PathBuf,
    daemon: Child,
    steps: Vec<Step>,
}

/// One command of the demo, for the account at the end.
struct Step {
    title: &'static str,
    took: Duration,
}

impl Desktop {
    /// Copies the example description into a new folder and starts the daemon on it.
    pub(super) fn start(programs: &Path) -> Result<Self> {
        // Under /tmp and short: socket paths may have 107 bytes. Others may pass through but not
        // list it, because each qube runs under a user of its own when the demo is root's.
        let scratch = PathBuf::from(format!("/tmp/bulkhead-demo.{}", std::process::id()));
        std::fs::create_dir(&scratch)
            .with_context(|| format!("cannot make {}", scratch.display()))?;
        std::fs::set_permissions(&scratch, std::fs::Permissions::from_mode(0o711))?;
        copy_tree(
            &root().join("examples/desktop"),
            &scratch.join("description"),
        )?;
        let log = std::fs::File::create(scratch.join("bulkheadd.log"))?;
        let started = Instant::now();
        let daemon = Command::new(programs.join("bulkheadd"))
            .arg("--system")
            .arg(scratch.join("description/system.ron"))
            .arg("--state-dir")
            .arg(scratch.join("state"))
            .arg("--runtime-dir")
            .arg(scratch.join("run"))
            .arg("--service-path")
            .arg(scratch.join("rpc"))
            .arg("--service-config-path")
            .arg(scratch.join("rpc-config"))
            .env("BULKHEAD_LIBEXEC", programs)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start bulkheadd")?;
        let mut desktop = Self {
            scratch,
            programs: programs.to_path_buf(),
            daemon,
            steps: Vec::new(),
        };
        if let Err(error) = desktop.wait_until_it_answers() {
            desktop.show_log();
            return Err(match desktop.stop() {
                Ok(()) => error,
                Err(also) => error.context(format!("{also:#}")),
            });
        }
        println!("bulkheadd runs on {}", desktop.scratch.display());
        desktop.steps.push(Step {
            title: "bulkheadd started",
            took: started.elapsed(),
        });
        Ok(desktop)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = self.daemon.try_wait()? {
                bail!("bulkheadd ended with {status}");
            }
            if self
                .bulkhead(&["ls"])
                .stderr(Stdio::null())
                .output()?
                .status
                .success()
            {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "bulkheadd did not answer in {START_LIMIT:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The folder of the description.
    pub(super) fn description(&self) -> PathBuf {
        self.scratch.join("description")
    }

    /// `bulkhead` with these words, not yet started.
    pub(super) fn bulkhead(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("bulkhead"));
        command
            .args(words)
            .env("BULKHEAD_SOCKET", self.scratch.join("run/bus"))
            .current_dir(self.description())
            .stdin(Stdio::null());
        command
    }

    /// Shows a command, runs it, shows what it printed, and returns its exit code and output.
    pub(super) fn show(&mut self, title: &'static str, words: &[&str]) -> Result<(i32, String)> {
        announce(title, words);
        let started = Instant::now();
        // Both streams in one pipe, so that the lines come in the order of a terminal.
        let (mut reader, writer) = std::io::pipe()?;
        let mut command = self.bulkhead(words);
        command.stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn().context("cannot start bulkhead")?;
        drop(command);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        let status = child.wait()?;
        let took = started.elapsed();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        print_indented(&text);
        let code = status.code().context("bulkhead was killed")?;
        println!(
            "    ({:.0} ms, exit code {code})",
            took.as_secs_f64() * 1000.0
        );
        self.steps.push(Step { title, took });
        Ok((code, text))
    }

    /// As [`Self::show`], for a command that must succeed.
    pub(super) fn expect(&mut self, title: &'static str, words: &[&str]) -> Result<String> {
        let (code, text) = self.show(title, words)?;
        ensure!(
            code == 0,
            "`bulkhead {}` ended with exit code {code}",
            words.join(" ")
        );
        Ok(text)
    }

    /// Notes a step that was timed elsewhere.
    pub(super) fn note(&mut self, title: &'static str, took: Duration) {
        self.steps.push(Step { title, took });
    }

    /// What was seen, and how long each step took.
    pub(super) fn account(&self) {
        println!("\nWhat was seen");
        for step in &self.steps {
            println!(
                "  {:<52} {:>8.1} ms",
                step.title,
                step.took.as_secs_f64() * 1000.0
            );
        }
    }

    /// What the daemon wrote, for a demo that failed.
    pub(super) fn show_log(&self) {
        let log = std::fs::read_to_string(self.scratch.join("bulkheadd.log")).unwrap_or_default();
        eprintln!("bulkheadd's log:");
        for line in log
            .lines()
            .rev()
            .take(40)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            eprintln!("  {line}");
        }
    }

    /// Leaves everything running and says how to go on.
    pub(super) fn keep(self) {
        println!("\nIt goes on running. To play on:");
        println!(
            "  export BULKHEAD_SOCKET={}",
            self.scratch.join("run/bus").display()
        );
        println!("  export PATH={}:$PATH", self.programs.display());
        println!("  cd {}", self.description().display());
        println!("  bulkhead ls; bulkhead run work -- bash; $EDITOR system.ron; bulkhead plan");
        println!("To end it:");
        println!(
            "  bulkhead stop --all; kill {}; rm -rf {}",
            self.daemon.id(),
            self.scratch.display()
        );
    }

    /// Stops the qubes and the daemon and removes the folder. What cannot be stopped stays, with
    /// everything that tells why.
    pub(super) fn stop(mut self) -> Result<()> {
        self.end().with_context(|| {
            format!("not everything is stopped; see {}", self.scratch.display())
        })?;
        std::fs::remove_dir_all(&self.scratch)
            .with_context(|| format!("cannot remove {}", self.scratch.display()))
    }

    fn end(&mut self) -> Result<()> {
        if self.daemon.try_wait()?.is_some() {
            return Ok(());
        }
        capture(&mut self.bulkhead(&["stop", "--all"]))?;
        capture(Command::new("kill").arg(self.daemon.id().to_string()))?;
        self.daemon.wait()?;
        Ok(())
    }
}

/// Says what comes now, as a person would type it.
pub(super) fn announce(title: &str, words: &[&str]) {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| {
            if word.contains([' ', '$', ';']) {
                format!("'{word}'")
            } else {
                (*word).to_owned()
            }
        })
        .collect();
    println!("\n== {title}\n$ bulkhead {}", quoted.join(" "));
}

/// Prints output so that it can be told from the demo's own lines.
pub(super) fn print_indented(text: &str) {
    for line in text.lines() {
        println!("    {line}");
    }
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for entry in
        std::fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))?
    {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
