//! Filling small files while the next ones are being created.
//!
//! Of the time that a small file takes, its creation is one half and its content, times and
//! closing the other; the first needs the stream, the second does not. A helper thread has it, as far
//! as it keeps up; the rest is done by the thread that reads the stream.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::fs::{Timestamps, futimens};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

/// Longest file that is gathered: copying this much once more costs less than a turn of the threads.
pub(crate) const SMALL: u64 = 16 * 1024;
/// Files, and so descriptors, that are handed over together: enough that waking the helper costs
/// nothing, and with [`AHEAD`] well below the 1,024 descriptors that a process may have.
const FILES_MAX: usize = 64;
/// Bytes that are handed over together: what stays in a core's second-level cache.
const BYTES_MAX: usize = 256 * 1024;
/// Batches that wait for the helper; one more is filled and one emptied meanwhile.
const AHEAD: usize = 2;
/// Descriptors for which there is room before the helper starts: twice what all batches have.
const DESCRIPTORS: i32 = 512;
const _: () = assert!(DESCRIPTORS as usize >= 2 * FILES_MAX * (AHEAD + 2));

/// A file that was created and what it is to be.
#[derive(Debug)]
struct Small {
    file: OwnedFd,
    name_len: usize,
    content_len: usize,
    times: Timestamps,
}

/// Files with their names and contents, one after the other.
#[derive(Debug, Default)]
struct Batch {
    files: Vec<Small>,
    names: Vec<u8>,
    contents: Vec<u8>,
}

impl Batch {
    /// The same memory without any file.
    fn clear(&mut self) {
        self.files.clear();
        self.names.clear();
        self.contents.clear();
    }
}

/// A file that could not be filled.
#[derive(Debug, Clone)]
pub(crate) struct FillError {
    /// Its name, as received.
    pub(crate) name: Vec<u8>,
    pub(crate) source: Errno,
}

type Failure = Arc<Mutex<Option<FillError>>>;

#[derive(Debug)]
struct Worker {
    batches: SyncSender<Batch>,
    /// What it has done, to be used again: fresh memory costs more than what is put into it.
    done: Receiver<Batch>,
    thread: JoinHandle<()>,
}

/// Fills small files of one transfer.
#[derive(Debug, Default)]
pub(crate) struct Filler {
    batch: Batch,
    worker: Option<Worker>,
    /// The first that failed.
    failed: Failure,
}

impl Filler {
    /// Takes a new file called `name`; its content follows.
    pub(crate) fn start(&mut self, file: OwnedFd, name: &[u8], times: Timestamps) {
        self.batch.names.extend_from_slice(name);
        self.batch.files.push(Small {
            file,
            name_len: name.len(),
            content_len: 0,
            times,
        });
    }

    /// The next bytes of the file that was started last.
    pub(crate) fn content(&mut self, bytes: &[u8]) {
        if let Some(last) = self.batch.files.last_mut() {
            last.content_len += bytes.len();
            self.batch.contents.extend_from_slice(bytes);
        }
    }

    /// The file that was started last is complete. An error may be that of a file before.
    pub(crate) fn end(&mut self) -> Result<(), FillError> {
        if self.batch.files.len() < FILES_MAX && self.batch.contents.len() < BYTES_MAX {
            return Ok(());
        }
        self.hand_over();
        self.check()
    }

    /// Waits until every file is complete.
    pub(crate) fn finish(&mut self) -> Result<(), FillError> {
        self.hand_over();
        self.stop();
        self.check()
    }

    /// Has the files at hand filled, by the helper or at once.
    fn hand_over(&mut self) {
        if self.batch.files.is_empty() {
            return;
        }
        if self.worker.is_none() {
            self.worker = self.start_worker();
        }
        let batch = std::mem::take(&mut self.batch);
        let left = match &self.worker {
            Some(worker) => match worker.batches.try_send(batch) {
                Ok(()) => {
                    self.batch = worker.done.try_recv().unwrap_or_default();
                    None
                }
                // The helper has enough to do. Whoever waits for it leaves a processor idle.
                Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => Some(batch),
            },
            None => Some(batch),
        };
        if let Some(mut batch) = left {
            fill(&batch, &self.failed);
            batch.clear();
            self.batch = batch;
        }
    }

    /// None without a thread to spare: then it is done here.
    fn start_worker(&self) -> Option<Worker> {
        self.make_room();
        let failed = Arc::clone(&self.failed);
        let (batches, to_do) = sync_channel::<Batch>(AHEAD);
        let (emptied, done) = channel();
        let work = move || {
            for mut batch in to_do {
                fill(&batch, &failed);
                batch.clear();
                // Not wanted back: the transfer is over.
                let _ = emptied.send(batch);
            }
        };
        let thread = thread::Builder::new().name("fill".to_owned()).spawn(work);
        let thread = thread.ok()?;
        Some(Worker {
            batches,
            done,
            thread,
        })
    }

    /// Lets the kernel's table of our descriptors grow now. Once threads share it, each growth
    /// waits until no processor can be using the old one, which takes some 20 ms.
    fn make_room(&self) {
        if let Some(any) = self.batch.files.first() {
            // Less room only costs time.
            let _ = fcntl_dupfd_cloexec(&any.file, DESCRIPTORS - 1);
        }
    }

    fn check(&self) -> Result<(), FillError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.clone().map_or(Ok(()), Err)
    }

    fn stop(&mut self) {
        if let Some(worker) = self.worker.take() {
            drop(worker.batches);
            // It cannot panic: nothing in it does.
            let _ = worker.thread.join();
        }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.stop();
    }
}

fn fill(batch: &Batch, failed: &Failure) {
    let (mut names, mut contents) = (batch.names.as_slice(), batch.contents.as_slice());
    for small in &batch.files {
        let (name, next_names) = names.split_at(small.name_len.min(names.len()));
        let (content, next) = contents.split_at(small.content_len.min(contents.len()));
        (names, contents) = (next_names, next);
        let written = write_all(&small.file, content);
        if let Err(source) = written.and_then(|()| futimens(&small.file, &small.times)) {
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| FillError {
                name: name.to_vec(),
                source,
            });
            return;
        }
    }
}

/// Writes all of `bytes`.
pub(crate) fn write_all(file: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(file, rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(source) => return Err(source),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read;

    use bulkhead_wire::filecopy::Stamp;

    use super::super::tree::times;
    use super::*;

    const EPOCH: Stamp = Stamp {
        seconds: 0,
        nanos: 0,
    };

    /// Descriptors for which this process's table has room.
    fn room() -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
        line.unwrap().trim().parse().unwrap()
    }

    #[test]
    fn there_is_room_for_all_descriptors_before_the_helper_starts() {
        let folder = tempfile::tempdir().unwrap();
        let mut filler = Filler::default();
        for number in 0..FILES_MAX {
            let file = File::create(folder.path().join(number.to_string())).unwrap();
            filler.start(file.into(), b"file", times(EPOCH, EPOCH));
            filler.content(b"content");
            filler.end().unwrap();
        }
        assert!(filler.worker.is_some());
        assert!(room() >= usize::try_from(DESCRIPTORS).unwrap());
        filler.finish().unwrap();
    }

    fn add(filler: &mut Filler, file: OwnedFd, content: &[u8]) {
        filler.start(file, b"file", times(EPOCH, EPOCH));
        filler.content(content);
        filler.end().unwrap();
    }

    /// It would wait here for ever if the helper had to have them all.
    #[test]
    fn what_the_helper_cannot_take_is_filled_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |number: usize| folder.path().join(number.to_string());
        let create = |number| OwnedFd::from(File::create(path(number)).unwrap());
        let mut filler = Filler::default();
        // A pipe that nobody reads keeps the helper, which has one batch and [`AHEAD`] to come.
        let (mut reader, writer) = std::io::pipe().unwrap();
        let more_than_fits = vec![1; BYTES_MAX];
        add(&mut filler, writer.into(), &more_than_fits);
        let files = FILES_MAX * (AHEAD + 2);
        for number in 0..files {
            add(&mut filler, create(number), b"content");
        }
        let filled = |number: &usize| fs::read(path(*number)).unwrap() == b"content";
        assert!((0..files).filter(filled).count() >= 2 * FILES_MAX);
        assert!(!filled(&0));
        let mut sent = vec![0; more_than_fits.len()];
        reader.read_exact(&mut sent).unwrap();
        filler.finish().unwrap();
        for number in 0..files {
            assert_eq!(fs::read(path(number)).unwrap(), b"content", "{number}");
        }
    }
}
