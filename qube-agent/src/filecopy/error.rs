//! What can go wrong at either end.

use std::io;
use std::path::PathBuf;

use bulkhead_wire::filecopy::{DecodeError, EncodeError, OutcomeError, code};
use rustix::io::Errno;

/// Why a transfer is not received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The stream itself.
    #[error("the stream from the other qube is refused")]
    Stream(#[from] DecodeError),
    /// The connection.
    #[error("the stream from the other qube cannot be read")]
    Read(#[source] io::Error),
    /// The name is taken.
    #[error("`{0}` is there already")]
    Exists(String),
    /// Something of the received tree cannot be created.
    #[error("`{name}` cannot be created")]
    Create {
        /// Its name, made printable.
        name: String,
        /// What the system says.
        source: Errno,
    },
    /// A file was created but not completed; others may have been created since.
    #[error("`{name}` cannot be written")]
    Write {
        /// Its name, made printable.
        name: String,
        /// What the system says.
        source: Errno,
    },
    /// A file of a resumed transfer does not go on where it stopped.
    #[error("`{0}` does not go on where it stopped")]
    Resume(String),
    /// The incoming folder or the staging area.
    #[error("folder `{}` cannot be used", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: Errno,
    },
    /// The received files cannot be made durable.
    #[error("the received files cannot be written to disk")]
    Flush(#[source] Errno),
}

impl ReceiveError {
    /// The code that the sender is told.
    pub fn code(&self) -> u32 {
        let errno = |errno: &Errno| u32::try_from(errno.raw_os_error()).unwrap_or(code::EINVAL);
        match self {
            Self::Stream(error) => error.code(),
            Self::Read(_) => code::UNEXPECTED_EOF,
            Self::Exists(_) => code::EEXIST,
            Self::Resume(_) => code::EINVAL,
            Self::Create { source, .. }
            | Self::Write { source, .. }
            | Self::Folder { source, .. }
            | Self::Flush(source) => errno(source),
        }
    }

    /// Whether the other end or the connection went away, so that going on later makes sense.
    pub fn is_interruption(&self) -> bool {
        matches!(
            self,
            Self::Read(_) | Self::Stream(DecodeError::NoEnd | DecodeError::Truncated)
        )
    }
}

/// Why a transfer is not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A path whose last component is no name (`..`, `/`).
    #[error("`{}` has no name that could be sent", .0.display())]
    NoName(PathBuf),
    /// Something that is neither file, directory nor link.
    #[error("`{}` is neither a file, a folder nor a link", .0.display())]
    Type(PathBuf),
    /// A file that cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that became shorter while it was sent.
    #[error("`{}` became shorter while it was sent", .0.display())]
    Shrunk(PathBuf),
    /// A name too long for the stream.
    #[error("`{}` cannot be sent", path.display())]
    Encode {
        /// Which.
        path: PathBuf,
        /// Why.
        source: EncodeError,
    },
    /// The connection.
    #[error("the connection to the other qube broke")]
    Connection(#[source] io::Error),
    /// The answer is garbage.
    #[error("the other qube's answer cannot be read")]
    Answer(#[from] OutcomeError),
    /// The other end does not offer to go on with a transfer.
    #[error("the other qube does not offer to go on with a transfer")]
    NoOffers,
    /// The other end went away without an answer.
    #[error("the other qube went away without an answer")]
    NoAnswer,
    /// The other end refused.
    #[error("the other qube refused it: {}", refusal(*code, last_name.as_deref()))]
    Refused {
        /// Its code.
        code: u32,
        /// The last name it saw, made printable.
        last_name: Option<String>,
    },
    /// The checksums differ.
    #[error("the other qube received something else than was sent")]
    Checksum,
}

impl SendError {
    /// Whether repeating the transfer could go on where it stopped.
    pub fn is_interruption(&self) -> bool {
        match self {
            Self::Connection(_) | Self::NoAnswer => true,
            Self::Refused { code, .. } => {
                matches!(*code, code::EREMOTEIO | code::UNEXPECTED_EOF)
            }
            _ => false,
        }
    }
}

fn refusal(number: u32, last_name: Option<&str>) -> String {
    let what = match number {
        code::EEXIST => "a file of this name is there already".to_owned(),
        code::EINVAL => "it cannot receive an item of this kind".to_owned(),
        code::EILSEQ | code::EILSEQ_OF_DIRECTORY => {
            "the name has characters that are not allowed".to_owned()
        }
        code::ENOLINK => "the symbolic link is not safe".to_owned(),
        code::EDQUOT => "it is more than may be sent".to_owned(),
        code::ENOSPC => "its disk is full".to_owned(),
        code::ENAMETOOLONG => "the name is too long".to_owned(),
        code::EREMOTEIO | code::UNEXPECTED_EOF => "the stream ended early".to_owned(),
        other => match i32::try_from(other) {
            Ok(errno) => io::Error::from_raw_os_error(errno).to_string(),
            Err(_) => format!("unknown code {other}"),
        },
    };
    match last_name {
        Some(name) if !name.is_empty() => format!("{what} (last: \"{name}\")"),
        _ => what,
    }
}
