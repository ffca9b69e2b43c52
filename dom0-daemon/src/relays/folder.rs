//! A qube's folder of sockets, as dom0 handles it.
//!
//! The qube may put anything in it at any time. So dom0 makes its own sockets in a folder beside
//! it and moves them in, and reaches those of the qube only through `guard`.

use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bulkhead_vchan::guard;
use rustix::fs::{Mode, inotify};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Connections that may wait on a socket of ours: a vchan has one client, a qrexec socket some.
const BACKLOG: i32 = 16;

/// A qube's folder of sockets and ours beside it.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: File,
    own: File,
    path: PathBuf,
}

impl Folder {
    /// Opens `path`, and `own`, which no qube sees; both exist.
    pub(crate) fn open(path: &Path, own: &Path) -> io::Result<Self> {
        Ok(Self {
            dir: File::open(path)?,
            own: File::open(own)?,
            path: path.to_owned(),
        })
    }

    /// Listens on `name` in the qube's folder.
    pub(crate) fn listen(&self, name: &str) -> io::Result<OwnedFd> {
        let socket = listen_in(self.own.as_fd(), name)?;
        match rustix::fs::renameat(&self.own, name, &self.dir, name) {
            Ok(()) => Ok(socket),
            Err(e) => {
                guard::unlink(&self.own, name)?;
                Err(e.into())
            }
        }
    }

    /// Connects to the qube's socket `name`; never blocks.
    pub(crate) fn connect(&self, name: &str) -> io::Result<UnixStream> {
        guard::connect_at(&self.dir, name)
    }

    /// Lets the qube of `to` reach this qube's socket `name`.
    pub(crate) fn share(&self, to: &Self, name: &str) -> io::Result<()> {
        guard::open_to_all(&self.dir, name)?;
        match guard::link_socket(&self.dir, &to.dir, name) {
            // A folder in the way would leave the caller waiting: out of the qube's sight with it.
            Err(e) if e.kind() == io::ErrorKind::IsADirectory => {
                rustix::fs::renameat(&to.dir, name, &to.own, format!("litter.{name}"))?;
                guard::link_socket(&self.dir, &to.dir, name)
            }
            other => other,
        }
    }

    /// Whether `name` is a socket of this folder that was given the same name in `to`.
    pub(crate) fn shares(&self, to: &Self, name: &str) -> bool {
        let inode = |folder: &Self| -> io::Result<(u64, u64)> {
            let stat = rustix::fs::fstat(guard::open_socket(&folder.dir, name)?)?;
            Ok((stat.st_dev, stat.st_ino))
        };
        matches!((inode(self), inode(to)), (Ok(here), Ok(there)) if here == there)
    }

    /// Removes `name`; failures are the qube's own doing and only noted.
    pub(crate) fn remove(&self, name: &str) {
        if let Err(error) = guard::unlink(&self.dir, name) {
            tracing::debug!(folder = %self.path.display(), name, %error, "socket stays behind");
        }
    }

    /// Names of what is there now; what is no text in one of them is replaced.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            if names.len() >= NAMES_MAX {
                break;
            }
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    /// Whether the qube has given the folder itself attributes.
    pub(crate) fn has_attributes(&self) -> bool {
        let mut names = [0; ATTRIBUTES_MAX];
        match rustix::fs::flistxattr(&self.dir, &mut names) {
            Ok(length) => names
                .get(..length)
                .is_some_and(|names| names.split(|byte| *byte == 0).any(is_the_qubes)),
            // More of them than the machine itself gives.
            Err(error) => error == rustix::io::Errno::RANGE,
        }
    }

    /// Tells of new names and attributes from now on.
    pub(crate) fn watch(&self) -> io::Result<Watch> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let fd = inotify::init(flags)?;
        let events = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::ATTRIB;
        inotify::add_watch(&fd, &self.path, events | inotify::WatchFlags::ONLYDIR)?;
        Ok(Watch(crate::aio::watch(fd, Interest::READABLE)?))
    }
}

/// Names looked at in one folder: 768 connections and some; the rest is the qube's own litter.
const NAMES_MAX: usize = 4096;

/// Bytes of all names of attributes that the machine itself may give a folder: labels of its
/// security modules, access lists.
const ATTRIBUTES_MAX: usize = 1024;

/// Attributes that a qube can give; the others need rights that it does not have, or are a label
/// or an access list, which are replaced and not added to.
fn is_the_qubes(name: &[u8]) -> bool {
    name.starts_with(b"user.")
}

/// A listening socket at `name` in `folder`, for anyone who can see it.
fn listen_in(folder: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    guard::unlink(folder, name)?;
    // Through /proc, because a path of a socket may have 107 bytes only.
    let path = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let mode = Mode::from_raw_mode(guard::SOCKET_MODE);
    rustix::fs::chmodat(folder, name, mode, rustix::fs::AtFlags::empty())?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Listens at `path`, in a folder of dom0's own.
pub(crate) fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    listen_in(File::open(parent)?.as_fd(), name)
}

/// What is new in a folder.
#[derive(Debug)]
pub(crate) struct Watch(AsyncFd<OwnedFd>);

/// One look at a [`Watch`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// New names, in order.
    pub(crate) names: Vec<String>,
    /// Names were lost: look at all of them.
    pub(crate) overflow: bool,
    /// The folder's own attributes changed.
    pub(crate) attributes: bool,
}

impl Watch {
    /// Waits for news.
    pub(crate) async fn next(&self) -> io::Result<News> {
        loop {
            let mut ready = self.0.readable().await?;
            let news = read_news(self.0.get_ref())?;
            if news != News::default() {
                return Ok(news);
            }
            ready.clear_ready();
        }
    }
}

fn read_news(fd: &OwnedFd) -> io::Result<News> {
    // Room for a batch; what is left over is read the next time.
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(fd, &mut space);
    let mut news = News::default();
    loop {
        match reader.next() {
            Ok(event) => {
                if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                    news.overflow = true;
                }
                let attributes = event.events().contains(inotify::ReadFlags::ATTRIB);
                match event.file_name() {
                    Some(_) if attributes => {}
                    Some(name) => news.names.push(name.to_string_lossy().into_owned()),
                    None => news.attributes |= attributes,
                }
            }
            Err(rustix::io::Errno::AGAIN) => return Ok(news),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        // Nothing so far may be because nothing of it was news: then there may be more.
        if reader.is_buffer_empty() && news != News::default() {
            return Ok(news);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder(dir: &Path, name: &str) -> Folder {
        let (path, own) = (dir.join(name), dir.join(format!("{name}.own")));
        fs::create_dir_all(&path).unwrap();
        fs::create_dir_all(&own).unwrap();
        Folder::open(&path, &own).unwrap()
    }

    #[tokio::test]
    async fn a_socket_that_appears_is_told_and_shared() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (folder(dir.path(), "a"), folder(dir.path(), "b"));
        let watch = a.watch().unwrap();
        let listener = UnixListener::bind(dir.path().join("a/s")).unwrap();
        assert_eq!(watch.next().await.unwrap().names, ["s"]);
        fs::create_dir_all(dir.path().join("b/s/in the way")).unwrap();
        a.share(&b, "s").unwrap();
        let mut near = UnixStream::connect(dir.path().join("b/s")).unwrap();
        near.write_all(b"x").unwrap();
        let mut byte = [0];
        listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
        b.remove("s");
        assert!(b.names().unwrap().is_empty());
    }

    #[test]
    fn own_sockets_replace_what_the_qube_put_there() {
        let dir = tempfile::tempdir().unwrap();
        let a = folder(dir.path(), "a");
        let prey = dir.path().join("prey");
        fs::write(&prey, "").unwrap();
        fs::set_permissions(&prey, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&prey, dir.path().join("a/s")).unwrap();
        let _listener = a.listen("s").unwrap();
        assert!(a.connect("s").is_ok());
        let mode = fs::metadata(&prey).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "the file behind the link is untouched");
        // A folder in the way is the qube's own loss.
        fs::create_dir(dir.path().join("a/t")).unwrap();
        assert!(a.listen("t").is_err());
        assert!(
            fs::read_dir(dir.path().join("a.own"))
                .unwrap()
                .next()
                .is_none()
        );
    }

    #[test]
    fn what_is_no_socket_is_not_shared() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (folder(dir.path(), "a"), folder(dir.path(), "b"));
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("a/s")).unwrap();
        assert!(a.share(&b, "s").is_err());
        assert!(a.connect("s").is_err());
        assert!(b.names().unwrap().is_empty());
    }
}
