//! From a [`DomainSpec`] to a running domain.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_model::qube::Mib;
use bulkhead_sandbox::launch::{LaunchSpec, ProcessLimits, RootSource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::record::{Record, boot_id, number};
use super::{
    Controller, EmbeddedConfig, Group, HOST_ID_BASE, HOST_ID_COUNT, Process, Shared, io_error,
    qube_owner,
};
use crate::hypervisor::console;
use crate::hypervisor::{DomainSpec, HypervisorError, PRIVATE_VOLUME, ROOT_VOLUME};
use crate::storage::ImageRoot;

/// The named pipe that is a domain's console.
pub(super) const CONSOLE: &str = "console";
/// The file that bubblewrap writes to.
pub(super) const STATUS: &str = "status";

/// How long the launcher and bubblewrap may take: they only make system calls.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Most of the launcher's output that is read: one line of either kind.
const LAUNCH_OUTPUT_MAX: usize = 16 * 1024;

/// Where the agent is in every qube.
const AGENT: &str = "usr/lib/qubes/qube-agent";

/// Where the agent of its windows is.
const COMPOSITOR: &str = "usr/lib/qubes/qube-gui-agent";

/// Creates and registers a domain, or leaves nothing of it.
pub(super) async fn create(shared: &Arc<Shared>, spec: &DomainSpec) -> Result<(), HypervisorError> {
    if shared.domains().contains_key(&spec.domid) {
        return Err(failed(spec, format!("domain {} exists", spec.domid)));
    }
    let dir = shared.domain_dir(spec.domid);
    fs::create_dir_all(&dir).map_err(io_error(format!("making folder `{}`", dir.display())))?;
    let group = shared
        .cgroups
        // Not the UUID alone: a restarted qube must not get what its last run is being cleared of.
        .make(&format!("bulkhead-{}-{}", spec.uuid, spec.domid))
        .map_err(io_error(format!("making the cgroups of `{}`", spec.name)))?;
    let mut record = Record {
        spec: spec.clone(),
        boot: boot_id(),
        process: None,
        group: group.clone(),
        host_id: None,
        stopped: false,
    };
    match bring_up(shared, &mut record, &dir).await {
        Ok((process, child)) => {
            shared.register(record, process, group, Some(child));
            Ok(())
        }
        Err(error) => {
            shared.clear(&record, &group).await;
            Err(error)
        }
    }
}

fn failed(spec: &DomainSpec, detail: String) -> HypervisorError {
    HypervisorError::StartFailed {
        name: spec.name.clone(),
        detail,
    }
}

async fn bring_up(
    shared: &Arc<Shared>,
    record: &mut Record,
    dir: &Path,
) -> Result<(Process, Child), HypervisorError> {
    let spec = record.spec.clone();
    limit(shared, &record.group, &spec)
        .map_err(io_error(format!("limiting qube `{}`", spec.name)))?;
    let layer = guest_layer(shared).await?;
    let console = dir.join(CONSOLE);
    console::make_pipe(&console).map_err(io_error("making a console"))?;
    record.host_id = give_to_qube(shared, &spec, &console)
        .map_err(io_error(format!("giving qube `{}` its folders", spec.name)))?;
    // Known before it exists: a daemon that dies from here on finds and ends it.
    record
        .write(dir)
        .map_err(io_error("writing a domain's record"))?;
    let launch = launch_spec(shared, record, &layer, dir)?;
    // The reader comes first: it must see all that is written.
    let reader = tokio::net::unix::pipe::OpenOptions::new()
        .read_write(true)
        .open_receiver(&console)
        .map_err(io_error("opening a console"))?;
    let writer = console::open_writer(&console).map_err(io_error("opening a console"))?;
    let (pid, child) = match run_launcher(&shared.config.launcher, &launch, writer).await {
        Ok(launched) => launched,
        Err(detail) => {
            console::drain(&console, spec.console_log.clone()).await;
            let said = console::tail(&spec.console_log);
            let detail = match said.as_str() {
                "" => detail,
                said => format!("{detail}; it said: {said}"),
            };
            return Err(failed(&spec, detail));
        }
    };
    drop(reader);
    let process = Process::open(pid)
        .map_err(|e| failed(&spec, format!("its first process ended at once ({e})")))?;
    record.process = Some(process.id);
    record
        .write(dir)
        .map_err(io_error("writing a domain's record"))?;
    Ok((process, child))
}

fn limit(shared: &Shared, group: &Group, spec: &DomainSpec) -> io::Result<()> {
    group.set_memory(spec.memory.maximum)?;
    group.set_tasks(shared.config.tasks_max)?;
    group.set_vcpus(spec.vcpus)?;
    group.set_cpu_weight(spec.cpu_weight)
}

/// As root: makes the qube's own host user owner of what it may write to, and returns that user.
///
/// Who owns a persistent volume stays its owner; a new one takes the number of the domain that
/// first uses it, which no other domain ever has.
fn give_to_qube(shared: &Shared, spec: &DomainSpec, console: &Path) -> io::Result<Option<u32>> {
    if !shared.root {
        return Ok(None);
    }
    let mut owner = None;
    for volume in &spec.volumes {
        owner = owner.or(qube_owner(&volume.path)?);
    }
    let id = owner.unwrap_or(HOST_ID_BASE + spec.domid.0 % HOST_ID_COUNT);
    let own = |path: &Path| std::os::unix::fs::lchown(path, Some(id), Some(id));
    for volume in &spec.volumes {
        own(&volume.path)?;
    }
    own(&spec.overlay)?;
    own(&spec.vchan_dir)?;
    own(console)?;
    Ok(Some(id))
}

/// What a qube may write to a root that is not kept, in bytes: it is memory of the qube's, and a
/// quarter is left for its processes.
fn scratch_size(memory: Mib) -> u64 {
    (memory.0.saturating_mul(1 << 20) / 4).saturating_mul(3)
}

/// What is at the bottom of a root. What lies over that is added to `layers`, topmost first.
fn bottom(root: &ImageRoot, layers: &mut Vec<PathBuf>) -> Result<RootSource, HypervisorError> {
    match root {
        ImageRoot::Host => Ok(RootSource::Host),
        ImageRoot::Folder(path) => Ok(RootSource::Tree(path.clone())),
        ImageRoot::Layer { tree, over } => {
            layers.push(tree.clone());
            bottom(over, layers)
        }
        ImageRoot::Disk(_) => Err(HypervisorError::NotPossible {
            hypervisor: super::NAME,
            operation: "start a qube from a disk".to_owned(),
        }),
    }
}

fn launch_spec(
    shared: &Shared,
    record: &Record,
    layer: &Path,
    dir: &Path,
) -> Result<LaunchSpec, HypervisorError> {
    let spec = &record.spec;
    let volume = |name: &str| {
        let found = spec.volumes.iter().find(|v| v.name == name);
        found.map(|v| v.path.clone())
    };
    let user = &spec.default_user;
    let environment = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("HOME", format!("/home/{user}")),
        ("USER", user.clone()),
        ("LOGNAME", user.clone()),
        ("SHELL", "/bin/sh".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("VCHAN_DOMAIN", spec.domid.to_string()),
        ("VCHAN_SOCKET_DIR", "/run/vchan".to_owned()),
    ];
    let mut layers = vec![layer.to_owned()];
    let limits = !(shared.cgroups.has(Controller::Memory) && shared.cgroups.has(Controller::Pids));
    Ok(LaunchSpec {
        bwrap: super::probe::find_bwrap(&shared.config)?,
        hostname: spec.name.to_string(),
        user: user.clone(),
        host_id: record.host_id,
        root: bottom(&spec.root, &mut layers)?,
        layers,
        scratch: volume(ROOT_VOLUME).unwrap_or_else(|| spec.overlay.clone()),
        scratch_size: volume(ROOT_VOLUME)
            .is_none()
            .then(|| scratch_size(spec.memory.maximum)),
        private: volume(PRIVATE_VOLUME),
        volumes: spec
            .volumes
            .iter()
            .filter(|v| v.name != PRIVATE_VOLUME && v.name != ROOT_VOLUME)
            .map(|v| (v.name.clone(), v.path.clone()))
            .collect(),
        vchan: spec.vchan_dir.clone(),
        guard: shared.config.guard.clone(),
        environment: environment
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec(),
        command: vec![format!("/{AGENT}")],
        cgroups: record.group.entrances(),
        process_limits: limits.then(|| ProcessLimits {
            data: spec.memory.maximum.0.saturating_mul(1 << 20),
            tasks: shared.config.tasks_max,
        }),
        status: dir.join(STATUS),
    })
}

/// Runs the launcher; returns the first process of the qube and bubblewrap, or what went wrong.
pub(super) async fn run_launcher(
    launcher: &Path,
    spec: &LaunchSpec,
    console: std::os::fd::OwnedFd,
) -> Result<(i32, Child), String> {
    let cannot = |e: io::Error| format!("`{}` cannot be run: {e}", launcher.display());
    let mut child = Command::new(launcher)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(console))
        .env_clear()
        .current_dir("/")
        .spawn()
        .map_err(cannot)?;
    let text = serde_json::to_vec(spec).map_err(|e| e.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A launcher that ends early says why on its output.
        let _ = stdin.write_all(&text).await;
    }
    let Some(stdout) = child.stdout.take() else {
        return Err("the launcher has no output".to_owned());
    };
    let read = tokio::time::timeout(LAUNCH_TIMEOUT, read_status(stdout)).await;
    let status = match read {
        Ok(status) => status,
        Err(_) => {
            // It may hang in the kernel; then it stays, but nobody waits for it.
            let _ = child.start_kill();
            return Err("the launcher does not come to an end".to_owned());
        }
    };
    if let Some(pid) = number(&status, "child-pid").and_then(|pid| i32::try_from(pid).ok()) {
        return Ok((pid, child));
    }
    let ended = child.wait().await.map_err(cannot)?;
    let said = serde_json::Deserializer::from_slice(&status)
        .into_iter::<serde_json::Value>()
        .map_while(Result::ok)
        .find_map(|v| v.get("launch-error")?.as_str().map(str::to_owned));
    Err(said.unwrap_or_else(|| format!("the launcher ended ({ended})")))
}

/// Reads until the pid or an error is there, or the end.
async fn read_status(mut stdout: tokio::process::ChildStdout) -> Vec<u8> {
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    while text.len() < LAUNCH_OUTPUT_MAX {
        match stdout.read(&mut buffer).await {
            Ok(count @ 1..) => text.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            _ => break,
        }
        if number(&text, "child-pid").is_some() {
            break;
        }
    }
    text
}

/// Length and time of a program, which tell its versions apart.
fn version(program: &Path) -> Result<String, HypervisorError> {
    let doing = format!("reading the guest program `{}`", program.display());
    let meta = fs::metadata(program).map_err(io_error(doing))?;
    let changed = meta
        .modified()
        .ok()
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .unwrap_or_default();
    Ok(format!("{:x}-{:x}", meta.len(), changed.as_nanos()))
}

/// The read-only tree laid over every template: the guest programs. Made once per version of
/// them, under a name that tells the versions apart.
pub(super) async fn guest_layer(shared: &Shared) -> Result<PathBuf, HypervisorError> {
    let config = &shared.config;
    let mut name = format!("guest-{}", version(&config.agent)?);
    if let Some(compositor) = &config.compositor {
        name = format!("{name}-{}", version(compositor)?);
    }
    let layer = shared.config.runtime_dir.join(&name);
    if layer.is_dir() {
        return Ok(layer);
    }
    let new = shared
        .config
        .runtime_dir
        .join(format!("{name}.new-{}", uuid::Uuid::new_v4()));
    let made = build_layer(config, &new).await;
    let result = made.and_then(|()| match fs::rename(&new, &layer) {
        // Another start made it meanwhile.
        Err(e) if layer.is_dir() => {
            tracing::debug!(error = %e, "guest programs were there already");
            Ok(())
        }
        other => other.map_err(io_error("putting the guest programs in place")),
    });
    if new.exists() {
        super::record::remove_tree(new).await;
    }
    result.map(|()| layer)
}

async fn build_layer(config: &EmbeddedConfig, new: &Path) -> Result<(), HypervisorError> {
    let agent = &config.agent;
    copy_program(agent, &new.join(AGENT)).await?;
    if let Some(compositor) = &config.compositor {
        copy_program(compositor, &new.join(COMPOSITOR)).await?;
    }
    let output = Command::new(agent)
        .arg("install-root")
        .arg(new)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(io_error(format!("running `{}`", agent.display())))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(HypervisorError::Unsupported {
            hypervisor: super::NAME,
            missing: format!("the guest programs cannot be installed: {said}"),
            remedy: "Install the `qube-agent` that belongs to this version.".to_owned(),
        });
    }
    open_to_all(new).map_err(io_error("opening the guest programs to all"))
}

async fn copy_program(program: &Path, at: &Path) -> Result<(), HypervisorError> {
    let parent = at.parent().unwrap_or(at);
    let doing = || io_error(format!("copying a guest program to `{}`", at.display()));
    fs::create_dir_all(parent).map_err(doing())?;
    // By a program of its own: a copy that this process holds open for writing could not be run
    // as long as any child, forked meanwhile, has it open too.
    let copied = Command::new("cp")
        .arg("--")
        .args([program, at])
        .stdin(Stdio::null())
        .status()
        .await
        .and_then(|status| match status.success() {
            true => fs::set_permissions(at, fs::Permissions::from_mode(0o755)),
            false => Err(io::Error::other("cp failed")),
        });
    copied.map_err(doing())
}

/// Every qube's user reads it, whatever the daemon's umask is.
fn open_to_all(at: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(at)?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mode = meta.permissions().mode();
    if meta.is_dir() {
        fs::set_permissions(at, fs::Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(at)? {
            open_to_all(&entry?.path())?;
        }
        return Ok(());
    }
    let executable = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
    fs::set_permissions(at, fs::Permissions::from_mode(executable))
}
