//! A machine on which the daemon runs two qubes, for the scenarios that begin with it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::{Ended, Line};
use bulkhead_hw_tests::scenario::{Preparation, World};
use bulkhead_templates::cache::Key;
use bulkhead_templates::image::Image;
use bulkhead_templates::tools::run;

use super::guest::{template, with_snapshots};
use super::packages;

/// `work` and `vault` run, declared by [`SYSTEM`].
pub(super) static TWO_QUBES: Preparation = Preparation {
    name: "two-qubes",
    inputs,
    run: two_qubes_run,
};

/// Where the daemon looks for what is declared.
pub(super) const DESCRIPTION: &str = "/etc/bulkhead/system.ron";

/// Longer than two qubes take to start under emulation.
const STARTS: Duration = Duration::from_secs(300);

/// Bytes of the disk of the template here: the daemon reads all of it, which takes its time under
/// emulation, and what is written goes elsewhere.
const ROOT_MIB: u64 = 512;

/// Folder of the template in dom0.
pub(super) const TEMPLATE: &str = "/var/tmp/template";

/// What is declared.
pub(super) const SYSTEM: &str = r#"(
    defaults: (
        template: "debian",
        vcpus: 1,
        memory: (initial: 300, maximum: 300),
        netvm: None,
        // The rest of systemd takes long under emulation, and is not what this is about.
        kernelopts: "systemd.unit=qube-agent.service systemd.show_status=no",
    ),
    templates: {"debian": (source: Image("/var/tmp/template"))},
    qubes: {
        "work": (label: "blue", volumes: {"private": (size: 64)}),
        "vault": (label: "black", volumes: {"private": (size: 64)}),
    },
    policy: [
        "test.Echo * work vault allow",
        "test.Dom0 * work @adminvm allow user=root",
        "qubes.Filecopy * work vault allow",
    ],
)"#;

/// [`SYSTEM`] with more qubes, and with more rules before its own.
pub(super) fn system_with(qubes: &str, rules: &str) -> String {
    let (open, close) = ("    qubes: {\n", "    policy: [\n");
    SYSTEM
        .replacen(open, &format!("{open}{qubes}\n"), 1)
        .replacen(close, &format!("{close}{rules}\n"), 1)
}

pub(super) fn inputs() -> Result<Key> {
    inputs_with(&template()?)
}

/// What a machine is made from that has this template.
pub(super) fn inputs_with(template: &Image) -> Result<Key> {
    let package = packages::package("bulkhead-dom0")?;
    let package =
        fs::read(&package).with_context(|| format!("cannot read {}", package.display()))?;
    let template = template.file("");
    let here: [&[u8]; 3] = [
        include_bytes!("running.rs"),
        include_bytes!("guest.rs"),
        include_bytes!("packages.rs"),
    ];
    let made: [&[u8]; 2] = [&package, template.as_os_str().as_encoded_bytes()];
    Ok(Key::of(here.into_iter().chain(made)))
}

/// Installs the daemon with the template; it does not run yet.
pub(super) fn installed(world: &World) -> Result<()> {
    with_snapshots(world.dom0())?;
    packages::install(world.dom0())?;
    put_template(world, &template()?, ROOT_MIB)
}

/// Installs the daemon with the template, and has it apply its first description.
pub(super) fn install(world: &World, system: &str) -> Result<()> {
    let dom0 = world.dom0();
    installed(world)?;
    dom0.put(system.as_bytes(), DESCRIPTION)?;
    start(dom0)?;
    dom0.sh("bulkhead apply --yes 2>&1").map(drop)
}

/// Declares the machine anew and applies that.
pub(super) fn apply(world: &World, system: &str) -> Result<()> {
    let dom0 = world.dom0();
    match world.own() {
        None => dom0.put(system.as_bytes(), DESCRIPTION)?,
        Some(own) => {
            let system = system.replace(&format!(r#"Image("{TEMPLATE}")"#), "Host");
            fs::write(own.path("system.ron"), system)?;
        }
    }
    dom0.sh("bulkhead apply --yes 2>&1").map(drop)
}

fn two_qubes_run(world: &World) -> Result<()> {
    match world.own() {
        None => install(world, SYSTEM)?,
        Some(_) => apply(world, SYSTEM)?,
    }
    // One after the other: two kernels that boot side by side under emulation end in a triple fault.
    for qube in ["work", "vault"] {
        let start = format!("timeout 150 bulkhead start {qube} 2>&1");
        world.dom0().sh(&start)?;
    }
    both_run(world)
}

/// Puts a template into dom0 with a root of `root_mib`, as a folder that a description can name.
pub(super) fn put_template(world: &World, image: &Image, root_mib: u64) -> Result<()> {
    put_template_at(world, image, root_mib, TEMPLATE)
}

/// The same as the folder `at`.
pub(super) fn put_template_at(world: &World, image: &Image, root_mib: u64, at: &str) -> Result<()> {
    let dom0 = world.dom0();
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let small = folder.path().join("root.ext4");
    shrink(&image.file("root.ext4"), &small, root_mib)?;
    let device = world.attach(&small, "template")?;
    dom0.sh(&format!(
        "mkdir {at}; dd if={device} of={at}/root.ext4 bs=1M conv=sparse status=none"
    ))?;
    for file in ["vmlinux", "initrd"] {
        dom0.put_file(&image.file(file), &format!("{at}/{file}"))?;
    }
    world.detach("template")
}

fn shrink(from: &Path, to: &Path, root_mib: u64) -> Result<()> {
    run(Command::new("cp")
        .args(["--sparse=always", "--"])
        .args([from, to]))?;
    let size = format!("{root_mib}M");
    run(Command::new("e2fsck").args(["-fp"]).arg(to))?;
    run(Command::new("resize2fs").arg(to).arg(size))?;
    fs::File::options()
        .write(true)
        .open(to)?
        .set_len(root_mib << 20)
        .context("cannot cut the disk")
}

/// Starts the daemon on Xen. Under emulation, beside other work, an agent takes its time.
pub(super) fn start(dom0: &dyn Line) -> Result<()> {
    dom0.sh("mkdir -p /etc/systemd/system/bulkheadd.service.d
         printf '[Service]\nExecStart=\nExecStart=/usr/sbin/bulkheadd --hypervisor xen --startup-timeout 240\n' \
           > /etc/systemd/system/bulkheadd.service.d/xen.conf
         systemctl daemon-reload")?;
    dom0.sh("systemctl start bulkheadd || { journalctl -u bulkheadd --no-pager; false; }")
        .map(drop)
}

/// Runs a command in a qube.
pub(super) fn in_qube(dom0: &dyn Line, qube: &str, command: &str) -> Result<Ended> {
    dom0.run(&["timeout", "100", "bulkhead", "run", qube, "--", command])
}

/// Runs a command in a qube, which must succeed.
pub(super) fn sh(dom0: &dyn Line, qube: &str, command: &str) -> Result<String> {
    let ended = in_qube(dom0, qube, command)?;
    if ended.code != 0 {
        let log = dom0.sh("journalctl -u bulkheadd --no-pager | tail -40")?;
        anyhow::bail!("`{command}` in {qube}: {ended:?}\n{log}");
    }
    Ok(ended.out)
}

/// What the daemon has said, as a command of dom0.
pub(super) fn log(world: &World) -> String {
    match world.own() {
        None => "journalctl -u bulkheadd --no-pager".to_owned(),
        Some(own) => format!("cat {}", own.path("log").display()),
    }
}

/// A daemon takes the place of the one that runs.
pub(super) fn restart_daemon(world: &World) -> Result<()> {
    match world.own() {
        None => world.dom0().sh("systemctl restart bulkheadd").map(drop),
        Some(own) => {
            own.restart();
            Ok(())
        }
    }
}

/// Name and number of every domain, by what the daemon says and by what Xen says.
pub(super) fn domains(world: &World) -> Result<String> {
    #[derive(serde::Deserialize)]
    struct Row {
        name: String,
        domid: u32,
    }
    let dom0 = world.dom0();
    let rows = dom0.sh("bulkhead ls --json")?;
    let rows: Vec<Row> = serde_json::from_str(&rows).with_context(|| rows.clone())?;
    let rows = rows.into_iter().filter(|row| row.domid != 0);
    let mut domains: Vec<_> = rows
        .map(|row| format!("{} {}", row.name, row.domid))
        .collect();
    domains.sort_unstable();
    let domains = domains.join("\n");
    if world.own().is_none() {
        let xen = dom0.sh("xl list | awk 'NR > 1 && $2 > 0 {print $1, $2}' | sort")?;
        ensure!(xen.trim_end() == domains, "{domains}, and Xen has {xen}");
    }
    Ok(domains)
}

/// Whether a qube is in a state, as the daemon says it: a command of dom0.
pub(super) fn is(qube: &str, state: &str) -> String {
    format!("bulkhead ls --json {qube} | tr -d ' \n' | grep -q '\"state\":\"{state}\"'")
}

/// Both qubes run, by what the daemon says and by what Xen says.
pub(super) fn both_run(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let rows = "bulkhead ls --json | tr -d ' \n'";
    let done = dom0.wait_until(
        &format!("test $({rows} | grep -o '\"state\":\"running\"' | wc -l) = 2"),
        STARTS,
    );
    if let Err(error) = done {
        let xen = match world.own() {
            None => {
                "xl list; tail -n 30 /var/lib/bulkhead/log/qubes/*; xenstore-ls -p /local/domain/0/data || true"
            }
            Some(_) => "true",
        };
        let said = dom0.sh(&format!("bulkhead ls; {xen}; {} | tail -60", log(world)))?;
        return Err(error.context(said));
    }
    let domains = domains(world)?;
    for name in ["work", "vault"] {
        ensure!(domains.contains(name), "{domains}");
    }
    Ok(())
}
