//! What takes long says so.

use std::time::Instant;

/// Tells what is being done, and at the end how long it took.
pub fn step<T>(what: &str, act: impl FnOnce() -> T) -> T {
    eprintln!("   {what} ...");
    let start = Instant::now();
    let done = act();
    eprintln!("   {what}: {:.1} s", start.elapsed().as_secs_f64());
    done
}
