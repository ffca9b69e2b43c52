//! From the text of a description to a plan: `cargo bench -p bulkheadd --bench plan`, or
//! `cargo xtask bench plan` for the figures alone.
//!
//! `text_to_plan` is what a person waits for at `bulkhead plan` on a machine that has nothing yet
//! (every qube is added, half of them start); `text_to_no_plan` on one that is as described.
//! `nothing_to_do` is a whole `apply` that finds nothing to do, with the database and storage on
//! disk and a machine that runs half of the qubes.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bulkhead_model::load::load;
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Description, Qube};
use bulkhead_model::source::MemoryReader;
use bulkheadd::db::Database;
use bulkheadd::hypervisor::{DomId, DomainState, Reach};
use bulkheadd::lock::{Lock, Locked};
use bulkheadd::machine::{
    Declared, LiveChange, Machine, MachineError, MachineState, Reason, RunningQube,
};
use bulkheadd::observe::{Current, Observed};
use bulkheadd::ops::{ApplyOutcome, ApplyRequest, Operations, OperationsConfig};
use bulkheadd::plan::build::{PlanOptions, plan};
use bulkheadd::storage::{Config as StorageConfig, dir::DirStorage};
use bulkheadd::storage::{ImageDigest, VolumeId, VolumeInfo};
use divan::Bencher;
use tokio::sync::Mutex;

const SYSTEM: &str = "/system.ron";

/// Instead of the benchmarks: print what `cargo xtask bench` looks at.
const FIGURES: &str = "--figures";
/// How often each figure is taken.
const ROUNDS: usize = 15;
/// Qubes of a large system, and of one ten times that.
const QUBES: [usize; 2] = [1_000, 10_000];

/// Followed by a number of qubes and `new` or `same`: one plan in this process, and the milliseconds
/// that it took. A daemon that has just loaded its description plans on fresh memory, so the figures
/// come from here; a profiler wants it too.
const ONCE: &str = "--once";

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().collect();
    let mut after_once = words.iter().skip_while(|word| *word != ONCE).skip(1);
    if let (Some(qubes), Some(against)) = (after_once.next(), after_once.next()) {
        println!("{:.3}", once(qubes.parse()?, Against::parse(against)?));
    } else if words.iter().any(|word| word == FIGURES) {
        figures()?;
    } else {
        divan::main();
    }
    Ok(())
}

/// What the plan is made against.
#[derive(Debug, Clone, Copy)]
enum Against {
    /// A machine that has nothing yet.
    Nothing,
    /// One that is as described.
    Same,
}

impl Against {
    const ALL: [(&str, Self); 2] = [("new", Self::Nothing), ("same", Self::Same)];

    fn parse(word: &str) -> Outcome<Self> {
        let found = Self::ALL.into_iter().find(|(name, _)| *name == word);
        Ok(found.ok_or("plan against what, `new` or `same`?")?.1)
    }
}

/// Milliseconds from text to plan.
fn once(qubes: usize, against: Against) -> f64 {
    let text = text(qubes);
    let (observed, lock) = match against {
        Against::Nothing => (Observed::default(), Lock::default()),
        Against::Same => settled(&read(&text)),
    };
    let start = std::time::Instant::now();
    let made = plan(&read(&text), &lock, &observed, PlanOptions::default());
    let took = start.elapsed();
    let made = made.expect("a plan");
    assert_eq!(made.steps.is_empty(), matches!(against, Against::Same));
    took.as_secs_f64() * 1e3
}

/// The fastest and the median of some rounds, each in a process of its own.
fn text_to_plan_ms(qubes: usize, against: &str) -> Outcome<(f64, f64)> {
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        let output = std::process::Command::new(std::env::current_exe()?)
            .args([ONCE, &qubes.to_string(), against])
            .stderr(std::process::Stdio::inherit())
            .output()?;
        all.push(String::from_utf8(output.stdout)?.trim().parse::<f64>()?);
    }
    all.sort_by(f64::total_cmp);
    let at = |index: usize| all.get(index).copied().ok_or("no rounds");
    Ok((at(0)?, at(ROUNDS / 2)?))
}

fn figures() -> Outcome<()> {
    for (name, _) in Against::ALL {
        let mut per_qube = Vec::new();
        for qubes in QUBES {
            let (fastest, median) = text_to_plan_ms(qubes, name)?;
            println!("figure plan_{name}_{qubes} {median:.3} ms");
            println!("figure plan_{name}_{qubes}_best {fastest:.3} ms");
            per_qube.push(fastest / qubes as f64);
        }
        if let [one, ten] = per_qube[..] {
            println!("figure plan_{name}_growth {:.3} x", ten / one);
        }
    }
    Ok(())
}

/// Qubes as people write them: a netvm for every ten, half of the others started with the machine.
fn text(qubes: usize) -> String {
    let mut text = String::from(
        "(\n  defaults: (template: \"debian\", netvm: None),\n  templates: { \"debian\": (source: Host) },\n  qubes: {\n",
    );
    for index in 0..qubes {
        let net = index - index % 10;
        let line = match index % 10 {
            0 => format!(
                "    \"sys-net-{net}\": (label: \"red\", provides_network: true, autostart: true),\n"
            ),
            digit => format!(
                "    \"qube-{index}\": (\n      label: \"blue\",\n      netvm: \"sys-net-{net}\",\n      \
                 autostart: {},\n      memory: (initial: \"400 MiB\", maximum: \"2 GiB\"),\n      vcpus: 2,\n      \
                 tags: [\"team-{digit}\", \"office\"],\n      services: {{ \"cups\": true }},\n      \
                 volumes: {{ \"private\": (size: \"4 GiB\") }},\n    ),\n",
                digit % 2 == 0
            ),
        };
        text.push_str(&line);
    }
    let _ = write!(
        text,
        "  }},\n  policy: [\"qubes.Filecopy * @anyvm @anyvm ask\\nqubes.GetDate * @anyvm @anyvm allow\\n\"],\n)\n"
    );
    text
}

fn read(text: &str) -> Description {
    let reader = MemoryReader::new([(SYSTEM, text)]);
    match load(Path::new(SYSTEM), &reader) {
        Ok(loaded) => loaded.description,
        Err(diagnostics) => unreachable!("{:?}", diagnostics.list.first()),
    }
}

fn running(qube: &Qube, image: &ImageDigest) -> RunningQube {
    RunningQube {
        spec: qube.clone(),
        image: Some(image.clone()),
        revision: None,
        domid: DomId(1),
        uuid: uuid::Uuid::nil(),
        state: DomainState::Running,
        reach: Reach::default(),
        disposable: false,
    }
}

fn autostarted(description: &Description, image: &ImageDigest) -> MachineState {
    let qubes = description.qubes.iter().filter(|(_, qube)| qube.autostart);
    MachineState {
        running: qubes
            .map(|(name, qube)| (name.clone(), running(qube, image)))
            .collect(),
        ..MachineState::default()
    }
}

/// A machine that is as `description` says.
fn settled(description: &Description) -> (Observed, Lock) {
    let digest = ImageDigest::try_from("a".repeat(64)).expect("64 digits");
    let locked = |source: &bulkhead_model::qube::TemplateSource| Locked {
        source: source.clone(),
        digest: digest.clone(),
    };
    let templates = description.templates.iter();
    let lock = Lock(
        templates
            .map(|(name, t)| (name.clone(), locked(&t.source)))
            .collect(),
    );
    let mut observed = Observed {
        current: Some(Current {
            number: 1,
            description: Arc::new(description.clone()),
            lock: lock.clone(),
        }),
        machine: autostarted(description, &digest),
        ..Observed::default()
    };
    observed.images.insert(digest.clone());
    for (name, qube) in &description.qubes {
        let volumes = qube.volumes.iter().map(|(volume, declared)| {
            let id = VolumeId {
                qube: name.clone(),
                volume: volume.clone(),
            };
            let info = VolumeInfo {
                id,
                size: declared.size,
                path: "/".into(),
                enforced: false,
            };
            (volume.clone(), info)
        });
        observed.volumes.insert(name.clone(), volumes.collect());
    }
    (observed, lock)
}

#[divan::bench(args = [100, 1_000, 10_000])]
fn text_to_plan(bencher: Bencher<'_, '_>, qubes: usize) {
    let (text, observed, lock) = (text(qubes), Observed::default(), Lock::default());
    bencher.bench(|| plan(&read(&text), &lock, &observed, PlanOptions::default()));
}

#[divan::bench(args = [100, 1_000, 10_000])]
fn text_to_no_plan(bencher: Bencher<'_, '_>, qubes: usize) {
    let text = text(qubes);
    let (observed, lock) = settled(&read(&text));
    bencher.bench(|| plan(&read(&text), &lock, &observed, PlanOptions::default()));
}

#[divan::bench(args = [100, 1_000, 10_000])]
fn plan_alone(bencher: Bencher<'_, '_>, qubes: usize) {
    let (description, observed, lock) = (read(&text(qubes)), Observed::default(), Lock::default());
    bencher.bench(|| plan(&description, &lock, &observed, PlanOptions::default()));
}

/// A machine in memory, on which everything succeeds at once.
#[derive(Debug, Default)]
struct Instant {
    state: Mutex<MachineState>,
}

#[async_trait]
impl Machine for Instant {
    async fn observe(&self) -> Result<MachineState, MachineError> {
        Ok(self.state.lock().await.clone())
    }

    async fn declare(&self, _: Declared) -> Result<(), MachineError> {
        Ok(())
    }

    async fn start(
        &self,
        qube: &Qube,
        image: Option<&ImageDigest>,
        _: Reason,
    ) -> Result<(), MachineError> {
        if let Some(image) = image {
            let running = running(qube, image);
            self.state
                .lock()
                .await
                .running
                .insert(qube.name.clone(), running);
        }
        Ok(())
    }

    async fn stop(&self, name: &QubeName, _: Duration, _: Reason) -> Result<(), MachineError> {
        self.state.lock().await.running.remove(name);
        Ok(())
    }

    async fn live_update(&self, _: &QubeName, _: &LiveChange) -> Result<(), MachineError> {
        Ok(())
    }
}

#[divan::bench(args = [20, 100, 1_000], sample_count = 20)]
fn nothing_to_do(bencher: Bencher<'_, '_>, qubes: usize) {
    let dir = tempfile::tempdir().expect("a folder for a moment");
    let system = dir.path().join("system.ron");
    std::fs::write(&system, text(qubes)).expect("room for a description");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let storage = StorageConfig {
        state_dir: dir.path().to_owned(),
        cache_dir: dir.path().join("cache"),
        mmdebstrap: "mmdebstrap".into(),
    };
    let operations = Operations::new(
        OperationsConfig { system },
        Database::open(dir.path()).expect("a database"),
        Arc::new(DirStorage::open(&storage).expect("storage")),
        Arc::new(Instant::default()),
    );
    let apply = || {
        let report = runtime.block_on(operations.apply(&ApplyRequest::default(), "bench"));
        report.expect("an apply").outcome
    };
    assert_eq!(apply(), ApplyOutcome::Done);
    bencher.bench(|| assert_eq!(apply(), ApplyOutcome::Nothing));
}
