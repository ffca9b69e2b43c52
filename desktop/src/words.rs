//! What the known services do, in plain words: the one table of them.

use bulkhead_api::clipboard::{Load, What};

/// A service as a person may know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Words {
    service: &'static str,
    /// What the caller does, as an infinitive; `{}` stands for the argument.
    does: &'static str,
    /// Joins that with the target: `to`, `in`.
    joint: &'static str,
    /// What allowing it means where that is more than the words say; may be empty.
    pub(crate) meaning: &'static str,
}

const RUNS: &str = "Whoever may do this controls the target.";
const UNKNOWN_SIZE: &str =
    "How many files and how large is not announced: it shows only while they are copied.";

/// What stands beside the figures that a source announces for its files.
pub(crate) const ONLY_CLAIMED: &str =
    "That is its word: what comes may differ, and shows only while it is copied.";

const KNOWN: &[Words] = &[
    words(
        "bulkhead.Filecopy",
        "go on with a copy of files that broke off",
        "to",
        UNKNOWN_SIZE,
    ),
    words("qubes.Backup", "write a backup", "to", ""),
    words("qubes.ClipboardPaste", "paste its clipboard", "into", ""),
    words("qubes.ConnectTCP", "connect to TCP port {}", "of", ""),
    words("qubes.Filecopy", "copy files", "to", UNKNOWN_SIZE),
    words("qubes.GetAppmenus", "list the applications", "of", ""),
    words("qubes.GetDate", "read the time", "of", ""),
    words("qubes.GetImageRGBA", "have an image converted", "in", ""),
    words(
        "qubes.Gpg",
        "use the GPG keys",
        "of",
        "It may sign and decrypt with them.",
    ),
    words(
        "qubes.Gpg2",
        "use the GPG keys",
        "of",
        "It may sign and decrypt with them.",
    ),
    words("qubes.GpgImportKey", "import a GPG key", "into", ""),
    words(
        "qubes.InputKeyboard",
        "be a keyboard",
        "for",
        "It sees and can send every key, passwords too.",
    ),
    words(
        "qubes.InputMouse",
        "be a mouse",
        "for",
        "It can click anything on the screen.",
    ),
    words(
        "qubes.InputTablet",
        "be a tablet or touch screen",
        "for",
        "It can touch anything on the screen.",
    ),
    words("qubes.InstallUpdatesGUI", "install updates", "in", ""),
    words("qubes.Notifications", "show notifications", "in", ""),
    words(
        "qubes.NotifyUpdates",
        "say that there are updates",
        "to",
        "",
    ),
    words("qubes.OpenInVM", "open a file", "in", ""),
    words("qubes.OpenURL", "open a link", "in", ""),
    words("qubes.PdfConvert", "have a PDF file converted", "in", ""),
    words("qubes.ReceiveUpdates", "hand over updates", "to", ""),
    words("qubes.Restore", "read a backup", "from", ""),
    words(
        "qubes.SshAgent",
        "use the SSH keys",
        "of",
        "It may log in wherever they do.",
    ),
    words("qubes.StartApp", "start the application {}", "in", ""),
    words(
        "qubes.SyncAppMenus",
        "hand over its list of applications",
        "to",
        "",
    ),
    words("qubes.USB", "use a USB device", "of", ""),
    words("qubes.UpdatesProxy", "download updates", "through", ""),
    words("qubes.VMExec", "run a command", "in", RUNS),
    words("qubes.VMExecGUI", "run a command with windows", "in", RUNS),
    words("qubes.VMRootExec", "run a command as root", "in", RUNS),
    words("qubes.VMRootShell", "run a shell as root", "in", RUNS),
    words("qubes.VMShell", "run a shell", "in", RUNS),
];

const fn words(
    service: &'static str,
    does: &'static str,
    joint: &'static str,
    meaning: &'static str,
) -> Words {
    Words {
        service,
        does,
        joint,
        meaning,
    }
}

/// What a paste does, up to the target: `paste 7 bytes of text into`.
pub(crate) fn pasting(load: Load) -> String {
    match load.what {
        What::Text => format!("paste {load} into"),
        What::Picture { .. } => format!("paste a {load} into"),
    }
}

/// The words for a service, where it is a known one.
pub(crate) fn of(service: &str) -> Option<&'static Words> {
    KNOWN.iter().find(|known| known.service == service)
}

/// What a call does, up to the target: `copy files to`. The texts must be safe to show.
pub(crate) fn doing(service: &str, argument: &str) -> String {
    match of(service) {
        Some(known) if known.does.contains("{}") && argument.is_empty() => {
            format!("{} {}", known.does.replace(" {}", ""), known.joint)
        }
        Some(known) => format!("{} {}", known.does.replace("{}", argument), known.joint),
        None => format!("call {service} in"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_each_service_once() {
        assert!(KNOWN.is_sorted_by(|one, other| one.service < other.service));
    }

    #[test]
    fn calls_are_told_in_plain_words() {
        let told: Vec<String> = [
            ("qubes.Filecopy", ""),
            ("qubes.StartApp", "firefox"),
            ("qubes.StartApp", ""),
            ("qubes.ConnectTCP", "22"),
            ("corp.Ledger", "x"),
        ]
        .map(|(service, argument)| doing(service, argument))
        .into();
        insta::assert_debug_snapshot!(told, @r#"
        [
            "copy files to",
            "start the application firefox in",
            "start the application in",
            "connect to TCP port 22 of",
            "call corp.Ledger in",
        ]
        "#);
    }

    #[test]
    fn what_is_pasted_is_told_with_its_size() {
        let (width, height) = (640, 480);
        let picture = What::Picture { width, height };
        let told = [(What::Text, 1), (What::Text, 64_000), (picture, 1_228_800)]
            .map(|(what, bytes)| pasting(Load { what, bytes }));
        insta::assert_debug_snapshot!(told, @r#"
        [
            "paste 1 byte of text into",
            "paste 64000 bytes of text into",
            "paste a picture of 640 by 480 (1228800 bytes) into",
        ]
        "#);
    }
}
