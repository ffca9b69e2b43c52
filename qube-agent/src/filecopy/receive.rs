//! Receiving one transfer.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use bulkhead_wire::filecopy::{Decoder, Dialect, Entry, Event, Kind, Limits, Names, Outcome, code};
use rustix::fs::{AtFlags, Mode, fchmod, futimens, statat};
use rustix::io::Errno;

use super::CHUNK;
use super::error::ReceiveError;
use super::fill::{self, FillError, Filler};
use super::flush::Flusher;
use super::kept::{self, Kept, KeptFile};
use super::place::{Place, Staging};
use super::tree::{Tree, mode, move_into, names_in, times};

/// How a transfer is received.
#[derive(Debug, Clone, Copy)]
pub struct ReceiveOptions {
    /// Which names may be created.
    pub names: Names,
    /// What the sender speaks.
    pub dialect: Dialect,
    /// Bounds on the whole transfer.
    pub limits: Limits,
}

/// Receives one transfer from `input` into `place`, and returns what the sender is to be told and
/// what went wrong. Clears the process's umask: received permissions are taken over as they are.
pub fn receive(
    input: &mut impl Read,
    place: &Place,
    options: ReceiveOptions,
) -> (Outcome, Result<(), ReceiveError>) {
    let mut decoder = Decoder::new(options.dialect, options.names, options.limits);
    let result = receive_into(input, place, &mut decoder);
    place.tidy();
    let outcome = Outcome {
        code: match &result {
            Ok(()) => code::OK,
            Err(error) => error.code(),
        },
        crc: decoder.crc(),
        last_name: Some(match &result {
            Err(ReceiveError::Write { name, .. }) => name.clone().into_bytes(),
            _ => decoder.last_name().to_vec(),
        }),
    };
    (outcome, result)
}

fn receive_into(
    input: &mut impl Read,
    place: &Place,
    decoder: &mut Decoder,
) -> Result<(), ReceiveError> {
    rustix::process::umask(Mode::empty());
    let mut receiver = Receiver::new(place)?;
    let result = receiver.read(input, decoder);
    // Every file is complete, or the first that is not says why.
    let filled = receiver.filler.finish().map_err(write);
    match result.and(filled) {
        Ok(()) => receiver.commit(),
        Err(error) => {
            receiver.abandon(&error);
            Err(error)
        }
    }
}

/// The file that is being received.
#[derive(Debug)]
enum Open {
    /// With the [`Filler`].
    Gathered,
    Small(OwnedFd),
    /// Large, but another transfer has its place among the kept files.
    Large(OwnedFd),
    Kept(KeptFile),
}

impl Open {
    /// None: not at hand here.
    fn file(&self) -> Option<&OwnedFd> {
        match self {
            Self::Gathered => None,
            Self::Small(file) | Self::Large(file) => Some(file),
            Self::Kept(kept) => Some(&kept.file),
        }
    }
}

#[derive(Debug)]
struct Receiver<'a> {
    place: &'a Place,
    tree: Tree,
    kept: Option<Kept>,
    /// Large files that are complete, in the order in which they came.
    complete: Vec<KeptFile>,
    open: Option<(Open, rustix::fs::Timestamps, Mode)>,
    filler: Filler,
    flusher: Flusher,
    /// Last: removed when everything that points into it is gone.
    staging: Staging,
}

impl<'a> Receiver<'a> {
    fn new(place: &'a Place) -> Result<Self, ReceiveError> {
        let staging = place.stage()?;
        let root = rustix::io::fcntl_dupfd_cloexec(staging.folder(), 0)
            .map_err(|source| place.error(source))?;
        Ok(Self {
            place,
            tree: Tree::new(root),
            kept: None,
            complete: Vec::new(),
            open: None,
            filler: Filler::default(),
            flusher: Flusher::new(),
            staging,
        })
    }

    fn read(&mut self, input: &mut impl Read, decoder: &mut Decoder) -> Result<(), ReceiveError> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = match input.read(&mut buffer) {
                Ok(0) => return Ok(decoder.finish()?),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ReceiveError::Read(error)),
            };
            let mut bytes = buffer.get(..count).unwrap_or_default();
            while let Some(event) = decoder.next(&mut bytes)? {
                match event {
                    Event::Entry(entry) => self.entry(&entry)?,
                    Event::Link { entry, target } => {
                        let made = self.tree.create_link(entry.name, target);
                        made.map_err(|source| create(entry.name, source))?;
                    }
                    Event::Content(content) => self.content(content)?,
                    Event::FileEnd => self.file_end()?,
                    Event::End { .. } => return Ok(()),
                }
            }
        }
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), ReceiveError> {
        let failed = |source| create(entry.name, source);
        let times = times(entry.atime, entry.mtime);
        match entry.kind {
            Kind::Directory => {
                if self.tree.create_dir(entry.name).map_err(failed)? {
                    self.refuse_taken(entry.name)
                } else {
                    self.tree
                        .finish_dir(entry.name, entry.permissions, &times)
                        .map_err(failed)
                }
            }
            Kind::File { size, offset } => {
                let permissions = mode(entry.permissions);
                let file = self
                    .tree
                    .create_file(entry.name, permissions)
                    .map_err(failed)?;
                self.refuse_taken(entry.name)?;
                let open = if size >= kept::LARGE {
                    self.open_large(entry, file)?
                } else if offset != 0 {
                    return Err(ReceiveError::Resume(printable(entry.name)));
                } else if size <= fill::SMALL && self.flusher.has_many() {
                    self.filler.start(file, entry.name, times.clone());
                    Open::Gathered
                } else {
                    Open::Small(file)
                };
                self.open = Some((open, times, permissions));
                Ok(())
            }
            Kind::Link { .. } => Ok(()),
        }
    }

    /// A large file goes among the kept ones if there is room; `placeholder` keeps its name.
    fn open_large(
        &mut self,
        entry: &Entry<'_>,
        placeholder: OwnedFd,
    ) -> Result<Open, ReceiveError> {
        let continues = matches!(entry.kind, Kind::File { offset: 1.., .. });
        let failed = |source| match source {
            Errno::INVAL | Errno::NOENT | Errno::WOULDBLOCK if continues => {
                ReceiveError::Resume(printable(entry.name))
            }
            source => create(entry.name, source),
        };
        if self.complete.len() >= kept::FILES_MAX && !continues {
            return Ok(Open::Large(placeholder));
        }
        let kept = match &mut self.kept {
            Some(kept) => kept,
            none => none.insert(Kept::open(self.place).map_err(|source| self.place.error(source))?),
        };
        Ok(match kept.start(entry).map_err(failed)? {
            Some(file) => Open::Kept(file),
            None => Open::Large(placeholder),
        })
    }

    /// A top-level name that is taken is refused now, not after gigabytes.
    fn refuse_taken(&self, name: &[u8]) -> Result<(), ReceiveError> {
        if name.contains(&b'/') {
            return Ok(());
        }
        let leaf = OsStr::from_bytes(name);
        match statat(self.place.incoming(), leaf, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(ReceiveError::Exists(printable(name))),
            Err(Errno::NOENT) => Ok(()),
            Err(source) => Err(create(name, source)),
        }
    }

    fn content(&mut self, content: &[u8]) -> Result<(), ReceiveError> {
        let Some((open, ..)) = &self.open else {
            return Ok(());
        };
        let Some(file) = open.file() else {
            self.filler.content(content);
            return Ok(());
        };
        fill::write_all(file, content).map_err(|source| self.create_open(source))?;
        if !matches!(open, Open::Small(_)) {
            self.flusher.written(file, content.len());
        }
        Ok(())
    }

    fn create_open(&self, source: Errno) -> ReceiveError {
        match &self.open {
            Some((Open::Kept(kept), ..)) => create(&kept.name, source),
            _ => create(b"a file", source),
        }
    }

    fn file_end(&mut self) -> Result<(), ReceiveError> {
        let Some((open, times, permissions)) = self.open.take() else {
            return Ok(());
        };
        let failed = |source| create(b"a file", source);
        let Some(file) = open.file() else {
            return self.filler.end().map_err(write);
        };
        if let Open::Kept(_) = open {
            fchmod(file, permissions).map_err(failed)?;
        }
        futimens(file, &times).map_err(failed)?;
        match open {
            Open::Gathered => Ok(()),
            Open::Small(file) => {
                self.flusher.small_done(file);
                Ok(())
            }
            Open::Large(file) => self.flusher.large_done(&file),
            Open::Kept(kept) => {
                let done = self.flusher.large_done(&kept.file);
                self.complete.push(kept);
                done
            }
        }
        .map_err(ReceiveError::Flush)
    }

    /// The transfer is whole: everything goes where it belongs, or nothing does.
    fn commit(mut self) -> Result<(), ReceiveError> {
        if let Some(kept) = &self.kept {
            for large in &self.complete {
                self.tree
                    .replace_file(kept.folder().as_fd(), OsStr::new(&large.key), &large.name)
                    .map_err(|source| create(&large.name, source))?;
                kept.remove(&large.key);
            }
        }
        let (from, to) = (self.staging.folder().as_fd(), self.place.incoming().as_fd());
        let names = names_in(from).map_err(|source| self.place.error(source))?;
        for (number, name) in names.iter().enumerate() {
            let Err(source) = move_into(from, to, name) else {
                continue;
            };
            for moved in names.iter().take(number) {
                // What cannot be taken back is at least whole.
                let _ = move_into(to, from, moved);
            }
            return Err(match source {
                Errno::EXIST => ReceiveError::Exists(printable(name)),
                source => create(name, source),
            });
        }
        self.flusher
            .finish(self.place.incoming())
            .map_err(ReceiveError::Flush)
    }

    /// The transfer is broken or refused. Staging goes away by itself; starts of large files stay
    /// only if the sender or the connection went away.
    fn abandon(mut self, error: &ReceiveError) {
        let Some(kept) = &self.kept else {
            return;
        };
        if let Some((Open::Kept(file), ..)) = self.open.take() {
            self.complete.push(file);
        }
        if error.is_interruption() {
            self.complete.clear();
            kept.prune(std::time::SystemTime::now());
        } else {
            for file in &self.complete {
                kept.remove(&file.key);
            }
        }
    }
}

fn create(name: &[u8], source: Errno) -> ReceiveError {
    match source {
        Errno::EXIST => ReceiveError::Exists(printable(name)),
        source => ReceiveError::Create {
            name: printable(name),
            source,
        },
    }
}

fn write(error: FillError) -> ReceiveError {
    ReceiveError::Write {
        name: printable(&error.name),
        source: error.source,
    }
}

/// A name from another qube, fit for a message.
fn printable(name: &[u8]) -> String {
    let outcome = Outcome {
        code: 0,
        crc: 0,
        last_name: Some(name.to_vec()),
    };
    outcome.shown_name().unwrap_or_default()
}
