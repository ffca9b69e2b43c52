//! `cargo xtask deb`: Debian packages of what this workspace builds.
//!
//! What dpkg is told about a package stands beside its program, in `dist/debian/`; here is which
//! file goes where. The same sources, compiler and `SOURCE_DATE_EPOCH` give the same package.

mod desktop;
mod dom0;
mod guest;
mod guest_gui;
mod stage;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use self::stage::Stage;
use crate::images::{self, Profile};
use crate::process::{Options, capture, root, target_dir};

/// A file of a package and where it is installed.
#[derive(Debug, Clone, Copy)]
struct File {
    from: From,
    to: &'static str,
}

/// Where a file comes from.
#[derive(Debug, Clone, Copy)]
enum From {
    /// One of the programs that were built.
    Program(&'static str),
    /// The repository; not executable.
    Source(&'static str),
    /// Nowhere: a link with this target.
    Link(&'static str),
    /// Nowhere: a folder with this mode.
    Folder(u32),
}

/// A package.
#[derive(Debug, Clone, Copy)]
struct Package {
    name: &'static str,
    /// Folder with `control` and the maintainer's scripts.
    debian: &'static str,
    files: &'static [File],
    /// Adds what the programs themselves can write.
    generate: fn(&Path, &Stage) -> Result<()>,
}

const PACKAGES: &[Package] = &[
    dom0::PACKAGE,
    desktop::PACKAGE,
    guest::PACKAGE,
    guest_gui::PACKAGE,
];

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    Options::new(arguments).finish()?;
    println!("packages in {}", build(Profile::Release)?.display());
    Ok(())
}

/// Builds every package from programs that are built with `profile`; their folder.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    let programs = images::build(profile)?;
    images::build_xl(profile)?;
    images::build_desktop(profile)?;
    let folder = target_dir().join("debian").join(profile.folder());
    let epoch = epoch()?;
    for package in PACKAGES {
        pack(package, &programs, &folder, &epoch, profile)?;
    }
    Ok(folder)
}

/// The time that files carry: as the environment says, else that of the last commit.
fn epoch() -> Result<String> {
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let commit = capture(
        Command::new("git")
            .args(["log", "-1", "--format=%ct"])
            .current_dir(root()),
    );
    let commit = commit.context("set SOURCE_DATE_EPOCH where there is no git checkout")?;
    Ok(String::from_utf8_lossy(&commit.stdout).trim().to_owned())
}

fn pack(
    package: &Package,
    programs: &Path,
    folder: &Path,
    epoch: &str,
    profile: Profile,
) -> Result<PathBuf> {
    let stage = Stage::new(&folder.join(package.name))?;
    for file in package.files {
        match file.from {
            From::Program(name) => stage.program(&programs.join(name), file.to)?,
            From::Source(path) => stage.copy(&root().join(path), file.to, 0o644)?,
            From::Link(target) => stage.link(target, file.to)?,
            From::Folder(mode) => stage.folder(file.to, mode)?,
        }
    }
    (package.generate)(programs, &stage)?;
    stage.document(package.name, epoch)?;
    stage.control(package.name, &root().join(package.debian))?;
    // The version is inside; whoever builds and takes it need not know.
    let deb = folder.join(format!("{}.deb", package.name));
    capture(
        Command::new("dpkg-deb")
            // Who may write what is the package's decision and not this user's umask.
            .arg("--root-owner-group")
            .args(compression(profile))
            .arg("--build")
            .arg(stage.path())
            .arg(&deb)
            .env("SOURCE_DATE_EPOCH", epoch),
    )?;
    ensure!(deb.is_file(), "`dpkg-deb` made no {}", deb.display());
    Ok(deb)
}

/// Packages for tests are made often and carried once.
fn compression(profile: Profile) -> &'static [&'static str] {
    match profile {
        Profile::Dev => &["-Zgzip", "-z1"],
        Profile::Release => &["-Zxz"],
    }
}

fn architecture() -> Result<String> {
    let said = capture(Command::new("dpkg").arg("--print-architecture"))?;
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Programs in name only; none of the packages' own is run.
    fn programs(folder: &Path) -> PathBuf {
        let programs = folder.join("programs");
        fs::create_dir_all(&programs).unwrap();
        for package in PACKAGES {
            for file in package.files {
                if let From::Program(name) = file.from {
                    fs::write(
                        programs.join(name),
                        format!("{name} GLIBC_2.17 GLIBC_2.34\0"),
                    )
                    .unwrap();
                }
            }
        }
        programs
    }

    fn said(command: &mut Command) -> String {
        String::from_utf8(capture(command).unwrap().stdout).unwrap()
    }

    #[test]
    fn the_same_files_make_the_same_package() {
        let folder = std::env::temp_dir().join(format!("bulkhead-deb.{}", std::process::id()));
        let programs = programs(&folder);
        for package in PACKAGES {
            let package = Package {
                generate: |_, _| Ok(()),
                ..*package
            };
            let pack = |to: &str, epoch: &str| {
                let to = folder.join(to);
                pack(&package, &programs, &to, epoch, Profile::Release).unwrap()
            };
            let one = pack("one", "1700000000");
            let two = pack("two", "1700000000");
            assert_eq!(fs::read(&one).unwrap(), fs::read(two).unwrap());
            let other = pack("two", "1700000001");
            assert_ne!(fs::read(&one).unwrap(), fs::read(other).unwrap());
            let listed = said(Command::new("dpkg-deb").arg("--contents").arg(&one));
            for file in package.files {
                assert!(listed.contains(&format!("./{}", file.to)), "{}", file.to);
            }
            assert!(
                listed.lines().all(|line| line.contains(" root/root ")),
                "{listed}"
            );
            let field = said(Command::new("dpkg-deb").arg("--field").arg(&one));
            assert!(
                field.contains(&format!("Package: {}\n", package.name)),
                "{field}"
            );
        }
        let dom0 = folder.join("one/bulkhead-dom0.deb");
        {
            let depends = said(
                Command::new("dpkg-deb")
                    .arg("--field")
                    .arg(dom0)
                    .arg("Depends"),
            );
            assert!(depends.contains("libc6 (>= 2.34)"), "{depends}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
