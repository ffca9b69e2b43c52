//! Debian packages that a build, demo or test needs.

use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::process::{Options, capture, cargo, run};

/// A Debian package and what it is for.
pub(crate) type Package = (&'static str, &'static str);

const PACKAGES: &[Package] = &[
    ("bubblewrap", "the embedded hypervisor's namespaces"),
    ("g++", "libFuzzer, for the fuzz targets"),
    ("gcc", "linking"),
    ("git", "tests of the repository's own rules"),
    ("libc6-dev", "linking, also statically for the agent"),
    ("libsqlite3-dev", "bulkheadd's journal and generations"),
    ("mmdebstrap", "Debian templates"),
    ("pkg-config", "finding the libraries above"),
    ("procps", "`kill`, with which demo and tests end daemons"),
    ("uidmap", "Debian templates that an ordinary user builds"),
    ("zstd", "kernels of templates"),
];

/// What windows of qubes need: to build what shows them, and to be seen.
const WINDOWS: &[Package] = &[
    ("libpixman-1-dev", "painting windows"),
    ("libxkbcommon-dev", "keymaps"),
    ("openbox", "a window manager, for demo and tests"),
    ("scrot", "pictures of a display, for the demo"),
    ("x11-apps", "X applications, for demo and tests"),
    ("xclip", "clipboards of X, for demo and tests"),
    ("xdotool", "keys and windows, for the demo"),
    ("xterm", "an X terminal, for demo and tests"),
    ("xvfb", "a display, for demo and tests"),
    ("xwayland", "X applications in a qube"),
];

/// What the program on the desktop and its tests need; the demo does without.
const DESKTOP: &[Package] = &[
    ("at-spi2-core", "what a screen reader sees, for tests"),
    ("dbus-daemon", "a session bus, for tests"),
    ("fonts-dejavu-core", "prompts that can be read, in tests"),
    ("libgtk-4-dev", "prompts"),
    ("libnotify-bin", "notifications of a qube, for tests"),
];

/// Applications that the tests of the compositor in a qube show; the demo does without.
const GUEST: &[Package] = &[
    ("fcitx5", "an input method, for tests"),
    ("fcitx5-pinyin", "an input method for Chinese, for tests"),
    ("featherpad", "an application of Qt, for tests"),
    ("firefox-esr", "a browser, for tests"),
    ("foot", "a Wayland terminal, for tests"),
    ("gir1.2-gtk-4.0", "an application of GTK, for tests"),
    ("libreoffice-gtk3", "a word processor by GTK, for tests"),
    ("libreoffice-writer", "a word processor, for tests"),
    ("python3-gi", "an application of GTK, for tests"),
    ("qtwayland5", "an application of Qt, for tests"),
    ("weston", "Wayland applications with menus, for tests"),
    ("x11-utils", "properties of X windows, for tests"),
];

/// What the bindings to Xen's libraries are made with; the demo does without.
const XEN: &[Package] = &[("libclang-dev", "reading Xen's headers")];

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    Options::new(arguments).finish()?;
    ensure_all()
}

/// Installs what the demo lacks; says nothing when that is nothing.
pub(crate) fn ensure() -> Result<()> {
    install(&[PACKAGES, WINDOWS].concat())
}

/// Installs and fetches whatever is missing for building and testing everything.
pub(crate) fn ensure_all() -> Result<()> {
    install(&[PACKAGES, WINDOWS, DESKTOP, GUEST, XEN].concat())?;
    xen_headers()
}

/// Has Xen's headers in the user's cache, where the build of the bindings looks for them. They are
/// dom0's and not this machine's, so they are unpacked there and not installed.
fn xen_headers() -> Result<()> {
    run(cargo().args([
        "run",
        "--quiet",
        "-p",
        "bulkhead-templates",
        "--bin",
        "bulkhead-tools",
    ]))
    .context("Xen's headers cannot be fetched")
}

/// Installs those of `packages` that are missing.
pub(crate) fn install(packages: &[Package]) -> Result<()> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    println!("Installing {} Debian package(s):", missing.len());
    for (name, purpose) in packages.iter().filter(|(name, _)| missing.contains(name)) {
        println!("  {name:<16} {purpose}");
    }
    let mut install = vec![
        "apt-get",
        "install",
        "--yes",
        "--quiet=2",
        "--no-install-recommends",
    ];
    install.extend(&missing);
    let become_root = Root::find()?;
    // The list may never have been fetched, or be too old to name the versions the mirror has.
    let done = become_root.run(&install).or_else(|_| {
        become_root.run(&["apt-get", "update", "--quiet=2"])?;
        become_root.run(&install)
    });
    done.map_err(|error| anyhow!("{error:#}\n{}", by_hand(&missing)))
}

/// What a person does who may become root where we cannot.
fn by_hand(missing: &[&str]) -> String {
    format!(
        "hint: as root, run this, and then the same command again:\n  \
         apt-get update && apt-get install --no-install-recommends {}",
        missing.join(" ")
    )
}

fn missing(packages: &[Package]) -> Result<Vec<&'static str>> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"])
        .args(packages.iter().map(|(name, _)| name))
        .output()
        .context(
            "cannot start `dpkg-query`: this set-up needs Debian or a system derived from it",
        )?;
    let listed = String::from_utf8_lossy(&output.stdout);
    let installed: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .collect();
    Ok(packages
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !installed.contains(name))
        .collect())
}

/// How commands are run as root.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Root {
    /// We are.
    Already,
    /// By sudo, which may ask for a password.
    Sudo,
    /// Not at all.
    Never,
}

impl Root {
    fn find() -> Result<Self> {
        let uid = capture(Command::new("id").arg("-u"))?;
        Ok(if uid.stdout.trim_ascii() == b"0" {
            Self::Already
        } else if Command::new("sudo").arg("--version").output().is_ok() {
            Self::Sudo
        } else {
            Self::Never
        })
    }

    /// Runs `words`; what they say is told only if they fail.
    fn run(self, words: &[&str]) -> Result<()> {
        let mut command = match self {
            Self::Already => Command::new("env"),
            Self::Sudo => Command::new("sudo"),
            Self::Never => bail!("only root can install packages, and there is no `sudo`"),
        };
        command.stdin(std::process::Stdio::inherit());
        capture(command.arg("DEBIAN_FRONTEND=noninteractive").args(words)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::{Root, by_hand};

    #[test]
    fn who_cannot_become_root_is_told_what_to_type() {
        let error = Root::Never.run(&["apt-get", "update"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "only root can install packages, and there is no `sudo`"
        );
        assert_eq!(
            by_hand(&["gcc", "uidmap"]).lines().last(),
            Some("  apt-get update && apt-get install --no-install-recommends gcc uidmap")
        );
    }
}
