//! Drives `bulkhead-xl` by hand: starts it as bulkheadd does, sends it the messages that come in as
//! lines of JSON, and prints what it says as such lines.

#![forbid(unsafe_code)]

use std::io::{BufRead, Write};
use std::os::fd::OwnedFd;
use std::process::Command;

use anyhow::{Context, Result, bail};
use bulkhead_sandbox::inherit::pass_on;
use bulkhead_vchan::seqpacket::{pair, recv_packet, send_packet};
use bulkhead_wire::relay::{PACKET_MAX, decode, encode};
use bulkhead_wire::xl::{FromXl, ToXl};

fn main() -> Result<()> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let Some((program, rest)) = words.split_first() else {
        bail!("usage: bulkhead-drive-xl PROGRAM [ARGUMENT...]");
    };
    let (ours, theirs) = pair()?;
    let mut command = Command::new(program);
    let fd = pass_on(&mut command, theirs);
    let mut child = command
        .arg("--fd")
        .arg(fd.to_string())
        .args(rest)
        .spawn()
        .context("bulkhead-xl cannot be started")?;
    // Theirs is closed here, so that their end is seen.
    drop(command);
    println!("pid {}", child.id());
    let input = ours.try_clone()?;
    std::thread::spawn(move || forward(&input));
    let (mut buffer, mut fds) = (vec![0; PACKET_MAX], Vec::new());
    while let Ok(length @ 1..) = recv_packet(&ours, &mut buffer, &mut fds) {
        let message: FromXl = decode(buffer.get(..length).context("it fits")?)?;
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &message)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    println!("ended {}", child.wait()?);
    Ok(())
}

/// Sends what comes in; ends the process with the input, and with it bulkhead-xl.
fn forward(socket: &OwnedFd) {
    for line in std::io::stdin().lock().lines() {
        let sent = line.map_err(anyhow::Error::from).and_then(|line| {
            let message: ToXl = serde_json::from_str(&line)?;
            Ok(send_packet(socket, &encode(&message)?, &[])?)
        });
        if let Err(error) = sent {
            eprintln!("not sent: {error:#}");
        }
    }
    std::process::exit(0);
}
