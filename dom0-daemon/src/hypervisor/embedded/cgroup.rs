//! Limits through cgroups: v2 where it is delegated, else v1, one controller at a time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bulkhead_model::qube::Mib;
use serde::{Deserialize, Serialize};

/// Tasks that one qube may have: a whole desktop session has some hundreds; a fork bomb stops here.
pub const QUBE_TASKS_MAX: u64 = 4096;

/// Length of a scheduling period in microseconds, the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// The most that `cpu.weight` takes (Documentation/admin-guide/cgroup-v2.rst).
const CPU_WEIGHT_MAX: u64 = 10_000;

/// What a cgroup can limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Controller {
    Memory,
    Pids,
    Cpu,
    Freezer,
}

impl Controller {
    const ALL: [Self; 4] = [Self::Memory, Self::Pids, Self::Cpu, Self::Freezer];

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
            Self::Freezer => "freezer",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Version {
    V1,
    V2,
}

/// Where cgroups for one controller can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    version: Version,
    parent: PathBuf,
}

/// What this machine lets us limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cgroups {
    places: BTreeMap<Controller, Place>,
}

/// One line of `/proc/self/mountinfo` that is a cgroup hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    mount: PathBuf,
    root: PathBuf,
    options: String,
}

fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut left = left.split(' ').skip(3);
            let (root, mount) = (left.next()?, left.next()?);
            let mut right = right.split(' ');
            let version = match right.next()? {
                "cgroup" => Version::V1,
                "cgroup2" => Version::V2,
                _ => return None,
            };
            Some(Hierarchy {
                version,
                mount: mount.into(),
                root: root.into(),
                options: right.nth(1).unwrap_or_default().to_owned(),
            })
        })
        .collect()
}

/// Our own cgroup in a hierarchy, of `/proc/self/cgroup`.
fn own_path(text: &str, controller: Option<Controller>) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let found = match controller {
            None => controllers.is_empty(),
            Some(c) => controllers.split(',').any(|name| name == c.name()),
        };
        found.then_some(path)
    })
}

fn own_folder(hierarchy: &Hierarchy, path: &str) -> PathBuf {
    match Path::new(path).strip_prefix(&hierarchy.root) {
        Ok(rest) => hierarchy.mount.join(rest),
        Err(_) => hierarchy.mount.clone(),
    }
}

/// Whether cgroups can be made there: the only sure way is to make one.
fn can_make_in(parent: &Path) -> bool {
    let probe = parent.join(format!("bulkhead-probe-{}", std::process::id()));
    fs::create_dir(&probe).is_ok() && fs::remove_dir(&probe).is_ok()
}

/// The nearest folder above our own whose children get `controllers`; processes live only in
/// leaves of v2, so our own is none unless it is the root.
fn delegated(own: &Path, mount: &Path, controllers: &[Controller]) -> Option<PathBuf> {
    let candidates = own.ancestors().filter(|at| at.starts_with(mount));
    for at in candidates {
        if at == own && at != mount {
            continue;
        }
        let enabled = fs::read_to_string(at.join("cgroup.subtree_control")).unwrap_or_default();
        let all = controllers
            .iter()
            .all(|c| enabled.split_whitespace().any(|name| name == c.name()));
        if all && can_make_in(at) {
            return Some(at.to_owned());
        }
    }
    None
}

impl Cgroups {
    /// Looks at this machine.
    pub(super) fn detect() -> Self {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::detect_in(&hierarchies(&mountinfo), &own)
    }

    fn detect_in(hierarchies: &[Hierarchy], own: &str) -> Self {
        let mut found = Self::default();
        if let Some(v2) = hierarchies.iter().find(|h| h.version == Version::V2)
            && let Some(path) = own_path(own, None)
        {
            found.detect_v2(v2, path);
        }
        for controller in Controller::ALL {
            if found.places.contains_key(&controller) {
                continue;
            }
            let hierarchy = hierarchies.iter().find(|h| {
                h.version == Version::V1 && h.options.split(',').any(|o| o == controller.name())
            });
            if let Some(hierarchy) = hierarchy
                && let Some(path) = own_path(own, Some(controller))
            {
                let parent = own_folder(hierarchy, path);
                if can_make_in(&parent) {
                    let version = Version::V1;
                    found.places.insert(controller, Place { version, parent });
                }
            }
        }
        found
    }

    fn detect_v2(&mut self, v2: &Hierarchy, path: &str) {
        const RESOURCES: [Controller; 3] = [Controller::Memory, Controller::Pids, Controller::Cpu];
        let own = own_folder(v2, path);
        // Often the processor alone is not delegated to a user's session.
        let sets: [&[Controller]; 3] = [&RESOURCES, &RESOURCES[..2], &[]];
        for set in sets {
            if let Some(parent) = delegated(&own, &v2.mount, set) {
                let version = Version::V2;
                for controller in set.iter().chain([&Controller::Freezer]) {
                    let parent = parent.clone();
                    self.places.insert(*controller, Place { version, parent });
                }
                return;
            }
        }
    }

    /// Whether `controller` is to be had.
    pub(super) fn has(&self, controller: Controller) -> bool {
        self.places.contains_key(&controller)
    }

    /// One line for the host report.
    pub(super) fn describe(&self) -> String {
        if self.places.is_empty() {
            return "none".to_owned();
        }
        let each = self.places.iter().map(|(controller, place)| {
            let version = match place.version {
                Version::V1 => "v1",
                Version::V2 => "v2",
            };
            format!("{} ({version})", controller.name())
        });
        each.collect::<Vec<_>>().join(", ")
    }

    /// Makes the cgroups named `name`.
    pub(super) fn make(&self, name: &str) -> io::Result<Group> {
        let mut group = Group::default();
        for (controller, place) in &self.places {
            let path = place.parent.join(name);
            match fs::create_dir(&path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    // What was made a moment ago is empty.
                    let _ = group.remove();
                    return Err(e);
                }
                _ => {}
            }
            let version = place.version;
            group.folders.insert(*controller, Folder { version, path });
        }
        Ok(group)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Folder {
    version: Version,
    path: PathBuf,
}

/// The cgroups of one qube.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Group {
    folders: BTreeMap<Controller, Folder>,
}

impl Group {
    fn write(&self, controller: Controller, pairs: [(&str, String); 2]) -> io::Result<()> {
        let Some(folder) = self.folders.get(&controller) else {
            return Ok(());
        };
        let [v1, v2] = pairs;
        let (file, value) = match folder.version {
            Version::V1 => v1,
            Version::V2 => v2,
        };
        fs::write(folder.path.join(file), value)
    }

    /// Files that a process writes `0` to in order to enter.
    pub(super) fn entrances(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self
            .folders
            .values()
            .map(|folder| folder.path.join("cgroup.procs"))
            .collect();
        files.sort();
        files.dedup();
        files
    }

    pub(super) fn set_memory(&self, limit: Mib) -> io::Result<()> {
        let bytes = limit.0.saturating_mul(1 << 20).to_string();
        self.write(
            Controller::Memory,
            [
                ("memory.limit_in_bytes", bytes.clone()),
                ("memory.max", bytes),
            ],
        )
    }

    pub(super) fn set_tasks(&self, tasks: u64) -> io::Result<()> {
        let tasks = tasks.to_string();
        self.write(
            Controller::Pids,
            [("pids.max", tasks.clone()), ("pids.max", tasks)],
        )
    }

    pub(super) fn set_vcpus(&self, vcpus: u32) -> io::Result<()> {
        let quota = u64::from(vcpus.max(1)) * CPU_PERIOD_US;
        self.write(
            Controller::Cpu,
            [
                ("cpu.cfs_quota_us", quota.to_string()),
                ("cpu.max", format!("{quota} {CPU_PERIOD_US}")),
            ],
        )
    }

    /// Sets the share of processor time, in which 256 is what the kernel gives by default: 1024 (v1)
    /// or 100 (v2). Above 25,600, v2 knows no more.
    pub(super) fn set_cpu_weight(&self, weight: u32) -> io::Result<()> {
        let v1 = u64::from(weight.max(1)) * 4;
        let v2 = (u64::from(weight) * 100 + 128) / 256;
        self.write(
            Controller::Cpu,
            [
                ("cpu.shares", v1.to_string()),
                ("cpu.weight", v2.clamp(1, CPU_WEIGHT_MAX).to_string()),
            ],
        )
    }

    /// Whether [`Group::freeze`] does anything.
    pub(super) fn can_freeze(&self) -> bool {
        self.folders.contains_key(&Controller::Freezer)
    }

    pub(super) fn freeze(&self, frozen: bool) -> io::Result<()> {
        let (v1, v2) = if frozen {
            ("FROZEN", "1")
        } else {
            ("THAWED", "0")
        };
        self.write(
            Controller::Freezer,
            [
                ("freezer.state", v1.to_owned()),
                ("cgroup.freeze", v2.to_owned()),
            ],
        )
    }

    /// Whether it is frozen now.
    pub(super) fn frozen(&self) -> bool {
        let Some(folder) = self.folders.get(&Controller::Freezer) else {
            return false;
        };
        let (file, thawed) = match folder.version {
            Version::V1 => ("freezer.state", "THAWED"),
            Version::V2 => ("cgroup.freeze", "0"),
        };
        fs::read_to_string(folder.path.join(file)).is_ok_and(|text| text.trim() != thawed)
    }

    /// Memory in use, where it is counted.
    pub(super) fn memory_used(&self) -> Option<Mib> {
        let folder = self.folders.get(&Controller::Memory)?;
        let file = match folder.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        };
        let bytes: u64 = fs::read_to_string(folder.path.join(file))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        Some(Mib(bytes >> 20))
    }

    /// Removes them; they are empty once their processes are gone. Fails where one is not yet.
    pub(super) fn remove(&self) -> io::Result<()> {
        let mut outcome = Ok(());
        for folder in self.folders.values() {
            // Several controllers may share a folder.
            if let Err(e) = fs::remove_dir(&folder.path)
                && e.kind() != io::ErrorKind::NotFound
            {
                outcome = Err(e);
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 25 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 25 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 25 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
33 25 0:29 / /home rw,relatime - ext4 /dev/sda1 rw";

    #[test]
    fn hybrid_mounts_are_told_apart() {
        let found = hierarchies(HYBRID);
        assert_eq!(found.len(), 3);
        assert_eq!(found[1].options, "rw,cpu,cpuacct");
        assert_eq!(found[2].version, Version::V2);
    }

    #[test]
    fn own_cgroups_are_found_by_controller() {
        let text = "4:memory:/a/b\n2:cpu,cpuacct:/c\n0::/user.slice/x\n";
        assert_eq!(own_path(text, Some(Controller::Memory)), Some("/a/b"));
        assert_eq!(own_path(text, Some(Controller::Cpu)), Some("/c"));
        assert_eq!(own_path(text, Some(Controller::Pids)), None);
        assert_eq!(own_path(text, None), Some("/user.slice/x"));
    }

    #[test]
    fn v2_is_used_where_an_ancestor_delegates_and_limits_are_written_there() {
        let mount = tempfile::tempdir().unwrap();
        let slice = mount.path().join("app.slice");
        fs::create_dir_all(slice.join("own.scope")).unwrap();
        fs::write(slice.join("cgroup.subtree_control"), "memory pids\n").unwrap();
        let v2 = Hierarchy {
            version: Version::V2,
            mount: mount.path().to_owned(),
            root: "/".into(),
            options: "rw".to_owned(),
        };
        let found = Cgroups::detect_in(&[v2], "0::/app.slice/own.scope\n");
        assert!(found.has(Controller::Memory) && found.has(Controller::Pids));
        assert!(!found.has(Controller::Cpu), "it is not delegated");
        assert_eq!(found.describe(), "memory (v2), pids (v2), freezer (v2)");
        let group = found.make("q").unwrap();
        group.set_memory(Mib(2)).unwrap();
        group.set_tasks(7).unwrap();
        group.set_vcpus(3).unwrap();
        let folder = slice.join("q");
        assert_eq!(
            fs::read_to_string(folder.join("memory.max")).unwrap(),
            "2097152"
        );
        assert_eq!(fs::read_to_string(folder.join("pids.max")).unwrap(), "7");
        assert!(!folder.join("cpu.max").exists());
        assert_eq!(group.entrances(), [folder.join("cgroup.procs")]);
    }

    #[test]
    fn shares_of_processor_time_are_what_each_version_calls_usual_or_in_proportion() {
        let folder = tempfile::tempdir().unwrap();
        let group = |version| Group {
            folders: [(
                Controller::Cpu,
                Folder {
                    version,
                    path: folder.path().to_owned(),
                },
            )]
            .into(),
        };
        let written = |weight| {
            group(Version::V1).set_cpu_weight(weight).unwrap();
            group(Version::V2).set_cpu_weight(weight).unwrap();
            ["cpu.shares", "cpu.weight"].map(|file| {
                let text = fs::read_to_string(folder.path().join(file)).unwrap();
                text.parse::<u64>().unwrap()
            })
        };
        assert_eq!(written(256), [1024, 100]);
        assert_eq!(written(512), [2048, 200]);
        assert_eq!(written(1), [4, 1]);
        assert_eq!(written(25_600), [102_400, 10_000]);
        assert_eq!(written(65_535), [262_140, 10_000]);
    }

    #[test]
    fn without_anything_delegated_there_are_no_limits_and_it_says_so() {
        let mount = tempfile::tempdir().unwrap();
        let v1 = Hierarchy {
            version: Version::V1,
            mount: mount.path().join("gone"),
            root: "/".into(),
            options: "rw,memory".to_owned(),
        };
        let found = Cgroups::detect_in(&[v1], "4:memory:/\n");
        assert_eq!(found, Cgroups::default());
        assert_eq!(found.describe(), "none");
    }
}
