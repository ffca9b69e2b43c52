//! Channels between dom0 and a guest, over real grants and event channels.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE, Running};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "vchan::bytes_pass_both_ways_in_both_roles",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::Always,
        from: Start::Bare,
        run: bytes_pass,
    },
    Scenario {
        name: "vchan::either_end_may_be_libxenvchan",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::Always,
        from: Start::Bare,
        run: reference,
    },
    Scenario {
        name: "vchan::an_end_is_seen_whatever_dies",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::Always,
        from: Start::Bare,
        run: ends,
    },
    Scenario {
        name: "vchan::a_hostile_guest_only_loses_its_channel",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::Always,
        from: Start::Bare,
        run: hostile,
    },
];

/// One end of a channel, as a program (`src/bin/bulkhead-peer`).
const PEER: &str = "/tmp/bulkhead-peer";

/// Rings of reference programs, and the largest.
const SIZES: [u32; 2] = [64 << 10, 1 << 20];

/// The guest's only program is its initrd's.
const CONFIG: &str = r#"type="pvh"
name="peer"
memory=160
vcpus=1
kernel="/vmlinuz"
ramdisk="/tmp/peer.img"
cmdline="console=hvc0 panic=-1 rdinit=/init quiet"
on_crash="preserve"
"#;

const INITRD: &str = r"
mkdir -p /tmp/peer/modules
cp /lib/modules/$(uname -r)/kernel/drivers/xen/xen-evtchn.ko* /tmp/peer/modules
cp /lib/modules/$(uname -r)/kernel/drivers/xen/xen-gntdev.ko* /tmp/peer/modules
cp /lib/modules/$(uname -r)/kernel/drivers/xen/xen-gntalloc.ko* /tmp/peer/modules
cp /tmp/bulkhead-peer /tmp/peer/init
cd /tmp/peer && find . | cpio -o -H newc --quiet > /tmp/peer.img
modprobe -a xen-evtchn xen-gntdev xen-gntalloc
";

/// A guest whose only program is the other end.
struct Guest<'a> {
    dom0: &'a dyn Line,
    id: u32,
}

impl<'a> Guest<'a> {
    fn boot(world: &'a World) -> Result<Self> {
        let dom0 = world.dom0();
        let program = std::env::var_os("BULKHEAD_PEER").context("no program for the guest")?;
        dom0.put_file(program.as_ref(), PEER)?;
        dom0.put(CONFIG.as_bytes(), "/tmp/peer.cfg")?;
        dom0.sh(&format!(
            "chmod +x {PEER}; {INITRD} xl create -q /tmp/peer.cfg"
        ))?;
        let id: u32 = dom0.sh("xl domid peer")?.trim().parse()?;
        dom0.wait_until(
            &format!("xenstore-read /local/domain/{id}/data/up"),
            PATIENCE,
        )?;
        Ok(Self { dom0, id })
    }

    /// Has the guest do something.
    fn start(&self, name: &str, task: &str) -> Result<()> {
        let path = format!("/local/domain/{}/data/run/{name}", self.id);
        self.dom0
            .run(&["xenstore-write", &path, task])?
            .ok()
            .map(drop)
    }

    /// Waits until it is done; its exit code.
    fn done(&self, name: &str) -> Result<i32> {
        let path = format!("/local/domain/{}/data/done/{name}", self.id);
        let code = self
            .dom0
            .wait_until(&format!("xenstore-read {path}"), PATIENCE)?;
        Ok(code.trim().parse()?)
    }

    /// Does something in dom0.
    fn here(&self, task: &str) -> Result<String> {
        self.begin(task)?.wait(PATIENCE)?.ok()
    }

    fn begin(&self, task: &str) -> Result<Running> {
        self.dom0
            .start(&["sh", "-c", &format!("exec {PEER} {task} 2>&1")])
    }
}

fn bytes_pass(world: &World) -> Result<()> {
    let guest = Guest::boot(world)?;
    let id = guest.id;
    let mut table =
        String::from("rings KiB | server | to dom0 MiB/s | from dom0 MiB/s | round trip us\n");
    for (n, size) in SIZES.into_iter().enumerate() {
        // A turn of small rings takes as long as one of large ones.
        let bytes = size * 24;
        for (server, here, there) in [
            ("guest", "join".to_owned(), format!("serve:{size}")),
            ("dom0", format!("serve:{size}"), "join".to_owned()),
        ] {
            let task = |name: &str, action: &str, number: u32| {
                let port = 1000 + n;
                guest.start(name, &format!("{there} 0 {port} {action} {number}"))
            };
            let other = |action: &str, number: u32| {
                let port = 1000 + n;
                guest.here(&format!("{here} {id} {port} {action} {number}"))
            };
            let name = |what: &str| format!("{what}-{server}-{size}");
            task(&name("send"), "send", bytes)?;
            let up = other("receive", bytes)?;
            ensure!(guest.done(&name("send"))? == 0, "{up}");
            task(&name("receive"), "receive", bytes)?;
            let down = other("send", bytes)?;
            ensure!(guest.done(&name("receive"))? == 0, "{down}");
            task(&name("echo"), "echo", 0)?;
            let ping = other("ping", 300)?;
            ensure!(guest.done(&name("echo"))? == 0, "{ping}");
            let word = |text: &str, after: &str| {
                let words = text.split_whitespace().skip_while(|word| *word != after);
                words.skip(1).map(str::to_owned).next().unwrap_or_default()
            };
            table += &format!(
                "{:9} | {server:6} | {:>13} | {:>15} | {} (least {})\n",
                size >> 10,
                word(&up, "at"),
                word(&down, "at"),
                word(&ping, "median"),
                word(&ping, "least"),
            );
        }
    }
    println!("{table}");
    // A process that was only given numbers and descriptors.
    guest.start("given", "serve:65536 0 1100 echo")?;
    let given = guest.here(&format!("join {id} 1100 hand-over 10"))?;
    ensure!(given.contains("pinged 10"), "{given}");
    ensure!(
        guest.done("given")? == 0,
        "the other end of what was handed over failed"
    );
    // Nothing stays behind.
    let left = world.dom0().sh(&format!(
        "xenstore-ls /local/domain/0/data/vchan 2>/dev/null || true; \
         xenstore-ls /local/domain/{id}/data/vchan 2>/dev/null || true"
    ))?;
    ensure!(!left.contains("ring-ref"), "keys are left\n{left}");
    Ok(())
}

fn reference(world: &World) -> Result<()> {
    let guest = Guest::boot(world)?;
    let (dom0, id) = (world.dom0(), guest.id);
    // The library as client of our server, whose rings may be large.
    for size in SIZES {
        let port = 2000 + (size >> 16);
        guest.start(
            &format!("echo-{size}"),
            &format!("serve:{size} 0 {port} echo"),
        )?;
        let path = format!("/local/domain/{id}/data/vchan/0/{port}");
        dom0.wait_until(&format!("xenstore-read {path}/event-channel"), PATIENCE)?;
        through(dom0, &["vchan-socket-proxy", &id.to_string(), &path, "-"])?;
        ensure!(
            guest.done(&format!("echo-{size}"))? == 0,
            "our server failed"
        );
    }
    // The library as server, with rings inside of the shared page.
    let path = format!("/local/domain/0/data/vchan/{id}/2001");
    guest.start("client", "join 0 2001 echo")?;
    let words = [
        "vchan-socket-proxy",
        "-m",
        "server",
        &id.to_string(),
        &path,
        "-",
    ];
    through(dom0, &words)?;
    ensure!(guest.done("client")? == 0, "our client failed");
    Ok(())
}

/// Sends a stream through an echo behind a program's standard streams.
fn through(dom0: &dyn Line, words: &[&str]) -> Result<()> {
    let mut proxy = dom0.start(words)?;
    let mut all = String::new();
    for n in 0..40_000 {
        all += &format!("line {n}\n");
    }
    // Short first, as people type, then more than any ring holds.
    proxy.write(b"hello\n")?;
    proxy.wait_for("hello", PATIENCE)?;
    proxy.write(all.as_bytes())?;
    proxy.wait_for("line 39999\n", PATIENCE)?;
    proxy.kill()?;
    let out = proxy.wait(PATIENCE)?.out;
    ensure!(
        out == format!("hello\n{all}"),
        "{} bytes came back",
        out.len()
    );
    Ok(())
}

fn ends(world: &World) -> Result<()> {
    let guest = Guest::boot(world)?;
    let id = guest.id;
    // A process of the guest is killed: what it wrote is read, then the end is seen.
    for (port, here, there) in [(3000, "join", "serve:65536"), (3001, "serve:65536", "join")] {
        guest.start(
            &format!("die-{port}"),
            &format!("{there} 0 {port} die 50000"),
        )?;
        let said = guest.here(&format!("{here} {id} {port} until-end"))?;
        ensure!(said.contains("ended after 50000"), "{said}");
        ensure!(!said.contains("no more"), "{said}");
        ensure!(
            guest.done(&format!("die-{port}"))? == 137,
            "it was not killed"
        );
    }
    // A process of dom0 is killed.
    guest.start("until", "serve:65536 0 3002 receive 1")?;
    let mut stays = guest.begin(&format!("join {id} 3002 stay"))?;
    guest.dom0.wait_until(
        &format!("! xenstore-exists /local/domain/{id}/data/vchan/0/3002"),
        PATIENCE,
    )?;
    stays.kill()?;
    stays.wait(PATIENCE)?;
    ensure!(guest.done("until")? == 1, "the guest did not see the end");
    // The whole domain is destroyed, which signals nobody.
    guest.start("stay-3003", "serve:65536 0 3003 stay")?;
    guest.start("stay-3004", "join 0 3004 stay")?;
    let mut waiting = Vec::new();
    for (port, side) in [(3003, "join"), (3004, "serve:65536")] {
        let mut end = guest.begin(&format!("{side} {id} {port} until-end"))?;
        end.wait_for("watching", PATIENCE)?;
        waiting.push(end);
    }
    world.dom0().sh("xl destroy peer")?;
    for end in waiting {
        let said = end.wait(PATIENCE)?.ok()?;
        ensure!(said.contains("the domain is no more"), "{said}");
        ensure!(said.contains("ended after 0"), "{said}");
    }
    // Nothing of it is held any longer.
    world
        .dom0()
        .wait_until("! xl list | grep -q '(null)\\|peer'", PATIENCE)?;
    Ok(())
}

fn hostile(world: &World) -> Result<()> {
    let guest = Guest::boot(world)?;
    let id = guest.id;
    guest.start("nonsense", "join 0 4000 nonsense")?;
    let said = guest.here(&format!("serve:65536 {id} 4000 until-end"))?;
    ensure!(said.contains("broken after"), "{said}");
    ensure!(guest.done("nonsense")? == 0, "it did not come to nonsense");
    // Pages that describe no channel: refused, and waited on for a better one, which comes.
    for kind in [0, 1] {
        let port = 4001 + kind;
        guest.start(
            &format!("bogus-{kind}"),
            &format!("serve:0 0 {port} bogus {kind}"),
        )?;
        let key = format!("/local/domain/{id}/data/vchan/0/{port}/event-channel");
        guest
            .dom0
            .wait_until(&format!("xenstore-read {key}"), PATIENCE)?;
        let client = guest.begin(&format!("join {id} {port} ping 3"))?;
        std::thread::sleep(Duration::from_secs(1));
        guest.start(
            &format!("good-{kind}"),
            &format!("serve:65536 0 {port} echo"),
        )?;
        let said = client.wait(PATIENCE)?.ok()?;
        ensure!(said.contains("pinged 3"), "{said}");
    }
    // Numbers that are none.
    let key = format!("/local/domain/{id}/data/vchan/0/4009");
    guest.dom0.sh(&format!(
        "xenstore-write {key}/ring-ref +8; xenstore-write {key}/event-channel 7"
    ))?;
    let refused = guest
        .begin(&format!("join {id} 4009 ping 1"))?
        .wait(PATIENCE)?;
    ensure!(
        refused.code == 1 && refused.out.contains("ring-ref"),
        "{refused:?}"
    );
    // dom0 has not noticed: a channel like any other.
    guest.start("after", "serve:65536 0 4010 echo")?;
    let said = guest.here(&format!("join {id} 4010 ping 20"))?;
    ensure!(said.contains("pinged 20"), "{said}");
    ensure!(
        !world.dom0().sh("dmesg")?.contains("BUG:"),
        "dom0's kernel complains"
    );
    Ok(())
}
