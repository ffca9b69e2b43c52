//! What a person carries from the clipboard of one qube to that of another.
//!
//! A proxy says that its keys were pressed. What is copied comes as a sealed file in memory, which is
//! kept and handed on unread; a paste is asked of the policy as `qubes.ClipboardPaste` from the qube
//! that was copied from to the one whose window has the focus. It is carried once: a paste, a later
//! copy, the person, and time wipe it. Source: wire page on windows, section 8.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bulkhead_api::clipboard::{Carried, ClipboardNews, What};
use bulkhead_api::event::Event;
use bulkhead_policy::{Allow, Decision, OnAsk, Query, Reply};
use bulkhead_wire::gui::{CLIPBOARD_MAX, CLIPBOARD_MAX_OLD, Version};
use bulkhead_wire::proxy::{NotCopied, NotPasted, Payload, ToProxy};
use rustix::fs::SealFlags;

use crate::calls::{Verdict, Wish};
use crate::runtime::{Inner, Run, Runtime};
use crate::timer::Timer;
use crate::windows::Display;

/// How long something is carried where nobody pastes it.
pub const CARRIED_FOR: Duration = Duration::from_secs(60);
/// The longest that may be configured.
pub const CARRIED_FOR_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What policy is asked for.
const SERVICE: &str = "qubes.ClipboardPaste";

/// How far the clock of a display may be ahead of ours since keys were pressed last. Else one message
/// of a proxy that lies would make all that come later look late.
const AHEAD_MAX: Duration = Duration::from_secs(10);

/// How long keys are remembered, so that others are known to come before or after. A clock of
/// milliseconds wraps in 49 days, and what is later by more than half of that looks earlier.
const PRESSED_KEPT: Duration = Duration::from_secs(60 * 60);

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
    /// When keys were pressed last, and when that was heard.
    pressed: Option<(Pressed, Instant)>,
    /// Counts what was carried.
    number: u64,
    held: Option<Held>,
    /// What a proxy was given last, and has not answered.
    given: Option<Given>,
}

#[derive(Debug)]
struct Held {
    shown: Carried,
    what: Payload,
    file: OwnedFd,
    _timer: Timer,
}

/// What a proxy was told to paste.
#[derive(Debug)]
struct Given {
    number: u64,
    to: Weak<Run>,
    shown: Carried,
    /// To be carried on where it is not pasted; none once it was wiped.
    held: Option<Held>,
}

/// What an agent takes on its clipboard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Takes {
    /// Bytes of text.
    text: usize,
    pictures: bool,
}

impl Default for Takes {
    /// What every agent takes.
    fn default() -> Self {
        Self {
            text: CLIPBOARD_MAX_OLD,
            pictures: false,
        }
    }
}

impl Takes {
    /// Of an agent that speaks this version, and takes pictures or not.
    pub(crate) fn of_agent(version: (u32, u32), pictures: bool) -> Self {
        let larger = version >= (1, Version::CLIPBOARDS.minor().into());
        let text = match larger {
            true => CLIPBOARD_MAX,
            false => CLIPBOARD_MAX_OLD,
        };
        Self { text, pictures }
    }

    /// Why it does not take so many bytes of this.
    fn refuses(self, length: u32, what: Payload) -> Option<NotPasted> {
        let fits = usize::try_from(length).is_ok_and(|length| length <= self.text);
        match what {
            Payload::Text => (!fits).then_some(NotPasted::TooLarge),
            Payload::Picture { .. } => (!self.pictures).then_some(NotPasted::NoPictures),
        }
    }
}

/// As the person reads it.
fn in_words(why: NotPasted) -> &'static str {
    match why {
        NotPasted::TooLarge => "it is more than the qube's agent can take",
        NotPasted::NoPictures => "the qube does not take pictures",
        NotPasted::Unread => "the qube does not read what it is sent",
        NotPasted::Malformed => "what was carried is not what was announced",
    }
}

impl Clipboard {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes note of keys; false where others were pressed later, which decide.
    ///
    /// # Errors
    /// Where they cannot have been pressed yet.
    fn press(&mut self, pressed: Pressed, now: Instant) -> Result<bool, String> {
        let forgotten = |heard: &Instant| now.saturating_duration_since(*heard) >= PRESSED_KEPT;
        self.pressed.take_if(|(_, heard)| forgotten(heard));
        if let Some((last, heard)) = &self.pressed {
            if pressed.is_before(last) {
                return Ok(false);
            }
            let since = pressed.time.wrapping_sub(last.time);
            let possible = now.saturating_duration_since(*heard) + AHEAD_MAX;
            let same = Weak::ptr_eq(&pressed.display, &last.display);
            if same && Duration::from_millis(since.into()) > possible {
                return Err("keys that were pressed in the future".to_owned());
            }
        }
        self.pressed = Some((pressed, now));
        Ok(true)
    }

    /// Whether what was copied as that number is still there.
    fn holds(&self, number: u64) -> bool {
        self.number == number && self.held.is_some()
    }

    /// What was copied as that number, if it is still there.
    fn take(&mut self, number: u64) -> Option<Held> {
        let is_it = self.number == number;
        self.held.take_if(|_| is_it)
    }

    /// Carries nothing any more; what was carried.
    fn wipe(&mut self) -> Option<Held> {
        if let Some(given) = &mut self.given {
            given.held = None;
        }
        self.held.take()
    }

    /// What has a proxy paste what was copied as that number, if it is still there. It is carried no
    /// more unless the proxy says that it was not pasted.
    ///
    /// # Errors
    /// Why it cannot be pasted there; it is carried on.
    fn give(
        &mut self,
        number: u64,
        to: &Weak<Run>,
        takes: Takes,
    ) -> Result<Option<(ToProxy, OwnedFd)>, String> {
        let held = self.held.as_ref().filter(|_| self.number == number);
        let Some((shown, what, file)) = held.map(|held| (&held.shown, held.what, &held.file))
        else {
            return Ok(None);
        };
        let (shown, length) = (shown.clone(), shown.bytes);
        if let Some(why) = takes.refuses(length, what) {
            return Err(in_words(why).to_owned());
        }
        let file = file.try_clone().map_err(|error| error.to_string())?;
        self.given = Some(Given {
            number,
            to: Weak::clone(to),
            shown,
            held: self.held.take(),
        });
        let paste = ToProxy::Paste {
            number,
            length,
            what,
        };
        Ok(Some((paste, file)))
    }

    /// What the proxy of that qube was given as that number.
    fn answered(&mut self, number: u64, from: &Weak<Run>) -> Option<Given> {
        let is_it = |given: &mut Given| given.number == number && given.to.ptr_eq(from);
        self.given.take_if(is_it)
    }

    /// It was not pasted: what was given is carried on, unless it was wiped meanwhile.
    fn take_back(&mut self, number: u64, from: &Weak<Run>) {
        let given = self.answered(number, from);
        if let Some(held) = given.and_then(|given| given.held) {
            self.held = Some(held);
        }
    }
}

/// As clients know it.
fn shown(what: Payload) -> What {
    match what {
        Payload::Text => What::Text,
        Payload::Picture { width, height } => What::Picture { width, height },
    }
}

/// Checks that `fds` is one file in memory, as long as what is in it has to be, which nobody can
/// change.
fn sealed(fds: Vec<OwnedFd>, length: u32, what: Payload) -> Result<OwnedFd, String> {
    let Ok([file]) = <[OwnedFd; 1]>::try_from(fds) else {
        return Err("a copy without one file".to_owned());
    };
    if !usize::try_from(length).is_ok_and(|length| what.fits(length)) {
        return Err(format!("a copy of {length} bytes: {}", shown(what)));
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

    /// The person copies from a qube, which has yet to say what: it must not be what came before it
    /// that is pasted meanwhile.
    ///
    /// # Errors
    /// Why no proxy that is well says this.
    pub(crate) fn clipboard_asked(&self, pressed: Pressed) -> Result<(), String> {
        let gone = {
            let mut state = self.clipboard.state();
            let counts = state.press(pressed, Instant::now())?;
            if counts { state.wipe() } else { None }
        };
        self.clipboard_gone(gone.as_ref());
        Ok(())
    }

    /// What was carried is carried no more: nobody is asked about it either.
    fn clipboard_gone(&self, gone: Option<&Held>) {
        if gone.is_some() {
            self.clipboard_questions_end();
        }
    }

    fn clipboard_questions_end(&self) {
        let why = "what was to be pasted is carried no more";
        self.calls.withdraw_wishes(self, why);
    }

    /// The person copied from a qube.
    ///
    /// # Errors
    /// Why no proxy that is well says this.
    pub(crate) fn clipboard_copied(
        &self,
        run: &Run,
        pressed: Pressed,
        (length, what): (u32, Payload),
        fds: Vec<OwnedFd>,
    ) -> Result<(), String> {
        let file = sealed(fds, length, what)?;
        let Some(own) = self.own() else { return Ok(()) };
        let lasts = self.config.clipboard_timeout;
        let copied = crate::audit::now_ms() / 1000;
        let (carried, gone) = {
            let mut state = self.clipboard.state();
            if !state.press(pressed, Instant::now())? {
                return Ok(());
            }
            state.number += 1;
            let number = state.number;
            let timer = tokio::spawn(async move {
                tokio::time::sleep(lasts).await;
                own.clipboard_expired(number);
            });
            let carried = Carried {
                source: run.name.to_string(),
                what: shown(what),
                bytes: length,
                copied,
                expires: copied + lasts.as_secs(),
            };
            let held = Held {
                shown: carried.clone(),
                what,
                file,
                _timer: Timer::of(&timer),
            };
            let gone = state.wipe();
            state.held = Some(held);
            (carried, gone)
        };
        self.clipboard_gone(gone.as_ref());
        self.clipboard_news(ClipboardNews::Copied(carried));
        Ok(())
    }

    /// The person wanted to copy from a qube, and there was nothing to carry.
    ///
    /// # Errors
    /// Why no proxy that is well says this.
    pub(crate) fn clipboard_not_copied(
        &self,
        run: &Run,
        pressed: Pressed,
        why: NotCopied,
    ) -> Result<(), String> {
        let gone = {
            let mut state = self.clipboard.state();
            if !state.press(pressed, Instant::now())? {
                return Ok(());
            }
            state.wipe()
        };
        self.clipboard_gone(gone.as_ref());
        self.clipboard_news(ClipboardNews::NotCopied {
            source: run.name.to_string(),
            why: match why {
                NotCopied::Empty => "its clipboard is empty",
                NotCopied::TooLarge => "it is more than the qube may have carried",
                NotCopied::NoAnswer => "the qube did not answer",
                NotCopied::Malformed => "what the qube sent is not what it announced",
            }
            .to_owned(),
        });
        Ok(())
    }

    fn clipboard_expired(&self, number: u64) {
        let (gone, given) = {
            let mut state = self.clipboard.state();
            let is_it = |given: &mut Given| given.number == number && given.held.is_some();
            (state.take(number), state.given.take_if(is_it))
        };
        if let Some(given) = given {
            self.clipboard_lost(&given, "what shows its windows did not answer");
        }
        if let Some(held) = gone {
            self.clipboard_gone(Some(&held));
            let (source, what) = (held.shown.source, held.shown.what);
            self.clipboard_news(ClipboardNews::Expired { source, what });
        }
    }

    /// The person wants to paste into a qube.
    ///
    /// # Errors
    /// Why no proxy that is well says this.
    pub(crate) fn clipboard_paste(&self, run: &Arc<Run>, pressed: Pressed) -> Result<(), String> {
        let held = {
            let mut state = self.clipboard.state();
            if !state.press(pressed, Instant::now())? {
                return Ok(());
            }
            let number = state.number;
            state.held.as_ref().map(|held| (number, held.shown.clone()))
        };
        let target = run.name.to_string();
        let Some((number, carried)) = held else {
            self.clipboard_news(ClipboardNews::NothingToPaste { target });
            return Ok(());
        };
        let (Some(inner), run) = (self.own(), Arc::downgrade(run)) else {
            return Ok(());
        };
        // The answer may be the person's, and they may take their time.
        tokio::spawn(async move {
            if carried.source != target && !inner.may_paste(&carried, &target).await {
                let (source, what) = (carried.source, carried.what);
                if !inner.clipboard.state().holds(number) {
                    // That it is carried no more was told.
                    return;
                }
                return inner.clipboard_news(ClipboardNews::Refused {
                    source,
                    target,
                    what,
                });
            }
            match run.upgrade() {
                Some(run) if !run.is_gone() => inner.clipboard_give(&run, number),
                _ => inner.clipboard_news(ClipboardNews::NotPasted {
                    target,
                    why: "the qube has ended".to_owned(),
                }),
            }
        });
        Ok(())
    }

    /// Asks the policy, and the person where it and the description say so: their keys are consent
    /// otherwise.
    async fn may_paste(&self, carried: &Carried, target: &str) -> bool {
        let (engine, view, confirm) = {
            let state = self.state();
            let confirm = state.description().is_some_and(|d| d.dom0.confirm_paste);
            (Arc::clone(&state.engine), Arc::clone(&state.view), confirm)
        };
        let query = Query {
            source: carried.source.clone(),
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
                let wish = Wish::Persons(carried.load());
                let answer = self.calls.ask_for_client(self, &query, *ask, wish);
                let allowed = answer.await.ok().flatten();
                allowed.is_some_and(|allow| leads_there(&allow))
            }
        }
    }

    /// Hands over what was copied as that number, if it is still there.
    fn clipboard_give(&self, run: &Arc<Run>, number: u64) {
        let windows = run.windows.get();
        let target = run.name.to_string();
        let not_pasted = |why: String| ClipboardNews::NotPasted {
            target: target.clone(),
            why,
        };
        let Some(windows) = windows else {
            return self.clipboard_news(not_pasted("the qube has no windows".to_owned()));
        };
        let to = Arc::downgrade(run);
        let given = self.clipboard.state().give(number, &to, windows.takes());
        let (paste, file) = match given {
            Ok(Some(given)) => given,
            Ok(None) => return self.clipboard_news(ClipboardNews::NothingToPaste { target }),
            Err(why) => return self.clipboard_news(not_pasted(why)),
        };
        self.clipboard_questions_end();
        if let Err(error) = windows.send(&paste, vec![file]) {
            self.clipboard.state().take_back(number, &to);
            self.clipboard_news(not_pasted(error.to_string()));
        }
    }

    /// A proxy has pasted what it was given as that number.
    pub(crate) fn clipboard_pasted(&self, run: &Arc<Run>, number: u64) {
        let given = self
            .clipboard
            .state()
            .answered(number, &Arc::downgrade(run));
        // It may have taken so long that this was told already.
        if let Some(Given { shown, .. }) = given {
            self.clipboard_news(ClipboardNews::Pasted {
                source: shown.source,
                target: run.name.to_string(),
                what: shown.what,
                bytes: shown.bytes,
            });
        }
    }

    /// It has not.
    pub(crate) fn clipboard_not_pasted(&self, run: &Arc<Run>, number: u64, why: NotPasted) {
        let from = Arc::downgrade(run);
        self.clipboard.state().take_back(number, &from);
        self.clipboard_news(ClipboardNews::NotPasted {
            target: run.name.to_string(),
            why: in_words(why).to_owned(),
        });
    }

    /// A proxy has ended that may have pasted what it was given, or not: it is carried once, so it
    /// is carried no more.
    pub(crate) fn clipboard_unanswered(&self, run: &Arc<Run>) {
        let from = Arc::downgrade(run);
        let given = {
            let mut state = self.clipboard.state();
            state.given.take_if(|given| given.to.ptr_eq(&from))
        };
        if let Some(given) = given {
            self.clipboard_lost(&given, "what shows its windows has ended");
        }
    }

    fn clipboard_lost(&self, given: &Given, why: &str) {
        if let Some(run) = given.to.upgrade() {
            self.clipboard_news(ClipboardNews::NotPasted {
                target: run.name.to_string(),
                why: why.to_owned(),
            });
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
        let gone = self.inner.clipboard.state().wipe()?;
        self.inner.clipboard_gone(Some(&gone));
        let (source, what) = (gone.shown.source.clone(), gone.shown.what);
        self.inner
            .clipboard_news(ClipboardNews::Cleared { source, what });
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
        let text = Payload::Text;
        sealed(vec![file(1, SEALS)], 1, text).unwrap();
        sealed(vec![file(CLIPBOARD_MAX, SEALS)], largest, text).unwrap();
        let refused = |fds, length| sealed(fds, length, text).unwrap_err();
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
        a copy of 0 bytes: text
        a copy of 256001 bytes: text
        a file of 2 bytes as 1
        a file that can be changed
        a file that can be changed
        a file that has no seals
        a file that has no seals
        ");
    }

    #[test]
    fn a_picture_has_as_many_bytes_as_its_pixels() {
        let picture_of = |length: usize, width, height| {
            let picture = Payload::Picture { width, height };
            let said = u32::try_from(length).unwrap();
            sealed(vec![file(length, SEALS)], said, picture)
        };
        picture_of(24, 2, 3).unwrap();
        let errors = [
            picture_of(24, 3, 3).unwrap_err(),
            picture_of(20, 2, 3).unwrap_err(),
            picture_of(4, 0, 1).unwrap_err(),
            // As many pixels as wrap to none.
            picture_of(4, 1 << 31, 2).unwrap_err(),
        ];
        insta::assert_snapshot!(errors.join("\n"), @"
        a copy of 24 bytes: picture of 3 by 3
        a copy of 20 bytes: picture of 2 by 3
        a copy of 4 bytes: picture of 0 by 1
        a copy of 4 bytes: picture of 2147483648 by 2
        ");
    }

    /// Carries so many bytes as the next number.
    fn carry(state: &mut State, length: usize, what: Payload) -> u64 {
        state.number += 1;
        let shown = Carried {
            source: "work".to_owned(),
            what: shown(what),
            bytes: u32::try_from(length).unwrap(),
            copied: 1,
            expires: 61,
        };
        let timer = tokio::spawn(std::future::pending::<()>());
        state.held = Some(Held {
            shown,
            what,
            file: file(length, SEALS),
            _timer: Timer::of(&timer),
        });
        state.number
    }

    const OLD: Takes = Takes {
        text: CLIPBOARD_MAX_OLD,
        pictures: false,
    };

    #[tokio::test]
    async fn what_an_agent_cannot_take_is_not_handed_over_and_carried_on() {
        let newest = |pictures| Takes::of_agent((1, 8), pictures);
        let old = Takes::of_agent((1, 7), false);
        let picture = Payload::Picture {
            width: 2,
            height: 3,
        };
        let (text, to) = (Payload::Text, Weak::new());
        for (length, what, takes, refused) in [
            (CLIPBOARD_MAX_OLD, text, old, None),
            (
                CLIPBOARD_MAX_OLD + 1,
                text,
                old,
                Some("it is more than the qube's agent can take"),
            ),
            (
                CLIPBOARD_MAX_OLD + 1,
                text,
                Takes::default(),
                Some("it is more than the qube's agent can take"),
            ),
            (CLIPBOARD_MAX, text, newest(false), None),
            (24, picture, newest(true), None),
            (
                24,
                picture,
                newest(false),
                Some("the qube does not take pictures"),
            ),
        ] {
            let mut state = State::default();
            let number = carry(&mut state, length, what);
            let given = state.give(number, &to, takes);
            assert_eq!(given.as_ref().err().map(String::as_str), refused);
            assert_eq!(state.holds(number), refused.is_some(), "{length} bytes");
            if refused.is_none() {
                let (paste, _) = given.unwrap().unwrap();
                let length = u32::try_from(length).unwrap();
                let expected = ToProxy::Paste {
                    number,
                    length,
                    what,
                };
                assert_eq!(paste, expected);
            }
        }
    }

    #[tokio::test]
    async fn what_a_proxy_did_not_paste_is_carried_on_until_it_is_wiped() {
        let (mut state, to) = (State::default(), Weak::new());
        let number = carry(&mut state, 5, Payload::Text);
        let give = |state: &mut State| state.give(number, &to, OLD).unwrap().is_some();
        // Once it was given it is there for nobody else.
        assert!(give(&mut state) && !give(&mut state) && !state.holds(number));
        // Another number, which is that of no paste.
        state.take_back(number + 1, &to);
        assert!(!state.holds(number));
        state.take_back(number, &to);
        assert!(state.holds(number), "it is carried on");
        // It was pasted: once.
        assert!(give(&mut state));
        assert!(state.answered(number, &to).is_some());
        state.take_back(number, &to);
        assert!(!state.holds(number));
        // What was wiped meanwhile does not come back.
        let number = carry(&mut state, 5, Payload::Text);
        assert!(state.give(number, &to, OLD).unwrap().is_some());
        assert!(state.wipe().is_none());
        state.take_back(number, &to);
        assert!(!state.holds(number));
    }

    #[test]
    fn the_keys_that_were_pressed_last_decide_on_each_display() {
        let display = || Arc::new(Display::new(":0", b"").unwrap());
        let (one, other) = (display(), display());
        let mut state = State::default();
        let start = Instant::now();
        let mut press = |display: &Arc<Display>, time, seconds| {
            let pressed = Pressed {
                time,
                display: Arc::downgrade(display),
            };
            state.press(pressed, start + Duration::from_secs(seconds))
        };
        assert_eq!(press(&one, 1000, 0), Ok(true));
        assert_eq!(press(&one, 999, 0), Ok(false));
        assert_eq!(press(&one, 1000, 0), Ok(true));
        assert_eq!(press(&other, u32::MAX - 5, 1), Ok(true), "another clock");
        assert_eq!(press(&other, 3, 1), Ok(true), "it wraps");
        assert_eq!(press(&other, u32::MAX, 1), Ok(false));
        // As far ahead as can be, and one more.
        let most = u32::try_from(AHEAD_MAX.as_millis()).unwrap();
        assert_eq!(press(&other, 3 + most, 1), Ok(true));
        press(&other, 3 + 2 * most + 1, 1).unwrap_err();
        assert_eq!(press(&other, 3 + 2 * most + 1, 2), Ok(true));
    }

    #[test]
    fn keys_count_however_long_none_were_pressed() {
        const SECOND: u64 = 1000;
        let display = Arc::new(Display::new(":0", b"").unwrap());
        let mut state = State::default();
        let start = Instant::now();
        let mut press = |seconds: u64, late: u64| {
            let clock = u32::try_from((seconds - late) * SECOND % (1 << 32)).unwrap();
            let pressed = Pressed {
                time: clock,
                display: Arc::downgrade(&display),
            };
            state.press(pressed, start + Duration::from_secs(seconds))
        };
        let (day, kept) = (24 * 60 * 60, PRESSED_KEPT.as_secs());
        let mut now = 1;
        for days in [0, 1, 24, 25, 30, 49, 50, 75, 365] {
            now += days * day;
            assert_eq!(press(now, 0), Ok(true), "after {days} days");
        }
        // What came before is known for as long as keys are kept, and no longer.
        assert_eq!(press(now + kept - 1, kept), Ok(false));
        assert_eq!(press(now + kept, kept + 1), Ok(true));
    }
}
