//! A qube that is a kernel and nothing else.

use anyhow::{Result, ensure};
use bulkhead_hw_tests::bare;
use bulkhead_hw_tests::line::PATIENCE;
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::packages;
use super::running::start;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "daemon::a_unikernel_is_a_qube",
    needs: &[Need::Xen, Need::Throwaway],
    when: When::Always,
    from: Start::Bare,
    run: a_unikernel_is_a_qube,
}];

const SYSTEM: &str = r#"(
    templates: {"bare": (source: Image("/var/tmp/bare"))},
    qubes: {
        "tiny": (
            label: "gray",
            template: "bare",
            netvm: None,
            memory: (initial: 32, maximum: 32),
            vcpus: 1,
            kernelopts: "said by a bare kernel",
        ),
    },
)"#;

fn a_unikernel_is_a_qube(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    packages::install(dom0)?;
    dom0.sh("mkdir /var/tmp/bare")?;
    dom0.put(&bare::kernel(), "/var/tmp/bare/vmlinux")?;
    dom0.put(SYSTEM.as_bytes(), "/etc/bulkhead/system.ron")?;
    start(dom0)?;
    dom0.sh("bulkhead apply --yes 2>&1; timeout 60 bulkhead start tiny 2>&1")?;
    // Nobody waits for an agent, and its command line is what was declared.
    let row = dom0.sh("bulkhead ls --json | tr -d ' \n'")?;
    ensure!(row.contains(r#""state":"running""#), "{row}");
    dom0.wait_until("xl dmesg | grep 'said by a bare kernel'", PATIENCE)?;
    let disks = dom0.sh("xl block-list tiny")?;
    ensure!(disks.lines().count() <= 2, "{disks}");
    let called = dom0.run(&["bulkhead", "run", "tiny", "--", "true"])?;
    ensure!(
        called.code == 125 && called.err.contains("has no agent"),
        "{called:?}"
    );
    // The next daemon finds it running.
    dom0.sh("systemctl restart bulkheadd")?;
    dom0.wait_until(
        "bulkhead ls --json | tr -d ' \n' | grep '\"state\":\"running\"'",
        PATIENCE,
    )?;
    dom0.sh("bulkhead kill tiny; ! xl domid tiny 2> /dev/null")
        .map(drop)
}
