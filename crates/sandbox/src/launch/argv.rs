//! The command line for bubblewrap.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use super::stage::{ROOT_LINKS, RootPart, Staged};
use super::{GUARD, LaunchError, LaunchSpec, QUBE_UID, RootSource, SOCKETS};

/// Longest host name that Linux takes.
const HOSTNAME_MAX: usize = 64;

/// Refuses what would be read as something else further down: names end in files and arguments.
pub(super) fn check(spec: &LaunchSpec) -> Result<(), LaunchError> {
    let plain = |text: &str| {
        !text.is_empty()
            && text.len() <= HOSTNAME_MAX
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
    };
    for (what, value) in [("host name", &spec.hostname), ("user name", &spec.user)] {
        if !plain(value) || (what == "user name" && matches!(value.as_str(), "root" | "nobody")) {
            let value = value.clone();
            return Err(LaunchError::Unusable { what, value });
        }
    }
    for (name, _) in &spec.volumes {
        if !plain(name) {
            let (what, value) = ("volume name", name.clone());
            return Err(LaunchError::Unusable { what, value });
        }
    }
    if spec.command.is_empty() {
        let value = String::new();
        return Err(LaunchError::Unusable {
            what: "command",
            value,
        });
    }
    Ok(())
}

/// Where bubblewrap says what becomes of the qube.
#[derive(Debug)]
pub(super) struct Told {
    /// The pid of its first process, at once.
    pub(super) info: OwnedFd,
    /// The same, and at last the exit code.
    pub(super) status: OwnedFd,
}

/// Collects arguments.
#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn add<const N: usize>(&mut self, words: [&str; N]) {
        self.0.extend(words.map(str::to_owned));
    }

    fn bind(&mut self, from: &Path, to: &Path) {
        self.add([
            "--bind",
            &from.display().to_string(),
            &to.display().to_string(),
        ]);
    }
}

/// Arguments after the program's name.
pub(super) fn bubblewrap(
    spec: &LaunchSpec,
    roots: &[RootPart],
    staged: &Staged,
    filters: &[OwnedFd],
    told: &Told,
) -> Vec<String> {
    let mut a = Arguments::default();
    for name in ["user", "pid", "net", "ipc", "uts", "cgroup-try"] {
        a.add([&format!("--unshare-{name}")]);
    }
    let id = QUBE_UID.to_string();
    a.add(["--disable-userns", "--cap-drop", "ALL"]);
    a.add(["--uid", &id, "--gid", &id, "--hostname", &spec.hostname]);
    a.add(["--as-pid-1", "--clearenv", "--chdir", "/"]);
    for root in roots {
        a.bind(&root.source, &root.target);
    }
    if spec.root == RootSource::Host {
        for name in ROOT_LINKS {
            let at = Path::new("/").join(name);
            if let Ok(target) = std::fs::read_link(&at) {
                a.add([
                    "--symlink",
                    &target.display().to_string(),
                    &at.display().to_string(),
                ]);
            }
        }
        a.add([
            "--tmpfs",
            "/var",
            "--dir",
            "/var/tmp",
            "--symlink",
            "../run",
            "/var/run",
        ]);
    }
    a.add(["--proc", "/proc", "--dev", "/dev"]);
    a.add(["--perms", "1777", "--tmpfs", "/tmp", "--tmpfs", "/run"]);
    a.bind(&staged.private, Path::new("/rw"));
    a.bind(&staged.private.join("home"), Path::new("/home"));
    a.bind(&staged.vchan, Path::new(SOCKETS));
    a.add(["--symlink", SOCKETS, "/run/vchan"]);
    a.add(["--ro-bind", &staged.guard.display().to_string(), GUARD]);
    for (name, source) in &staged.volumes {
        a.bind(source, &Path::new("/mnt").join(name));
    }
    a.add(["--dir", "/run/qubes", "--dir", "/run/qubes-rpc"]);
    for (name, value) in &spec.environment {
        a.add(["--setenv", name, value]);
    }
    for filter in filters {
        a.add(["--add-seccomp-fd", &filter.as_raw_fd().to_string()]);
    }
    let (info, status) = (told.info.as_raw_fd(), told.status.as_raw_fd());
    a.add(["--info-fd", &info.to_string()]);
    a.add(["--json-status-fd", &status.to_string(), "--", GUARD]);
    a.0.extend(spec.command.iter().cloned());
    a.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> LaunchSpec {
        LaunchSpec {
            bwrap: "/usr/bin/bwrap".into(),
            hostname: "work".into(),
            user: "user".into(),
            host_id: None,
            root: RootSource::Host,
            layers: Vec::new(),
            scratch: "/s".into(),
            scratch_size: None,
            private: None,
            volumes: Vec::new(),
            vchan: "/v".into(),
            guard: "/g".into(),
            environment: Vec::new(),
            command: vec!["/bin/true".into()],
            cgroups: Vec::new(),
            process_limits: None,
            status: "/t".into(),
        }
    }

    #[test]
    fn names_that_would_be_more_than_names_are_refused() {
        assert!(check(&spec()).is_ok());
        for bad in ["", "a:b", "a\nb", "../x", "--bind", "root"] {
            let spec = LaunchSpec {
                user: bad.into(),
                ..spec()
            };
            assert!(check(&spec).is_err(), "user `{bad}` must be refused");
        }
        let longest = "h".repeat(HOSTNAME_MAX);
        for (hostname, good) in [(longest.clone(), true), (longest + "h", false)] {
            let spec = LaunchSpec { hostname, ..spec() };
            assert_eq!(check(&spec).is_ok(), good);
        }
    }

    #[test]
    fn a_launch_without_a_command_is_refused() {
        let spec = LaunchSpec {
            command: Vec::new(),
            ..spec()
        };
        assert_eq!(
            check(&spec).unwrap_err().to_string(),
            "command `` cannot be used"
        );
    }
}
