//! What a proxy can reach.

use std::fs;

use bulkhead_testing::wait_for;
use bulkhead_wire::gui::Version;

use crate::agent::size;
use crate::session::Session;
use crate::windows::pattern;

/// The value of a line of a file that has one line for each name.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.expect("a field").trim()
}

#[test]
fn it_has_the_display_and_its_channel_and_nothing_else() {
    let session = Session::start();
    let (proxy, mut agent, _line) = session.qube_of_daemon("work", Version::NEWEST, &[]);
    agent.window(1, (100, 100), size(50, 50), pattern);
    agent.sync();
    let folder = format!("/proc/{}", proxy.id());
    let status = fs::read_to_string(format!("{folder}/status")).expect("a process");
    // Filters, no new rights, no rights, one thread.
    assert_eq!(field(&status, "Seccomp"), "2");
    assert_eq!(field(&status, "NoNewPrivs"), "1");
    assert_eq!(field(&status, "CapEff"), "0000000000000000");
    assert_eq!(field(&status, "CapPrm"), "0000000000000000");
    assert_eq!(field(&status, "Threads"), "1");
    let log = proxy.log();
    let confined = log.lines().find(|line| line.contains("confined: seccomp"));
    let confined = confined.unwrap_or_else(|| panic!("{log}"));
    // What it has open: the display, the channel, the daemon, the buffers' files, standard streams.
    let open = fs::read_dir(format!("{folder}/fd")).expect("files");
    let mut kinds: Vec<String> = open
        .map(|entry| {
            let target = fs::read_link(entry.expect("a file").path()).expect("a file");
            let target = target.to_string_lossy();
            let end = target.find(['[', ' ']).unwrap_or(target.len());
            target[..end].to_owned()
        })
        .filter(|kind| kind != "/dev/null")
        .collect();
    kinds.sort();
    let log_file = kinds.iter().position(|kind| kind.ends_with("work.log"));
    kinds.remove(log_file.expect("its log"));
    kinds.retain(|kind| !kind.starts_with("pipe:"));
    assert_eq!(
        kinds,
        [
            "/memfd:shared",
            "/memfd:shared",
            "socket:",
            "socket:",
            "socket:"
        ],
        "{confined}"
    );
    if confined.contains("namespaces") && !confined.contains("without namespaces") {
        wait_for("an empty root", || {
            let root = fs::read_dir(format!("{folder}/root")).ok()?;
            (root.count() == 0).then_some(())
        });
        for name in ["net", "mnt", "ipc"] {
            let own = fs::read_link("/proc/self/ns/".to_owned() + name).expect("a namespace");
            let its = fs::read_link(format!("{folder}/ns/{name}")).expect("a namespace");
            assert_ne!(own, its, "{name}");
        }
    }
}

#[test]
fn it_sleeps_while_nothing_happens() {
    let session = Session::start();
    let (proxy, mut agent) = session.qube("work", 0xcc00);
    agent.window(1, (100, 100), size(50, 50), pattern);
    agent.sync();
    let wakes = || {
        let status = fs::read_to_string(format!("/proc/{}/status", proxy.id()));
        let status = status.expect("a process");
        field(&status, "voluntary_ctxt_switches").to_owned()
    };
    // The display has a last word to what was drawn.
    let pause = std::time::Duration::from_millis(300);
    wait_for("rest", || {
        let before = wakes();
        std::thread::sleep(pause);
        (wakes() == before).then_some(())
    });
}
