//! What people wait for at the command line, with twenty qubes that run: `cargo xtask bench qubes`.
//!
//! Twenty new qubes are applied and started, which is timed as one `bulkhead apply`, on three fresh
//! machines. On the last, memory is looked at, an apply that finds nothing to do is repeated, eighty
//! more qubes are declared, and `bulkhead ls` and `bulkhead --help` are started in turn with
//! `/bin/true`, so that whatever else the machine does hits all alike.

mod machine;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use machine::{Machine, Outcome, Place, at, description, exit_code, figure, timed};
use nix::sys::resource::{UsageWho, getrusage};

/// Qubes that run.
const RUNNING: usize = 20;
/// Qubes that are declared when they are listed.
const DECLARED: usize = 100;
/// Machines on which the qubes are new.
const BOOTS: usize = 3;
const APPLIES: usize = 30;
const COMMANDS: usize = 100;
/// What a start leaves behind may take a moment to end.
const COUNT_LIMIT: Duration = Duration::from_secs(10);
const KIB: f64 = 1024.0;

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Outcome<()> {
    let mut boots = Vec::new();
    for round in 1..=BOOTS {
        let machine = Machine::start(&declared(RUNNING), Place::Disk)?;
        let start = Instant::now();
        let outcome = machine.must(&["apply", "--yes"]).and_then(|_| {
            boots.push(milliseconds(start.elapsed()));
            if round < BOOTS {
                Ok(())
            } else {
                show(&machine)
            }
        });
        machine.end().and(outcome)?;
    }
    boots.sort_by(f64::total_cmp);
    figure("boot_20", at(&boots, 50), "ms");
    Ok(())
}

/// Qubes of which the first [`RUNNING`] start with the machine.
fn declared(count: usize) -> String {
    let qubes = (0..count).map(|number| {
        let options = if number < RUNNING {
            "autostart: true"
        } else {
            ""
        };
        (format!("qube-{number:03}"), options)
    });
    description("", qubes)
}

fn show(machine: &Machine) -> Outcome<()> {
    show_memory(machine)?;
    show_apply(machine)?;
    machine.describe(&declared(DECLARED))?;
    machine.must(&["apply", "--yes"])?;
    show_commands(machine)
}

fn show_apply(machine: &Machine) -> Outcome<()> {
    let said = machine.must(&["apply", "--yes", "--json"])?;
    let report: serde_json::Value = serde_json::from_str(&said)?;
    if report
        .pointer("/outcome")
        .and_then(|outcome| outcome.as_str())
        != Some("nothing")
    {
        return Err(format!("there was something to apply: {said}").into());
    }
    let mut took = Vec::new();
    for _ in 0..APPLIES {
        let mut apply = machine.bulkhead(&["apply", "--yes"]);
        took.push(milliseconds(timed(apply.stdout(Stdio::null()))?));
    }
    took.sort_by(f64::total_cmp);
    figure("apply_nothing_p50", at(&took, 50), "ms");
    figure("apply_nothing_max", at(&took, 100), "ms");
    Ok(())
}

/// Times of one command from start to end, and the processor's share of them.
struct Times {
    name: &'static str,
    wall: Vec<f64>,
    processor: Vec<f64>,
}

fn show_commands(machine: &Machine) -> Outcome<()> {
    let listed = machine.must(&["ls"])?;
    let rows = listed.lines().filter(|line| line.contains("qube-")).count();
    if rows != DECLARED {
        return Err(format!("{rows} qubes are listed").into());
    }
    let mut all = ["true", "help", "ls_100"].map(|name| Times {
        name,
        wall: Vec::new(),
        processor: Vec::new(),
    });
    for _ in 0..COMMANDS {
        for times in &mut all {
            let mut command = match times.name {
                "true" => Command::new("/bin/true"),
                "help" => machine.bulkhead(&["--help"]),
                _ => machine.bulkhead(&["ls", "--color", "always"]),
            };
            let before = processor()?;
            let wall = timed(command.stdout(Stdio::null()).stdin(Stdio::null()))?;
            times.wall.push(milliseconds(wall));
            times.processor.push(milliseconds(processor()? - before));
        }
    }
    for times in &mut all {
        for (what, values) in [("wall", &mut times.wall), ("cpu", &mut times.processor)] {
            values.sort_by(f64::total_cmp);
            figure(&format!("{}_{what}_p50", times.name), at(values, 50), "ms");
        }
        figure(
            &format!("{}_wall_p99", times.name),
            at(&times.wall, 99),
            "ms",
        );
    }
    Ok(())
}

/// Processor time of all commands that have ended.
fn processor() -> Outcome<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec())
        .iter()
        .sum::<i64>();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

/// Resident memory of the daemon and of the largest relay and agent.
fn show_memory(machine: &Machine) -> Outcome<()> {
    let limit = Instant::now() + COUNT_LIMIT;
    let (relays, agents) = loop {
        let (relays, agents) = relays_and_agents(machine)?;
        if relays.len() == RUNNING && agents.len() == RUNNING {
            break (relays, agents);
        }
        if Instant::now() > limit {
            let (relays, agents) = (relays.len(), agents.len());
            return Err(format!("{relays} relays and {agents} agents run").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let daemon = resident(&Path::new("/proc").join(machine.daemon().to_string()));
    for (name, all) in [
        ("daemon", daemon.into_iter().collect()),
        ("relay", relays),
        ("agent", agents),
    ] {
        let (whole, own) = all.iter().max().ok_or("bulkheadd is gone")?;
        figure(&format!("{name}_resident"), *whole as f64 / KIB, "MiB");
        figure(&format!("{name}_own"), *own as f64 / KIB, "MiB");
    }
    Ok(())
}

type Sizes = Vec<(u64, u64)>;

/// Only what belongs to this machine: others may run beside it.
fn relays_and_agents(machine: &Machine) -> Outcome<(Sizes, Sizes)> {
    let (mut relays, mut agents) = (Vec::new(), Vec::new());
    let place = machine.folder().file_name().unwrap_or_default();
    let place = place.to_string_lossy().into_owned();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
        match read("comm").trim() {
            "bulkhead-relay" if parent(&path) == Some(machine.daemon()) => {
                relays.extend(resident(&path));
            }
            "qube-agent" if read("mountinfo").contains(&place) => agents.extend(resident(&path)),
            _ => {}
        }
    }
    Ok((relays, agents))
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
