//! Which names and link targets may be created.

use super::NAME_MAX;
use super::unicode;

/// Which characters names may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Printable ASCII and the frozen allow-list: nothing that hides or reorders text.
    Listed,
    /// Any bytes (`qubes.Filecopy+allow-all-names`). The form of the path is checked all the same.
    All,
}

/// Why a path is refused; the sender gets EILSEQ (or ENAMETOOLONG).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing.
    #[error("the name is empty")]
    Empty,
    /// Over [`NAME_MAX`].
    #[error("the name is longer than {NAME_MAX} bytes")]
    TooLong,
    /// Starts with `/`.
    #[error("the name is absolute")]
    Absolute,
    /// Ends with `/`.
    #[error("the name ends with a slash")]
    TrailingSlash,
    /// An empty, `.` or `..` component.
    #[error("the name has an empty, `.` or `..` component")]
    Component,
    /// A NUL inside.
    #[error("the name contains NUL")]
    Nul,
    /// Not UTF-8, or a character that is not on the allow-list.
    #[error("the name contains a forbidden character")]
    Character,
}

/// Why a link is refused; the sender gets ENOLINK (or the code of the name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The target's characters or length.
    #[error("the target of a link is refused: {0}")]
    Target(NameError),
    /// A link directly in the incoming directory.
    #[error("the link is at the top level")]
    TopLevel,
    /// The target starts with `/`.
    #[error("the link is absolute")]
    Absolute,
    /// `..` after an ordinary component, or too many of them.
    #[error("the link leaves the item it belongs to")]
    Escapes,
}

/// Checks the path of an item and returns how many components it has.
pub fn check_name(name: &[u8], names: Names) -> Result<usize, NameError> {
    check_bytes(name, names)?;
    if name.starts_with(b"/") {
        return Err(NameError::Absolute);
    }
    if name.ends_with(b"/") {
        return Err(NameError::TrailingSlash);
    }
    let mut depth = 0;
    for component in name.split(|byte| *byte == b'/') {
        if matches!(component, b"" | b"." | b"..") {
            return Err(NameError::Component);
        }
        depth += 1;
    }
    Ok(depth)
}

/// Checks the target of a link whose own name has `depth` components.
pub fn check_link(target: &[u8], depth: usize, names: Names) -> Result<(), LinkError> {
    check_bytes(target, names).map_err(LinkError::Target)?;
    if target.starts_with(b"/") {
        return Err(LinkError::Absolute);
    }
    // One component is the link itself and one the top-level item it may not leave.
    let up_max = depth.checked_sub(2).ok_or(LinkError::TopLevel)?;
    let mut up = 0;
    let mut descended = false;
    for component in target.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if descended || up == up_max => return Err(LinkError::Escapes),
            b".." => up += 1,
            _ => descended = true,
        }
    }
    Ok(())
}

fn check_bytes(bytes: &[u8], names: Names) -> Result<(), NameError> {
    if bytes.is_empty() {
        return Err(NameError::Empty);
    }
    if bytes.len() > NAME_MAX {
        return Err(NameError::TooLong);
    }
    if bytes.contains(&0) {
        return Err(NameError::Nul);
    }
    if names == Names::All || bytes.iter().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return Ok(());
    }
    let text = str::from_utf8(bytes).map_err(|_| NameError::Character)?;
    if text.chars().all(unicode::is_allowed) {
        Ok(())
    } else {
        Err(NameError::Character)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_right_form_pass() {
        for (name, depth) in [
            ("a", 1),
            ("a/b c/d.txt", 3),
            (".hidden", 1),
            ("..a/b..", 2),
            ("...", 1),
            ("Überraschung/Привет/你好/안녕", 4),
            ("€ 5", 2 - 1),
        ] {
            assert_eq!(
                check_name(name.as_bytes(), Names::Listed),
                Ok(depth),
                "{name}"
            );
        }
    }

    #[test]
    fn names_of_the_wrong_form_are_refused_whatever_characters_may_be_used() {
        for (name, error) in [
            ("", NameError::Empty),
            ("/etc/passwd", NameError::Absolute),
            ("a/", NameError::TrailingSlash),
            ("..", NameError::Component),
            ("a/../b", NameError::Component),
            ("./a", NameError::Component),
            ("a//b", NameError::Component),
            ("a\0b", NameError::Nul),
        ] {
            for names in [Names::Listed, Names::All] {
                assert_eq!(check_name(name.as_bytes(), names), Err(error), "{name:?}");
            }
        }
    }

    #[test]
    fn the_longest_name_passes_and_one_byte_more_does_not() {
        let longest = vec![b'a'; NAME_MAX];
        assert_eq!(check_name(&longest, Names::Listed), Ok(1));
        let longer = vec![b'a'; NAME_MAX + 1];
        assert_eq!(check_name(&longer, Names::Listed), Err(NameError::TooLong));
    }

    #[test]
    fn characters_that_hide_or_reorder_are_refused() {
        for (name, what) in [
            ("a\u{202e}fdp.exe", "right-to-left override"),
            ("שלום", "right-to-left letters"),
            ("a\u{200b}b", "zero width space"),
            ("a\u{300}", "combining mark"),
            ("\u{1f600}", "emoji"),
            ("a\u{a0}b", "no-break space"),
            ("a\nb", "newline"),
            ("a\x7f", "delete"),
            ("a\u{e000}", "private use"),
            ("\u{378}", "unassigned"),
            ("\u{2028}", "line separator"),
            ("\u{feff}", "byte order mark"),
        ] {
            assert_eq!(
                check_name(name.as_bytes(), Names::Listed),
                Err(NameError::Character),
                "{what}"
            );
            assert_eq!(check_name(name.as_bytes(), Names::All), Ok(1), "{what}");
        }
        assert_eq!(
            check_name(b"\xff", Names::Listed),
            Err(NameError::Character)
        );
        assert_eq!(
            check_name(b"\xed\xa0\x80", Names::Listed),
            Err(NameError::Character)
        );
    }

    #[test]
    fn a_link_stays_in_its_top_level_item() {
        for (depth, target) in [
            (2, "b"),
            (2, "b/c/"),
            (2, "./b//c"),
            (3, "../b"),
            (4, "../../b"),
            (4, "./../b"),
        ] {
            assert_eq!(
                check_link(target.as_bytes(), depth, Names::Listed),
                Ok(()),
                "{target}"
            );
        }
        for (depth, target, error) in [
            (1, "b", LinkError::TopLevel),
            (2, "/etc", LinkError::Absolute),
            (2, "..", LinkError::Escapes),
            (2, "../b", LinkError::Escapes),
            (3, "../../b", LinkError::Escapes),
            (3, "b/../c", LinkError::Escapes),
            (2, "", LinkError::Target(NameError::Empty)),
            (2, "\u{202e}", LinkError::Target(NameError::Character)),
        ] {
            assert_eq!(
                check_link(target.as_bytes(), depth, Names::Listed),
                Err(error),
                "{target}"
            );
        }
    }
}
