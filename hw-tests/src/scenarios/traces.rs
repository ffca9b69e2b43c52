//! Whether something that is over has left anything behind.

use anyhow::Result;
use bulkhead_hw_tests::line::PATIENCE;
use bulkhead_hw_tests::scenario::World;

/// Everything that Xen has of domains, and their disks.
const XEN: &str = "xl list | awk '{print $1, $2}'
xenstore-list /local/domain | sort
xenstore-list /vm | sort
xenstore-list /libxl | sort
for kind in $(xenstore-list /local/domain/0/backend); do
    xenstore-list /local/domain/0/backend/$kind | sort
done
xenstore-ls -f /local/domain/0/data || true
xenstore-ls -f /bulkhead || true
dmsetup ls | sort
losetup --noheadings --output NAME,BACK-FILE | sort
find /run/bulkhead /var/lib/bulkhead ! -name stopped.json | sort
ps -eo args | grep -c '[b]ulkhead-relay'
";

/// A command of dom0 that tells of everything that there is of domains.
fn traces(world: &World) -> String {
    world.own().map_or_else(
        || XEN.to_owned(),
        |own| {
            let (run, state) = (own.path("run"), own.path("state"));
            format!(
                "bulkhead ls
                 find {} {} ! -name stopped.json | sort
                 pgrep -c -P {} -x bulkhead-relay
                ",
                run.display(),
                state.display(),
                own.pid()
            )
        },
    )
}

/// Where this may write in dom0.
fn noted(world: &World) -> String {
    world.own().map_or_else(
        || "/tmp/noted".to_owned(),
        |own| own.path("noted").display().to_string(),
    )
}

/// Writes down everything that there is of domains now, for [`nothing_else`].
pub(super) fn note(world: &World) -> Result<()> {
    let (dom0, noted) = (world.dom0(), noted(world));
    dom0.put(traces(world).as_bytes(), &format!("{noted}.sh"))?;
    dom0.sh(&format!("sh {noted}.sh > {noted}")).map(drop)
}

/// Waits until there is nothing but what was noted; Xen takes a moment to give a domain back.
pub(super) fn nothing_else(world: &World) -> Result<()> {
    let noted = noted(world);
    let compare = format!("sh {noted}.sh | diff {noted} -");
    world.dom0().wait_until(&compare, PATIENCE).map(drop)
}
