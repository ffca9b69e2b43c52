//! `bulkhead-device-model ARGUMENTS...`: becomes the QEMU of an HVM domain.
//!
//! libxl starts it in QEMU's place, as root. It is the last that sees what QEMU is told, and starts
//! none that would not confine itself: whatever libxl falls back to, no QEMU serves a guest as root.

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use thiserror::Error;

/// Debian's QEMU for Xen.
const QEMU: &str = "/usr/libexec/xen-qemu-system-i386";

/// What libxl wants and QEMU 10 cannot do: for a display that nobody sees it makes a picture of more
/// bytes than libxl lets it write, and is killed. There is no other display either way.
const NO_DISPLAY: [&str; 2] = ["-vnc", "none"];

/// Why QEMU is not started.
#[derive(Debug, Error, PartialEq, Eq)]
enum UnconfinedError {
    #[error("QEMU was not told to serve one domain alone")]
    Domain,
    #[error("QEMU was not told to leave the file system")]
    Root,
    #[error("QEMU was not told to become a user that is not root, by number")]
    User,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match confined(&arguments) {
        Ok(arguments) => {
            let mut qemu = Command::new(QEMU);
            if is_question(&arguments) {
                qemu.args(elsewhere().into_iter().flatten());
            }
            let error = qemu.args(arguments).exec();
            eprintln!("bulkhead-device-model: {QEMU}: {error}");
        }
        Err(error) => eprintln!("bulkhead-device-model: {error}"),
    }
    ExitCode::FAILURE
}

/// What QEMU is started with, if that confines it or has it serve no domain.
fn confined(arguments: &[OsString]) -> Result<Vec<&OsStr>, UnconfinedError> {
    let kept = without_display(arguments);
    if is_question(&kept) {
        return Ok(kept);
    }
    if !kept.contains(&OsStr::new("-xen-domid-restrict")) {
        return Err(UnconfinedError::Domain);
    }
    let told = |option: &str, fits: fn(&str) -> bool| {
        let mut values = values(&kept, "-run-with").filter_map(|v| v.strip_prefix(option));
        // Once: QEMU takes the last of several.
        values.next().is_some_and(fits) && values.next().is_none()
    };
    if !told("chroot=", |root| root.starts_with('/') && root != "/") {
        return Err(UnconfinedError::Root);
    }
    if !told("user=", is_ordinary) {
        return Err(UnconfinedError::User);
    }
    Ok(kept)
}

fn without_display(arguments: &[OsString]) -> Vec<&OsStr> {
    let at = arguments.windows(2).position(|pair| pair == NO_DISPLAY);
    let dropped = at.map_or(0..0, |at| at..at + NO_DISPLAY.len());
    let kept = arguments.iter().enumerate();
    let kept = kept.filter(|(at, _)| !dropped.contains(at));
    kept.map(|(_, argument)| argument.as_os_str()).collect()
}

/// Values of an option that may be given more than once.
fn values<'a>(arguments: &'a [&OsStr], option: &str) -> impl Iterator<Item = &'a str> {
    let pairs = arguments.windows(2);
    pairs.filter_map(move |pair| match pair {
        [name, value] if *name == option => value.to_str(),
        _ => None,
    })
}

/// `UID:GID`, of nobody with rights.
fn is_ordinary(user: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().is_ok_and(|number| number > 0);
    user.split_once(':')
        .is_some_and(|(user, group)| number(user) && number(group))
}

/// Has a QEMU that is only asked leave for a folder with nothing in it that it could remove. When it
/// is told to go, libxl waits for nothing and makes the socket of the real one at the same place, and
/// the one that goes removes what it finds there.
fn elsewhere() -> Option<[OsString; 2]> {
    let own = std::env::current_exe().ok()?;
    let mut root = OsString::from("chroot=");
    root.push(own.parent()?);
    Some(["-run-with".into(), root])
}

/// libxl first asks QEMU what it can do, without a machine.
fn is_question(arguments: &[&OsStr]) -> bool {
    let none = |value: &str| value.split(',').next() == Some("none");
    let domain = arguments.iter().any(|a| *a == "-xen-domid");
    !domain && values(arguments, "-machine").any(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What libxl 4.20 says, but for what is of no interest here.
    const CONFINED: &str = "-xen-domid 7 -no-shutdown -S -nodefaults -no-user-config -name work -vnc none \
        -display none -boot order=c -net none -xen-domid-restrict \
        -run-with chroot=/var/run/xen/qemu-root-7 -machine xenfv,suppress-vmdesc=on -m 200 \
        -run-with user=1879048199:1879048192";

    const QUESTION: &str = "-S -no-user-config -nodefaults -nographic -machine none,accel=xen \
        -chardev socket,id=libxl-cmd,fd=16,server=on,wait=off -mon chardev=libxl-cmd,mode=control";

    fn asked(line: &str) -> Result<String, UnconfinedError> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let kept = confined(&words)?;
        let kept: Vec<_> = kept.iter().map(|word| word.to_string_lossy()).collect();
        Ok(kept.join(" "))
    }

    #[test]
    fn qemu_is_started_confined_and_without_a_display() {
        let said = asked(CONFINED).unwrap();
        let words: Vec<_> = CONFINED.split_whitespace().collect();
        assert_eq!(said, words.join(" ").replace("-vnc none ", ""));
    }

    #[test]
    fn qemu_is_asked_what_it_can_do() {
        assert!(asked(QUESTION).is_ok());
        assert!(asked(&format!("{QUESTION} -xen-domid 7")).is_err());
    }

    #[test]
    fn what_is_not_confined_is_not_started() {
        for (taken, put, error) in [
            ("-xen-domid-restrict", "", UnconfinedError::Domain),
            (
                "chroot=/var/run/xen/qemu-root-7",
                "x=1",
                UnconfinedError::Root,
            ),
            (
                "chroot=/var/run/xen/qemu-root-7",
                "chroot=/",
                UnconfinedError::Root,
            ),
            ("user=1879048199:1879048192", "x=1", UnconfinedError::User),
            (
                "user=1879048199:1879048192",
                "user=0:7",
                UnconfinedError::User,
            ),
            (
                "user=1879048199:1879048192",
                "user=7:0",
                UnconfinedError::User,
            ),
            // Not by a name, which all would share.
            (
                "user=1879048199:1879048192",
                "user=xen-qemuuser-shared",
                UnconfinedError::User,
            ),
        ] {
            assert!(CONFINED.contains(taken));
            assert_eq!(
                asked(&CONFINED.replace(taken, put)),
                Err(error),
                "{taken} {put}"
            );
        }
        assert!(asked("").is_err());
        let twice = format!("{CONFINED} -run-with user=0:0");
        assert_eq!(asked(&twice), Err(UnconfinedError::User));
    }
}
