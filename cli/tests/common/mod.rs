//! What the tests and benches share: a stand-in for the daemon that serves the real interface on
//! a socket of its own, and the command as a process without a home.

#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod fake;
pub(crate) mod terminal;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The command, with nothing of the caller's environment but the way to programs.
pub(crate) fn bulkhead(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
    command
        .args(words)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null());
    command
}

/// What came out, as one text for a snapshot; `folder` is shown as `$TEST`.
#[must_use = "either snapshot what came out or check it"]
pub(crate) fn told(output: &Output, folder: Option<&Path>) -> String {
    let clean = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        match folder {
            Some(folder) => text.replace(&folder.display().to_string(), "$TEST"),
            None => text,
        }
    };
    let mut all = clean(&output.stdout);
    if !output.stderr.is_empty() {
        all.push_str(&format!("[stderr]\n{}", clean(&output.stderr)));
    }
    match output.status.code() {
        Some(0) => {}
        Some(code) => all.push_str(&format!("[exit {code}]\n")),
        None => all.push_str("[killed]\n"),
    }
    all
}

/// Runs a command with this standard input.
pub(crate) fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A command that reads nothing closes its end.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("the command ends");
    writer.join().expect("the writer ends");
    output
}
