//! Questions to the person, open until answered, withdrawn or too old.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bulkhead_api::call::{Announced, Answer, Ask};
use bulkhead_api::clipboard::Load;
use bulkhead_api::event::Event;
use bulkhead_model::name::QubeName;
use bulkhead_policy::{Allow, Query};
use bulkhead_wire::relay::RequestId;
use tokio::sync::oneshot;

use super::fair::{self, Place, Refusals, Same};
use super::{Calls, Request, Verdict};
use crate::runtime::{Inner, Run, Runtime, RuntimeError};
use crate::timer::Timer;

/// A question.
#[derive(Debug)]
struct Open {
    asker: Asker,
    /// Whose limits it counts against.
    share: String,
    ask: bulkhead_policy::Ask,
    shown: Ask,
    wish: Wish,
    /// A qube that asks and takes back in turn leaves nothing that waits.
    _timer: Timer,
}

/// Who waits for the answer.
#[derive(Debug)]
enum Asker {
    /// A qube that calls.
    Guest(Arc<Run>, Request),
    /// A client of the policy's socket, on a qube's behalf.
    Client(Query, oneshot::Sender<Option<Allow>>),
}

impl Asker {
    /// Service with its argument.
    fn service(&self) -> &str {
        match self {
            Self::Guest(_, request) => &request.service,
            Self::Client(query, _) => &query.service,
        }
    }

    fn is_of(&self, domid: u32) -> bool {
        matches!(self, Self::Guest(run, _) if run.domid.0 == domid)
    }

    /// Refuses, and records why.
    fn refuse(self, inner: &Inner, verdict: Verdict<'_>) {
        match self {
            Self::Guest(run, request) => inner.refuse(&run, &request, verdict),
            Self::Client(query, answer) => {
                inner.record_query(&query, verdict);
                // It may have hung up.
                let _ = answer.send(None);
            }
        }
    }

    fn allow(self, inner: &Inner, allow: Allow, by: &str) {
        match self {
            Self::Guest(run, request) => inner.allowed(&run, request, allow, by),
            Self::Client(query, answer) => {
                inner.record_query(&query, Verdict::allow(by, &allow));
                let _ = answer.send(Some(allow));
            }
        }
    }
}

/// Whose wish it is that a person is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A program's, which may ask again and again.
    Programs,
    /// The person's own, to paste this: they may have thought better of it.
    Persons(Load),
}

/// All open questions.
#[derive(Debug, Default)]
pub(super) struct Asks {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Open>>,
    refusals: Mutex<Refusals>,
}

fn what(asker: &Asker, ask: &bulkhead_policy::Ask) -> Same {
    Same {
        service: asker.service().to_owned(),
        target: ask.requested_target.clone(),
    }
}

impl Asks {
    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(
        &self,
        inner: &Inner,
        run: &Arc<Run>,
        request: Request,
        ask: bulkhead_policy::Ask,
    ) {
        let share = inner.share_of(run).to_string();
        let mut shown = shown(inner, &request.service, &ask);
        shown.announced = request.announced.map(claim);
        let asker = Asker::Guest(Arc::clone(run), request);
        if let Some(asker) = self.hold_back(inner, asker, &share, &ask) {
            self.put(inner, asker, share, ask, shown, Wish::Programs);
        }
    }

    /// Refuses at once what was refused lately; else returns who asks.
    fn hold_back(
        &self,
        inner: &Inner,
        asker: Asker,
        share: &str,
        ask: &bulkhead_policy::Ask,
    ) -> Option<Asker> {
        let (hold, now) = (inner.config.hold_back, Instant::now());
        let held = (self.refusals()).hold_back(share, &what(&asker, ask), hold, now);
        let Some(why) = held else {
            return Some(asker);
        };
        let rule = format!("{}: {why}", ask.rule);
        asker.refuse(inner, Verdict::deny("limit", rule));
        None
    }

    fn put(
        &self,
        inner: &Inner,
        asker: Asker,
        share: String,
        ask: bulkhead_policy::Ask,
        mut shown: Ask,
        wish: Wish,
    ) {
        let Some(own) = inner.own() else { return };
        let mut asker = Some(asker);
        let rule = ask.rule.clone();
        let displaced = {
            let mut open = self.open();
            let shares = open.iter().map(|(id, open)| (*id, open.share.as_str()));
            let place = fair::place(shares, &share);
            let displaced = match place {
                Place::Instead(other) => open.remove(&other).map(|open| (other, open)),
                Place::Free | Place::None => None,
            };
            if let Some(asker) = asker.take_if(|_| place != Place::None) {
                // Under the lock, so that what is asked later has a higher number.
                let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
                shown.id = id;
                let timer = tokio::spawn(expire(own, id));
                let question = Open {
                    asker,
                    share,
                    ask,
                    shown: shown.clone(),
                    wish,
                    _timer: Timer::of(&timer),
                };
                open.insert(id, question);
            }
            displaced
        };
        if let Some((other, open)) = displaced {
            let rule = format!("{}: another source has fewer open questions", open.ask.rule);
            open.asker.refuse(inner, Verdict::deny("limit", rule));
            removed(inner, other, "withdrawn");
        }
        match asker {
            Some(asker) => {
                let rule = format!("{rule}: too many questions are open");
                asker.refuse(inner, Verdict::deny("limit", rule));
            }
            None => inner.events.send(Event::AskAdded(shown)),
        }
    }

    /// Takes back what the person has wished before, and why.
    fn withdraw_wishes(&self, inner: &Inner, why: &str) {
        let gone: Vec<_> = {
            let mut open = self.open();
            let is_wish = |open: &Open| matches!(open.wish, Wish::Persons(_));
            open.extract_if(.., |_, open| is_wish(open)).collect()
        };
        for (id, open) in gone {
            let rule = format!("{}: {why}", open.ask.rule);
            open.asker.refuse(inner, Verdict::deny("limit", rule));
            removed(inner, id, "withdrawn");
        }
    }

    fn take(&self, id: u64) -> Option<Open> {
        self.open().remove(&id)
    }

    /// Takes back all questions of a domain; there is nobody left to tell the answer.
    pub(super) fn withdraw(&self, inner: &Inner, domid: u32) {
        let gone: Vec<u64> = self
            .open()
            .extract_if(.., |_, open| open.asker.is_of(domid))
            .map(|(id, _)| id)
            .collect();
        for id in gone {
            removed(inner, id, "withdrawn");
        }
    }
}

impl Inner {
    /// The caller of a request is gone: no answer may start anything any more.
    pub(crate) fn call_withdrawn(&self, run: &Run, epoch: u64, request: RequestId) {
        self.calls.forsake(run.domid.0, (epoch, request));
        let gone: Vec<(u64, Open)> = {
            let is_it = |open: &Open| match &open.asker {
                Asker::Guest(asker, asked) => {
                    asker.domid == run.domid && (asked.epoch, asked.id) == (epoch, request)
                }
                Asker::Client(..) => false,
            };
            let mut open = self.calls.asks.open();
            open.extract_if(.., |_, open| is_it(open)).collect()
        };
        for (id, open) in gone {
            if let Asker::Guest(run, request) = &open.asker {
                self.record(run, request, Verdict::caller_gone(&open.ask.rule));
            }
            removed(self, id, "withdrawn");
        }
    }
}

impl Calls {
    /// Takes back the question about what the person wished for, where it is still open.
    pub(crate) fn withdraw_wishes(&self, inner: &Inner, why: &str) {
        self.asks.withdraw_wishes(inner, why);
    }

    /// Asks the person on behalf of a client of the policy's socket; the answer comes later, and
    /// none at all if the daemon ends.
    pub(crate) fn ask_for_client(
        &self,
        inner: &Inner,
        query: &Query,
        ask: bulkhead_policy::Ask,
        wish: Wish,
    ) -> oneshot::Receiver<Option<Allow>> {
        let (answer, answered) = oneshot::channel();
        // Its source is the word of that client, and has the limits of the qube of that name.
        let run = QubeName::new(query.source.as_str()).ok();
        let run = run.and_then(|name| inner.state().run(&name).cloned());
        let share = run.map_or_else(
            || query.source.clone(),
            |run| inner.share_of(&run).to_string(),
        );
        let mut shown = shown(inner, &query.service, &ask);
        let asker = Asker::Client(query.clone(), answer);
        let asker = match wish {
            Wish::Persons(load) => {
                shown.pasted = Some(load);
                // They have chosen it by what they did.
                shown.targets.retain(|target| *target == query.target);
                shown.default_target = shown.targets.first().cloned();
                self.withdraw_wishes(inner, "another question took its place");
                if shown.targets.is_empty() {
                    let rule = format!("{}: another target", ask.rule);
                    asker.refuse(inner, Verdict::deny("policy", rule));
                    return answered;
                }
                Some(asker)
            }
            Wish::Programs => self.asks.hold_back(inner, asker, &share, &ask),
        };
        if let Some(asker) = asker {
            self.asks.put(inner, asker, share, ask, shown, wish);
        }
        answered
    }
}

impl Inner {
    /// Takes back the questions of clients of the policy's socket that no longer listen.
    pub(crate) fn withdraw_unheard(&self) {
        let is_it = |open: &Open| matches!(&open.asker, Asker::Client(_, to) if to.is_closed());
        let gone: Vec<(u64, Open)> = {
            let mut open = self.calls.asks.open();
            open.extract_if(.., |_, open| is_it(open)).collect()
        };
        for (id, open) in gone {
            if let Asker::Client(query, _) = &open.asker {
                self.record_query(query, Verdict::caller_gone(&open.ask.rule));
            }
            removed(self, id, "withdrawn");
        }
    }
}

/// Refuses the question in the end.
async fn expire(inner: Arc<Inner>, id: u64) {
    tokio::time::sleep(inner.config.ask_timeout).await;
    if let Some(open) = inner.calls.asks.take(id) {
        let rule = format!("{}: nobody answered", open.ask.rule);
        open.asker.refuse(&inner, Verdict::deny("timeout", rule));
        removed(&inner, id, "expired");
    }
}

fn removed(inner: &Inner, id: u64, outcome: &str) {
    let outcome = outcome.to_owned();
    inner.events.send(Event::AskRemoved { id, outcome });
}

/// A question as clients see it. Every text in it was cleaned by the relay and checked again, or
/// is the description's.
fn shown(inner: &Inner, service: &str, ask: &bulkhead_policy::Ask) -> Ask {
    let (service, argument) = service.split_once('+').unwrap_or((service, ""));
    let caller = QubeName::new(&*ask.source).ok();
    let row = caller.and_then(|caller| inner.state().row(&caller));
    let label = row.map(|row| row.label);
    let asked = crate::audit::now_ms() / 1000;
    Ask {
        id: 0,
        source: ask.source.to_string(),
        source_label: label.unwrap_or_default(),
        service: service.to_owned(),
        argument: argument.to_owned(),
        requested_target: ask.requested_target.clone(),
        targets: ask.targets.iter().map(ToString::to_string).collect(),
        default_target: ask.default_target.as_ref().map(ToString::to_string),
        asked,
        expires: Some(asked + inner.config.ask_timeout.as_secs()),
        guivm: ask.guivm.as_ref().map(ToString::to_string),
        rule: ask.rule.to_string(),
        announced: None,
        pasted: None,
    }
}

/// What a caller says it will send, as clients see it.
fn claim(announced: bulkhead_wire::qrexec::announced::Announced) -> Announced {
    Announced {
        files: announced.files,
        folders: announced.folders,
        bytes: announced.bytes,
        at_least: announced.at_least,
    }
}

impl Runtime {
    /// Open questions: the oldest of each source, then the second of each, and so on, so that who
    /// asks much does not push down who asks once.
    pub fn asks(&self) -> Vec<Ask> {
        let open = self.inner.calls.asks.open();
        let ordered = fair::order(open.values(), |open| &open.share);
        ordered.into_iter().map(|open| open.shown.clone()).collect()
    }

    /// Answers one, as `who`. Without a target its default one is meant.
    ///
    /// # Errors
    /// Where there is no such question, or the target is none of those offered: then it stays
    /// open.
    pub fn answer(
        &self,
        id: u64,
        answer: Answer,
        target: Option<&str>,
        who: &str,
    ) -> Result<(), RuntimeError> {
        let asks = &self.inner.calls.asks;
        let chosen = {
            let open = asks.open();
            let question = open.get(&id).ok_or(RuntimeError::NoSuchAsk(id))?;
            let chosen = target
                .filter(|target| !target.is_empty())
                .map(ToOwned::to_owned)
                .or_else(|| question.shown.default_target.clone());
            if answer == Answer::Allow {
                let chosen = chosen.as_ref().ok_or(RuntimeError::TargetMissing(id))?;
                if !question.shown.targets.contains(chosen) {
                    let target = chosen.clone();
                    return Err(RuntimeError::NotATarget { ask: id, target });
                }
            }
            chosen.unwrap_or_default()
        };
        let open = asks.take(id).ok_or(RuntimeError::NoSuchAsk(id))?;
        let by = format!("user:{who}");
        let view = Arc::clone(&self.inner.state().view);
        let outcome = match answer {
            Answer::Deny => Err(open.ask.refuse()),
            Answer::Allow => open.ask.answer(&chosen, &view),
        };
        match outcome {
            Ok(allow) => {
                if open.wish == Wish::Programs {
                    let what = what(&open.asker, &open.ask);
                    asks.refusals().relent(&open.share, &what);
                }
                open.asker.allow(&self.inner, allow, &by);
                removed(&self.inner, id, "allowed");
            }
            Err(deny) => {
                if answer == Answer::Deny && open.wish == Wish::Programs {
                    let (hold, now) = (self.inner.config.hold_back, Instant::now());
                    let what = what(&open.asker, &open.ask);
                    asks.refusals().note(&open.share, what, hold, now);
                }
                let verdict = Verdict::denied(&by, &deny);
                open.asker.refuse(&self.inner, verdict);
                removed(&self.inner, id, "denied");
            }
        }
        Ok(())
    }
}
