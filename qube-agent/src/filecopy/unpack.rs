//! The services `qubes.Filecopy` and `bulkhead.Filecopy`.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bulkhead_wire::causes::chain;
use bulkhead_wire::filecopy::{Dialect, Limits, Names, offer};

use super::error::ReceiveError;
use super::kept::Kept;
use super::place::Place;
use super::receive::{ReceiveOptions, receive};

/// Service argument with which any name is accepted.
const ALL_NAMES: &str = "allow-all-names";

/// Receives files from the qube that called, as `qubes.Filecopy` or, with `--resumable`, as
/// `bulkhead.Filecopy`. Arguments as the service gives them: nothing, or `allow-all-names`.
///
/// Exit codes: 0 done, 1 not; what went wrong is also told to the sender.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let mut names = Names::Listed;
    let mut dialect = Dialect::Plain;
    for argument in &arguments {
        match argument.to_str() {
            Some("") => {}
            Some("--resumable") => dialect = Dialect::Resumable,
            Some(text) if text == ALL_NAMES || text.strip_prefix("--") == Some(ALL_NAMES) => {
                names = Names::All;
            }
            _ => {
                eprintln!("qfile-unpacker: unknown argument `{}`", argument.display());
                return ExitCode::FAILURE;
            }
        }
    }
    let options = ReceiveOptions {
        names,
        dialect,
        limits: Limits::default(),
    };
    // Unbuffered: whole chunks are read and written.
    let input = std::fs::File::from(match rustix::io::dup(rustix::stdio::stdin()) {
        Ok(input) => input,
        Err(error) => return fail(&ReceiveError::Read(error.into())),
    });
    match serve(input, &mut std::io::stdout(), options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("qfile-unpacker: {}", chain(error));
    ExitCode::FAILURE
}

fn serve(
    mut input: impl Read,
    output: &mut impl Write,
    options: ReceiveOptions,
) -> Result<(), ReceiveError> {
    let source = std::env::var("QREXEC_REMOTE_DOMAIN").unwrap_or_default();
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
    let place = match Place::open(&home, &state_folder(), &source) {
        Ok(place) => place,
        Err(error) => {
            tell(output, error.code(), 0, None);
            return Err(error);
        }
    };
    if options.dialect == Dialect::Resumable {
        let offers = Kept::open(&place).map(|kept| kept.offers());
        let offers = offers.map_err(|source| place.error(source))?;
        let sent = output.write_all(&offer::encode(&offers));
        sent.and_then(|()| output.flush())
            .map_err(ReceiveError::Read)?;
    }
    let (outcome, result) = receive(&mut input, &place, options);
    tell(output, outcome.code, outcome.crc, outcome.last_name);
    result
}

/// A sender that went away cannot be told.
fn tell(output: &mut impl Write, code: u32, crc: u32, last_name: Option<Vec<u8>>) {
    let outcome = bulkhead_wire::filecopy::Outcome {
        code,
        crc,
        last_name,
    };
    let _ = output.write_all(&outcome.encode());
    let _ = output.flush();
}

/// The folder of the staging areas of all sources.
pub fn staging_areas() -> PathBuf {
    state_folder().join(super::place::AREAS)
}

/// The user's state folder, from `XDG_STATE_HOME` or below the home folder.
pub(crate) fn state_folder() -> PathBuf {
    let home = || std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
    std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .unwrap_or_else(|| home().join(".local/state"))
}
