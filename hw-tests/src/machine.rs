//! A machine with Xen and dom0, for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::hand::Hand;
use crate::image::Image;
use crate::line::Line;
use crate::qemu::{self, Disk, From, Hardware, LAYER, Qemu};
use bulkhead_templates::cache::{self, Key};
use bulkhead_templates::progress::step;
use bulkhead_templates::tools::Tools;

/// For Xen and dom0 to boot under emulation beside other work.
const BOOTS: Duration = Duration::from_secs(420);

/// For a resumed dom0 to answer.
const ANSWERS: Duration = Duration::from_secs(60);

/// What Xen and dom0 say.
const CONSOLE: &str = "console";

/// What is kept of a machine's memory.
const STATE: &str = "memory";

/// Logs of a machine that are worth keeping, of dom0 and of its guests.
const LOGS: &[(&str, &str)] = &[
    ("xl-dmesg", "xl dmesg"),
    ("dom0-dmesg", "dmesg"),
    ("journal", "journalctl --no-pager --boot"),
    (
        "guests",
        "tail -n +1 /var/lib/bulkhead/log/qubes/* /var/log/xen/console/* /var/log/xen/*.log",
    ),
];

/// A booted machine that can be resumed any number of times.
#[derive(Debug, Clone)]
pub struct Saved {
    tools: Tools,
    image: Image,
    key: Key,
}

impl Saved {
    /// The machine with nothing of ours but the hand, the program at `hand`.
    pub fn booted(hand: &Path) -> Result<Self> {
        let tools = Tools::find()?;
        let mut inputs = vec![Image::key().as_str().to_owned()];
        inputs.extend(qemu::OPTIONS.iter().map(|&option| option.to_owned()));
        let key = Key::of(inputs);
        let folder = cache::kept("booted", &key, |dir| {
            let image = Image::make(dir, &tools, hand)?;
            step("booting Xen and dom0 (once for each image)", || {
                boot(&tools, &image, dir)
            })
        })?;
        Ok(Self {
            tools,
            image: Image::at(&folder),
            key,
        })
    }

    /// The machine that a machine of its own made of itself, in `folder`.
    pub(crate) fn changed(&self, folder: &Path) -> Self {
        Self {
            tools: self.tools.clone(),
            image: Image::at(folder),
            key: self.key.clone(),
        }
    }

    /// What tells it from others.
    pub(crate) fn key(&self) -> &str {
        self.key.as_str()
    }

    /// A machine of its own, going on where the saved one was stopped.
    pub fn resume(&self) -> Result<Machine> {
        let folder = tempfile::Builder::new().prefix("bhw").tempdir_in("/tmp")?;
        let state = self.image.file(STATE);
        let from = From::Saved(&state);
        let qemu = Qemu::start(
            &self.tools,
            &self.image,
            folder.path(),
            from,
            Hardware::Usual,
        )?;
        let dom0 = Hand::connect(&qemu.hand(), ANSWERS)?;
        if matches!(self.image.disk(), Disk::Layer(_)) {
            let line: &dyn Line = &dom0;
            line.sh(&for_domains("unpause"))?;
        }
        Ok(Machine {
            dom0,
            qemu: Mutex::new(qemu),
            folder,
            from: self.clone(),
        })
    }

    /// A machine of its own with an IOMMU, which boots on the disk of the saved one.
    pub fn boot_with_iommu(&self) -> Result<Machine> {
        let folder = tempfile::Builder::new().prefix("bhw").tempdir_in("/tmp")?;
        let (tools, image) = (&self.tools, &self.image);
        let qemu = Qemu::start(tools, image, folder.path(), From::Power, Hardware::Iommu)?;
        let dom0 = Hand::connect(&qemu.hand(), BOOTS)?;
        let line: &dyn Line = &dom0;
        line.wait_until("systemctl is-system-running", BOOTS)?;
        Ok(Machine {
            dom0,
            qemu: Mutex::new(qemu),
            folder,
            from: self.clone(),
        })
    }
}

/// Does something to every domain but dom0. QEMU cannot load a processor that was saved while it
/// ran one of them, so they are paused then.
fn for_domains(what: &str) -> String {
    format!("for domain in $(xl list | awk 'NR > 2 {{ print $2 }}'); do xl {what} $domain; done")
}

fn boot(tools: &Tools, image: &Image, dir: &Path) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("bhw").tempdir_in("/tmp")?;
    let booted = Qemu::start_on_image(tools, image, folder.path())
        .and_then(|qemu| Ok((Hand::connect(&qemu.hand(), BOOTS)?, qemu)))
        .and_then(|(hand, qemu)| {
            let line: &dyn Line = &hand;
            line.wait_until("systemctl is-system-running", BOOTS)?;
            line.sh("xl info >/dev/null; sync")?;
            Ok(qemu)
        });
    match booted {
        Ok(qemu) => qemu.save(&dir.join(STATE)),
        Err(error) => {
            let console = fs::read_to_string(folder.path().join(CONSOLE)).unwrap_or_default();
            let last: Vec<&str> = console.lines().rev().take(40).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            Err(error.context(format!("dom0 does not come up\n{}", last.join("\n"))))
        }
    }
}

/// A running machine. Its disk and memory are gone with it.
#[derive(Debug)]
pub struct Machine {
    dom0: Hand,
    qemu: Mutex<Qemu>,
    folder: tempfile::TempDir,
    from: Saved,
}

impl Machine {
    /// The way into dom0.
    pub fn dom0(&self) -> &dyn Line {
        &self.dom0
    }

    fn qemu(&self) -> MutexGuard<'_, Qemu> {
        // A test that panicked is over; its machine can still be asked for its logs.
        self.qemu.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plugs in a disk that cannot be written, with the contents of the file `path`; its name in
    /// dom0. However large it is, nothing is copied.
    pub fn attach(&self, path: &Path, name: &str) -> Result<String> {
        self.qemu().attach(path, name)?;
        let found = self.dom0().wait_until(
            &format!(r#"for disk in /sys/block/vd*; do [ "$(cat $disk/serial)" != {name} ] || echo "/dev/${{disk##*/}}"; done | grep ."#),
            ANSWERS,
        )?;
        Ok(found.trim().to_owned())
    }

    /// Takes away the disk `name` that was plugged in.
    pub fn detach(&self, name: &str) -> Result<()> {
        self.qemu().detach(name)
    }

    /// Stops it and makes a saved machine of it in the folder `dir`.
    pub(crate) fn save(self, dir: &Path) -> Result<()> {
        let Self {
            dom0,
            qemu,
            folder,
            from: Saved { tools, image, .. },
        } = self;
        let line: &dyn Line = &dom0;
        line.sh("sync")?;
        line.sh(&for_domains("pause"))?;
        drop(dom0);
        let qemu = qemu.into_inner().unwrap_or_else(PoisonError::into_inner);
        qemu.save(&dir.join(STATE))?;
        image.changed(&tools, &folder.path().join(LAYER), dir)
    }

    /// Whether a domain ended by a triple fault. No kernel of ours does that; QEMU's nested SVM does,
    /// rarely: Xen then shows the domain with registers that are Xen's own, or in the middle of what
    /// cannot fault.
    pub fn lost_domain(&self) -> bool {
        let console = fs::read(self.folder.path().join(CONSOLE)).unwrap_or_default();
        String::from_utf8_lossy(&console).contains("Triple fault")
    }

    /// Puts what the machine wrote into `folder`; what cannot be had is said there.
    pub fn keep_logs(&mut self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for name in [CONSOLE, "qemu.log"] {
            // Nothing was written if the machine never ran.
            let _ = fs::copy(self.folder.path().join(name), folder.join(name));
        }
        if self.qemu().runs() {
            for (name, script) in LOGS {
                let said = self.dom0().run(&["sh", "-c", script]);
                let text =
                    said.map_or_else(|error| format!("{error:#}"), |said| said.out + &said.err);
                fs::write(folder.join(name), text)?;
            }
        }
        Ok(folder.to_owned())
    }
}
