//! A qube from the template: its disks, its agent, and how long it takes.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE, Running};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};
use bulkhead_templates::image::Image;
use bulkhead_templates::recipe::Recipe;
use bulkhead_templates::tools;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "guest::the_agent_comes_up_the_root_forgets_and_private_stays",
    needs: &[Need::Xen, Need::Throwaway],
    when: When::Always,
    from: Start::Bare,
    run: root_forgets_and_private_stays,
}];

const RECIPE: &str = "debian-13-minimal";

/// Memory of a guest here.
const MEMORY_MIB: u32 = 400;

/// Snapshots of block devices, which dom0's own packages here cannot make.
const DMSETUP: &[&str] = &["dmsetup", "libdevmapper1.02.1"];

/// A private volume.
const PRIVATE: &str = "/var/tmp/private.img";

/// A volume that is gone with the qube.
const VOLATILE: &str = "/var/tmp/volatile.img";

pub(super) fn setting(name: &str) -> Result<PathBuf> {
    let value = std::env::var_os(name);
    value
        .map(PathBuf::from)
        .with_context(|| format!("{name} is not set"))
}

pub(super) fn recipe() -> Result<Recipe> {
    recipe_of(RECIPE)
}

fn recipe_of(name: &str) -> Result<Recipe> {
    Recipe::read(&setting("BULKHEAD_RECIPES")?.join(name))
}

pub(super) fn template() -> Result<Image> {
    template_of(RECIPE)
}

/// The image of the recipe `name`.
pub(super) fn template_of(name: &str) -> Result<Image> {
    Image::kept(&recipe_of(name)?, &setting("BULKHEAD_DEBS")?)
}

/// Makes dom0 one that can lay a writable layer over a disk.
pub(super) fn with_snapshots(dom0: &dyn Line) -> Result<()> {
    let tree = tools::unpacked(DMSETUP)?;
    let library = "usr/lib/x86_64-linux-gnu/libdevmapper.so.1.02.1";
    for file in ["usr/sbin/dmsetup", library] {
        let from = [tree.join(file), tree.join(file.trim_start_matches("usr/"))];
        let found = from.iter().find(|path| path.is_file());
        let found = found.with_context(|| format!("Debian has no {file}"))?;
        dom0.put_file(found, &format!("/{file}"))?;
    }
    dom0.sh("chmod +x /usr/sbin/dmsetup; modprobe -a dm-snapshot loop")
        .map(drop)
}

/// Lays a new layer over the disk `base`: `/dev/mapper/NAME`, for a name that is not used yet.
pub(super) fn layer(dom0: &dyn Line, base: &str, name: &str) -> Result<String> {
    dom0.sh(&format!(
        "truncate -s 1G /var/tmp/{name}.cow
         layer=$(losetup --find --show /var/tmp/{name}.cow)
         dmsetup create {name} --noudevsync \
           --table \"0 $(blockdev --getsz {base}) snapshot {base} $layer N 8\"
         dmsetup mknodes {name}; test -b /dev/mapper/{name}"
    ))?;
    Ok(format!("/dev/mapper/{name}"))
}

/// Writes a guest's configuration and creates it; how long that took, in seconds.
pub(super) fn create(
    dom0: &dyn Line,
    name: &str,
    kernel: &str,
    line: &str,
    disks: &[&str],
) -> Result<f64> {
    let disks: Vec<String> = disks.iter().map(|disk| format!("\"phy:{disk}\"")).collect();
    let config = format!(
        "type=\"pvh\"\nname=\"{name}\"\nmemory={MEMORY_MIB}\nvcpus=1\n\
         kernel=\"/var/tmp/{kernel}\"\nramdisk=\"/var/tmp/{kernel}.initrd\"\n\
         cmdline=\"console=hvc0 root=/dev/xvda rw {line}\"\n\
         disk=[{}]\non_reboot=\"preserve\"\non_crash=\"preserve\"\n",
        disks.join(",")
    );
    let at = format!("/tmp/{name}.cfg");
    dom0.put(config.as_bytes(), &at)?;
    let before = Instant::now();
    dom0.sh(&format!("xl create -q {at}"))?;
    Ok(before.elapsed().as_secs_f64())
}

/// The console of a guest, also for typing: `xl console` only reads where there is no terminal.
pub(super) fn console(dom0: &dyn Line, name: &str) -> Result<Running> {
    let script = format!("exec /usr/lib/xen-*/bin/xenconsole --interactive $(xl domid {name})");
    dom0.start(&["sh", "-euc", &script])
}

/// Lets the shell on the console run `script`, which must succeed; `what` it is about is a name that
/// no other script here has.
pub(super) fn at_console(console: &mut Running, script: &str, what: &str) -> Result<()> {
    // What is typed is shown too, and shall not look like the answer.
    let typed = format!("if {script}; then e=yes; else e=no; fi; echo \"==\"\"> {what}: $e\"\n");
    console.write(typed.as_bytes())?;
    console.wait_for(&format!("==> {what}: "), PATIENCE)?;
    // The whole line, which may come in parts.
    console.wait_for("\n", PATIENCE)?;
    let said = console.shown();
    ensure!(
        said.contains(&format!("==> {what}: yes")),
        "`{script}` fails in the qube\n{said}"
    );
    Ok(())
}

/// Puts kernel and initrd into dom0 as `NAME` and `NAME.initrd`.
pub(super) fn put_kernel(dom0: &dyn Line, kernel: &Path, initrd: &Path, name: &str) -> Result<()> {
    dom0.put_file(kernel, &format!("/var/tmp/{name}"))?;
    dom0.put_file(initrd, &format!("/var/tmp/{name}.initrd"))
}

/// A shell in the place of systemd, which takes long here and is not what this is about.
pub(super) const SHELL: &str = "loglevel=6 init=/bin/sh";

/// systemd with the agent's unit and what that needs, and a shell.
const UNIT: &str = "loglevel=6 systemd.show_status=no systemd.unit=qube-agent.service \
                    systemd.debug_shell=hvc0";

/// Boots the qube `name` on the disk `root`, and others, to a shell.
pub(super) fn boot(
    dom0: &dyn Line,
    name: &str,
    root: &str,
    others: &[&str],
    line: &str,
) -> Result<Running> {
    let root = format!("{root},xvda,w");
    let disks = [&[&*root], others].concat();
    create(dom0, name, "ours", line, &disks)?;
    let mut console = console(dom0, name)?;
    console.wait_for("qube-boot: agent listens", PATIENCE)?;
    console.wait_for("# ", PATIENCE)?;
    at_console(&mut console, "export PATH=/usr/sbin:/usr/bin", "a shell")?;
    Ok(console)
}

/// Whether users may make channels. Whoever says so may not have come to it yet.
const SHARED: &str = "udevadm settle; cd /dev/xen; \
                      test \"$(stat -c %a%G evtchn gntalloc xenbus | uniq -c | tr -d ' \\n')\" = 3660qubes";

fn root_forgets_and_private_stays(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let image = template()?;
    with_snapshots(dom0)?;
    let base = world.attach(&image.file("root.ext4"), "template")?;
    put_kernel(dom0, &image.file("vmlinux"), &image.file("initrd"), "ours")?;
    dom0.sh(&format!("truncate -s 256M {PRIVATE}"))?;
    let private = &*format!("{PRIVATE},xvdb,w");
    let first = layer(dom0, &base, "first")?;
    let mut qube = boot(dom0, "work", &first, &[private], SHELL)?;
    let agent = "grep -x qube-agent /proc/$(cat /run/qubes/agent.pid)/comm";
    at_console(&mut qube, agent, "the agent runs")?;
    let mounted = "mountpoint /rw && mountpoint /home && test -d /home/user";
    at_console(&mut qube, mounted, "volumes")?;
    let devices = ["evtchn", "gntalloc", "gntdev"].map(|name| format!("test -c /dev/xen/{name}"));
    at_console(&mut qube, &devices.join(" && "), "devices")?;
    let limit = "test $(cat /sys/module/xen_gntalloc/parameters/limit) = 16384";
    at_console(&mut qube, limit, "memory for channels")?;
    at_console(&mut qube, SHARED, "devices for users")?;
    let marks = "echo 1 > /mark && echo 2 > /rw/mark && echo 3 > /home/user/mark && sync";
    at_console(&mut qube, marks, "marks")?;
    destroy(dom0, "work")?;
    let second = layer(dom0, &base, "second")?;
    // Both larger and new to it.
    dom0.sh(&format!("truncate -s 512M {PRIVATE} {VOLATILE}"))?;
    let volatile = &*format!("{VOLATILE},xvdc,w");
    let mut qube = boot(dom0, "work", &second, &[private, volatile], UNIT)?;
    at_console(&mut qube, "test ! -e /mark", "the root")?;
    let large = "systemctl start qube-grow && test $(df --output=size -m /rw | tail -n 1) -gt 400";
    at_console(&mut qube, large, "private grew")?;
    let swap = "systemctl start qube-swap && grep -q ^/dev/xvdc /proc/swaps";
    at_console(&mut qube, swap, "swap")?;
    at_console(&mut qube, SHARED, "the same by udev")?;
    let kept = "test $(cat /rw/mark /home/user/mark | tr -d '\\n') = 23";
    at_console(&mut qube, kept, "private")?;
    let same =
        "pid=$(cat /run/qubes/agent.pid); test $pid = $(systemctl show -P MainPID qube-agent)";
    at_console(&mut qube, same, "systemd has it")?;
    let again = "kill -9 $pid; sleep 3; systemctl is-active qube-agent && \
                 test $pid != $(cat /run/qubes/agent.pid)";
    at_console(&mut qube, again, "systemd starts it again")?;
    destroy(dom0, "work")
}

pub(super) fn destroy(dom0: &dyn Line, name: &str) -> Result<()> {
    dom0.sh(&format!("xl destroy {name}"))?;
    dom0.wait_until(&format!("! xl domid {name}"), PATIENCE)
        .map(drop)
}
