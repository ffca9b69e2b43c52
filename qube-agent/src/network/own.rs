//! The way out of this qube.

use super::hardware::BACKEND;
use super::interfaces::Frontend;
use super::settings::OwnSettings;
use super::{NetworkError, interfaces, resolvers, tools};

/// The driver of the interface, which nothing else may have loaded yet.
const DRIVER: &str = "xen-netfront";

/// What was set.
#[derive(Debug, Default)]
pub(super) struct Own {
    started: bool,
    set: Option<(Frontend, OwnSettings)>,
}

impl Own {
    /// Sets the interface as it should be; false where it is still to come.
    pub(super) fn settle(&mut self, settings: Option<&OwnSettings>) -> Result<bool, NetworkError> {
        if settings.is_some() && !self.started {
            tools::modprobe(DRIVER)?;
            self.started = true;
        }
        let interface = interfaces::first_frontend();
        let (Some(settings), Some(interface)) = (settings, interface) else {
            // What was set goes with its interface.
            self.set = None;
            return Ok(settings.is_none());
        };
        let wanted = (interface, settings.clone());
        if self.set.as_ref() != Some(&wanted) {
            tools::ip(&commands(&wanted.0.name, settings))?;
            resolvers::write(&settings.resolvers)?;
            self.set = Some(wanted);
        }
        Ok(true)
    }
}

/// For `ip -batch`. There is no network behind the interface but the one qube, whose hardware address
/// is known: nobody is asked, and nobody can answer in its place.
fn commands(interface: &str, settings: &OwnSettings) -> String {
    let OwnSettings {
        address, gateway, ..
    } = settings;
    format!(
        "address flush dev {interface}\n\
         link set dev {interface} up\n\
         address add {address}/32 dev {interface}\n\
         neighbour replace {gateway} dev {interface} lladdr {BACKEND} nud permanent\n\
         route replace {gateway} dev {interface} scope link src {address}\n\
         route replace default via {gateway} dev {interface} src {address} onlink\n"
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn everything_goes_to_the_one_neighbour() {
        let settings = OwnSettings {
            address: Ipv4Addr::new(10, 137, 0, 7),
            gateway: Ipv4Addr::new(10, 138, 0, 3),
            resolvers: Vec::new(),
        };
        insta::assert_snapshot!(commands("eth0", &settings), @r"
        address flush dev eth0
        link set dev eth0 up
        address add 10.137.0.7/32 dev eth0
        neighbour replace 10.138.0.3 dev eth0 lladdr fe:ff:ff:ff:ff:ff nud permanent
        route replace 10.138.0.3 dev eth0 scope link src 10.137.0.7
        route replace default via 10.138.0.3 dev eth0 src 10.137.0.7 onlink
        ");
    }
}
