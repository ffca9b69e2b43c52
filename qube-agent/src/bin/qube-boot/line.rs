//! What the kernel's command line says about booting.

use std::io;
use std::path::PathBuf;

/// Where it can be read.
pub(crate) const PATH: &str = "/proc/cmdline";

/// The parts of it that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The disk with the root (`root=`).
    pub(crate) root: PathBuf,
    /// Whether the root may be written (`rw`, `ro`; the last one counts).
    pub(crate) access: Access,
    /// The system's own init (`init=`).
    pub(crate) init: PathBuf,
}

/// What may be done to the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadWrite,
    ReadOnly,
}

impl Line {
    /// That of the running kernel.
    pub(crate) fn of_kernel() -> io::Result<Self> {
        std::fs::read_to_string(PATH).map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut line = Self {
            root: "/dev/xvda".into(),
            access: Access::ReadWrite,
            init: "/sbin/init".into(),
        };
        // What stands behind `--` is for init.
        for word in text
            .split_ascii_whitespace()
            .take_while(|word| *word != "--")
        {
            match word.split_once('=') {
                Some(("root", root)) => line.root = root.into(),
                Some(("init", init)) => line.init = init.into(),
                None if word == "ro" => line.access = Access::ReadOnly,
                None if word == "rw" => line.access = Access::ReadWrite,
                _ => {}
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_defaults_are_those_of_a_qube() {
        let line = Line::parse("console=hvc0 root=/dev/xvdb ro root=/dev/xvdc init=/bin/sh\n");
        assert_eq!(line.root, PathBuf::from("/dev/xvdc"));
        assert_eq!(line.access, Access::ReadOnly);
        assert_eq!(line.init, PathBuf::from("/bin/sh"));
        let line = Line::parse("ro quiet rw rootflags=x -- ro init=/nowhere");
        assert_eq!(line, Line::parse(""));
        assert_eq!(line.root, PathBuf::from("/dev/xvda"));
        assert_eq!(line.init, PathBuf::from("/sbin/init"));
    }
}
