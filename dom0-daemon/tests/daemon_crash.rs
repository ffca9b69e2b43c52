//! The real daemon, killed at every step of several plans, with real qubes: they live on, the next
//! daemon takes them over, and finishes what was begun. Nothing starts twice.

#![cfg(any(debug_assertions, feature = "fault-injection"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;

use bulkhead_api::change::{
    ApplyOutcome, ApplyReport, ApplyRequest, PlanReply, PlanRequest, RollbackRequest, Status,
};
use bulkhead_api::proxy::Manager1Proxy;
use bulkhead_testing::{TestDaemon, wait_for};

const NET: &str = r#""net": (label: "red", netvm: None, provides_network: true, autostart: true),"#;
const WORK: &str = r#""work": (label: "blue", netvm: "net", autostart: true),"#;
const MAIL: &str = r#""mail": (label: "green", netvm: "net", autostart: true),"#;

struct Machine(TestDaemon);

impl Machine {
    fn describe(&self, qubes: &str) {
        let text = format!(
            r#"(defaults: (template: "host"), templates: {{ "host": (source: Host) }},
                qubes: {{ {qubes} }})"#
        );
        fs::write(self.0.path("system.ron"), text).unwrap();
    }

    /// A new daemon, which takes over what runs; the old one is killed.
    async fn daemon(&mut self, crash_at: Option<&str>) -> Manager1Proxy<'static> {
        self.0.kill();
        let mut command = self.0.daemon("system.ron");
        if let Some(at) = crash_at {
            command.env("BULKHEAD_CRASH_AT", at);
        }
        self.0.start(command);
        let stream = UnixStream::connect(self.0.path("run/bus")).unwrap();
        let builder = zbus::connection::Builder::unix_stream(stream).p2p();
        let connection = builder.build().await.unwrap();
        Manager1Proxy::new(&connection).await.unwrap()
    }

    /// The daemon ends by itself, by SIGKILL.
    fn killed(&mut self, what: &str) {
        let process = self.0.process();
        let status = wait_for(what, || process.try_wait().unwrap());
        assert_eq!(status.signal(), Some(9), "{what}: {}", self.0.log());
        self.0.forget();
    }

    /// What runs with which domain number, and which volumes hold the letter.
    async fn picture(&self, proxy: &Manager1Proxy<'_>) -> (BTreeMap<String, u32>, Vec<String>) {
        let rows = proxy.list().await.unwrap();
        let running = rows.into_iter().filter(|row| row.domid != 0);
        let running = running.map(|row| (row.name, row.domid)).collect();
        let mut letters = Vec::new();
        for qube in ["mail", "net", "work"] {
            if self
                .0
                .path(&format!("state/volumes/{qube}/private/letter"))
                .exists()
            {
                letters.push(qube.to_owned());
            }
        }
        (running, letters)
    }
}

enum Change {
    Describe(String),
    Rollback,
}

fn request() -> String {
    let request = ApplyRequest {
        plan: PlanRequest {
            restart: true,
            ..PlanRequest::default()
        },
        allow_destroy: true,
        ..ApplyRequest::default()
    };
    serde_json::to_string(&request).unwrap()
}

async fn apply(proxy: &Manager1Proxy<'_>) -> Result<ApplyReport, String> {
    let reply = proxy
        .apply(&request())
        .await
        .map_err(|error| error.to_string())?;
    Ok(serde_json::from_str(&reply).unwrap())
}

async fn change(proxy: &Manager1Proxy<'_>, change: &Change) -> Result<ApplyReport, String> {
    match change {
        Change::Describe(_) => apply(proxy).await,
        Change::Rollback => {
            let request = RollbackRequest {
                message: String::new(),
                generation: Some(1),
                restart: true,
                allow_destroy: true,
                dry_run: false,
            };
            let request = serde_json::to_string(&request).unwrap();
            let reply = proxy
                .rollback(&request)
                .await
                .map_err(|error| error.to_string())?;
            Ok(serde_json::from_str(&reply).unwrap())
        }
    }
}

/// Kills the daemon before and after each step of the way from `base` to what `wanted` says.
/// `starts` is how many domains that way creates, `kept` which letters there are in the end.
async fn survive(base: &str, wanted: Change, runs: &[&str], starts: u32, kept: &[&str]) {
    let mut machine = Machine(TestDaemon::new());
    machine.describe(&format!("{NET}{WORK}"));
    let mut proxy = machine.daemon(None).await;
    assert_eq!(apply(&proxy).await.unwrap().outcome, ApplyOutcome::Done);
    // The highest domain number seen: every start takes a new one, so that a start too many shows.
    let mut highest = 0;
    let mut step = 0;
    let mut points = ["before", "after"].into_iter().cycle();
    let mut steps = usize::MAX;
    while step < steps {
        machine.describe(base);
        let report = apply(&proxy).await.unwrap();
        assert!(report.failures.is_empty(), "{report:?}");
        for qube in ["net", "work", "mail"] {
            let volume = machine.0.path(&format!("state/volumes/{qube}/private"));
            if volume.exists() {
                fs::write(volume.join("letter"), "dear").unwrap();
            }
        }
        if let Change::Describe(text) = &wanted {
            machine.describe(text);
            let plan = proxy.plan(r#"{"restart":true}"#).await.unwrap();
            let plan: PlanReply = serde_json::from_str(&plan).unwrap();
            steps = usize::try_from(plan.steps).unwrap();
        } else {
            // Declare, stop and start of work, stop of mail, its volume aside, switch, destroy.
            steps = 7;
        }
        let before = machine.picture(&proxy).await.0;
        highest = highest.max(before.values().copied().max().unwrap_or(0));
        let point = points.next().unwrap();
        let what = format!("killed at {point}:{step} of {steps}");
        proxy = machine.daemon(Some(&format!("{point}:{step}"))).await;
        assert_eq!(
            machine.picture(&proxy).await.0,
            before,
            "{what}: taken over"
        );
        let cut = change(&proxy, &wanted).await;
        assert!(cut.is_err(), "{what}: {cut:?}");
        machine.killed(&what);
        proxy = machine.daemon(None).await;
        let (running, letters) = machine.picture(&proxy).await;
        let names: Vec<&str> = running.keys().map(String::as_str).collect();
        assert_eq!(names, runs, "{what}: {}", machine.0.log());
        assert_eq!(letters, kept, "{what}");
        let fresh = running
            .iter()
            .filter(|(name, domid)| before.get(*name) != Some(domid));
        assert_eq!(
            u32::try_from(fresh.count()).unwrap(),
            starts,
            "{what}: once, and once only"
        );
        let most = running.values().copied().max().unwrap_or(0);
        // A start that the kill cut short has used a number of its own.
        let attempts = 2 * starts;
        assert!(
            most <= highest + attempts,
            "{what}: {highest} {running:?} {}",
            machine.0.log()
        );
        highest = highest.max(most);
        let status: Status = serde_json::from_str(&proxy.status().await.unwrap()).unwrap();
        assert!(
            status.drift.is_empty() && status.warnings.is_empty(),
            "{what}: {status:?}"
        );
        if let Change::Describe(_) = &wanted {
            let again = apply(&proxy).await.unwrap();
            assert_eq!(again.outcome, ApplyOutcome::Nothing, "{what}: {again:?}");
        }
        if point == "after" {
            step += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qube_is_added() {
    let base = format!("{NET}{WORK}");
    let wanted = Change::Describe(format!("{NET}{WORK}{MAIL}"));
    survive(&base, wanted, &["mail", "net", "work"], 1, &["net", "work"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn properties_change_and_a_qube_restarts() {
    let base = format!("{NET}{WORK}");
    let wanted = Change::Describe(format!(
        r#"{NET} "work": (label: "green", netvm: "net", autostart: true, kernelopts: "quiet",
            memory: (initial: 300, maximum: 900), tags: ["office"]),"#
    ));
    survive(&base, wanted, &["net", "work"], 1, &["net", "work"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qube_is_removed_with_its_data() {
    let base = format!("{NET}{WORK}{MAIL}");
    let wanted = Change::Describe(format!("{NET}{WORK}"));
    survive(&base, wanted, &["net", "work"], 0, &["net", "work"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback() {
    let base = format!(
        r#"{NET} "work": (label: "blue", netvm: "net", autostart: true, kernelopts: "quiet"),{MAIL}"#
    );
    survive(
        &base,
        Change::Rollback,
        &["net", "work"],
        1,
        &["net", "work"],
    )
    .await;
}
