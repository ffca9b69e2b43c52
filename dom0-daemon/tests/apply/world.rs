//! A state folder, a description and the operations over them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkheadd::db::Database;
use bulkheadd::ops::{ApplyReport, ApplyRequest, Operations, OperationsConfig, PlanRequest};
use bulkheadd::storage::{Config as StorageConfig, dir::DirStorage};

use crate::fake::FakeMachine;

/// Two service qubes and two others; `extra` goes in by name and wins.
pub(crate) const BASE: &str = r#"
    "sys-net": (provides_network: true, netvm: None, label: "red", autostart: true),
    "sys-firewall": (provides_network: true, netvm: "sys-net", label: "green", autostart: true),
    "work": (netvm: "sys-firewall", label: "blue", autostart: true),
    "vault": (netvm: None, label: "black"),
"#;

pub(crate) fn ron(qubes: &str) -> String {
    format!(
        r#"(
            defaults: (template: "host"),
            templates: {{ "host": (source: Host) }},
            qubes: {{ {qubes} }},
        )"#
    )
}

/// The paths of one machine.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) root: PathBuf,
}

impl World {
    pub(crate) fn new(root: &Path) -> Self {
        let world = Self {
            root: root.to_owned(),
        };
        fs::create_dir_all(world.state()).unwrap();
        fs::create_dir_all(world.machine()).unwrap();
        world
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub(crate) fn machine(&self) -> PathBuf {
        self.root.join("machine")
    }

    pub(crate) fn system(&self) -> PathBuf {
        self.root.join("system.ron")
    }

    pub(crate) fn describe(&self, qubes: &str) {
        fs::write(self.system(), ron(qubes)).unwrap();
    }

    pub(crate) fn operations(&self) -> Operations {
        self.operations_with(FakeMachine::new(self.machine()))
    }

    pub(crate) fn operations_with(&self, machine: FakeMachine) -> Operations {
        let storage = DirStorage::open(&StorageConfig {
            state_dir: self.state(),
            cache_dir: self.root.join("cache"),
            mmdebstrap: "/nonexistent/mmdebstrap".into(),
        })
        .unwrap();
        Operations::new(
            OperationsConfig {
                system: self.system(),
            },
            Database::open(&self.state()).unwrap(),
            Arc::new(storage),
            Arc::new(machine),
        )
    }

    pub(crate) async fn apply(&self) -> ApplyReport {
        self.operations()
            .apply(&everything(), "alice")
            .await
            .unwrap()
    }

    /// A copy of it, to break.
    pub(crate) fn copy(&self, to: &Path) -> Self {
        let status = std::process::Command::new("cp")
            .args(["-a", "--"])
            .arg(&self.root)
            .arg(to)
            .status()
            .unwrap();
        assert!(status.success());
        Self {
            root: to.to_owned(),
        }
    }

    /// All that a person could tell apart: what runs and how, each volume with its files, what is
    /// declared. Not: numbers of generations and domains.
    pub(crate) async fn picture(&self) -> BTreeMap<String, String> {
        let mut picture = BTreeMap::new();
        for (name, record) in FakeMachine::records(&self.machine()) {
            let running = record
                .running
                .map(|running| serde_json::to_string(&running).unwrap());
            picture.extend(running.map(|running| (format!("running/{name}"), running)));
        }
        collect(&self.state().join("volumes"), "volumes", &mut picture);
        let operations = self.operations();
        if let Ok(generation) = operations.generation(None).await {
            picture.insert("declared".into(), generation.info.digest);
        }
        let status = operations.status().await.unwrap();
        picture.insert(
            "status".into(),
            format!("{:?} {:?}", status.drift, status.warnings),
        );
        picture
    }

    pub(crate) fn put(&self, file: &str) {
        fs::write(self.state().join("volumes").join(file), "precious").unwrap();
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        let path = self.state().join("volumes").join(file);
        fs::read_to_string(path).is_ok_and(|text| text == "precious")
    }
}

/// With leave to destroy and to restart.
pub(crate) fn everything() -> ApplyRequest {
    ApplyRequest {
        plan: PlanRequest {
            restart: true,
            ..PlanRequest::default()
        },
        allow_destroy: true,
        ..ApplyRequest::default()
    }
}

fn collect(path: &Path, name: &str, picture: &mut BTreeMap<String, String>) {
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    for entry in entries {
        let entry = entry.unwrap();
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            picture.insert(name.clone(), "folder".into());
            collect(&entry.path(), &name, picture);
        } else {
            picture.insert(name, fs::read_to_string(entry.path()).unwrap());
        }
    }
}
