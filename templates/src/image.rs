//! A template as a qube boots it: root, kernel and initrd.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache::{self, Key};
use crate::cpio::Archive;
use crate::lock::Lock;
use crate::progress::step;
use crate::recipe::Recipe;
use crate::tools::{Tools, run};
use crate::{kernel, tree};

/// Its files. [`Image::SUMS`] has their digests.
const FILES: &[&str] = &["root.ext4", "vmlinux", "initrd"];

/// What an image is made by.
const BUILDER: &[&str] = &[
    include_str!("cpio.rs"),
    include_str!("image.rs"),
    include_str!("kernel.rs"),
    include_str!("tree.rs"),
];

/// A template that was built.
#[derive(Debug, Clone)]
pub struct Image {
    folder: PathBuf,
    debian: PathBuf,
}

impl Image {
    /// Name of the file with the digests of the others.
    pub const SUMS: &str = "SHA256SUMS";

    /// The image of a recipe with those of this workspace's packages, which are in `own`, that it
    /// names: from the cache if that has it.
    pub fn kept(recipe: &Recipe, own: &Path) -> Result<Self> {
        let lock = recipe.lock()?;
        let packages = recipe.own_packages(own);
        let read = |path: &PathBuf| {
            fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let contents = packages.iter().map(read).collect::<Result<Vec<_>>>()?;
        let recipe_text = format!("{:?}", recipe.written);
        let lock_text = lock.to_text();
        let inputs = [recipe_text.as_bytes(), lock_text.as_bytes()];
        let builder = BUILDER.iter().map(|text| text.as_bytes());
        let contents = contents.iter().map(Vec::as_slice);
        let key = Key::of(inputs.into_iter().chain(contents).chain(builder));
        let debian = tree::debian(recipe, &lock)?;
        let folder = cache::kept_in(&cache::folder("templates")?, "images", &key, |folder| {
            make(recipe, &lock, &debian, &packages, folder)
        })?;
        Ok(Self { folder, debian })
    }

    /// Builds everything anew in `folder`, but for packages that were fetched before.
    pub fn anew(recipe: &Recipe, own: &Path, folder: &Path) -> Result<()> {
        let lock = recipe.lock()?;
        let debian = folder.join("tree.tar");
        tree::bootstrapped(recipe, &lock, &debian)?;
        make(recipe, &lock, &debian, &recipe.own_packages(own), folder)
    }

    /// One of its files: `root.ext4`, `vmlinux` or `initrd`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The same Debian with nothing of ours, as files in `folder`: `root.ext4`, `vmlinuz` and
    /// Debian's own `initrd`. What ours is compared with.
    pub fn stock(&self, recipe: &Recipe, folder: &Path) -> Result<()> {
        let tar = folder.join("root.tar");
        fs::copy(&self.debian, &tar)?;
        // As in ours: no first boot each time.
        let etc = folder.join("etc");
        fs::create_dir_all(&etc)?;
        fs::write(etc.join("machine-id"), "")?;
        run(Command::new("tar")
            .args(["--append", "--owner=0", "--group=0", "--directory"])
            .args([folder, Path::new("--file"), &tar])
            .arg("./etc/machine-id"))?;
        let size = recipe.written.size_mib << 20;
        ext4(
            &Tools::find()?,
            &tar,
            &folder.join("root.ext4"),
            size,
            &recipe.lock()?,
        )?;
        let boot = folder.join("boot");
        run(Command::new("tar")
            .args(["--extract", "--wildcards", "--directory"])
            .args([folder, Path::new("--file"), &tar])
            .args(["./boot/vmlinuz-*", "./boot/initrd.img-*"]))?;
        for entry in fs::read_dir(&boot)? {
            let path = entry?.path();
            let is_kernel = path.to_string_lossy().contains("/vmlinuz-");
            let name = if is_kernel { "vmlinuz" } else { "initrd" };
            fs::rename(&path, folder.join(name))?;
        }
        Ok(fs::remove_file(&tar)?)
    }

    /// The folder with all of them.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Debian's tree before anything of ours was in it, a tar file.
    pub fn debian(&self) -> &Path {
        &self.debian
    }
}

fn make(recipe: &Recipe, lock: &Lock, debian: &Path, own: &[PathBuf], folder: &Path) -> Result<()> {
    let tar = folder.join("root.tar");
    step("putting the agent in", || {
        tree::template(recipe, lock, debian, own, &tar)
    })?;
    let tools = Tools::find()?;
    let disk = folder.join("root.ext4");
    step("making the root's disk", || {
        ext4(&tools, &tar, &disk, recipe.written.size_mib << 20, lock)
    })?;
    fs::remove_file(&tar)?;
    boot_files(recipe, debian, own, folder)?;
    let sums = Command::new("sha256sum")
        .args(FILES)
        .current_dir(folder)
        .output()?;
    ensure!(
        sums.status.success(),
        "`sha256sum` ended with {}",
        sums.status
    );
    Ok(fs::write(folder.join(Image::SUMS), sums.stdout)?)
}

/// A file system with the contents of `tar`; the same bytes for the same contents.
fn ext4(tools: &Tools, tar: &Path, disk: &Path, bytes: u64, lock: &Lock) -> Result<()> {
    File::create(disk)?.set_len(bytes)?;
    // Names of the file system, and what its folders are hashed with: of its contents alone.
    let key = Key::of([lock.to_text()]);
    let hex = format!("{:0<32}", key.as_str());
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    let uuid = format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    );
    run(tools
        .command("sbin/mke2fs")
        .args([
            "-q", "-t", "ext4", "-L", "root", "-m", "0", "-U", &uuid, "-E",
        ])
        // Nothing is left to do in the background when it is mounted.
        .arg(format!(
            "hash_seed={uuid},lazy_itable_init=0,lazy_journal_init=0"
        ))
        .arg("-d")
        .args([tar, disk])
        .env("SOURCE_DATE_EPOCH", lock.epoch.to_string()))
}

/// The kernel, and an initrd with nothing but what leads to the root.
fn boot_files(recipe: &Recipe, debian: &Path, own: &[PathBuf], folder: &Path) -> Result<()> {
    let parts = folder.join("parts");
    fs::create_dir_all(&parts)?;
    let take = |patterns: &[&str]| {
        run(Command::new("tar")
            .args(["--extract", "--wildcards", "--directory"])
            .args([&parts, Path::new("--file"), debian])
            .args(patterns))
    };
    take(&["./boot/vmlinuz-*", "./usr/lib/modules/*/modules.dep"])?;
    kernel::unpack(&only(&parts.join("boot"))?, &folder.join("vmlinux"))?;
    let modules = only(&parts.join("usr/lib/modules"))?;
    let deps = fs::read_to_string(modules.join("modules.dep"))?;
    let early = closure(&deps, &recipe.written.early_modules)?;
    take(&["./usr/lib/modules/*.ko.xz"])?;
    for package in own {
        run(Command::new("dpkg-deb")
            .arg("--extract")
            .args([package, &parts]))?;
    }
    let mut archive = Archive::default();
    archive.file(
        "init",
        0o755,
        &fs::read(parts.join("usr/lib/qubes/qube-boot"))?,
    );
    archive.folder("modules");
    for (place, module) in early.iter().enumerate() {
        let name = module.rsplit('/').next().unwrap_or(module);
        let bytes = fs::read(modules.join(module))?;
        archive.file(&format!("modules/{place:02}-{name}"), 0o644, &bytes);
    }
    fs::write(folder.join("initrd"), archive.finish())?;
    Ok(fs::remove_dir_all(&parts)?)
}

/// The one thing in a folder.
fn only(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder)?;
    let first = entries
        .next()
        .with_context(|| format!("nothing is in {}", folder.display()))??;
    ensure!(
        entries.next().is_none(),
        "more than one kernel is in the recipe's packages"
    );
    Ok(first.path())
}

/// Files of `wanted` modules and of those that they need, in the order in which they can be loaded.
fn closure(deps: &str, wanted: &[String]) -> Result<Vec<String>> {
    let plain = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        name.split('.').next().unwrap_or(name).replace('_', "-")
    };
    let lines = deps.lines().filter_map(|line| line.split_once(':'));
    let by_name: BTreeMap<String, (&str, &str)> = lines
        .map(|(path, needs)| (plain(path), (path, needs)))
        .collect();
    let mut files: Vec<String> = Vec::new();
    for name in wanted {
        let found = by_name.get(&plain(name));
        let (path, needs) = found.with_context(|| format!("the kernel has no module `{name}`"))?;
        // What is needed stands behind what needs it.
        for file in needs.split_whitespace().rev().chain([*path]) {
            if !files.iter().any(|there| there == file) {
                files.push(file.to_owned());
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_is_loaded_before_it_and_once() {
        let deps = "kernel/a/one.ko.xz: kernel/b/two_x.ko.xz kernel/c/three.ko.xz\n\
                    kernel/b/two_x.ko.xz: kernel/c/three.ko.xz\nkernel/c/three.ko.xz:\n";
        let wanted = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            closure(deps, &names)
        };
        assert_eq!(
            wanted(&["two-x", "one"]).unwrap(),
            [
                "kernel/c/three.ko.xz",
                "kernel/b/two_x.ko.xz",
                "kernel/a/one.ko.xz"
            ]
        );
        let missing = wanted(&["none"]).unwrap_err();
        assert_eq!(missing.to_string(), "the kernel has no module `none`");
    }
}
