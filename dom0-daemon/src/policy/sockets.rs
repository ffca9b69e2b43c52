//! Sockets on which programs of dom0 ask the policy, and on which policy files are changed.
//!
//! | Socket | What it takes |
//! | --- | --- |
//! | `policy.sock` | requests of the public policy daemon |
//! | `policy.EvalSimple`, `policy.EvalGUI` | what the socket services of these names get |
//! | `policy.admin` | `SERVICE+ARGUMENT SOURCE`, NUL, payload; answers an exit code and its output |
//!
//! Only root, the daemon's own user and the group may connect. What comes is parsed by
//! `bulkhead_policy`, within its limits.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bulkhead_policy::{
    ADMIN_SERVICES, AdminRequest, DENIED, Decision, EVALUATION_BYTES_MAX, PAYLOAD_BYTES_MAX, Query,
    Reply, RequestReader, read_evaluation,
};
use bulkhead_wire::causes::chain;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::bus::{BusError, Gate, bind_guarded};
use crate::calls::{Verdict, Wish};
use crate::runtime::{Inner, Runtime};

/// Connections served at a time on each socket; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take over what it asks, and over taking the answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after accept failed (out of descriptors): accepting again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest first line of a request to the admin socket.
const ADMIN_HEADER_MAX: usize = 512;

/// What a socket is for.
#[derive(Debug, Clone, Copy)]
enum Use {
    Requests,
    Evaluations(Evaluations),
    Admin,
}

/// Which evaluations are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evaluations {
    /// `policy.EvalSimple`: all.
    All,
    /// `policy.EvalGUI`: of qubes whose windows the caller shows.
    OfShown,
}

impl Evaluations {
    /// Its service and its socket.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::All => "policy.EvalSimple",
            Self::OfShown => "policy.EvalGUI",
        }
    }
}

const SOCKETS: [(&str, Use); 4] = [
    ("policy.sock", Use::Requests),
    (Evaluations::All.name(), Use::Evaluations(Evaluations::All)),
    (
        Evaluations::OfShown.name(),
        Use::Evaluations(Evaluations::OfShown),
    ),
    ("policy.admin", Use::Admin),
];

impl Runtime {
    /// Listens on the sockets in `folder` and serves them as long as the runtime lives.
    ///
    /// # Errors
    /// Where one cannot be made or guarded.
    pub fn serve_policy(&self, folder: &Path, gate: Gate) -> Result<(), BusError> {
        for (name, of_use) in SOCKETS {
            let listener = bind_guarded(&folder.join(name), gate)?;
            tokio::spawn(accept(listener, gate, of_use, Arc::downgrade(&self.inner)));
        }
        Ok(())
    }
}

async fn accept(listener: UnixListener, gate: Gate, of_use: Use, inner: Weak<Inner>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client of the policy");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(inner) = inner.upgrade() else { return };
        let who = match gate.who(&stream) {
            Ok(who) => who,
            Err(why) => {
                tracing::warn!(%why, "a stranger was turned away from the policy");
                continue;
            }
        };
        tokio::spawn(async move {
            if let Err(error) = serve(&inner, stream, of_use, &who).await {
                tracing::warn!(%error, user = who, "a question to the policy got no answer");
            }
            drop(place);
        });
    }
}

pub(super) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

async fn serve(inner: &Inner, mut stream: UnixStream, of_use: Use, who: &str) -> io::Result<()> {
    let answer = match of_use {
        Use::Requests => {
            let query = timeout(PATIENCE, request(&mut stream)).await??;
            tokio::select! {
                answer = inner.ask_policy(&query, who) => answer,
                () = hung_up(&stream) => {
                    // Nobody listens to it any more, so nobody needs to be asked.
                    inner.withdraw_unheard();
                    return Ok(());
                }
            }
        }
        Use::Evaluations(which) => {
            let all = read_all(&mut stream, EVALUATION_BYTES_MAX);
            let bytes = timeout(PATIENCE, all).await??;
            inner.evaluate_policy(which, &bytes, who).await?
        }
        Use::Admin => {
            let all = read_all(&mut stream, ADMIN_HEADER_MAX + PAYLOAD_BYTES_MAX);
            let bytes = timeout(PATIENCE, all).await??;
            let answer = inner.administer(&bytes, who).await?;
            return timeout(PATIENCE, stream.write_all(&answer)).await?;
        }
    };
    timeout(PATIENCE, stream.write_all(answer.as_bytes())).await?
}

/// Waits until the client has closed both directions: one that only sends no more still listens.
/// Where that cannot be seen, for ever.
async fn hung_up(stream: &UnixStream) {
    // A watch of its own: the stream's must go on knowing that there is room for the answer.
    let copy = stream.as_fd().try_clone_to_owned();
    let Ok(watch) = copy.and_then(|copy| crate::aio::watch(copy, Interest::WRITABLE)) else {
        return std::future::pending().await;
    };
    while let Ok(mut ready) = watch.writable().await {
        if ready.ready().is_write_closed() {
            return;
        }
        // There is room, and will be: only the next change is of interest.
        ready.clear_ready();
    }
    std::future::pending().await
}

async fn request(stream: &mut UnixStream) -> io::Result<Query> {
    let mut reader = RequestReader::default();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).await?;
        let done = reader.push(piece.get(..count).unwrap_or_default());
        if count == 0 || done.map_err(invalid)? {
            return reader.finish().map_err(invalid);
        }
    }
}

/// Everything up to the end; more than `most` is an error.
pub(super) async fn read_all(
    stream: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    stream.take(limit).read_to_end(&mut bytes).await?;
    if bytes.len() > most {
        return Err(invalid(format!("it is longer than {most} bytes")));
    }
    Ok(bytes)
}

impl Inner {
    /// The answer to a query; where the person is asked, it waits for theirs.
    async fn ask_policy(&self, query: &Query, who: &str) -> String {
        let (engine, view) = {
            let state = self.state();
            (Arc::clone(&state.engine), Arc::clone(&state.view))
        };
        match query.answer(&engine, &view) {
            Reply::Done(text, decision) => {
                // What is only evaluated connects nothing and is no call.
                if query.told == bulkhead_policy::Told::Everything {
                    let by = format!("policy, for user:{who}");
                    let verdict = match *decision {
                        Decision::Allow(allow) => Verdict::allow(&by, &allow),
                        Decision::Deny(deny) => Verdict::denied(&by, &deny),
                        Decision::Ask(ask) => Verdict::deny(&by, ask.rule.to_string()),
                    };
                    self.record_query(query, verdict);
                }
                text
            }
            Reply::Ask(ask) => {
                let answer = self.calls.ask_for_client(self, query, *ask, Wish::Programs);
                match answer.await {
                    Ok(Some(allow)) => query.allowed(&allow),
                    // Refused, held back, or nobody answered; recorded where it was.
                    Ok(None) | Err(_) => DENIED.to_owned(),
                }
            }
        }
    }

    /// The answer to an evaluation, the bytes of a whole connection.
    pub(super) async fn evaluate_policy(
        &self,
        which: Evaluations,
        bytes: &[u8],
        who: &str,
    ) -> io::Result<String> {
        let evaluation = read_evaluation(which.name(), bytes).map_err(invalid)?;
        let view = Arc::clone(&self.state().view);
        if which == Evaluations::OfShown && !evaluation.is_of_gui_domain(&view) {
            return Err(invalid(
                "the caller does not show the windows of both qubes",
            ));
        }
        Ok(self.ask_policy(&evaluation.query, who).await + "\n")
    }

    /// Records a decision for a client of the socket.
    pub(crate) fn record_query(&self, query: &Query, verdict: Verdict<'_>) {
        let record = verdict.about(&query.source, &query.target, &query.service);
        self.audit.record_in(&query.source, record);
    }

    /// Does what a client of the admin socket asks: an exit code, NUL and the output.
    async fn administer(&self, bytes: &[u8], who: &str) -> io::Result<Vec<u8>> {
        let end = bytes
            .iter()
            .take(ADMIN_HEADER_MAX)
            .position(|byte| *byte == 0);
        let end = end.ok_or_else(|| invalid("the first line has no end"))?;
        let (header, payload) = bytes.split_at_checked(end).unwrap_or_default();
        let header = std::str::from_utf8(header).map_err(invalid)?;
        let (call, source) = header.split_once(' ').ok_or_else(|| invalid("no source"))?;
        let payload = payload.get(1..).unwrap_or_default().to_owned();
        let by = format!("user:{who}");
        let (code, output) = self.change_policy(call, source, payload, &by).await?;
        let mut answer = vec![b'0' + code, 0];
        answer.extend(output);
        Ok(answer)
    }

    /// Does what `source` asks by `call`, a service with its argument: an exit code, and the output
    /// or else what is wrong.
    pub(super) async fn change_policy(
        &self,
        call: &str,
        source: &str,
        payload: Vec<u8>,
        by: &str,
    ) -> io::Result<(u8, Vec<u8>)> {
        let layout = self.admin_layout();
        let Some(own) = self.own() else {
            return Err(invalid("the daemon ends"));
        };
        let asked = call.to_owned();
        let done = tokio::task::spawn_blocking(move || {
            let (service, argument) = asked.split_once('+').unwrap_or((&asked, ""));
            let request = AdminRequest {
                service,
                argument,
                payload: &payload,
            };
            let _one_at_a_time = own.policy.lock_files();
            super::store::perform(&request, layout.as_ref())
        });
        let done = done.await.map_err(io::Error::other)?;
        let (code, output, outcome) = match done {
            Ok(output) => (0, output, "done".to_owned()),
            Err(error) => {
                let why = chain(&error);
                let (code, text) = error.told();
                (code, text.into_bytes(), why)
            }
        };
        let service = call.split('+').next().unwrap_or_default();
        let changes = call.contains("Replace") || call.contains("Remove");
        if changes && ADMIN_SERVICES.contains(&service) {
            let query = Query {
                source: source.to_owned(),
                target: "dom0".to_owned(),
                service: call.to_owned(),
                ..Query::default()
            };
            let verdict = Verdict {
                target: "dom0".to_owned(),
                decision: if code == 0 { "allow" } else { "deny" },
                by,
                rule: outcome,
                notify: false,
            };
            self.record_query(&query, verdict);
        } else if code != 0 {
            tracing::info!(call, by, why = outcome, "a policy request was refused");
        }
        Ok((code, output))
    }
}
