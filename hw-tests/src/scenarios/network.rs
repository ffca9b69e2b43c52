//! Qubes that are the network of other qubes: who reaches what, and under whose address.

use anyhow::{Context, Result, bail, ensure};
use bulkhead_hw_tests::line::PATIENCE;
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::calls::Guests;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "network::a_qube_reaches_the_world_through_its_chain_and_nothing_else",
    needs: &[Need::Xen, Need::Throwaway],
    when: When::All,
    from: Start::Bare,
    run: a_chain,
}];

/// What is behind `sys-net`: a server that says who called, in a network of its own.
pub(super) const WORLD: &str = "ip netns add world && ip link add up0 type veth peer name far && \
    ip link set far netns world && ip address add 192.0.2.1/24 dev up0 && ip link set up0 up && \
    ip -n world address add 192.0.2.80/24 dev far && ip -n world link set far up && \
    echo nameserver 192.0.2.80 > /etc/resolv.conf && \
    { ip netns exec world perl -e 'use IO::Socket::INET; for my $p (80, 53) { next if fork; \
      my $s = IO::Socket::INET->new(LocalPort => $p, Listen => 9, ReuseAddr => 1) or die; \
      while (my $c = $s->accept) { print $c \"$p \".$c->peerhost.\"\\n\"; close $c } }' < /dev/null > /dev/null 2>&1 & }";

/// A listener in a qube itself, which those that it serves must not reach.
const OWN: &str = "ip link set lo up; { perl -e 'use IO::Socket::INET; \
    my $s = IO::Socket::INET->new(LocalPort => 22, Listen => 9) or die; \
    while (my $c = $s->accept) { print $c \"inside\\n\"; close $c }' < /dev/null > /dev/null 2>&1 & }";

/// What a server says to a qube that connects to it; empty where nobody answers.
fn heard(guests: &Guests<'_>, qube: &str, host: &str, port: u16) -> Result<String> {
    let script = format!("timeout 6 bash -c 'cat < /dev/tcp/{host}/{port}' 2> /dev/null || true");
    guests.ask(qube, &script)
}

/// Tells a qube what dom0 would, and lets it see to its network.
fn begin(guests: &Guests<'_>, qube: &str, keys: &[(&str, &str)]) -> Result<()> {
    for (key, value) in keys {
        guests.ask(qube, &format!("qubesdb-write {key} {value}"))?;
    }
    let serve = "modprobe xen-netfront; \
                 setsid /usr/lib/qubes/qube-network < /dev/null > /tmp/network 2>&1 &";
    guests.ask(qube, serve).map(drop)
}

fn a_chain(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let guests = Guests::boot(world, &["net", "firewall", "work"])?;
    // Gives a qube the network of another, while both run.
    let attach = |qube: &str, netvm: &str, number: u8| {
        // libxl waits for ten seconds, which under emulation may be too few.
        let attach = format!(
            "for try in 1 2 3; do xl network-attach {qube} backend={netvm} ip=10.137.0.{number} \
             mac=00:16:3e:5e:00:0{number} && exit; done; exit 1"
        );
        dom0.sh(&attach).map(drop).with_context(|| {
            let state =
                "dmesg | tail -n 20; lsmod; ls /sys/bus/xen-backend/devices; cat /tmp/network";
            let store = format!("xenstore-ls /local/domain/$(xl domid {netvm})/backend");
            [guests.ask(netvm, state), dom0.sh(&store)]
                .map(Result::unwrap_or_default)
                .concat()
        })
    };
    begin(&guests, "net", &[("/qubes-netvm-gateway", "10.138.0.1")])?;
    guests.ask("net", WORLD)?;
    let firewall = [
        ("/qubes-ip", "10.137.0.2"),
        ("/qubes-gateway", "10.138.0.1"),
        ("/qubes-primary-dns", "10.139.1.1"),
        ("/qubes-netvm-gateway", "10.138.0.2"),
    ];
    begin(&guests, "firewall", &firewall)?;
    guests.ask("firewall", OWN)?;
    let own = [
        ("/qubes-ip", "10.137.0.3"),
        ("/qubes-gateway", "10.138.0.2"),
        ("/qubes-primary-dns", "10.139.1.1"),
    ];
    begin(&guests, "work", &own)?;
    let silent = |host: &str, port| -> Result<()> {
        let said = heard(&guests, "work", host, port)?;
        ensure!(said.is_empty(), "{host}:{port} says {said}");
        Ok(())
    };
    silent("192.0.2.80", 80)?;
    attach("firewall", "net", 2)?;
    attach("work", "firewall", 3)?;

    // Out by both, and what is outside sees the last of them alone.
    let reaches = || -> Result<()> {
        let mut said = String::new();
        for _ in 0..9 {
            said = heard(&guests, "work", "192.0.2.80", 80)?;
            if said == "80 192.0.2.1\n" {
                return Ok(());
            }
        }
        for qube in ["net", "firewall", "work"] {
            said += &guests.ask(
                qube,
                "cat /tmp/network; ip address; ip route; nft list ruleset",
            )?;
        }
        bail!("{said}");
    };
    reaches()?;
    let named = heard(&guests, "work", "10.139.1.1", 53)?;
    ensure!(named == "53 192.0.2.1\n", "a resolver says `{named}`");
    let inside = heard(&guests, "firewall", "127.0.0.1", 22)?;
    ensure!(
        inside == "inside\n",
        "the firewall hears `{inside}` from itself"
    );
    silent("10.138.0.2", 22)?;
    silent("10.137.0.2", 22)?;
    // Under another address than its own, nothing passes.
    let from = |address: &str| {
        let route = "ip route replace default via 10.138.0.2 dev eth0 onlink src";
        guests.ask(
            "work",
            &format!("ip address replace {address}/32 dev eth0; {route} {address}"),
        )
    };
    from("10.137.0.9")?;
    silent("192.0.2.80", 80)?;
    from("10.137.0.3")?;
    reaches()?;
    // Without the one in the middle there is no way, and with it again there is.
    dom0.sh("xl network-detach firewall 0")?;
    silent("192.0.2.80", 80)?;
    let known = "xenstore-ls /local/domain/$(xl domid net)/backend/vif";
    dom0.wait_until(&format!("! {known} 2> /dev/null | grep hotplug"), PATIENCE)?;
    attach("firewall", "net", 2)?;
    reaches()
}
