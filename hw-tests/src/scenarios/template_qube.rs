//! A template qube: what is installed in it reaches the qube based on it, by disks that dom0 never
//! looks into.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::running::{TWO_QUBES, apply, is, system_with};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "template_qube::what_is_installed_reaches_the_qubes_based_on_it",
    needs: &[Need::Xen, Need::Throwaway],
    when: When::All,
    from: Start::Prepared(&TWO_QUBES),
    run: what_is_installed_reaches_the_qubes_based_on_it,
}];

const QUBES: &str = r#"
    "tools": (
        label: "black",
        kind: Template,
        template: "debian",
        volumes: {"root": (size: 700, revisions_to_keep: 0), "private": (size: 64)},
    ),
    "app": (label: "red", template: "tools", volumes: {"private": (size: 64)}),"#;

fn what_is_installed_reaches_the_qubes_based_on_it(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    apply(world, &system_with(QUBES, ""))?;
    start(dom0, "tools")?;
    root_sh(
        dom0,
        "tools",
        "mkdir /usr/share/tool; echo one > /usr/share/tool/installed",
    )?;
    shut_down(dom0, "tools")?;
    ensure!(revisions(dom0)? == "1", "{}", said(dom0)?);
    start(dom0, "app")?;
    ensure!(found(dom0, "app")? == "one", "{}", said(dom0)?);
    root_sh(dom0, "app", "echo mine > /usr/share/tool/installed; sync")?;

    // One that is killed keeps what it wrote for itself, and has nothing of the app's.
    start(dom0, "tools")?;
    ensure!(found(dom0, "tools")? == "one", "{}", said(dom0)?);
    root_sh(dom0, "tools", "echo two > /usr/share/tool/installed; sync")?;
    dom0.sh("timeout 100 bulkhead kill tools 2>&1")?;
    ensure!(revisions(dom0)? == "1", "{}", said(dom0)?);
    start(dom0, "tools")?;
    ensure!(found(dom0, "tools")? == "two", "{}", said(dom0)?);
    shut_down(dom0, "tools")?;
    // What the app runs on stays while it does, also where none is to be kept.
    ensure!(revisions(dom0)? == "1 2", "{}", said(dom0)?);
    ensure!(found(dom0, "app")? == "mine", "{}", said(dom0)?);
    let info = dom0.sh("bulkhead info app")?;
    let line = "revision 1 of tools; restart it to use revision 2";
    ensure!(info.contains(line), "{info}");
    dom0.sh("timeout 100 bulkhead kill app 2>&1")?;
    dom0.wait_until(
        "test ! -e /var/lib/bulkhead/volumes/.revisions/*/1",
        PATIENCE,
    )?;
    ensure!(revisions(dom0)? == "2", "{}", said(dom0)?);
    Ok(())
}

/// Longer than a qube takes to start under emulation, beside two that run.
const STARTS: Duration = Duration::from_secs(300);

fn start(dom0: &dyn Line, qube: &str) -> Result<()> {
    dom0.sh(&format!(
        "setsid bulkhead start {qube} > /tmp/started 2>&1 < /dev/null &"
    ))?;
    dom0.wait_until(&is(qube, "running"), STARTS)
        .with_context(|| dom0.sh("cat /tmp/started").unwrap_or_default())
        .map(drop)
}

/// For a qube to stop whose systemd does not run yet, under emulation.
const STOPS: Duration = Duration::from_secs(320);

/// Stops a qube in order; one that takes too long would be killed. It has only begun to boot, and
/// loses what it is asked first.
fn shut_down(dom0: &dyn Line, qube: &str) -> Result<()> {
    dom0.sh(&format!(
        "setsid bulkhead stop --timeout 300 {qube} > /tmp/stopped 2>&1 < /dev/null &"
    ))?;
    dom0.wait_until(&is(qube, "stopped"), STOPS)
        .and_then(|_| dom0.sh("! journalctl -u bulkheadd | grep 'did not stop in time'"))
        .with_context(|| {
            let log =
                format!("cat /tmp/stopped; tail -n 60 /var/lib/bulkhead/log/qubes/{qube}.log");
            dom0.sh(&log).unwrap_or_default()
        })
        .map(drop)
}

fn root_sh(dom0: &dyn Line, qube: &str, script: &str) -> Result<String> {
    dom0.sh(&format!(
        "timeout 100 bulkhead run --user root {qube} -- '{script}' 2>&1"
    ))
}

fn found(dom0: &dyn Line, qube: &str) -> Result<String> {
    let said = root_sh(dom0, qube, "cat /usr/share/tool/installed")?;
    Ok(said.trim().to_owned())
}

/// Numbers of the revisions that are there.
fn revisions(dom0: &dyn Line) -> Result<String> {
    let numbers = "ls /var/lib/bulkhead/volumes/.revisions/*/ | sort -n | xargs";
    Ok(dom0.sh(numbers)?.trim().to_owned())
}

/// What the daemon says, for whoever looks why this failed.
fn said(dom0: &dyn Line) -> Result<String> {
    dom0.sh(
        "bulkhead status; bulkhead info app; bulkhead info tools; \
         ls -lR /var/lib/bulkhead/volumes/.revisions; journalctl -u bulkheadd --no-pager | tail -40",
    )
}
