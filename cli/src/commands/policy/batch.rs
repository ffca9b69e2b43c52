//! `policy eval --batch`: one call a line, judged against the policy and the machine in the same
//! line. Nothing of this machine is read.

mod case;

use std::io::{self, BufRead, BufReader, Write};

use crate::exit::Exit;
use crate::failure::Failure;

use super::outcome::Outcome;
use case::Judge;

/// Longest line, in bytes; a policy of ten thousand rules is about one MiB. What is longer is
/// answered by an error.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;

/// Answers standard input on standard output until it ends.
pub(super) fn batch() -> Result<Exit, Failure> {
    let input = BufReader::with_capacity(READ_BYTES, io::stdin().lock());
    let output = io::BufWriter::new(io::stdout().lock());
    match answer_all(input, output) {
        // Nobody reads the answers any more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(error) => Err(Failure::io("calls cannot be read or answered", &error)),
        Ok(()) => Ok(Exit::Done),
    }
}

/// Answers each line with a line, in order. What is written is sent on before waiting for more, so
/// that a program which asks one thing at a time gets its answer.
fn answer_all<R: io::Read>(mut input: BufReader<R>, mut output: impl Write) -> io::Result<()> {
    let mut judge = Judge::default();
    let mut line = Vec::new();
    loop {
        if !input.buffer().contains(&b'\n') {
            output.flush()?;
        }
        let outcome = match read_line(&mut input, &mut line)? {
            Read::End => return output.flush(),
            Read::TooLong => {
                Outcome::malformed(format!("the line is longer than {LINE_BYTES_MAX} bytes"))
            }
            Read::Line => judge.answer(&line),
        };
        serde_json::to_writer(&mut output, &outcome)?;
        output.write_all(b"\n")?;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Read {
    Line,
    TooLong,
    End,
}

/// Reads a line without its end; of one that is too long, the rest is skipped.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Read> {
    line.clear();
    let mut any = false;
    let mut too_long = false;
    loop {
        let ready = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            ready => ready?,
        };
        if ready.is_empty() {
            break;
        }
        any = true;
        let end = ready.iter().position(|byte| *byte == b'\n');
        let (part, used) = match end {
            Some(end) => (ready.get(..end).unwrap_or_default(), end + 1),
            None => (ready, ready.len()),
        };
        too_long |= line.len() + part.len() > LINE_BYTES_MAX;
        if too_long {
            line.clear();
        } else {
            line.extend_from_slice(part);
        }
        input.consume(used);
        if end.is_some() {
            break;
        }
    }
    Ok(match (any, too_long) {
        (false, _) => Read::End,
        (true, true) => Read::TooLong,
        (true, false) => Read::Line,
    })
}

#[cfg(test)]
mod tests;
