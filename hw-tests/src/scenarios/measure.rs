//! How long a start takes, and where the time goes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bulkhead_hw_tests::line::Line;
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::guest::{console, create, destroy, layer, put_kernel, recipe, template};
use super::running::{SYSTEM, TWO_QUBES, apply, sh};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "measure::a_start_to_the_first_call_beside_a_stock_guest",
    needs: &[Need::Xen, Need::Throwaway],
    when: When::Named,
    from: Start::Prepared(&TWO_QUBES),
    run: a_start_beside_a_stock_guest,
}];

/// Times that ours is started: the first formats its private volume, or reads what is not in memory.
const STARTS: usize = 2;

fn a_start_beside_a_stock_guest(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    // The kernel says when it does what.
    let system = SYSTEM.replace(
        "systemd.show_status=no",
        "systemd.show_status=no loglevel=7",
    );
    apply(world, &system)?;
    dom0.sh("bulkhead kill work; bulkhead kill vault")?;
    let mut fastest = f64::INFINITY;
    for _ in 0..STARTS {
        let took = ours(dom0)?;
        took.print("ours, to the first call answered");
        fastest = fastest.min(took.all);
        dom0.sh("bulkhead kill vault")?;
    }
    let image = template()?;
    let stock = tempfile::tempdir_in("/var/tmp")?;
    image.stock(&recipe()?, stock.path())?;
    let (kernel, initrd) = (stock.path().join("vmlinuz"), stock.path().join("initrd"));
    put_kernel(dom0, &kernel, &initrd, "stock")?;
    let disk = world.attach(&stock.path().join("root.ext4"), "stock")?;
    let disk = format!("{},xvda,w", layer(dom0, &disk, "stockroot")?);
    let took = theirs(dom0, &disk)?;
    took.print("stock Debian, to its login");
    eprintln!("ours to stock: {:.2}", fastest / took.all);
    destroy(dom0, "stock")
}

fn ours(dom0: &dyn Line) -> Result<Took> {
    let before = Instant::now();
    dom0.sh("timeout 300 bulkhead start vault 2>&1")?;
    let started = before.elapsed().as_secs_f64();
    sh(dom0, "vault", "true")?;
    let all = before.elapsed().as_secs_f64();
    let mut parts = parts(&dom0.sh("cat /var/lib/bulkhead/log/qubes/vault.log")?, OURS)?;
    let own: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
    parts.insert(0, ("create", started - own));
    parts.push(("first call", all - started));
    Ok(Took { parts, all })
}

fn theirs(dom0: &dyn Line, disk: &str) -> Result<Took> {
    let before = Instant::now();
    let created = create(dom0, "stock", "stock", "loglevel=7", &[disk])?;
    let mut console = console(dom0, "stock")?;
    console.wait_for("login:", LONG)?;
    let all = before.elapsed().as_secs_f64();
    let mut parts = parts(&console.shown(), STOCK)?;
    parts.insert(0, ("create", created));
    let known: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
    parts.push(("systemd, to the login", all - known));
    Ok(Took { parts, all })
}

/// Where one part of a boot ends and the next begins, by what the console says.
type Mark = (&'static str, &'static str);

const OURS: &[Mark] = &[
    ("kernel", "Run /init as init process"),
    ("initrd, to the root", "qube-boot: root mounted"),
    ("private volume", "qube-boot: private volume mounted"),
    ("agent", "qube-boot: agent listens"),
];

const STOCK: &[Mark] = &[
    ("kernel", "Run /init as init process"),
    ("initrd", "running in system mode"),
];

/// How long a boot took, in seconds.
struct Took {
    /// Its parts.
    parts: Vec<(&'static str, f64)>,
    /// From the command to what was waited for.
    all: f64,
}

impl Took {
    fn print(&self, what: &str) {
        eprintln!("{what}: {:.1} s", self.all);
        for (part, seconds) in &self.parts {
            eprintln!("    {part}: {seconds:.1}");
        }
    }
}

/// Longer than a stock guest takes here to its login.
const LONG: Duration = Duration::from_secs(600);

/// The parts of its last start by the guest's own clock, as its console tells it.
fn parts(said: &str, marks: &[Mark]) -> Result<Vec<(&'static str, f64)>> {
    let mut last = 0.0;
    let part = |(part, mark): &Mark| {
        let line = said.lines().rfind(|line| line.contains(mark));
        let at = line.and_then(stamp);
        let at = at.with_context(|| format!("`{mark}` has no time in\n{said}"))?;
        let took = at - last;
        last = at;
        Ok((*part, took))
    };
    marks.iter().map(part).collect()
}

/// The kernel's time of a line of its log: `[   12.345678] ...`.
fn stamp(line: &str) -> Option<f64> {
    // Colours of the console begin with a bracket too.
    let mut parts = line.split('[').filter_map(|part| part.split_once(']'));
    parts.find_map(|(time, _)| time.trim().parse().ok())
}
