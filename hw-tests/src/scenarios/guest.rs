//! A qube from the template: its disks, its agent, and how long it takes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE, Running};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, World};
use bulkhead_templates::image::Image;
use bulkhead_templates::recipe::Recipe;
use bulkhead_templates::tools;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "guest::the_agent_comes_up_the_root_forgets_and_private_stays",
        needs: &[Need::Xen, Need::Throwaway],
        from: Start::Bare,
        run: root_forgets_and_private_stays,
    },
    Scenario {
        name: "measure::boot_beside_a_stock_guest",
        needs: &[Need::Xen, Need::Throwaway],
        from: Start::Bare,
        run: boot_beside_a_stock_guest,
    },
];

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

fn recipe() -> Result<Recipe> {
    Recipe::read(&setting("BULKHEAD_RECIPES")?.join(RECIPE))
}

pub(super) fn template() -> Result<Image> {
    Image::kept(
        &recipe()?,
        &setting("BULKHEAD_DEBS")?.join("bulkhead-guest.deb"),
    )
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
fn create(dom0: &dyn Line, name: &str, kernel: &str, line: &str, disks: &[&str]) -> Result<f64> {
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
fn console(dom0: &dyn Line, name: &str) -> Result<Running> {
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

fn boot_beside_a_stock_guest(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let image = template()?;
    let stock = tempfile::tempdir_in("/var/tmp")?;
    image.stock(&recipe()?, stock.path())?;
    with_snapshots(dom0)?;
    let ours = world.attach(&image.file("root.ext4"), "template")?;
    let theirs = world.attach(&stock.path().join("root.ext4"), "stock")?;
    put_kernel(dom0, &image.file("vmlinux"), &image.file("initrd"), "ours")?;
    let (kernel, initrd) = (stock.path().join("vmlinuz"), stock.path().join("initrd"));
    put_kernel(dom0, &kernel, &initrd, "stock")?;
    dom0.sh(&format!("truncate -s 256M {PRIVATE}"))?;
    let mut fastest = f64::INFINITY;
    for (name, what) in [("root1", "ours, first start"), ("root2", "ours")] {
        let root = layer(dom0, &ours, name)?;
        let disks = [&*format!("{root},xvda,w"), &format!("{PRIVATE},xvdb,w")];
        let took = timed(
            dom0,
            "work",
            "ours",
            &disks,
            "qube-boot: agent listens",
            OURS,
        )?;
        took.print(what);
        fastest = fastest.min(took.all);
        destroy(dom0, "work")?;
    }
    let root = layer(dom0, &theirs, "stockroot")?;
    let disk = format!("{root},xvda,w");
    let took = timed(dom0, "stock", "stock", &[&disk], "login:", STOCK)?;
    took.print("stock Debian, to its login");
    eprintln!("ours to stock: {:.2}", fastest / took.all);
    destroy(dom0, "stock")
}

/// Where one part of a boot ends and the next begins, by what the console says.
type Mark = (&'static str, &'static str);

const OURS: &[Mark] = &[
    ("kernel", "Run /init as init process"),
    ("initrd, to the root", "qube-boot: root mounted"),
    ("private volume", "qube-boot: private volume mounted"),
    ("agent", "qube-boot: agent listens"),
];

const STOCK: &[Mark] = &[
    ("kernel", "Run /init as init process"),
    ("initrd", "running in system mode"),
];

/// How long a boot took, in seconds.
struct Took {
    create: f64,
    /// Parts of it by the guest's own clock.
    parts: Vec<(&'static str, f64)>,
    /// From the command to what was waited for.
    all: f64,
}

impl Took {
    fn print(&self, what: &str) {
        eprintln!(
            "{what}: {:.1} s, of these create {:.1}",
            self.all, self.create
        );
        for (part, seconds) in &self.parts {
            eprintln!("    {part}: {seconds:.1}");
        }
    }
}

/// Longer than a stock guest takes here to its login.
const LONG: Duration = Duration::from_secs(600);

fn timed(
    dom0: &dyn Line,
    name: &str,
    kernel: &str,
    disks: &[&str],
    until: &str,
    marks: &[Mark],
) -> Result<Took> {
    let before = Instant::now();
    let create = create(dom0, name, kernel, "loglevel=7", disks)?;
    let mut console = console(dom0, name)?;
    console.wait_for(until, LONG)?;
    let all = before.elapsed().as_secs_f64();
    let said = console.shown();
    let mut parts = Vec::new();
    let mut last = 0.0;
    for (part, mark) in marks {
        let at = said
            .lines()
            .find(|line| line.contains(mark))
            .and_then(stamp);
        let at = at.with_context(|| format!("`{mark}` has no time in\n{said}"))?;
        parts.push((*part, at - last));
        last = at;
    }
    Ok(Took { create, parts, all })
}

/// The kernel's time of a line of its log: `[   12.345678] ...`.
fn stamp(line: &str) -> Option<f64> {
    // Colours of the console begin with a bracket too.
    let mut parts = line.split('[').filter_map(|part| part.split_once(']'));
    parts.find_map(|(time, _)| time.trim().parse().ok())
}
