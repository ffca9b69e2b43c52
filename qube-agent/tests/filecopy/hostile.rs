//! Senders that lie, and links that someone puts in the way.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use bulkhead_wire::filecopy::{NAME_MAX, code};
use qube_agent::filecopy::{LARGE, Place, ReceiveError, receive};

use crate::arrive::Late;
use crate::support::{Home, PLAIN, Stream};

#[test]
fn hostile_streams_get_their_code_and_leave_nothing() {
    let s = Stream::new;
    let long = "a/".repeat(NAME_MAX / 2 + 1) + "b";
    let component = format!("d/{}", "c".repeat(256));
    let d = || s().dir("d", 0o755);
    let cases: Vec<(&str, Stream, u32)> = vec![
        ("absolute name", s().file("/tmp/x", b"x"), code::EILSEQ),
        ("parent in name", d().file("d/../x", b"x"), code::EILSEQ),
        ("only parent", s().file("..", b"x"), code::EILSEQ),
        ("dot", s().file("./x", b"x"), code::EILSEQ),
        ("double slash", d().file("d//x", b"x"), code::EILSEQ),
        ("trailing slash", s().dir("d/", 0o755), code::EILSEQ),
        ("empty name", s().file("", b"x"), code::EILSEQ),
        ("override", s().file("a\u{202e}fdp.exe", b"x"), code::EILSEQ),
        ("invisible", s().file("a\u{200b}b", b"x"), code::EILSEQ),
        ("right to left", s().file("א", b"x"), code::EILSEQ),
        ("newline", s().file("a\nb", b"x"), code::EILSEQ),
        ("bad folder name", s().dir("a\nb", 0o755), code::EILSEQ),
        ("link at the top", s().link("l", "x"), code::ENOLINK),
        ("absolute link", d().link("d/l", "/etc"), code::ENOLINK),
        ("link out", d().link("d/l", "../x"), code::ENOLINK),
        (
            "link down and out",
            d().link("d/l", "a/../../x"),
            code::ENOLINK,
        ),
        ("long name", s().file(&long, b""), code::ENAMETOOLONG),
        (
            "long component",
            d().file(&component, b""),
            code::ENAMETOOLONG,
        ),
        ("huge namelen", s().raw(&[0xff; 32]), code::ENAMETOOLONG),
        ("device", s().header(b"x", 0o060_666, 0, 0), code::EINVAL),
        ("socket", s().header(b"x", 0o140_666, 0, 0), code::EINVAL),
        ("pipe", s().header(b"x", 0o010_666, 0, 0), code::EINVAL),
        (
            "nanoseconds",
            s().header(b"x", 0o100_644, 0, 1_000_000_000),
            code::EINVAL,
        ),
        (
            "length over the sign",
            s().header(b"x", 0o100_644, 1 << 63, 0),
            code::EINVAL,
        ),
        (
            "file twice",
            s().file("x", b"1").file("x", b"2"),
            code::EEXIST,
        ),
        (
            "file over folder",
            s().dir("x", 0o755).file("x", b"2"),
            code::EEXIST,
        ),
        (
            "folder over file",
            s().file("x", b"1").dir("x", 0o755),
            code::EEXIST,
        ),
        ("no such folder", s().file("d/x", b"1"), ENOENT),
        (
            "file as folder",
            s().file("x", b"1").file("x/y", b"1"),
            ENOTDIR,
        ),
        (
            "through a link",
            d().dir("d/e", 0o755).link("d/l", "e").file("d/l/x", b"1"),
            ENOTDIR,
        ),
        (
            "folder over a link",
            d().dir("d/e", 0o755).link("d/l", "e").dir("d/l", 0o777),
            code::EEXIST,
        ),
    ];
    for (what, stream, expected) in cases {
        let home = Home::new();
        let (outcome, result) = home.receive(&stream.end());
        assert_eq!(outcome.code, expected, "{what}: {result:?}");
        assert!(result.is_err());
        home.assert_nothing_but(&[]);
    }
}

const ENOENT: u32 = 2;
const ENOTDIR: u32 = 20;

#[test]
fn a_stream_cut_at_any_byte_leaves_nothing() {
    let stream = Stream::new()
        .dir("d", 0o700)
        .file("d/f", b"0123456789")
        .link("d/l", "f")
        .dir("d/locked", 0o700)
        .dir("d/locked", 0)
        .dir("d", 0o500)
        .file("g", b"x")
        .end();
    for cut in 0..stream.len() {
        let home = Home::new();
        let (outcome, _) = home.receive(&stream[..cut]);
        let broken = [code::EREMOTEIO, code::UNEXPECTED_EOF];
        assert!(broken.contains(&outcome.code), "cut at {cut}");
        home.assert_nothing_but(&[]);
    }
    let home = Home::new();
    assert_eq!(home.receive(&stream).0.code, code::OK);
    let there = home.incoming().join("d");
    assert_eq!(there.metadata().unwrap().mode() & 0o7777, 0o500);
    for folder in [there.join("locked"), there] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn a_tree_deeper_than_descriptors_last_is_removed() {
    let mut stream = Stream::new();
    let mut name = String::new();
    for _ in 0..1_500 {
        name += if name.is_empty() { "d" } else { "/d" };
        stream = stream.dir(&name, 0o755);
    }
    let home = Home::new();
    assert_eq!(home.receive(&stream.bytes).0.code, code::EREMOTEIO);
    home.assert_nothing_but(&[]);
}

#[test]
fn a_link_in_the_way_of_the_incoming_folder_is_not_followed() {
    let home = Home::new();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir(home.0.path().join("QubesIncoming")).unwrap();
    symlink(elsewhere.path(), home.incoming()).unwrap();
    let error = Place::open(home.0.path(), &home.state(), "work").unwrap_err();
    assert!(matches!(error, ReceiveError::Folder { .. }), "{error}");
}

#[test]
fn a_source_that_is_no_name_is_refused() {
    let home = Home::new();
    for source in ["", ".", "..", "a/b", ".unfinished", "a\0"] {
        assert!(
            Place::open(home.0.path(), &home.state(), source).is_err(),
            "{source:?}"
        );
    }
}

#[test]
fn a_link_swapped_in_while_the_transfer_runs_leads_nowhere() {
    let elsewhere = tempfile::tempdir().unwrap();
    let home = Home::new();
    let place = home.place();
    let before = Stream::new()
        .dir("d", 0o755)
        .dir("d/sub", 0o755)
        .file("d/sub/f", b"1");
    let after = Stream::new()
        .dir("other", 0o755)
        .file("d/sub/g", b"2")
        .end();
    let (area, target) = (
        home.state().join("bulkhead/filecopy/work"),
        elsewhere.path().to_owned(),
    );
    let swap = move || {
        let staging = fs::read_dir(area).unwrap().next().unwrap().unwrap().path();
        fs::rename(staging.join("d/sub"), staging.join("moved")).unwrap();
        symlink(&target, staging.join("d/sub")).unwrap();
    };
    let late = Late {
        act: Some(swap),
        byte: after[0],
    };
    let mut input = before.bytes.as_slice().chain(late).chain(&after[1..]);
    let (outcome, _) = receive(&mut input, &place, PLAIN);
    assert_ne!(
        outcome.code,
        code::UNEXPECTED_EOF,
        "the stream was read to its end"
    );
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    assert!(!elsewhere.path().join("g").exists());
}

#[test]
fn a_receiver_that_was_killed_leaves_nothing_to_the_next() {
    let home = Home::new();
    drop(home.place());
    let area = home.state().join("bulkhead/filecopy/work");
    fs::create_dir_all(area.join("t-0123456789abcdef/d/e")).unwrap();
    fs::write(area.join("t-0123456789abcdef/d/e/f"), "x").unwrap();
    let _ = home.receive(&Stream::new().file("x", b"1").end());
    home.assert_nothing_but(&["QubesIncoming/work/x"]);
}

#[test]
fn a_running_transfer_is_not_taken_for_a_stale_one() {
    let home = Home::new();
    let place = home.place();
    let stream = Stream::new().dir("d", 0o755).file("d/f", b"1").end();
    let (last, most) = stream.split_last().unwrap();
    let late = Late {
        act: Some(|| {
            let (outcome, _) = home.receive(&Stream::new().file("other", b"2").end());
            assert_eq!(outcome.code, code::OK);
        }),
        byte: *last,
    };
    assert_eq!(
        receive(&mut most.chain(late), &place, PLAIN).0.code,
        code::OK
    );
    let expected = [
        "QubesIncoming/work/d",
        "QubesIncoming/work/d/f",
        "QubesIncoming/work/other",
    ];
    home.assert_nothing_but(&expected);
}

#[test]
fn a_full_disk_is_reported_and_leaves_nothing() {
    // Its own process: the limit on the size of files is the process's.
    let home = Home::new();
    let me = std::env::current_exe().unwrap();
    let output = std::process::Command::new(me)
        .args([
            "--exact",
            "hostile::receive_within_a_limit",
            "--ignored",
            "--nocapture",
        ])
        .env("FILECOPY_TEST_HOME", home.0.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    home.assert_nothing_but(&[]);
}

const EFBIG: u32 = 27;

#[test]
#[ignore = "runs in a process of its own, see a_full_disk_is_reported_and_leaves_nothing"]
fn receive_within_a_limit() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let home = std::env::var_os("FILECOPY_TEST_HOME").unwrap();
    // Without a handler the signal that comes with the error would end the process.
    let seen = std::sync::Arc::default();
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, seen).unwrap();
    let limit = Rlimit {
        current: Some(100_000),
        maximum: Some(100_000),
    };
    setrlimit(Resource::Fsize, limit).unwrap();
    let home = std::path::Path::new(&home);
    for length in [200_000, LARGE as usize] {
        let place = Place::open(home, &home.join("state"), "work").unwrap();
        let stream = Stream::new()
            .dir("d", 0o755)
            .file("d/f", &vec![1; length])
            .end();
        let (outcome, _) = receive(&mut &stream[..], &place, PLAIN);
        assert_eq!(outcome.code, EFBIG);
    }
    // One small file of many, which are written while later ones are being created.
    let limit = Rlimit {
        current: Some(1000),
        maximum: Some(1000),
    };
    setrlimit(Resource::Fsize, limit).unwrap();
    for later in [0, 10, 1000] {
        let place = Place::open(home, &home.join("state"), "work").unwrap();
        let mut stream = Stream::new().dir("d", 0o755);
        for number in 0..100 {
            stream = stream.file(&format!("d/{number}"), &[1; 1000]);
        }
        stream = stream.file("d/long", &[1; 1001]);
        for number in 0..later {
            stream = stream.file(&format!("d/later-{number}"), &[1; 1000]);
        }
        let (outcome, _) = receive(&mut &stream.end()[..], &place, PLAIN);
        assert_eq!(outcome.code, EFBIG);
        assert_eq!(outcome.last_name.as_deref(), Some(&b"d/long"[..]));
    }
}
