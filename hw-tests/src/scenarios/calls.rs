//! Calls of a real agent over rings, with a stand-in for dom0's side (`src/bin/bulkhead-peer`).

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE, Running};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};
use bulkhead_wire::qrexec::vmexec::encode;

use super::guest::{SHELL, boot, layer, put_kernel, setting, template, with_snapshots};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "guest::dom0_calls_it_over_rings",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::Always,
        from: Start::Bare,
        run: dom0_calls,
    },
    Scenario {
        name: "guest::one_calls_another_over_rings",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Bare,
        run: one_calls_another,
    },
];

/// The stand-in.
const PEER: &str = "/tmp/bulkhead-peer";

/// Who makes calls in dom0: the program of guests.
const CLIENT: &str = "/tmp/qube-agent qrexec-client-vm --agent-socket=/run/bulkhead-peer";

/// Bytes of one transfer: many times what any ring holds.
const BULK: &str = "16M";

/// Guests from the template, and what stands in for dom0.
pub(super) struct Guests<'a> {
    dom0: &'a dyn Line,
    /// With their consoles, which end with them.
    all: Vec<(String, Running)>,
    broker: Running,
}

/// A service that runs `script`.
fn service(script: &str) -> String {
    format!("qubes.VMExec+{}", encode(&["sh", "-c", script]))
}

impl<'a> Guests<'a> {
    pub(super) fn boot(world: &'a World, names: &[&str]) -> Result<Self> {
        let dom0 = world.dom0();
        let image = template()?;
        with_snapshots(dom0)?;
        let base = world.attach(&image.file("root.ext4"), "template")?;
        put_kernel(dom0, &image.file("vmlinux"), &image.file("initrd"), "ours")?;
        dom0.put_file(&setting("BULKHEAD_PEER")?, PEER)?;
        dom0.put_file(&setting("BULKHEAD_AGENT")?, "/tmp/qube-agent")?;
        dom0.sh(&format!(
            "chmod +x {PEER} /tmp/qube-agent; head -c {BULK} /dev/urandom > /tmp/bulk
             modprobe -a xen-evtchn xen-gntdev; modprobe xen-gntalloc limit=16384"
        ))?;
        let mut all = Vec::new();
        for name in names {
            let console = boot(dom0, name, &layer(dom0, &base, name)?, &[], SHELL)?;
            all.push(((*name).to_owned(), console));
        }
        let names = all.iter().map(|(name, _)| name.as_str());
        let broker = start_broker(dom0, names)?;
        Ok(Self { dom0, all, broker })
    }

    /// Starts the stand-in again.
    fn replace_broker(&mut self) -> Result<()> {
        self.broker.kill()?;
        let names = self.all.iter().map(|(name, _)| name.as_str());
        self.broker = start_broker(self.dom0, names)?;
        Ok(())
    }

    /// The end of a command of dom0 that makes a call to `name`, in whose place there is `CALL`.
    fn shell(&self, line: &str, name: &str, script: &str) -> Result<String> {
        let call = format!("{CLIENT} {name} {}", service(script));
        self.dom0.sh(&line.replace("CALL", &call))
    }

    /// What a guest says to a script.
    pub(super) fn ask(&self, name: &str, script: &str) -> Result<String> {
        self.shell("CALL", name, script)
    }
}

fn start_broker<'n>(dom0: &dyn Line, names: impl Iterator<Item = &'n str>) -> Result<Running> {
    let names: Vec<&str> = names.collect();
    let words = names
        .iter()
        .map(|name| format!("{name}=$(xl domid {name})"));
    let words: Vec<String> = words.collect();
    let script = format!("exec {PEER} broker {} 2>&1", words.join(" "));
    let mut broker = dom0.start(&["sh", "-euc", &script])?;
    for name in names {
        broker.wait_for(&format!("{name} is up"), PATIENCE)?;
    }
    Ok(broker)
}

fn dom0_calls(world: &World) -> Result<()> {
    let mut guests = Guests::boot(world, &["work"])?;
    let dom0 = world.dom0();
    // Streams and exit code, each its own.
    let said = guests.shell(
        "echo hello | CALL 2>/tmp/errors && exit 1; echo $?; cat /tmp/errors",
        "work",
        "cat; echo wrong >&2; exit 7",
    )?;
    ensure!(said == "hello\n7\nwrong\n", "{said}");
    // Both directions at once.
    let same =
        "test $(sha256sum < /tmp/bulk | cut -c -64) = $(CALL < /tmp/bulk | sha256sum | cut -c -64)";
    guests.shell(same, "work", "cat")?;
    // Nothing stays in xenstore.
    let id = dom0.sh("xl domid work")?;
    let left = dom0.sh(&format!(
        "xenstore-ls /local/domain/0/data/vchan/{0} 2>/dev/null || true; \
         xenstore-ls /local/domain/{0}/data/vchan 2>/dev/null || true",
        id.trim()
    ))?;
    ensure!(!left.contains("ring-ref"), "keys are left\n{left}");
    peers_die(&mut guests)?;
    // dom0 leaves, and joins again; also what it mirrors.
    let first = guests.ask("work", "qubesdb-read /broker")?;
    guests.replace_broker()?;
    let second = dom0.wait_until(
        &format!(
            "{CLIENT} work {} | grep -vx {}",
            service("qubesdb-read /broker"),
            first.trim()
        ),
        PATIENCE,
    )?;
    ensure!(
        first != second && second.trim().parse::<u32>().is_ok(),
        "{second}"
    );
    agent_dies(&mut guests)
}

/// Ends of a call that die while bytes flow.
fn peers_die(guests: &mut Guests<'_>) -> Result<()> {
    let dom0 = guests.dom0;
    // The caller: the service is hung up on, and dom0 hears of it.
    let call = format!(
        "exec {CLIENT} work {} > /tmp/flood",
        service("exec cat /dev/zero")
    );
    let caller = dom0.start(&["sh", "-c", &call])?;
    dom0.wait_until("test $(stat -c %s /tmp/flood) -gt 3000000", PATIENCE)?;
    let before = guests.broker.shown().matches("has left").count();
    dom0.sh("kill -9 $(pgrep -f '[q]rexec-client-vm.*VMExec')")?;
    let ended = caller.wait(PATIENCE)?;
    ensure!(ended.code == 137, "{ended:?}");
    loop {
        guests.broker.line(PATIENCE)?;
        if guests.broker.shown().matches("has left").count() > before {
            break;
        }
    }
    let left = guests.ask("work", "pgrep -x cat || echo none")?;
    ensure!(left == "none\n", "it runs on: {left}");
    // The service: what it said comes, and how it ended.
    let said = guests.shell(
        "CALL > /tmp/part && exit 1; echo $?; stat -c %s /tmp/part",
        "work",
        "head -c 3000000 /dev/zero; kill -9 $$",
    )?;
    ensure!(said == "137\n3000000\n", "{said}");
    Ok(())
}

/// The agent is killed: its calls end, and so does the line.
fn agent_dies(guests: &mut Guests<'_>) -> Result<()> {
    let dom0 = guests.dom0;
    let call = format!(
        "exec {CLIENT} work {} > /tmp/flood2",
        service("exec cat /dev/zero")
    );
    let caller = dom0.start(&["sh", "-c", &call])?;
    dom0.wait_until("test $(stat -c %s /tmp/flood2) -gt 1000000", PATIENCE)?;
    let (_, console) = guests.all.first_mut().context("no guest")?;
    super::guest::at_console(console, "kill -9 $(cat /run/qubes/agent.pid)", "killed")?;
    let ended = caller.wait(PATIENCE)?;
    ensure!(
        ended.code != 0 && ended.err.contains("went away"),
        "{ended:?}"
    );
    // The line or QubesDB's, whichever is seen first.
    guests.broker.wait_for(" is gone", PATIENCE)
}

fn one_calls_another(world: &World) -> Result<()> {
    let mut guests = Guests::boot(world, &["one", "two"])?;
    // As a user, who may do less than root.
    let inner = |script: &str| format!("qrexec-client-vm two {}", service(script));
    let as_user = |line: &str| format!("setpriv --reuid user --regid user --init-groups {line}");
    let said = guests.ask(
        "one",
        &format!(
            "echo hello | {}; echo $?",
            as_user(&inner("cat; hostname; exit 3"))
        ),
    )?;
    ensure!(
        said.starts_with("hello\n") && said.ends_with("\n3\n"),
        "{said}"
    );
    let same = format!(
        "head -c {BULK} /dev/urandom > /tmp/bulk; sha256sum < /tmp/bulk; {} < /tmp/bulk | sha256sum",
        as_user(&inner("cat"))
    );
    let said = guests.ask("one", &same)?;
    let sums: Vec<&str> = said.lines().collect();
    ensure!(matches!(*sums, [a, b] if a == b), "{said}");
    // A caller whom nobody tells that the other qube is no more.
    let caller = format!(
        "{} >/dev/null 2>/tmp/caller",
        as_user(&inner("cat /dev/zero"))
    );
    guests.ask(
        "one",
        &format!("({caller}; echo $? > /tmp/code) >/dev/null 2>&1 &"),
    )?;
    let dom0 = world.dom0();
    let left = |what: &str| format!("{CLIENT} one {}", service(what));
    dom0.wait_until(&left("pgrep -f '[q]rexec-client-vm two'"), PATIENCE)?;
    dom0.sh("xl destroy two")?;
    guests.all.retain(|(name, _)| name == "one");
    // Of the old one the memory of two's line would stay mapped.
    guests.replace_broker()?;
    let code = dom0.wait_until(&left("cat /tmp/code"), PATIENCE)?;
    ensure!(code == "255\n", "{code}");
    let said = guests.ask("one", "cat /tmp/caller")?;
    ensure!(said.contains("went away"), "{said}");
    let list = dom0.sh("xl list")?;
    ensure!(!list.contains("(null)"), "{list}");
    Ok(())
}
