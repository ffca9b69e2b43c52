//! The packages of dom0 under a real service manager.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "packages::dom0_is_installed_serves_and_is_purged",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::Always,
        from: Start::Bare,
        run: dom0_is_installed_serves_and_is_purged,
    },
    Scenario {
        name: "packages::purging_keeps_the_data_of_qubes",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::Always,
        from: Start::Bare,
        run: purging_keeps_the_data_of_qubes,
    },
];

/// Every file but what is never the same twice, and what dpkg and the journal write of their own.
const ALL_FILES: &str = "find /etc /usr /var /run /opt /srv -xdev \
    ! -path '/var/lib/dpkg/*' ! -path '/var/log/*' ! -path '/run/systemd/*' ! -path '/run/udev/*' \
    ! -path '/var/lib/systemd/*' ! -path '/var/tmp/*' ! -path '/var/cache/ldconfig/*' \
    ! -path '/run/user/*' ! -name '*-' | sort";

/// The package that the workspace built.
pub(super) fn package(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("BULKHEAD_DEBS").context("there are no packages to test")?;
    Ok(PathBuf::from(folder).join(format!("{name}.deb")))
}

/// Installs the programs of dom0.
pub(super) fn install(dom0: &dyn Line) -> Result<()> {
    dom0.put_file(&package("bulkhead-dom0")?, "/tmp/bulkhead-dom0.deb")?;
    dom0.sh("dpkg -i /tmp/bulkhead-dom0.deb 2>&1").map(drop)
}

fn dom0_is_installed_serves_and_is_purged(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    dom0.sh("useradd ann; useradd eve")?;
    let before = dom0.sh(ALL_FILES)?;
    install(dom0)?;
    let state = dom0.sh("systemctl is-enabled bulkheadd; systemctl is-active bulkheadd || true")?;
    ensure!(state == "enabled\ninactive\n", "{state}");
    dom0.sh("usermod -aG bulkhead ann; systemctl start bulkheadd")?;
    serves(dom0)?;
    may_share_many_pages(dom0)?;
    // An upgrade replaces the daemon under whatever runs.
    let first = dom0.sh("systemctl show -P MainPID bulkheadd")?;
    dom0.sh("dpkg -i /tmp/bulkhead-dom0.deb 2>&1")?;
    let second =
        dom0.sh("systemctl is-active -q bulkheadd; systemctl show -P MainPID bulkheadd")?;
    ensure!(first != second, "the old daemon runs on");
    dom0.sh("systemctl stop bulkheadd; ! test -e /run/bulkhead/bus")?;
    dom0.sh("systemctl start bulkheadd; dpkg -P bulkhead-dom0 2>&1")?;
    dom0.wait_until("! pgrep bulkhead[d]", PATIENCE)?;
    let after = dom0.sh(ALL_FILES)?;
    let left: Vec<&str> = after
        .lines()
        .filter(|line| !before.lines().any(|l| l == *line))
        .collect();
    ensure!(left.is_empty(), "left behind: {left:#?}");
    let unknown = dom0.sh("systemctl show -P LoadState bulkheadd; ! getent group bulkhead")?;
    ensure!(unknown == "not-found\n", "{unknown}");
    Ok(())
}

/// Now, where the driver was loaded before the package came, and after the next boot.
fn may_share_many_pages(dom0: &dyn Line) -> Result<()> {
    let said = dom0.sh("cat /sys/module/xen_gntalloc/parameters/limit
         modprobe --showconfig | grep 'options xen_gntalloc'")?;
    ensure!(
        said == "16384\noptions xen_gntalloc limit=16384\n",
        "{said}"
    );
    Ok(())
}

/// The socket is there for root and the group, and for nobody else.
fn serves(dom0: &dyn Line) -> Result<()> {
    let listed = dom0.sh("bulkhead ls")?;
    ensure!(listed.starts_with("NAME "), "{listed}");
    dom0.sh("runuser -u ann -- bulkhead ls")?;
    let refused = dom0.run(&["runuser", "-u", "eve", "--", "bulkhead", "ls"])?;
    ensure!(refused.code == 1, "{refused:?}");
    let rights = dom0.sh("stat -c '%A %U %G' /run/bulkhead /run/bulkhead/bus /var/lib/bulkhead")?;
    ensure!(
        rights == "drwxr-xr-x root root\nsrw-rw---- root bulkhead\ndrwx------ root root\n",
        "{rights}"
    );
    dom0.sh("busctl --system list --no-pager | grep -q org.bulkhead.Manager1")?;
    let failed = dom0.sh("systemctl --failed --no-legend --plain")?;
    ensure!(failed.is_empty(), "{failed}");
    Ok(())
}

fn purging_keeps_the_data_of_qubes(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    install(dom0)?;
    dom0.sh(
        "mkdir -p /var/lib/bulkhead/volumes/work; echo mine > /var/lib/bulkhead/volumes/work/x",
    )?;
    let said = dom0.sh("dpkg -P bulkhead-dom0 2>&1")?;
    ensure!(said.contains("keeping /var/lib/bulkhead/volumes"), "{said}");
    let kept = dom0.sh("cat /var/lib/bulkhead/volumes/work/x; ls /var/lib/bulkhead")?;
    ensure!(kept == "mine\nvolumes\n", "{kept}");
    Ok(())
}
