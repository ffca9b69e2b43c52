//! A machine to test on: a runtime over the embedded hypervisor, with the real relay and agent.

#![allow(dead_code, reason = "not every test needs all of it")]

pub(crate) mod forgetful;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::call::{DataConnection, RunRequest};
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{
    Description, Dom0, Label, Memory, Mib, PolicyFolder, PolicyText, Qube, QubeKind, RestartRule,
    Template, TemplateSource, VirtMode, Volume,
};
use bulkhead_qrexec::lookup::Folders;
pub(crate) use bulkhead_testing::PATIENCE;
use bulkhead_testing::{Programs, end_domains};
use bulkheadd::bus::Events;
use bulkheadd::calls::ServicesConfig;
use bulkheadd::db::Database;
use bulkheadd::hypervisor::Hypervisor;
use bulkheadd::hypervisor::embedded::{Embedded, EmbeddedConfig, QUBE_TASKS_MAX};
use bulkheadd::machine::{Declared, Machine};
use bulkheadd::runtime::{Runtime, RuntimeConfig};
use bulkheadd::storage::{Config as StorageConfig, dir::DirStorage};
use bulkheadd::storage::{Storage, VolumeId};
use tempfile::TempDir;

pub(crate) fn name(text: &str) -> QubeName {
    QubeName::new(text).unwrap()
}

pub(crate) fn qube(text: &str) -> Qube {
    let volume = Volume {
        size: Mib(100),
        revisions_to_keep: 0,
    };
    Qube {
        name: name(text),
        kind: QubeKind::App,
        label: "red".to_owned(),
        template: Some(name("base")),
        netvm: None,
        provides_network: false,
        provides_audio: false,
        provides_gui: false,
        provides_management: false,
        memory: Memory {
            initial: Mib(256),
            maximum: Mib(256),
        },
        vcpus: 2,
        maxvcpus: None,
        cpu_weight: 256,
        autostart: false,
        volumes: [("private".to_owned(), volume)].into(),
        kernel: None,
        kernelopts: String::new(),
        virt_mode: VirtMode::Pvh,
        devices: Vec::new(),
        features: BTreeMap::new(),
        services: BTreeMap::new(),
        tags: Default::default(),
        default_dispvm: Some(name("dvm")),
        restart: RestartRule::Never,
        default_user: "user".to_owned(),
        audiovm: None,
        guivm: None,
        management_dispvm: None,
        shutdown_timeout: 30,
    }
}

/// The folders that are read live: none unless the test has made `policy.d.wanted`.
fn live_folder(dir: &Path) -> Vec<PolicyFolder> {
    let folder = PolicyFolder {
        origin: "system.ron".to_owned(),
        line: 7,
        after: 1,
        folders: vec![dir.join("runtime.d"), dir.join("policy.d")],
        legacy: dir.join("legacy"),
        shown_from: dir.to_owned(),
    };
    let wanted = dir.join("policy.d.wanted").exists();
    wanted.then_some(folder).into_iter().collect()
}

/// How long refused questions are held back: not at all unless the test has made `hold_back`.
fn held(dir: &Path) -> Duration {
    if dir.join("hold_back").exists() {
        bulkheadd::calls::HOLD_BACK
    } else {
        Duration::ZERO
    }
}

/// dom0's services, which the user in `service_user` runs: what a test puts into `rpc`, with its configuration in `config`.
fn services_in(dir: &Path) -> Folders {
    for folder in ["rpc", "config"] {
        std::fs::create_dir_all(dir.join(folder)).unwrap();
    }
    Folders {
        services: vec![dir.join("rpc")],
        configs: vec![dir.join("config")],
    }
}

/// The folders of a machine. They may outlive one daemon for the next; what then still runs is ended
/// with them.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With live policy folders that hold `files`.
    pub(crate) fn with_live_policy(files: &[(&str, &str)]) -> Arc<Self> {
        let place = Self::new();
        for folder in ["policy.d/include", "runtime.d", "legacy"] {
            std::fs::create_dir_all(place.path().join(folder)).unwrap();
        }
        std::fs::write(place.path().join("policy.d.wanted"), "").unwrap();
        for (path, text) in files {
            std::fs::write(place.path().join(path), text).unwrap();
        }
        Arc::new(place)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        end_domains(&self.path().join("run"));
    }
}

pub(crate) struct World {
    pub(crate) dir: Arc<Place>,
    pub(crate) runtime: Runtime,
    pub(crate) hypervisor: Embedded,
    pub(crate) storage: Arc<DirStorage>,
    pub(crate) events: Events,
    qubes: Vec<Qube>,
}

impl World {
    pub(crate) async fn new(qubes: Vec<Qube>, policy: &str) -> Self {
        let dir = Arc::new(Place::new());
        Self::open(dir, qubes, policy).await
    }

    pub(crate) async fn open(dir: Arc<Place>, qubes: Vec<Qube>, policy: &str) -> Self {
        Self::open_on(dir, qubes, policy, |embedded| Arc::new(embedded)).await
    }

    /// The same on what is made of the embedded hypervisor.
    pub(crate) async fn open_on(
        dir: Arc<Place>,
        qubes: Vec<Qube>,
        policy: &str,
        made: impl FnOnce(Embedded) -> Arc<dyn Hypervisor>,
    ) -> Self {
        let programs = Programs::link(dir.path().join("libexec"));
        // Another test may have been first.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let (state_dir, runtime_dir) = (dir.path().join("state"), dir.path().join("run"));
        std::fs::create_dir_all(&state_dir).unwrap();
        let hypervisor = Embedded::open(EmbeddedConfig {
            runtime_dir: runtime_dir.clone(),
            launcher: programs.path("bulkhead-launch"),
            agent: programs.path("qube-agent"),
            compositor: None,
            guard: programs.path("qube-agent"),
            bwrap: None,
            tasks_max: QUBE_TASKS_MAX,
        })
        .await
        .unwrap();
        let storage = DirStorage::open(&StorageConfig::new(state_dir.clone())).unwrap();
        let storage = Arc::new(storage);
        let events = Events::new();
        let runtime = Runtime::open(
            RuntimeConfig {
                state_dir: state_dir.clone(),
                runtime_dir,
                relay: programs.path("bulkhead-relay"),
                services: ServicesConfig {
                    launcher: programs.path("bulkhead-launch"),
                    folders: services_in(dir.path()),
                },
                gui: None,
                clipboard_timeout: PATIENCE,
                startup_timeout: PATIENCE,
                ask_timeout: PATIENCE,
                hold_back: held(dir.path()),
            },
            made(hypervisor.clone()),
            Arc::clone(&storage) as Arc<dyn Storage>,
            Database::open(&state_dir).unwrap(),
            events.clone(),
        )
        .await
        .unwrap();
        let world = Self {
            dir,
            runtime,
            hypervisor,
            storage,
            events,
            qubes,
        };
        world.declare(policy).await.unwrap();
        world
    }

    /// The same machine under a new daemon; the old one's tasks are let go of without a word.
    pub(crate) async fn reopen(self, policy: &str) -> Self {
        let (dir, qubes) = (Arc::clone(&self.dir), self.qubes.clone());
        self.runtime.release();
        drop(self);
        Self::open(dir, qubes, policy).await
    }

    pub(crate) async fn declare(
        &self,
        policy: &str,
    ) -> Result<(), bulkheadd::machine::MachineError> {
        self.runtime.declare(self.describe(policy).await).await
    }

    /// The machine with this policy, its volumes made.
    pub(crate) async fn describe(&self, policy: &str) -> Declared {
        let image = self
            .storage
            .ensure_image(&TemplateSource::Host, None, &|_| {})
            .await
            .unwrap();
        for qube in &self.qubes {
            for volume in qube.volumes.keys() {
                let id = VolumeId {
                    qube: qube.name.clone(),
                    volume: volume.clone(),
                };
                self.storage.create_volume(&id, Mib(100)).await.unwrap();
            }
        }
        let label = Label {
            name: "red".to_owned(),
            color: "0xcc0000".to_owned(),
            icon: "appvm-red".to_owned(),
        };
        let template = Template {
            name: name("base"),
            source: TemplateSource::Host,
            label: "red".to_owned(),
        };
        let description = Description {
            labels: [("red".to_owned(), label)].into(),
            templates: [(name("base"), template)].into(),
            qubes: self
                .qubes
                .iter()
                .map(|q| (q.name.clone(), q.clone().into()))
                .collect(),
            policy: vec![PolicyText {
                origin: "test.policy".to_owned(),
                first_line: 1,
                text: policy.to_owned(),
            }],
            remotes: Default::default(),
            policy_tests: Vec::new(),
            policy_folders: live_folder(self.dir.path()),
            dom0: Dom0 {
                service_user: std::fs::read_to_string(self.dir.path().join("service_user")).ok(),
                ..Dom0::default()
            },
        };
        Declared {
            generation: Some(1),
            description: Arc::new(description),
            images: Arc::new([(name("base"), image.digest)].into()),
        }
    }

    pub(crate) async fn start(&self, text: &str) {
        self.runtime.start_qube(&name(text)).await.unwrap();
    }

    pub(crate) fn request(&self, qube: &str, command: &str) -> RunRequest {
        RunRequest {
            qube: qube.to_owned(),
            user: String::new(),
            command: command.as_bytes().to_vec(),
            disposable: false,
            autostart: true,
        }
    }

    /// Runs a shell command in a qube; returns its exit code and output.
    pub(crate) async fn sh(&self, qube: &str, command: &str) -> (i32, String) {
        let request = self.request(qube, command);
        let connection = self.runtime.run_command(request, "tester").await.unwrap();
        serve(connection).await
    }

    /// Installs a service in a running qube.
    pub(crate) async fn service(&self, qube: &str, service: &str, script: &str) {
        let path = format!("/run/qubes-rpc/{service}");
        let command = format!("cat >{path} <<'EOF'\n#!/bin/sh\n{script}\nEOF\nchmod 755 {path}");
        assert_eq!(self.sh(qube, &command).await, (0, String::new()));
    }
}

/// The requesting side of a data connection: no input, all of the output, the exit code.
pub(crate) async fn serve(connection: DataConnection) -> (i32, String) {
    let listener = UnixListener::from(OwnedFd::from(connection.listener));
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
    // Waited for here: a thread that waits for what never comes would keep the test from failing.
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    let (stream, _) = accepted.expect("the qube connects").unwrap();
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    tokio::task::spawn_blocking(move || converse(stream))
        .await
        .unwrap()
}

fn send(stream: &mut UnixStream, kind: u32, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap();
    let mut message = [kind.to_le_bytes(), length.to_le_bytes()].concat();
    message.extend_from_slice(body);
    // A service that ended already takes nothing more.
    let _ = stream.write_all(&message);
}

fn converse(mut stream: UnixStream) -> (i32, String) {
    send(&mut stream, 0x300, &3u32.to_le_bytes());
    send(&mut stream, 0x190, b"");
    let mut output = Vec::new();
    loop {
        let mut header = [0; 8];
        stream.read_exact(&mut header).unwrap();
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let mut body = vec![0; word(4) as usize];
        stream.read_exact(&mut body).unwrap();
        match word(0) {
            0x191 => output.extend_from_slice(&body),
            0x193 => {
                let code = i32::from_le_bytes(body.try_into().unwrap());
                return (code, String::from_utf8(output).unwrap());
            }
            _ => {}
        }
    }
}

/// A client that sends as many bytes as the command takes without reading them, up to `input`,
/// and is gone once the command has said something.
pub(crate) fn leave(connection: DataConnection, input: usize) {
    let listener = UnixListener::from(OwnedFd::from(connection.listener));
    let (mut stream, _) = listener.accept().unwrap();
    send(&mut stream, 0x300, &3u32.to_le_bytes());
    let mut header = [0; 8];
    while header[..4] != 0x191u32.to_le_bytes() {
        stream.read_exact(&mut header).unwrap();
        let length = u32::from_le_bytes(header[4..].try_into().unwrap());
        stream.read_exact(&mut vec![0; length as usize]).unwrap();
    }
    let pause = Some(Duration::from_millis(300));
    stream.set_write_timeout(pause).unwrap();
    for _ in 0..input / 4096 {
        let message = [
            &0x190u32.to_le_bytes()[..],
            &4096u32.to_le_bytes(),
            &[0; 4096],
        ]
        .concat();
        if stream.write_all(&message).is_err() {
            return;
        }
    }
    assert_eq!(input, 0, "it took everything");
}

pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What runs, by the hypervisor's word.
pub(crate) async fn running(world: &World) -> Vec<String> {
    let list = world.hypervisor.list().await.unwrap();
    list.iter().map(|info| info.spec.name.to_string()).collect()
}

impl World {
    /// First processes by qube.
    pub(crate) async fn hypervisor_pids(&self) -> BTreeMap<String, rustix::process::Pid> {
        let list = self.hypervisor.list().await.unwrap();
        list.iter()
            .map(|info| {
                let pid = i32::try_from(info.pid.unwrap()).unwrap();
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                (info.spec.name.to_string(), pid)
            })
            .collect()
    }

    /// The relay of the only qube that runs: a child of ours.
    pub(crate) fn try_relay_pid(&self, _qube: &str) -> Option<rustix::process::Pid> {
        let own = std::process::id().to_string();
        let relay = self.relay_program();
        let mut found = None;
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            let Some((head, tail)) = stat.rsplit_once(')') else {
                continue;
            };
            let fields: Vec<&str> = tail.split_whitespace().collect();
            if head.ends_with(&relay) && fields[1] == own && fields[0] != "Z" {
                let pid = entry.file_name().to_str().unwrap().parse().unwrap();
                found = rustix::process::Pid::from_raw(pid);
            }
        }
        found
    }

    pub(crate) fn relay_pid(&self, qube: &str) -> rustix::process::Pid {
        self.try_relay_pid(qube).unwrap()
    }

    /// What the kernel keeps of its name.
    fn relay_program(&self) -> String {
        "bulkhead-relay".chars().take(15).collect()
    }
}
