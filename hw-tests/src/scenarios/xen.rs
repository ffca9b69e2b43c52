//! Xen itself, before any of our programs.

use anyhow::{Result, ensure};
use bulkhead_hw_tests::line::PATIENCE;
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "xen::it_is_the_version_that_we_are_bound_to",
        needs: &[Need::Xen],
        when: When::Always,
        from: Start::Bare,
        run: version,
    },
    Scenario {
        name: "xen::a_pvh_domain_boots_and_is_destroyed",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::Always,
        from: Start::Bare,
        run: pvh,
    },
];

fn version(world: &World) -> Result<()> {
    let info = world.dom0().sh("xl info")?;
    let has = |line: &str, word: &str| {
        info.lines()
            .any(|l| l.starts_with(line) && l.split_whitespace().any(|w| w == word))
    };
    ensure!(has("xen_major", "4") && has("xen_minor", "20"), "{info}");
    ensure!(has("virt_caps", "pvh") || has("virt_caps", "hvm"), "{info}");
    Ok(())
}

fn pvh(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let config = r#"type="pvh"
name="first"
memory=128
vcpus=1
kernel="/vmlinuz"
cmdline="console=hvc0 panic=-1"
on_reboot="preserve"
on_crash="preserve"
"#;
    dom0.put(config.as_bytes(), "/tmp/first.cfg")?;
    dom0.sh("xl create -q /tmp/first.cfg")?;
    let list = dom0.sh("xl list")?;
    ensure!(
        list.lines().any(|line| line.starts_with("first ")),
        "{list}"
    );
    let mut console = dom0.start(&["xl", "console", "first"])?;
    // It has no root, so this is as far as it comes.
    console.wait_for("Unable to mount root fs", PATIENCE)?;
    dom0.sh("xl destroy first")?;
    dom0.wait_until("! xl domid first", PATIENCE)?;
    Ok(())
}
