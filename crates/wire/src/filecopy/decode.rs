//! The receiver's side: bytes from another qube in, checked items out.

use crc32fast::Hasher;

use super::header::{Entry, HEADER_LEN, Kind, RawHeader, Stamp};
use super::name::{LinkError, NameError, Names, check_link, check_name};
use super::outcome::code;
use super::{Dialect, NAME_MAX};

/// Longest file: lengths are signed where files are written.
const FILE_MAX: u64 = i64::MAX as u64;
/// Bytes of an offset in the resumable dialect.
const OFFSET_LEN: usize = 8;

/// Bounds on a whole transfer; 0 is none, as `qubes.Filecopy` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Most bytes of content.
    pub bytes: u64,
    /// Most items.
    pub files: u64,
}

/// Why a stream is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The path of an item.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A symbolic link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A name length that cannot be: over the bound.
    #[error("a name of {0} bytes is announced")]
    NameLength(u32),
    /// The name does not end where it should.
    #[error("the name does not end in NUL")]
    Unterminated,
    /// Neither file, directory nor link.
    #[error("an item of mode {0:o} cannot be received")]
    Type(u32),
    /// Nanoseconds of a second or more.
    #[error("{0} nanoseconds are more than a second")]
    Nanoseconds(u32),
    /// A length no such item has.
    #[error("an item of {0} bytes cannot be received")]
    Length(u64),
    /// An offset past the end of the file.
    #[error("the content starts at {0}, past the end")]
    Offset(u64),
    /// One of [`Limits`].
    #[error("the transfer is larger than allowed")]
    OverLimit,
    /// An end header with other fields set.
    #[error("the end header is not all zero")]
    End,
    /// The stream ended between items without an end.
    #[error("the stream ended without an end marker")]
    NoEnd,
    /// The stream ended inside an item.
    #[error("the stream ended inside an item")]
    Truncated,
}

impl DecodeError {
    /// The code for the sender, from the protocol's table.
    pub fn code(&self) -> u32 {
        match self {
            Self::Name(NameError::TooLong) | Self::NameLength(_) => code::ENAMETOOLONG,
            Self::Name(_) => code::EILSEQ,
            Self::Link(LinkError::Target(NameError::TooLong)) => code::ENAMETOOLONG,
            Self::Link(LinkError::Target(NameError::Character | NameError::Nul)) => code::EILSEQ,
            Self::Link(_) => code::ENOLINK,
            Self::Unterminated
            | Self::Type(_)
            | Self::Nanoseconds(_)
            | Self::Length(_)
            | Self::Offset(_)
            | Self::End => code::EINVAL,
            Self::OverLimit => code::EDQUOT,
            Self::NoEnd => code::EREMOTEIO,
            Self::Truncated => code::UNEXPECTED_EOF,
        }
    }
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A directory or file starts. A file's content follows, if it has any, and then
    /// [`Event::FileEnd`].
    Entry(Entry<'a>),
    /// A whole link.
    Link {
        /// The link itself.
        entry: Entry<'a>,
        /// Where it points; stays in the top-level item.
        target: &'a [u8],
    },
    /// The next bytes of the file.
    Content(&'a [u8]),
    /// All of the file's content was read.
    FileEnd,
    /// The end of the transfer; nothing more is read.
    End {
        /// CRC-32 of everything read.
        crc: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    /// `wanted` bytes of name, NUL and offset.
    Name {
        wanted: usize,
    },
    Content {
        left: u64,
    },
    Target {
        wanted: usize,
    },
    Done,
    Failed(DecodeError),
}

/// Reads a stream in pieces of any size. Holds at most a header, a name and a link target.
#[derive(Debug, Clone)]
pub struct Decoder {
    dialect: Dialect,
    names: Names,
    limits: Limits,
    crc: Hasher,
    state: State,
    header: RawHeader,
    depth: usize,
    bytes: u64,
    files: u64,
    /// The header or name that is being read.
    partial: Vec<u8>,
    name: Vec<u8>,
    target: Vec<u8>,
}

impl Decoder {
    /// Nothing read yet.
    pub fn new(dialect: Dialect, names: Names, limits: Limits) -> Self {
        Self {
            dialect,
            names,
            limits,
            crc: Hasher::new(),
            state: State::Header,
            header: RawHeader::default(),
            depth: 0,
            bytes: 0,
            files: 0,
            partial: Vec::new(),
            name: Vec::new(),
            target: Vec::new(),
        }
    }

    /// Reads on from the front of `input`, which it shortens. None: it needs more, and `input` is
    /// empty. After an error every call gives that error again.
    pub fn next<'d, 'i: 'd>(
        &'d mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'d>>, DecodeError> {
        loop {
            match self.state {
                State::Failed(error) => return Err(error),
                State::Done => return Ok(None),
                State::Header => match self.take(HEADER_LEN, input) {
                    None => return Ok(None),
                    Some(()) => {
                        if let Err(error) = self.read_header() {
                            return self.fail(error);
                        }
                        if self.state == State::Done {
                            let crc = self.crc.clone().finalize();
                            return Ok(Some(Event::End { crc }));
                        }
                    }
                },
                State::Name { wanted } => match self.take(wanted, input) {
                    None => return Ok(None),
                    Some(()) => match self.read_name() {
                        Err(error) => return self.fail(error),
                        Ok(None) => {}
                        Ok(Some(kind)) => return Ok(Some(Event::Entry(self.entry(kind)))),
                    },
                },
                State::Content { left: 0 } => {
                    self.state = State::Header;
                    return Ok(Some(Event::FileEnd));
                }
                State::Content { left } => {
                    let most = usize::try_from(left).unwrap_or(usize::MAX);
                    let (now, rest) = input.split_at(most.min(input.len()));
                    if now.is_empty() {
                        return Ok(None);
                    }
                    *input = rest;
                    self.crc.update(now);
                    self.state = State::Content {
                        left: left - now.len() as u64,
                    };
                    return Ok(Some(Event::Content(now)));
                }
                State::Target { wanted } => match self.take(wanted, input) {
                    None => return Ok(None),
                    Some(()) => {
                        std::mem::swap(&mut self.target, &mut self.partial);
                        self.partial.clear();
                        if let Err(error) = check_link(&self.target, self.depth, self.names) {
                            return self.fail(error.into());
                        }
                        self.state = State::Header;
                        let length = self.header.untrusted_filelen;
                        return Ok(Some(Event::Link {
                            entry: self.entry(Kind::Link { length }),
                            target: &self.target,
                        }));
                    }
                },
            }
        }
    }

    /// The input is at its end: an error unless the end of the transfer was read.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.state {
            State::Done => Ok(()),
            State::Failed(error) => Err(error),
            State::Header if self.partial.is_empty() => Err(DecodeError::NoEnd),
            _ => Err(DecodeError::Truncated),
        }
    }

    /// CRC-32 of everything read so far.
    pub fn crc(&self) -> u32 {
        self.crc.clone().finalize()
    }

    /// The last name that was read, checked or not: for the outcome only.
    pub fn last_name(&self) -> &[u8] {
        &self.name
    }

    fn fail<T>(&mut self, error: DecodeError) -> Result<T, DecodeError> {
        self.state = State::Failed(error);
        Err(error)
    }

    /// Collects until `partial` has `wanted` bytes.
    fn take(&mut self, wanted: usize, input: &mut &[u8]) -> Option<()> {
        let missing = wanted.saturating_sub(self.partial.len());
        let (now, rest) = input.split_at(missing.min(input.len()));
        self.crc.update(now);
        self.partial.extend_from_slice(now);
        *input = rest;
        (self.partial.len() == wanted).then_some(())
    }

    fn read_header(&mut self) -> Result<(), DecodeError> {
        if let Some(bytes) = self.partial.first_chunk::<HEADER_LEN>() {
            self.header = RawHeader::read(bytes);
        }
        self.partial.clear();
        let header = self.header;
        if header.untrusted_namelen == 0 {
            if header != RawHeader::default() {
                return Err(DecodeError::End);
            }
            self.state = State::Done;
            return Ok(());
        }
        let too_long = DecodeError::NameLength(header.untrusted_namelen);
        let namelen = usize::try_from(header.untrusted_namelen).map_err(|_| too_long)?;
        if namelen > NAME_MAX + 1 {
            return Err(too_long);
        }
        for stamp in [header.untrusted_atime, header.untrusted_mtime] {
            if stamp.nanos > Stamp::NANOS_MAX {
                return Err(DecodeError::Nanoseconds(stamp.nanos));
            }
        }
        let offset = self.check_kind()?;
        self.state = State::Name {
            wanted: namelen + offset,
        };
        Ok(())
    }

    /// Checks type, length and limits; returns how many bytes of offset follow the name.
    fn check_kind(&mut self) -> Result<usize, DecodeError> {
        let header = self.header;
        let length = header.untrusted_filelen;
        let kind = header
            .kind()
            .ok_or(DecodeError::Type(header.untrusted_mode))?;
        let offset = match kind {
            Kind::File { .. } if length > FILE_MAX => return Err(DecodeError::Length(length)),
            Kind::File { .. } if self.dialect == Dialect::Resumable => OFFSET_LEN,
            Kind::File { .. } => 0,
            Kind::Directory if length != 0 => return Err(DecodeError::Length(length)),
            Kind::Directory => 0,
            Kind::Link { .. } if length > NAME_MAX as u64 => {
                return Err(LinkError::Target(NameError::TooLong).into());
            }
            Kind::Link { .. } => 0,
        };
        self.files = self.files.saturating_add(1);
        self.bytes = self.bytes.saturating_add(length);
        let over = |limit: u64, used: u64| limit != 0 && used > limit;
        if over(self.limits.bytes, self.bytes) || over(self.limits.files, self.files) {
            return Err(DecodeError::OverLimit);
        }
        Ok(offset)
    }

    /// Checks the name; a link is not yet an item, its target has to be read first.
    fn read_name(&mut self) -> Result<Option<Kind>, DecodeError> {
        let header = self.header;
        let kind = header
            .kind()
            .ok_or(DecodeError::Type(header.untrusted_mode))?;
        std::mem::swap(&mut self.name, &mut self.partial);
        self.partial.clear();
        let mut kind = kind;
        if let (Kind::File { size, offset }, Dialect::Resumable) = (&mut kind, self.dialect) {
            if let Some(bytes) = self.name.last_chunk::<OFFSET_LEN>() {
                *offset = u64::from_le_bytes(*bytes);
            }
            self.name.truncate(self.name.len() - OFFSET_LEN);
            if offset > size {
                return Err(DecodeError::Offset(*offset));
            }
        }
        if self.name.pop() != Some(0) {
            return Err(DecodeError::Unterminated);
        }
        self.depth = check_name(&self.name, self.names)?;
        self.state = match kind {
            Kind::File { size, offset } => State::Content {
                left: size - offset,
            },
            Kind::Directory => State::Header,
            Kind::Link { length } => State::Target {
                wanted: usize::try_from(length).unwrap_or(NAME_MAX),
            },
        };
        Ok((!matches!(kind, Kind::Link { .. })).then_some(kind))
    }

    fn entry(&self, kind: Kind) -> Entry<'_> {
        Entry {
            name: &self.name,
            kind,
            permissions: self.header.permissions(),
            atime: self.header.untrusted_atime,
            mtime: self.header.untrusted_mtime,
        }
    }
}
