//! Large copies between qubes.

use anyhow::{Result, ensure};
use bulkhead_hw_tests::line::Line;
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::running::{TWO_QUBES, both_run, in_qube, sh};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "transfer::what_does_not_fit_is_refused_and_leaves_nothing",
    needs: &[Need::Xen, Need::Throwaway],
    when: When::All,
    from: Start::Prepared(&TWO_QUBES),
    run: what_does_not_fit_is_refused,
}];

const LARGE_MIB: u32 = 100;

/// Gives a qube more room than its private volume has: on the disk that is gone with it.
const ROOM: &str = "mkfs.ext4 -q -F -E lazy_itable_init=1 /dev/xvdc 600M
mkdir -p /home/user/QubesIncoming
mount /dev/xvdc /home/user/QubesIncoming
chown user:user /home/user/QubesIncoming";

fn room(dom0: &dyn Line, qube: &str) -> Result<()> {
    dom0.sh(&format!(
        "timeout 100 bulkhead run --user root {qube} -- '{ROOM}' 2>&1"
    ))
    .map(drop)
}

/// Makes a large file in `work`, which must have room.
fn large(dom0: &dyn Line) -> Result<()> {
    let make = format!("head -c {LARGE_MIB}M /dev/urandom > ~/QubesIncoming/large");
    sh(dom0, "work", &make).map(drop)
}

/// The private volume of `vault` has less room than the file that it is sent.
fn what_does_not_fit_is_refused(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    room(dom0, "work")?;
    large(dom0)?;
    let before = sh(
        dom0,
        "vault",
        "echo kept > ~/kept; sync; df --output=used -k ~",
    )?;
    let copy = "cd ~/QubesIncoming; qvm-copy-to-vm vault large";
    let refused = in_qube(dom0, "work", copy)?;
    ensure!(
        refused.code == 1 && refused.err.contains("its disk is full"),
        "{refused:?}"
    );
    let after = sh(
        dom0,
        "vault",
        "cat ~/kept; ls -A ~/QubesIncoming/work; df --output=used -k ~",
    )?;
    let (used, names) = (number(&before)?, number(&after)?);
    ensure!(names < used + 1000, "before {before} after {after}");
    ensure!(
        after.starts_with("kept\n") && after.lines().count() == 3,
        "something is left: {after}"
    );
    sh(dom0, "work", "qvm-copy-to-vm vault /etc/hostname")?;
    both_run(dom0)
}

/// The number in the last line.
fn number(said: &str) -> Result<u64> {
    Ok(said.lines().last().unwrap_or_default().trim().parse()?)
}
