//! Qubes of other machines.

use crate::decode::{Located, section};
use crate::name::QubeName;

section! {
    /// A qube of another machine.
    pub(crate) struct RemoteOptions as "Remote" {
        /// Its label.
        label: String = "must be given", "0.1";
        /// The qube through which it is reached. It alone may call in its name.
        relayvm: QubeName = "must be given", "0.1";
        /// The service in that qube which carries calls to it.
        transport_rpc: String = "must be given", "0.1";
        /// Its name on its own machine.
        remote_name: QubeName = "its name here", "0.1";
        /// Tags, for policy.
        tags: Vec<Located<String>> = "none", "0.1";
    }
}
