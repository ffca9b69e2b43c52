//! What is sent arrives, and nothing that was there is touched.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bulkhead_wire::filecopy::{Outcome, code};
use qube_agent::filecopy::{LARGE, ReceiveError, SendError, pack, receive};

use crate::support::{Home, PLAIN, Stream, set_time, transfer};

#[track_caller]
fn copy(paths: &[PathBuf], home: &Home) {
    let (sent, received) = transfer(paths, home);
    received.unwrap();
    sent.unwrap();
}

#[test]
fn a_tree_arrives_as_it_was() {
    let here = tempfile::tempdir().unwrap();
    let tree = here.path().join("tree");
    fs::create_dir_all(tree.join("sub/empty")).unwrap();
    fs::write(tree.join("sub/ä b.txt"), "content").unwrap();
    fs::write(tree.join("big"), vec![7; 3_000_000]).unwrap();
    fs::write(tree.join("none"), "").unwrap();
    symlink("big", tree.join("link")).unwrap();
    symlink("../big", tree.join("sub/up")).unwrap();
    fs::set_permissions(tree.join("none"), fs::Permissions::from_mode(0o4666)).unwrap();
    set_time(&tree.join("none"), 1_000_000);
    set_time(&tree.join("sub"), 2_000_000);
    fs::set_permissions(tree.join("sub"), fs::Permissions::from_mode(0o555)).unwrap();
    let home = Home::new();
    copy(std::slice::from_ref(&tree), &home);

    let there = home.incoming().join("tree");
    assert_eq!(fs::read(there.join("big")).unwrap(), vec![7; 3_000_000]);
    assert_eq!(
        fs::read_to_string(there.join("sub/ä b.txt")).unwrap(),
        "content"
    );
    assert_eq!(
        fs::read_link(there.join("sub/up")).unwrap(),
        Path::new("../big")
    );
    let none = there.join("none").metadata().unwrap();
    assert_eq!(none.mode() & 0o7777, 0o666, "set-uid is masked");
    assert_eq!((none.mtime(), none.mtime_nsec()), (1_000_000, 123_456_789));
    let sub = there.join("sub").metadata().unwrap();
    assert_eq!((sub.mode() & 0o7777, sub.mtime()), (0o555, 2_000_000));
    home.assert_nothing_but(&[
        "QubesIncoming/work/tree",
        "QubesIncoming/work/tree/big",
        "QubesIncoming/work/tree/link",
        "QubesIncoming/work/tree/none",
        "QubesIncoming/work/tree/sub",
        "QubesIncoming/work/tree/sub/empty",
        "QubesIncoming/work/tree/sub/up",
        "QubesIncoming/work/tree/sub/ä b.txt",
    ]);
    for folder in [tree.join("sub"), there.join("sub")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn many_small_files_arrive_each_with_its_own() {
    let here = tempfile::tempdir().unwrap();
    let tree = here.path().join("tree");
    let names: Vec<String> = (0..1000)
        .map(|number| format!("{}/{number}", number % 7))
        .collect();
    let content = |number: usize| format!("{number} ").repeat(number * 41 % 9000);
    for (number, name) in names.iter().enumerate() {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content(number)).unwrap();
        let mode = if number % 2 == 0 { 0o640 } else { 0o400 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        set_time(&path, 1_000_000 + number as u64);
    }
    let home = Home::new();
    copy(std::slice::from_ref(&tree), &home);

    let there = home.incoming().join("tree");
    for (number, name) in names.iter().enumerate() {
        let path = there.join(name);
        assert!(
            fs::read_to_string(&path).unwrap() == content(number),
            "{name}"
        );
        let (sent, received) = (
            tree.join(name).metadata().unwrap(),
            path.metadata().unwrap(),
        );
        assert_eq!(received.mode(), sent.mode(), "{name}");
        assert_eq!(received.mtime(), sent.mtime(), "{name}");
        assert_eq!(received.mtime_nsec(), sent.mtime_nsec(), "{name}");
    }
}

#[test]
fn a_file_that_may_only_be_read_is_sent() {
    // Root's, and of this machine: an ordinary user cannot make a file of another user.
    let theirs = PathBuf::from("/etc/passwd");
    let home = Home::new();
    copy(std::slice::from_ref(&theirs), &home);
    assert_eq!(
        fs::read(home.incoming().join("passwd")).unwrap(),
        fs::read(&theirs).unwrap()
    );
}

#[test]
fn a_large_file_in_a_closed_folder_arrives_as_it_was() {
    let here = tempfile::tempdir().unwrap();
    let tree = here.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let content: Vec<u8> = (0..LARGE + 5).map(|at| (at / 251) as u8).collect();
    fs::write(tree.join("large"), &content).unwrap();
    fs::set_permissions(tree.join("large"), fs::Permissions::from_mode(0o440)).unwrap();
    set_time(&tree.join("large"), 1_000_000);
    set_time(&tree, 2_000_000);
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o555)).unwrap();
    let home = Home::new();
    copy(std::slice::from_ref(&tree), &home);
    let there = home.incoming().join("tree");
    assert!(fs::read(there.join("large")).unwrap() == content);
    let large = there.join("large").metadata().unwrap();
    assert_eq!((large.mode() & 0o7777, large.mtime()), (0o440, 1_000_000));
    let folder = there.metadata().unwrap();
    assert_eq!((folder.mode() & 0o7777, folder.mtime()), (0o555, 2_000_000));
    home.assert_nothing_but(&["QubesIncoming/work/tree", "QubesIncoming/work/tree/large"]);
    for folder in [tree, there] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn nothing_is_ever_replaced() {
    let here = tempfile::tempdir().unwrap();
    let (new, taken) = (here.path().join("a-new"), here.path().join("taken"));
    fs::write(&new, "new").unwrap();
    fs::write(&taken, "other").unwrap();
    let home = Home::new();
    drop(home.place());
    fs::write(home.incoming().join("taken"), "mine").unwrap();
    let (sent, received) = transfer(&[new, taken], &home);
    assert_eq!(received.unwrap_err().code(), code::EEXIST);
    let message = sent.unwrap_err().to_string();
    assert!(
        message.contains("there already (last: \"taken\")"),
        "{message}"
    );
    assert_eq!(
        fs::read_to_string(home.incoming().join("taken")).unwrap(),
        "mine"
    );
    home.assert_nothing_but(&["QubesIncoming/work/taken"]);
}

/// Does something before its only byte is read.
pub(crate) struct Late<F> {
    pub(crate) act: Option<F>,
    pub(crate) byte: u8,
}

impl<F: FnOnce()> Read for Late<F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(act) = self.act.take() else {
            return Ok(0);
        };
        act();
        buffer[0] = self.byte;
        Ok(1)
    }
}

#[test]
fn a_name_that_is_taken_while_the_transfer_runs_stops_all_of_it() {
    let stream = Stream::new().file("a", b"1").file("b", b"2").end();
    let home = Home::new();
    let place = home.place();
    let taken = home.incoming().join("b");
    let (last, most) = stream.split_last().unwrap();
    let mut input = most.chain(Late {
        act: Some(move || fs::write(&taken, "mine").unwrap()),
        byte: *last,
    });
    let (outcome, result) = receive(&mut input, &place, PLAIN);
    assert_eq!(outcome.code, code::EEXIST);
    assert!(matches!(result, Err(ReceiveError::Exists(name)) if name == "b"));
    home.assert_nothing_but(&["QubesIncoming/work/b"]);
    assert_eq!(
        fs::read_to_string(home.incoming().join("b")).unwrap(),
        "mine"
    );
}

#[test]
fn a_folder_header_for_a_name_never_seen_makes_the_folder() {
    let home = Home::new();
    assert_eq!(
        home.receive(&Stream::new().dir("d", 0o755).end()).0.code,
        code::OK
    );
    assert_eq!(
        home.incoming().join("d").metadata().unwrap().mode() & 0o7777,
        0o700
    );
}

#[test]
fn what_the_sender_cannot_send_is_named() {
    let here = tempfile::tempdir().unwrap();
    let home = Home::new();
    let missing = here.path().join("missing");
    let (sent, received) = transfer(&[missing], &home);
    assert!(
        sent.unwrap_err()
            .to_string()
            .contains("missing` cannot be read")
    );
    assert!(received.unwrap_err().is_interruption());
    let socket = here.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (sent, _) = transfer(&[socket], &home);
    assert!(matches!(sent, Err(SendError::Type(_))));
    let (sent, _) = transfer(&[PathBuf::from("/")], &home);
    assert!(matches!(sent, Err(SendError::NoName(_))));
    home.assert_nothing_but(&[]);
}

#[test]
fn a_sender_hears_of_a_refusal_in_the_middle() {
    let here = tempfile::tempdir().unwrap();
    let bad = here.path().join("a\u{202e}b");
    fs::write(&bad, vec![0; 8_000_000]).unwrap();
    let home = Home::new();
    let (sent, received) = transfer(&[bad], &home);
    assert_eq!(received.unwrap_err().code(), code::EILSEQ);
    match sent.unwrap_err() {
        SendError::Refused { code, last_name } => {
            assert_eq!(code, code::EILSEQ);
            assert_eq!(last_name.as_deref(), Some("a___b"));
        }
        other => panic!("expected a refusal, got {other}"),
    }
    home.assert_nothing_but(&[]);
}

fn answer_of(outcome: &[u8]) -> SendError {
    let here = tempfile::tempdir().unwrap();
    let file = here.path().join("f");
    fs::write(&file, "x").unwrap();
    let (out, input) = UnixStream::pair().unwrap();
    let (answer, mut output) = UnixStream::pair().unwrap();
    output.write_all(outcome).unwrap();
    drop(output);
    let error = pack(&[file], out.into(), answer.into(), &mut |_| {}).unwrap_err();
    drop(input);
    error
}

#[test]
fn answers_of_other_receivers_are_understood() {
    let outcome = |code, crc| Outcome {
        code,
        crc,
        last_name: None,
    };
    let old = outcome(code::EILSEQ_OF_DIRECTORY, 0).encode();
    assert!(
        answer_of(&old)
            .to_string()
            .contains("characters that are not allowed")
    );
    assert!(matches!(answer_of(b""), SendError::NoAnswer));
    assert!(matches!(answer_of(b"short"), SendError::Answer(_)));
    assert!(matches!(
        answer_of(&outcome(0, 1).encode()),
        SendError::Checksum
    ));
}
