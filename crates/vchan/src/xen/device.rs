//! Event channels and granted pages, by the ioctls of `/dev/xen/{evtchn,gntdev,gntalloc}`.
//!
//! Each device may be opened here or come as a descriptor from somebody else, for processes that
//! may open nothing. Layouts are those of Xen's `sys/evtchn.h`, `sys/gntdev.h`, `sys/gntalloc.h`.

#![expect(
    unsafe_code,
    reason = "device calls take pointers, and what they map is reached by pointers"
)]

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Direction, Ioctl, IoctlOutput, Opcode, opcode};
use rustix::mm::{MapFlags, ProtFlags};

use super::alive::Watch;
use super::layout::{GrantRef, RING_PAGES_MAX};
use super::memory::{PAGE, Region};
use crate::id::DomId;

/// Where Linux has the devices.
const FOLDER: &str = "/dev/xen";

/// The device without which there are no channels.
pub const MARK: &str = "/dev/xen/evtchn";

/// Whether this is a domain of Xen whose kernel has what channels need. The others may be missing
/// still, and then are what an error names.
#[must_use]
pub fn are_there() -> bool {
    rustix::fs::access(MARK, rustix::fs::Access::EXISTS).is_ok()
}

/// Most pages that are shared at once: the page of a channel and its rings.
pub(crate) const PAGES_MAX: usize = 1 + RING_PAGES_MAX;

/// The event channel's number in its own domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventPort(pub u32);

/// One call with one structure that the kernel reads and writes.
struct Call<'a, T> {
    opcode: Opcode,
    argument: &'a mut T,
}

// SAFETY: `argument` is a live, exclusive reference to a `repr(C)` structure of integers; each
// user below pairs it with the opcode whose header declares that structure, with a count that
// fits its array. The kernel writes nothing beyond.
unsafe impl<T> Ioctl for Call<'_, T> {
    type Output = u32;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.argument).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<u32> {
        u32::try_from(out).map_err(|_| Errno::RANGE)
    }
}

const fn code(group: u8, number: u8, size: usize) -> Opcode {
    opcode::from_components(Direction::None, group, number, size)
}

fn call<T>(fd: &OwnedFd, opcode: Opcode, argument: &mut T) -> io::Result<u32> {
    // SAFETY: see `Call`; both are private to this module.
    Ok(unsafe { rustix::ioctl::ioctl(fd, Call { opcode, argument }) }?)
}

fn open(name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let path = Path::new(FOLDER).join(name);
    let flags = flags | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// `struct ioctl_evtchn_bind_interdomain`.
#[repr(C)]
struct BindInterdomain {
    remote_domain: u32,
    remote_port: u32,
}
const _: () = assert!(size_of::<BindInterdomain>() == 8);
const BIND_INTERDOMAIN: Opcode = code(b'E', 1, 8);
/// Its structure is one `unsigned int`, the domain.
const BIND_UNBOUND: Opcode = code(b'E', 2, 4);
/// Likewise, the port.
const NOTIFY: Opcode = code(b'E', 4, 4);
/// Its structure is one `domid_t`.
const RESTRICT: Opcode = code(b'E', 6, 2);

/// All that a process asks of these devices that was handed an end of a channel, and nothing
/// that makes another one: signals, and the mapping of what it was given numbers of.
pub const REQUESTS_OF_HANDED: [u32; 5] =
    [NOTIFY, MAP_GRANTS, UNMAP_GRANTS, UNMAP_NOTIFY, DEALLOCATE];

/// `/dev/xen/evtchn`, before a channel is bound to it.
#[derive(Debug)]
pub struct EventDevice(OwnedFd);

impl EventDevice {
    /// Opens the device.
    ///
    /// # Errors
    /// What opening said.
    pub fn open() -> io::Result<Self> {
        Ok(Self(open("evtchn", OFlags::NONBLOCK)?))
    }

    /// Takes over the device that somebody opened for this one channel.
    ///
    /// # Errors
    /// What making it non-blocking said.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        Ok(Self(fd))
    }

    /// Lets it bind channels that this domain offers only, from now on, whoever has it. It can
    /// offer none any more.
    ///
    /// # Errors
    /// The kernel's.
    pub fn restrict(&self, to: DomId) -> io::Result<()> {
        restrict(&self.0, to)
    }

    /// Makes a channel that `peer` may bind to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn offer(self, peer: DomId) -> io::Result<EventChannel> {
        let port = call(&self.0, BIND_UNBOUND, &mut peer.number())?;
        Ok(EventChannel::adopt(self.0, EventPort(port)))
    }

    /// Binds to the channel that `peer` offers as `port`.
    ///
    /// # Errors
    /// The kernel's: it is not there, or not for us.
    pub fn bind(self, peer: DomId, port: EventPort) -> io::Result<EventChannel> {
        let mut bind = BindInterdomain {
            remote_domain: peer.number(),
            remote_port: port.0,
        };
        let port = call(&self.0, BIND_INTERDOMAIN, &mut bind)?;
        Ok(EventChannel::adopt(self.0, EventPort(port)))
    }
}

impl AsFd for EventDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn restrict(device: &OwnedFd, to: DomId) -> io::Result<()> {
    // Checked by the type: domain ids have 15 bits.
    let mut domain = u16::try_from(to.number()).unwrap_or_default();
    call(device, RESTRICT, &mut domain).map(drop)
}

/// A bound event channel. Its descriptor is readable once a signal came.
#[derive(Debug)]
pub struct EventChannel {
    device: OwnedFd,
    port: u32,
    /// Of who is not told that the peer's domain was destroyed.
    watch: Option<Box<Watch>>,
}

impl EventChannel {
    /// Takes over a channel that somebody bound on this descriptor as `port`.
    #[must_use]
    pub fn adopt(fd: OwnedFd, port: EventPort) -> Self {
        Self {
            device: fd,
            port: port.0,
            watch: None,
        }
    }

    /// Looks after the peer from now on.
    pub(super) fn watch(&mut self, watch: Watch) {
        self.watch = Some(Box::new(watch));
    }

    /// How long a wait may last until one has to look again.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.watch.as_ref().map(|watch| watch.patience())
    }

    /// Whether one looked and found the peer's domain gone.
    pub(super) fn finds_peer_gone(&mut self) -> bool {
        let Some(mut watch) = self.watch.take() else {
            return false;
        };
        let gone = watch.finds_it_gone(self);
        self.watch = Some(watch);
        gone
    }

    /// Whether there is this domain: one cannot bind to its port 0, which is never offered.
    pub(super) fn has_domain(&self, domain: DomId) -> bool {
        let mut bind = BindInterdomain {
            remote_domain: domain.number(),
            remote_port: 0,
        };
        let bound = call(&self.device, BIND_INTERDOMAIN, &mut bind);
        !bound.is_err_and(|e| e.raw_os_error() == Some(Errno::SRCH.raw_os_error()))
    }

    /// As [`EventDevice::restrict`], for what may be bound beside it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn restrict(&self, to: DomId) -> io::Result<()> {
        restrict(&self.device, to)
    }

    /// The descriptor that it is bound on.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.device
    }

    /// Its own number, which the peer of an offered channel has to know.
    #[must_use]
    pub fn port(&self) -> EventPort {
        EventPort(self.port)
    }

    /// Signals the peer.
    ///
    /// # Errors
    /// The kernel's.
    pub fn signal(&self) -> io::Result<()> {
        call(&self.device, NOTIFY, &mut { self.port }).map(drop)
    }

    /// Takes the signal that came, if one did, and lets the next come.
    ///
    /// # Errors
    /// The kernel's.
    pub fn acknowledge(&self) -> io::Result<()> {
        let mut port = [0; 4];
        loop {
            match rustix::io::read(&self.device, &mut port) {
                Ok(_) => break,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        loop {
            match rustix::io::write(&self.device, &port) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl AsFd for EventChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// What shall happen when a mapping ends, also by the death of its process: a byte of its first
/// page becomes 0, and the channel is signalled.
#[derive(Debug, Clone, Copy)]
pub(super) struct OnUnmap<'a> {
    pub(super) byte: usize,
    pub(super) signal: &'a EventChannel,
}

/// `struct ioctl_gntdev_unmap_notify` and `struct ioctl_gntalloc_unmap_notify`, which are alike.
#[repr(C)]
struct UnmapNotify {
    index: u64,
    action: u32,
    port: u32,
}
const _: () = assert!(size_of::<UnmapNotify>() == 16);
const UNMAP_NOTIFY: Opcode = code(b'G', 7, 16);
/// `UNMAP_NOTIFY_CLEAR_BYTE | UNMAP_NOTIFY_SEND_EVENT`.
const CLEAR_AND_SIGNAL: u32 = 3;

fn on_unmap(fd: &OwnedFd, index: u64, then: OnUnmap<'_>) -> io::Result<()> {
    let mut notify = UnmapNotify {
        index: index + then.byte as u64,
        action: CLEAR_AND_SIGNAL,
        port: then.signal.port,
    };
    call(fd, UNMAP_NOTIFY, &mut notify).map(drop)
}

/// `struct ioctl_gntdev_unmap_grant_ref` and `struct ioctl_gntalloc_dealloc_gref`.
#[repr(C)]
struct Release {
    index: u64,
    count: u32,
    pad: u32,
}
const _: () = assert!(size_of::<Release>() == 16);
const UNMAP_GRANTS: Opcode = code(b'G', 1, 16);
const DEALLOCATE: Opcode = code(b'G', 6, 16);

/// Maps what a device has prepared, sets what follows, and lets go of the preparation: the pages
/// then live exactly as long as the mapping.
fn map(
    fd: &OwnedFd,
    pages: usize,
    index: u64,
    how: (Access, Option<OnUnmap<'_>>),
    release: Opcode,
) -> io::Result<Region> {
    let mapped = map_and_keep(fd, pages, index, how);
    let mut released = Release {
        index,
        // At most `PAGES_MAX`.
        count: u32::try_from(pages).unwrap_or_default(),
        pad: 0,
    };
    let let_go = call(fd, release, &mut released);
    let region = mapped?;
    let_go?;
    Ok(region)
}

/// As [`map`], and what was prepared stays: the pages live until the descriptor is closed too.
fn map_and_keep(
    fd: &OwnedFd,
    pages: usize,
    index: u64,
    (access, then): (Access, Option<OnUnmap<'_>>),
) -> io::Result<Region> {
    let mapping = Mapping::new(fd, pages * PAGE, index, access)?;
    if let Some(then) = then {
        on_unmap(fd, index, then)?;
    }
    Ok(Region::mapped(mapping))
}

/// `struct ioctl_gntdev_grant_ref`.
#[repr(C)]
#[derive(Clone, Copy)]
struct DomainGrant {
    domain: u32,
    grant: u32,
}

/// `struct ioctl_gntdev_map_grant_ref` with room for as many as are ever mapped.
#[repr(C)]
struct MapGrants {
    count: u32,
    pad: u32,
    index: u64,
    grants: [DomainGrant; PAGES_MAX],
}
const _: () = assert!(std::mem::offset_of!(MapGrants, index) == 8);
const _: () = assert!(std::mem::offset_of!(MapGrants, grants) == 16);
const _: () = assert!(size_of::<DomainGrant>() == 8);
/// The header's structure has one element.
const MAP_GRANTS: Opcode = code(b'G', 0, 24);

/// `/dev/xen/gntdev`: maps pages that other domains granted.
#[derive(Debug)]
pub struct GrantDevice(OwnedFd);

impl GrantDevice {
    /// Opens the device.
    ///
    /// # Errors
    /// What opening said.
    pub fn open() -> io::Result<Self> {
        Ok(Self(open("gntdev", OFlags::empty())?))
    }

    /// Takes over the device that somebody opened.
    #[must_use]
    pub fn adopt(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The device.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Maps pages of `owner`, in this order, side by side.
    ///
    /// # Errors
    /// `InvalidInput` for none or for more than any channel has; the kernel's where a grant is
    /// not there, is not for us, or is not for writing.
    pub fn map(&self, owner: DomId, grants: &[GrantRef]) -> io::Result<Region> {
        self.map_with(owner, grants, (Access::ReadWrite, None))
    }

    /// As [`Self::map`], for reading only, which is all that the owner need have granted. Nothing
    /// may be written to it.
    pub(crate) fn view(&self, owner: DomId, grants: &[GrantRef]) -> io::Result<Region> {
        self.map_with(owner, grants, (Access::Read, None))
    }

    pub(super) fn map_until(
        &self,
        owner: DomId,
        grants: &[GrantRef],
        then: Option<OnUnmap<'_>>,
    ) -> io::Result<Region> {
        self.map_with(owner, grants, (Access::ReadWrite, then))
    }

    fn map_with(
        &self,
        owner: DomId,
        grants: &[GrantRef],
        how: (Access, Option<OnUnmap<'_>>),
    ) -> io::Result<Region> {
        let none = DomainGrant {
            domain: owner.number(),
            grant: 0,
        };
        let mut request = Box::new(MapGrants {
            count: page_count(grants.len())?,
            pad: 0,
            index: 0,
            grants: [none; PAGES_MAX],
        });
        for (to, from) in request.grants.iter_mut().zip(grants) {
            to.grant = from.0;
        }
        call(&self.0, MAP_GRANTS, &mut *request)?;
        map(&self.0, grants.len(), request.index, how, UNMAP_GRANTS)
    }
}

impl AsFd for GrantDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `struct ioctl_gntalloc_alloc_gref` with room for as many as are ever shared.
#[repr(C)]
struct Allocate {
    domain: u16,
    flags: u16,
    count: u32,
    index: u64,
    grants: [u32; PAGES_MAX],
}
const _: () = assert!(std::mem::offset_of!(Allocate, count) == 4);
const _: () = assert!(std::mem::offset_of!(Allocate, index) == 8);
const _: () = assert!(std::mem::offset_of!(Allocate, grants) == 16);
/// The header's structure has one element, and is padded to its alignment.
const ALLOCATE: Opcode = code(b'G', 5, 24);
/// `GNTALLOC_FLAG_WRITABLE`.
const WRITABLE: u16 = 1;

impl Allocate {
    fn of(peer: DomId, pages: usize, access: Access) -> io::Result<Box<Self>> {
        Ok(Box::new(Self {
            // Checked by the type: domain ids have 15 bits.
            domain: u16::try_from(peer.number()).unwrap_or_default(),
            flags: match access {
                Access::Read => 0,
                Access::ReadWrite => WRITABLE,
            },
            count: page_count(pages)?,
            index: 0,
            grants: [0; PAGES_MAX],
        }))
    }

    fn granted(&self, pages: usize) -> Vec<GrantRef> {
        let grants = self.grants.iter().take(pages);
        grants.map(|&grant| GrantRef(grant)).collect()
    }
}

/// `/dev/xen/gntalloc`: shares fresh pages with other domains.
#[derive(Debug)]
pub struct AllocDevice(OwnedFd);

impl AllocDevice {
    /// Opens the device.
    ///
    /// # Errors
    /// What opening said.
    pub fn open() -> io::Result<Self> {
        Ok(Self(open("gntalloc", OFlags::empty())?))
    }

    /// Takes over the device that somebody opened.
    #[must_use]
    pub fn adopt(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Shares as many fresh pages, all zero, with `peer`, for reading and writing.
    ///
    /// # Errors
    /// `InvalidInput` for none or for more than any channel has; the kernel's, `StorageFull`
    /// among them where all domains together were given as many pages as the module's `limit`.
    pub fn share(&self, peer: DomId, pages: usize) -> io::Result<(Region, Vec<GrantRef>)> {
        self.share_until(peer, pages, None)
    }

    /// As [`Self::share`], but `peer` may only read.
    pub(crate) fn show(&self, peer: DomId, pages: usize) -> io::Result<(Region, Vec<GrantRef>)> {
        self.share_with(peer, pages, Access::Read, None)
    }

    pub(super) fn share_until(
        &self,
        peer: DomId,
        pages: usize,
        then: Option<OnUnmap<'_>>,
    ) -> io::Result<(Region, Vec<GrantRef>)> {
        self.share_with(peer, pages, Access::ReadWrite, then)
    }

    /// `theirs` is what the peer may do with it.
    fn share_with(
        &self,
        peer: DomId,
        pages: usize,
        theirs: Access,
        then: Option<OnUnmap<'_>>,
    ) -> io::Result<(Region, Vec<GrantRef>)> {
        let mut request = Allocate::of(peer, pages, theirs)?;
        call(&self.0, ALLOCATE, &mut *request)?;
        let how = (Access::ReadWrite, then);
        let region = map(&self.0, pages, request.index, how, DEALLOCATE)?;
        Ok((region, request.granted(pages)))
    }

    /// As [`Self::share`], for another process, which is given the device and the index:
    /// [`Self::take`]. The pages live as long as the device is open somewhere, or they are mapped.
    pub(super) fn prepare(
        &self,
        peer: DomId,
        pages: usize,
        then: OnUnmap<'_>,
    ) -> io::Result<(u64, Region, Vec<GrantRef>)> {
        let mut request = Allocate::of(peer, pages, Access::ReadWrite)?;
        call(&self.0, ALLOCATE, &mut *request)?;
        let how = (Access::ReadWrite, Some(then));
        let region = map_and_keep(&self.0, pages, request.index, how)?;
        Ok((request.index, region, request.granted(pages)))
    }

    /// Maps what [`Self::prepare`] left at `index`; from then on it lives as long as the mapping.
    pub(super) fn take(&self, index: u64, pages: usize) -> io::Result<Region> {
        page_count(pages)?;
        let how = (Access::ReadWrite, None);
        map(&self.0, pages, index, how, DEALLOCATE)
    }

    /// The device.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for AllocDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn page_count(pages: usize) -> io::Result<u32> {
    u32::try_from(pages)
        .ok()
        .filter(|_| (1..=PAGES_MAX).contains(&pages))
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// What may be done with mapped or granted pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// Mapped pages. Unmapped with the value.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<c_void>,
    len: usize,
}

// SAFETY: an address range that is its own; whoever unmaps it may be any thread.
unsafe impl Send for Mapping {}
// SAFETY: nothing can be done with a shared reference but to learn where it is.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn new(fd: &OwnedFd, len: usize, offset: u64, access: Access) -> io::Result<Self> {
        let flags = MapFlags::SHARED;
        let prot = match access {
            Access::Read => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        // SAFETY: the kernel chooses the address, so nothing that is mapped is replaced.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, prot, flags, fd, offset) }?;
        let base = NonNull::new(base).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { base, len })
    }

    pub(super) fn base(&self) -> NonNull<c_void> {
        self.base
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `new` with this length, and `Region`, the only one to look
        // into it, holds the value as long as it does.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr(), self.len) };
        debug_assert!(unmapped.is_ok(), "cannot unmap {unmapped:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    /// The numbers that C makes of the headers on x86-64.
    #[test]
    fn call_numbers_are_those_of_the_headers() {
        let all = [
            (BIND_INTERDOMAIN, 0x0008_4501),
            (BIND_UNBOUND, 0x0004_4502),
            (NOTIFY, 0x0004_4504),
            (RESTRICT, 0x0002_4506),
            (MAP_GRANTS, 0x0018_4700),
            (UNMAP_GRANTS, 0x0010_4701),
            (ALLOCATE, 0x0018_4705),
            (DEALLOCATE, 0x0010_4706),
            (UNMAP_NOTIFY, 0x0010_4707),
        ];
        for (ours, headers) in all {
            assert_eq!(ours, headers, "{ours:#x}");
        }
    }

    #[test]
    fn no_more_pages_are_asked_for_than_there_is_room() {
        assert_eq!(page_count(1).unwrap(), 1);
        assert_eq!(page_count(PAGES_MAX).unwrap(), 513);
        for none in [0, PAGES_MAX + 1] {
            let error = page_count(none).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn what_is_no_device_is_an_error() {
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        let owner = DomId::new(7).unwrap();
        let device = EventDevice::adopt(file()).unwrap();
        let flags = rustix::fs::fcntl_getfl(&device).unwrap();
        assert!(flags.contains(OFlags::NONBLOCK) && device.as_fd().as_raw_fd() > 2);
        assert!(device.restrict(owner).is_err());
        assert!(device.offer(owner).is_err());
        let device = EventDevice::adopt(file()).unwrap();
        assert!(device.bind(owner, EventPort(1)).is_err());
        let device = GrantDevice::adopt(file());
        assert!(device.map(owner, &[GrantRef(1)]).is_err());
        assert!(device.map(owner, &[]).is_err());
    }
}
