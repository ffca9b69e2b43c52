//! A qube that keeps its root, also from one kind of domain to another.

use anyhow::{Result, ensure};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::running::{SYSTEM, TWO_QUBES, apply, sh};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "daemon::a_standalone_qube_keeps_what_it_writes_to_its_root",
    needs: &[Need::Xen, Need::Throwaway],
    when: When::All,
    from: Start::Prepared(&TWO_QUBES),
    run: a_standalone_qube,
}];

/// A qube whose root is larger than the image that it begins as.
const LAB: &str = r#""lab": (
        label: "red",
        kind: Standalone,
        template: "debian",
        virt_mode: Pv,
        volumes: {"root": (size: 700), "private": (size: 64)},
    ),
    "vault": ("#;

fn a_standalone_qube(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let system = SYSTEM.replace("\"vault\": (", LAB);
    apply(world, &system)?;
    dom0.sh("timeout 150 bulkhead start lab 2>&1")?;
    // What systemd starts, which takes minutes to come to it under emulation.
    let write = "test $(qubesdb-read /qubes-vm-persistence) = full
        sed -n 's/^ExecStart=//p' /usr/lib/systemd/system/qube-grow.service > /run/grow
        sh -eu /run/grow > /run/grown 2>&1
        df --output=size -m / | tail -n 1; echo kept > /etc/mine";
    dom0.put(write.as_bytes(), "/tmp/write")?;
    let said =
        dom0.sh("timeout 100 bulkhead run --user root lab -- 'sh -eus' < /tmp/write 2>&1")?;
    let size: u32 = said.trim().parse()?;
    ensure!(size > 600, "its root has {size} MiB");
    let kind = "cat /sys/hypervisor/guest_type";
    ensure!(sh(dom0, "lab", kind)? == "PV\n");
    apply(world, &system.replace("Pv", "Pvh"))?;
    dom0.sh("timeout 100 bulkhead stop lab 2>&1; timeout 150 bulkhead start lab 2>&1")?;
    ensure!(sh(dom0, "lab", kind)? == "PVH\n");
    let kept = sh(dom0, "lab", "cat /etc/mine; uname -r; ls /lib/modules")?;
    let mut lines = kept.lines();
    ensure!(lines.next() == Some("kept"), "{kept}");
    ensure!(
        lines.next() == lines.next(),
        "its kernel has no drivers: {kept}"
    );
    // Nothing of it is in another qube of the same template.
    sh(dom0, "work", "! test -e /etc/mine").map(drop)
}
