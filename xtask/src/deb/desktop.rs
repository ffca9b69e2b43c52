//! `bulkhead-desktop`: what a session in dom0 needs to show windows and to be asked.

use super::{File, From, Package};

pub(super) const PACKAGE: Package = Package {
    name: "bulkhead-desktop",
    debian: "desktop/dist/debian",
    files: FILES,
    generate: |_, _| Ok(()),
};

const FILES: &[File] = &[
    File {
        from: From::Program("bulkhead-desktop"),
        to: "usr/bin/bulkhead-desktop",
    },
    File {
        // Where the daemon looks for it.
        from: From::Program("bulkhead-gui"),
        to: "usr/libexec/bulkhead/bulkhead-gui",
    },
    File {
        from: From::Source("desktop/dist/org.bulkhead.Desktop.desktop"),
        to: "etc/xdg/autostart/org.bulkhead.Desktop.desktop",
    },
];
