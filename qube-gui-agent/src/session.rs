//! How applications find the compositor.

use std::fmt::Write;
use std::io;
use std::path::Path;

/// Names and values of variables.
pub(crate) type Variables = Vec<(&'static str, String)>;

/// What applications must know, where Wayland is served at `socket` and X at `display`.
pub(crate) fn variables(socket: &str, display: Option<u32>) -> Variables {
    let mut all = vec![("WAYLAND_DISPLAY", socket.to_owned())];
    if let Some(number) = display {
        all.push(("DISPLAY", format!(":{number}")));
    }
    all
}

/// Writes a line `NAME=VALUE` for each. The file is never half there.
pub(crate) fn announce(file: &Path, variables: &Variables) -> io::Result<()> {
    let mut text = String::new();
    for (name, value) in variables {
        let _ = writeln!(text, "{name}={value}");
    }
    let new = file.with_added_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_told_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("session");
        let told = |display| {
            announce(&file, &variables("wayland-0", display)).unwrap();
            std::fs::read_to_string(&file).unwrap()
        };
        assert_eq!(told(Some(3)), "WAYLAND_DISPLAY=wayland-0\nDISPLAY=:3\n");
        assert_eq!(told(None), "WAYLAND_DISPLAY=wayland-0\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(announce(&folder.path().join("no/file"), &Vec::new()).is_err());
    }
}
