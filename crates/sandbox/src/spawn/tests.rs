use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn null() -> Stream {
    let file = File::options().read(true).write(true).open("/dev/null");
    Stream::Is(file.unwrap().into())
}

/// What a script says, and how it ends.
#[track_caller]
fn run(program: &mut Program) -> (String, i32) {
    let (mut reader, writer) = io::pipe().unwrap();
    let mut process = program
        .start([null(), Stream::Is(writer.into()), Stream::Inherit])
        .unwrap();
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    (said, process.wait().unwrap())
}

fn shell(script: &str) -> Program {
    let mut shell = Program::new("/bin/sh");
    shell.arg("-c").arg(script);
    shell
}

#[test]
fn name_arguments_and_end_are_the_programs() {
    let mut program = shell("printf '%s,' \"$0\" \"$@\"; exit 7");
    program.args(["a", "", "b c"]);
    assert_eq!(run(&mut program), ("a,,b c,".to_owned(), 7));
    let (said, _) = run(shell("tr '\\0' , </proc/$$/cmdline").arg0("-own"));
    assert!(said.starts_with("-own,-c,"), "{said}");
    assert_eq!(run(&mut shell("kill -9 $$")).1, 128 + 9);
}

#[test]
fn the_environment_is_ours_but_for_what_was_changed() {
    let mut program = shell("echo \"$SET-${HOME+home}-${PATH+path}\"");
    program
        .env("SET", "old")
        .env("SET", "new")
        .env_remove("HOME");
    assert_eq!(run(&mut program).0, "new--path\n");
    let mut program = Program::new("/usr/bin/env");
    program.env("OLD", "1").env_clear().env("NEW", "2");
    assert_eq!(run(&mut program).0, "NEW=2\n");
}

#[test]
fn it_leads_its_group_and_starts_where_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = shell("pwd -P; test $(cut -d' ' -f5 /proc/$$/stat) = $$");
    let (said, code) = run(program.current_dir(dir.path()));
    let here = dir.path().canonicalize().unwrap();
    assert_eq!((said, code), (format!("{}\n", here.display()), 0));
    program.current_dir("/nonexistent");
    let error = program.start([null(), null(), null()]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn it_stays_in_our_group_where_that_is_wanted() {
    let group = rustix::process::getpgrp().as_raw_nonzero();
    let mut program = shell(&format!("test $(cut -d' ' -f5 /proc/$$/stat) = {group}"));
    assert_eq!(run(program.in_our_group()).1, 0);
}

#[test]
fn a_program_is_found_in_the_path_or_the_reason_is_told() {
    assert_eq!(run(Program::new("echo").arg("x")).0, "x\n");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "nothing that runs").unwrap();
    let kind = |program: Program| program.start([null(), null(), null()]).unwrap_err().kind();
    assert_eq!(kind(Program::new(&file)), io::ErrorKind::PermissionDenied);
    assert_eq!(
        kind(Program::new("no-such-program")),
        io::ErrorKind::NotFound
    );
    assert_eq!(kind(Program::new("/nonexistent")), io::ErrorKind::NotFound);
    assert_eq!(kind(Program::new("a\0b")), io::ErrorKind::InvalidInput);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    let error = Program::new(&file).start([null(), null(), null()]);
    assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::ENOEXEC));
}

#[test]
fn no_descriptor_comes_along() {
    let file = File::open("/dev/null").unwrap();
    let ours = file.as_raw_fd();
    assert_eq!(
        run(&mut shell(&format!("test ! -e /proc/$$/fd/{ours}"))).1,
        0
    );
}

#[test]
fn signals_are_as_a_program_expects_them() {
    let status =
        || run(Program::new("/bin/grep").args(["-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"])).0;
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap()
    };
    let bit = |signal: libc::c_int| 1_u64 << (signal - 1);
    let checked = std::thread::spawn(move || {
        hold_child_signal().unwrap();
        let ours = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert_ne!(field(&ours, "SigBlk") & bit(libc::SIGCHLD), 0);
        // As every Rust program does.
        assert_ne!(field(&ours, "SigIgn") & bit(libc::SIGPIPE), 0);
        let told = status();
        assert_eq!(field(&told, "SigBlk"), 0);
        assert_eq!(field(&told, "SigIgn") & bit(libc::SIGPIPE), 0);
        let after = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert_eq!(field(&after, "SigBlk"), field(&ours, "SigBlk"));
    });
    checked.join().unwrap();
}
