//! Finds services and their configuration in the standard folders.
//!
//! Two full passes over a search path: first for `name+argument`, then for `name`; the first hit
//! counts. What is there but broken is an error, never "not found": a broken special service must
//! not fall back to the general one.

use std::fs::{FileType, Metadata};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use bulkhead_wire::qrexec::command::ServiceCall;
use bulkhead_wire::qrexec::config::{CONFIG_MAX, ConfigError, ServiceConfig};
use bulkhead_wire::qrexec::{EXIT_NOT_FOUND, EXIT_PROBLEM};
use thiserror::Error;

/// Where services are, unless `$QREXEC_SERVICE_PATH` says otherwise.
pub const SERVICE_PATH: &str = "/run/qubes-rpc:/usr/local/etc/qubes-rpc:/etc/qubes-rpc";
/// Where their configuration is, unless `$QUBES_RPC_CONFIG_PATH` says otherwise.
pub const CONFIG_PATH: &str =
    "/run/qubes/rpc-config:/usr/local/etc/qubes/rpc-config:/etc/qubes/rpc-config";

const TCP: &str = "/dev/tcp";

/// The search paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// For services.
    pub services: Vec<PathBuf>,
    /// For configuration.
    pub configs: Vec<PathBuf>,
}

/// A service as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// A program.
    Program(PathBuf),
    /// A Unix socket on which one listens.
    Socket(PathBuf),
    /// An address on which one listens.
    Tcp(SocketAddr),
}

/// A service that cannot be used.
#[derive(Debug, Error)]
pub enum LookupError {
    /// There is none.
    #[error("service `{0}` is not installed")]
    NotFound(String),
    /// Something is there, but cannot be looked at.
    #[error("cannot examine `{}`", path.display())]
    Examine {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Neither program, socket nor address.
    #[error("`{}` is neither a program nor a socket", .0.display())]
    Kind(PathBuf),
    /// A `/dev/tcp` link or its argument makes no address.
    #[error("service `{service}`: {problem}")]
    Address {
        /// Which.
        service: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The configuration is wrong.
    #[error("configuration `{}` is not usable", path.display())]
    Config {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: ConfigError,
    },
    /// The configuration asks for what cannot be together.
    #[error("configuration of `{0}` names a user for a socket service")]
    UserOfSocket(String),
}

impl LookupError {
    /// The exit code that tells a caller.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound(_) => EXIT_NOT_FOUND,
            _ => EXIT_PROBLEM,
        }
    }
}

impl Folders {
    /// The folders of the environment.
    #[must_use]
    pub fn from_env() -> Self {
        let split = |name: &str, default: &str| {
            let text = std::env::var_os(name).unwrap_or_else(|| default.into());
            std::env::split_paths(&text)
                .filter(|p| !p.as_os_str().is_empty())
                .collect()
        };
        Self {
            services: split("QREXEC_SERVICE_PATH", SERVICE_PATH),
            configs: split("QUBES_RPC_CONFIG_PATH", CONFIG_PATH),
        }
    }

    /// Finds the service of a call.
    ///
    /// # Errors
    /// [`LookupError`].
    pub fn service(&self, call: &ServiceCall) -> Result<Service, LookupError> {
        match find(&self.services, call)? {
            Some((path, link)) => service_at(&path, &link, call),
            None => Err(LookupError::NotFound(call.name.clone())),
        }
    }

    /// Reads the configuration of a call's service; the default if there is none.
    ///
    /// # Errors
    /// [`LookupError`].
    pub fn config(&self, call: &ServiceCall) -> Result<ServiceConfig, LookupError> {
        match find(&self.configs, call)? {
            Some((path, _)) => read_config(path),
            None => Ok(ServiceConfig::default()),
        }
    }
}

/// The first file of a call, name by name, and its `lstat`. Whether a folder is there at all is
/// asked once: most are not, on most systems, and every call waits for this.
fn find(
    folders: &[PathBuf],
    call: &ServiceCall,
) -> Result<Option<(PathBuf, Metadata)>, LookupError> {
    let mut there: Vec<Option<bool>> = vec![None; folders.len()];
    for name in call.file_names() {
        for (folder, there) in folders.iter().zip(&mut there) {
            let there = match *there {
                Some(there) => there,
                None => *there.insert(is_there(folder)?),
            };
            if !there {
                continue;
            }
            let path = folder.join(&name);
            if let Some(link) = link_status(&path)? {
                return Ok(Some((path, link)));
            }
        }
    }
    Ok(None)
}

/// Whether there is such a folder. One that is a broken link is not an absent one.
fn is_there(folder: &Path) -> Result<bool, LookupError> {
    match folder.symlink_metadata() {
        Ok(status) if status.file_type().is_symlink() => examine(folder).map(|_| true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        // Whatever is wrong with it, nothing was found in it.
        Ok(_) | Err(_) => Ok(true),
    }
}

/// `lstat`, where only "there is nothing" counts as nothing.
fn link_status(path: &Path) -> Result<Option<Metadata>, LookupError> {
    let nothing = |e: &io::Error| {
        e.kind() == io::ErrorKind::NotFound
            || e.raw_os_error() == Some(rustix::io::Errno::NAMETOOLONG.raw_os_error())
    };
    match path.symlink_metadata() {
        Ok(status) => Ok(Some(status)),
        Err(e) if nothing(&e) => Ok(None),
        Err(source) => Err(LookupError::Examine {
            path: path.into(),
            source,
        }),
    }
}

/// `stat`, where everything that fails is an error.
fn examine(path: &Path) -> Result<FileType, LookupError> {
    match path.metadata() {
        Ok(status) => Ok(status.file_type()),
        Err(source) => Err(LookupError::Examine {
            path: path.into(),
            source,
        }),
    }
}

fn service_at(path: &Path, link: &Metadata, call: &ServiceCall) -> Result<Service, LookupError> {
    if link.file_type().is_symlink() {
        let target = std::fs::read_link(path).map_err(|source| LookupError::Examine {
            path: path.into(),
            source,
        })?;
        if let Some(rest) = target.as_os_str().as_bytes().strip_prefix(TCP.as_bytes())
            && matches!(rest.first(), None | Some(b'/'))
        {
            return address(rest, call).map(Service::Tcp);
        }
    }
    let kind = examine(path)?;
    if kind.is_socket() {
        return Ok(Service::Socket(path.into()));
    }
    let runnable = rustix::fs::accessat(
        rustix::fs::CWD,
        path,
        rustix::fs::Access::EXEC_OK,
        rustix::fs::AtFlags::EACCESS,
    );
    if kind.is_file() && runnable.is_ok() {
        return Ok(Service::Program(path.into()));
    }
    Err(LookupError::Kind(path.into()))
}

/// The address of `/dev/tcp[/HOST[/PORT]]`, completed by the argument.
fn address(rest: &[u8], call: &ServiceCall) -> Result<SocketAddr, LookupError> {
    let bad = |problem| LookupError::Address {
        service: call.name.clone(),
        problem,
    };
    let rest = std::str::from_utf8(rest).map_err(|_| bad("address is not text"))?;
    let argument = call.argument.as_deref().unwrap_or_default();
    let (host, port) = match rest.strip_prefix('/').map(|rest| rest.split_once('/')) {
        Some(Some(_)) if !argument.is_empty() => return Err(bad("takes no argument")),
        Some(Some((host, port))) => (host.to_owned(), port),
        _ if argument.is_empty() => {
            return Err(bad("needs an argument that completes its address"));
        }
        Some(None) => (rest.trim_start_matches('/').to_owned(), argument),
        None => {
            let (host, port) = argument
                .rsplit_once('+')
                .ok_or_else(|| bad("argument has no port"))?;
            if host.contains('_') {
                return Err(bad("host in the argument has an underscore"));
            }
            (host.replace('+', ":"), port)
        }
    };
    let host: IpAddr = host
        .parse()
        .map_err(|_| bad("host is no numeric address"))?;
    let canonical = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    let port = port.parse().ok().filter(|_| canonical);
    Ok(SocketAddr::new(
        host,
        port.ok_or_else(|| bad("port is no number from 1 to 65535"))?,
    ))
}

fn read_config(path: PathBuf) -> Result<ServiceConfig, LookupError> {
    let mut text = Vec::new();
    let read = std::fs::File::open(&path)
        .and_then(|file| file.take(CONFIG_MAX as u64 + 1).read_to_end(&mut text));
    if let Err(source) = read {
        return Err(LookupError::Examine { path, source });
    }
    ServiceConfig::parse(&text).map_err(|source| LookupError::Config { path, source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
        folders: Folders,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["local", "rpc", "config"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let folders = Folders {
            services: vec![at("local"), at("rpc")],
            configs: vec![at("config")],
        };
        Fixture { dir, folders }
    }

    impl Fixture {
        fn program(&self, name: &str) -> PathBuf {
            let path = self.dir.path().join(name);
            std::fs::write(&path, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
            path
        }

        fn find(&self, service: &str) -> Result<Service, LookupError> {
            self.folders.service(&call(service))
        }
    }

    fn call(service: &str) -> ServiceCall {
        ServiceCall::parse(format!("{service} work").as_bytes()).unwrap()
    }

    #[test]
    fn special_services_win_over_earlier_folders() {
        let it = fixture();
        let general = it.program("local/a.B");
        assert_eq!(it.find("a.B+x").unwrap(), Service::Program(general.clone()));
        let special = it.program("rpc/a.B+x");
        assert_eq!(it.find("a.B+x").unwrap(), Service::Program(special));
        assert_eq!(it.find("a.B").unwrap(), Service::Program(general));
        let empty = it.program("rpc/a.B+");
        assert_eq!(it.find("a.B").unwrap(), Service::Program(empty));
    }

    #[test]
    fn what_is_broken_is_no_absence() {
        let it = fixture();
        it.program("rpc/a.B");
        symlink("/nonexistent/x", it.dir.path().join("rpc/a.B+x")).unwrap();
        assert_eq!(it.find("a.B+x").unwrap_err().exit_code(), EXIT_PROBLEM);
        std::fs::write(it.dir.path().join("rpc/c.D"), "").unwrap();
        assert!(matches!(it.find("c.D"), Err(LookupError::Kind(_))));
        std::fs::create_dir(it.dir.path().join("rpc/e.F")).unwrap();
        assert!(matches!(it.find("e.F"), Err(LookupError::Kind(_))));
        assert_eq!(it.find("none").unwrap_err().exit_code(), EXIT_NOT_FOUND);
        let long = format!("a.B+{}", "x".repeat(300));
        assert!(
            it.find(&long).is_ok(),
            "a name no file can have is only absent"
        );
    }

    #[test]
    fn addresses_come_from_link_and_argument() {
        let it = fixture();
        for (name, target) in [
            ("all", "/dev/tcp/127.0.0.1/80"),
            ("host", "/dev/tcp/::1"),
            ("none", "/dev/tcp"),
        ] {
            symlink(target, it.dir.path().join("rpc").join(name)).unwrap();
        }
        let tcp = |s: &str| match it.find(s) {
            Ok(Service::Tcp(address)) => address.to_string(),
            other => format!("{}", other.unwrap_err()),
        };
        assert_eq!(tcp("all"), "127.0.0.1:80");
        assert_eq!(tcp("all+1"), "service `all`: takes no argument");
        assert_eq!(tcp("host+65535"), "[::1]:65535");
        assert_eq!(
            tcp("host"),
            "service `host`: needs an argument that completes its address"
        );
        assert_eq!(
            tcp("none++++1+22"),
            "service `none`: host is no numeric address"
        );
        assert_eq!(tcp("none+++1+22"), "[::1]:22");
        assert_eq!(tcp("none+10.0.0.1+22"), "10.0.0.1:22");
        assert_eq!(tcp("none+10.0.0.1"), "service `none`: argument has no port");
        for port in ["0", "022", "65536", "+1", "x", ""] {
            assert!(
                tcp(&format!("none+1.2.3.4+{port}")).starts_with("service"),
                "{port}"
            );
        }
        symlink("/dev/tcp/", it.dir.path().join("rpc/slash")).unwrap();
        assert!(tcp("slash+1").starts_with("service"));
    }

    #[test]
    fn configuration_is_found_like_services() {
        let it = fixture();
        let config = |s: &str| it.folders.config(&call(s));
        assert_eq!(config("a.B").unwrap(), ServiceConfig::default());
        std::fs::write(it.dir.path().join("config/a.B"), "wait-for-session = 1\n").unwrap();
        assert!(config("a.B+x").unwrap().wait_for_session);
        std::fs::write(it.dir.path().join("config/a.B+x"), "junk\n").unwrap();
        assert!(matches!(config("a.B+x"), Err(LookupError::Config { .. })));
        let folder = it.dir.path().join("config");
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(config("a.B").unwrap(), ServiceConfig::default());
        symlink("/dev/null/x", &folder).unwrap();
        assert!(matches!(config("a.B"), Err(LookupError::Examine { .. })));
    }
}
