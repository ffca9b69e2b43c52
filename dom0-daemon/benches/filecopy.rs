//! Files from one running qube to another with `qvm-copy-to-vm`: `cargo xtask bench filecopy`.
//!
//! A copy lasts from before the start of `qvm-copy-to-vm` in qube `a` to its exit code, when the
//! files are in their place in qube `b` and flushed. What one empty file takes is the start, and is
//! told by itself. Once the private volumes of both are in memory and once on disk.
//!
//! Beside the many small files stands the same number of files of the same size, created in the
//! same volume by the plainest of loops: what the file system takes for them, whoever asks.

mod machine;

use std::fs;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use machine::{Machine, Outcome, Place, at, description, exit_code, figure, part, timed};

const LARGE: u64 = 256 << 20;
const FILES: usize = 10_000;
const SMALL: usize = 1024;
const ROUNDS: usize = 5;
/// Empty files; the start is short and varies.
const STARTS: usize = 20;
/// Room in memory for what a qube sends or receives: files on a tmpfs count as its own.
const OPTIONS: &str = "autostart: true, memory: (initial: 1024, maximum: 1024)";
/// Everything that a round leaves in the receiving qube.
const REMOVE: &str = "rm -rf QubesIncoming";

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Outcome<()> {
    if let Some(words) = part() {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        return inside(&words);
    }
    for (name, place) in [("tmpfs", Place::Memory), ("disk", Place::Disk)] {
        let machine = start(place)?;
        let shown = show(&machine, name);
        machine.end().and(shown)?;
    }
    Ok(())
}

// In a qube.

fn inside(words: &[&str]) -> Outcome<()> {
    match words {
        ["fill"] => fill(),
        ["plain"] => plain(),
        ["copy", what] => {
            let mut copy = Command::new("qvm-copy-to-vm");
            copy.args(["--without-progress", "b", what]);
            print_nanos(timed(copy.stdin(Stdio::null()).stdout(Stdio::null()))?);
            Ok(())
        }
        _ => Err(format!("what is {words:?} to do inside?").into()),
    }
}

fn print_nanos(took: Duration) {
    println!("{}", took.as_nanos());
}

/// Makes what is copied.
fn fill() -> Outcome<()> {
    fs::write("empty", [])?;
    let mut large = fs::File::create("large")?;
    // Not zeros, which a file system might not store; the same for everyone.
    let chunk: Vec<u8> = (0..1 << 20).map(|byte: u32| (byte % 251) as u8).collect();
    for _ in 0..LARGE / chunk.len() as u64 {
        large.write_all(&chunk)?;
    }
    large.sync_all()?;
    fs::create_dir("small")?;
    create_all("small")
}

fn create_all(folder: &str) -> Outcome<()> {
    let content = [0x5a; SMALL];
    for number in 0..FILES {
        fs::write(format!("{folder}/file-{number:05}"), content)?;
    }
    Ok(())
}

/// Time of the plain loop, without and with a flush of the file system.
fn plain() -> Outcome<()> {
    let folder = "plain";
    fs::create_dir(folder)?;
    let start = Instant::now();
    create_all(folder)?;
    let created = start.elapsed();
    nix::unistd::syncfs(fs::File::open(folder)?)?;
    println!("{} {}", created.as_nanos(), start.elapsed().as_nanos());
    fs::remove_dir_all(folder)?;
    Ok(())
}

// In dom0.

fn start(place: Place) -> Outcome<Machine> {
    let policy = "qubes.Filecopy * a b allow\nbulkhead.Filecopy * a b allow\n";
    let qubes = ["a", "b"].map(|name| (name.to_owned(), OPTIONS));
    let machine = Machine::start(&description(policy, qubes.into_iter()), place)?;
    machine.must(&["apply", "--yes"])?;
    machine.bring_ourselves("a")?;
    let _: [Vec<f64>; 0] = machine.inside("a", &["fill"])?;
    Ok(machine)
}

/// Nanoseconds of one copy of `what`; what arrived is looked at and removed.
fn copy(machine: &Machine, what: &str, files: usize) -> Outcome<f64> {
    let [took] = machine.inside("a", &["copy", what])?;
    let count = format!("find QubesIncoming/a/{what} -type f | wc -l; {REMOVE}");
    let arrived = machine.sh("b", &count)?;
    if arrived.trim() != files.to_string() {
        return Err(format!("{} of {files} files of {what} arrived", arrived.trim()).into());
    }
    Ok(at(&took, 50))
}

fn show(machine: &Machine, place: &str) -> Outcome<()> {
    let repeat = |times: usize, what: &str, files: usize| -> Outcome<Vec<f64>> {
        // The first fills caches.
        copy(machine, what, files)?;
        let mut all = Vec::new();
        for _ in 0..times {
            all.push(copy(machine, what, files)?);
        }
        all.sort_by(f64::total_cmp);
        Ok(all)
    };
    let start = at(&repeat(STARTS, "empty", 1)?, 50);
    let large = repeat(ROUNDS, "large", 1)?;
    let mut small = Vec::new();
    let (mut plain, mut flushed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        small.push(copy(machine, "small", FILES)?);
        let [created, synced] = machine.inside("a", &["plain"])?;
        plain.extend(created);
        flushed.extend(synced);
    }
    for all in [&mut small, &mut plain, &mut flushed] {
        all.sort_by(f64::total_cmp);
    }
    let tell = |name: &str, value: f64, unit: &str| figure(&format!("{place}_{name}"), value, unit);
    let mib_per_s = |nanos: f64| LARGE as f64 / 1048576.0 / (nanos / 1e9);
    tell("start", start / 1e6, "ms");
    tell("large", mib_per_s(at(&large, 50)), "MiB/s");
    tell("large_best", mib_per_s(at(&large, 0)), "MiB/s");
    let median = at(&small, 50);
    tell("small", (median - start) / 1e6, "ms");
    tell("small_best", (at(&small, 0) - start) / 1e6, "ms");
    tell("plain", at(&plain, 50) / 1e6, "ms");
    tell("plain_flushed", at(&flushed, 50) / 1e6, "ms");
    tell("small_to_plain", (median - start) / at(&plain, 50), "x");
    Ok(())
}
