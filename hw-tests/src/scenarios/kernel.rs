//! A qube that boots a kernel which is installed in dom0.

use anyhow::{Result, ensure};
use bulkhead_hw_tests::line::PATIENCE;
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::running::{SYSTEM, TEMPLATE, TWO_QUBES, apply, sh};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "daemon::a_qube_boots_a_kernel_by_its_name",
    needs: &[Need::Xen, Need::Throwaway],
    when: When::All,
    from: Start::Prepared(&TWO_QUBES),
    run: a_kernel_by_its_name,
}];

fn a_kernel_by_its_name(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let system = SYSTEM.replace("\"work\": (", "\"work\": (kernel: \"6.12-tests\", ");
    apply(world, &system)?;
    let status = dom0.run(&["bulkhead", "status"])?;
    ensure!(status.out.contains("Qube work cannot start"), "{status:?}");
    dom0.sh("timeout 100 bulkhead stop work 2>&1")?;
    let refused = dom0.run(&["bulkhead", "start", "work"])?;
    ensure!(
        refused.code == 1 && refused.err.contains("kernel `6.12-tests` is not installed"),
        "{refused:?}"
    );
    dom0.wait_until("! xl domid work 2> /dev/null", PATIENCE)?;

    // As a package of Qubes does it: the modules are a disk with one folder.
    dom0.sh(&format!(
        "set -e; kernel=/var/lib/qubes/vm-kernels/6.12-tests; mkdir -p $kernel /var/tmp/modules
         cp {TEMPLATE}/vmlinux $kernel/vmlinuz; cp {TEMPLATE}/initrd $kernel/initramfs
         echo 'root=/dev/xvda rw console=hvc0 said=by-its-folder' > \
             $kernel/default-kernelopts-common.txt
         echo theirs > /var/tmp/modules/found
         mke2fs -q -t ext3 -d /var/tmp/modules $kernel/modules.img 4M"
    ))?;
    let status = dom0.run(&["bulkhead", "status"])?;
    ensure!(!status.out.contains("cannot start"), "{status:?}");
    dom0.sh("timeout 150 bulkhead start work 2>&1")?;
    let seen = "grep -o said=by-its-folder /proc/cmdline; cat /sys/block/xvdd/ro
        mount -o ro /dev/xvdd /mnt && cat /mnt/found";
    dom0.put(seen.as_bytes(), "/tmp/seen")?;
    let seen = dom0.sh("timeout 100 bulkhead run --user root work -- 'sh -es' < /tmp/seen 2>&1")?;
    ensure!(seen == "said=by-its-folder\n1\ntheirs\n", "{seen}");
    // The other one has its template's own, and no such disk.
    sh(dom0, "vault", "! test -e /sys/block/xvdd").map(drop)
}
