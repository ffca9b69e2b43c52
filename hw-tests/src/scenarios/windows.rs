//! Windows of qubes on Xen: their compositors grant the pages, proxies in dom0 show them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::Line;
use bulkhead_hw_tests::scenario::{Need, Preparation, Scenario, Start, When, World};
use bulkhead_templates::cache::Key;
use bulkhead_templates::tools::{Tools, run, unpacked};

use super::chain::{long, starts};
use super::guest::{template_of, with_snapshots};
use super::packages::{self, package};
use super::running::{self, DESCRIPTION, put_template, sh};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "windows::what_a_qube_draws_is_seen_and_what_is_typed_arrives",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&WINDOWS),
        run: drawn_and_typed,
    },
    Scenario {
        name: "windows::text_is_carried_by_keystroke_and_once",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&WINDOWS),
        run: text_is_carried,
    },
    Scenario {
        name: "windows::they_go_with_their_qube_and_come_again_with_the_daemon",
        needs: &[Need::Xen, Need::Throwaway],
        when: When::All,
        from: Start::Prepared(&WINDOWS),
        run: windows_go_and_come,
    },
];

/// Two qubes with graphical sessions run, and dom0 has a display.
static WINDOWS: Preparation = Preparation {
    name: "windows",
    inputs,
    run: prepare,
};

pub(super) const RECIPE: &str = "debian-13-windows";

/// Bytes of its root here, which the daemon reads whole.
pub(super) const ROOT_MIB: u64 = 1024;

/// What shows a display in dom0 and looks at it, with what those call.
pub(super) const SCREEN_PACKAGES: &[&str] = &[
    "coreutils",
    "dash",
    "grep",
    "x11-apps",
    "x11-utils",
    "xdotool",
    "xvfb",
];
/// The disk that they are on.
const SCREEN_BYTES: u64 = 1 << 30;
/// Where that is in dom0.
pub(super) const SCREEN: &str = "/var/lib/screen";
/// The display.
pub(super) const DISPLAY: &str = ":1";
pub(super) const SIZE: (usize, usize) = (800, 600);

/// A proxy is in a package whose other programs need what dom0 lacks here.
const PROXY: &str = "usr/libexec/bulkhead/bulkhead-gui";

/// For a window under emulation: a client, a compositor and a proxy have much to do.
pub(super) const APPEARS: Duration = Duration::from_secs(180);

/// Of the label of `work`, and of what its terminal draws.
pub(super) const LABEL: u32 = 0x12_ab34;
const DRAWN: u32 = 0x12_3456;

const SYSTEM: &str = r##"(
    defaults: (
        template: "debian",
        vcpus: 1,
        memory: (initial: 500, maximum: 500),
        netvm: None,
        // The rest of systemd takes long under emulation, and is not what this is about.
        kernelopts: "systemd.unit=qube-agent.service systemd.show_status=no",
        features: {"gui": true},
    ),
    labels: {"mine": (color: "0x12ab34")},
    templates: {"debian": (source: Image("/var/tmp/template"))},
    qubes: {
        "work": (label: "mine", volumes: {"private": (size: 64)}),
        "vault": (label: "black", volumes: {"private": (size: 64)}),
    },
    policy: [
        "qubes.ClipboardPaste * work vault ask",
        "qubes.WindowIconUpdater * @anyvm @adminvm allow",
    ],
)"##;

fn inputs() -> Result<Key> {
    let proxy = package("bulkhead-desktop")?;
    let proxy = fs::read(&proxy).with_context(|| format!("cannot read {}", proxy.display()))?;
    let running = running::inputs_with(&template_of(RECIPE)?)?;
    let here: [&[u8]; 3] = [
        include_bytes!("windows.rs"),
        &proxy,
        running.as_str().as_bytes(),
    ];
    Ok(Key::of(here))
}

fn prepare(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    with_snapshots(dom0)?;
    packages::install(dom0)?;
    put_template(world, &template_of(RECIPE)?, ROOT_MIB)?;
    put_proxy(dom0)?;
    put_screen(world, SCREEN_PACKAGES)?;
    dom0.put(SYSTEM.as_bytes(), DESCRIPTION)?;
    running::start(dom0)?;
    long(dom0, "bulkhead apply --yes 2>&1")?;
    for qube in ["work", "vault"] {
        starts(dom0, qube)?;
    }
    running::both_run(world)?;
    for qube in ["work", "vault"] {
        session(dom0, qube)?;
    }
    Ok(())
}

/// Starts the graphical session of a qube, as its unit does: that one needs most of what systemd
/// starts on its way, for minutes here.
pub(super) fn session(dom0: &dyn Line, qube: &str) -> Result<()> {
    let as_root = "echo 1073741824 > /sys/module/xen_gntalloc/parameters/limit; \
                   install -d -o user -g user -m 700 /run/user/1000";
    let begin = "XDG_RUNTIME_DIR=/run/user/1000 setsid /usr/lib/qubes/qube-agent session \
                 > /tmp/session.log 2>&1 < /dev/null &";
    dom0.run(&[
        "timeout", "100", "bulkhead", "run", "--user", "root", qube, "--", as_root,
    ])?
    .ok()?;
    sh(dom0, qube, begin)?;
    // It gives up after a minute, in which Xwayland does not start here.
    let wait = format!("timeout 100 bulkhead call {qube} qubes.WaitForSession");
    let begun = dom0.wait_until(&wait, APPEARS);
    begun.map_err(|error| error.context(told(dom0))).map(drop)
}

pub(super) fn put_proxy(dom0: &dyn Line) -> Result<()> {
    let folder = tempfile::tempdir()?;
    run(Command::new("dpkg-deb")
        .arg("--extract")
        .args([&package("bulkhead-desktop")?, folder.path()]))?;
    let at = format!("/{PROXY}");
    dom0.put_file(&folder.path().join(PROXY), &at)?;
    dom0.sh(&format!("chmod 755 {at}")).map(drop)
}

/// A display with what is in `packages`, and who offers it to the daemon.
pub(super) fn put_screen(world: &World, packages: &[&str]) -> Result<()> {
    let dom0 = world.dom0();
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let disk = folder.path().join("screen.ext4");
    fs::File::create(&disk)?.set_len(SCREEN_BYTES)?;
    run(Tools::find()?
        .command("sbin/mke2fs")
        .args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"])
        .args([&unpacked(packages)?, &disk]))?;
    let device = world.attach(&disk, "screen")?;
    dom0.sh(&format!(
        "dd if={device} of={SCREEN}.ext4 bs=1M conv=sparse status=none
         mkdir -p {SCREEN} /tmp/.X11-unix; mount -o loop {SCREEN}.ext4 {SCREEN}
         for folder in bin lib lib64; do ln -s usr/$folder {SCREEN}/$folder; done
         for folder in dev proc tmp; do
           mkdir -p {SCREEN}/$folder; mount --rbind /$folder {SCREEN}/$folder
         done"
    ))?;
    world.detach("screen")?;
    let (width, height) = SIZE;
    dom0.sh(&format!(
        "systemd-run --quiet --unit=display chroot {SCREEN} \
           Xvfb {DISPLAY} -screen 0 {width}x{height}x24 -nolisten tcp"
    ))?;
    on_screen_until(dom0, "xdotool getdisplaygeometry")?;
    offer(dom0)
}

fn offer(dom0: &dyn Line) -> Result<()> {
    // Until the daemon is there, and again when it was started anew.
    dom0.sh(&format!(
        "systemd-run --quiet --unit=offer --property=Restart=always --property=RestartSec=1 \
           --setenv=DISPLAY={DISPLAY} bulkhead windows"
    ))
    .map(drop)
}

/// Runs a script beside the display.
pub(super) fn on_screen(dom0: &dyn Line, script: &str) -> Result<String> {
    dom0.run(&[
        "env",
        &format!("DISPLAY={DISPLAY}"),
        "chroot",
        SCREEN,
        "sh",
        "-euc",
        script,
    ])?
    .ok()
}

/// The same until it succeeds.
pub(super) fn on_screen_until(dom0: &dyn Line, script: &str) -> Result<String> {
    let script = format!("DISPLAY={DISPLAY} chroot {SCREEN} sh -euc '{script}'");
    let seen = dom0.wait_until(&script, APPEARS);
    seen.map_err(|error| error.context(told(dom0)))
}

/// What explains that something is not to be seen.
pub(super) fn told(dom0: &dyn Line) -> String {
    let all =
        "bulkhead ls; xl list; journalctl --no-pager -u bulkheadd -u offer -u display | tail -80";
    let mut all = dom0.sh(all).unwrap_or_default();
    all += &on_screen(dom0, "xwininfo -root -tree").unwrap_or_default();
    let own = "ps aux | tail -20; cat /tmp/session.log /tmp/terminal.log; ls -la /run/user/1000";
    for qube in ["work", "vault"] {
        let ended = dom0.run(&[
            "timeout", "60", "bulkhead", "run", "--user", "root", qube, "--", own,
        ]);
        all += &ended.map_or_else(|error| error.to_string(), |ended| ended.out + &ended.err);
    }
    all
}

/// Opens a terminal of one colour that runs a script.
pub(super) fn opens(dom0: &dyn Line, qube: &str, script: &str) -> Result<()> {
    let terminal = format!(
        "setsid xterm -geometry 30x6+40+40 -bg \"#{DRAWN:06x}\" -e sh -c '{script}' \
         > /tmp/terminal.log 2>&1 < /dev/null &"
    );
    sh(dom0, qube, &terminal).map(drop)
}

/// Windows of a qube on the screen, a number a line.
fn windows_of(qube: &str) -> String {
    format!("xdotool search --onlyvisible --name \"^.{qube}. \"")
}

/// Waits for a qube's window, and gives it the keyboard.
pub(super) fn focus(dom0: &dyn Line, qube: &str) -> Result<()> {
    let windows = windows_of(qube);
    on_screen_until(dom0, &format!("{windows} | grep -q ."))?;
    on_screen(
        dom0,
        &format!("xdotool windowfocus --sync $({windows} | tail -n 1)"),
    )
    .map(drop)
}

/// Waits until a qube has no window.
pub(super) fn gone(dom0: &dyn Line, qube: &str) -> Result<()> {
    on_screen_until(dom0, &format!("! {} | grep -q .", windows_of(qube))).map(drop)
}

/// Presses keys, such as `ctrl+c`.
pub(super) fn press(dom0: &dyn Line, keys: &str) -> Result<()> {
    on_screen(dom0, &format!("xdotool key --delay 100 {keys}")).map(drop)
}

/// How many pixels of the screen have each of these colours.
fn pixels(dom0: &dyn Line, colors: [u32; 2]) -> Result<[usize; 2]> {
    // Of Xvfb's own form: a header that tells its length, a table of colours, then BGRX.
    on_screen(dom0, "xwd -root -silent > /tmp/screen.xwd")?;
    let (width, height) = SIZE;
    let counts = colors.map(|color| {
        let [_, r, g, b] = color.to_be_bytes();
        format!(
            "tail -c {} /tmp/screen.xwd | od -An -v -tx1 -w4 | grep -c '^ {b:02x} {g:02x} {r:02x}' || true",
            width * height * 4
        )
    });
    let mut found = [0; 2];
    for (count, script) in found.iter_mut().zip(counts) {
        *count = dom0.sh(&script)?.trim().parse()?;
    }
    Ok(found)
}

fn drawn_and_typed(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    opens(dom0, "work", "read line; echo $line > typed; sleep 600")?;
    focus(dom0, "work")?;
    // Its pages are those of the qube, with nothing but grants between.
    let said = dom0.sh("journalctl -u bulkheadd --no-pager")?;
    let confined =
        "bulkhead-gui work: confined: seccomp, namespaces, empty root, own uid, landlock";
    ensure!(said.contains(confined), "{said}");
    // The terminal draws when it has a size and a font.
    let [frame, drawn] = wait_for_pixels(dom0)?;
    keep_picture(dom0, "screen")?;
    ensure!(drawn > 10_000, "{drawn} pixels of the terminal are seen");
    ensure!(frame > 500, "{frame} pixels of the frame are seen");
    has_own_icon(dom0, "work")?;

    on_screen(dom0, "xdotool type --delay 200 hello")?;
    press(dom0, "Return")?;
    dom0.wait_until(
        "timeout 100 bulkhead run work -- 'grep -x hello ~/typed'",
        APPEARS,
    )
    .map_err(|error| error.context(told(dom0)))?;
    Ok(())
}

/// Waits for the icon of the application: it has one size, the square of a label has several.
fn has_own_icon(dom0: &dyn Line, qube: &str) -> Result<()> {
    let window = format!("$({} | tail -n 1)", windows_of(qube));
    let sizes = format!("$(xprop -id {window} _NET_WM_ICON | grep -c \"Icon (\")");
    on_screen_until(dom0, &format!("test {sizes} = 1")).map(drop)
}

pub(super) fn wait_for_pixels(dom0: &dyn Line) -> Result<[usize; 2]> {
    let end = std::time::Instant::now() + APPEARS;
    loop {
        let found = pixels(dom0, [LABEL, DRAWN])?;
        if found.iter().all(|count| *count > 0) {
            return Ok(found);
        }
        ensure!(
            std::time::Instant::now() < end,
            "{found:?} pixels of frame and terminal are seen\n{}",
            told(dom0)
        );
    }
}

/// Where somebody can look at it.
pub(super) fn keep_picture(dom0: &dyn Line, name: &str) -> Result<()> {
    let Some(folder) = std::env::var_os("BULKHEAD_HW_LOGS") else {
        return Ok(());
    };
    let text = dom0.sh("gzip -c /tmp/screen.xwd | base64 -w0")?;
    let folder = Path::new(&folder);
    fs::create_dir_all(folder)?;
    fs::write(folder.join(format!("{name}.xwd.gz.base64")), text).context("cannot keep the picture")
}

fn text_is_carried(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    for qube in ["work", "vault"] {
        opens(dom0, qube, "sleep 600")?;
        focus(dom0, qube)?;
    }
    sh(
        dom0,
        "work",
        "printf secret | setsid xclip -selection clipboard > /dev/null 2>&1",
    )?;
    let carried = "bulkhead clipboard status --json | tr -d ' \\n'";
    let nothing = format!("{carried} | grep -qx null");
    let six = format!("{carried} | grep -q '\"bytes\":6'");
    focus(dom0, "work")?;
    press(dom0, "ctrl+shift+c")?;
    dom0.wait_until(&six, APPEARS)
        .map_err(|error| error.context(told(dom0)))?;
    // The rule says `ask`, which the keys answer.
    focus(dom0, "vault")?;
    press(dom0, "ctrl+shift+v")?;
    dom0.wait_until(&nothing, APPEARS)?;
    let held = "timeout 100 bulkhead run vault -- 'timeout 20 xclip -selection clipboard -out'";
    dom0.wait_until(&format!("test \"$({held})\" = secret"), APPEARS)
        .map_err(|error| error.context(told(dom0)))?;
    // The other way no rule allows.
    focus(dom0, "vault")?;
    press(dom0, "ctrl+shift+c")?;
    dom0.wait_until(&six, APPEARS)?;
    focus(dom0, "work")?;
    press(dom0, "ctrl+shift+v")?;
    dom0.wait_until(
        "journalctl -u bulkheadd --no-pager | grep 'text from vault may not be pasted into work'",
        APPEARS,
    )
    .map(drop)
}

fn windows_go_and_come(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    for qube in ["work", "vault"] {
        opens(dom0, qube, "sleep 600")?;
        focus(dom0, qube)?;
    }
    // A proxy that dies takes its windows along, and the next has them again.
    dom0.sh("pkill -KILL -f '^[^ ]*bulkhead-gui .*--qube work'")?;
    focus(dom0, "work")?;
    focus(dom0, "vault")?;
    // So does a daemon.
    running::restart_daemon(world)?;
    dom0.wait_until("bulkhead ls", APPEARS)?;
    focus(dom0, "work")?;
    focus(dom0, "vault")?;
    // A domain that is destroyed has no windows, and no other has less.
    dom0.sh("xl destroy work")?;
    gone(dom0, "work")?;
    focus(dom0, "vault")?;
    sh(dom0, "vault", "pkill xterm")?;
    gone(dom0, "vault")
}
