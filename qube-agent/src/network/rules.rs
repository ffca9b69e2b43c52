//! What may pass through a qube that serves others: rules for `nft`.
//!
//! A qube that is served reaches what is behind this one, under its own address and no other. It
//! reaches no other qube that is served here, and nothing in this qube itself.

use std::net::Ipv4Addr;

use super::interfaces::Backend;

/// Resolvers as every qube knows them. Whoever is the last on the way out puts real ones in their
/// place.
const VIRTUAL_RESOLVERS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 139, 1, 1), Ipv4Addr::new(10, 139, 1, 2)];

/// All rules, in place of those that were there before.
pub(super) fn rules(clients: &[Backend], resolver: Option<Ipv4Addr>) -> String {
    let known: Vec<_> = clients
        .iter()
        .filter_map(|client| Some(format!("\"{}\" . {}", client.name, client.address?)))
        .collect();
    let elements = if known.is_empty() {
        String::new()
    } else {
        format!("\n        elements = {{ {} }}", known.join(", "))
    };
    let [first, second] = VIRTUAL_RESOLVERS;
    // One in this qube itself cannot be reached from others.
    let real = resolver.filter(|real| !VIRTUAL_RESOLVERS.contains(real) && !real.is_loopback());
    let names = real.map_or_else(String::new, |real| {
        format!(
            "\n        iifname \"vif*\" ip daddr {{ {first}, {second} }} meta l4proto {{ tcp, udp }} \
             th dport 53 dnat ip to {real}"
        )
    });
    format!(
        "\
table inet bulkhead
delete table inet bulkhead
table inet bulkhead {{
    set clients {{
        typeof iifname . ip saddr{elements}
    }}
    chain source {{
        type filter hook prerouting priority raw; policy accept;
        iifname != \"vif*\" accept
        iifname . ip saddr @clients accept
        drop
    }}
    chain names {{
        type nat hook prerouting priority dstnat; policy accept;{names}
    }}
    chain here {{
        type filter hook input priority filter; policy accept;
        iifname != \"vif*\" accept
        ct state established,related accept
        drop
    }}
    chain through {{
        type filter hook forward priority filter; policy drop;
        ct state invalid drop
        ct state established,related accept
        oifname \"vif*\" drop
        iifname \"vif*\" accept
    }}
    chain out {{
        type nat hook postrouting priority srcnat; policy accept;
        iifname \"vif*\" oifname != \"vif*\" masquerade
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(domain: u16, address: Option<Ipv4Addr>) -> Backend {
        Backend {
            path: String::new(),
            name: format!("vif{domain}.0"),
            domain,
            address,
            hardware: None,
            over: false,
            connected: true,
        }
    }

    #[test]
    fn each_client_passes_under_its_own_address() {
        let clients = [
            client(5, Some(Ipv4Addr::new(10, 137, 0, 5))),
            client(6, None),
            client(7, Some(Ipv4Addr::new(10, 137, 0, 7))),
        ];
        let resolver = Some(Ipv4Addr::new(192, 168, 1, 1));
        insta::assert_snapshot!(rules(&clients, resolver), @r#"
        table inet bulkhead
        delete table inet bulkhead
        table inet bulkhead {
            set clients {
                typeof iifname . ip saddr
                elements = { "vif5.0" . 10.137.0.5, "vif7.0" . 10.137.0.7 }
            }
            chain source {
                type filter hook prerouting priority raw; policy accept;
                iifname != "vif*" accept
                iifname . ip saddr @clients accept
                drop
            }
            chain names {
                type nat hook prerouting priority dstnat; policy accept;
                iifname "vif*" ip daddr { 10.139.1.1, 10.139.1.2 } meta l4proto { tcp, udp } th dport 53 dnat ip to 192.168.1.1
            }
            chain here {
                type filter hook input priority filter; policy accept;
                iifname != "vif*" accept
                ct state established,related accept
                drop
            }
            chain through {
                type filter hook forward priority filter; policy drop;
                ct state invalid drop
                ct state established,related accept
                oifname "vif*" drop
                iifname "vif*" accept
            }
            chain out {
                type nat hook postrouting priority srcnat; policy accept;
                iifname "vif*" oifname != "vif*" masquerade
            }
        }
        "#);
    }

    #[test]
    fn without_clients_or_a_resolver_of_its_own_the_rest_stays() {
        let rules = rules(&[], Some(VIRTUAL_RESOLVERS[0]));
        assert!(!rules.contains("elements"), "{rules}");
        assert!(!rules.contains("dnat"), "{rules}");
        assert!(rules.contains("policy drop"), "{rules}");
    }
}
