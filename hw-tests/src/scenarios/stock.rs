//! Programs of Qubes, built of their own sources, at the other end of ours: its agent in a guest
//! whose windows our proxy shows, and its daemon in dom0 that shows the windows of our agent.

use anyhow::{Context, Result, ensure};
use bulkhead_hw_tests::line::Line;
use bulkhead_hw_tests::scenario::{Need, Preparation, Scenario, Start, When, World};
use bulkhead_hw_tests::stock::Stock;
use bulkhead_templates::cache::Key;

use super::chain::{long, starts};
use super::guest::{template_of, with_snapshots};
use super::packages::{self, package};
use super::running::{self, DESCRIPTION, put_template_at, sh};
use super::windows::{self, APPEARS, DISPLAY, SCREEN, SCREEN_PACKAGES};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "stock::the_agent_of_qubes_is_shown_by_our_proxy",
        needs: &[Need::Xen, Need::Throwaway, Need::QubesSources],
        when: When::All,
        from: Start::Prepared(&STOCK),
        run: their_agent,
    },
    Scenario {
        name: "stock::the_daemon_of_qubes_shows_windows_of_our_agent",
        needs: &[Need::Xen, Need::Throwaway, Need::QubesSources],
        when: When::All,
        from: Start::Prepared(&STOCK),
        run: their_daemon,
    },
];

/// A qube with the agent of Qubes and one with ours run, and dom0 has a display.
static STOCK: Preparation = Preparation {
    name: "stock",
    inputs,
    run: prepare,
};

/// What the agent of Qubes is laid over.
const RECIPE: &str = "debian-13-xorg";

/// Bytes of its root here, which the daemon reads whole.
const ROOT_MIB: u64 = 1024;

/// A window manager, and libraries of the daemon of Qubes and of what an X server preloads for it.
const DAEMON_PACKAGES: &[&str] = &[
    "evilwm",
    "libconfig11",
    "libnotify4",
    "libpng16-16t64",
    "libx11-xcb1",
    "libxcb-shm0",
    "libxcb-util1",
    "libxengnttab1",
    "libxenmisc4.20",
    "libxenstore4",
];

const SYSTEM: &str = r##"(
    defaults: (
        vcpus: 1,
        memory: (initial: 500, maximum: 500),
        netvm: None,
        features: {"gui": true},
    ),
    labels: {"mine": (color: "0x12ab34")},
    templates: {
        "ours": (source: Image("/var/tmp/ours")),
        "theirs": (source: Image("/var/tmp/theirs")),
    },
    qubes: {
        "work": (
            template: "theirs",
            label: "mine",
            volumes: {"private": (size: 64)},
            // Their channels ask Xen for what its driver gives to no guest otherwise.
            kernelopts: "xen_privcmd.unrestricted systemd.show_status=no",
        ),
        "vault": (
            template: "ours",
            label: "black",
            volumes: {"private": (size: 64)},
            // The rest of systemd takes long under emulation, and is not what this is about.
            kernelopts: "systemd.unit=qube-agent.service systemd.show_status=no",
        ),
    },
    policy: ["qubes.ClipboardPaste * @anyvm @anyvm ask"],
)"##;

fn inputs() -> Result<Key> {
    let proxy = package("bulkhead-desktop")?;
    let proxy =
        std::fs::read(&proxy).with_context(|| format!("cannot read {}", proxy.display()))?;
    let ours = running::inputs_with(&template_of(windows::RECIPE)?)?;
    let theirs = running::inputs_with(&template_of(RECIPE)?)?;
    let stock = Stock::kept()?;
    let here: [&[u8]; 6] = [
        include_bytes!("stock.rs"),
        include_bytes!("windows.rs"),
        &proxy,
        ours.as_str().as_bytes(),
        theirs.as_str().as_bytes(),
        stock.key().as_str().as_bytes(),
    ];
    Ok(Key::of(here))
}

fn prepare(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let stock = Stock::kept()?;
    with_snapshots(dom0)?;
    packages::install(dom0)?;
    put_template_at(
        world,
        &template_of(windows::RECIPE)?,
        windows::ROOT_MIB,
        "/var/tmp/ours",
    )?;
    put_template_at(world, &template_of(RECIPE)?, ROOT_MIB, "/var/tmp/theirs")?;
    put_agent(dom0, &stock)?;
    windows::put_proxy(dom0)?;
    windows::put_screen(world, &[SCREEN_PACKAGES, DAEMON_PACKAGES].concat())?;
    put_daemon(dom0, &stock)?;
    dom0.put(SYSTEM.as_bytes(), DESCRIPTION)?;
    running::start(dom0)?;
    long(dom0, "bulkhead apply --yes 2>&1")?;
    for qube in ["work", "vault"] {
        starts(dom0, qube)?;
    }
    running::both_run(world)?;
    windows::session(dom0, "vault")?;
    let connected = in_work("grep -x connected /run/qubes/gui-agent.status");
    waits(dom0, &connected)
}

/// Lays the agent of Qubes over the template that has none.
fn put_agent(dom0: &dyn Line, stock: &Stock) -> Result<()> {
    dom0.put_file(&stock.guest(), "/tmp/agent.tar")?;
    dom0.sh(
        "mkdir /tmp/root; mount -o loop /var/tmp/theirs/root.ext4 /tmp/root
         tar -C /tmp/root --keep-directory-symlink -xf /tmp/agent.tar; rm /tmp/agent.tar
         umount /tmp/root; rmdir /tmp/root",
    )
    .map(drop)
}

/// Puts the daemon of Qubes beside the display.
fn put_daemon(dom0: &dyn Line, stock: &Stock) -> Result<()> {
    dom0.put_file(&stock.dom0(), "/tmp/daemon.tar")?;
    dom0.sh(&format!(
        "tar -C {SCREEN} --keep-directory-symlink -xf /tmp/daemon.tar; rm /tmp/daemon.tar
         mkdir -p {SCREEN}/run/qubes {SCREEN}/var/log/qubes; ln -s /run {SCREEN}/var/run"
    ))
    .map(drop)
}

/// A command of dom0 that runs `script` as root where the agent of Qubes is.
fn in_work(script: &str) -> String {
    format!("timeout 60 bulkhead run --user root work -- '{script}'")
}

/// Waits until a command of dom0 succeeds.
fn waits(dom0: &dyn Line, script: &str) -> Result<()> {
    let done = dom0.wait_until(script, APPEARS);
    done.map_err(|error| error.context(told(dom0))).map(drop)
}

/// What explains that something is not as it should be.
fn told(dom0: &dyn Line) -> String {
    let theirs = "journalctl -u qubes-gui-agent --no-pager -o cat | tail -20; \
                  tail -n 40 /home/user/.xsession-errors";
    let said = dom0.sh(&format!(
        "journalctl -u guid -u shown -u manager --no-pager -o cat | tail -40; {} || true",
        in_work(theirs)
    ));
    windows::told(dom0) + &said.unwrap_or_default()
}

/// Windows of a qube on the screen, menus too, a number a line, the newest last.
fn all_of(qube: &str) -> String {
    format!("xdotool search --onlyvisible --class \"^{qube}:\" | sort -n")
}

/// The newest window of a qube: left, top, width, height.
fn place(dom0: &dyn Line, qube: &str) -> Result<[i32; 4]> {
    let windows = all_of(qube);
    let said = windows::on_screen(
        dom0,
        &format!("xdotool getwindowgeometry --shell $({windows} | tail -n 1)"),
    )?;
    let of = |name: &str| -> Result<i32> {
        let line = said.lines().find_map(|line| line.strip_prefix(name));
        line.with_context(|| said.clone())?
            .parse()
            .context("no number")
    };
    Ok([of("X=")?, of("Y=")?, of("WIDTH=")?, of("HEIGHT=")?])
}

/// Opens a terminal in a qube and types into it.
fn typed(dom0: &dyn Line, qube: &str) -> Result<()> {
    windows::opens(dom0, qube, "read line; echo $line > typed; sleep 600")?;
    windows::focus(dom0, qube)?;
    windows::on_screen(dom0, "xdotool type --delay 200 hello")?;
    windows::press(dom0, "Return")?;
    let typed = format!("timeout 100 bulkhead run {qube} -- 'grep -x hello ~/typed'");
    waits(dom0, &typed)
}

/// Where the terminal's menu is asked for.
const POINTER: [i32; 2] = [120, 80];

/// Opens the menu of the terminal, which is there when `look` is called, and lets it go.
fn menu(dom0: &dyn Line, qube: &str, look: impl FnOnce() -> Result<()>) -> Result<()> {
    let [x, y] = POINTER;
    windows::on_screen(
        dom0,
        &format!("xdotool mousemove {x} {y} sleep 1 keydown ctrl sleep 1 mousedown 1"),
    )?;
    let count = |count| format!("test $({} | wc -l) = {count}", all_of(qube));
    waits_on_screen(dom0, &count(2))?;
    let [left, top, width, height] = place(dom0, qube)?;
    ensure!(
        (left..left + width).contains(&x) && (top..top + height).contains(&y) && height > 300,
        "the menu has {width}x{height} at {left} {top}"
    );
    look()?;
    windows::on_screen(
        dom0,
        "xdotool mousemove 700 550 sleep 1 mouseup 1 keyup ctrl",
    )?;
    waits_on_screen(dom0, &count(1))
}

fn waits_on_screen(dom0: &dyn Line, script: &str) -> Result<()> {
    let done = windows::on_screen_until(dom0, script);
    done.map_err(|error| error.context(told(dom0))).map(drop)
}

/// Gives the window of a qube another size, which its terminal learns in rows and columns.
fn resized(dom0: &dyn Line, qube: &str, rows_and_columns: &str) -> Result<()> {
    windows::on_screen(
        dom0,
        &format!("xdotool windowsize $({} | tail -n 1) 400 300", all_of(qube)),
    )?;
    let size = format!(
        "timeout 60 bulkhead run --user root {qube} -- \
           'stty -F /dev/pts/0 size | grep -x \"{rows_and_columns}\"'"
    );
    waits(dom0, &size)
}

/// Waits until a qube has no window, and no terminal.
fn closed(dom0: &dyn Line, qube: &str) -> Result<()> {
    windows::gone(dom0, qube)?;
    waits(
        dom0,
        &format!("! timeout 60 bulkhead run {qube} -- 'pgrep -x xterm'"),
    )
}

fn their_agent(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    typed(dom0, "work")?;
    windows::wait_for_pixels(dom0)?;
    windows::keep_picture(dom0, "agent")?;
    menu(dom0, "work", || {
        windows::wait_for_pixels(dom0)?;
        windows::keep_picture(dom0, "agent-menu")
    })?;
    // Of the window inside of the frame, with letters of 6 by 13.
    resized(dom0, "work", "21 64")?;
    carried(dom0)?;
    let [left, top, width, _] = place(dom0, "work")?;
    let (x, y) = (left + width - 13, top + 11);
    windows::focus(dom0, "work")?;
    windows::on_screen(
        dom0,
        &format!(
            "xdotool windowraise $({} | tail -n 1) sleep 1 mousemove {x} {y} sleep 1 click 1",
            all_of("work")
        ),
    )?;
    closed(dom0, "work")?;
    let said = dom0.sh("journalctl -u bulkheadd --no-pager -o cat | grep 'bulkhead-gui work:'")?;
    let usual = ["confined: ", "the agent speaks 1.8"];
    let other = said
        .lines()
        .find(|line| !usual.iter().any(|usual| line.contains(usual)));
    ensure!(other.is_none(), "{said}");
    Ok(())
}

/// Text goes from the agent of Qubes to ours, and back.
fn carried(dom0: &dyn Line) -> Result<()> {
    windows::opens(dom0, "vault", "sleep 600")?;
    windows::focus(dom0, "vault")?;
    for (from, to) in [("work", "vault"), ("vault", "work")] {
        let offered =
            format!("printf from-{from} | setsid xclip -selection clipboard > /dev/null 2>&1");
        sh(dom0, from, &offered)?;
        windows::focus(dom0, from)?;
        windows::press(dom0, "ctrl+shift+c")?;
        waits(
            dom0,
            &format!("bulkhead clipboard status | grep ' from {from}'"),
        )?;
        windows::focus(dom0, to)?;
        windows::press(dom0, "ctrl+shift+v")?;
        let held = format!(
            "timeout 100 bulkhead run {to} -- 'timeout 20 xclip -selection clipboard -out'"
        );
        waits(dom0, &format!("test \"$({held})\" = from-{from}"))?;
    }
    Ok(())
}

/// A display for the daemon of Qubes, with a window manager, and that daemon, in the place of ours.
fn show_by_theirs(dom0: &dyn Line, qube: &str) -> Result<()> {
    let preload = "/usr/lib/qubes-gui-daemon/shmoverride.so";
    let (width, height) = windows::SIZE;
    dom0.sh(&format!(
        "systemctl stop offer display
         systemd-run --quiet --unit=shown chroot {SCREEN} env LD_PRELOAD={preload} \
           Xvfb {DISPLAY} -screen 0 {width}x{height}x24 -nolisten tcp"
    ))?;
    waits_on_screen(dom0, "xdotool getdisplaygeometry")?;
    let display = format!("--setenv=DISPLAY={DISPLAY}");
    let color = format!("0x{:06x}", windows::LABEL);
    dom0.sh(&format!(
        "systemd-run --quiet --unit=manager {display} chroot {SCREEN} evilwm -fn fixed"
    ))?;
    waits_on_screen(
        dom0,
        "xprop -root _NET_SUPPORTING_WM_CHECK | grep -q window",
    )?;
    dom0.sh(&format!(
        "domain=$(xl domid {qube})
         systemd-run --quiet --unit=guid {display} chroot {SCREEN} qubes-guid --foreground \
           --title-name --domid=$domain --target-domid=$domain --name={qube} --color={color} \
           --label=1 --icon=appvm-black"
    ))
    .map(drop)
}

fn their_daemon(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    show_by_theirs(dom0, "vault")?;
    typed(dom0, "vault")?;
    menu(dom0, "vault", || {
        // It draws the label's colour around menus, and leaves other windows to their manager.
        windows::wait_for_pixels(dom0)?;
        windows::keep_picture(dom0, "daemon-menu")
    })?;
    resized(dom0, "vault", "22 66")?;
    sh(
        dom0,
        "vault",
        "printf secret | setsid xclip -selection clipboard > /dev/null 2>&1",
    )?;
    windows::focus(dom0, "vault")?;
    windows::press(dom0, "ctrl+shift+c")?;
    let copied = format!("grep -x secret {SCREEN}/run/qubes/qubes-clipboard.bin");
    waits(dom0, &copied)?;
    // The window manager's keys for it.
    windows::press(dom0, "ctrl+alt+Escape")?;
    closed(dom0, "vault")?;
    dom0.sh("systemctl is-active guid").map(drop)
}
