//! Where our programs are, and that they are not older than their sources.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where `cargo xtask build` leaves the agent as it ships. In the folder of the other programs
/// cargo puts another one, linked as the tests are, whenever it builds the tests.
const AGENT_FOLDER: &str = "x86_64-unknown-linux-gnu";

const HELP: &str = "run `cargo xtask build` (`cargo xtask test` does), with the same profile";

/// A folder with every program that a daemon starts, and the daemon and the client beside them.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Makes such a folder; it may be there already from an earlier daemon of the same test.
    #[track_caller]
    pub fn link(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let test = std::env::current_exe().unwrap();
        let built = test.parent().unwrap();
        // Programs are in `TARGET/PROFILE`, tests in its folder `deps`.
        let built = match built.file_name() {
            Some(name) if name == "deps" => built.parent().unwrap(),
            _ => built,
        };
        let profile = built.file_name().unwrap();
        let agents = built.parent().unwrap().join(AGENT_FOLDER).join(profile);
        for (name, from) in [
            ("bulkhead", built),
            ("bulkheadd", built),
            ("bulkhead-gui", built),
            ("bulkhead-launch", built),
            ("bulkhead-relay", built),
            ("qrexec-client", built),
            ("qube-gui-agent", built),
            ("qube-agent", &agents),
        ] {
            let program = from.join(name);
            if let Err(why) = fresh(&program) {
                panic!("`{}` {why}: {HELP}", program.display());
            }
            let _ = symlink(program, folder.join(name));
        }
        Self { folder }
    }

    /// The folder, for `BULKHEAD_LIBEXEC`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// One of the programs.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Holds a program against the sources that cargo lists beside it.
fn fresh(program: &Path) -> Result<(), String> {
    let changed = |path: &Path| fs::metadata(path).and_then(|found| found.modified());
    let made = changed(program).map_err(|_| "is not built".to_owned())?;
    let list = fs::read_to_string(program.with_extension("d"));
    let list = list.map_err(|_| "was not built by cargo".to_owned())?;
    let (_, sources) = list.split_once(": ").unwrap_or_default();
    for source in sources.split_whitespace() {
        if changed(Path::new(source)).map_or(true, |time: SystemTime| time > made) {
            return Err(format!("is older than `{source}`"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_built_by_cargo_and_not_older_than_a_source() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &str, second: u64| {
            fs::write(path(name), text).unwrap();
            let file = fs::File::options().write(true).open(path(name)).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second);
            file.set_modified(time).unwrap();
        };
        let sources = format!("{0}/p: {0}/a.rs {0}/b.rs\n", dir.path().display());
        assert_eq!(fresh(&path("p")).unwrap_err(), "is not built");
        write("p", "", 50);
        assert_eq!(fresh(&path("p")).unwrap_err(), "was not built by cargo");
        write("p.d", &sources, 50);
        write("a.rs", "", 10);
        assert!(fresh(&path("p")).unwrap_err().ends_with("b.rs`"), "gone");
        write("b.rs", "", 50);
        assert_eq!(fresh(&path("p")), Ok(()));
        write("b.rs", "", 51);
        assert!(fresh(&path("p")).unwrap_err().ends_with("b.rs`"));
    }
}
