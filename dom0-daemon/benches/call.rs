//! Calls between two running qubes of a real `bulkheadd`, as a program in a qube sees them.
//!
//! Nothing is left out: the program runs in qube `a` and starts `qrexec-client-vm`; its agent, its
//! relay, bulkheadd with its policy and audit log, the relay and agent of qube `b` and the service
//! as a process all take part. A call lasts from before the start of `qrexec-client-vm` to its exit
//! code. The spawns of `/bin/true` beside it are of the same program in the same qube, in turn with
//! the calls, so that whatever else the machine does hits both alike.
//!
//! It drives the programs that ship, from `$BULKHEAD_LIBEXEC`: `cargo xtask bench` builds them
//! first.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Enough that p99 is the fifth worst and not the worst.
const CALLS: usize = 500;
/// First calls of a qube fill caches; they are made and not counted.
const WARM_UP: usize = 20;
/// Bytes through one call.
const BULK: u64 = 1 << 30;
const BULK_ROUNDS: usize = 3;
/// Qubes that run while memory is looked at.
const QUBES: usize = 20;
/// The daemon may take this long until it answers; on the slowest machine it takes a second.
const START_LIMIT: Duration = Duration::from_secs(20);
/// The program, as it calls itself in the qube.
const INSIDE: &str = "--inside";

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some(INSIDE) => match words.next().as_deref() {
            Some("calls") => inside_calls(),
            Some("bulk") => inside_bulk(),
            _ => Err("what to do inside?".into()),
        },
        // cargo says `--bench`; anything else is a filter that this program need not know.
        _ => {
            let machine = Machine::start()?;
            machine.show_calls()?;
            machine.show_bulk()?;
            machine.show_memory()
        }
    }
}

// In qube `a`.

fn call(service: &str) -> Command {
    let mut command = Command::new("qrexec-client-vm");
    command
        .args(["b", service])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn timed(command: &mut Command) -> Outcome<Duration> {
    let start = Instant::now();
    let status = command.status()?;
    let took = start.elapsed();
    if status.success() {
        Ok(took)
    } else {
        Err(format!("{command:?} ended with {status}").into())
    }
}

fn inside_calls() -> Outcome<()> {
    for round in 0..WARM_UP + CALLS {
        let mut nothing = Command::new("/bin/true");
        let spawn = timed(nothing.stdin(Stdio::null()).stdout(Stdio::null()))?;
        let called = timed(&mut call("bench.Nothing"))?;
        if round >= WARM_UP {
            println!("{} {}", spawn.as_nanos(), called.as_nanos());
        }
    }
    Ok(())
}

fn inside_bulk() -> Outcome<()> {
    for _ in 0..BULK_ROUNDS {
        let (plain, inwards, outwards) = (plain_socket()?, inwards()?, outwards()?);
        println!("{plain} {inwards} {outwards}");
    }
    Ok(())
}

fn inwards() -> Outcome<f64> {
    let start = Instant::now();
    let mut child = call("bench.Sink").stdin(Stdio::piped()).spawn()?;
    feed(&mut child.stdin.take().ok_or("no stdin")?)?;
    finish(child, start)
}

fn outwards() -> Outcome<f64> {
    let start = Instant::now();
    let mut child = call("bench.Source").stdout(Stdio::piped()).spawn()?;
    let got = drain(&mut child.stdout.take().ok_or("no stdout")?)?;
    if got != BULK {
        return Err(format!("{got} bytes came").into());
    }
    finish(child, start)
}

fn finish(mut child: Child, start: Instant) -> Outcome<f64> {
    let status = child.wait()?;
    if status.success() {
        Ok(rate(start.elapsed()))
    } else {
        Err(format!("a call ended with {status}").into())
    }
}

/// A plain Unix socket between two threads.
fn plain_socket() -> Outcome<f64> {
    let (mut near, mut far) = UnixStream::pair()?;
    let start = Instant::now();
    let reader = std::thread::spawn(move || drain(&mut far).map_err(|e| e.to_string()));
    feed(&mut near)?;
    drop(near);
    reader.join().map_err(|_| "reader failed")??;
    Ok(rate(start.elapsed()))
}

fn feed(to: &mut impl Write) -> Outcome<()> {
    let chunk = vec![0x5a; 64 * 1024];
    for _ in 0..BULK / chunk.len() as u64 {
        to.write_all(&chunk)?;
    }
    Ok(())
}

fn drain(from: &mut impl Read) -> Outcome<u64> {
    let mut chunk = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(total),
            n => total += n as u64,
        }
    }
}

fn rate(took: Duration) -> f64 {
    BULK as f64 / 1048576.0 / took.as_secs_f64()
}

// In dom0.

/// A daemon in a folder of its own, with its qubes.
struct Machine {
    programs: PathBuf,
    folder: PathBuf,
    /// Sockets; beside those of a real daemon, which are in memory.
    runtime: PathBuf,
    daemon: Child,
}

impl Machine {
    fn start() -> Outcome<Self> {
        let programs = std::env::var_os("BULKHEAD_LIBEXEC")
            .map(PathBuf::from)
            .ok_or("BULKHEAD_LIBEXEC must name the folder of the programs to measure")?;
        // Short, because socket paths are; others pass through, because each qube of root's
        // daemon runs under a user of its own.
        let folder = PathBuf::from(format!("/tmp/bulkhead-bench.{}", std::process::id()));
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))?;
        fs::write(folder.join("system.ron"), description())?;
        let runtime = std::env::var_os("XDG_RUNTIME_DIR")
            .map_or_else(|| PathBuf::from("/run"), PathBuf::from)
            .join(format!("bulkhead-bench.{}", std::process::id()));
        let log = fs::File::create(folder.join("log"))?;
        let daemon = Command::new(programs.join("bulkheadd"))
            .arg("--system")
            .arg(folder.join("system.ron"))
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg("--runtime-dir")
            .arg(&runtime)
            .env("BULKHEAD_LIBEXEC", &programs)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut machine = Self {
            programs,
            folder,
            runtime,
            daemon,
        };
        let end = Instant::now() + START_LIMIT;
        while !machine.bulkhead(&["ls"]).output()?.status.success() {
            if machine.daemon.try_wait()?.is_some() || Instant::now() > end {
                return Err(machine.log().into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        machine.must(&["apply", "--yes", "-m", "bench"])?;
        machine.must(&["start", "a"])?;
        machine.must(&["start", "b"])?;
        let install = format!(
            "cd /run/qubes-rpc && ln -s /bin/true bench.Nothing && \
             printf '#!/bin/sh\\nexec cat >/dev/null\\n' >bench.Sink && \
             printf '#!/bin/sh\\nexec head -c {BULK} /dev/zero\\n' >bench.Source && \
             chmod 755 bench.Sink bench.Source"
        );
        machine.must(&["run", "b", "--", "sh", "-c", &install])?;
        machine.bring_ourselves()?;
        Ok(machine)
    }

    /// Puts this program into qube `a`, which may not see where it is.
    fn bring_ourselves(&self) -> Outcome<()> {
        let own = fs::File::open(std::env::current_exe()?)?;
        let take = "cat >bench && chmod 755 bench";
        let status = self
            .bulkhead(&["run", "a", "--", "sh", "-c", take])
            .stdin(own)
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err("cannot copy the bench into its qube".into())
        }
    }

    fn bulkhead(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("bulkhead"));
        command
            .args(words)
            .env("BULKHEAD_SOCKET", self.runtime.join("bus"))
            .stdin(Stdio::null());
        command
    }

    fn must(&self, words: &[&str]) -> Outcome<String> {
        let output = self.bulkhead(words).output()?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("bulkhead {words:?}: {said}\n{}", self.log()).into())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Runs a part of this program in qube `a`; the numbers that it prints, by column.
    fn inside<const N: usize>(&self, part: &str) -> Outcome<[Vec<f64>; N]> {
        let text = self.must(&["run", "a", "--", "./bench", INSIDE, part])?;
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

    fn show_calls(&self) -> Outcome<()> {
        let [spawns, calls] = self.inside("calls")?;
        let (spawn, call) = (at(&spawns, 50), at(&calls, 50));
        for (name, times) in [("spawn /bin/true", &spawns), ("call", &calls)] {
            println!(
                "{name:<28} p50 {:>7.3} ms   p99 {:>7.3} ms",
                at(times, 50) / 1e6,
                at(times, 99) / 1e6
            );
        }
        println!("{:<28} {:>11.2}", "call / spawn, p50", call / spawn);
        Ok(())
    }

    fn show_bulk(&self) -> Outcome<()> {
        let [plain, inwards, outwards] = self.inside("bulk")?;
        let base = at(&plain, 50);
        for (name, rates) in [
            ("plain socket, two threads", &plain),
            ("call, caller to service", &inwards),
            ("call, service to caller", &outwards),
        ] {
            let median = at(rates, 50);
            let share = 100.0 * median / base;
            println!("{name:<28} {median:>11.0} MiB/s ({share:.0} %)");
        }
        Ok(())
    }

    fn show_memory(&self) -> Outcome<()> {
        for number in 2..QUBES {
            self.must(&["start", &format!("q{number}")])?;
        }
        let daemon = resident(&Path::new("/proc").join(self.daemon.id().to_string()));
        let (mut relays, mut agents) = (Vec::new(), Vec::new());
        let place = self.folder.display().to_string();
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
            // Only what belongs to this machine: others may run beside it.
            match read("comm").trim() {
                "bulkhead-relay" if parent(&path) == Some(self.daemon.id()) => {
                    relays.extend(resident(&path));
                }
                "qube-agent" if read("mountinfo").contains(&place) => {
                    agents.extend(resident(&path));
                }
                _ => {}
            }
        }
        println!("resident with {QUBES} qubes");
        let counted = format!("bulkhead-relay, worst of {}", relays.len());
        println!("  {:<26} {}", "bulkheadd", worst(daemon.into_iter()));
        println!("  {counted:<26} {}", worst(relays.into_iter()));
        let counted = format!("qube-agent, worst of {}", agents.len());
        println!("  {counted:<26} {}", worst(agents.into_iter()));
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A bench that failed half way may leave less to stop.
        let _ = self.bulkhead(&["stop", "--all", "--timeout", "5"]).output();
        let id = self.daemon.id().to_string();
        let _ = Command::new("kill").arg(id).status();
        let _ = self.daemon.wait();
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_dir_all(&self.runtime);
    }
}

fn description() -> String {
    let mut text = String::from(
        "(\n    labels: {},\n    templates: {\"host\": (source: Host)},\n    \
         defaults: (template: \"host\", label: \"red\", vcpus: 2, \
         memory: (initial: 256, maximum: 256)),\n    \
         policy: [\"bench.Nothing * a b allow\\nbench.Sink * a b allow\\n\
         bench.Source * a b allow\\n\"],\n    qubes: {\n        \"a\": (),\n        \"b\": (),\n",
    );
    for number in 2..QUBES {
        text.push_str(&format!("        \"q{number}\": (),\n"));
    }
    text.push_str("    },\n)\n");
    text
}

/// A percentile of sorted numbers.
fn at(sorted: &[f64], percent: usize) -> f64 {
    let index = sorted.len() * percent / 100;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// Resident KiB of a process, and how much of it is not of files.
fn resident(process: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(process.join("status")).ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some((field("VmRSS:")?, field("RssAnon:")?))
}

fn parent(process: &Path) -> Option<u32> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let (_, tail) = stat.rsplit_once(')')?;
    tail.split_whitespace().nth(1)?.parse().ok()
}

fn worst(all: impl Iterator<Item = (u64, u64)>) -> String {
    match all.max() {
        Some((whole, own)) => format!("{whole:>8} KiB, {own} of it its own"),
        None => "none found".to_owned(),
    }
}
