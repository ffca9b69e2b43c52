//! The services as programs, as the agent starts them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bulkhead_testing::{wait_for, write_program};
use qube_agent::filecopy::pack;
use tempfile::TempDir;

fn service(name: &str, home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qube-agent"));
    command
        .arg(name)
        .env("HOME", home)
        .env("TMPDIR", home)
        .env("QREXEC_REMOTE_DOMAIN", "work")
        .env_remove("XDG_STATE_HOME")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A folder with a program `qubes-open` that runs `script` on the file `$1`.
fn opener(script: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("qubes-open");
    write_program(&path, &format!("#!/bin/sh\n{script}\n"));
    folder
}

fn open_in_vm(name: &[u8], content: &[u8], script: &str) -> (Option<i32>, Vec<u8>, String) {
    let home = tempfile::tempdir().unwrap();
    let opener = opener(script);
    let path = format!("{}:/usr/bin:/bin", opener.path().display());
    let mut child = service("qubes.OpenInVM", home.path())
        .env("PATH", path)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut field = [0; 256];
    field
        .iter_mut()
        .zip(name)
        .for_each(|(to, from)| *to = *from);
    input.write_all(&field).unwrap();
    let _ = input.write_all(content);
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        fs::read_dir(home.path()).unwrap().count(),
        0,
        "the file is gone"
    );
    let errors = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), output.stdout, errors)
}

#[test]
fn an_edited_file_comes_back_and_an_unchanged_one_does_not() {
    let edited = open_in_vm(
        b"a.txt",
        b"old",
        "sleep 0.01; cat \"$1\"; echo new >> \"$1\"",
    );
    assert_eq!(edited, (Some(0), b"oldnew\n".to_vec(), String::new()));
    let replaced = open_in_vm(b"a.txt", b"old", "echo new > \"$1.x\"; mv \"$1.x\" \"$1\"");
    assert_eq!(replaced.1, b"new\n");
    let unchanged = open_in_vm(b"a.txt", b"old", "cat \"$1\"");
    assert_eq!(unchanged, (Some(0), Vec::new(), String::new()));
    let viewed = open_in_vm(
        b"view-only-a.txt",
        b"old",
        "chmod 600 \"$1\"; echo x >> \"$1\"",
    );
    assert_eq!(viewed, (Some(0), Vec::new(), String::new()));
}

#[test]
fn a_file_is_opened_under_a_harmless_name_in_a_closed_folder() {
    let script = "case \"$1\" in */work-*/a_b.txt) ;; *) exit 1;; esac
        [ \"$(stat -c %a \"$1\")\" = 600 ] && [ \"$(stat -c %a \"${1%/*}\")\" = 700 ]";
    assert_eq!(open_in_vm(b"a\nb.txt", b"", script).0, Some(0));
}

#[test]
fn a_hostile_name_or_a_failing_program_is_an_error() {
    for name in [&b"../x"[..], b"/x", b"..", b""] {
        let (code, answer, errors) = open_in_vm(name, b"x", "echo opened; exit 0");
        assert_eq!((code, answer), (Some(1), Vec::new()));
        assert!(errors.contains("a name that is none"), "{errors}");
    }
    let (code, answer, errors) = open_in_vm(b"x", b"x", "echo y >> \"$1\"; exit 3");
    assert_eq!((code, answer), (Some(1), Vec::new()));
    assert!(
        errors.contains("`qubes-open` could not open it"),
        "{errors}"
    );
}

#[test]
fn an_address_is_opened_only_if_it_is_one() {
    let opener = opener("echo \"$1\" > \"$HOME/opened\"");
    let path = format!("{}:/usr/bin:/bin", opener.path().display());
    for (line, opened) in [
        ("https://example.org/a?b\n", true),
        ("file:///etc/passwd\n", false),
        ("--help\n", false),
        ("", false),
    ] {
        let home = tempfile::tempdir().unwrap();
        let mut child = service("qubes.OpenURL", home.path())
            .env("PATH", &path)
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(line.as_bytes())
            .unwrap();
        assert_eq!(child.wait().unwrap().success(), opened, "{line:?}");
        let found = fs::read_to_string(home.path().join("opened")).ok();
        assert_eq!(found.as_deref(), opened.then_some(line));
    }
}

/// A home with an entry `org.example-app` whose lines are these, and a program `app` that notes
/// what it was called with and goes on until it has no home any more.
fn applications(lines: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".local/share/applications/org.example");
    fs::create_dir_all(&folder).unwrap();
    let text = format!("[Desktop Entry]\nType=Application\nName=An app\n{lines}\n");
    fs::write(folder.join("app.desktop"), text).unwrap();
    let program = |name: &str, script: &str| {
        let path = home.path().join(name);
        write_program(&path, &format!("#!/bin/sh\n{script}\n"));
    };
    program(
        "app",
        "echo \"$0 $* in $PWD $QREXEC_REMOTE_DOMAIN\" > \"$HOME/new\"; mv \"$HOME/new\" \"$HOME/told\"
        while [ -e \"$HOME\" ]; do sleep 0.05; done",
    );
    program("xdg-terminal-exec", "exec app in a terminal \"$@\"");
    home
}

/// Exit code, and what was said.
fn in_home(name: &str, arguments: &[&str], home: &Path) -> (Option<i32>, String) {
    let path = format!("{}:/usr/bin:/bin", home.display());
    let output = service(name, home)
        .args(arguments)
        .env("PATH", path)
        .env("XDG_DATA_DIRS", home.join("none"))
        .env_remove("XDG_DATA_HOME")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

/// What the application of a home was called with.
fn told(home: &Path) -> String {
    let file = home.join("told");
    let text = wait_for("the application", || fs::read_to_string(&file).ok());
    text.replace(&home.display().to_string(), "~")
}

#[test]
fn an_application_is_started_and_goes_on() {
    let home = applications("Exec=app %c \"a b\" %U\nPath=/\nIcon=i");
    let started = in_home("qubes.StartApp", &["org.example-app"], home.path());
    assert_eq!(started, (Some(0), String::new()));
    assert_eq!(told(home.path()), "~/app An app a b in / \n");
}

#[test]
fn an_application_for_terminals_gets_one() {
    let home = applications("Exec=app --x\nTerminal=true\nTryExec=app");
    let file = home
        .path()
        .join(".local/share/applications/org.example/app.desktop");
    let file = file.to_str().unwrap();
    let started = in_home("qubes-desktop-run", &[file], home.path());
    assert_eq!(started.0, Some(0), "{}", started.1);
    assert!(told(home.path()).starts_with("~/app in a terminal app --x in "));
}

#[test]
fn what_is_no_application_is_not_started() {
    let id: &[&str] = &["org.example-app"];
    for (lines, arguments, problem) in [
        (
            "Exec=app",
            &["other"][..],
            "there is no application `other`",
        ),
        ("Exec=app", &[], "expected one argument"),
        ("Exec=app\nHidden=true", id, "describes no application"),
        ("Name=x", id, "describes no application"),
        ("Exec=app \"x", id, "a quote is not closed"),
        (
            "Exec=/nonexistent/x",
            id,
            "`/nonexistent/x` cannot be started",
        ),
        ("Exec=app\nTryExec=nothing-like-it", id, "is not installed"),
    ] {
        let home = applications(lines);
        let (code, said) = in_home("qubes.StartApp", arguments, home.path());
        assert_eq!(code, Some(1), "{lines}");
        assert!(said.contains(problem), "{said}");
    }
}

#[test]
fn applications_are_listed_with_our_launcher() {
    let home = applications("Exec=app %U\nName[de]=Eine");
    let (code, said) = in_home("qubes.GetAppmenus", &[], home.path());
    assert_eq!(code, Some(0));
    let said = said.replace(&home.path().display().to_string(), "~");
    let file = "~/.local/share/applications/org.example/app.desktop";
    let lines = [
        "Type=Application",
        "Name=An app",
        &format!("Exec=qubes-desktop-run {file}"),
    ];
    let lines = lines.map(|line| format!("{file}:{line}\n"));
    assert_eq!(said, lines.concat() + "\n");
}

/// Sends `file` to a service and returns whether it said that it arrived.
fn send(file: &Path, child: &mut Child) -> bool {
    let out = child.stdin.take().unwrap().into();
    let answer = child.stdout.take().unwrap().into();
    let sent = pack(&[file.to_owned()], out, answer, &mut |_| {});
    sent.is_ok() && child.wait().unwrap().success()
}

#[test]
fn the_service_receives_into_the_folder_of_the_caller() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("ok.txt");
    fs::write(&file, "content").unwrap();
    assert!(send(
        &file,
        &mut service("qubes.Filecopy", home.path()).spawn().unwrap()
    ));
    let there = home.path().join("QubesIncoming/work/ok.txt");
    assert_eq!(fs::read_to_string(there).unwrap(), "content");
}

#[test]
fn any_name_is_received_only_where_the_call_asked_for_it() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a\u{202e}b");
    fs::write(&file, "content").unwrap();
    assert!(!send(
        &file,
        &mut service("qubes.Filecopy", home.path()).spawn().unwrap()
    ));
    let mut all = service("qubes.Filecopy", home.path());
    assert!(send(
        &file,
        &mut all.arg("allow-all-names").spawn().unwrap()
    ));
    assert!(home.path().join("QubesIncoming/work/a\u{202e}b").exists());
    let mut unknown = service("qubes.Filecopy", home.path());
    assert!(!send(&file, &mut unknown.arg("nonsense").spawn().unwrap()));
}

#[test]
fn the_resuming_service_offers_first() {
    let home = tempfile::tempdir().unwrap();
    let mut child = service("bulkhead.Filecopy", home.path()).spawn().unwrap();
    let mut offers = [0; 12];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut offers)
        .unwrap();
    assert_eq!(&offers, b"BHCOPY\x001\0\0\0\0");
    drop(child.stdin.take());
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_caller_without_a_name_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("ok.txt");
    fs::write(&file, "content").unwrap();
    let mut nameless = service("qubes.Filecopy", home.path());
    assert!(!send(
        &file,
        &mut nameless.env_remove("QREXEC_REMOTE_DOMAIN").spawn().unwrap()
    ));
    assert!(!home.path().join("QubesIncoming").exists());
}
