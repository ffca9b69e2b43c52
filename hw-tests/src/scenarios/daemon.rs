//! The daemon on Xen: what is declared runs, and calls reach it.

use anyhow::{Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::running::{TWO_QUBES, both_run, in_qube, sh};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "daemon::two_qubes_run_call_and_outlive_the_daemon",
    needs: &[Need::Xen, Need::Throwaway],
    when: When::Always,
    from: Start::Prepared(&TWO_QUBES),
    run: two_qubes_run_call_and_outlive_the_daemon,
}];

fn two_qubes_run_call_and_outlive_the_daemon(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    run_in_qubes(dom0)?;
    calls_between_qubes(dom0)?;
    calls_to_dom0(dom0)?;
    copies_files(dom0)?;
    outlives_a_relay(dom0)?;
    outlives_the_daemon(dom0)?;
    stops(dom0)
}

fn run_in_qubes(dom0: &dyn Line) -> Result<()> {
    let said =
        dom0.sh("printf 'to and fro' | timeout 100 bulkhead run work -- 'cat; echo x >&2' 2>&1")?;
    ensure!(said == "to and frox\n", "{said:?}");
    let ended = in_qube(dom0, "vault", "exit 3")?;
    ensure!(ended.code == 3, "{ended:?}");
    // More than all rings hold.
    let sum = dom0.sh("head -c 2000000 /dev/zero | timeout 100 bulkhead run vault -- 'wc -c'")?;
    ensure!(sum.trim() == "2000000", "{sum}");
    let back = dom0.sh("timeout 100 bulkhead run vault -- 'head -c 2000000 /dev/zero' | wc -c")?;
    ensure!(back.trim() == "2000000", "{back}");
    Ok(())
}

/// Makes a service in a qube.
const SERVICE: &str = "mkdir -p /usr/local/etc/qubes-rpc
printf '#!/bin/sh\\necho from $QREXEC_REMOTE_DOMAIN; cat; exit 5\\n' \
  > /usr/local/etc/qubes-rpc/test.Echo
chmod +x /usr/local/etc/qubes-rpc/test.Echo
";

/// Has qubes serve calls of `test.Echo`.
pub(super) fn serve_echo(dom0: &dyn Line, qubes: &[&str]) -> Result<()> {
    dom0.put(SERVICE.as_bytes(), "/tmp/service")?;
    for qube in qubes {
        dom0.sh(&format!(
            "timeout 100 bulkhead run --user root {qube} -- 'sh -eus' < /tmp/service"
        ))?;
    }
    Ok(())
}

fn calls_between_qubes(dom0: &dyn Line) -> Result<()> {
    serve_echo(dom0, &["work", "vault"])?;
    let call = |from, to| {
        let command = format!("echo hello | qrexec-client-vm {to} test.Echo");
        in_qube(dom0, from, &command)
    };
    let allowed = call("work", "vault")?;
    ensure!(
        allowed.code == 5 && allowed.out == "from work\nhello\n",
        "{allowed:?}"
    );
    let denied = call("vault", "work")?;
    ensure!(denied.code == 126 && denied.out.is_empty(), "{denied:?}");
    Ok(())
}

fn calls_to_dom0(dom0: &dyn Line) -> Result<()> {
    dom0.sh(
        "mkdir -p /etc/qubes-rpc; printf '#!/bin/sh\nread line; echo dom0 got $line\n' \
         > /etc/qubes-rpc/test.Dom0; chmod +x /etc/qubes-rpc/test.Dom0",
    )?;
    let said = sh(dom0, "work", "echo this | qrexec-client-vm dom0 test.Dom0")?;
    ensure!(said == "dom0 got this\n", "{said:?}");
    let client = dom0.run(&["qrexec-client", "-d", "work", "user:exit 4"])?;
    ensure!(client.code == 4, "{client:?}");
    Ok(())
}

fn copies_files(dom0: &dyn Line) -> Result<()> {
    let digest = |said: String| said.split(' ').next().map(str::to_owned);
    let sent = sh(
        dom0,
        "work",
        "head -c 3000000 /dev/urandom > /tmp/file; sha256sum /tmp/file; qvm-copy-to-vm vault /tmp/file",
    )?;
    let got = sh(dom0, "vault", "sha256sum ~/QubesIncoming/work/file")?;
    ensure!(digest(sent) == digest(got), "the copy differs");
    Ok(())
}

fn outlives_a_relay(dom0: &dyn Line) -> Result<()> {
    dom0.sh("kill -9 $(pgrep -x bulkhead-relay)")?;
    dom0.wait_until(
        "journalctl -u bulkheadd --no-pager | grep -c 'is replaced' | grep -qx 2",
        PATIENCE,
    )?;
    both_run(dom0)?;
    sh(dom0, "vault", "true").map(drop)
}

fn outlives_the_daemon(dom0: &dyn Line) -> Result<()> {
    let before = dom0.sh("xl list | awk '{print $1, $2}'")?;
    dom0.sh("systemctl restart bulkheadd")?;
    both_run(dom0)?;
    let after = dom0.sh("xl list | awk '{print $1, $2}'")?;
    ensure!(before == after, "{before}{after}");
    let said = sh(
        dom0,
        "work",
        "echo hello | qrexec-client-vm vault test.Echo; echo $?",
    )?;
    ensure!(said == "from work\nhello\n5\n", "{said:?}");
    Ok(())
}

fn stops(dom0: &dyn Line) -> Result<()> {
    let mut running = dom0.start(&["bulkhead", "run", "vault", "--", "echo begun; sleep 1000"])?;
    running.wait_for("begun", PATIENCE)?;
    dom0.sh("bulkhead kill vault")?;
    // Nothing but the daemon can tell of a domain that is gone.
    let cut = running.wait(PATIENCE)?;
    ensure!(
        cut.code == 255 && cut.err.contains("qube vault ended"),
        "{cut:?}"
    );
    dom0.sh("bulkhead stop work")?;
    for qube in ["work", "vault"] {
        // Xen takes a moment to give its memory back.
        dom0.wait_until(&format!("! xl domid {qube}"), PATIENCE)?;
    }
    let left = dom0.sh("xenstore-ls /local/domain/0/data/vchan; ls /run/bulkhead/qubes")?;
    ensure!(left.is_empty(), "left behind: {left}");
    Ok(())
}
