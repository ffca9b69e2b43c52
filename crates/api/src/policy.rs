//! How the call policy is.

use serde::{Deserialize, Serialize};

/// Something wrong in policy text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFault {
    /// `file:line:column`, or the file or folder alone.
    pub place: String,
    /// What is wrong, as one clause.
    pub message: String,
    /// What to write or do instead.
    pub remedy: String,
}

/// One entry of folders that are read live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFolderStatus {
    /// Where the description names it, as `file:line`.
    pub place: String,
    /// The folders.
    pub folders: Vec<String>,
    /// Whether what is there now is in force; if not, the last good rules are, if there are any.
    pub ok: bool,
    /// How many rules are in force.
    pub rules: u64,
    /// How many files they are from; 0 where that is not known, after a restart.
    pub files: u64,
    /// When they were read: seconds since the epoch.
    pub read: Option<u64>,
    /// What is wrong, the first of it.
    pub faults: Vec<PolicyFault>,
    /// How much is wrong in all.
    pub faults_in_all: u64,
}

/// The policy in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// How many rules are in force.
    pub rules: u64,
    /// Whether every call is refused because there is no good policy.
    pub denies_all: bool,
    /// What is wrong with the rules of the description itself.
    pub faults: Vec<PolicyFault>,
    /// The folders that are read live.
    pub folders: Vec<PolicyFolderStatus>,
    /// Why changes of these folders are not noticed; none if they are.
    pub blind: Option<String>,
}

impl PolicyStatus {
    /// Everything that is told as wrong.
    pub fn faults(&self) -> impl Iterator<Item = &PolicyFault> {
        let folders = self.folders.iter().flat_map(|folder| &folder.faults);
        self.faults.iter().chain(folders)
    }
}
