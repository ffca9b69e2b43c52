//! Calls between two running qubes of a real `bulkheadd`, as a program in a qube sees them.
//!
//! Nothing is left out: the program runs in qube `a` and starts `qrexec-client-vm`; its agent, its
//! relay, bulkheadd with its policy and audit log, the relay and agent of qube `b` and the service
//! as a process all take part. A call lasts from before the start of `qrexec-client-vm` to its exit
//! code. The spawns of `/bin/true` beside it are of the same program in the same qube, in turn with
//! the calls, so that whatever else the machine does hits both alike.
//!
//! `cargo xtask bench call`.

mod machine;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use machine::{Machine, Outcome, Place, at, description, exit_code, figure, part, timed};

/// Enough that p99 is the fifth worst and not the worst.
const CALLS: usize = 500;
/// First calls of a qube fill caches; they are made and not counted.
const WARM_UP: usize = 20;
/// Bytes through one call.
const BULK: u64 = 1 << 30;
const BULK_ROUNDS: usize = 3;

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Outcome<()> {
    if let Some(words) = part() {
        return match words.first().map(String::as_str) {
            Some("calls") => inside_calls(),
            Some("bulk") => inside_bulk(),
            _ => Err("what to do inside?".into()),
        };
    }
    let machine = start()?;
    let shown = show_calls(&machine).and_then(|()| show_bulk(&machine));
    machine.end().and(shown)
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

fn start() -> Outcome<Machine> {
    let policy = "bench.Nothing * a b allow\nbench.Sink * a b allow\nbench.Source * a b allow\n";
    let qubes = ["a", "b"].map(|name| (name.to_owned(), ""));
    let machine = Machine::start(&description(policy, qubes.into_iter()), Place::Disk)?;
    machine.must(&["apply", "--yes"])?;
    machine.must(&["start", "a"])?;
    machine.must(&["start", "b"])?;
    let install = format!(
        "cd /run/qubes-rpc && ln -s /bin/true bench.Nothing && \
         printf '#!/bin/sh\\nexec cat >/dev/null\\n' >bench.Sink && \
         printf '#!/bin/sh\\nexec head -c {BULK} /dev/zero\\n' >bench.Source && \
         chmod 755 bench.Sink bench.Source"
    );
    machine.sh("b", &install)?;
    machine.bring_ourselves("a")?;
    Ok(machine)
}

fn show_calls(machine: &Machine) -> Outcome<()> {
    let [spawns, calls] = machine.inside("a", &["calls"])?;
    for (name, times) in [("spawn", &spawns), ("call", &calls)] {
        figure(&format!("{name}_p50"), at(times, 50) / 1e6, "ms");
        figure(&format!("{name}_p99"), at(times, 99) / 1e6, "ms");
    }
    figure("call_to_spawn", at(&calls, 50) / at(&spawns, 50), "x");
    Ok(())
}

fn show_bulk(machine: &Machine) -> Outcome<()> {
    let [plain, inwards, outwards] = machine.inside("a", &["bulk"])?;
    figure("socket", at(&plain, 50), "MiB/s");
    for (name, rates) in [("in", &inwards), ("out", &outwards)] {
        let median = at(rates, 50);
        figure(&format!("bulk_{name}"), median, "MiB/s");
        figure(
            &format!("bulk_{name}_share"),
            100.0 * median / at(&plain, 50),
            "%",
        );
    }
    Ok(())
}
