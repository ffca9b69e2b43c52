//! Who resolves names: `/etc/resolv.conf`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use super::NetworkError;

const FILE: &str = "/etc/resolv.conf";

/// The folder that it is in, which is watched: the file itself is replaced by others.
pub(super) const FOLDER: &str = "/etc";

/// Bytes of it that are read.
const FILE_MAX: usize = 64 * 1024;

/// Writes them, unless somebody else has the file: then it is a link.
pub(super) fn write(resolvers: &[Ipv4Addr]) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Write {
        path: FILE.to_owned(),
        source,
    };
    if Path::new(FILE).is_symlink() || resolvers.is_empty() {
        return Ok(());
    }
    let text: String = resolvers
        .iter()
        .map(|it| format!("nameserver {it}\n"))
        .collect();
    let new = format!("{FILE}.qube-network");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, FILE))
        .map_err(failed)
}

/// The first that this qube asks; none where it knows none.
pub(super) fn first() -> Option<Ipv4Addr> {
    let mut text = fs::read_to_string(FILE).ok()?;
    text.truncate(text.floor_char_boundary(FILE_MAX));
    parse(&text)
}

fn parse(text: &str) -> Option<Ipv4Addr> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_of_version_four_counts() {
        let text = "# nameserver 1.1.1.1\nsearch lan\nnameserver fe80::1\nnameserver 192.168.1.1 \n\
                    nameserver 9.9.9.9\n";
        assert_eq!(parse(text), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(parse("nameserver\n"), None);
    }
}
