//! What QubesDB says of this qube's network.

use std::net::Ipv4Addr;

use super::NetworkError;
use crate::qubesdb::{Connection, RequestError};

/// The way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnSettings {
    /// Address of this qube.
    pub(super) address: Ipv4Addr,
    /// The qube that is its network.
    pub(super) gateway: Ipv4Addr,
    /// Who resolves names, best first.
    pub(super) resolvers: Vec<Ipv4Addr>,
}

/// All of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// None where this qube has no network.
    pub(super) own: Option<OwnSettings>,
    /// By which the qubes that it serves know it; none where it serves none.
    pub(super) gateway: Option<Ipv4Addr>,
}

const RESOLVERS: [&str; 2] = ["/qubes-primary-dns", "/qubes-secondary-dns"];

impl Settings {
    /// Asks the daemon of QubesDB.
    pub(super) fn read() -> Result<Self, NetworkError> {
        let mut database = Connection::open(None).map_err(NetworkError::Settings)?;
        Self::from(|path| match database.read(path.as_bytes()) {
            Ok(value) => Ok(String::from_utf8_lossy(value.as_bytes()).into_owned()),
            Err(RequestError::Missing) => Ok(String::new()),
            Err(error) => Err(NetworkError::Settings(error)),
        })
    }

    /// An empty value is one that is not there.
    fn from(
        mut value: impl FnMut(&'static str) -> Result<String, NetworkError>,
    ) -> Result<Self, NetworkError> {
        let mut address = |path: &'static str| {
            let text = value(path)?;
            if text.is_empty() {
                return Ok(None);
            }
            text.parse()
                .map(Some)
                .map_err(|_| NetworkError::Address(path))
        };
        let own = match (address("/qubes-ip")?, address("/qubes-gateway")?) {
            (Some(own), Some(gateway)) => {
                let mut resolvers = Vec::new();
                for path in RESOLVERS {
                    resolvers.extend(address(path)?);
                }
                Some(OwnSettings {
                    address: own,
                    gateway,
                    resolvers,
                })
            }
            _ => None,
        };
        Ok(Self {
            own,
            gateway: address("/qubes-netvm-gateway")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(keys: &[(&str, &str)]) -> Result<Settings, String> {
        let value = |path: &str| {
            let found = keys.iter().find(|(key, _)| *key == path);
            Ok(found
                .map(|(_, value)| (*value).to_owned())
                .unwrap_or_default())
        };
        Settings::from(value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_qube_has_a_network_serves_others_both_or_neither() {
        let own = [
            ("/qubes-ip", "10.137.0.7"),
            ("/qubes-gateway", "10.138.0.3"),
            ("/qubes-secondary-dns", "10.139.1.2"),
        ];
        let found = from(&own).unwrap();
        assert_eq!(
            found.own.unwrap(),
            OwnSettings {
                address: Ipv4Addr::new(10, 137, 0, 7),
                gateway: Ipv4Addr::new(10, 138, 0, 3),
                resolvers: vec![Ipv4Addr::new(10, 139, 1, 2)],
            }
        );
        assert_eq!(found.gateway, None);
        let serves = from(&[("/qubes-netvm-gateway", "10.138.0.3")]).unwrap();
        assert_eq!(serves.own, None);
        assert_eq!(serves.gateway, Some(Ipv4Addr::new(10, 138, 0, 3)));
        assert_eq!(from(&[]).unwrap(), Settings::default());
    }

    #[test]
    fn what_is_no_address_is_told_by_its_key() {
        let told = from(&[("/qubes-ip", "10.137.0.7; reboot")]).unwrap_err();
        assert_eq!(told, "`/qubes-ip` in QubesDB is no address");
    }
}
