//! The guest's QubesDB daemon and commands against a dom0 made of the same state machine as the
//! relay's.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed helper fails its test"
)]

mod session;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use bulkhead_wire::qubesdb::link::{Link, LinkEvent, Role};
use bulkhead_wire::qubesdb::message::Value;
use bulkhead_wire::qubesdb::path::DbPath;
use bulkhead_wire::qubesdb::store::{Change, STORE_MAX, Store};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qube-agent");
const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));

struct Guest {
    dir: TempDir,
    daemon: Child,
    listener: UnixListener,
    store: Store,
    stream: UnixStream,
    link: Link,
}

impl Guest {
    fn start(keys: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("vchan.0.5.111.sock")).unwrap();
        let daemon = program(&dir).arg("qubesdb-daemon").spawn().unwrap();
        let mut store = Store::default();
        for (key, value) in keys {
            store
                .write(&path(key), Value::new(*value), STORE_MAX)
                .unwrap();
        }
        let stream = accept(&listener);
        let mut guest = Self {
            dir,
            daemon,
            listener,
            store,
            stream,
            link: Link::new(Role::Dom0),
        };
        guest.until(|event| *event == LinkEvent::Synchronised);
        // The writable socket is the second of the two.
        while UnixStream::connect(guest.dir.path().join("qubesdb.sock")).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        guest
    }

    /// Serves the link until something happened.
    fn until(&mut self, wanted: impl Fn(&LinkEvent) -> bool) {
        let mut buffer = [0; 4096];
        loop {
            let n = self.stream.read(&mut buffer).unwrap();
            assert!(n > 0, "the guest hung up");
            let mut events = Vec::new();
            self.link
                .receive(&buffer[..n], &mut self.store, &mut events)
                .unwrap();
            self.flush();
            if events.iter().any(&wanted) {
                return;
            }
        }
    }

    fn flush(&mut self) {
        let bytes = self.link.output().to_vec();
        self.stream.write_all(&bytes).unwrap();
        self.link
            .sent(bytes.len(), &mut self.store, &mut Vec::new())
            .unwrap();
    }

    fn set(&mut self, key: &str, value: &str) {
        let value = Value::new(value);
        self.store
            .write(&path(key), value.clone(), STORE_MAX)
            .unwrap();
        self.link
            .forward(&Change {
                path: path(key),
                value: Some(value),
            })
            .unwrap();
        self.flush();
    }

    fn run(&self, line: &[&str]) -> Output {
        program(&self.dir).args(line).output().unwrap()
    }

    /// Standard output and exit code.
    fn ask(&self, line: &[&str]) -> (String, i32) {
        let output = self.run(line);
        (
            String::from_utf8(output.stdout).unwrap(),
            output.status.code().unwrap(),
        )
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // A child of ours that was not waited for, so its id is still its own.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn path(text: &str) -> DbPath {
    DbPath::new(text).unwrap()
}

fn program(dir: &TempDir) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .env("VCHAN_DOMAIN", "5")
        .env("VCHAN_SOCKET_DIR", dir.path());
    command.env("QUBESDB_SOCKET_DIR", dir.path());
    command.stdin(Stdio::null());
    command
}

fn accept(listener: &UnixListener) -> UnixStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(PATIENCE).unwrap();
    stream
}

fn said(text: &str, code: i32) -> (String, i32) {
    (text.into(), code)
}

#[test]
fn values_and_exit_codes_of_read() {
    let guest = Guest::start(&[("/name", "work"), ("/empty", ""), ("/odd", "a\n\u{e4}")]);
    assert_eq!(guest.ask(&["qubesdb-read", "/name"]), said("work\n", 0));
    let both = guest.ask(&["qubesdb-read", "-f", "/name", "/empty"]);
    assert_eq!(both, said("/name = work\n/empty = \n", 0));
    assert_eq!(
        guest.ask(&["qubesdb-read", "/odd"]),
        said("a\\x0a\\xc3\\xa4\n", 0)
    );
    assert_eq!(
        guest.ask(&["qubesdb-read", "-r", "/odd"]),
        said("a\n\u{e4}\n", 0)
    );
    assert_eq!(
        guest.ask(&["qubesdb-read", "/no", "/name"]),
        said("work\n", 2)
    );
    assert_eq!(guest.ask(&["qubesdb-read", "/no", "no/good?"]), said("", 1));
    assert_eq!(
        guest.ask(&["qubesdb-read", "-e", "x", "/no"]),
        said("x\n", 0)
    );
    assert_eq!(
        guest.ask(&["qubesdb-read", "-e", "x", "/no", "/name"]),
        said("", 1)
    );
    let output = guest.run(&["qubesdb-read", "/no"]);
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "qubesdb-read: cannot read /no: there is no such key\n"
    );
    assert!(guest.run(&["qubesdb-read", "-q", "/no"]).stderr.is_empty());
}

#[test]
fn writes_reach_dom0_and_removals_too() {
    let mut guest = Guest::start(&[("/a/b", "1"), ("/a/c", "2")]);
    assert_eq!(
        guest.ask(&["qubesdb-write", "/x", "new", "/y", ""]),
        said("", 0)
    );
    guest.until(|e| matches!(e, LinkEvent::Changed(c) if c.path.as_str() == "/y"));
    assert_eq!(guest.store.get(&path("/x")), Some(&Value::new("new")));
    assert_eq!(guest.ask(&["qubesdb-rm", "/a/"]), said("", 0));
    guest.until(|e| matches!(e, LinkEvent::Changed(c) if c.value.is_none()));
    assert_eq!(guest.store.get(&path("/a/b")), None);
    assert_eq!(guest.ask(&["qubesdb-rm", "/a/b"]), said("", 1));
    assert_eq!(guest.ask(&["qubesdb-write", "/odd"]), said("", 1));
    assert_eq!(guest.ask(&["qubesdb-write", "/slash/", "x"]), said("", 1));
    assert_eq!(guest.ask(&["qubesdb-read", "-x", "/x"]), said("new\n", 0));
    assert_eq!(guest.ask(&["qubesdb-read", "/x"]), said("", 2));
    let long = "x".repeat(3072);
    assert_eq!(
        guest.ask(&["qubesdb-write", "/x", &long[..3071]]),
        said("", 0)
    );
    assert_eq!(guest.ask(&["qubesdb-write", "/x", &long]), said("", 1));
}

#[test]
fn listings_are_relative_unless_full() {
    let guest = Guest::start(&[("/a/b", "1"), ("/a/c", "2"), ("/z", "3")]);
    assert_eq!(guest.ask(&["qubesdb-list", "/a/"]), said("b\nc\n", 0));
    assert_eq!(
        guest.ask(&["qubesdb-list", "-f", "/a/"]),
        said("/a/b\n/a/c\n", 0)
    );
    assert_eq!(guest.ask(&["qubesdb-list", "/no"]), said("", 0));
    assert_eq!(guest.ask(&["qubesdb-list"]), said("", 0));
    assert_eq!(guest.ask(&["qubesdb-list", "/a", "/z"]), said("", 1));
    assert_eq!(
        guest.ask(&["qubesdb-multiread", "/a/"]),
        said("b = 1\nc = 2\n", 0)
    );
    let full = guest.ask(&["qubesdb-multiread", "-f", "/a/", "/z"]);
    assert_eq!(full, said("/a/b = 1\n/a/c = 2\n/z = 3\n", 0));
    let all = guest.ask(&["qubesdb-cmd", "-c", "multiread", ""]);
    assert_eq!(all, said("/z = 3\n/a/c = 2\n/a/b = 1\n", 0));
}

#[test]
fn booleans_are_told_by_exit_code() {
    let guest = Guest::start(&[("/yes", "False"), ("/empty", "")]);
    let code = |line: &[&str]| guest.ask(&[&["qubesdb-read-bool"], line].concat()).1;
    assert_eq!(code(&["/yes"]), 0);
    assert_eq!(code(&["/empty"]), 1);
    assert_eq!(code(&["/no"]), 2);
    assert_eq!(code(&["/no", "7"]), 7);
    assert_eq!(code(&["bad?", "7"]), 3);
    assert_eq!(code(&[]), 3);
}

#[test]
fn watching_and_waiting_see_what_dom0_sets() {
    let mut guest = Guest::start(&[("/a", "1")]);
    let spawn = |line: &[&str]| {
        program(&guest.dir)
            .args(line)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut watch = spawn(&["qubesdb-watch", "-n", "2", "/b/"]);
    let wait = spawn(&["qubesdb-read", "-w", "/late"]);
    // Changes from before the watch is set up are not told, so there are some until two were.
    while watch.try_wait().unwrap().is_none() {
        guest.set("/b/key", "");
        std::thread::sleep(Duration::from_millis(10));
    }
    let lines: Vec<_> = BufReader::new(watch.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .collect();
    assert_eq!(lines, ["/b/key", "/b/key"]);
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    guest.set("/late", "here");
    let output = wait.wait_with_output().unwrap();
    assert_eq!(
        (output.stdout.as_slice(), output.status.code()),
        (&b"here\n"[..], Some(0))
    );
}

#[test]
fn a_restarted_dom0_side_is_found_again_and_clients_are_served_meanwhile() {
    let mut guest = Guest::start(&[("/a", "1")]);
    let socket = guest.dir.path().join("vchan.0.5.111.sock");
    std::fs::remove_file(&socket).unwrap();
    guest.stream.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(guest.ask(&["qubesdb-read", "/a"]), said("1\n", 0));
    guest
        .store
        .write(&path("/a"), Value::new("2"), STORE_MAX)
        .unwrap();
    guest.listener = UnixListener::bind(&socket).unwrap();
    guest.stream = accept(&guest.listener);
    guest.link = Link::new(Role::Dom0);
    guest.until(|event| *event == LinkEvent::Synchronised);
    guest.set("/after", "3");
    let wait = ["qubesdb-read", "-w", "/after", "/a"];
    assert_eq!(guest.ask(&wait), said("3\n2\n", 0));
}

#[test]
fn garbage_from_dom0_costs_the_link_and_no_client() {
    let mut guest = Guest::start(&[("/a", "1")]);
    guest.stream.write_all(&[0xff; 200]).unwrap();
    guest.stream = accept(&guest.listener);
    guest.link = Link::new(Role::Dom0);
    guest.until(|event| *event == LinkEvent::Synchronised);
    assert_eq!(guest.ask(&["qubesdb-read", "/a"]), said("1\n", 0));
}

#[test]
fn without_a_daemon_the_commands_fail() {
    let dir = tempfile::tempdir().unwrap();
    let code = |line: &[&str]| program(&dir).args(line).output().unwrap().status.code();
    assert_eq!(code(&["qubesdb-read", "/a"]), Some(1));
    assert_eq!(code(&["qubesdb-read-bool", "/a"]), Some(3));
    assert_eq!(code(&["qubesdb-read", "-d", "../x", "/a"]), Some(1));
    assert_eq!(code(&["qubesdb-daemon", "0", "work"]), Some(2));
}
