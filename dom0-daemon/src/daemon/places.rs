//! Where things are on this machine.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use bulkhead_qrexec::lookup::{CONFIG_PATH, Folders, SERVICE_PATH};

use super::args::Args;
use super::error::DaemonError;

/// Longest runtime folder, in bytes: with `/qubes/<31>/vchan/vchan.<5>.<5>.<3>.sock` behind it,
/// a socket's name must fit the 107 bytes that the kernel has for it.
pub(super) const RUNTIME_DIR_MAX: usize = 107 - "/qubes/".len() - 31 - "/vchan/".len() - 27;

/// Where programs of ours are when they are not beside the daemon.
const LIBEXEC: &str = "/usr/libexec/bulkhead";

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) system: PathBuf,
    pub(super) state: PathBuf,
    pub(super) runtime: PathBuf,
    /// Of services that qubes may call in dom0.
    pub(super) services: Folders,
    libexec: Vec<PathBuf>,
}

/// What the places of an ordinary user depend on.
#[derive(Debug, Clone, Default)]
struct Surroundings {
    root: bool,
    home: Option<PathBuf>,
    config_home: Option<PathBuf>,
    state_home: Option<PathBuf>,
    runtime_home: Option<PathBuf>,
    service_path: Option<OsString>,
    service_config_path: Option<OsString>,
}

impl Surroundings {
    fn of_this_process() -> Self {
        let folder = |name: &str| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            // The specification of these variables has relative ones ignored.
            value.map(PathBuf::from).filter(|path| path.is_absolute())
        };
        Self {
            root: rustix::process::geteuid().is_root(),
            home: folder("HOME"),
            config_home: folder("XDG_CONFIG_HOME"),
            state_home: folder("XDG_STATE_HOME"),
            runtime_home: folder("XDG_RUNTIME_DIR"),
            service_path: std::env::var_os("QREXEC_SERVICE_PATH"),
            service_config_path: std::env::var_os("QUBES_RPC_CONFIG_PATH"),
        }
    }

    /// Folders of services or of their configuration; an ordinary user's own come first.
    fn folders(
        &self,
        wanted: [Option<&OsString>; 2],
        standard: &str,
        own: Option<PathBuf>,
    ) -> Vec<PathBuf> {
        if let Some(path) = wanted.into_iter().flatten().next() {
            let folders = std::env::split_paths(path);
            return folders.filter(|folder| folder.is_absolute()).collect();
        }
        let own = own.filter(|_| !self.root);
        own.into_iter()
            .chain(std::env::split_paths(standard))
            .collect()
    }

    fn pick(
        &self,
        wanted: Option<&Path>,
        root: &str,
        own: Option<PathBuf>,
        option: &'static str,
    ) -> Result<PathBuf, DaemonError> {
        if let Some(path) = wanted {
            return std::path::absolute(path).map_err(|source| DaemonError::Start {
                doing: "find the current folder",
                source,
            });
        }
        if self.root {
            return Ok(PathBuf::from(root));
        }
        own.ok_or(DaemonError::NoDefault { option })
    }
}

impl Places {
    /// Those of this process.
    pub(super) fn of(args: &Args) -> Result<Self, DaemonError> {
        let mut libexec = Vec::new();
        if let Some(folder) = std::env::var_os("BULKHEAD_LIBEXEC").filter(|dir| !dir.is_empty()) {
            libexec.push(PathBuf::from(folder));
        }
        if let Ok(own) = std::env::current_exe()
            && let Some(folder) = own.parent()
        {
            libexec.push(folder.to_owned());
        }
        libexec.push(PathBuf::from(LIBEXEC));
        Self::with(args, &Surroundings::of_this_process(), libexec)
    }

    fn with(
        args: &Args,
        around: &Surroundings,
        libexec: Vec<PathBuf>,
    ) -> Result<Self, DaemonError> {
        let home = |rest: &str| around.home.as_ref().map(|home| home.join(rest));
        let config = around.config_home.clone().or_else(|| home(".config"));
        let state = around.state_home.clone().or_else(|| home(".local/state"));
        let own = |name: &str| {
            config
                .as_ref()
                .map(|folder| folder.join("bulkhead").join(name))
        };
        let services = Folders {
            services: around.folders(
                [args.service_path.as_ref(), around.service_path.as_ref()],
                SERVICE_PATH,
                own("qubes-rpc"),
            ),
            configs: around.folders(
                [
                    args.service_config_path.as_ref(),
                    around.service_config_path.as_ref(),
                ],
                CONFIG_PATH,
                own("rpc-config"),
            ),
        };
        let places = Self {
            services,
            system: around.pick(
                args.system.as_deref(),
                "/etc/bulkhead/system.ron",
                config
                    .as_ref()
                    .map(|folder| folder.join("bulkhead/system.ron")),
                "--system",
            )?,
            state: around.pick(
                args.state_dir.as_deref(),
                "/var/lib/bulkhead",
                state.map(|folder| folder.join("bulkhead")),
                "--state-dir",
            )?,
            runtime: around.pick(
                args.runtime_dir.as_deref(),
                "/run/bulkhead",
                around.runtime_home.as_ref().map(|dir| dir.join("bulkhead")),
                "--runtime-dir",
            )?,
            libexec,
        };
        let length = places.runtime.as_os_str().len();
        if length > RUNTIME_DIR_MAX {
            return Err(DaemonError::RuntimeDirTooLong {
                folder: places.runtime,
                length,
            });
        }
        Ok(places)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.runtime.join("bus")
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.state.join("log/bulkheadd.log")
    }

    /// A program of ours.
    pub(super) fn program(&self, name: &str) -> Result<PathBuf, DaemonError> {
        let mut candidates = self.libexec.iter().map(|folder| folder.join(name));
        candidates
            .find(|path| path.is_file())
            .ok_or_else(|| DaemonError::NoProgram {
                name: name.to_owned(),
                looked_in: self
                    .libexec
                    .iter()
                    .map(|folder| shown(folder.as_os_str()))
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }
}

fn shown(path: &OsStr) -> String {
    format!("`{}`", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn args(list: &[&str]) -> Args {
        Args::parse_from([&["bulkheadd"], list].concat())
    }

    fn user() -> Surroundings {
        Surroundings {
            home: Some("/home/ann".into()),
            runtime_home: Some("/run/user/7".into()),
            ..Surroundings::default()
        }
    }

    #[test]
    fn root_has_the_places_of_the_machine() {
        let root = Surroundings {
            root: true,
            ..user()
        };
        let places = Places::with(&args(&[]), &root, Vec::new()).unwrap();
        assert_eq!(places.system, Path::new("/etc/bulkhead/system.ron"));
        assert_eq!(places.state, Path::new("/var/lib/bulkhead"));
        assert_eq!(places.socket(), Path::new("/run/bulkhead/bus"));
    }

    #[test]
    fn a_user_has_places_of_their_own() {
        let places = Places::with(&args(&[]), &user(), Vec::new()).unwrap();
        assert_eq!(
            places.system,
            Path::new("/home/ann/.config/bulkhead/system.ron")
        );
        assert_eq!(places.state, Path::new("/home/ann/.local/state/bulkhead"));
        assert_eq!(places.runtime, Path::new("/run/user/7/bulkhead"));
        let mut other = user();
        other.state_home = Some("/data".into());
        let places = Places::with(&args(&[]), &other, Vec::new()).unwrap();
        assert_eq!(places.state, Path::new("/data/bulkhead"));
    }

    #[test]
    fn services_are_in_the_standard_folders_or_where_it_is_said() {
        let of = |args, around: &Surroundings| {
            let places = Places::with(&args, around, Vec::new()).unwrap();
            let text = |folders: &[PathBuf]| {
                let folders: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
                folders.join(":")
            };
            (
                text(&places.services.services),
                text(&places.services.configs),
            )
        };
        let root = Surroundings {
            root: true,
            ..user()
        };
        let standard = (SERVICE_PATH.to_owned(), CONFIG_PATH.to_owned());
        assert_eq!(of(args(&[]), &root), standard);
        let (services, configs) = of(args(&[]), &user());
        let own = "/home/ann/.config/bulkhead";
        assert_eq!(services, format!("{own}/qubes-rpc:{SERVICE_PATH}"));
        assert_eq!(configs, format!("{own}/rpc-config:{CONFIG_PATH}"));
        let mut told = user();
        told.service_path = Some("/a:/b".into());
        assert_eq!(of(args(&[]), &told).0, "/a:/b");
        let said = args(&["--service-path", "/c", "--service-config-path", ":relative"]);
        assert_eq!(of(said, &told), ("/c".to_owned(), String::new()));
    }

    #[test]
    fn what_cannot_be_guessed_must_be_said() {
        let bare = Surroundings::default();
        let error = Places::with(
            &args(&["--system", "/s", "--state-dir", "/t"]),
            &bare,
            vec![],
        );
        insta::assert_snapshot!(
            error.unwrap_err(),
            @"there is no default for --runtime-dir here"
        );
    }

    #[test]
    fn accepts_the_longest_runtime_folder_and_refuses_one_more() {
        let folder = format!("/{}", "r".repeat(RUNTIME_DIR_MAX - 1));
        assert!(Places::with(&args(&["--runtime-dir", &folder]), &user(), vec![]).is_ok());
        let longer = format!("{folder}r");
        assert!(matches!(
            Places::with(&args(&["--runtime-dir", &longer]), &user(), vec![]),
            Err(DaemonError::RuntimeDirTooLong { .. })
        ));
    }

    #[test]
    fn finds_programs_in_order() {
        let one = tempfile::tempdir().unwrap();
        let two = tempfile::tempdir().unwrap();
        std::fs::write(two.path().join("tool"), "").unwrap();
        let libexec = vec![one.path().to_owned(), two.path().to_owned()];
        let places = Places::with(&args(&[]), &user(), libexec).unwrap();
        assert_eq!(places.program("tool").unwrap(), two.path().join("tool"));
        std::fs::write(one.path().join("tool"), "").unwrap();
        assert_eq!(places.program("tool").unwrap(), one.path().join("tool"));
        assert!(matches!(
            places.program("other"),
            Err(DaemonError::NoProgram { .. })
        ));
    }
}
