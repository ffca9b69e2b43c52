//! Tells when files that make up the policy change.
//!
//! Folders are watched, not files: an editor that renames a new file over the old one, or deletes
//! it first, changes the folder. Each folder above is watched for the one name that leads down, and
//! so is whatever a symbolic link leads to.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use tokio::io::Interest as Readiness;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout};

/// Pause after the last change before files are read: what one command does is done by then.
pub(super) const QUIET: Duration = Duration::from_millis(50);
/// Pause after a reading before it counts, in which changes made during it become known.
pub(super) const AFTERMATH: Duration = Duration::from_millis(25);
/// Longest time for which changes that go on delay a reading.
pub(super) const CHURN_MAX: Duration = Duration::from_secs(1);
/// Longest time for which a file that somebody is writing is waited for; then it is an error.
pub(super) const WRITER_MAX: Duration = Duration::from_secs(5);
/// Paths looked at to find what to watch: ten thousand files, the folders above and the links.
const PATHS_MAX: usize = 50_000;

/// What of a folder counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Interest {
    /// Every name, since the folder is listed.
    all: bool,
    /// Else these.
    names: BTreeSet<OsString>,
    /// Whether what is in these files counts, and not only that they are there.
    contents: bool,
}

#[derive(Debug)]
struct Watched {
    folder: PathBuf,
    interest: Interest,
}

/// One change.
#[derive(Debug)]
struct Seen {
    watch: i32,
    what: ReadFlags,
    name: Option<OsString>,
}

/// A watch on everything that a policy is made of.
#[derive(Debug)]
pub(super) struct Watch {
    fd: AsyncFd<OwnedFd>,
    watched: HashMap<i32, Watched>,
    /// Files that were changed and not closed since.
    writing: BTreeSet<PathBuf>,
    /// Some change was not told of yet.
    pending: bool,
}

/// Files that editors leave beside those they edit.
fn is_of_an_editor(name: &OsString) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") || name.starts_with(b"#") || name.ends_with(b"~")
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Ok(Self {
            fd: crate::aio::watch(inotify::init(flags)?, Readiness::READABLE)?,
            watched: HashMap::new(),
            writing: BTreeSet::new(),
            pending: false,
        })
    }

    /// Watches everything on which a reading of `paths` depends, and nothing else. True if a
    /// folder is watched now that was not: what changed in it before was not seen.
    pub(super) fn want(&mut self, paths: &BTreeSet<PathBuf>) -> io::Result<bool> {
        let mut kept = HashMap::new();
        let mut grew = false;
        for (folder, interest) in interests(paths) {
            let mut events = WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::MOVE
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            // Not where only a folder on the way is of interest: `/tmp` would never be quiet.
            if interest.contents {
                events |= WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB;
            }
            match inotify::add_watch(self.fd.get_ref(), &folder, events) {
                Ok(watch) => {
                    let old = self.watched.remove(&watch);
                    let old: Option<Watched> = old.or_else(|| kept.remove(&watch));
                    let mut watched = Watched { folder, interest };
                    match old {
                        // One folder under two names.
                        Some(old) if old.folder != watched.folder => {
                            watched.interest.all |= old.interest.all;
                            watched.interest.names.extend(old.interest.names);
                        }
                        Some(old) => {
                            grew |= !watched.interest.is_within(&old.interest);
                        }
                        None => grew = true,
                    }
                    kept.insert(watch, watched);
                }
                // Gone, or not to be seen: then a folder above tells when that changes.
                Err(e) if is_unreachable(e) => {}
                Err(e) => return Err(e.into()),
            }
        }
        for watch in self.watched.keys() {
            // It went with its folder.
            let _ = inotify::remove_watch(self.fd.get_ref(), *watch);
        }
        self.watched = kept;
        Ok(grew)
    }

    /// Waits for a change that counts, and then until changes pause.
    pub(super) async fn settled(&mut self) -> io::Result<()> {
        while !self.pending {
            self.wait().await?;
        }
        let began = Instant::now();
        loop {
            let longest = if self.writing.is_empty() {
                CHURN_MAX
            } else {
                WRITER_MAX
            };
            let left = longest.saturating_sub(began.elapsed());
            let pause = if self.writing.is_empty() {
                QUIET.min(left)
            } else {
                left
            };
            match timeout(pause, self.wait()).await {
                Ok(waited) => waited?,
                Err(_) => break,
            }
        }
        self.pending = false;
        Ok(())
    }

    /// Whether anything that counts has changed since it was last asked or waited for.
    pub(super) fn changed(&mut self) -> io::Result<bool> {
        self.look()?;
        Ok(std::mem::take(&mut self.pending))
    }

    /// Notes that everything must be looked at again.
    pub(super) fn doubt(&mut self) {
        self.pending = true;
    }

    /// Files that somebody is writing now.
    pub(super) fn writing(&self) -> &BTreeSet<PathBuf> {
        &self.writing
    }

    async fn wait(&mut self) -> io::Result<()> {
        let mut ready = self.fd.readable().await?;
        ready.clear_ready();
        drop(ready);
        self.look()
    }

    fn look(&mut self) -> io::Result<()> {
        for seen in read(self.fd.get_ref())? {
            self.note(seen);
        }
        Ok(())
    }

    fn note(&mut self, seen: Seen) {
        let lost = ReadFlags::QUEUE_OVERFLOW;
        if seen.what.intersects(lost) {
            self.writing.clear();
            self.pending = true;
            return;
        }
        let Some(watched) = self.watched.get(&seen.watch) else {
            return;
        };
        if seen.what.intersects(ReadFlags::IGNORED) {
            self.watched.remove(&seen.watch);
            self.pending = true;
            return;
        }
        let Some(name) = seen.name else {
            // The folder itself.
            let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::ATTRIB;
            self.pending |= seen.what.intersects(gone);
            return;
        };
        let listed = watched.interest.all && !is_of_an_editor(&name);
        if !listed && !watched.interest.names.contains(&name) {
            return;
        }
        let path = watched.folder.join(name);
        if seen.what.intersects(ReadFlags::MODIFY) {
            self.writing.insert(path);
        } else if !seen.what.intersects(ReadFlags::ATTRIB) {
            // Closed, gone, or another file under its name.
            self.writing.remove(&path);
        }
        self.pending = true;
    }
}

fn is_unreachable(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(
        error,
        Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP | Errno::NAMETOOLONG
    )
}

impl Interest {
    fn is_within(&self, other: &Self) -> bool {
        (other.contents || !self.contents)
            && (other.all || (!self.all && self.names.is_subset(&other.names)))
    }
}

/// The folders on which `paths` depend, and what of each.
fn interests(paths: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, Interest> {
    let mut found: BTreeMap<PathBuf, Interest> = BTreeMap::new();
    let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
    // Each with whether it is, or leads by links to, what was asked for.
    let mut waiting: VecDeque<(PathBuf, bool)> =
        (paths.iter().map(|path| (path.clone(), true))).collect();
    while let Some((path, asked)) = waiting.pop_front() {
        if seen.len() >= PATHS_MAX || !seen.insert(path.clone()) {
            continue;
        }
        let is_folder = path.is_dir();
        if asked && is_folder {
            let interest = found.entry(path.clone()).or_default();
            (interest.all, interest.contents) = (true, true);
        }
        if let Ok(link) = std::fs::read_link(&path) {
            let target = path.parent().unwrap_or(Path::new("/")).join(link);
            waiting.push_front((target, asked));
        }
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
            let interest = found.entry(folder.to_owned()).or_default();
            interest.names.insert(name.to_owned());
            interest.contents |= asked && !is_folder;
            waiting.push_back((folder.to_owned(), false));
        }
    }
    found
}

fn read(fd: &OwnedFd) -> io::Result<Vec<Seen>> {
    let mut space = [MaybeUninit::uninit(); 16 * 1024];
    let mut reader = inotify::Reader::new(fd, &mut space);
    let mut all = Vec::new();
    loop {
        match reader.next() {
            Ok(event) => all.push(Seen {
                watch: event.wd(),
                what: event.events(),
                name: (event.file_name()).map(|name| OsString::from_vec(name.to_bytes().to_vec())),
            }),
            Err(rustix::io::Errno::AGAIN) => return Ok(all),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn paths(list: &[PathBuf]) -> BTreeSet<PathBuf> {
        list.iter().cloned().collect()
    }

    async fn is_told(watch: &mut Watch, what: &str) {
        let told = timeout(Duration::from_secs(60), watch.settled()).await;
        told.unwrap_or_else(|_| panic!("not told: {what}")).unwrap();
    }

    #[tokio::test]
    async fn every_way_to_save_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("policy.d");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("30.policy");
        fs::write(&file, "a").unwrap();
        let mut watch = Watch::new().unwrap();
        let wanted = paths(&[folder.clone(), file.clone()]);
        assert!(watch.want(&wanted).unwrap());
        assert!(!watch.want(&wanted).unwrap());
        fs::write(&file, "in place").unwrap();
        is_told(&mut watch, "written in place").await;
        fs::write(folder.join(".30.policy.swp"), "beside").unwrap();
        assert!(!watch.changed().unwrap(), "an editor's own file");
        fs::rename(folder.join(".30.policy.swp"), &file).unwrap();
        is_told(&mut watch, "renamed over").await;
        fs::remove_file(&file).unwrap();
        is_told(&mut watch, "deleted").await;
        fs::write(&file, "again").unwrap();
        is_told(&mut watch, "created").await;
        fs::rename(&folder, dir.path().join("away")).unwrap();
        is_told(&mut watch, "the folder is gone").await;
        watch.want(&wanted).unwrap();
        fs::rename(dir.path().join("away"), &folder).unwrap();
        is_told(&mut watch, "the folder is back").await;
        assert!(watch.want(&wanted).unwrap());
        fs::write(&file, "in place").unwrap();
        is_told(&mut watch, "written after that").await;
    }

    #[tokio::test]
    async fn a_file_behind_links_is_watched_too() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["policy.d", "real", "other"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let real = dir.path().join("real/file");
        fs::write(&real, "a").unwrap();
        let file = dir.path().join("policy.d/30.policy");
        std::os::unix::fs::symlink("../hop", &file).unwrap();
        std::os::unix::fs::symlink("real/file", dir.path().join("hop")).unwrap();
        let mut watch = Watch::new().unwrap();
        let wanted = paths(&[dir.path().join("policy.d"), file]);
        watch.want(&wanted).unwrap();
        fs::write(&real, "b").unwrap();
        is_told(&mut watch, "what the links lead to").await;
        fs::write(dir.path().join("other/x"), "b").unwrap();
        assert!(!watch.changed().unwrap(), "what nobody asked for");
        fs::remove_file(dir.path().join("hop")).unwrap();
        is_told(&mut watch, "a link on the way").await;
    }

    #[tokio::test]
    async fn a_file_that_is_open_and_changed_is_being_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("30.policy");
        let mut watch = Watch::new().unwrap();
        watch.want(&paths(&[dir.path().to_owned()])).unwrap();
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert!(watch.changed().unwrap());
        assert_eq!(watch.writing(), &paths(&[path]));
        drop(file);
        assert!(watch.changed().unwrap());
        assert!(watch.writing().is_empty());
    }
}
