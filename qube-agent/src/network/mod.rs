//! The network of a qube on Xen: its own interface, and those of the qubes that it serves.
//!
//! dom0 decides who is whose network: by QubesDB, and by xenstore below `device/vif` (what this qube
//! has) and `backend/vif` (what it provides). After each change there, everything is looked at
//! again and set as it should be ([`settle`]): nothing depends on the order in which things appear.
//!
//! - [`settings`]: what QubesDB says.
//! - [`interfaces`]: what xenstore says.
//! - [`own`]: the way out.
//! - [`served`]: the qubes that this one is the network of.
//! - [`rules`]: what may pass.
//! - [`tools`]: `ip`, `nft` and `modprobe`, which do it.

mod hardware;
mod interfaces;
mod own;
mod resolvers;
mod rules;
mod served;
mod settings;
mod tools;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use thiserror::Error;

use bulkhead_vchan::xen::store::{Store, StoreError};

use self::own::Own;
use self::served::Served;
use self::settings::Settings;
use self::tools::ToolError;
use crate::qubesdb::RequestError;

const NAME: &str = "qube-network";

/// Waits for changes that come together.
const GATHER: Duration = Duration::from_millis(10);

/// Until what is not there yet is looked for again: an interface that xenstore has told of, and that
/// the kernel is about to make. Twice as long each time.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The longest of these pauses. After it only the next change makes another look.
const LOOK_LAST: Duration = Duration::from_secs(10);

/// Why the network is not as it should be.
#[derive(Debug, Error)]
pub(crate) enum NetworkError {
    #[error("it takes no arguments, got `{0}`")]
    Argument(String),
    #[error("the settings of this qube cannot be read")]
    Settings(#[source] RequestError),
    #[error("`{0}` in QubesDB is no address")]
    Address(&'static str),
    #[error("xenstore fails")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("cannot write `{path}`")]
    Write {
        path: String,
        source: std::io::Error,
    },
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    #[error("what tells of changes has ended")]
    Blind,
}

/// Keeps the network as dom0 wants it, until the qube ends.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let Err(error) = match arguments.first() {
        Some(first) => {
            crate::report::log(NAME, &NetworkError::Argument(first.display().to_string()));
            return ExitCode::from(2);
        }
        None => run(),
    };
    crate::report::log(NAME, &error);
    ExitCode::FAILURE
}

fn run() -> Result<std::convert::Infallible, NetworkError> {
    let changes = watch::changes()?;
    let mut store = Store::open()?;
    let (mut own, mut served) = (Own::default(), Served::default());
    let mut pause = LOOK_AGAIN;
    loop {
        let complete = settle(&mut store, &mut own, &mut served).unwrap_or_else(|error| {
            crate::report::log(NAME, &error);
            false
        });
        // What failed may work when all is there; what goes on failing is not tried for ever.
        let next = if complete || pause > LOOK_LAST {
            changes.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            changes.recv_timeout(pause)
        };
        match next {
            Ok(()) => {
                // An interface comes as many changes; one look is for all of them.
                std::thread::sleep(GATHER);
                while changes.try_recv().is_ok() {}
                pause = LOOK_AGAIN;
            }
            Err(RecvTimeoutError::Timeout) => pause *= 2,
            Err(RecvTimeoutError::Disconnected) => return Err(NetworkError::Blind),
        }
    }
}

/// Makes everything as it should be; false where something that is to come is not there yet.
fn settle(store: &mut Store, own: &mut Own, served: &mut Served) -> Result<bool, NetworkError> {
    let settings = Settings::read()?;
    let out = own.settle(settings.own.as_ref())?;
    let clients = served.settle(store, settings.gateway)?;
    Ok(out && clients)
}
