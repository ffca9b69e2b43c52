//! Block devices of dom0 that a qube gets and loses while it runs.

use anyhow::{Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::running::{SYSTEM, TWO_QUBES, apply, restart_daemon, sh};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "live::block_devices_come_and_go",
    needs: &[Need::Xen, Need::Throwaway],
    when: When::All,
    from: Start::Prepared(&TWO_QUBES),
    run: block_devices_come_and_go,
}];

/// `work` with these devices.
fn with(devices: &[&str]) -> String {
    let devices: Vec<String> = devices
        .iter()
        .map(|name| format!("\"block:dom0:{name}\""))
        .collect();
    let said = format!("\"work\": (devices: [{}], ", devices.join(", "));
    SYSTEM.replace("\"work\": (", &said)
}

/// A block device with a file system, in which the file `whose` says `name`.
fn device(dom0: &dyn Line, name: &str, options: &str) -> Result<String> {
    let made = dom0.sh(&format!(
        "set -e; cd /var/tmp; mkdir {name}; echo {name} > {name}/whose
         mke2fs -q -t ext4 -d {name} {name}.img 8M
         basename $(losetup --find --show {options} {name}.img)"
    ))?;
    Ok(made.trim().to_owned())
}

fn block_devices_come_and_go(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let (stick, disc) = (
        device(dom0, "stick", "")?,
        device(dom0, "disc", "--read-only")?,
    );
    let domain = dom0.sh("xl domid work")?;
    let see = |script: &str| {
        dom0.put(script.as_bytes(), "/tmp/script")?;
        dom0.sh("timeout 100 bulkhead run --user root work -- 'sh -es' < /tmp/script 2>&1")
    };

    apply(world, &with(&[&stick, &disc]))?;
    let seen = see(
        "until test -e /sys/block/xvdi && test -e /sys/block/xvdj; do sleep 0.2; done
         cat /sys/block/xvdi/ro /sys/block/xvdj/ro
         mkdir /run/i /run/j; mount /dev/xvdi /run/i; mount -o ro /dev/xvdj /run/j
         cat /run/i/whose /run/j/whose; echo changed > /run/i/whose; umount /run/i /run/j",
    )?;
    ensure!(seen == "0\n1\nstick\ndisc\n", "{seen}");

    // A daemon that comes anew knows which place is whose: the one that goes is the first.
    restart_daemon(world)?;
    apply(world, &with(&[&disc]))?;
    let seen = see("while test -e /sys/block/xvdi; do sleep 0.2; done
         mount -o ro /dev/xvdj /run/j; cat /run/j/whose; umount /run/j")?;
    ensure!(seen == "disc\n", "{seen}");
    let kept = format!("mount -o ro /dev/{stick} /mnt && cat /mnt/whose; umount /mnt");
    dom0.wait_until(&format!("test \"$({kept})\" = changed"), PATIENCE)?;

    // One that is not there is told of, and nothing of the rest changes.
    let missing = with(&[&disc, "sdz"]);
    dom0.put(missing.as_bytes(), super::running::DESCRIPTION)?;
    let refused = dom0.run(&["bulkhead", "apply", "--yes"])?;
    ensure!(
        refused.code != 0 && refused.err.contains("no such block device"),
        "{refused:?}"
    );
    sh(
        dom0,
        "work",
        "test -e /sys/block/xvdj && ! test -e /sys/block/xvdi",
    )?;
    ensure!(dom0.sh("xl domid work")? == domain, "it was started again");
    Ok(())
}
