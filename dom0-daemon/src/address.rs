//! Addresses of domains, as Qubes gives them out: they follow from the domain's number.

use std::net::Ipv4Addr;

use crate::hypervisor::DomId;

/// The last two bytes of each.
fn number(domid: DomId) -> [u8; 2] {
    let [.., high, low] = domid.0.to_be_bytes();
    [high, low]
}

/// Of a domain itself.
pub(crate) fn of(domid: DomId) -> Ipv4Addr {
    let [high, low] = number(domid);
    Ipv4Addr::new(10, 137, high, low)
}

/// By which a domain that provides network is a gateway.
pub(crate) fn gateway(domid: DomId) -> Ipv4Addr {
    let [high, low] = number(domid);
    Ipv4Addr::new(10, 138, high, low)
}

/// Of its network interface.
pub(crate) fn hardware(domid: DomId) -> [u8; 6] {
    let [high, low] = number(domid);
    [0x00, 0x16, 0x3e, 0x5e, high, low]
}
