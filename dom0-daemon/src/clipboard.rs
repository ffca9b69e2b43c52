//! What a person carries from the clipboard of one qube to that of another.
//!
//! A proxy says that its keys were pressed. What is copied comes as a sealed file in memory, which is
//! kept and handed on unread; a paste is asked of the policy as `qubes.ClipboardPaste` from the qube
//! that was copied from to the one whose window has the focus. It is carried once: a paste, a later
//! copy, the person, and time wipe it. Source: wire page on windows, section 8.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bulkhead_api::clipboard::{Carried, ClipboardNews};
use bulkhead_api::event::Event;
use bulkhead_policy::{Allow, Decision, OnAsk, Query, Reply};
use bulkhead_wire::gui::CLIPBOARD_MAX;
use bulkhead_wire::proxy::{NotCopied, ToProxy};
use rustix::fs::SealFlags;

use crate::calls::{Verdict, Wish};
use crate::runtime::{Inner, Run, Runtime};
use crate::windows::Display;

/// How long something is carried where nobody pastes it.
pub const CARRIED_FOR: Duration = Duration::from_secs(60);
/// The longest that may be configured.
pub const CARRIED_FOR_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What policy is asked for.
const SERVICE: &str = "qubes.ClipboardPaste";

/// When a person pressed the keys, on the clock of one display.
#[derive(Debug, Clone)]
pub(crate) struct Pressed {
    /// Milliseconds; they wrap.
    pub(crate) time: u32,
    pub(crate) display: Weak<Display>,
}

impl Pressed {
    /// Whether `other`, of the same display, came later.
    fn is_before(&self, other: &Self) -> bool {
        let later = other.time.wrapping_sub(self.time);
        Weak::ptr_eq(&self.display, &other.display) && later != 0 && later < 1 << 31
    }
}

/// What is carried now.
#[derive(Debug, Default)]
pub(crate) struct Clipboard(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When keys were pressed last.
    pressed: Option<Pressed>,
    /// Counts what was carried.
    number: u64,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    shown: Carried,
    file: OwnedFd,
    _timer: Timer,
}

/// Ends with what it is for.
#[derive(Debug)]
struct Timer(tokio::task::AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Clipboard {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes note of keys; false where others were pressed later, which decide.
    fn press(&mut self, pressed: Pressed) -> bool {
        let is_late = self
            .pressed
            .as_ref()
            .is_some_and(|last| pressed.is_before(last));
        if !is_late {
            self.pressed = Some(pressed);
        }
        !is_late
    }
}

/// Checks that `fds` is one file in memory of that length which nobody can change.
fn sealed(fds: Vec<OwnedFd>, length: u32) -> Result<OwnedFd, String> {
    let Ok([file]) = <[OwnedFd; 1]>::try_from(fds) else {
        return Err("a copy without one file".to_owned());
    };
    let fits = usize::try_from(length).is_ok_and(|length| (1..=CLIPBOARD_MAX).contains(&length));
    if !fits {
        return Err(format!("a copy of {length} bytes"));
    }
    let wanted = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK;
    let seals = rustix::fs::fcntl_get_seals(&file).map_err(|_| "a file that has no seals")?;
    if !seals.contains(wanted) {
        return Err("a file that can be changed".to_owned());
    }
    let file = File::from(file);
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    if size != u64::from(length) {
        return Err(format!("a file of {size} bytes as {length}"));
    }
    Ok(file.into())
}

impl Inner {
    fn clipboard_news(&self, news: ClipboardNews) {
        tracing::info!(%news, "clipboard");
        self.events.send(Event::ClipboardChanged(news));
    }

    /// The person copied from a qube.
    ///
    /// # Errors
    /// Why no proxy that is well says this.
    pub(crate) fn clipboard_copied(
        &self,
        run: &Run,
        pressed: Pressed,
        length: u32,
        fds: Vec<OwnedFd>,
    ) -> Result<(), String> {
        let file = sealed(fds, length)?;
        let Some(own) = self.own() else { return Ok(()) };
        let lasts = self.config.clipboard_timeout;
        let copied = crate::audit::now_ms() / 1000;
        let carried = {
            let mut state = self.clipboard.state();
            if !state.press(pressed) {
                return Ok(());
            }
            state.number += 1;
            let number = state.number;
            let timer = tokio::spawn(async move {
                tokio::time::sleep(lasts).await;
                own.clipboard_expired(number);
            });
            let shown = Carried {
                source: run.name.to_string(),
                bytes: length,
                copied,
                expires: copied + lasts.as_secs(),
            };
            state.held = Some(Held {
                shown: shown.clone(),
                file,
                _timer: Timer(timer.abort_handle()),
            });
            shown
        };
        self.clipboard_news(ClipboardNews::Copied(carried));
        Ok(())
    }

    /// The person wanted to copy from a qube, and there was nothing to carry.
    pub(crate) fn clipboard_not_copied(&self, run: &Run, pressed: Pressed, why: NotCopied) {
        {
            let mut state = self.clipboard.state();
            if !state.press(pressed) {
                return;
            }
            state.held = None;
        }
        self.clipboard_news(ClipboardNews::NotCopied {
            source: run.name.to_string(),
            why: match why {
                NotCopied::Empty => "its clipboard is empty",
                NotCopied::TooLarge => "it is more than the qube may have carried",
                NotCopied::NoAnswer => "the qube did not answer",
            }
            .to_owned(),
        });
    }

    fn clipboard_expired(&self, number: u64) {
        let gone = {
            let mut state = self.clipboard.state();
            let is_it = state.number == number;
            state.held.take_if(|_| is_it)
        };
        if let Some(held) = gone {
            let source = held.shown.source;
            self.clipboard_news(ClipboardNews::Expired { source });
        }
    }

    /// The person wants to paste into a qube.
    pub(crate) fn clipboard_paste(&self, run: &Arc<Run>, pressed: Pressed) {
        let held = {
            let mut state = self.clipboard.state();
            if !state.press(pressed) {
                return;
            }
            let number = state.number;
            state.held.as_ref().map(|held| (number, held.shown.clone()))
        };
        let Some((number, carried)) = held else {
            let target = run.name.to_string();
            return self.clipboard_news(ClipboardNews::NothingToPaste { target });
        };
        let (Some(inner), run) = (self.own(), Arc::clone(run)) else {
            return;
        };
        // The answer may be the person's, and they may take their time.
        tokio::spawn(async move {
            let target = run.name.to_string();
            if carried.source != target && !inner.may_paste(&carried.source, &target).await {
                let source = carried.source;
                return inner.clipboard_news(ClipboardNews::Refused { source, target });
            }
            inner.clipboard_give(&run, number);
        });
    }

    /// Asks the policy, and the person where it and the description say so: their keys are consent
    /// otherwise.
    async fn may_paste(&self, source: &str, target: &str) -> bool {
        let (engine, view, confirm) = {
            let state = self.state();
            let confirm = state.description().is_some_and(|d| d.dom0.confirm_paste);
            (Arc::clone(&state.engine), Arc::clone(&state.view), confirm)
        };
        let query = Query {
            source: source.to_owned(),
            target: target.to_owned(),
            service: SERVICE.to_owned(),
            on_ask: match confirm {
                true => OnAsk::Person,
                false => OnAsk::AssumeYes,
            },
            ..Query::default()
        };
        let leads_there = |allow: &Allow| allow.named == target;
        match query.answer(&engine, &view) {
            Reply::Done(_, decision) => {
                let by = "policy";
                let (allowed, verdict) = match *decision {
                    // It cannot be carried into another window than the one that was chosen.
                    Decision::Allow(allow) if !leads_there(&allow) => (
                        false,
                        Verdict::deny(by, format!("{}: another target", allow.rule)),
                    ),
                    Decision::Allow(allow) => (true, Verdict::allow(by, &allow)),
                    Decision::Deny(deny) => (false, Verdict::denied(by, &deny)),
                    Decision::Ask(ask) => (false, Verdict::deny(by, ask.rule.to_string())),
                };
                self.record_query(&query, verdict);
                allowed
            }
            Reply::Ask(ask) => {
                let answer = self.calls.ask_for_client(self, &query, *ask, Wish::Persons);
                let allowed = answer.await.ok().flatten();
                allowed.is_some_and(|allow| leads_there(&allow))
            }
        }
    }

    /// Hands over what was copied as that number, if it is still there.
    fn clipboard_give(&self, run: &Run, number: u64) {
        let held = {
            let mut state = self.clipboard.state();
            let is_it = state.number == number;
            state.held.take_if(|_| is_it)
        };
        let target = run.name.to_string();
        let Some(held) = held else {
            return self.clipboard_news(ClipboardNews::NothingToPaste { target });
        };
        let length = held.shown.bytes;
        let windows = run.windows.get();
        let sent = windows.map(|windows| windows.send(&ToProxy::Paste { length }, vec![held.file]));
        match sent {
            Some(Ok(())) => self.clipboard_news(ClipboardNews::Pasted {
                source: held.shown.source,
                target,
                bytes: length,
            }),
            Some(Err(error)) => tracing::warn!(target, %error, "nothing is pasted"),
            None => tracing::warn!(target, "nothing is pasted: the qube has no windows"),
        }
    }
}

impl Runtime {
    /// What is carried now.
    pub fn clipboard(&self) -> Option<Carried> {
        let state = self.inner.clipboard.state();
        state.held.as_ref().map(|held| held.shown.clone())
    }

    /// Carries nothing any more; what was carried.
    pub fn clear_clipboard(&self) -> Option<Carried> {
        let gone = self.inner.clipboard.state().held.take()?;
        let source = gone.shown.source.clone();
        self.inner.clipboard_news(ClipboardNews::Cleared { source });
        Some(gone.shown)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::fs::{MemfdFlags, fcntl_add_seals, memfd_create};

    use super::*;

    const SEALS: SealFlags = SealFlags::WRITE
        .union(SealFlags::GROW)
        .union(SealFlags::SHRINK);

    fn file(length: usize, seals: SealFlags) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("copied", flags).unwrap());
        file.write_all(&vec![b'x'; length]).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file.into()
    }

    #[test]
    fn only_one_sealed_file_of_the_length_that_was_told_is_carried() {
        let largest = u32::try_from(CLIPBOARD_MAX).unwrap();
        sealed(vec![file(1, SEALS)], 1).unwrap();
        sealed(vec![file(CLIPBOARD_MAX, SEALS)], largest).unwrap();
        let refused = |fds, length| sealed(fds, length).unwrap_err();
        let errors = [
            refused(vec![], 1),
            refused(vec![file(1, SEALS), file(1, SEALS)], 1),
            refused(vec![file(0, SEALS)], 0),
            refused(vec![file(CLIPBOARD_MAX + 1, SEALS)], largest + 1),
            refused(vec![file(2, SEALS)], 1),
            refused(vec![file(1, SEALS - SealFlags::WRITE)], 1),
            refused(vec![file(1, SEALS - SealFlags::SHRINK)], 1),
            refused(vec![tempfile::tempfile().unwrap().into()], 1),
            refused(vec![File::open("/dev/null").unwrap().into()], 1),
        ];
        insta::assert_snapshot!(errors.join("\n"), @"
        a copy without one file
        a copy without one file
        a copy of 0 bytes
        a copy of 256001 bytes
        a file of 2 bytes as 1
        a file that can be changed
        a file that can be changed
        a file that has no seals
        a file that has no seals
        ");
    }

    #[test]
    fn the_keys_that_were_pressed_last_decide_on_each_display() {
        let display = || Arc::new(Display::new(":0", b"").unwrap());
        let (one, other) = (display(), display());
        let mut state = State::default();
        let mut press = |display: &Arc<Display>, time| {
            state.press(Pressed {
                time,
                display: Arc::downgrade(display),
            })
        };
        assert!(press(&one, 1000));
        assert!(!press(&one, 999));
        assert!(press(&one, 1000));
        assert!(press(&other, u32::MAX - 5), "another clock");
        assert!(press(&other, 3), "it wraps");
        assert!(!press(&other, u32::MAX));
    }
}
