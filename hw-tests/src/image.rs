//! The disk of dom0: Debian, Xen, and the hand of the tests.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use bulkhead_templates::cache::{self, Key};
use bulkhead_templates::progress::step;
use bulkhead_templates::tools::{SUITE, Tools, run};

use crate::qemu::{Disk, LAYER};

/// What dom0 has beside Debian's smallest system.
const PACKAGES: &[&str] = &[
    "bubblewrap",
    "dbus",
    "e2fsprogs",
    "iproute2",
    "kmod",
    "libsqlite3-0",
    "linux-image-amd64",
    "nftables",
    "procps",
    // The device model of HVM domains.
    "qemu-system-xen",
    "systemd-sysv",
    "xen-system-amd64",
    "xen-utils-4.20",
];

/// Drivers that dom0 needs before it has its root. Debian's own choice is every driver there is,
/// which an emulated machine unpacks for many seconds.
const EARLY_MODULES: &str = "virtio_pci\nvirtio_blk\next4\n";

/// Units that a machine that only tests has no use for, and that take its time.
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "ldconfig.service",
    "serial-getty@hvc0.service",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-tpm2-setup-early.service",
    "systemd-tpm2-setup.service",
    "systemd-update-done.service",
    "systemd-update-utmp.service",
    // Starts and stops domains by files of its own; here only the daemon does.
    "xendomains.service",
];

/// What the hand is made from. Not the program itself, which differs with the compiler and with
/// the folder that it was built in.
const HAND: &[&str] = &[
    include_str!("bin/bulkhead-hand.rs"),
    include_str!("protocol.rs"),
];

/// The unit of the hand.
const UNIT: &str = include_str!("../dom0/bulkhead-hand.service");

/// Size of the disk. Sparse, so only what is written takes room.
const DISK_BYTES: u64 = 24 << 30;

/// File of the disk.
const WHOLE: &str = "disk.raw";

/// Files that QEMU loads itself.
const BOOT: [&str; 3] = ["xen", "vmlinuz", "initrd"];

/// Files that QEMU boots from, in one folder.
#[derive(Debug, Clone)]
pub struct Image {
    folder: PathBuf,
}

impl Image {
    /// Key of what an image is made from.
    pub(crate) fn key() -> Key {
        let tree = tree_key();
        let masked = MASKED.join(",");
        let inputs = ["3", tree.as_str(), UNIT, &masked];
        Key::of(inputs.iter().chain(HAND))
    }

    /// Makes the image in `folder`.
    pub(crate) fn make(folder: &Path, tools: &Tools, hand: &Path) -> Result<Self> {
        let tree = cache::kept("dom0", &tree_key(), |dir| {
            step("building dom0 from Debian's packages", || {
                bootstrap(&dir.join("tree.tar"))
            })
        })?;
        let image = Self {
            folder: folder.to_owned(),
        };
        step("making dom0's disk", || {
            image.make_disk(&tree.join("tree.tar"), tools, hand)
        })?;
        Ok(image)
    }

    /// An image that was made in `folder`.
    pub(crate) fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Makes one in `folder` of what a machine on this one changed, which is in the file `layer`.
    /// It does without the folder of this one.
    pub(crate) fn changed(&self, tools: &Tools, layer: &Path, folder: &Path) -> Result<()> {
        for name in BOOT.iter().chain(&[WHOLE]) {
            fs::hard_link(self.file(name), folder.join(name))?;
        }
        let changed = folder.join(LAYER);
        fs::copy(layer, &changed)?;
        // A name alone is one in the layer's own folder.
        run(tools
            .command("bin/qemu-img")
            .args(["rebase", "-u", "-F", "raw", "-b", WHOLE])
            .arg(&changed))
    }

    /// What a machine's disk begins as.
    pub(crate) fn disk(&self) -> Disk {
        let layer = self.file(LAYER);
        if layer.exists() {
            Disk::Layer(layer)
        } else {
            Disk::Whole(self.file(WHOLE))
        }
    }

    /// One of its files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn make_disk(&self, tree: &Path, tools: &Tools, hand: &Path) -> Result<()> {
        let tar = self.file("tree.tar");
        fs::copy(tree, &tar)?;
        let added = self.file("added");
        add(&added, hand)?;
        run(Command::new("tar")
            .args(["--append", "--owner=0", "--group=0", "--directory"])
            .arg(&added)
            .arg("--file")
            .arg(&tar)
            .arg("."))?;
        let disk = self.file(WHOLE);
        File::create(&disk)?.set_len(DISK_BYTES)?;
        // Without a journal: a disk that is thrown away needs none.
        run(tools
            .command("sbin/mke2fs")
            .args(["-q", "-t", "ext4", "-O", "^has_journal", "-L", "dom0", "-d"])
            .args([&tar, &disk]))?;
        self.take_boot_files(&tar)?;
        fs::remove_dir_all(&added)?;
        Ok(fs::remove_file(&tar)?)
    }

    /// Xen, kernel and initrd, which QEMU loads itself.
    fn take_boot_files(&self, tar: &Path) -> Result<()> {
        let boot = self.file("boot");
        fs::create_dir_all(&boot)?;
        run(Command::new("tar")
            .args([
                "--extract",
                "--strip-components=2",
                "--wildcards",
                "--directory",
            ])
            .arg(&boot)
            .arg("--file")
            .arg(tar)
            .args(["./boot/vmlinuz-*", "./boot/initrd.img-*", "./boot/xen-*.gz"]))?;
        for entry in fs::read_dir(&boot)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            match name.split_once('-').map_or("", |(first, _)| first) {
                "vmlinuz" => fs::rename(&path, self.file("vmlinuz"))?,
                "initrd.img" => fs::rename(&path, self.file("initrd"))?,
                // QEMU takes it as a file of its own format only.
                _ => {
                    let xen = File::create(self.file("xen"))?;
                    let mut gunzip = Command::new("gzip");
                    gunzip
                        .args(["--decompress", "--stdout"])
                        .arg(&path)
                        .stdout(xen);
                    anyhow::ensure!(gunzip.status()?.success(), "cannot unpack {name}");
                }
            }
        }
        Ok(fs::remove_dir_all(&boot)?)
    }
}

fn tree_key() -> Key {
    Key::of([&["1", SUITE, EARLY_MODULES], PACKAGES].concat())
}

fn bootstrap(tar: &Path) -> Result<()> {
    let modules = format!(
        r#"mkdir -p "$1/etc/initramfs-tools/conf.d" && echo MODULES=list > "$1/etc/initramfs-tools/conf.d/dom0" && printf '{}' > "$1/etc/initramfs-tools/modules""#,
        EARLY_MODULES.replace('\n', "\\n")
    );
    run(Command::new("mmdebstrap")
        .args([
            "--variant=minbase",
            "--components=main",
            "--quiet",
            "--format=tar",
        ])
        .arg(r#"--aptopt=Apt::Install-Recommends "false""#)
        .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
        .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
        .arg("--dpkgopt=path-exclude=/usr/share/man/*")
        // The list of drivers is a setting that the package finds in place, and keeps.
        .arg("--dpkgopt=force-confold")
        .arg(format!("--setup-hook={modules}"))
        .arg(format!("--include={}", PACKAGES.join(",")))
        .args(["--", SUITE])
        .arg(tar))
}

/// What is laid over Debian's tree.
fn add(folder: &Path, hand: &Path) -> Result<()> {
    let units = folder.join("etc/systemd/system");
    let wants = units.join("multi-user.target.wants");
    let programs = folder.join("usr/lib/bulkhead");
    fs::create_dir_all(&wants)?;
    fs::create_dir_all(&programs)?;
    let program = programs.join("bulkhead-hand");
    fs::copy(hand, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    fs::write(units.join("bulkhead-hand.service"), UNIT)?;
    symlink(
        "../bulkhead-hand.service",
        wants.join("bulkhead-hand.service"),
    )?;
    for unit in MASKED {
        symlink("/dev/null", units.join(unit))?;
    }
    symlink(
        "/usr/lib/systemd/system/multi-user.target",
        units.join("default.target"),
    )?;
    let etc = folder.join("etc");
    fs::write(etc.join("fstab"), "/dev/vda / ext4 rw,noatime 0 0\n")?;
    fs::write(etc.join("hostname"), "dom0\n")?;
    Ok(fs::write(
        etc.join("machine-id"),
        "b01dfaced0e0c0ffee00000000000000\n",
    )?)
}
