//! `bulkhead start`, `stop`, `kill`, `pause`, `unpause` and `restart`.

use bulkhead_api::ApiError;
use bulkhead_api::qube::QubeRow;
use futures_util::stream::{self, StreamExt};

use crate::args::{Global, KillArgs, SomeQubes, StopArgs};
use crate::client::{Client, with_client};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::progress::waiting;

/// Qubes that change at the same time: each takes a connection, of which the daemon has some
/// dozens for everyone.
const AT_ONCE: usize = 8;

/// What happens to a qube.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    Start,
    Stop {
        /// Seconds until it is ended; 0 for its own timeout.
        timeout: u32,
        /// Whatever needs it.
        force: bool,
    },
    Kill {
        /// As for [`Change::Stop`].
        force: bool,
    },
    Pause,
    Unpause,
    /// Both as for [`Change::Stop`].
    Restart {
        timeout: u32,
        force: bool,
    },
}

impl Change {
    /// As a person would say it.
    fn doing(self) -> &'static str {
        match self {
            Self::Start => "Starting",
            Self::Stop { .. } => "Stopping",
            Self::Kill { .. } => "Ending",
            Self::Pause => "Freezing",
            Self::Unpause => "Resuming",
            Self::Restart { .. } => "Restarting",
        }
    }

    async fn make(self, client: &Client, qube: &str) -> Result<(), ApiError> {
        let proxy = &client.proxy;
        match self {
            Self::Start => proxy.start(qube).await,
            Self::Stop { timeout, force } => proxy.stop(qube, timeout, force).await,
            Self::Kill { force } => proxy.kill(qube, force).await,
            Self::Pause => proxy.pause(qube).await,
            Self::Unpause => proxy.unpause(qube).await,
            Self::Restart { timeout, force } => proxy.restart(qube, timeout, force).await,
        }
    }
}

pub(crate) fn simple(global: &Global, change: Change, qubes: Vec<String>) -> Result<Exit, Failure> {
    with_client(global, |client| async move {
        let mut tally = Tally::default();
        many(&client, change, qubes, &mut tally).await;
        tally.end()
    })
}

pub(crate) async fn start(client: Client, which: SomeQubes) -> Result<Exit, Failure> {
    let qubes = if which.all {
        let rows = client.proxy.list().await?;
        rows.into_iter()
            .filter(is_startable)
            .map(|row| row.name)
            .collect()
    } else {
        which.qubes
    };
    let mut tally = Tally::default();
    many(&client, Change::Start, qubes, &mut tally).await;
    tally.end()
}

/// Templates run only to be maintained, and disposables only by being asked for.
fn is_startable(row: &QubeRow) -> bool {
    let kind = row.kind.as_str();
    !row.state.has_domain() && matches!(kind, "app" | "standalone" | "named_disposable")
}

pub(crate) async fn stop(client: Client, args: StopArgs) -> Result<Exit, Failure> {
    let change = Change::Stop {
        timeout: args.timeout.unwrap_or(0),
        force: args.force,
    };
    in_order(client, change, args.which).await
}

pub(crate) async fn kill(client: Client, args: KillArgs) -> Result<Exit, Failure> {
    let (all, qubes) = (false, args.qubes);
    let change = Change::Kill { force: args.force };
    in_order(client, change, SomeQubes { all, qubes }).await
}

/// Ends qubes one way or another: those that provide network after those that use it.
async fn in_order(client: Client, change: Change, which: SomeQubes) -> Result<Exit, Failure> {
    let mut tally = Tally::default();
    let SomeQubes { all, mut qubes } = which;
    // One alone is in no order with others.
    let mut ordered = Vec::new();
    if all || qubes.len() > 1 {
        let mut rows = client.proxy.list().await?;
        if !all {
            rows.retain(|row| qubes.contains(&row.name));
        }
        ordered = waves(rows);
        // What does not run, or is not there at all, is the daemon's to say.
        qubes.retain(|name| !ordered.iter().flatten().any(|other| other == name));
    }
    if !qubes.is_empty() {
        ordered.insert(0, qubes);
    }
    for wave in ordered {
        many(&client, change, wave, &mut tally).await;
    }
    tally.end()
}

/// Running qubes in groups: none provides network to one of a later group.
fn waves(mut left: Vec<QubeRow>) -> Vec<Vec<String>> {
    left.retain(|row| row.state.has_domain());
    let mut waves = Vec::new();
    while !left.is_empty() {
        let used = |name: &str| left.iter().any(|row| row.netvm == name && row.name != name);
        let (later, mut now): (Vec<_>, Vec<_>) =
            left.iter().cloned().partition(|row| used(&row.name));
        let later = if now.is_empty() {
            // A circle: the daemon declares none, so any order is as good.
            now = later;
            Vec::new()
        } else {
            later
        };
        waves.push(now.into_iter().map(|row| row.name).collect());
        left = later;
    }
    waves
}

/// How many changes were made.
#[derive(Debug, Default)]
struct Tally {
    done: usize,
    failures: Vec<Failure>,
}

impl Tally {
    /// Each failure is shown on its own; the last one ends the command.
    fn end(mut self) -> Result<Exit, Failure> {
        let Some(last) = self.failures.pop() else {
            return Ok(Exit::Done);
        };
        for failure in &self.failures {
            failure.show();
        }
        Err(if self.done > 0 {
            last.exit(Exit::Partly)
        } else {
            last
        })
    }
}

/// Changes all of them, several at a time, and goes on where one fails.
async fn many(client: &Client, change: Change, qubes: Vec<String>, tally: &mut Tally) {
    let what = format!("{} {}", change.doing(), qubes.join(", "));
    let alone = qubes.len() == 1;
    let one = |qube: String| async move {
        if alone {
            change.make(client, &qube).await.map_err(Failure::from)
        } else {
            let own = client.another().await?;
            change.make(&own, &qube).await.map_err(Failure::from)
        }
    };
    let all = stream::iter(qubes)
        .map(one)
        .buffered(AT_ONCE)
        .collect::<Vec<_>>();
    for outcome in waiting(&what, all).await {
        match outcome {
            Ok(()) => tally.done += 1,
            Err(failure) => tally.failures.push(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_api::qube::QubeState;

    use super::*;

    fn row(name: &str, netvm: &str, state: QubeState) -> QubeRow {
        QubeRow {
            name: name.into(),
            state,
            kind: "app".into(),
            label: "red".into(),
            color: "0xcc0000".into(),
            template: "host".into(),
            netvm: netvm.into(),
            memory: 0,
            domid: 0,
        }
    }

    #[test]
    fn network_goes_last() {
        use QubeState::{Failed, Paused, Running, Stopped};
        let rows = vec![
            row("sys-firewall", "sys-net", Running),
            row("sys-net", "", Running),
            row("vault", "", Paused),
            row("work", "sys-firewall", Running),
            row("personal", "sys-firewall", Stopped),
            row("broken", "sys-net", Failed),
        ];
        let waves = waves(rows);
        assert_eq!(
            waves,
            [vec!["vault", "work"], vec!["sys-firewall"], vec!["sys-net"]]
        );
    }

    #[test]
    fn a_circle_ends_all_the_same() {
        use QubeState::Running;
        let waves = waves(vec![row("a", "b", Running), row("b", "a", Running)]);
        assert_eq!(waves, [["a", "b"]]);
    }
}
