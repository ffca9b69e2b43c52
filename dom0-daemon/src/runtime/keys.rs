//! What dom0 tells a qube through QubesDB. Source: wire page on QubesDB, section 5.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Description, Qube, QubeKind};

use crate::address;
use crate::hypervisor::DomId;

/// Values by path.
pub(super) type Keys = BTreeMap<String, Vec<u8>>;

/// Longest name below `/qubes-service/`.
const SERVICE_NAME_MAX: usize = 48;
/// Longest name below `/vm-config/`.
const CONFIG_NAME_MAX: usize = 52;
/// Longest value of any key.
const VALUE_MAX: usize = 3071;
/// Bytes of `/qubes-random-seed` before they are encoded.
const SEED_BYTES: usize = 64;

fn hardware_address(domid: DomId) -> String {
    let bytes = address::hardware(domid).map(|byte| format!("{byte:02x}"));
    bytes.join(":")
}

/// What a qube that runs as `domid` must know of the domain that is its network; nothing without.
pub(super) fn network_keys(domid: DomId, netvm: Option<DomId>) -> Keys {
    let Some(netvm) = netvm else {
        return Keys::new();
    };
    let keys = [
        ("/qubes-mac", hardware_address(domid)),
        ("/qubes-ip", address::of(domid).to_string()),
        ("/qubes-netmask", "255.255.255.255".to_owned()),
        ("/qubes-gateway", address::gateway(netvm).to_string()),
        ("/qubes-primary-dns", "10.139.1.1".to_owned()),
        ("/qubes-secondary-dns", "10.139.1.2".to_owned()),
    ];
    keys.map(|(path, value)| (path.to_owned(), value.into_bytes()))
        .into()
}

/// What a qube that provides network must know of the domains that it serves.
pub(super) fn clients_keys(clients: &[DomId]) -> Keys {
    let addresses: Vec<String> = clients
        .iter()
        .map(|&c| address::of(c).to_string())
        .collect();
    let value = addresses.join(" ").into_bytes();
    [("/connected-ips".to_owned(), value)].into()
}

/// All keys for `qube`, which runs as `domid` and serves `clients`.
pub(super) fn keys(qube: &Qube, domid: DomId, netvm: Option<DomId>, clients: &[DomId]) -> Keys {
    let mut keys = BTreeMap::new();
    let mut set = |path: &str, value: String| {
        keys.insert(path.to_owned(), value.into_bytes());
    };
    let disposable = qube.kind == QubeKind::NamedDisposable;
    set("/name", qube.name.to_string());
    set("/type", qube.kind.class().to_owned());
    let legacy = match (qube.kind, qube.provides_network, &qube.netvm) {
        (QubeKind::Template, _, _) => "TemplateVM",
        (_, true, None) => "NetVM",
        (_, true, Some(_)) => "ProxyVM",
        (_, false, _) => "AppVM",
    };
    set("/qubes-vm-type", legacy.to_owned());
    set("/default-user", qube.default_user.clone());
    let whole = matches!(qube.kind, QubeKind::Template | QubeKind::Standalone);
    let updateable = if whole { "True" } else { "False" };
    set("/qubes-vm-updateable", updateable.to_owned());
    let persistence = match (whole, disposable) {
        (true, _) => "full",
        (false, true) => "none",
        (false, false) => "rw-only",
    };
    set("/qubes-vm-persistence", persistence.to_owned());
    set("/qubes-debug-mode", "0".to_owned());
    let template = qube.template.as_ref().map(ToString::to_string);
    set("/qubes-base-template", template.unwrap_or_default());
    for path in [
        "/qubes-block-devices",
        "/qubes-usb-devices",
        "/qubes-iptables-error",
    ] {
        set(path, String::new());
    }
    if let Some(seed) = random_seed() {
        set("/qubes-random-seed", seed);
    }
    if !is_on(&qube.features, "anon-timezone")
        && let Some(zone) = timezone()
    {
        set("/qubes-timezone", zone);
    }
    set("/qubes-service/meminfo-writer", "1".to_owned());
    if qube.provides_network {
        set("/qubes-netvm-network", address::gateway(domid).to_string());
        set("/qubes-netvm-gateway", address::gateway(domid).to_string());
        set("/qubes-netvm-netmask", "255.255.255.255".to_owned());
        set("/qubes-netvm-primary-dns", "10.139.1.1".to_owned());
        set("/qubes-netvm-secondary-dns", "10.139.1.2".to_owned());
        keys.extend(clients_keys(clients));
    }
    keys.extend(network_keys(domid, netvm));
    keys.extend(service_keys(&qube.services));
    keys.extend(feature_keys(&qube.features));
    keys.retain(|_, value| value.len() <= VALUE_MAX && !value.contains(&0));
    keys
}

/// Whether the qube's windows are shown, and by whom if they are.
pub(super) fn window_keys(shown: bool) -> Keys {
    let enabled = if shown { "True" } else { "False" };
    let mut keys = Keys::from([("/qubes-gui-enabled".to_owned(), enabled.into())]);
    if shown {
        keys.insert("/qubes-gui-domain-xid".to_owned(), "0".into());
    }
    keys
}

/// `/remote/NAME` for each qube of another machine that `relay` relays for: its name there.
pub(super) fn remote_keys(relay: &QubeName, description: &Description) -> Keys {
    let remotes = description.remotes.values();
    let own = remotes.filter(|remote| remote.relayvm == *relay);
    own.map(|remote| {
        let path = format!("/remote/{}", remote.name);
        (path, remote.remote_name.to_string().into_bytes())
    })
    .collect()
}

/// `/qubes-service/NAME` for each service that is switched on or off.
pub(super) fn service_keys(services: &BTreeMap<String, bool>) -> Keys {
    let fits = |name: &str| name.len() <= SERVICE_NAME_MAX && !name.contains('/');
    services
        .iter()
        .filter(|(name, _)| fits(name))
        .map(|(name, on)| {
            let value = if *on { "1" } else { "0" };
            (format!("/qubes-service/{name}"), value.into())
        })
        .collect()
}

/// Keys that come from features: services and `vm-config.NAME`.
pub(super) fn feature_keys(features: &BTreeMap<String, String>) -> Keys {
    let mut keys = BTreeMap::new();
    for (name, value) in features {
        if let Some(service) = name.strip_prefix("service.")
            && service.len() <= SERVICE_NAME_MAX
            && !service.contains('/')
        {
            let on = if value.is_empty() { "0" } else { "1" };
            keys.insert(format!("/qubes-service/{service}"), on.into());
        }
        if let Some(key) = name.strip_prefix("vm-config.")
            && key.len() <= CONFIG_NAME_MAX
            && key.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            keys.insert(format!("/vm-config/{key}"), value.clone().into_bytes());
        }
    }
    keys
}

fn is_on(features: &BTreeMap<String, String>, name: &str) -> bool {
    features.get(name).is_some_and(|value| !value.is_empty())
}

fn timezone() -> Option<String> {
    let link = std::fs::read_link("/etc/localtime").ok()?;
    let text = link.to_str()?;
    let (_, zone) = text.split_once("zoneinfo/")?;
    Some(zone.to_owned())
}

/// 64 random bytes in base64.
fn random_seed() -> Option<String> {
    let mut bytes = [0; SEED_BYTES];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .ok()?;
    Some(base64(&bytes))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0u32, |all, byte| all << 8 | u32::from(*byte));
        let group = group << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = (group >> (18 - 6 * digit)) & 0x3f;
            let byte = DIGITS.get(index as usize).filter(|_| digit <= chunk.len());
            text.push(byte.map_or('=', |byte| char::from(*byte)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes), text);
        }
    }

    #[test]
    fn names_past_their_limits_become_no_keys() {
        let fits = "s".repeat(SERVICE_NAME_MAX);
        let services = [(fits.clone(), true), (fits.clone() + "s", true)].into();
        let keys = service_keys(&services);
        assert_eq!(
            keys.into_keys().collect::<Vec<_>>(),
            [format!("/qubes-service/{fits}")]
        );
        let features: BTreeMap<String, String> = [
            ("vm-config.x", "v"),
            ("vm-config.1x", "v"),
            ("service.a", "1"),
            ("service.b", ""),
            ("other", "1"),
        ]
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .into();
        let keys: Vec<_> = feature_keys(&features)
            .into_iter()
            .map(|(k, v)| format!("{k}={}", String::from_utf8(v).unwrap()))
            .collect();
        let expect = ["/qubes-service/a=1", "/qubes-service/b=0", "/vm-config/x=v"];
        assert_eq!(keys, expect);
    }
}
