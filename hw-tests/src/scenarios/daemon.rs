//! The daemon on Xen: what is declared runs, and calls reach it.

use anyhow::{Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::running::{TWO_QUBES, both_run, domains, in_qube, log, restart_daemon, sh};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "daemon::two_qubes_run_call_and_outlive_the_daemon",
    needs: &[Need::Bulkhead],
    when: When::Always,
    from: Start::Prepared(&TWO_QUBES),
    run: two_qubes_run_call_and_outlive_the_daemon,
}];

fn two_qubes_run_call_and_outlive_the_daemon(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    run_in_qubes(dom0)?;
    calls_between_qubes(world)?;
    calls_to_dom0(world)?;
    copies_files(dom0)?;
    outlives_a_relay(world)?;
    outlives_the_daemon(world)?;
    stops(world)
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

/// Makes a service in a qube, in `$folder`.
const SERVICE: &str = r##"mkdir -p $folder
printf "#!/bin/sh\necho from \$QREXEC_REMOTE_DOMAIN; cat; exit 5\n" > $folder/test.Echo
chmod +x $folder/test.Echo"##;

/// Has qubes serve calls of `test.Echo`.
pub(super) fn serve_echo(world: &World, qubes: &[&str]) -> Result<()> {
    // A qube of namespaces has one user, and a folder that is that one's.
    let (folder, user) = match world.own() {
        None => ("/usr/local/etc/qubes-rpc", "--user root"),
        Some(_) => ("/run/qubes-rpc", ""),
    };
    for qube in qubes {
        let script = format!("set -eu; folder={folder}; {SERVICE}");
        let make = format!("timeout 100 bulkhead run {user} {qube} -- '{script}'");
        world.dom0().sh(&make)?;
    }
    Ok(())
}

fn calls_between_qubes(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    serve_echo(world, &["work", "vault"])?;
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

fn calls_to_dom0(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let (folder, client) = match world.own() {
        None => ("/etc/qubes-rpc".into(), "qrexec-client".to_owned()),
        Some(own) => {
            let run = own.path("run");
            let client = format!(
                "VCHAN_DOMAIN=0 VCHAN_SOCKET_DIR={0}/qubes/work/vchan qrexec-client --socket-dir {0}",
                run.display()
            );
            (own.path("rpc"), client)
        }
    };
    dom0.sh(&format!(
        "mkdir -p {0}; printf '#!/bin/sh\nread line; echo dom0 got $line\n' \
         > {0}/test.Dom0; chmod +x {0}/test.Dom0",
        folder.display()
    ))?;
    let said = sh(dom0, "work", "echo this | qrexec-client-vm dom0 test.Dom0")?;
    ensure!(said == "dom0 got this\n", "{said:?}");
    let code = dom0.sh(&format!("{client} -d work 'user:exit 4' 2>&1 || echo $?"))?;
    ensure!(code == "4\n", "{code}");
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

fn outlives_a_relay(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    // Only of the daemon that this is about: there may be others.
    let daemon = match world.own() {
        None => "$(systemctl show -P MainPID bulkheadd)".to_owned(),
        Some(own) => own.pid().to_string(),
    };
    dom0.sh(&format!("kill -9 $(pgrep -P {daemon} -x bulkhead-relay)"))?;
    let replaced = format!("{} | grep -c 'is replaced' | grep -qx 2", log(world));
    dom0.wait_until(&replaced, PATIENCE)?;
    both_run(world)?;
    sh(dom0, "vault", "true").map(drop)
}

fn outlives_the_daemon(world: &World) -> Result<()> {
    let before = domains(world)?;
    restart_daemon(world)?;
    both_run(world)?;
    let after = domains(world)?;
    ensure!(before == after, "{before}, then {after}");
    let said = sh(
        world.dom0(),
        "work",
        "echo hello | qrexec-client-vm vault test.Echo; echo $?",
    )?;
    ensure!(said == "from work\nhello\n5\n", "{said:?}");
    Ok(())
}

fn stops(world: &World) -> Result<()> {
    let dom0 = world.dom0();
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
    let left = match world.own() {
        None => {
            for qube in ["work", "vault"] {
                // Xen takes a moment to give its memory back.
                dom0.wait_until(&format!("! xl domid {qube}"), PATIENCE)?;
            }
            dom0.sh("xenstore-ls /local/domain/0/data/vchan; ls /run/bulkhead/qubes")?
        }
        Some(own) => dom0.sh(&format!("ls {}", own.path("run/qubes").display()))?,
    };
    ensure!(left.is_empty(), "left behind: {left}");
    Ok(())
}
