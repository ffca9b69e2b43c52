//! Tells that something changed, whatever it was.

use std::mem::MaybeUninit;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use bulkhead_vchan::xen::store::Store;
use bulkhead_wire::causes::chain;
use bulkhead_wire::qubesdb::message::Kind;
use rustix::fs::inotify;

use super::{NAME, NetworkError, resolvers};
use crate::qubesdb::Connection;

/// What is watched in xenstore: what this qube has, and what it serves.
const DEVICES: [&str; 2] = ["device/vif", "backend/vif"];

/// What is watched in QubesDB.
const SETTINGS: [&[u8]; 5] = [
    b"/qubes-ip",
    b"/qubes-gateway",
    b"/qubes-netvm-gateway",
    b"/qubes-primary-dns",
    b"/qubes-secondary-dns",
];

/// Before a daemon that went away, or is not there yet, is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// A change that is not looked at yet stands for all that come meanwhile.
const PENDING: usize = 1;

/// Tells of changes until nobody listens, or until it cannot.
type Watcher = fn(&SyncSender<()>) -> Result<(), String>;

/// Begins to watch everything.
pub(super) fn changes() -> Result<Receiver<()>, NetworkError> {
    let (tell, changes) = sync_channel(PENDING);
    let watchers: [(&str, Watcher); 3] = [
        ("xenstore", devices),
        ("qubesdb", settings),
        ("resolvers", names),
    ];
    for (name, watch) in watchers {
        let tell = tell.clone();
        let thread = thread::Builder::new().name(name.to_owned());
        let keep = move || {
            let mut said = String::new();
            loop {
                let Err(why) = watch(&tell) else { return };
                // Once, however long it lasts.
                if why != said {
                    eprintln!("{NAME}: no changes from {name}: {why}");
                    said = why;
                }
                thread::sleep(AGAIN);
            }
        };
        thread.spawn(keep).map_err(NetworkError::Thread)?;
    }
    Ok(changes)
}

/// One is told of at most; false when nobody listens any more.
fn told(tell: &SyncSender<()>) -> bool {
    use std::sync::mpsc::TrySendError;
    !matches!(tell.try_send(()), Err(TrySendError::Disconnected(())))
}

fn devices(tell: &SyncSender<()>) -> Result<(), String> {
    let failed = |error| chain(&error);
    let mut store = Store::open().map_err(failed)?;
    for path in DEVICES {
        store.watch(path, path).map_err(failed)?;
    }
    while told(tell) {
        store.next_event(None).map_err(failed)?;
    }
    Ok(())
}

fn settings(tell: &SyncSender<()>) -> Result<(), String> {
    let failed = |error| chain(&error);
    let mut database = Connection::open(None).map_err(failed)?;
    for path in SETTINGS {
        database.act(Kind::Watch, path, b"").map_err(failed)?;
    }
    while told(tell) {
        database.changed().map_err(failed)?;
    }
    Ok(())
}

fn names(tell: &SyncSender<()>) -> Result<(), String> {
    let failed = |error: rustix::io::Errno| error.to_string();
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC).map_err(failed)?;
    let events = inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&fd, resolvers::FOLDER, events).map_err(failed)?;
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&fd, &mut space);
    loop {
        let event = reader.next().map_err(failed)?;
        let is_ours = event
            .file_name()
            .is_some_and(|name| name.to_bytes() == b"resolv.conf");
        if is_ours && !told(tell) {
            return Ok(());
        }
    }
}
