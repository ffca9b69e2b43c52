//! Programs of dom0 that are killed at the worst moment: nothing is lost, and nothing is there twice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::daemon::serve_echo;
use super::running::{DESCRIPTION, TWO_QUBES, both_run, domains, sh, system_with};
use super::traces::{note, nothing_else};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "crash::an_apply_outlives_bulkhead_xl",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&TWO_QUBES),
        run: an_apply_outlives_bulkhead_xl,
    },
    Scenario {
        name: "crash::an_apply_outlives_the_daemon",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&TWO_QUBES),
        run: an_apply_outlives_the_daemon,
    },
    Scenario {
        name: "crash::calls_outlive_bulkhead_xl_relays_and_the_daemon",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&TWO_QUBES),
        run: calls_outlive,
    },
    Scenario {
        name: "crash::a_service_ends_when_the_domain_of_its_caller_does",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&TWO_QUBES),
        run: a_service_ends_with_its_caller,
    },
];

/// A qube for whose agent nobody waits: its domain and its disks are of interest.
const THIRD: &str = r#""third": (
    label: "gray", autostart: true, features: {"qrexec": "0"},
    memory: (initial: 160, maximum: 160), volumes: {"private": (size: 16)},
),"#;

/// Applies; when the next domain has appeared, which is long before it is whole, KILL; then says how
/// the apply ended.
const KILLED: &str = r#"
count() { xenstore-list /local/domain | wc -l; }
before=$(count)
bulkhead apply --yes > /tmp/apply.log 2>&1 & apply=$!
until [ $(count) -gt $before ]; do kill -0 $apply; done
KILL
marks=$(xenstore-ls -f /bulkhead/xl/creating)
test -n "$marks" || { echo it was whole already; exit 1; }
code=0; wait $apply || code=$?
echo ended $code; cat /tmp/apply.log
"#;

const XL: &str = "kill -9 $(pgrep -x bulkhead-xl)";

const DAEMON: &str = "kill -9 $(systemctl show -P MainPID bulkheadd)";

/// The relays of qubes, and not those of calls.
const RELAYS: &str = "kill -9 $(pgrep -f '^[^ ]*bulkhead-relay --fd')";

/// That nothing is being made.
const MADE: &str = "test -z \"$(xenstore-ls -f /bulkhead/xl/creating)\"";

/// The next apply finds nothing to do, and all runs that is declared, once.
fn is_as_declared(world: &World, before: &str) -> Result<()> {
    let dom0 = world.dom0();
    let third = dom0.sh("xl domid third")?;
    let expected = format!("{before}\nthird {}", third.trim());
    let mut expected: Vec<&str> = expected.lines().collect();
    expected.sort_unstable();
    let now = domains(world)?;
    ensure!(now.lines().eq(expected), "{now}, and before {before}");
    let nothing = dom0.sh("bulkhead apply --yes 2>&1; bulkhead status")?;
    ensure!(nothing.contains("Everything is as declared"), "{nothing}");
    ensure!(domains(world)? == now, "the next apply changed something");
    for qube in ["work", "vault"] {
        sh(dom0, qube, "true")?;
    }
    Ok(())
}

/// The domain that was being made is removed, the apply undone, and the next one makes it whole.
fn an_apply_outlives_bulkhead_xl(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    note(world)?;
    let before = domains(world)?;
    dom0.put(system_with(THIRD, "").as_bytes(), DESCRIPTION)?;
    let cut = dom0.sh(&KILLED.replace("KILL", XL))?;
    ensure!(!cut.starts_with("ended 0"), "{cut}");
    ensure!(
        cut.contains("`bulkhead-xl` ended before it was done"),
        "{cut}"
    );
    dom0.wait_until(MADE, PATIENCE)?;
    nothing_else(world)?;
    dom0.sh("bulkhead apply --yes 2>&1")?;
    is_as_declared(world, &before)
}

/// What the daemon was at, the next one finishes by itself, and once.
fn an_apply_outlives_the_daemon(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let before = domains(world)?;
    dom0.put(system_with(THIRD, "").as_bytes(), DESCRIPTION)?;
    let cut = dom0.sh(&KILLED.replace("KILL", DAEMON))?;
    ensure!(!cut.starts_with("ended 0"), "{cut}");
    let log = "journalctl -u bulkheadd --no-pager";
    dom0.wait_until(&format!("{log} | grep 'brought to its end'"), PATIENCE)?;
    dom0.wait_until(&format!("bulkhead status; {MADE}"), PATIENCE)?;
    is_as_declared(world, &before)
}

/// In a qube: a call that goes on until it is told to end.
const LONG_CALL: &str = "setsid sh -c '
  (n=0; until [ -e /tmp/stop ]; do n=$((n + 1)); echo $n; sleep 0.2; done) \
    | qrexec-client-vm vault test.Echo > /tmp/got; echo $? > /tmp/code
' > /dev/null 2>&1 < /dev/null &";

/// The call in flight goes on: what is sent comes back.
fn goes_on(dom0: &dyn Line, after: &str) -> Result<()> {
    let lines = |dom0| {
        let counted = sh(
            dom0,
            "work",
            "until [ -e /tmp/got ]; do sleep 0.1; done; wc -l < /tmp/got",
        )?;
        Ok::<u32, anyhow::Error>(counted.trim().parse()?)
    };
    let before = lines(dom0)?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(300));
        if lines(dom0)? > before {
            return Ok(());
        }
    }
    anyhow::bail!("the call in flight does not go on after {after}")
}

fn calls_outlive(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    serve_echo(world, &["vault"])?;
    let running = domains(world)?;
    sh(dom0, "work", LONG_CALL)?;
    goes_on(dom0, "nothing")?;
    let ticks = "while echo tick; do sleep 0.2; done";
    let mut ticking = dom0.start(&["bulkhead", "run", "vault", "--", ticks])?;
    ticking.wait_for("tick", PATIENCE)?;

    let before = dom0.sh("pgrep -x bulkhead-xl")?;
    dom0.sh(XL)?;
    goes_on(dom0, "the end of bulkhead-xl")?;
    let next = format!("pgrep -x bulkhead-xl | grep -vx {}", before.trim());
    dom0.wait_until(&next, PATIENCE)?;
    // It has adopted them: it is asked, and knows them for ours.
    dom0.sh("timeout 60 bulkhead pause vault; xl list vault | grep -q p; bulkhead unpause vault")?;
    goes_on(dom0, "a pause")?;

    dom0.sh(RELAYS)?;
    let replaced = "journalctl -u bulkheadd --no-pager | grep -c 'relay.*is replaced' | grep -qx 2";
    dom0.wait_until(replaced, PATIENCE)?;
    both_run(world)?;
    goes_on(dom0, "the end of its relays")?;
    // So does a command of dom0.
    dom0.sh("pgrep -x bulkhead")?;

    let next = "systemctl is-active bulkheadd && bulkhead status";
    dom0.sh(DAEMON)?;
    dom0.wait_until(next, PATIENCE)?;
    both_run(world)?;
    goes_on(dom0, "the end of the daemon")?;
    ensure!(domains(world)? == running, "{}", domains(world)?);
    dom0.sh("pgrep -x bulkhead")?;
    ticking.kill()?;
    a_process_of_a_call(dom0)?;
    is_whole(dom0)
}

/// What serves one call to dom0: that call ends, and says so; the next is served.
fn a_process_of_a_call(dom0: &dyn Line) -> Result<()> {
    dom0.sh(
        "mkdir -p /etc/qubes-rpc; printf '#!/bin/sh\necho begun; read line; sleep $line\n' \
         > /etc/qubes-rpc/test.Dom0; chmod +x /etc/qubes-rpc/test.Dom0",
    )?;
    let call = |seconds| format!("echo {seconds} | qrexec-client-vm dom0 test.Dom0");
    let mut served = dom0.start(&["bulkhead", "run", "work", "--", &call(1000)])?;
    served.wait_for("begun", PATIENCE)?;
    dom0.sh("kill -9 $(pgrep -f '^[^ ]*bulkhead-relay --call')")?;
    let cut = served.wait(PATIENCE)?;
    ensure!(cut.code != 0 && !cut.err.is_empty(), "{cut:?}");
    sh(dom0, "work", &call(0))?;
    goes_on(dom0, "the end of another call")
}

/// All of the long call came back, in order and once.
fn is_whole(dom0: &dyn Line) -> Result<()> {
    let end = "touch /tmp/stop; until [ -s /tmp/code ]; do sleep 0.1; done; cat /tmp/code /tmp/got";
    let got = sh(dom0, "work", end)?;
    let mut lines = got.lines();
    ensure!(
        (lines.next(), lines.next()) == (Some("5"), Some("from work")),
        "{got}"
    );
    let numbers: Result<Vec<u32>, _> = lines.map(str::parse).collect();
    let numbers = numbers.with_context(|| got.clone())?;
    ensure!(
        !numbers.is_empty() && numbers.iter().zip(1..).all(|(got, sent)| *got == sent),
        "{got}"
    );
    Ok(())
}

/// Nobody tells one guest of another's end.
fn a_service_ends_with_its_caller(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    serve_echo(world, &["vault"])?;
    sh(dom0, "work", LONG_CALL)?;
    goes_on(dom0, "nothing")?;
    // Longer than it takes to look after a peer that is there.
    std::thread::sleep(Duration::from_secs(12));
    goes_on(dom0, "a while")?;
    let served = "bulkhead run vault -- 'grep -qx cat /proc/[0-9]*/comm'";
    dom0.sh(served)?;
    dom0.sh("bulkhead kill work")?;
    dom0.wait_until(&format!("! {served}"), Duration::from_secs(30))?;
    // Its memory was all that kept the domain.
    dom0.wait_until("! xl list | grep -q '(null)\\|work'", PATIENCE)
        .map(drop)
}
