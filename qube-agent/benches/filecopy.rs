//! Both ends of a transfer over a Unix socket pair: `cargo bench -p qube-agent --bench filecopy`.
//!
//! `TMPDIR` says where the files are; what is received is flushed there before the sender hears
//! that it arrived, so the disk is part of the figure. `spool` is the same bytes without any file,
//! `cp_*` the same files copied by `cp` in one folder, without connection or flush.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bulkhead_wire::filecopy::{Dialect, Limits, Names};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use qube_agent::filecopy::{Place, ReceiveOptions, pack, receive};
use tempfile::TempDir;

fn main() {
    divan::main();
}

const LARGE: usize = 256 * 1024 * 1024;
const FILES: usize = 10_000;
const SMALL: usize = 1024;

const OPTIONS: ReceiveOptions = ReceiveOptions {
    names: Names::Listed,
    dialect: Dialect::Plain,
    limits: Limits { bytes: 0, files: 0 },
};

fn transfer(path: &Path, home: &Path) {
    let (out, mut input) = UnixStream::pair().expect("a socket pair");
    let (answer, mut output) = UnixStream::pair().expect("a socket pair");
    let place = Place::open(home, &home.join("state"), "work").expect("the folders open");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (outcome, result) = receive(&mut input, &place, OPTIONS);
            result.expect("it is received");
            output
                .write_all(&outcome.encode())
                .expect("the sender listens");
        });
        let paths = [path.to_owned()];
        pack(&paths, out.into(), answer.into(), &mut |_| {}).expect("it is sent");
    });
}

/// A fresh home folder, and something to send.
fn folders(fill: impl FnOnce(&Path)) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("a folder");
    fill(&source);
    (folder, source)
}

fn home(folder: &TempDir) -> TempDir {
    tempfile::tempdir_in(folder.path()).expect("a folder")
}

#[divan::bench(sample_count = 7, sample_size = 1)]
fn one_file_of_256_mib(bencher: Bencher<'_, '_>) {
    let (folder, source) = folders(|source| {
        fs::write(source.join("large"), vec![0x5a; LARGE]).expect("room for it");
    });
    bencher
        .counter(BytesCount::new(LARGE))
        .with_inputs(|| home(&folder))
        .bench_local_refs(|home| transfer(&source.join("large"), home.path()));
}

fn many(source: &Path) {
    for number in 0..FILES {
        fs::write(source.join(format!("file-{number}")), [0x5a; SMALL]).expect("room for it");
    }
}

#[divan::bench(sample_count = 7, sample_size = 1)]
fn cp_ten_thousand_files_of_1_kib(bencher: Bencher<'_, '_>) {
    let (folder, source) = folders(many);
    bencher
        .counter(ItemsCount::new(FILES))
        .with_inputs(|| home(&folder))
        .bench_local_refs(|home| {
            let mut cp = std::process::Command::new("cp");
            let status = cp.arg("-a").arg(&source).arg(home.path()).status();
            assert!(status.expect("cp runs").success());
        });
}

#[divan::bench(sample_count = 7, sample_size = 1)]
fn ten_thousand_files_of_1_kib(bencher: Bencher<'_, '_>) {
    let (folder, source) = folders(many);
    bencher
        .counter(ItemsCount::new(FILES))
        .with_inputs(|| home(&folder))
        .bench_local_refs(|home| transfer(&source, home.path()));
}

#[divan::bench(sample_count = 7, sample_size = 1)]
fn spool_256_mib(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::new(LARGE)).bench_local(|| {
        let (mut out, mut input) = UnixStream::pair().expect("a socket pair");
        let chunk = vec![0x5a; 256 * 1024];
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut buffer = vec![0; chunk.len()];
                while input.read(&mut buffer).expect("the sender sends") > 0 {}
            });
            for _ in 0..LARGE / (256 * 1024) {
                out.write_all(&[0x5a; 256 * 1024])
                    .expect("the receiver listens");
            }
            drop(out);
        });
    });
}
