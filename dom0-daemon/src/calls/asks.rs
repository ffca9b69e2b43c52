//! Questions to the person, open until answered, withdrawn or too old.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_api::call::{Answer, Ask};
use bulkhead_api::event::Event;
use bulkhead_wire::relay::RequestId;

use super::{Request, Verdict};
use crate::runtime::{Inner, Run, Runtime, RuntimeError};

/// Questions that one qube may have open: enough for a person, too few to bury the others.
pub(super) const ASKS_PER_QUBE: usize = 16;
/// Questions open in all; a list that a person can still look through.
pub(super) const ASKS_MAX: usize = 256;

#[derive(Debug)]
struct Open {
    run: Arc<Run>,
    request: Request,
    ask: bulkhead_policy::Ask,
    shown: Ask,
    _timer: Timer,
}

/// Ends with its question: a qube that asks and takes back in turn leaves nothing that waits.
#[derive(Debug)]
struct Timer(tokio::task::AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// All open questions.
#[derive(Debug, Default)]
pub(super) struct Asks {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Open>>,
}

impl Asks {
    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(
        &self,
        inner: &Inner,
        run: &Arc<Run>,
        request: Request,
        ask: bulkhead_policy::Ask,
    ) {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let shown = shown(inner, id, run, &request, &ask);
        let Some(own) = inner.own() else { return };
        let full = {
            let mut open = self.open();
            let of_it = open.values().filter(|o| o.run.domid == run.domid).count();
            let full = of_it >= ASKS_PER_QUBE || open.len() >= ASKS_MAX;
            if !full {
                let timer = tokio::spawn(expire(own, id));
                let question = Open {
                    run: Arc::clone(run),
                    request: request.clone(),
                    ask: ask.clone(),
                    shown: shown.clone(),
                    _timer: Timer(timer.abort_handle()),
                };
                open.insert(id, question);
            }
            full
        };
        if full {
            let rule = format!("{}: too many questions are open", ask.rule);
            inner.refuse(run, &request, Verdict::deny("limit", rule));
        } else {
            inner.events.send(Event::AskAdded(shown));
        }
    }

    fn take(&self, id: u64) -> Option<Open> {
        self.open().remove(&id)
    }

    /// Takes back all questions of a domain; there is nobody left to tell the answer.
    pub(super) fn withdraw(&self, inner: &Inner, domid: u32) {
        let gone: Vec<u64> = self
            .open()
            .extract_if(.., |_, open| open.run.domid.0 == domid)
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
        let mut gone: Vec<(u64, Open)> = {
            let is_it = |open: &Open| {
                open.run.domid == run.domid
                    && (open.request.epoch, open.request.id) == (epoch, request)
            };
            let mut open = self.calls.asks.open();
            open.extract_if(.., |_, open| is_it(open)).collect()
        };
        for (id, open) in gone.drain(..) {
            self.record(run, &open.request, Verdict::caller_gone(&open.ask.rule));
            removed(self, id, "withdrawn");
        }
    }
}

/// Refuses the question in the end.
async fn expire(inner: Arc<Inner>, id: u64) {
    tokio::time::sleep(inner.config.ask_timeout).await;
    if let Some(open) = inner.calls.asks.take(id) {
        let rule = format!("{}: nobody answered", open.ask.rule);
        inner.refuse(&open.run, &open.request, Verdict::deny("timeout", rule));
        removed(&inner, id, "expired");
    }
}

fn removed(inner: &Inner, id: u64, outcome: &str) {
    let outcome = outcome.to_owned();
    inner.events.send(Event::AskRemoved { id, outcome });
}

/// A question as clients see it. Every text in it was cleaned by the relay and checked again, or
/// is the description's.
fn shown(inner: &Inner, id: u64, run: &Run, request: &Request, ask: &bulkhead_policy::Ask) -> Ask {
    let (service, argument) = request
        .service
        .split_once('+')
        .unwrap_or((&request.service, ""));
    let label = inner.state().row(&run.name).map(|row| row.label);
    let asked = crate::audit::now_ms() / 1000;
    Ask {
        id,
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
    }
}

impl Runtime {
    /// Open questions, oldest first.
    pub fn asks(&self) -> Vec<Ask> {
        let open = self.inner.calls.asks.open();
        open.values().map(|open| open.shown.clone()).collect()
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
                self.inner.allowed(&open.run, open.request, allow, &by);
                removed(&self.inner, id, "allowed");
            }
            Err(deny) => {
                let rule = format!("{}: {}", open.ask.rule, deny.reason);
                let verdict = Verdict {
                    notify: deny.notify,
                    ..Verdict::deny(&by, rule)
                };
                self.inner.refuse(&open.run, &open.request, verdict);
                removed(&self.inner, id, "denied");
            }
        }
        Ok(())
    }
}
