//! A lot of bytes, for benchmarks.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const CHUNK: usize = 64 * 1024;

/// Writes `bytes`, a multiple of 64 KiB.
///
/// # Errors
/// What writing said.
pub fn feed(to: &mut impl Write, bytes: u64) -> io::Result<()> {
    let chunk = vec![0x5a; CHUNK];
    for _ in 0..bytes / CHUNK as u64 {
        to.write_all(&chunk)?;
    }
    Ok(())
}

/// Reads to the end; how many bytes came.
///
/// # Errors
/// What reading said.
pub fn drain(from: &mut impl Read) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut total = 0;
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(total),
            n => total += n as u64,
        }
    }
}

/// How long `bytes` take through a plain Unix socket between two threads.
///
/// # Errors
/// What the socket said.
pub fn plain_socket(bytes: u64) -> io::Result<Duration> {
    let (mut near, mut far) = UnixStream::pair()?;
    let start = Instant::now();
    let reader = std::thread::spawn(move || drain(&mut far));
    feed(&mut near, bytes)?;
    drop(near);
    let got = reader.join().expect("draining does not panic")?;
    assert_eq!(got, bytes, "bytes are lost");
    Ok(start.elapsed())
}

/// MiB a second.
pub fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1_048_576.0 / took.as_secs_f64()
}
