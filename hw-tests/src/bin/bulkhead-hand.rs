//! The hand of a test in dom0: runs what it is told to, over a serial port of the machine.
//!
//! `bulkhead-hand PORT`. It is part of the saved machine, waiting; each test that resumes the
//! machine finds it so.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bulkhead_hw_tests::protocol::{self, PART_MAX, Report, Request, Stream, Ticket};

/// How often a port that nobody holds at the other end is looked at.
const NOBODY: Duration = Duration::from_millis(20);

/// Where reports go; one at a time.
type Port = Arc<Mutex<File>>;

/// A program that runs.
struct Running {
    input: Sender<Vec<u8>>,
    group: u32,
}

fn main() -> io::Result<()> {
    let path = std::env::args().nth(1).ok_or(io::ErrorKind::InvalidInput)?;
    let port = File::options().read(true).write(true).open(path)?;
    let mut from = BufReader::with_capacity(PART_MAX, Patient(port.try_clone()?));
    let to: Port = Arc::new(Mutex::new(port));
    let mut running = HashMap::new();
    while let Some(request) = protocol::read(&mut from)? {
        serve(request, &to, &mut running)?;
    }
    Ok(())
}

/// A port reads as ended while nobody holds its other end; this waits for the next to come.
struct Patient(File);

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Ok(0) => thread::sleep(NOBODY),
                read => return read,
            }
        }
    }
}

fn serve(request: Request, to: &Port, running: &mut HashMap<Ticket, Running>) -> io::Result<()> {
    match request {
        Request::Hello(number) => tell(to, &Report::Hello(number)),
        Request::Start { ticket, words } => match start(ticket, &words, to) {
            Ok(started) => {
                running.insert(ticket, started);
                Ok(())
            }
            Err(error) => {
                let why = error.to_string();
                tell(to, &Report::Failed { ticket, why })
            }
        },
        Request::Input { ticket, bytes } => {
            if let Some(program) = running.get(&ticket) {
                // A program that is over takes no more; that is told by its end.
                let _ = program.input.send(bytes);
            }
            Ok(())
        }
        Request::Kill { ticket } => {
            if let Some(program) = running.remove(&ticket) {
                let group = format!("-{}", program.group);
                Command::new("kill")
                    .args(["-KILL", "--", &group])
                    .status()?;
            }
            Ok(())
        }
    }
}

fn tell(to: &Port, report: &Report) -> io::Result<()> {
    let mut to = to.lock().map_err(|_| io::ErrorKind::BrokenPipe)?;
    protocol::write(&mut *to, report)
}

fn start(ticket: Ticket, words: &[String], to: &Port) -> io::Result<Running> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program)
        .args(arguments)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (input, parts) = mpsc::channel::<Vec<u8>>();
    let stdin = child.stdin.take();
    thread::spawn(move || {
        let mut stdin = stdin;
        for part in parts {
            let Some(open) = stdin.as_mut() else { return };
            if part.is_empty() || open.write_all(&part).is_err() {
                stdin = None;
            }
        }
    });
    let pumps = [
        child
            .stdout
            .take()
            .map(|from| pump(ticket, Stream::Out, from, to)),
        child
            .stderr
            .take()
            .map(|from| pump(ticket, Stream::Err, from, to)),
    ];
    let group = child.id();
    let to = Arc::clone(to);
    thread::spawn(move || end(ticket, child, pumps, &to));
    Ok(Running { input, group })
}

fn pump(
    ticket: Ticket,
    stream: Stream,
    mut from: impl Read + Send + 'static,
    to: &Port,
) -> JoinHandle<()> {
    let to = Arc::clone(to);
    thread::spawn(move || {
        let mut buffer = vec![0; PART_MAX];
        while let Ok(length) = from.read(&mut buffer) {
            let bytes = buffer.get(..length).unwrap_or_default().to_vec();
            if length == 0
                || tell(
                    &to,
                    &Report::Output {
                        ticket,
                        stream,
                        bytes,
                    },
                )
                .is_err()
            {
                return;
            }
        }
    })
}

fn end(ticket: Ticket, mut child: Child, pumps: [Option<JoinHandle<()>>; 2], to: &Port) {
    let status = child.wait();
    for pump in pumps.into_iter().flatten() {
        // A pump that fell over has told what it could.
        let _ = pump.join();
    }
    let code = status.map_or(-1, |status| {
        status.code().unwrap_or(128 + status.signal().unwrap_or(0))
    });
    // Where nobody is left to tell, nobody waits.
    let _ = tell(to, &Report::Ended { ticket, code });
}
