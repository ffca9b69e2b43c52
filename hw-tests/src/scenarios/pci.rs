//! A PCI device of dom0 that a qube has alone.

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::PATIENCE;
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::running::{self, SYSTEM};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "daemon::a_qube_has_a_pci_device_alone",
    needs: &[Need::Xen, Need::Throwaway],
    when: When::All,
    from: Start::Iommu,
    run: a_qube_has_a_pci_device_alone,
}];

fn a_qube_has_a_pci_device_alone(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let found = dom0.sh("grep -l 0x020000 /sys/bus/pci/devices/*/class | xargs dirname")?;
    let device = found.trim();
    let address = device.rsplit('/').next().context("there is no device")?;
    let ident = address.trim_start_matches("0000:").replace(':', "_");
    let said = format!("\"work\": (virt_mode: Pv, devices: [\"pci:dom0:{ident}\"], ");
    running::install(world, &SYSTEM.replace("\"work\": (", &said))?;
    let status = dom0.sh("bulkhead status")?;
    ensure!(
        !status.contains("devices") && !status.contains("cannot start"),
        "{status}"
    );
    dom0.sh("timeout 150 bulkhead start work 2>&1")?;
    let driver = dom0.sh(&format!("basename $(readlink {device}/driver)"))?;
    ensure!(driver == "pciback\n", "dom0 has it with {driver}");

    // The qube reads what the device says of itself, and nothing else is on its bus.
    let see = "cd /sys/bus/pci/devices
        # udev would do it, which is not started here.
        modprobe xen-pcifront
        for n in $(seq 100); do test ! -e */class || break; sleep 0.2; done
        cat */class; od -An -tx1 -N4 */config";
    dom0.put(see.as_bytes(), "/tmp/see")?;
    let seen = dom0.sh("timeout 100 bulkhead run --user root work -- 'sh -es' < /tmp/see 2>&1")?;
    let own = dom0.sh(&format!("od -An -tx1 -N4 {device}/config"))?;
    ensure!(seen == format!("0x020000\n{own}"), "{seen}");

    // Nobody else gets it meanwhile, and it is there for the next start.
    let other = SYSTEM
        .replace("\"work\": (", &said)
        .replace("\"vault\": (", &said.replace("work", "vault"));
    running::apply(world, &other)?;
    let refused = dom0.run(&["timeout", "100", "bulkhead", "start", "vault"])?;
    ensure!(refused.code == 1, "{refused:?}");
    dom0.sh("timeout 100 bulkhead stop work 2>&1")?;
    dom0.wait_until("! xl domid work 2> /dev/null", PATIENCE)?;
    dom0.sh("timeout 150 bulkhead start vault 2>&1").map(drop)
}
