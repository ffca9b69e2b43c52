//! Disks and network interfaces.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::ptr::null;

use bulkhead_wire::xl::{Access, Disk, DomId, HostPath, LibxlCode, Nic, NicId, Vdev};

use crate::context::{Context, number};
use crate::memory::{check, string};
use crate::raw;

/// What a network qube runs for an interface that leads to it, as the agents of Qubes OS have it:
/// it routes the one address and bridges nothing.
const NIC_SCRIPT: &str = "/etc/xen/scripts/vif-route-qubes";

/// Fills an initialised disk, whose strings libxl frees.
pub(crate) fn fill_disk(
    raw: &mut raw::libxl_device_disk,
    disk: &Disk,
    script: Option<&HostPath>,
) -> Result<(), LibxlCode> {
    raw.backend_domid = number(disk.backend);
    raw.pdev_path = string(disk.path.as_str())?;
    raw.vdev = string(disk.vdev.as_str())?;
    // By the kernel of the backend, which needs no process in dom0.
    raw.backend = raw::LIBXL_DISK_BACKEND_PHY;
    raw.format = raw::LIBXL_DISK_FORMAT_RAW;
    raw.readwrite = (disk.access == Access::ReadWrite).into();
    if let Some(script) = script {
        raw.script = string(script.as_str())?;
    }
    Ok(())
}

/// Fills an initialised interface, whose strings libxl frees.
pub(crate) fn fill_nic(raw: &mut raw::libxl_device_nic, nic: &Nic) -> Result<(), LibxlCode> {
    raw.backend_domid = number(nic.backend);
    raw.devid = nic.id.number().into();
    raw.mac = nic.mac.bytes();
    raw.nictype = raw::LIBXL_NIC_TYPE_VIF;
    raw.script = string(NIC_SCRIPT)?;
    if let Some(ip) = nic.ip {
        raw.ip = string(&ip.to_string())?;
    }
    Ok(())
}

impl Context {
    /// Runs `with` on an initialised disk, which is disposed of afterwards.
    fn with_disk<T>(&self, with: impl FnOnce(&mut raw::libxl_device_disk) -> T) -> T {
        let xl = &self.library.xl;
        let mut raw = MaybeUninit::uninit();
        // SAFETY: `init` fills all of it, and it is disposed of once.
        unsafe {
            xl.libxl_device_disk_init(raw.as_mut_ptr());
            let mut raw = raw.assume_init();
            let done = with(&mut raw);
            xl.libxl_device_disk_dispose(&raw mut raw);
            done
        }
    }

    /// Runs `with` on an initialised interface, which is disposed of afterwards.
    fn with_nic<T>(&self, with: impl FnOnce(&mut raw::libxl_device_nic) -> T) -> T {
        let xl = &self.library.xl;
        let mut raw = MaybeUninit::uninit();
        // SAFETY: `init` fills all of it, and it is disposed of once.
        unsafe {
            xl.libxl_device_nic_init(raw.as_mut_ptr());
            let mut raw = raw.assume_init();
            let done = with(&mut raw);
            xl.libxl_device_nic_dispose(&raw mut raw);
            done
        }
    }

    /// Finds a domain's disk and runs `with` on it.
    fn found_disk<T>(
        &self,
        domid: DomId,
        vdev: &Vdev,
        with: impl FnOnce(&mut raw::libxl_device_disk) -> Result<T, LibxlCode>,
    ) -> Result<T, LibxlCode> {
        let name = CString::new(vdev.as_str()).map_err(|_| LibxlCode::Invalid)?;
        self.with_disk(|raw| {
            // SAFETY: context and disk are whole, and the name lives as long as the call.
            check(unsafe {
                let xl = &self.library.xl;
                xl.libxl_vdev_to_device_disk(self.pointer, number(domid), name.as_ptr(), raw)
            })
            .map_err(|_| LibxlCode::NotFound)?;
            with(raw)
        })
    }

    /// Gives a domain one more disk, by the program `script` in the place of Xen's own.
    ///
    /// # Errors
    /// What libxl says.
    pub fn attach_disk(
        &self,
        domid: DomId,
        disk: &Disk,
        script: Option<&HostPath>,
    ) -> Result<(), LibxlCode> {
        self.with_disk(|raw| {
            fill_disk(raw, disk, script)?;
            // SAFETY: context and disk are whole; without a `how` it is done when this returns.
            check(unsafe {
                let xl = &self.library.xl;
                xl.libxl_device_disk_add(self.pointer, number(domid), raw, null())
            })
        })
    }

    /// Takes a disk away: asks for it, and after ten seconds asks no more.
    ///
    /// # Errors
    /// [`LibxlCode::NotFound`], or what libxl says.
    pub fn detach_disk(&self, domid: DomId, vdev: &Vdev) -> Result<(), LibxlCode> {
        self.found_disk(domid, vdev, |raw| {
            // SAFETY: as in `attach_disk`.
            check(unsafe {
                let xl = &self.library.xl;
                xl.libxl_device_disk_remove(self.pointer, number(domid), raw, null())
            })
        })
    }

    /// The folder of a disk's backend in xenstore.
    ///
    /// # Errors
    /// [`LibxlCode::NotFound`], or what libxl says.
    pub fn disk_backend(&self, domid: DomId, vdev: &Vdev) -> Result<String, LibxlCode> {
        self.found_disk(domid, vdev, |raw| {
            let xl = &self.library.xl;
            let mut info = MaybeUninit::uninit();
            // SAFETY: `init` fills all of it, its string is null or a C string, and it is disposed
            // of once, after that was read.
            unsafe {
                xl.libxl_diskinfo_init(info.as_mut_ptr());
                let mut info = info.assume_init();
                let got =
                    xl.libxl_device_disk_getinfo(self.pointer, number(domid), raw, &raw mut info);
                let path = (!info.backend.is_null())
                    .then(|| CStr::from_ptr(info.backend).to_string_lossy().into_owned());
                xl.libxl_diskinfo_dispose(&raw mut info);
                check(got)?;
                path.ok_or(LibxlCode::NotFound)
            }
        })
    }

    /// Gives a domain one more network interface.
    ///
    /// # Errors
    /// What libxl says.
    pub fn attach_nic(&self, domid: DomId, nic: &Nic) -> Result<(), LibxlCode> {
        self.with_nic(|raw| {
            fill_nic(raw, nic)?;
            // SAFETY: as in `attach_disk`.
            check(unsafe {
                let xl = &self.library.xl;
                xl.libxl_device_nic_add(self.pointer, number(domid), raw, null())
            })
        })
    }

    /// Takes a network interface away, as a disk.
    ///
    /// # Errors
    /// [`LibxlCode::NotFound`], or what libxl says.
    pub fn detach_nic(&self, domid: DomId, nic: NicId) -> Result<(), LibxlCode> {
        self.with_nic(|raw| {
            let (xl, ctx, domid) = (&self.library.xl, self.pointer, number(domid));
            // SAFETY: context and interface are whole.
            let found =
                unsafe { xl.libxl_devid_to_device_nic(ctx, domid, nic.number().into(), raw) };
            check(found).map_err(|_| LibxlCode::NotFound)?;
            // SAFETY: as in `attach_disk`.
            check(unsafe { xl.libxl_device_nic_remove(ctx, domid, raw, null()) })
        })
    }
}
