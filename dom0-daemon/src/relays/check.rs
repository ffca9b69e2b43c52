//! Second look at what a relay says: whatever a relay that was taken over could make up.

use bulkhead_wire::relay::FromRelay;

use crate::calls::DATA_PORTS;

/// Longest service with argument; the wire page on qrexec has 65,000 with the NUL.
const SERVICE_MAX: usize = 65_000;
/// Longest target or claimed source: 63 characters and a NUL on the wire.
const TARGET_MAX: usize = 63;
/// Domain numbers are below this.
const DOMAIN_LIMIT: u32 = 0x7ff0;
/// Longest `user:command`.
const COMMAND_MAX: usize = 65_535;
/// Longest reason kept.
const REASON_MAX: usize = 400;

/// Why a message is refused: what in it is wrong.
pub(super) fn check(message: &FromRelay) -> Result<(), &'static str> {
    let name = |text: &str| {
        text.len() <= TARGET_MAX
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-@:".contains(&b))
    };
    match message {
        FromRelay::CallRequest {
            service,
            target,
            requested_source,
            announced,
            ..
        } => {
            let bytes = |b: u8| b.is_ascii_alphanumeric() || b"_.-+".contains(&b);
            if service.is_empty() || service.len() >= SERVICE_MAX || service.starts_with('+') {
                return Err("a service name of a wrong length");
            }
            if !service.bytes().all(bytes) {
                return Err("a service name that was not cleaned");
            }
            if !name(target) || !name(requested_source) {
                return Err("a qube name that was not cleaned");
            }
            if announced.is_some_and(|announced| !announced.is_possible()) {
                return Err("an announcement past its limits");
            }
            Ok(())
        }
        FromRelay::ConnectionTerminated { domain, port } => {
            if *domain < DOMAIN_LIMIT && DATA_PORTS.contains(port) {
                Ok(())
            } else {
                Err("a connection that cannot be")
            }
        }
        FromRelay::ClientExec { cmdline, .. } => {
            let colon = cmdline.iter().position(|b| *b == b':');
            if cmdline.len() >= COMMAND_MAX || cmdline.contains(&0) || colon.unwrap_or(0) == 0 {
                Err("a command line that cannot be")
            } else {
                Ok(())
            }
        }
        FromRelay::AgentConnected { version } => match version {
            2..=4 => Ok(()),
            _ => Err("an unknown protocol version"),
        },
        FromRelay::Ready { .. }
        | FromRelay::Failed { .. }
        | FromRelay::AgentLost { .. }
        | FromRelay::CallWithdrawn { .. }
        | FromRelay::ClientGone { .. }
        | FromRelay::DbSynchronised
        | FromRelay::DbLost { .. }
        | FromRelay::DbChanged { .. } => Ok(()),
    }
}

/// A reason as it may be logged.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .take(REASON_MAX)
        .map(|c| {
            if c.is_ascii_graphic() || c == ' ' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bulkhead_wire::qrexec::announced::{ANNOUNCED_BYTES_MAX, ANNOUNCED_ENTRIES_MAX, Announced};
    use bulkhead_wire::relay::RequestId;

    use super::*;

    fn call(service: &str, target: &str) -> FromRelay {
        FromRelay::CallRequest {
            request: RequestId(1),
            service: service.to_owned(),
            target: target.to_owned(),
            requested_source: String::new(),
            announced: None,
        }
    }

    #[test]
    fn announcements_are_checked_to_their_limits() {
        let at = |files, folders, bytes| {
            let mut message = call("qubes.Filecopy", "vault");
            if let FromRelay::CallRequest { announced, .. } = &mut message {
                *announced = Some(Announced {
                    files,
                    folders,
                    bytes,
                    at_least: false,
                });
            }
            check(&message).is_ok()
        };
        let (entries, bytes) = (ANNOUNCED_ENTRIES_MAX, ANNOUNCED_BYTES_MAX);
        assert!(at(0, 0, 0) && at(entries, entries, bytes));
        assert!(!at(entries + 1, 0, 0) && !at(0, entries + 1, 0) && !at(0, 0, bytes + 1));
        assert!(!at(u64::MAX, u64::MAX, u64::MAX));
    }

    #[test]
    fn calls_are_checked_to_the_last_byte_of_each_limit() {
        let longest = "s".repeat(SERVICE_MAX - 1);
        let cases = [
            (call("qubes.Filecopy", "@default"), true),
            (call("a+b+c", ""), true),
            (call(&longest, "vault"), true),
            (call(&(longest.clone() + "s"), "vault"), false),
            (call("", "vault"), false),
            (call("+x", "vault"), false),
            (call("a b", "vault"), false),
            (call("a", &"t".repeat(TARGET_MAX)), true),
            (call("a", &"t".repeat(TARGET_MAX + 1)), false),
            (call("a", "$(reboot)"), false),
        ];
        for (message, good) in cases {
            assert_eq!(check(&message).is_ok(), good, "{message:?}");
        }
    }

    #[test]
    fn connections_outside_of_the_range_are_refused() {
        for (domain, port, good) in [
            (1, 513, true),
            (0x7fef, 768, true),
            (0x7ff0, 600, false),
            (1, 512, false),
            (1, 769, false),
        ] {
            let message = FromRelay::ConnectionTerminated { domain, port };
            assert_eq!(check(&message).is_ok(), good, "{domain} {port}");
        }
    }

    #[test]
    fn reasons_are_cleaned_and_cut() {
        assert_eq!(printable("a\x1b[1mb\n"), "a_[1mb_");
        assert_eq!(printable(&"x".repeat(500)).len(), REASON_MAX);
    }
}
