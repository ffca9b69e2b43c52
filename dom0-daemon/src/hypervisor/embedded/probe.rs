//! Whether qubes can run here, found out by running one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_sandbox::launch::{LaunchSpec, RootSource};

use super::{Controller, EmbeddedConfig, HOST_ID_BASE, HOST_ID_COUNT, NAME, Shared};
use super::{io_error, record, start};
use crate::hypervisor::console;
use crate::hypervisor::{HostReport, HypervisorError};

const NOT_XEN: &str = "Qubes are Linux namespaces on one shared kernel, not Xen domains: for \
     trying out, development and tests, not a security boundary of Xen's strength.";
const NO_NETWORK: &str = "Each qube has a network of its own with a loopback device only; \
     netvm chains are recorded and told to the qubes, but nothing is connected.";
const ONE_USER: &str = "The daemon runs as an ordinary user, so all qubes share its host user; \
     run it as root to give each qube a host user of its own.";
const NO_LIMITS: &str = "No memory and task cgroups are to be had, so memory is limited for each \
     process alone and tasks for each qube by resource limits; run under systemd with delegated \
     controllers, or as root.";
const NO_FREEZER: &str = "No freezer cgroup is to be had, so qubes are paused with signals.";
const NO_CPU: &str = "No cpu cgroup is to be had, so processors are not limited.";

/// What a probe may write to its root: a few small files.
const PROBE_BYTES: u64 = 1 << 20;

/// bubblewrap, or what to do about it.
pub(super) fn find_bwrap(config: &EmbeddedConfig) -> Result<PathBuf, HypervisorError> {
    let places = match &config.bwrap {
        Some(path) => vec![path.clone()],
        None => ["/usr/bin/bwrap", "/usr/local/bin/bwrap"]
            .map(PathBuf::from)
            .to_vec(),
    };
    let found = places.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| HypervisorError::Unsupported {
        hypervisor: NAME,
        missing: "bubblewrap is not installed".to_owned(),
        remedy: "Install it: `apt-get install bubblewrap`.".to_owned(),
    })
}

/// Reads a switch of the kernel; none where it does not have it.
fn switch(name: &str) -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    text.trim().parse().ok()
}

/// What is probably in the way, from what the kernel has switched on and off.
fn remedy(
    kernel: impl Fn(&str) -> Option<u64>,
    filesystems: &str,
    landlock: bool,
    container: bool,
) -> String {
    let overlay = filesystems
        .lines()
        .any(|line| line.split_whitespace().last() == Some("overlay"));
    if kernel("user/max_user_namespaces") == Some(0) {
        "Allow user namespaces: `sysctl user.max_user_namespaces=15000`."
    } else if kernel("kernel/unprivileged_userns_clone") == Some(0) {
        "Allow user namespaces: `sysctl kernel.unprivileged_userns_clone=1`."
    } else if kernel("kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        "Allow user namespaces: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or an \
         AppArmor profile with `userns` for bulkhead-launch and bwrap."
    } else if !overlay {
        "Load overlayfs: `modprobe overlay`."
    } else if !landlock {
        "Switch Landlock on: Linux 5.19 or newer, with `landlock` in the list that the kernel takes \
         as `lsm=` on its command line; /sys/kernel/security/lsm shows the list in force."
    } else if container {
        "This is a container that forbids user namespaces or mounts: allow them (Docker: \
         `--security-opt seccomp=unconfined --security-opt apparmor=unconfined \
         --security-opt systempaths=unconfined`), or use a virtual machine."
    } else {
        "Linux 5.19 or newer with user namespaces, overlayfs and Landlock is needed; see the cause \
         above."
    }
    .to_owned()
}

fn in_container() -> bool {
    ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|path| Path::new(path).exists())
        || fs::read_to_string("/proc/1/environ").is_ok_and(|text| text.contains("container="))
}

pub(super) async fn probe(shared: &Arc<Shared>) -> Result<HostReport, HypervisorError> {
    let bwrap = find_bwrap(&shared.config)?;
    try_launch(shared, &bwrap).await?;
    let cgroups = &shared.cgroups;
    let mut warnings = vec![NOT_XEN, NO_NETWORK];
    if !shared.root {
        warnings.push(ONE_USER);
    }
    if !(cgroups.has(Controller::Memory) && cgroups.has(Controller::Pids)) {
        warnings.push(NO_LIMITS);
    }
    if !cgroups.has(Controller::Cpu) {
        warnings.push(NO_CPU);
    }
    if !cgroups.has(Controller::Freezer) {
        warnings.push(NO_FREEZER);
    }
    let facts = [
        ("bubblewrap", bwrap.display().to_string()),
        ("cgroup", cgroups.describe()),
        ("network", "loopback only".to_owned()),
        (
            "host users",
            if shared.root {
                format!("{HOST_ID_BASE} to {}", HOST_ID_BASE + HOST_ID_COUNT - 1)
            } else {
                "the daemon's own".to_owned()
            },
        ),
    ];
    Ok(HostReport {
        hypervisor: NAME.to_owned(),
        warnings: warnings.into_iter().map(str::to_owned).collect(),
        facts: facts
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        machine: None,
    })
}

/// Launches a qube that does nothing.
async fn try_launch(shared: &Arc<Shared>, bwrap: &Path) -> Result<(), HypervisorError> {
    let dir = shared
        .config
        .runtime_dir
        .join(format!("probe-{}", uuid::Uuid::new_v4()));
    let doing = || io_error(format!("preparing `{}`", dir.display()));
    let (scratch, vchan, pipe) = (dir.join("scratch"), dir.join("vchan"), dir.join("console"));
    for folder in [&scratch, &vchan] {
        fs::create_dir_all(folder).map_err(doing())?;
    }
    console::make_pipe(&pipe).map_err(doing())?;
    // One past the ids of qubes.
    let host_id = shared.root.then_some(HOST_ID_BASE + HOST_ID_COUNT);
    if let Some(id) = host_id {
        for path in [&scratch, &vchan, &pipe] {
            std::os::unix::fs::lchown(path, Some(id), Some(id)).map_err(doing())?;
        }
    }
    let spec = LaunchSpec {
        bwrap: bwrap.to_owned(),
        hostname: "probe".to_owned(),
        user: "user".to_owned(),
        host_id,
        root: RootSource::Host,
        layers: Vec::new(),
        scratch,
        scratch_size: Some(PROBE_BYTES),
        private: None,
        volumes: Vec::new(),
        vchan,
        guard: shared.config.guard.clone(),
        environment: Vec::new(),
        command: vec!["/bin/true".to_owned()],
        cgroups: Vec::new(),
        process_limits: None,
        status: dir.join("status"),
    };
    let reader = tokio::net::unix::pipe::OpenOptions::new()
        .read_write(true)
        .open_receiver(&pipe)
        .map_err(doing())?;
    let writer = console::open_writer(&pipe).map_err(doing())?;
    let outcome = match start::run_launcher(&shared.config.launcher, &spec, writer).await {
        Ok((_, mut child)) => match child.wait().await {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("the trial qube ended ({status})")),
            Err(e) => Err(e.to_string()),
        },
        Err(detail) => Err(detail),
    };
    let log = dir.join("log");
    console::drain(&pipe, log.clone()).await;
    drop(reader);
    let said = console::tail(&log);
    record::remove_tree(dir).await;
    outcome.map_err(|detail| HypervisorError::Unsupported {
        hypervisor: NAME,
        missing: if said.is_empty() {
            detail
        } else {
            format!("{detail}; it said: {said}")
        },
        remedy: remedy(
            switch,
            &fs::read_to_string("/proc/filesystems").unwrap_or_default(),
            bulkhead_sandbox::guard::is_possible(),
            in_container(),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERLAY: &str = "nodev\tproc\n\text4\nnodev\toverlay\n";

    #[track_caller]
    fn check(name: &str, value: u64, filesystems: &str, container: bool, expect: &str) {
        let text = remedy(
            |n| (n == name).then_some(value),
            filesystems,
            true,
            container,
        );
        assert!(text.contains(expect), "{text}");
    }

    #[test]
    fn the_remedy_names_the_switch_that_is_in_the_way() {
        check(
            "user/max_user_namespaces",
            0,
            OVERLAY,
            true,
            "user.max_user",
        );
        let old_debian = "kernel/unprivileged_userns_clone";
        check(old_debian, 0, OVERLAY, false, "unprivileged_userns_clone=1");
        let ubuntu = "kernel/apparmor_restrict_unprivileged_userns";
        check(ubuntu, 1, OVERLAY, false, "AppArmor");
        check(old_debian, 1, "nodev\tproc\n", false, "modprobe overlay");
        check(old_debian, 1, OVERLAY, true, "--security-opt");
        check(old_debian, 1, OVERLAY, false, "Linux 5.19");
        let text = remedy(|_| None, OVERLAY, false, true);
        assert!(text.contains("`lsm=`"), "{text}");
    }
}
