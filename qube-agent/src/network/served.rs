//! The qubes that this one is the network of.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;

use bulkhead_vchan::xen::store::Store;

use super::interfaces::{self, Backend};
use super::{NetworkError, resolvers, rules, tools};

/// The driver of the interfaces of others.
const DRIVER: &str = "xen-netback";

/// Whether packets pass through at all.
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Routes to qubes; higher numbers are worse, so that a newer domain of the same address wins.
const METRIC: u32 = 32752;

/// What was set.
#[derive(Debug, Default)]
pub(super) struct Served {
    started: bool,
    rules: Option<String>,
    set: BTreeSet<String>,
}

impl Served {
    /// Serves all that dom0 wants served; false where an interface is still to come.
    pub(super) fn settle(
        &mut self,
        store: &mut Store,
        gateway: Option<Ipv4Addr>,
    ) -> Result<bool, NetworkError> {
        let Some(gateway) = gateway else {
            return Ok(true);
        };
        if !self.started {
            tools::modprobe(DRIVER)?;
        }
        let (over, there): (Vec<_>, Vec<_>) = interfaces::backends(store)?
            .into_iter()
            .partition(|backend| backend.over);
        for backend in &over {
            interfaces::forget(store, backend)?;
        }
        // The rules first: nothing passes that they have not seen.
        let rules = rules::rules(&there, resolvers::first());
        if self.rules.as_ref() != Some(&rules) {
            tools::nft(&rules)?;
            self.rules = Some(rules);
        }
        if !self.started {
            write(FORWARD, "1")?;
            self.started = true;
        }
        self.set
            .retain(|set| there.iter().any(|backend| backend.name == *set));
        let mut complete = true;
        for backend in there {
            if !interfaces::exists(&backend.name) {
                complete = false;
                continue;
            }
            // One of the same name that nobody has connected is a new one.
            if !backend.connected || !self.set.contains(&backend.name) {
                connect(&backend, gateway)?;
                interfaces::connected(store, &backend)?;
                self.set.insert(backend.name);
            }
        }
        Ok(complete)
    }
}

fn connect(backend: &Backend, gateway: Ipv4Addr) -> Result<(), NetworkError> {
    tools::ip(&commands(backend, gateway))?;
    // Guests that ask who has the address of the gateway, or of anything else, get an answer.
    write(
        &format!("/proc/sys/net/ipv4/conf/{}/proxy_arp", backend.name),
        "1",
    )
}

/// For `ip -batch`.
fn commands(backend: &Backend, gateway: Ipv4Addr) -> String {
    let name = &backend.name;
    let mut commands = format!(
        "link set dev {name} up\n\
         address replace {gateway}/32 dev {name}\n"
    );
    if let Some(address) = backend.address {
        if let Some(hardware) = backend.hardware {
            commands.push_str(&format!(
                "neighbour replace {address} dev {name} lladdr {hardware} nud permanent\n"
            ));
        }
        let metric = METRIC.saturating_sub(backend.domain.into());
        commands.push_str(&format!(
            "route replace {address} dev {name} scope link src {gateway} metric {metric}\n"
        ));
    }
    commands
}

fn write(path: &str, text: &str) -> Result<(), NetworkError> {
    fs::write(path, text).map_err(|source| NetworkError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_reached_by_its_interface_alone() {
        let backend = Backend {
            path: "backend/vif/300/0".to_owned(),
            name: "vif300.0".to_owned(),
            domain: 300,
            address: Some(Ipv4Addr::new(10, 137, 1, 44)),
            hardware: "00:16:3e:5e:01:2c".parse().ok(),
            over: false,
            connected: false,
        };
        let gateway = Ipv4Addr::new(10, 138, 0, 3);
        insta::assert_snapshot!(commands(&backend, gateway), @r"
        link set dev vif300.0 up
        address replace 10.138.0.3/32 dev vif300.0
        neighbour replace 10.137.1.44 dev vif300.0 lladdr 00:16:3e:5e:01:2c nud permanent
        route replace 10.137.1.44 dev vif300.0 scope link src 10.138.0.3 metric 32452
        ");
        let nameless = Backend {
            address: None,
            ..backend
        };
        assert_eq!(commands(&nameless, gateway).lines().count(), 2);
    }
}
