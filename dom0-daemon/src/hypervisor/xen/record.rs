//! What outlives the daemon: records of domains.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::hypervisor::DomainSpec;
use crate::hypervisor::embedded::boot_id;
use crate::whole_file::{self, Lasting};

const FILE: &str = "record.json";

/// One domain, as found after a restart of the daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) spec: DomainSpec,
    /// No domain outlives the machine that it was made on.
    boot: String,
}

impl Record {
    pub(super) fn new(spec: DomainSpec) -> Self {
        Self {
            spec,
            boot: boot_id(),
        }
    }

    pub(super) fn is_of_this_boot(&self) -> bool {
        self.boot == boot_id()
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        Ok(whole_file::replace(
            &folder.join(FILE),
            &text,
            0o600,
            Lasting::ThisBoot,
        )?)
    }
}

/// All records below `domains`; what cannot be read is reported and left.
pub(super) fn read_all(domains: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    for entry in fs::read_dir(domains).into_iter().flatten().flatten() {
        let path = entry.path().join(FILE);
        let read = fs::read(&path)
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from));
        match read {
            Ok(record) => records.push(record),
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "record of a domain is unusable");
            }
        }
    }
    records
}
