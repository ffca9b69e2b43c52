//! The test's end of the line to `bulkhead-hand` in dom0.

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::line::{Line, Running, Said};
use crate::protocol::{self, PART_MAX, Report, Request, Stream, Ticket};

/// Programs that wait for reports.
type Waiting = Arc<Mutex<HashMap<Ticket, Sender<Said>>>>;

/// The line to one dom0.
#[derive(Debug, Clone)]
pub struct Hand {
    to: Arc<Mutex<UnixStream>>,
    waiting: Waiting,
    next: Arc<AtomicU32>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hand {
    /// Connects to the machine's port at `path` and waits until dom0 answers.
    pub(crate) fn connect(path: &Path, within: Duration) -> Result<Self> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("cannot connect to {}", path.display()))?;
        let end = Instant::now() + within;
        let number = u64::from(std::process::id()) << 32 | 1;
        stream.set_read_timeout(Some(within))?;
        let mut from = BufReader::with_capacity(PART_MAX, stream.try_clone()?);
        protocol::write(&mut (&stream), &Request::Hello(number))?;
        loop {
            let report = protocol::read(&mut from).context("dom0 does not answer")?;
            match report.context("the machine closed its port")? {
                Report::Hello(answer) if answer == number => break,
                // Left over from before the machine was saved.
                _ if Instant::now() < end => {}
                _ => bail!("dom0 does not answer"),
            }
        }
        stream.set_read_timeout(None)?;
        let waiting = Waiting::default();
        let told = Arc::clone(&waiting);
        thread::spawn(move || {
            while let Ok(Some(report)) = protocol::read(&mut from) {
                deliver(report, &told);
            }
            // Whoever waits learns by their closed channel that nothing more will come.
            locked(&told).clear();
        });
        Ok(Self {
            to: Arc::new(Mutex::new(stream)),
            waiting,
            next: Arc::default(),
        })
    }

    fn send(&self, request: &Request) -> Result<()> {
        let mut to = locked(&self.to);
        protocol::write(&mut *to, request).context("cannot write to dom0")?;
        to.flush().context("cannot write to dom0")
    }
}

fn deliver(report: Report, waiting: &Waiting) {
    let (ticket, said, last) = match report {
        Report::Hello(_) => return,
        Report::Output {
            ticket,
            stream,
            bytes,
        } => match stream {
            Stream::Out => (ticket, Said::Out(bytes), false),
            Stream::Err => (ticket, Said::Err(bytes), false),
        },
        Report::Ended { ticket, code } => (ticket, Said::Ended(code), true),
        Report::Failed { ticket, why } => (ticket, Said::Failed(why), true),
    };
    let mut waiting = locked(waiting);
    if let Some(listener) = waiting.get(&ticket) {
        // A test that has lost interest is no error.
        let _ = listener.send(said);
    }
    if last {
        waiting.remove(&ticket);
    }
}

impl Line for Hand {
    fn start(&self, words: &[&str]) -> Result<Running> {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, said): (_, Receiver<Said>) = mpsc::channel();
        locked(&self.waiting).insert(ticket, tell);
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let what = words.join(" ");
        self.send(&Request::Start { ticket, words })?;
        let (input, kill) = (self.clone(), self.clone());
        Ok(Running::new(
            what,
            said,
            Box::new(move |bytes| {
                if bytes.is_empty() {
                    return input.send(&Request::Input {
                        ticket,
                        bytes: Vec::new(),
                    });
                }
                bytes.chunks(PART_MAX).try_for_each(|part| {
                    let bytes = part.to_vec();
                    input.send(&Request::Input { ticket, bytes })
                })
            }),
            Box::new(move || kill.send(&Request::Kill { ticket })),
        ))
    }
}
