//! What a test and the program in its dom0 say to each other, over a serial port of the machine.
//!
//! Frames: length in bytes (u32, little endian), then a [`Request`] or [`Report`] as postcard.
//! Both ends are ours and of one build.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest frame: a part of a file and its name.
pub const FRAME_MAX: usize = 1 << 20;

/// Bytes of a file or of output in one frame.
pub const PART_MAX: usize = 256 << 10;

/// Names one thing that was asked for; never used twice by one test.
pub type Ticket = u32;

/// What a test asks of dom0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Answered by [`Report::Hello`]: says that what comes after belongs to this test.
    Hello(u64),
    /// Starts a program. Its input stays open until an empty [`Request::Input`].
    Start {
        /// Of the program.
        ticket: Ticket,
        /// Name and arguments.
        words: Vec<String>,
    },
    /// Bytes for the standard input of a program; none at all ends it.
    Input {
        /// Of the program.
        ticket: Ticket,
        /// What to write.
        bytes: Vec<u8>,
    },
    /// Kills a program and what it started.
    Kill {
        /// Of the program.
        ticket: Ticket,
    },
}

/// A stream of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// What dom0 tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Answers [`Request::Hello`] with its number.
    Hello(u64),
    /// What a program wrote.
    Output {
        /// Of the program.
        ticket: Ticket,
        /// Where to.
        stream: Stream,
        /// What.
        bytes: Vec<u8>,
    },
    /// The program is over, and all its output was told.
    Ended {
        /// Of the program.
        ticket: Ticket,
        /// Its exit code; 128 and the signal's number where one ended it.
        code: i32,
    },
    /// The program could not be started.
    Failed {
        /// Of the program.
        ticket: Ticket,
        /// Why.
        why: String,
    },
}

/// Writes one frame.
pub fn write<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= FRAME_MAX)
        .ok_or_else(|| io::Error::other("a message is longer than a frame"))?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(body);
    to.write_all(&frame)
}

/// Reads one frame; none at the end of the stream.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_MAX {
        return Err(io::Error::other("a frame is longer than they may be"));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    postcard::from_bytes(&body)
        .map(Some)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_one_past_the_longest_is_neither_written_nor_read() {
        let at = |length| Request::Input {
            ticket: 1,
            bytes: vec![0; length],
        };
        let overhead = postcard::to_stdvec(&at(PART_MAX)).unwrap().len() - PART_MAX;
        let mut frame = Vec::new();
        write(&mut frame, &at(FRAME_MAX - overhead)).unwrap();
        assert!(read::<Request>(&mut frame.as_slice()).unwrap().is_some());
        assert!(write(&mut frame, &at(FRAME_MAX - overhead + 1)).is_err());
        let length = u32::try_from(FRAME_MAX + 1).unwrap().to_le_bytes();
        assert!(read::<Request>(&mut length.as_slice()).is_err());
    }

    #[test]
    fn the_end_of_the_stream_is_no_error_and_half_a_frame_is() {
        assert_eq!(read::<Report>(&mut [].as_slice()).unwrap(), None);
        let mut frame = Vec::new();
        write(&mut frame, &Report::Hello(7)).unwrap();
        frame.pop();
        assert!(read::<Report>(&mut frame.as_slice()).is_err());
    }
}
