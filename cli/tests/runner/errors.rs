//! What a person reads when something is wrong, and the exit code.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use bulkhead_api::{ApiError, ErrorKind};

use crate::common::fake::{Fake, Script};
use crate::common::{bulkhead, told};

/// Runs a command against a socket at which `answer` decides what happens.
fn against(answer: impl FnOnce(UnixListener) + Send + 'static, words: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("bus");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || answer(listener));
    let output = bulkhead(words)
        .env("BULKHEAD_SOCKET", &socket)
        .output()
        .unwrap();
    server.join().unwrap();
    told(&output, Some(folder.path()))
}

#[test]
fn no_daemon_is_told_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("bus").display().to_string();
    let tell = |words: &[&str]| {
        let mut all = vec!["--socket", &socket];
        all.extend(words);
        told(&bulkhead(&all).output().unwrap(), Some(folder.path()))
    };
    insta::assert_snapshot!(tell(&["ls"]), @r"
    [stderr]
    error: no daemon answers at `$TEST/bus`
    caused by: No such file or directory (os error 2)
    hint: Start it with `systemctl start bulkheadd`, or `bulkheadd --system FILE` by hand.
    hint: If it listens elsewhere, say where with --socket or $BULKHEAD_SOCKET.
    [exit 1]
    ");
    // An earlier daemon's socket, left behind.
    drop(UnixListener::bind(&socket).unwrap());
    insta::assert_snapshot!(tell(&["apply"]), @r"
    [stderr]
    error: no daemon answers at `$TEST/bus`
    caused by: Connection refused (os error 111)
    hint: Start it with `systemctl start bulkheadd`, or `bulkheadd --system FILE` by hand.
    hint: If it listens elsewhere, say where with --socket or $BULKHEAD_SOCKET.
    [exit 1]
    ");
    insta::assert_snapshot!(tell(&["run", "work", "--", "true"]), @r"
    [stderr]
    error: no daemon answers at `$TEST/bus`
    caused by: Connection refused (os error 111)
    hint: Start it with `systemctl start bulkheadd`, or `bulkheadd --system FILE` by hand.
    hint: If it listens elsewhere, say where with --socket or $BULKHEAD_SOCKET.
    [exit 125]
    ");
}

#[test]
fn a_path_that_is_no_socket_or_too_long_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bus"), "").unwrap();
    let long = "x".repeat(200);
    let tell = |path: &str| {
        let output = bulkhead(&["ls", "--socket", path]).output().unwrap();
        told(&output, Some(folder.path()))
    };
    let file = folder.path().join("bus").display().to_string();
    insta::assert_snapshot!(tell(&file), @r"
    [stderr]
    error: no daemon answers at `$TEST/bus`
    caused by: Connection refused (os error 111)
    hint: Start it with `systemctl start bulkheadd`, or `bulkheadd --system FILE` by hand.
    hint: If it listens elsewhere, say where with --socket or $BULKHEAD_SOCKET.
    [exit 1]
    ");
    let shown = tell(&format!("/{long}")).replace(&long, "LONG");
    insta::assert_snapshot!(shown, @r"
    [stderr]
    error: no daemon answers at `/LONG`
    caused by: path must be shorter than SUN_LEN
    hint: Start it with `systemctl start bulkheadd`, or `bulkheadd --system FILE` by hand.
    hint: If it listens elsewhere, say where with --socket or $BULKHEAD_SOCKET.
    [exit 1]
    ");
}

#[test]
fn a_stranger_is_told_why() {
    let refuse = |listener: UnixListener| {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 256]).unwrap();
        stream
            .write_all(b"ERROR user eve is neither root nor a member of group bulkhead\r\n")
            .unwrap();
    };
    insta::assert_snapshot!(against(refuse, &["ls"]), @r"
    [stderr]
    error: bulkheadd at `$TEST/bus` refused the connection
    caused by: user eve is neither root nor a member of group bulkhead
    hint: Add yourself with `sudo usermod -aG bulkhead $USER`, then log in again.
    [exit 1]
    ");
}

#[test]
fn something_else_at_the_socket_is_told() {
    let greet = |listener: UnixListener| {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 256]).unwrap();
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
    };
    insta::assert_snapshot!(against(greet, &["ls"]), @r"
    [stderr]
    error: bulkheadd at `$TEST/bus` refused the connection
    caused by: Unknown command: 220 mail.example ESMTP
    [exit 1]
    ");
    let hang_up = |listener: UnixListener| drop(listener.accept().unwrap());
    insta::assert_snapshot!(against(hang_up, &["ls"]), @r"
    [stderr]
    error: bulkheadd at `$TEST/bus` refused the connection
    caused by: it closed the connection during the handshake
    [exit 1]
    ");
}

#[test]
fn exit_codes_follow_the_kind() {
    for kind in ErrorKind::ALL {
        let fake = Fake::start(Script::default().fail("start", ApiError::new(kind, "no")));
        let output = fake.bulkhead(&["start", "work"]).output().unwrap();
        let expected = match kind {
            ErrorKind::PartlyApplied => 3,
            ErrorKind::Internal => 70,
            _ => 1,
        };
        assert_eq!(output.status.code(), Some(expected), "{kind:?}");
    }
}

#[test]
fn causes_and_hints_come_along() {
    let error = ApiError::new(ErrorKind::Host, "cannot start `work`")
        .because(&std::io::Error::other("no space left on device"))
        .hint("Free some space below /var/lib/bulkhead.");
    let fake = Fake::start(Script::default().fail("start", error));
    insta::assert_snapshot!(fake.tell(&["start", "work"]), @r"
    [stderr]
    error: cannot start `work`
    caused by: no space left on device
    hint: Free some space below /var/lib/bulkhead.
    [exit 1]
    ");
}

#[test]
fn a_wrong_command_line_is_usage() {
    for words in [
        &["nonesuch"][..],
        &["ls", "--nonesuch"],
        &["rollback", "0"],
        &["rollback", "x"],
        &["audit", "--last", "10001"],
        &["run", "work"],
        &["run", "--", "true"],
        &["ask", "allow"],
        &["apply", "--allow-destroy", "--keep-volumes"],
    ] {
        let output = bulkhead(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
    }
    let output = bulkhead(&["stat"]).output().unwrap();
    insta::assert_snapshot!(told(&output, None), @r"
    [stderr]
    error: unrecognized subcommand 'stat'

      tip: some similar subcommands exist: 'restart', 'status', 'start'

    Usage: bulkhead [OPTIONS] <COMMAND>

    For more information, try '--help'.
    [exit 2]
    ");
    let output = bulkhead(&["run", "work", "ls"]).output().unwrap();
    insta::assert_snapshot!(told(&output, None), @r"
    [stderr]
    error: unexpected argument 'ls' found

    Usage: bulkhead run [OPTIONS] [QUBE] -- <CMD>...

    For more information, try '--help'.
    [exit 2]
    ");
}
