//! A disk that is really full: a small tmpfs in a mount namespace of the test's own.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// In the environment of the child: the small disk.
const SMALL_DISK: &str = "BULKHEAD_TEST_SMALL_DISK";

/// In a test that [`on_a_small_disk`] has started, the folder with the small disk.
pub fn small_disk() -> Option<PathBuf> {
    std::env::var_os(SMALL_DISK).map(PathBuf::from)
}

/// Fills it; returns the file to remove for room.
#[track_caller]
pub fn fill(small: &Path) -> PathBuf {
    let path = small.join("filler");
    let mut file = File::create(&path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    path
}

/// Runs the test `child` of this test program with a [`small_disk`]; it has to print `refused`, so
/// that one that does nothing is noticed. Returns what it wrote to standard error.
#[track_caller]
pub fn on_a_small_disk(child: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join("small");
    fs::create_dir(&small).unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg(r#"mount -t tmpfs -o size=1m small "$0" && exec "$@""#)
        .arg(&small)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", child, "--nocapture"])
        .env(SMALL_DISK, &small)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}\n{errors}");
    assert!(told.contains("refused"), "{told}\n{errors}");
    errors
}
