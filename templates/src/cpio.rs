//! Archives of the kind that the kernel unpacks at boot (`newc`), always the same for the same
//! files.

/// Longest contents or name: the format has eight hexadecimal digits for it.
const LONGEST: usize = u32::MAX as usize;

const TRAILER: &str = "TRAILER!!!";

/// An archive that is being written.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub(crate) fn folder(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    pub(crate) fn file(&mut self, name: &str, permissions: u32, contents: &[u8]) {
        self.entry(name, 0o100_000 | permissions, contents);
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) {
        assert!(
            contents.len() <= LONGEST,
            "`{name}` is longer than the format allows"
        );
        self.entries += 1;
        let (inode, links, size) = (self.entries, 1, contents.len());
        let name_size = name.len() + 1;
        // Owner, time and devices are zero; so is the sum, which only another kind of it has.
        let head = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{links:08x}{0:08x}{size:08x}{0:08x}{0:08x}\
             {0:08x}{0:08x}{name_size:08x}{0:08x}",
            0
        );
        self.bytes.extend(head.as_bytes());
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(contents);
        self.pad();
    }

    fn pad(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn cpio_itself_reads_it() {
        let mut archive = Archive::default();
        archive.folder("modules");
        archive.file("modules/1.ko", 0o644, b"12345");
        archive.file("init", 0o755, b"");
        let bytes = archive.finish();
        let Ok(mut cpio) = Command::new("cpio")
            .args(["--list", "--verbose", "--quiet", "--numeric-uid-gid"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            // Not every machine has it; the kernel is what reads it, in the scenarios.
            return;
        };
        cpio.stdin.take().unwrap().write_all(&bytes).unwrap();
        let said = String::from_utf8(cpio.wait_with_output().unwrap().stdout).unwrap();
        let words = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {}", words[0], words[4], words[words.len() - 1])
        };
        let lines: Vec<String> = said.lines().map(words).collect();
        assert_eq!(
            lines,
            [
                "drwxr-xr-x 0 modules",
                "-rw-r--r-- 5 modules/1.ko",
                "-rwxr-xr-x 0 init"
            ]
        );
    }
}
