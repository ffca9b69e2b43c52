//! Making domains.

use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::null;

use bulkhead_wire::xl::{Disk, DomainConfig, HostPath, LibxlCode, Mib, Mode, PciAddress};

use crate::context::{Context, number};
use crate::device;
use crate::memory::{array, check, kib, mib_up, string};
use crate::raw;

/// Where an emulated machine looks for something to boot: the first disk.
const FIRST_DISK: &str = "c";

/// A domain's configuration as libxl wants it.
pub struct Prepared<'c> {
    context: &'c Context,
    raw: Box<raw::libxl_domain_config>,
}

impl fmt::Debug for Prepared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        // SAFETY: it was initialised by `prepare`, every string and array in it is made by
        // `malloc`, and this is its end.
        unsafe {
            let xl = &self.context.library.xl;
            xl.libxl_domain_config_dispose(&raw mut *self.raw);
        }
    }
}

impl Context {
    /// A configuration for libxl, of a domain whose folder in xenstore gets the key `mark` before
    /// anybody can see it. It has `disks`, each by its own program or by Xen's, of which QEMU emulates those of an HVM
    /// domain; others can
    /// be given to it when it is there ([`Context::attach_disk`]), and so are network interfaces
    /// ([`Context::attach_nic`]), because libxl gives up a whole domain for one that is taken late.
    ///
    /// # Errors
    /// What libxl says.
    pub fn prepare(
        &self,
        config: &DomainConfig,
        disks: &[(Disk, Option<HostPath>)],
        mark: &str,
    ) -> Result<Prepared<'_>, LibxlCode> {
        let mut raw = Box::new(MaybeUninit::uninit());
        // SAFETY: `init` fills all of it.
        let raw = unsafe {
            self.library.xl.libxl_domain_config_init(raw.as_mut_ptr());
            raw.assume_init()
        };
        let mut prepared = Prepared { context: self, raw };
        let kind = match &config.mode {
            Mode::Pvh(_) => raw::LIBXL_DOMAIN_TYPE_PVH,
            Mode::Pv(_) => raw::LIBXL_DOMAIN_TYPE_PV,
            Mode::Hvm(_) => raw::LIBXL_DOMAIN_TYPE_HVM,
        };
        prepared.identify(config, kind, mark)?;
        prepared.build(config, kind)?;
        if kind == raw::LIBXL_DOMAIN_TYPE_HVM {
            prepared.emulate()?;
        }
        prepared.disks(disks)?;
        prepared.pci(&config.pci)?;
        // Nobody but us acts on these. A domain that has ended stays until that was told.
        let preserve = raw::LIBXL_ACTION_ON_SHUTDOWN_PRESERVE;
        prepared.raw.on_poweroff = preserve;
        prepared.raw.on_reboot = preserve;
        prepared.raw.on_watchdog = preserve;
        prepared.raw.on_crash = preserve;
        prepared.raw.on_soft_reset = preserve;
        Ok(prepared)
    }
}

impl Prepared<'_> {
    fn identify(
        &mut self,
        config: &DomainConfig,
        kind: raw::libxl_domain_type,
        mark: &str,
    ) -> Result<(), LibxlCode> {
        let info = &mut self.raw.c_info;
        info.type_ = kind;
        info.domid = number(config.domid);
        info.uuid.uuid = config.uuid.0;
        info.name = string(config.name.as_str())?;
        // Keys and values in turn, and a null at the end.
        let pairs = array(3)?;
        info.xsdata = pairs;
        // SAFETY: the array has room for three, and its last stays null.
        unsafe {
            pairs.write(string(mark)?);
            pairs.add(1).write(string(&config.uuid.to_string())?);
        }
        Ok(())
    }

    fn build(
        &mut self,
        config: &DomainConfig,
        kind: raw::libxl_domain_type,
    ) -> Result<(), LibxlCode> {
        let info = &mut self.raw.b_info;
        // SAFETY: it is initialised and has no type yet; this comes before the union is touched.
        unsafe {
            let xl = &self.context.library.xl;
            xl.libxl_domain_build_info_init_type(info, kind);
        }
        info.max_vcpus = config.vcpus_maximum.number().into();
        let (now, most) = (config.vcpus_at_boot(), config.vcpus_maximum);
        self.context.fill(&mut info.avail_vcpus, now, most)?;
        info.target_memkb = kib(config.memory);
        info.max_memkb = kib(config.maximum);
        info.sched_params.weight = config.weight.number().into();
        if let Some(kernel) = config.mode.kernel() {
            info.kernel = string(kernel.path.as_str())?;
            info.cmdline = string(kernel.cmdline.as_str())?;
            if let Some(ramdisk) = &kernel.ramdisk {
                info.ramdisk = string(ramdisk.as_str())?;
            }
        }
        Ok(())
    }

    /// What QEMU emulates, which is as little as a system can boot with, and what it may do.
    fn emulate(&mut self) -> Result<(), LibxlCode> {
        let info = &mut self.raw.b_info;
        info.device_model_version = raw::LIBXL_DEVICE_MODEL_VERSION_QEMU_XEN;
        let set = &self.context.library.xl.libxl_defbool_set;
        // SAFETY: the type is HVM, so of the union it is `hvm` that libxl has initialised; all are
        // plain values of it but the string, which it has none of yet.
        unsafe {
            // In an empty root, as a user of its own, and with hypercalls for this domain alone.
            set(&raw mut info.dm_restrict, true);
            let hvm = &mut info.u.hvm;
            hvm.vga.kind = raw::LIBXL_VGA_INTERFACE_TYPE_NONE;
            set(&raw mut hvm.vnc.enable, false);
            set(&raw mut hvm.sdl.enable, false);
            set(&raw mut hvm.spice.enable, false);
            set(&raw mut hvm.usb, false);
            // Keyboard and mouse for a screen that is not there; QEMU 10 fails at them.
            set(&raw mut hvm.vkb_device, false);
            hvm.boot = string(FIRST_DISK)?;
        }
        Ok(())
    }

    fn disks(&mut self, disks: &[(Disk, Option<HostPath>)]) -> Result<(), LibxlCode> {
        let xl = &self.context.library.xl;
        self.raw.disks = array(disks.len())?;
        for (at, (disk, script)) in disks.iter().enumerate() {
            // SAFETY: the array has room for all of them, and each is counted when it is
            // initialised.
            let raw = unsafe {
                let place = self.raw.disks.add(at);
                xl.libxl_device_disk_init(place);
                &mut *place
            };
            self.raw.num_disks += 1;
            device::fill_disk(raw, disk, script.as_ref())?;
        }
        Ok(())
    }

    /// PCI devices, which the kernel of dom0 gives up for it.
    fn pci(&mut self, devices: &[PciAddress]) -> Result<(), LibxlCode> {
        if devices.is_empty() {
            return Ok(());
        }
        let xl = &self.context.library.xl;
        // SAFETY: only PV domains have devices, so of the union it is `pv` that libxl has
        // initialised. The map of memory is the machine's, or devices have no room in it.
        unsafe { xl.libxl_defbool_set(&raw mut self.raw.b_info.u.pv.e820_host, true) };
        self.raw.pcidevs = array(devices.len())?;
        for (at, address) in devices.iter().enumerate() {
            // SAFETY: as in `disks`.
            let raw = unsafe {
                let place = self.raw.pcidevs.add(at);
                xl.libxl_device_pci_init(place);
                &mut *place
            };
            self.raw.num_pcidevs += 1;
            let (segment, bus, device, function) = address.parts();
            raw.domain = segment.into();
            (raw.bus, raw.dev, raw.func) = (bus, device, function);
            // Whatever driver of dom0 has it loses it.
            raw.seize = true;
        }
        Ok(())
    }

    /// Has an HVM domain's QEMU started by the program at `path`, by default QEMU itself; libxl
    /// starts it as root, and tells it how to confine itself.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn start_by(&mut self, path: &HostPath) -> Result<(), LibxlCode> {
        let info = &mut self.raw.b_info;
        // SAFETY: null or made by `malloc`, and replaced at once.
        unsafe { libc::free(info.device_model.cast()) };
        info.device_model = std::ptr::null_mut();
        info.device_model = string(path.as_str())?;
        Ok(())
    }

    /// Memory that it takes, with what Xen needs beside the domain's own.
    ///
    /// # Errors
    /// What libxl says.
    pub fn needed_memory(&mut self) -> Result<Mib, LibxlCode> {
        let (mut needed, context) = (0, self.context);
        // SAFETY: context and configuration are whole; the number is for the log only.
        check(unsafe {
            let domid = self.raw.c_info.domid;
            let xl = &context.library.xl;
            xl.libxl_domain_need_memory(context.pointer, &raw mut *self.raw, domid, &raw mut needed)
        })?;
        Ok(mib_up(needed))
    }

    /// Makes the domain. It is paused.
    ///
    /// # Errors
    /// What libxl says, which may have left something of it.
    pub fn create(mut self) -> Result<(), LibxlCode> {
        let context = self.context;
        let mut domid = u32::MAX;
        // SAFETY: context and configuration are whole; without a `how` it is done when this
        // returns.
        check(unsafe {
            let xl = &context.library.xl;
            let config = &raw mut *self.raw;
            xl.libxl_domain_create_new(context.pointer, config, &raw mut domid, null(), null())
        })
    }
}
