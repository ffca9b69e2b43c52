//! A receiving home folder, a transfer to it, and streams made by hand.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bulkhead_wire::filecopy::{Dialect, Limits, Names, Outcome};
use qube_agent::filecopy::{Place, ReceiveError, ReceiveOptions, SendError, Sent, pack, receive};
use tempfile::TempDir;

pub(crate) const PLAIN: ReceiveOptions = ReceiveOptions {
    names: Names::Listed,
    dialect: Dialect::Plain,
    limits: Limits { bytes: 0, files: 0 },
};

/// A receiving qube's home folder.
pub(crate) struct Home(pub(crate) TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    pub(crate) fn place(&self) -> Place {
        Place::open(self.0.path(), &self.state(), "work").unwrap()
    }

    pub(crate) fn incoming(&self) -> PathBuf {
        self.0.path().join("QubesIncoming/work")
    }

    pub(crate) fn receive(&self, stream: &[u8]) -> (Outcome, Result<(), ReceiveError>) {
        receive(&mut &stream[..], &self.place(), PLAIN)
    }

    /// Every path below the home folder but the folders that are always there.
    #[track_caller]
    pub(crate) fn assert_nothing_but(&self, expected: &[&str]) {
        let mut found = Vec::new();
        list(self.0.path(), &mut found);
        let base = self.0.path().to_str().unwrap().len() + 1;
        let usual = [
            "QubesIncoming",
            "QubesIncoming/work",
            "state",
            "state/bulkhead",
            "state/bulkhead/filecopy",
        ];
        let mut found: Vec<&str> = found.iter().map(|path| &path[base..]).collect();
        found.retain(|path| !usual.contains(path));
        found.sort_unstable();
        assert_eq!(found, expected);
    }
}

fn list(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.to_str().unwrap().to_owned());
        if path.symlink_metadata().unwrap().is_dir() {
            list(&path, found);
        }
    }
}

/// Sends `paths` to `home`; what either end says.
pub(crate) fn transfer(
    paths: &[PathBuf],
    home: &Home,
) -> (Result<Sent, SendError>, Result<(), ReceiveError>) {
    let (out, mut input) = UnixStream::pair().unwrap();
    let (answer, mut output) = UnixStream::pair().unwrap();
    let place = home.place();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let (outcome, result) = receive(&mut input, &place, PLAIN);
            // As a service does: the answer, and then it is gone.
            let _ = output.write_all(&outcome.encode());
            result
        });
        let sent = pack(paths, out.into(), answer.into(), &mut |_| {});
        (sent, receiver.join().unwrap())
    })
}

pub(crate) fn set_time(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// Builds streams by hand, right or wrong.
#[derive(Clone, Default)]
pub(crate) struct Stream {
    pub(crate) bytes: Vec<u8>,
}

impl Stream {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn header(mut self, name: &[u8], mode: u32, length: u64, nanos: u32) -> Self {
        let namelen = name.len() as u32 + 1;
        self.bytes.extend_from_slice(&namelen.to_le_bytes());
        self.bytes.extend_from_slice(&mode.to_le_bytes());
        self.bytes.extend_from_slice(&length.to_le_bytes());
        for word in [0, nanos, 0, nanos] {
            self.bytes.extend_from_slice(&u32::to_le_bytes(word));
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        let length = content.len() as u64;
        self.header(name.as_bytes(), 0o100_644, length, 0)
            .raw(content)
    }

    pub(crate) fn dir(self, name: &str, permissions: u32) -> Self {
        self.header(name.as_bytes(), 0o040_000 | permissions, 0, 0)
    }

    pub(crate) fn link(self, name: &str, target: &str) -> Self {
        let length = target.len() as u64;
        self.header(name.as_bytes(), 0o120_777, length, 0)
            .raw(target.as_bytes())
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.raw(&[0; 32]).bytes
    }
}
