//! Displays on which sessions show the windows of qubes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{MemfdFlags, SealFlags};
use thiserror::Error;
use tokio::sync::watch;

/// Longest name of a display: `:`, a number, `.`, a number.
const NAME_MAX: usize = 16;

/// Bytes of what opens a display: an Xauthority file has some hundred for each machine and display.
pub const AUTHORITY_MAX: usize = 64 * 1024;

/// Why a display cannot be used.
#[derive(Debug, Error)]
pub enum DisplayError {
    /// One of another machine, or no name at all.
    #[error("`{0}` is no display of this machine, as `:0` is")]
    Name(String),
    /// Past [`AUTHORITY_MAX`].
    #[error("its authority is longer than {AUTHORITY_MAX} bytes")]
    Authority,
    /// It cannot be kept.
    #[error("its authority cannot be kept")]
    Io(#[from] io::Error),
}

/// An X display of this machine.
#[derive(Debug)]
pub(crate) struct Display {
    name: String,
    authority: Option<OwnedFd>,
}

impl Display {
    /// The display `name`, opened by the Xauthority file of these bytes; none where it is open to
    /// whoever reaches it.
    ///
    /// # Errors
    /// [`DisplayError`].
    pub(crate) fn new(name: &str, authority: &[u8]) -> Result<Self, DisplayError> {
        if !is_local(name) {
            let shown: String = name.chars().take(NAME_MAX).collect();
            return Err(DisplayError::Name(shown.escape_debug().to_string()));
        }
        if authority.len() > AUTHORITY_MAX {
            return Err(DisplayError::Authority);
        }
        let kept = (!authority.is_empty())
            .then(|| keep(authority))
            .transpose()?;
        Ok(Self {
            name: name.to_owned(),
            authority: kept,
        })
    }

    /// As `DISPLAY` has it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A file in memory that `XAUTHORITY` can name.
    pub(crate) fn authority(&self) -> io::Result<Option<OwnedFd>> {
        self.authority.as_ref().map(OwnedFd::try_clone).transpose()
    }
}

/// A path in the session's own folders would have root open whatever the session likes.
fn keep(authority: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create("authority", flags)?);
    file.write_all(authority)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

fn is_local(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(rest) = name.strip_prefix(':').filter(|_| name.len() <= NAME_MAX) else {
        return false;
    };
    let (display, screen) = rest.split_once('.').unwrap_or((rest, "0"));
    is_number(display) && is_number(screen)
}

/// All displays that sessions have offered and not taken back; windows are shown on the newest.
#[derive(Debug)]
pub(crate) struct Displays {
    offered: Mutex<Offered>,
    newest: watch::Sender<Option<Arc<Display>>>,
}

#[derive(Debug, Default)]
struct Offered {
    next: u64,
    displays: BTreeMap<u64, Arc<Display>>,
}

impl Default for Displays {
    fn default() -> Self {
        Self {
            offered: Mutex::default(),
            newest: watch::Sender::new(None),
        }
    }
}

impl Displays {
    /// Shows windows there until what is returned is dropped.
    pub(crate) fn offer(self: &Arc<Self>, display: Display) -> DisplayOffer {
        let number = self.change(|offered| {
            offered.next += 1;
            offered.displays.insert(offered.next, Arc::new(display));
            offered.next
        });
        DisplayOffer {
            number,
            displays: Arc::clone(self),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Offered) -> T) -> T {
        let mut offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut offered);
        let newest = offered.displays.values().next_back().cloned();
        // Under the lock, so that the newest is the newest. Who watches is not woken for nothing.
        self.newest.send_if_modified(|shown| {
            let same = match (&*shown, &newest) {
                (Some(shown), Some(newest)) => Arc::ptr_eq(shown, newest),
                (None, None) => true,
                _ => false,
            };
            *shown = newest;
            !same
        });
        done
    }

    /// Where windows are shown, now and later.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Arc<Display>>> {
        self.newest.subscribe()
    }
}

/// A display is offered as long as this is there.
#[derive(Debug)]
pub struct DisplayOffer {
    number: u64,
    displays: Arc<Displays>,
}

impl Drop for DisplayOffer {
    fn drop(&mut self) {
        self.displays
            .change(|offered| offered.displays.remove(&self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(displays: &Displays) -> Option<String> {
        let newest = displays.watch().borrow().clone();
        newest.map(|display| display.name().to_owned())
    }

    #[test]
    fn the_newest_that_is_still_offered_is_used() {
        let displays = Arc::new(Displays::default());
        let offer = |name| displays.offer(Display::new(name, b"").unwrap());
        assert_eq!(shown(&displays), None);
        let first = offer(":0");
        let second = offer(":1.0");
        assert_eq!(shown(&displays).as_deref(), Some(":1.0"));
        let mut watch = displays.watch();
        drop(first);
        assert!(!watch.has_changed().unwrap());
        assert_eq!(watch.borrow_and_update().as_ref().unwrap().name(), ":1.0");
        let third = offer(":2");
        drop(second);
        drop(third);
        assert_eq!(shown(&displays), None);
    }

    #[test]
    fn only_displays_of_this_machine_are_taken() {
        for name in [":0", ":12.3", ":0123456789012.4"] {
            assert!(Display::new(name, b"").is_ok(), "{name}");
        }
        let long = ":01234567890123.4";
        for name in [
            "", ":", "0", "far:0", ":0.", ":.0", ":0.0.0", ":a", "unix:0", long,
        ] {
            let error = Display::new(name, b"").unwrap_err();
            assert!(matches!(error, DisplayError::Name(_)), "{name}");
        }
    }

    #[test]
    fn what_opens_a_display_is_kept_up_to_its_limit_and_cannot_be_changed() {
        use std::io::{Read, Seek};

        let most = vec![7; AUTHORITY_MAX];
        let display = Display::new(":0", &most).unwrap();
        let mut file = File::from(display.authority().unwrap().unwrap());
        let mut read = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut read).unwrap();
        assert_eq!(read, most);
        file.write_all(b"more").unwrap_err();
        let over = Display::new(":0", &vec![7; AUTHORITY_MAX + 1]);
        assert!(matches!(over, Err(DisplayError::Authority)));
        assert!(
            Display::new(":0", b"")
                .unwrap()
                .authority()
                .unwrap()
                .is_none()
        );
    }
}
