//! `qubes.GetAppmenus`: the entries that menus show, as lines `FILE:KEY=VALUE`, with an empty line
//! after each entry. What would run is a launcher of ours with the file as its argument.
//!
//! Of an entry only what is in no particular language is told: whoever asks takes plain text.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::entry::Entry;
use super::find::{self, Found};

const NAME: &str = "qubes.GetAppmenus";

/// The program that starts a file's application.
const LAUNCHER: &str = "qubes-desktop-run";

/// Longest line, with its end; longer ones are left out. Whoever asks reads no longer ones.
const LINE_MAX: usize = 1024;
/// Most that is told, in bytes; entries that would go past it are left out.
const LIST_MAX: usize = 8 * 1024 * 1024;

pub(crate) fn get_appmenus(_arguments: Vec<OsString>) -> ExitCode {
    let text = listed(&find::folders(), LIST_MAX);
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{NAME}: the list cannot be sent: {e}");
            ExitCode::FAILURE
        }
    }
}

fn listed(folders: &[PathBuf], max: usize) -> String {
    let mut text = String::new();
    for found in find::all(folders) {
        let lines = match find::read(&found.path) {
            Ok(Some(entry)) => lines_of(&found, &entry),
            // What cannot be read is in no menu.
            Ok(None) | Err(_) => None,
        };
        let Some(lines) = lines else {
            continue;
        };
        if text.len() + lines.len() > max {
            eprintln!("{NAME}: {} applications are too many", found.id);
            break;
        }
        text.push_str(&lines);
    }
    text
}

/// The lines of an entry that menus show.
fn lines_of(found: &Found, entry: &Entry) -> Option<String> {
    let tries = entry.text("TryExec");
    let is_there = tries.is_none_or(|program| find::is_installed(&program));
    let is_shown = entry.is_application() && !entry.is("NoDisplay") && is_there;
    if !is_shown || !find::is_plain(&found.path) {
        return None;
    }
    let file = found.path.display();
    let mut text = String::new();
    for (key, value) in entry.lines() {
        let line = match key {
            "Exec" => format!("{file}:Exec={LAUNCHER} {file}\n"),
            _ => format!("{file}:{key}={value}\n"),
        };
        let is_text = !value.contains(char::is_control);
        if line.len() <= LINE_MAX && is_text {
            text.push_str(&line);
        }
    }
    text.push('\n');
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("[Desktop Entry]\n{text}\n")).unwrap();
        }
        let folders = vec![dir.path().to_owned()];
        (dir, folders)
    }

    fn list(files: &[(&str, &str)]) -> String {
        let (dir, folders) = tree(files);
        listed(&folders, LIST_MAX).replace(&dir.path().display().to_string(), "")
    }

    #[test]
    fn entries_of_menus_are_told_line_by_line() {
        let text = list(&[
            (
                "a.desktop",
                "Type=Application\nName=A\nName[de]=B\nExec = a %u\nTryExec=sh",
            ),
            ("b.desktop", "Name=B\nExec=b\nNoDisplay=true"),
            ("c.desktop", "Name=C\nHidden=true"),
            ("d.desktop", "Name=D\nType=Link"),
            ("e.desktop", "Name=E\nTryExec=/nonexistent/e"),
            ("f:f.desktop", "Name=F"),
            ("g g.desktop", "Name=G"),
            ("h\nh.desktop", "Name=H"),
            ("sub/z.desktop", "Name=Z\u{1b}[1m\nExec=z"),
        ]);
        insta::assert_snapshot!(text, @r"
        /a.desktop:Type=Application
        /a.desktop:Name=A
        /a.desktop:Exec=qubes-desktop-run /a.desktop
        /a.desktop:TryExec=sh

        /sub/z.desktop:Exec=qubes-desktop-run /sub/z.desktop
        ");
    }

    #[test]
    fn lines_past_the_limit_are_left_out() {
        let (dir, folders) = tree(&[("a.desktop", "")]);
        let file = dir.path().join("a.desktop");
        let room = LINE_MAX - format!("{}:Name=\n", file.display()).len();
        for (len, told) in [(room, true), (room + 1, false)] {
            let name = "x".repeat(len);
            std::fs::write(&file, format!("[Desktop Entry]\nName={name}\n")).unwrap();
            assert_eq!(listed(&folders, LIST_MAX).contains(&name), told);
        }
    }

    #[test]
    fn entries_past_the_limit_are_left_out() {
        let (_dir, folders) = tree(&[("a.desktop", "Name=A"), ("b.desktop", "Name=B")]);
        let all = listed(&folders, LIST_MAX);
        assert_eq!(listed(&folders, all.len()), all);
        assert_eq!(listed(&folders, all.len() - 1).lines().count(), 2);
        assert_eq!(listed(&folders, 1), "");
    }
}
