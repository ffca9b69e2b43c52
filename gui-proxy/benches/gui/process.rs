//! What a running process has taken, as the kernel counts it.

use std::fs;

/// Ticks of a second: a hundred, on every machine that there is.
const TICKS: f64 = 100.0;

/// One of the lines `NAME: NUMBER ...` of a process.
fn status(process: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let mut lines = status.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = value.expect("a field").split_whitespace().next();
    number.and_then(|n| n.parse().ok()).expect("a number")
}

/// How often it has begun to wait.
pub(crate) fn waits(process: u32) -> u64 {
    status(process, "voluntary_ctxt_switches")
}

/// MiB of memory.
pub(crate) fn resident(process: u32) -> f64 {
    status(process, "VmRSS") as f64 / 1024.0
}

/// Seconds of processor that all its threads have taken.
pub(crate) fn processor(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || -> f64 {
        let field = fields.next().expect("a field");
        field.parse().expect("a number")
    };
    (ticks() + ticks()) / TICKS
}
