//! Where desktop entries are: `applications/` in the folders of data, the user's own first.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use xdg::BaseDirectories;

use super::entry::{ENTRY_MAX, Entry};

/// How an entry's file ends.
const SUFFIX: &str = ".desktop";
/// Longest id: no file has a longer name.
const ID_MAX: usize = 255;
/// Folders within folders that are looked into.
const DEPTH_MAX: usize = 8;
/// Files that are looked at, in all folders together.
const FILES_MAX: usize = 10_000;

/// The folders of entries, best first.
pub(super) fn folders() -> Vec<PathBuf> {
    let base = BaseDirectories::new();
    let all = base.data_home.into_iter().chain(base.data_dirs);
    all.map(|folder| folder.join("applications")).collect()
}

/// The file of the application `id`: its path in one of the folders with `-` for `/`, or, as in
/// guests of Qubes, its name in any folder below. `.desktop` may be left out.
pub(super) fn by_id(folders: &[PathBuf], id: &str) -> Option<PathBuf> {
    let id = id.strip_suffix(SUFFIX).unwrap_or(id);
    if id.is_empty() || id.len() > ID_MAX || id.contains(['/', '\0']) {
        return None;
    }
    let exact = folders.iter().find_map(|folder| below(folder, id, 0));
    exact.or_else(|| {
        {
            let name = format!("{id}{SUFFIX}");
            let mut files = all(folders).into_iter();
            files.find(|found| found.path.file_name().is_some_and(|last| *last == *name))
        }
        .map(|found| found.path)
    })
}

fn below(folder: &Path, id: &str, depth: usize) -> Option<PathBuf> {
    let file = folder.join(format!("{id}{SUFFIX}"));
    if file.is_file() {
        return Some(file);
    }
    if depth >= DEPTH_MAX {
        return None;
    }
    let mut splits = id.match_indices('-').filter_map(|(at, _)| {
        let (first, rest) = (id.get(..at)?, id.get(at + 1..)?);
        let inner = folder.join(first);
        let is_name = !matches!(first, "" | "." | "..") && !rest.is_empty();
        (is_name && inner.is_dir()).then_some((inner, rest))
    });
    splits.find_map(|(inner, rest)| below(&inner, rest, depth + 1))
}

/// A file of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// The id under which it is started.
    pub(super) id: String,
}

/// All files, each id once: the best folder's. In order of folders and names.
pub(super) fn all(folders: &[PathBuf]) -> Vec<Found> {
    all_of(folders, FILES_MAX)
}

fn all_of(folders: &[PathBuf], max: usize) -> Vec<Found> {
    let mut walk = Walk {
        found: Vec::new(),
        ids: BTreeSet::new(),
        left: max,
    };
    for folder in folders {
        walk.enter(folder, "", 0);
    }
    walk.found
}

struct Walk {
    found: Vec<Found>,
    ids: BTreeSet<String>,
    /// How many more files may be looked at.
    left: usize,
}

impl Walk {
    fn enter(&mut self, folder: &Path, prefix: &str, depth: usize) {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return;
        };
        let mut names = Vec::new();
        for entry in entries.flatten() {
            let Some(left) = self.left.checked_sub(1) else {
                break;
            };
            self.left = left;
            // Links are followed to files only: folders could go round in a circle.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if let Ok(name) = entry.file_name().into_string() {
                names.push((name, is_folder));
            }
        }
        names.sort();
        for (name, is_folder) in names {
            let path = folder.join(&name);
            if is_folder && depth < DEPTH_MAX {
                self.enter(&path, &format!("{prefix}{name}-"), depth + 1);
            } else if let Some(id) = name.strip_suffix(SUFFIX)
                && path.is_file()
            {
                let id = format!("{prefix}{id}");
                if self.ids.insert(id.clone()) {
                    self.found.push(Found { path, id });
                }
            }
        }
    }
}

/// What a file says; none where it is no entry.
pub(super) fn read(path: &Path) -> io::Result<Option<Entry>> {
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(ENTRY_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > ENTRY_MAX {
        return Ok(None);
    }
    Ok(Entry::parse(&text))
}

/// Whether a program that an entry wants to try is there.
pub(super) fn is_installed(program: &str) -> bool {
    let runs = |path: &Path| {
        path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
    };
    if program.as_bytes().contains(&b'/') {
        return runs(Path::new(program));
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    !program.is_empty() && std::env::split_paths(&search).any(|folder| runs(&folder.join(program)))
}

/// Whether a path can stand in a line of text, before a `:`.
pub(super) fn is_plain(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.iter().all(|b| b.is_ascii_graphic() && *b != b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        dir
    }

    #[test]
    fn an_id_names_one_file() {
        let dir = tree(&[
            "own/a.desktop",
            "all/a.desktop",
            "all/org.b-c.desktop",
            "all/x/y-z/w.desktop",
            "all/x/hidden/deep.desktop",
        ]);
        let folders = [dir.path().join("own"), dir.path().join("all")];
        let find = |id: &str| {
            let path = by_id(&folders, id)?;
            let path = path.strip_prefix(dir.path()).unwrap();
            Some(path.display().to_string())
        };
        assert_eq!(find("a").unwrap(), "own/a.desktop");
        assert_eq!(find("a.desktop").unwrap(), "own/a.desktop");
        assert_eq!(find("org.b-c").unwrap(), "all/org.b-c.desktop");
        assert_eq!(find("x-y-z-w").unwrap(), "all/x/y-z/w.desktop");
        assert_eq!(find("deep").unwrap(), "all/x/hidden/deep.desktop");
        let long = "-".repeat(ID_MAX + 1);
        for none in ["", "b", ".desktop", "../a", "x-", "-a", "x-..-a", &long] {
            assert_eq!(find(none), None, "{none}");
        }
        assert_eq!(find(&"-".repeat(ID_MAX)), None);
    }

    #[test]
    fn all_are_listed_once_and_by_their_ids() {
        let dir = tree(&[
            "own/b.desktop",
            "all/b.desktop",
            "all/a.desktop",
            "all/x/c.desktop",
            "all/readme",
        ]);
        let folders = [
            dir.path().join("own"),
            dir.path().join("none"),
            dir.path().join("all"),
        ];
        let ids: Vec<_> = all(&folders).into_iter().map(|found| found.id).collect();
        assert_eq!(ids, ["b", "a", "x-c"]);
        // Six names are in these folders, one of them that of a folder itself.
        assert_eq!(all_of(&folders, 6).len(), 3);
        assert_eq!(all_of(&folders, 1).len(), 1);
        assert_eq!(all_of(&folders, 0), []);
    }

    #[test]
    fn folders_that_go_too_deep_are_left() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = dir.path().to_owned();
        let mut id = String::new();
        for level in 0..=DEPTH_MAX + 1 {
            std::fs::write(folder.join("e.desktop"), "").unwrap();
            let reached = level <= DEPTH_MAX;
            let found = by_id(&[dir.path().to_owned()], &format!("{id}e"));
            assert_eq!(found.is_some(), reached, "{level}");
            let ids = all(&[dir.path().to_owned()]).len();
            assert_eq!(ids, level.min(DEPTH_MAX) + 1);
            folder.push("d");
            std::fs::create_dir(&folder).unwrap();
            id.push_str("d-");
        }
    }

    #[test]
    fn a_file_past_the_limit_is_no_entry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e");
        let mut text = String::from("[Desktop Entry]\nName=");
        text.extend(std::iter::repeat_n(
            'x',
            usize::try_from(ENTRY_MAX).unwrap() - text.len(),
        ));
        std::fs::write(&path, &text).unwrap();
        assert!(read(&path).unwrap().is_some());
        std::fs::write(&path, text + "x").unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }
}
