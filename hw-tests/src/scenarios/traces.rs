//! Whether something that is over has left anything behind.

use anyhow::Result;
use bulkhead_hw_tests::line::{Line, PATIENCE};

/// Everything that there is of domains: theirs of Xen, their disks, their files.
const TRACES: &str = "xl list | awk '{print $1, $2}'
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

/// Writes down everything that there is of domains now, for [`nothing_else`].
pub(super) fn note(dom0: &dyn Line) -> Result<()> {
    dom0.put(TRACES.as_bytes(), "/tmp/traces")?;
    dom0.sh("sh /tmp/traces > /tmp/noted").map(drop)
}

/// Waits until there is nothing but what was noted; Xen takes a moment to give a domain back.
pub(super) fn nothing_else(dom0: &dyn Line) -> Result<()> {
    dom0.wait_until("sh /tmp/traces | diff /tmp/noted -", PATIENCE)
        .map(drop)
}
