//! Qubes with emulated devices, and the QEMU of each.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};
use bulkhead_templates::tools::run;

use super::guest::template;
use super::running::{DESCRIPTION, SYSTEM, TEMPLATE, TWO_QUBES, apply, sh};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "hvm::a_qube_runs_beside_a_qemu_that_may_do_nothing",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&TWO_QUBES),
        run: a_qube_beside_a_confined_qemu,
    },
    Scenario {
        name: "hvm::a_qube_boots_what_its_own_disk_says",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&TWO_QUBES),
        run: a_disk_with_a_boot_sector,
    },
];

/// Without `pci=noearly` the kernel looks for an AGP bridge in each of 65,536 places, and each look
/// ends in QEMU: half a minute under emulation.
const LAB: &str = r#""lab": (
        label: "red",
        virt_mode: Hvm,
        kernel: "packed",
        kernelopts: "pci=noearly systemd.unit=qube-agent.service systemd.show_status=no",
        volumes: {"private": (size: 64)},
    ),
    "vault": ("#;

/// Longer than it takes to boot under emulation, with firmware that is emulated twice.
const BOOTS: Duration = Duration::from_secs(240);

/// Prints the process of the one QEMU that serves a domain.
const QEMU: &str = "ps -eo pid,args | awk '/-xen-domid [1-9]/ && !/awk/ {print $1}'";

fn a_qube_beside_a_confined_qemu(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    put_kernel(dom0)?;
    dom0.sh("bulkhead kill work 2>&1")?;
    let before = left(dom0)?;
    apply(world, &SYSTEM.replace("\"vault\": (", LAB))?;
    // The firmware alone may take longer here than is waited for an agent; the qube goes on.
    let started = dom0.run(&["timeout", "280", "bulkhead", "start", "lab"])?;
    let running =
        "bulkhead ls --json | tr -d ' \n' | grep -o '\"name\":\"lab\"[^}]*' | grep -q running";
    if dom0.wait_until(running, BOOTS).is_err() {
        let log = dom0.sh(
            "bulkhead ls; tail -n 40 /var/lib/bulkhead/log/qubes/lab.log /var/log/xen/qemu-*lab.log || true
             journalctl -u bulkheadd --no-pager | tail -60; xl dmesg | tail -20; true",
        )?;
        anyhow::bail!("{started:?}\n{log}");
    }
    ensure!(sh(dom0, "lab", "cat /sys/hypervisor/guest_type")? == "HVM\n");
    // Its disks are Xen's own, as in every other qube.
    let disks = sh(
        dom0,
        "lab",
        "ls /sys/block | grep -E '^(sd|hd|sr|xvd)' | tr '\n' ' '",
    )?;
    ensure!(disks == "xvda xvdb xvdc ", "{disks}");
    confined(dom0)?;
    dom0.sh("timeout 150 bulkhead stop lab 2>&1")?;
    dom0.wait_until(&format!("test -z \"$({QEMU})\""), PATIENCE)?;
    dom0.wait_until("! xl domid lab 2> /dev/null", PATIENCE)?;
    // The last of it goes when all have closed it.
    dom0.sh("udevadm settle; sleep 2")?;
    let after = left(dom0)?;
    ensure!(before == after, "{before}\n{after}");
    Ok(())
}

/// QEMU is nobody, sees nothing and has no disk.
fn confined(dom0: &dyn Line) -> Result<()> {
    let said = dom0.sh(&format!(
        "pid=$({QEMU}); cd /proc/$pid
         grep -E '^(Uid|Gid|CapEff|CapPrm):' status | tr '\t\n' '  '; echo
         echo user $(($(awk '/^Uid/ {{print $2}}' status) - $(id -u xen-qemuuser-range-base))) \
             of $(xl domid lab)
         readlink root; ls -A root | wc -l; ls -l fd | grep -cE '/dev/(loop|dm-|mapper)|[.]img' || true
         ss -Hlntu"
    ))?;
    let mut lines = said.lines();
    let mut line = || lines.next().context("a line is missing");
    let status = line()?;
    ensure!(
        status.contains("CapEff: 0000000000000000") && status.contains("CapPrm: 0000000000000000"),
        "{said}"
    );
    let (user, domid) = line()?.split_once(" of ").context("no user")?;
    ensure!(user == format!("user {domid}"), "{said}");
    ensure!(line()? == format!("/run/xen/qemu-root-{domid}"), "{said}");
    ensure!(line()? == "0" && line()? == "0", "{said}");
    ensure!(line().is_err(), "somebody listens: {said}");
    Ok(())
}

/// What a qube may leave behind.
fn left(dom0: &dyn Line) -> Result<String> {
    dom0.sh(
        "ls -d /run/xen/qemu-root-* /run/xen/qmp-* /var/log/xen/qemu-* 2> /dev/null || true
         losetup --list --noheadings --output BACK-FILE | sort
         dmsetup ls | sort; ps -eo args | grep '[q]emu' | sort",
    )
}

/// Installs Debian's kernel of the template as it comes, with the initrd of the template.
fn put_kernel(dom0: &dyn Line) -> Result<()> {
    let folder = tempfile::tempdir_in("/var/tmp")?;
    run(Command::new("tar")
        .args([
            "--extract",
            "--wildcards",
            "--strip-components=2",
            "--directory",
        ])
        .args([folder.path(), "--file".as_ref(), template()?.debian()])
        .arg("./boot/vmlinuz-*"))?;
    let kernel = fs::read_dir(folder.path())?.next();
    let kernel = kernel.context("Debian's tree has no kernel")??.path();
    let installed = "/var/lib/qubes/vm-kernels/packed";
    dom0.sh(&format!(
        "mkdir -p {installed}; cp {TEMPLATE}/initrd {installed}/initramfs"
    ))?;
    dom0.put_file(&kernel, &format!("{installed}/vmlinuz"))
}

/// A boot sector that says [`SAID`] on the port that Xen logs, and waits for what may come.
const BOOT: &[u8] =
    b"\xfa\x31\xc0\x8e\xd8\xbe\x16\x7c\xac\x84\xc0\x74\x04\xe6\xe9\xeb\xf7\xfb\xf4\xeb\xfc\x90";

const SAID: &str = "its own boot sector runs";

/// No template, so nothing of it is known.
const METAL: &str = r#"(
    defaults: (netvm: None),
    qubes: {
        "metal": (
            label: "red",
            kind: Standalone,
            virt_mode: Hvm,
            memory: (initial: 64, maximum: 128),
            vcpus: 1,
            features: {"qrexec": "0"},
            volumes: {"root": (size: 16), "private": (size: 16)},
        ),
    },
)"#;

fn a_disk_with_a_boot_sector(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    dom0.put(METAL.as_bytes(), DESCRIPTION)?;
    dom0.sh("timeout 100 bulkhead apply --yes --allow-destroy 2>&1")?;
    let mut sector = [BOOT, SAID.as_bytes(), b"\n\0"].concat();
    sector.resize(510, 0);
    sector.extend(*b"\x55\xaa");
    dom0.put(&sector, "/tmp/sector")?;
    dom0.sh(
        "dd if=/tmp/sector of=/var/lib/bulkhead/volumes/metal/root.img conv=notrunc status=none",
    )?;
    dom0.sh("timeout 200 bulkhead start metal 2>&1")?;
    dom0.wait_until(&format!("xl dmesg | grep -F '{SAID}'"), PATIENCE)?;
    // It may use what it is given, and no more.
    let open = dom0.sh(&format!("ls -l /proc/$({QEMU})/fd | grep -c /dev/loop"))?;
    ensure!(open.trim() == "3", "QEMU has {open} disks");
    // Nothing in it would know what stopping is.
    dom0.sh("timeout 100 bulkhead kill metal 2>&1")?;
    dom0.wait_until(
        &format!("test -z \"$({QEMU})\" && test -z \"$(losetup --list --noheadings)\""),
        PATIENCE,
    )
    .map(drop)
}
