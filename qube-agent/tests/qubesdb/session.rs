//! The graphical session, which is there where dom0 says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use bulkhead_testing::{wait_for, write_program};

use super::*;

const ENABLED: &str = "/qubes-gui-enabled";

/// A program of the guest that runs.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Guest {
    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Installs a compositor that notes each start, announces itself, and runs until the guest is
    /// gone or the file `stop` is there, which it takes away.
    fn install_compositor(&self) {
        let script = "#!/bin/sh
            PATH=/usr/bin:/bin
            [ \"$3\" = --session ] && [ -d \"$XDG_RUNTIME_DIR\" ] || exit 3
            echo \"$1 $2 $5 $6 $XKB_DEFAULT_LAYOUT\" >> starts
            echo WAYLAND_DISPLAY=w > \"$4\"
            while [ -e starts ] && [ ! -e stop ]; do sleep 0.05; done
            rm stop\n";
        self.install("compositor", script);
    }

    /// Installs a session bus that notes how it was started.
    fn install_bus(&self) {
        let script = "#!/bin/sh
            PATH=/usr/bin:/bin
            echo \"$* for $WAYLAND_DISPLAY\" > bus
            while [ -e bus ]; do sleep 0.05; done\n";
        self.install("dbus-daemon", script);
    }

    fn install(&self, name: &str, script: &str) {
        let path = self.file(name);
        write_program(path, script);
    }

    fn start_program(&self, name: &str) -> Running {
        let mut command = program(&self.dir);
        command
            .arg(name)
            .current_dir(self.dir.path())
            // No bus but the one that is installed here.
            .env("PATH", self.dir.path())
            .env("QUBE_GUI_AGENT", self.file("compositor"))
            .env("XDG_RUNTIME_DIR", self.file("runtime"))
            .stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Root is told whose session is meant; others need not read it.
        let users = bulkhead_qrexec::users::Users::read().unwrap();
        let user = users.by_uid(rustix::process::geteuid().as_raw()).unwrap();
        let _ = writeln!(child.stdin.take().unwrap(), "{}", user.name);
        Running(child)
    }

    /// How often the compositor was started.
    fn starts(&self) -> usize {
        let text = fs::read_to_string(self.file("starts")).unwrap_or_default();
        text.lines().count()
    }
}

#[test]
fn a_compositor_runs_once_dom0_says_so_and_again_when_it_ends() {
    let mut guest = Guest::start(&[
        (ENABLED, "False"),
        ("/vm-config/gui-scale", "1.5"),
        ("/keyboard-layout", "de"),
    ]);
    guest.install_compositor();
    let keeper = guest.start_program("session");
    guest.set(ENABLED, "True");
    wait_for("a compositor", || (guest.starts() == 1).then_some(()));
    let arguments = fs::read_to_string(guest.file("starts")).unwrap();
    assert_eq!(arguments, "--socket wayland-0 --scale 1.5 de\n");
    let runtime = guest.file("runtime").metadata().unwrap();
    assert_eq!(runtime.permissions().mode() & 0o777, 0o700);
    fs::write(guest.file("stop"), "").unwrap();
    wait_for("another", || (guest.starts() == 2).then_some(()));
    // Ends the second one, which nobody starts again.
    drop(keeper);
    fs::write(guest.file("stop"), "").unwrap();
    wait_for("its end", || (!guest.file("stop").exists()).then_some(()));
}

#[test]
fn a_session_has_a_bus_unless_somebody_else_serves_one() {
    for served in [false, true] {
        let guest = Guest::start(&[(ENABLED, "True")]);
        guest.install_compositor();
        guest.install_bus();
        fs::create_dir(guest.file("runtime")).unwrap();
        let socket = guest.file("runtime/bus");
        let _server = served.then(|| UnixListener::bind(&socket).unwrap());
        let _keeper = guest.start_program("session");
        // The compositor comes after it.
        wait_for("a compositor", || (guest.starts() == 1).then_some(()));
        if served {
            assert!(socket.exists() && !guest.file("bus").exists());
            continue;
        }
        let told = wait_for("a bus", || {
            let told = fs::read_to_string(guest.file("bus")).ok();
            told.filter(|told| told.ends_with('\n'))
        });
        let address = format!("--address=unix:path={}", socket.display());
        let expected = format!("--session --nofork --nopidfile {address} for wayland-0\n");
        assert_eq!(told, expected);
    }
}

#[test]
fn a_session_is_waited_for_until_it_answers() {
    let guest = Guest::start(&[(ENABLED, "True")]);
    guest.install_compositor();
    let mut waiting = guest.start_program("qubes.WaitForSession");
    fs::create_dir(guest.file("runtime")).unwrap();
    fs::write(
        guest.file("runtime/qube-gui-session"),
        "WAYLAND_DISPLAY=w\n",
    )
    .unwrap();
    assert_eq!(waiting.0.try_wait().unwrap(), None, "nobody serves it yet");
    let _served = UnixListener::bind(guest.file("runtime/w")).unwrap();
    assert!(waiting.0.wait().unwrap().success());
}

#[test]
fn nobody_waits_for_a_session_that_will_not_be() {
    for (enabled, is_installed) in [("False", true), ("True", false)] {
        let guest = Guest::start(&[(ENABLED, enabled)]);
        if is_installed {
            guest.install_compositor();
        }
        let mut waiting = guest.start_program("qubes.WaitForSession");
        assert!(waiting.0.wait().unwrap().success(), "{enabled}");
    }
}
