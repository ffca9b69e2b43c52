//! One QEMU that runs Xen and dom0.
//!
//! Software emulation always, also where `/dev/kvm` is: one that opens is no proof that it works,
//! and every machine shall run the same.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::image::Image;
use crate::qmp::Qmp;
use bulkhead_templates::tools::{EMULATOR, Tools, run};

/// Without `npt` there is no PVH; without `rdrand` dom0 waits minutes for randomness. Larger
/// models make Xen panic or hang under emulation.
const CPU: &str = "qemu64,+svm,+npt,+rdrand";

/// All memory of the machine.
const MEMORY_MIB: u32 = 4096;

/// Xen's own command line.
const XEN_LINE: &str = "console=com1 com1=115200,8n1 dom0_mem=1024M,max:1024M dom0_max_vcpus=1 \
                        gnttab_max_frames=2048 gnttab_max_maptrack_frames=4096 bootscrub=0 \
                        loglvl=all guest_loglvl=all";

/// dom0's kernel's.
const DOM0_LINE: &str = "root=/dev/vda rw console=hvc0 systemd.show_status=0";

/// Name of the port that the hand listens at.
const PORT: &str = "bulkhead.hand";

/// File of what differs from another disk.
pub(crate) const LAYER: &str = "disk.qcow2";

/// For QEMU to open its sockets.
const COMES_UP: Duration = Duration::from_secs(20);

/// For a machine's memory to be written or read.
const STATE: Duration = Duration::from_secs(120);

/// For dom0 to let go of a disk.
const LETS_GO: Duration = Duration::from_secs(30);

/// How often QEMU is asked whether it has.
const PAUSE: Duration = Duration::from_millis(100);

/// Everything that a saved state depends on beside the image.
pub(crate) const OPTIONS: &[&str] = &[CPU, XEN_LINE, DOM0_LINE, PORT];

/// Starts with the memory of a machine that was saved, or with none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum From<'a> {
    Power,
    Saved(&'a Path),
}

/// What a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hardware {
    /// What every saved machine has.
    Usual,
    /// Also an IOMMU, and a network card that leads nowhere.
    Iommu,
}

impl Hardware {
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Usual => &["-machine", "pc"],
            Self::Iommu => &[
                "-machine",
                "q35,kernel-irqchip=split",
                // Xen takes it, whoever made the processor.
                "-device",
                "intel-iommu,intremap=off",
                "-device",
                "e1000e",
                // Nothing can be plugged into this machine's bus itself.
                "-device",
                "pcie-root-port,id=slot0,chassis=1",
                "-device",
                "pcie-root-port,id=slot1,chassis=2",
            ],
        }
    }

    /// The bus that the next device is plugged into, after so many.
    fn bus(self, plugged: usize) -> String {
        match self {
            Self::Usual => "pci.0".to_owned(),
            Self::Iommu => format!("slot{plugged}"),
        }
    }
}

/// What a machine's disk is.
#[derive(Debug)]
pub(crate) enum Disk {
    /// All of it.
    Whole(PathBuf),
    /// What differs from another.
    Layer(PathBuf),
}

impl Disk {
    fn path(&self) -> (&Path, &'static str) {
        match self {
            Self::Whole(path) => (path, "raw"),
            Self::Layer(path) => (path, "qcow2"),
        }
    }

    fn option(&self) -> String {
        let (path, format) = self.path();
        format!(
            "file={},if=none,id=disk,format={format},cache=unsafe",
            path.display()
        )
    }

    /// Arguments for a layer over this one.
    fn backing(&self) -> [&OsStr; 4] {
        let (path, format) = self.path();
        ["-F".as_ref(), format.as_ref(), "-b".as_ref(), path.as_ref()]
    }
}

/// A running QEMU and the folder that it lives in. Ends with the value.
#[derive(Debug)]
pub(crate) struct Qemu {
    child: Child,
    qmp: Qmp,
    folder: PathBuf,
    hardware: Hardware,
    plugged: usize,
}

impl Qemu {
    /// Starts one in `folder`, which must be short enough for sockets, on a disk of its own over
    /// `image`'s.
    pub(crate) fn start(
        tools: &Tools,
        image: &Image,
        folder: &Path,
        from: From<'_>,
        hardware: Hardware,
    ) -> Result<Self> {
        let disk = folder.join(LAYER);
        run(tools
            .command("bin/qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .args(image.disk().backing())
            .arg(&disk))?;
        Self::with_disk(tools, image, folder, &Disk::Layer(disk), from, hardware)
    }

    /// Starts one on the image's own disk, which stays as the machine leaves it.
    pub(crate) fn start_on_image(tools: &Tools, image: &Image, folder: &Path) -> Result<Self> {
        let (disk, from) = (image.disk(), From::Power);
        Self::with_disk(tools, image, folder, &disk, from, Hardware::Usual)
    }

    fn with_disk(
        tools: &Tools,
        image: &Image,
        folder: &Path,
        disk: &Disk,
        from: From<'_>,
        hardware: Hardware,
    ) -> Result<Self> {
        let log = File::create(folder.join("qemu.log"))?;
        let child = command(tools, image, folder, disk, from)
            .args(hardware.options())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start QEMU")?;
        let qmp = Qmp::connect(&folder.join("qmp"), COMES_UP);
        let mut qemu = match qmp {
            Ok(qmp) => Self {
                child,
                qmp,
                folder: folder.to_owned(),
                hardware,
                plugged: 0,
            },
            Err(error) => {
                let said = fs::read_to_string(folder.join("qemu.log")).unwrap_or_default();
                end(child);
                return Err(error.context(said));
            }
        };
        if let From::Saved(state) = from {
            qemu.go_on(state)
                .with_context(|| fs::read_to_string(folder.join("qemu.log")).unwrap_or_default())?;
        }
        Ok(qemu)
    }

    /// Takes the memory of a machine that was saved, and lets it run.
    fn go_on(&mut self, state: &Path) -> Result<()> {
        self.file_migration()?;
        let uri = format!("file:{}", state.display());
        self.qmp
            .command("migrate-incoming", json!({ "uri": uri }))?;
        self.qmp.migrated(STATE)?;
        self.qmp.command("cont", json!({}))?;
        Ok(())
    }

    /// The socket that leads to the hand.
    pub(crate) fn hand(&self) -> PathBuf {
        self.folder.join("hand")
    }

    /// Plugs in a disk with the contents of the file `path`, which nobody may write to; dom0 sees
    /// it as one with this `serial` number.
    pub(crate) fn attach(&mut self, path: &Path, serial: &str) -> Result<()> {
        let file = json!({ "driver": "file", "filename": path });
        let node = json!({ "driver": "raw", "node-name": serial, "read-only": true, "file": file });
        self.qmp.command("blockdev-add", node)?;
        let device = json!({
            "driver": "virtio-blk-pci", "id": device(serial), "drive": serial, "serial": serial,
            "bus": self.hardware.bus(self.plugged)
        });
        self.qmp.command("device_add", device)?;
        self.plugged += 1;
        Ok(())
    }

    /// Takes away a disk that was plugged in; dom0 has to let go of it.
    pub(crate) fn detach(&mut self, serial: &str) -> Result<()> {
        self.qmp
            .command("device_del", json!({ "id": device(serial) }))?;
        let end = Instant::now() + LETS_GO;
        // Refused for as long as the device is there.
        while let Err(error) = self
            .qmp
            .command("blockdev-del", json!({ "node-name": serial }))
        {
            ensure!(Instant::now() < end, error);
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Stops the machine, writes its memory to `state`, and ends it: its disk is as it was then.
    pub(crate) fn save(mut self, state: &Path) -> Result<()> {
        self.qmp.command("stop", json!({}))?;
        self.file_migration()?;
        let uri = format!("file:{}", state.display());
        self.qmp.command("migrate", json!({ "uri": uri }))?;
        self.qmp.migrated(STATE)?;
        // It may have gone before it answers; how it went is told next.
        let _ = self.qmp.command("quit", json!({}));
        let status = self.child.wait()?;
        ensure!(status.success(), "QEMU ended with {status}");
        Ok(())
    }

    /// Pages at fixed places in the file: each is written once, and read by several threads.
    fn file_migration(&mut self) -> Result<()> {
        let on = |name| json!({ "capability": name, "state": true });
        let both = [on("mapped-ram"), on("multifd")];
        self.qmp
            .command("migrate-set-capabilities", json!({ "capabilities": both }))?;
        let unlimited = json!({ "max-bandwidth": 0, "multifd-channels": 2 });
        self.qmp.command("migrate-set-parameters", unlimited)?;
        Ok(())
    }

    /// Whether QEMU still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Over already, or ends now: both are right.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn device(serial: &str) -> String {
    format!("device-{serial}")
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn command(tools: &Tools, image: &Image, folder: &Path, disk: &Disk, from: From<'_>) -> Command {
    let qemu = tools.command(EMULATOR);
    // Goes with us, also when we are killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    command.arg(qemu.get_program()).args(qemu.get_args());
    let socket = |id: &str| {
        format!(
            "socket,id={id},path={},server=on,wait=off",
            folder.join(id).display()
        )
    };
    let kernel = format!(
        "{} {DOM0_LINE},{}",
        image.file("vmlinuz").display(),
        image.file("initrd").display()
    );
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-accel", "tcg,thread=multi", "-cpu", CPU, "-smp", "2"])
        .args(["-m", &MEMORY_MIB.to_string()])
        .arg("-L")
        .arg(tools.path("usr/share/qemu"))
        .arg("-L")
        .arg(tools.path("usr/share/seabios"))
        .arg("-kernel")
        .arg(image.file("xen"))
        .args(["-initrd", &kernel, "-append", XEN_LINE])
        .args(["-drive", &disk.option()])
        .args([
            "-device",
            "virtio-blk-pci,drive=disk",
            "-device",
            "virtio-serial-pci",
        ])
        .args(["-chardev", &socket("hand")])
        .args([
            "-device",
            &format!("virtserialport,chardev=hand,name={PORT}"),
        ])
        .args([
            "-chardev",
            &socket("qmp"),
            "-mon",
            "chardev=qmp,mode=control",
        ])
        .args([
            "-serial",
            &format!("file:{}", folder.join("console").display()),
        ]);
    if let From::Saved(_) = from {
        command.args(["-incoming", "defer"]);
    }
    command
}
