//! Fixtures of end-to-end tests and of benchmarks. Only they depend on it.
//!
//! Nothing here builds: `cargo xtask build` puts the programs where [`Programs`] finds them, once
//! and before the tests, so that no two tests build over each other.

#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a fixture cannot do ends the test that uses it"
)]

pub mod bulk;
mod daemon;
mod disk;
mod display;
mod domains;
mod programs;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub use daemon::{Ended, TestDaemon, ended};
pub use disk::{fill, on_a_small_disk, small_disk};
pub use display::Display;
pub use domains::end_domains;
pub use programs::Programs;

/// Longer than anything takes on a slow machine; only a test that fails waits for it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often something that has no signal is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// Writes a program that can be started at once. This process never has its file open for
/// writing: a child that another thread starts meanwhile would hold that open until it begins its
/// own program, and what is open for writing cannot be started.
#[track_caller]
pub fn write_program(path: impl AsRef<Path>, text: &str) {
    let mut writer = Command::new("sh")
        .args(["-c", r#"cat > "$0" && chmod 755 "$0""#])
        .arg(path.as_ref())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = writer.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    assert!(writer.wait().unwrap().success());
}

/// Asks again and again until there is an answer, which it returns.
#[track_caller]
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited for {what}");
        std::thread::sleep(PAUSE);
    }
}
