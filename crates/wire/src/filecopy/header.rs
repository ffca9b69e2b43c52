//! The 32 bytes before each item.

/// Length of a header.
pub const HEADER_LEN: usize = 32;

const TYPE_MASK: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
/// Permissions with set-uid, set-gid and sticky.
const PERMISSIONS: u32 = 0o7777;

/// A point in time as the stream has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Seconds since 1970.
    pub seconds: u32,
    /// Nanoseconds, at most 999,999,999.
    pub nanos: u32,
}

impl Stamp {
    /// The largest count of nanoseconds that is no whole second.
    pub const NANOS_MAX: u32 = 999_999_999;
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of which `size - offset` bytes follow.
    File {
        /// Its whole length.
        size: u64,
        /// Where what follows starts; 0 but in the resumable dialect.
        offset: u64,
    },
    /// A directory; the second time, its content is complete.
    Directory,
    /// A symbolic link; the target follows.
    Link {
        /// Bytes of the target.
        length: u64,
    },
}

/// One item without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Path relative to the incoming directory, without NUL. From a decoder: checked.
    pub name: &'a [u8],
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-uid, set-gid and sticky as sent.
    pub permissions: u32,
    /// Last access.
    pub atime: Stamp,
    /// Last change.
    pub mtime: Stamp,
}

/// A header as it is on the wire; nothing in it has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct RawHeader {
    pub(super) untrusted_namelen: u32,
    pub(super) untrusted_mode: u32,
    pub(super) untrusted_filelen: u64,
    pub(super) untrusted_atime: Stamp,
    pub(super) untrusted_mtime: Stamp,
}

impl RawHeader {
    pub(super) fn read(bytes: &[u8; HEADER_LEN]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(bytes.get(at..at + 4).unwrap_or(&[0; 4]));
            u32::from_le_bytes(word)
        };
        Self {
            untrusted_namelen: word(0),
            untrusted_mode: word(4),
            untrusted_filelen: u64::from(word(8)) | u64::from(word(12)) << 32,
            untrusted_atime: Stamp {
                seconds: word(16),
                nanos: word(20),
            },
            untrusted_mtime: Stamp {
                seconds: word(24),
                nanos: word(28),
            },
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.untrusted_namelen.to_le_bytes());
        out.extend_from_slice(&self.untrusted_mode.to_le_bytes());
        out.extend_from_slice(&self.untrusted_filelen.to_le_bytes());
        for stamp in [self.untrusted_atime, self.untrusted_mtime] {
            out.extend_from_slice(&stamp.seconds.to_le_bytes());
            out.extend_from_slice(&stamp.nanos.to_le_bytes());
        }
    }

    /// None for a type that the protocol does not carry.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self.untrusted_mode & TYPE_MASK {
            REGULAR => Some(Kind::File {
                size: self.untrusted_filelen,
                offset: 0,
            }),
            DIRECTORY => Some(Kind::Directory),
            SYMLINK => Some(Kind::Link {
                length: self.untrusted_filelen,
            }),
            _ => None,
        }
    }

    pub(super) fn permissions(&self) -> u32 {
        self.untrusted_mode & PERMISSIONS
    }

    pub(super) fn of(entry: &Entry<'_>, namelen: u32) -> Self {
        let (kind, length) = match entry.kind {
            Kind::File { size, .. } => (REGULAR, size),
            Kind::Directory => (DIRECTORY, 0),
            Kind::Link { length } => (SYMLINK, length),
        };
        Self {
            untrusted_namelen: namelen,
            untrusted_mode: kind | (entry.permissions & PERMISSIONS),
            untrusted_filelen: length,
            untrusted_atime: entry.atime,
            untrusted_mtime: entry.mtime,
        }
    }
}
