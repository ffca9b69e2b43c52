//! Qubes that fail, that refuse to end, and that fill their disks: only they suffer.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::running::{SYSTEM, TWO_QUBES, apply, both_run, in_qube, is, sh};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "hostile::a_guest_that_panics_is_told_of_and_starts_again_by_its_rule",
        needs: &[Need::Xen, Need::Throwaway],
        from: Start::Prepared(&TWO_QUBES),
        when: When::All,
        run: panics,
    },
    Scenario {
        name: "hostile::a_guest_that_does_not_stop_is_ended",
        needs: &[Need::Xen, Need::Throwaway],
        from: Start::Prepared(&TWO_QUBES),
        when: When::All,
        run: does_not_stop,
    },
    Scenario {
        name: "hostile::a_guest_that_fills_its_disk_harms_only_itself",
        needs: &[Need::Xen, Need::Throwaway],
        from: Start::Prepared(&TWO_QUBES),
        when: When::All,
        run: fills_its_disk,
    },
    Scenario {
        name: "hostile::a_guest_that_floods_its_vchan_harms_only_itself",
        needs: &[Need::Xen, Need::Throwaway],
        from: Start::Prepared(&TWO_QUBES),
        when: When::All,
        run: floods_its_vchan,
    },
];

const LOG: &str = "journalctl -u bulkheadd --no-pager";

/// Has a script of root run in a qube.
fn root(dom0: &dyn Line, qube: &str, script: &str) -> Result<()> {
    let words = [
        "timeout", "100", "bulkhead", "run", "--user", "root", qube, "--", script,
    ];
    dom0.run(&words)?.ok().map(drop)
}

fn panics(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let system = SYSTEM.replace("(label: \"blue\",", "(label: \"blue\", restart: OnFailure,");
    apply(world, &system)?;
    let panic = "echo c > /proc/sysrq-trigger";
    let call = |qube| {
        dom0.run(&[
            "timeout", "60", "bulkhead", "run", "--user", "root", qube, "--", panic,
        ])
    };

    // Without a rule it stays as it is.
    let cut = call("vault")?;
    ensure!(
        cut.code == 255 && cut.err.contains("qube vault ended"),
        "{cut:?}"
    );
    dom0.wait_until(&is("vault", "failed"), PATIENCE)?;
    dom0.wait_until("! xl domid vault", PATIENCE)?;
    let kept = dom0.sh("bulkhead logs vault")?;
    ensure!(
        kept.contains("Kernel panic"),
        "its last words are missing: {kept}"
    );

    let before = dom0.sh("xl domid work")?;
    let cut = call("work")?;
    ensure!(cut.code == 255, "{cut:?}");
    let next = format!("xl domid work | grep -vx {}", before.trim());
    dom0.wait_until(&next, PATIENCE)?;
    dom0.sh(&format!("{LOG} | grep 'starts again by its rule'"))?;
    dom0.sh("! xl domid vault; bulkhead kill work").map(drop)
}

fn does_not_stop(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    // What runs to switch the machine off does nothing.
    for qube in ["work", "vault"] {
        root(dom0, qube, "echo /bin/true > /proc/sys/kernel/poweroff_cmd")?;
    }
    let took = dom0.sh("begin=$(date +%s); timeout 60 bulkhead stop --timeout 5 vault 2>&1; echo $(($(date +%s) - begin))")?;
    let took: u32 = took.trim().parse().with_context(|| took.clone())?;
    ensure!(took >= 5, "it stopped after {took} s");
    dom0.wait_until("! xl domid vault", PATIENCE)?;
    dom0.sh(&format!(
        "{LOG} | grep 'did not stop in time and is killed'"
    ))?;

    // A person who waits no longer: whoever waits is told too.
    let mut stopping = dom0.start(&["bulkhead", "stop", "work"])?;
    dom0.wait_until(&is("work", "stopping"), PATIENCE)?;
    std::thread::sleep(Duration::from_secs(2));
    dom0.sh(&is("work", "stopping"))?;
    stopping.close_input()?;
    dom0.sh("timeout 30 bulkhead kill work")?;
    let stopped = stopping.wait(PATIENCE)?;
    ensure!(stopped.code == 0, "{stopped:?}");
    dom0.wait_until("! xl domid work", PATIENCE).map(drop)
}

fn fills_its_disk(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let sum = "head -c 5000000 /dev/urandom > ~/kept; sync; sha256sum < ~/kept";
    let (work, vault) = (sh(dom0, "work", sum)?, sh(dom0, "vault", sum)?);
    let full = in_qube(dom0, "vault", "dd if=/dev/zero of=$HOME/full bs=1M 2>&1")?;
    ensure!(
        full.code == 1 && full.out.contains("No space left on device"),
        "{full:?}"
    );
    // It is called, stopped and started as ever.
    dom0.sh("timeout 100 bulkhead stop vault 2>&1; timeout 150 bulkhead start vault 2>&1")?;
    let again = "sha256sum < ~/kept";
    ensure!(sh(dom0, "vault", again)? == vault, "what it had is lost");
    ensure!(sh(dom0, "work", again)? == work, "another qube suffered");
    sh(dom0, "vault", "rm ~/full; echo more > ~/more").map(drop)
}

/// A program that takes the agent's place in a guest (`src/bin/bulkhead-peer`).
const PEER: &str = "/tmp/bulkhead-peer";

/// MiB that a program of dom0 may have resident while a guest floods it: what it has at most at any
/// time, and as much again.
const RESIDENT_MAX: u64 = 40;

fn floods_its_vchan(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let program = std::env::var_os("BULKHEAD_PEER").context("no program for the guest")?;
    dom0.put_file(program.as_ref(), PEER)?;
    dom0.sh(&format!(
        "timeout 100 bulkhead run --user root work -- 'cat > {PEER}; chmod +x {PEER}' < {PEER}"
    ))?;
    for (kind, told) in [
        (
            "flood",
            "bulkhead audit --service test.Flood | grep -q vault",
        ),
        ("babble", "journalctl -u bulkheadd | grep 'work.*agent'"),
    ] {
        instead_of_the_agent(dom0, kind)?;
        dom0.wait_until(told, PATIENCE)?;
        others_go_on(dom0)?;
        // The agent is back, and dom0 talks to it again.
        dom0.wait_until(
            "timeout 20 bulkhead run work -- true 2>&1",
            Duration::from_secs(300),
        )?;
    }
    both_run(world)
}

/// Has another program say what the agent of `work` would, for a minute.
fn instead_of_the_agent(dom0: &dyn Line, kind: &str) -> Result<()> {
    let script = format!(
        "systemctl stop qube-agent; timeout 60 {PEER} serve:65536 0 512 {kind}; \
         systemctl start qube-agent"
    );
    root(
        dom0,
        "work",
        &format!("setsid sh -c '{script}' > /tmp/{kind} 2>&1 < /dev/null &"),
    )
}

/// Another qube is served while one floods, and dom0's programs stay as small as they were.
fn others_go_on(dom0: &dyn Line) -> Result<()> {
    for _ in 0..10 {
        ensure!(sh(dom0, "vault", "echo served")? == "served\n");
        std::thread::sleep(Duration::from_secs(1));
        let resident = dom0.sh("ps -C bulkheadd,bulkhead-relay -o rss= | sort -n | tail -n 1")?;
        let resident: u64 = resident.trim().parse().with_context(|| resident.clone())?;
        ensure!(resident < RESIDENT_MAX << 10, "one has {resident} KiB");
    }
    Ok(())
}
