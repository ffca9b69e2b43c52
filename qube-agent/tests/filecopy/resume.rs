//! Transfers that broke and are repeated.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bulkhead_wire::filecopy::{Dialect, Encoder, Entry, Kind, Stamp, code, offer};
use qube_agent::filecopy::{
    AGE_MAX, FILES_MAX, Kept, LARGE, ReceiveOptions, SendError, Sent, pack_resumable, receive,
};

use crate::support::{Home, PLAIN, Stream, set_time};

const RESUMABLE: ReceiveOptions = ReceiveOptions {
    dialect: Dialect::Resumable,
    ..PLAIN
};

/// The start of a transfer of `path`, up to `stop` bytes of content.
fn broken_stream(path: &Path, stop: usize) -> Vec<u8> {
    let stat = path.metadata().unwrap();
    let stamp = Stamp {
        seconds: stat.mtime() as u32,
        nanos: stat.mtime_nsec() as u32,
    };
    let mut out = Vec::new();
    let entry = Entry {
        name: path.file_name().unwrap().as_encoded_bytes(),
        kind: Kind::File {
            size: stat.len(),
            offset: 0,
        },
        permissions: 0o644,
        atime: stamp,
        mtime: stamp,
    };
    Encoder::new(Dialect::Plain)
        .entry(&entry, &mut out)
        .unwrap();
    out.extend_from_slice(&fs::read(path).unwrap()[..stop]);
    out
}

/// Repeats the transfer of `path` as the command does after an interruption.
fn resume(path: &Path, home: &Home) -> Sent {
    let (out, mut input) = UnixStream::pair().unwrap();
    let (answer, mut output) = UnixStream::pair().unwrap();
    let place = home.place();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let offers = Kept::open(&place).unwrap().offers();
            output.write_all(&offer::encode(&offers)).unwrap();
            let (outcome, _) = receive(&mut input, &place, RESUMABLE);
            output.write_all(&outcome.encode()).unwrap();
        });
        pack_resumable(&[path.to_owned()], out.into(), answer.into(), &mut |_| {}).unwrap()
    })
}

fn large_file(folder: &Path) -> PathBuf {
    let path = folder.join("large");
    let content: Vec<u8> = (0..LARGE + 100_000).map(|at| (at / 253) as u8).collect();
    fs::write(&path, content).unwrap();
    set_time(&path, 1_000_000);
    path
}

const THERE: usize = 5_000_000;

#[test]
fn an_interrupted_large_file_goes_on_where_it_stopped() {
    let here = tempfile::tempdir().unwrap();
    let path = large_file(here.path());
    let home = Home::new();
    let (outcome, _) = home.receive(&broken_stream(&path, THERE));
    assert_eq!(outcome.code, code::UNEXPECTED_EOF);
    assert_eq!(
        fs::read_dir(home.incoming()).unwrap().count(),
        0,
        "nothing is seen of it"
    );
    let sent = resume(&path, &home);
    assert_eq!(sent.resumed, THERE as u64);
    assert_eq!(sent.bytes, LARGE + 100_000 - THERE as u64);
    assert!(fs::read(home.incoming().join("large")).unwrap() == fs::read(&path).unwrap());
    home.assert_nothing_but(&["QubesIncoming/work/large"]);
}

#[test]
fn a_file_that_was_complete_when_its_transfer_broke_is_not_sent_again() {
    let here = tempfile::tempdir().unwrap();
    let path = large_file(here.path());
    let home = Home::new();
    let _ = home.receive(&broken_stream(&path, (LARGE + 100_000) as usize));
    let sent = resume(&path, &home);
    assert_eq!((sent.bytes, sent.resumed), (0, LARGE + 100_000));
    assert!(fs::read(home.incoming().join("large")).unwrap() == fs::read(&path).unwrap());
    home.assert_nothing_but(&["QubesIncoming/work/large"]);
}

#[test]
fn a_file_that_changed_is_sent_from_its_start() {
    let here = tempfile::tempdir().unwrap();
    let path = large_file(here.path());
    let home = Home::new();
    let _ = home.receive(&broken_stream(&path, THERE));
    let mut content = fs::read(&path).unwrap();
    content[17] ^= 1;
    fs::write(&path, &content).unwrap();
    set_time(&path, 1_000_000);
    assert_eq!(resume(&path, &home).resumed, 0);
    assert!(fs::read(home.incoming().join("large")).unwrap() == content);
    home.assert_nothing_but(&["QubesIncoming/work/large"]);
}

#[test]
fn nothing_is_kept_of_small_files_or_of_what_was_refused() {
    let home = Home::new();
    let small = Stream::new().header(b"small", 0o100_644, LARGE - 1, 0);
    let _ = home.receive(&small.raw(&[1; 1000]).bytes);
    home.assert_nothing_but(&[]);
    let refused = Stream::new()
        .file("large", &vec![1; LARGE as usize])
        .file("/", b"");
    assert_eq!(home.receive(&refused.end()).0.code, code::EILSEQ);
    home.assert_nothing_but(&[]);
}

#[test]
fn what_is_kept_is_bounded_in_number_and_age() {
    let home = Home::new();
    for number in 0..=FILES_MAX {
        let name = format!("f{number}");
        let stream = Stream::new().header(name.as_bytes(), 0o100_644, LARGE, 0);
        let _ = home.receive(&stream.raw(b"x").bytes);
    }
    let kept = Kept::open(&home.place()).unwrap();
    assert_eq!(kept.offers().len(), FILES_MAX);
    kept.prune(SystemTime::now() + AGE_MAX - Duration::from_secs(60));
    assert_eq!(kept.offers().len(), FILES_MAX);
    kept.prune(SystemTime::now() + AGE_MAX + Duration::from_secs(2));
    assert_eq!(kept.offers(), []);
}

#[test]
fn a_damaged_note_is_dropped_and_not_offered() {
    let here = tempfile::tempdir().unwrap();
    let path = large_file(here.path());
    let home = Home::new();
    let _ = home.receive(&broken_stream(&path, THERE));
    let folder = home.state().join("bulkhead/filecopy/work/kept");
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some() {
            fs::write(path, "garbage").unwrap();
        }
    }
    assert_eq!(Kept::open(&home.place()).unwrap().offers(), []);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn a_continuation_that_does_not_fit_is_refused() {
    for (size, offset) in [(LARGE, 1), (100, 50)] {
        let home = Home::new();
        let mut out = Vec::new();
        let entry = Entry {
            name: b"x",
            kind: Kind::File { size, offset },
            permissions: 0o644,
            atime: Stamp::default(),
            mtime: Stamp::default(),
        };
        Encoder::new(Dialect::Resumable)
            .entry(&entry, &mut out)
            .unwrap();
        let (outcome, result) = receive(&mut &out[..], &home.place(), RESUMABLE);
        assert_eq!(outcome.code, code::EINVAL, "{result:?}");
        home.assert_nothing_but(&[]);
    }
}

#[test]
fn a_receiver_that_makes_no_offers_is_told_apart_from_one_that_goes_away() {
    let said = |said: &[u8]| {
        let (out, _input) = UnixStream::pair().unwrap();
        let (answer, mut output) = UnixStream::pair().unwrap();
        output.write_all(said).unwrap();
        drop(output);
        pack_resumable(&[], out.into(), answer.into(), &mut |_| {}).unwrap_err()
    };
    for other in [&b""[..], b"\0\0\0\0", b"garbage"] {
        assert!(matches!(said(other), SendError::NoOffers), "{other:?}");
    }
    assert!(matches!(said(&offer::encode(&[])), SendError::NoAnswer));
}
