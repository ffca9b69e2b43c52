//! Calls between two running qubes of a real `bulkheadd`, as a program in a qube sees them.
//!
//! Nothing is left out: the program runs in qube `a` and starts `qrexec-client-vm`; its agent, its
//! relay, bulkheadd with its policy and audit log, the relay and agent of qube `b` and the service
//! as a process all take part. A call lasts from before the start of `qrexec-client-vm` to its exit
//! code. The spawns of `/bin/true` beside it are of the same program in the same qube, in turn with
//! the calls, so that whatever else the machine does hits both alike. So are calls that the program
//! makes itself, as one that runs already may: it asks the agent and speaks on the channel.
//!
//! `cargo xtask bench call`.

mod machine;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use bulkhead_testing::bulk::{drain, feed, plain_socket, rate};
use bulkhead_vchan::{DomId, Port, SocketDir};
use bulkhead_wire::qrexec::data::{DataDecoder, DataEvent, Role, eof};
use bulkhead_wire::qrexec::trigger::Trigger;
use bulkhead_wire::qrexec::{Endpoint, Kind, Version, hello};
use machine::{Machine, Outcome, Place, at, description, exit_code, figure, part, timed};

/// Enough that p99 is the fifth worst and not the worst.
const CALLS: usize = 500;
/// First calls of a qube fill caches; they are made and not counted.
const WARM_UP: usize = 20;
/// Bytes through one call.
const BULK: u64 = 1 << 30;
const BULK_ROUNDS: usize = 3;
/// Pieces in which the service writes them: of 64 KiB, as the caller's and those on the plain
/// socket are. `head` writes 4 KiB at a time and then is what is measured.
const CHUNKS: u64 = BULK / (64 * 1024);
/// Where a qube's agent listens.
const AGENT: &str = "/var/run/qubes/qrexec-agent";

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
        let own = own_call("bench.Nothing")?;
        if round >= WARM_UP {
            let times = [spawn, called, own].map(|time| time.as_nanos());
            println!("{} {} {}", times[0], times[1], times[2]);
        }
    }
    Ok(())
}

/// A call without a program for it, from the request to the exit code.
fn own_call(service: &str) -> Outcome<Duration> {
    let start = Instant::now();
    let mut agent = UnixStream::connect(AGENT)?;
    agent.write_all(&Trigger::ask("", "b", service).encode(Version::NEWEST)?)?;
    let mut answer = [0; Endpoint::LEN];
    agent.read_exact(&mut answer)?;
    let (endpoint, _) = Endpoint::split(&answer).ok_or("no endpoint")?;
    let (domain, port) = (DomId::new(endpoint.domain)?, Port::new(endpoint.port));
    let listener = SocketDir::from_env()?.listen(domain, port)?;
    let channel = listener.accept(Some(start + Duration::from_secs(60)))?;
    let mut channel = UnixStream::from(channel.into_inner());
    channel.set_nonblocking(false)?;
    channel.write_all(&hello(Version::NEWEST))?;
    channel.write_all(&eof(Kind::Stdin))?;
    let (mut decoder, mut buffer) = (DataDecoder::new(Role::Caller), [0; 4096]);
    loop {
        let len = channel.read(&mut buffer)?;
        let mut rest = buffer.get(..len).unwrap_or_default();
        while let Some(event) = decoder.push(&mut rest)? {
            match event {
                DataEvent::Exit(0) => return Ok(start.elapsed()),
                DataEvent::Exit(code) => return Err(format!("a call ended with {code}").into()),
                _ => {}
            }
        }
        if len == 0 {
            return Err("a call ended without an exit code".into());
        }
    }
}

fn inside_bulk() -> Outcome<()> {
    for _ in 0..BULK_ROUNDS {
        let plain = rate(BULK, plain_socket(BULK)?);
        let (inwards, outwards) = (inwards()?, outwards()?);
        println!("{plain} {inwards} {outwards}");
    }
    Ok(())
}

fn inwards() -> Outcome<f64> {
    let start = Instant::now();
    let mut child = call("bench.Sink").stdin(Stdio::piped()).spawn()?;
    feed(&mut child.stdin.take().ok_or("no stdin")?, BULK)?;
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
        Ok(rate(BULK, start.elapsed()))
    } else {
        Err(format!("a call ended with {status}").into())
    }
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
         printf '#!/bin/sh\\nexec dd if=/dev/zero bs=64k count={CHUNKS} status=none\\n' \
         >bench.Source && \
         chmod 755 bench.Sink bench.Source"
    );
    machine.sh("b", &install)?;
    machine.bring_ourselves("a")?;
    Ok(machine)
}

fn show_calls(machine: &Machine) -> Outcome<()> {
    let [spawns, calls, own] = machine.inside("a", &["calls"])?;
    for (name, times) in [("spawn", &spawns), ("call", &calls), ("own_call", &own)] {
        figure(&format!("{name}_p50"), at(times, 50) / 1e6, "ms");
        figure(&format!("{name}_p99"), at(times, 99) / 1e6, "ms");
    }
    for (name, times) in [("call_to_spawn", &calls), ("own_call_to_spawn", &own)] {
        figure(name, at(times, 50) / at(&spawns, 50), "x");
    }
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
