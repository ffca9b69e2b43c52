//! Copies between qubes that are large, that are many, that outlive the daemon, and that do not fit.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::running::{TWO_QUBES, both_run, in_qube, restart_daemon, sh};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "transfer::large_and_many_files_arrive_whole",
        needs: &[Need::Bulkhead],
        when: When::All,
        from: Start::Prepared(&TWO_QUBES),
        run: large_and_many_files_arrive_whole,
    },
    Scenario {
        name: "transfer::a_copy_outlives_the_daemon",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&TWO_QUBES),
        run: a_copy_outlives_the_daemon,
    },
    Scenario {
        name: "transfer::what_does_not_fit_is_refused_and_leaves_nothing",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&TWO_QUBES),
        run: what_does_not_fit_is_refused,
    },
];

const LARGE_MIB: u32 = 100;

const MANY: u32 = 2000;

/// Longer than any copy takes, under emulation and beside other work.
const ENDS: Duration = Duration::from_secs(480);

/// Gives a qube more room than its private volume has: on the disk that is gone with it.
const ROOM: &str = "mkfs.ext4 -q -F -E lazy_itable_init=1 /dev/xvdc 600M
mkdir -p /home/user/QubesIncoming
mount /dev/xvdc /home/user/QubesIncoming
chown user:user /home/user/QubesIncoming";

fn room(world: &World, qube: &str) -> Result<()> {
    let dom0 = world.dom0();
    // A qube of namespaces has the room that this machine has.
    if world.own().is_some() {
        return sh(dom0, qube, "mkdir ~/QubesIncoming").map(drop);
    }
    dom0.sh(&format!(
        "timeout 100 bulkhead run --user root {qube} -- '{ROOM}' 2>&1"
    ))
    .map(drop)
}

/// Makes a large file in `work`, which must have room.
fn large(dom0: &dyn Line) -> Result<()> {
    let make = format!("head -c {LARGE_MIB}M /dev/urandom > ~/QubesIncoming/large");
    sh(dom0, "work", &make).map(drop)
}

fn large_and_many_files_arrive_whole(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    for qube in ["work", "vault"] {
        room(world, qube)?;
    }
    large(dom0)?;
    let took = copy(dom0, "large", || Ok(()))?;
    let speed = f64::from(LARGE_MIB) / took;
    eprintln!("{LARGE_MIB} MiB: {took:.1} s, {speed:.1} MiB/s");
    let make = format!(
        "cd ~/QubesIncoming; mkdir many; cd many; for i in $(seq {MANY}); do echo $i > file-$i; done"
    );
    sh(dom0, "work", &make)?;
    let took = copy(dom0, "many", || Ok(()))?;
    let speed = f64::from(MANY) / took;
    eprintln!("{MANY} files: {took:.1} s, {speed:.0} a second");
    let count = sh(dom0, "vault", "ls ~/QubesIncoming/work/many | wc -l")?;
    ensure!(count.trim() == MANY.to_string(), "{count} files arrived");
    Ok(())
}

fn a_copy_outlives_the_daemon(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    for qube in ["work", "vault"] {
        room(world, qube)?;
    }
    large(dom0)?;
    let used = "df --output=used -k ~/QubesIncoming | tail -n 1";
    let before = sh(dom0, "vault", used)?;
    copy(dom0, "large", || {
        // Some of it is there, and not all.
        let some = format!("test $({used}) -gt $(({} + 10000))", before.trim());
        dom0.wait_until(&format!("bulkhead run vault -- '{some}' 2>&1"), PATIENCE)?;
        restart_daemon(world)?;
        let under_way = sh(dom0, "work", "test -e /tmp/large.code || echo yes")?;
        ensure!(
            under_way == "yes\n",
            "it was over before the daemon was back"
        );
        Ok(())
    })?;
    both_run(world)
}

/// Copies what is in `work` to `vault` while `meanwhile` happens, and looks whether it is the same;
/// how long it took, in seconds.
fn copy(dom0: &dyn Line, what: &str, meanwhile: impl FnOnce() -> Result<()>) -> Result<f64> {
    let digest = |qube, folder| {
        let script =
            format!("cd {folder}; find {what} -type f | sort | xargs sha256sum | sha256sum");
        sh(dom0, qube, &script)
    };
    // By itself, so that no command of dom0 hangs on it.
    let start = format!(
        "cd ~/QubesIncoming; setsid sh -c 'date +%s.%N > /tmp/{what}.times; \
         qvm-copy-to-vm vault {what}; code=$?; date +%s.%N >> /tmp/{what}.times; \
         echo $code > /tmp/{what}.code' > /tmp/{what}.said 2>&1 < /dev/null &"
    );
    sh(dom0, "work", &start)?;
    meanwhile()?;
    let code = ended(dom0, what)?;
    let said = sh(dom0, "work", &format!("cat /tmp/{what}.said"))?;
    if code.trim() != "0" {
        let logs =
            dom0.sh("bulkhead ls; for q in work vault; do bulkhead logs $q | tail -n 50; done")?;
        anyhow::bail!("copying ended with {code}: {said}{logs}");
    }
    ensure!(
        digest("work", "~/QubesIncoming")? == digest("vault", "~/QubesIncoming/work")?,
        "{what} is not the same"
    );
    let times = sh(dom0, "work", &format!("cat /tmp/{what}.times"))?;
    let times: Vec<f64> = times.lines().filter_map(|line| line.parse().ok()).collect();
    Ok(times.last().unwrap_or(&0.0) - times.first().unwrap_or(&0.0))
}

/// Waits for the end of a copy, and asks seldom, since each question takes its time from it; its exit
/// code.
fn ended(dom0: &dyn Line, what: &str) -> Result<String> {
    let mut there = String::new();
    let end = Instant::now() + ENDS;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_secs(10));
        let code = sh(dom0, "work", &format!("cat /tmp/{what}.code || true"))?;
        if !code.is_empty() {
            return Ok(code);
        }
        there = sh(dom0, "vault", "df -k ~/QubesIncoming | tail -n 1")?;
        eprintln!("{what}: {}", there.trim());
    }
    anyhow::bail!("copying {what} does not end; there: {there}")
}

/// The private volume of `vault` has less room than the file that it is sent.
fn what_does_not_fit_is_refused(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    room(world, "work")?;
    large(dom0)?;
    let before = sh(
        dom0,
        "vault",
        "echo kept > ~/kept; sync; df --output=used -k ~",
    )?;
    let copy = "cd ~/QubesIncoming; qvm-copy-to-vm vault large";
    let refused = in_qube(dom0, "work", copy)?;
    ensure!(
        refused.code == 1 && refused.err.contains("its disk is full"),
        "{refused:?}"
    );
    let after = sh(
        dom0,
        "vault",
        "cat ~/kept; ls -A ~/QubesIncoming/work; df --output=used -k ~",
    )?;
    let (used, names) = (number(&before)?, number(&after)?);
    ensure!(names < used + 1000, "before {before} after {after}");
    ensure!(
        after.starts_with("kept\n") && after.lines().count() == 3,
        "something is left: {after}"
    );
    sh(dom0, "work", "qvm-copy-to-vm vault /etc/hostname")?;
    both_run(world)
}

/// The number in the last line.
fn number(said: &str) -> Result<u64> {
    Ok(said.lines().last().unwrap_or_default().trim().parse()?)
}
