//! What a qube can do to its own folder of sockets, and what becomes of it then.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it fails"
)]

mod world;

use bulkhead_api::qube::QubeState;
use world::{World, eventually, name, qube, running};

const POLICY: &str = "test.Echo * @anyvm vault allow\n";

async fn two_running() -> World {
    let world = World::new(vec![qube("work"), qube("vault"), qube("other")], POLICY).await;
    world.start("work").await;
    world.start("vault").await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qube_that_litters_and_lies_in_its_folder_harms_nobody() {
    let world = two_running().await;
    world.service("vault", "test.Echo", "echo ok").await;
    // As many names as a qube may leave there, some of them those of calls to come.
    let litter = r#"python3 -c '
import os, socket
os.chdir("/run/vchan")
for port in 513, 515, 517:
    socket.socket(socket.AF_UNIX).bind(f"vchan.1.2.{port}.sock")
    socket.socket(socket.AF_UNIX).bind(f"vchan.2.1.{port + 1}.sock")
for number in range(900):
    socket.socket(socket.AF_UNIX).bind(f"litter{number}")
print("done")
'"#;
    assert_eq!(world.sh("vault", litter).await, (0, "done\n".to_owned()));
    assert_eq!(world.sh("work", litter).await, (0, "done\n".to_owned()));
    let (code, said) = world
        .sh(
            "work",
            "rm -r /run/vchan/vchan.1.*.51[3-9].sock; qrexec-client-vm vault test.Echo",
        )
        .await;
    assert_eq!((code, said.as_str()), (0, "ok\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qube_can_put_sockets_into_its_folder_and_nothing_else() {
    let world = two_running().await;
    let tries = r#"
import errno, os, socket, stat
os.chdir("/run/vchan")
# The agent has its own socket there, and dom0 one.
before = sorted(os.listdir("."))
home = os.environ["HOME"]
open(f"{home}/big", "w").write("x" * 4096)
socket.socket(socket.AF_UNIX).bind("s")
listener = socket.socket(socket.AF_UNIX)
listener.bind(f"{home}/t")
ways = dict(
    file=lambda: open("f", "w"),
    nameless=lambda: os.open(".", os.O_TMPFILE | os.O_RDWR),
    nameless_elsewhere=lambda: os.open("/vchan", os.O_TMPFILE | os.O_WRONLY),
    folder=lambda: os.mkdir("d"),
    link=lambda: os.symlink("x" * 4000, "l"),
    pipe=lambda: os.mkfifo("p"),
    node=lambda: os.mknod("n", stat.S_IFREG | 0o600),
    device=lambda: os.mknod("c", stat.S_IFCHR | 0o600, 0),
    moved=lambda: os.rename(f"{home}/big", "m"),
    linked=lambda: os.link(f"{home}/big", "h"),
    taken_out=lambda: os.rename("s", f"{home}/s"),
    by_another_way=lambda: open("/proc/self/cwd/f", "w"),
)
for name, way in ways.items():
    try:
        way()
        print(name, "works")
    except OSError as refused:
        if refused.errno not in (errno.EACCES, errno.EXDEV, errno.EPERM):
            print(name, refused)
os.unlink("s")
assert sorted(os.listdir(".")) == before, os.listdir(".")
# Everywhere else a qube does as it likes.
for at in home, "/tmp", "/run", "/var/tmp", "/dev/shm", "/usr", "/etc":
    os.mkdir(f"{at}/d")
    open(f"{at}/d/f", "w").write("x")
    os.rename(f"{at}/d/f", f"{at}/g")
    os.link(f"{at}/g", f"{at}/d/h")
    os.symlink("g", f"{at}/d/l")
    os.mkfifo(f"{at}/d/p")
for open_again in "/dev/null", "/dev/stdout", "/dev/stderr", "/proc/self/comm":
    open(open_again, "w").close()
print("end")
"#;
    let said = world
        .sh("work", &format!("python3 -c '{tries}' 2>&1"))
        .await;
    assert_eq!(said, (0, "end\n".to_owned()));
    // Not by the processes of the agent alone.
    let (code, _) = world
        .sh("work", "setsid sh -c 'echo x >/vchan/f' 2>/dev/null")
        .await;
    assert_ne!(code, 0);
}

/// What is left to see of a qube that did what none may, while the calls of another one go on.
async fn is_ended_for(misuse: &str) {
    let world = two_running().await;
    world.start("other").await;
    world.service("vault", "test.Echo", "echo ok").await;
    let request = world.request("work", &format!("python3 -c '{misuse}'"));
    let _connection = world.runtime.run_command(request, "me").await.unwrap();
    let state = || world.runtime.info(&name("work")).unwrap().row.state;
    eventually("the qube to be ended", || state() == QubeState::Failed).await;
    assert_eq!(running(&world).await.len(), 2);
    let (code, said) = world.sh("other", "qrexec-client-vm vault test.Echo").await;
    assert_eq!((code, said.as_str()), (0, "ok\n"));
    world.start("work").await;
    assert_eq!(world.sh("work", "echo again").await.1, "again\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qube_that_fills_its_folder_with_sockets_is_ended() {
    let sockets = r#"
import os, socket, time
os.chdir("/run/vchan")
for number in range(1100):
    socket.socket(socket.AF_UNIX).bind(f"litter{number}")
time.sleep(99)
"#;
    is_ended_for(sockets).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qube_that_gives_its_folder_attributes_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let kept = rustix::fs::setxattr(dir.path(), "user.x", b"x", rustix::fs::XattrFlags::empty());
    if kept.is_err() {
        eprintln!(
            "skipped: the file system of `{}` has none",
            dir.path().display()
        );
        return;
    }
    let attributes = r#"
import os, time
os.setxattr("/run/vchan", "user.data", b"x" * 2000)
time.sleep(99)
"#;
    is_ended_for(attributes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_socket_that_is_made_anew_in_a_loop_is_attached_a_few_times() {
    let world = World::new(vec![qube("work")], POLICY).await;
    world.start("work").await;
    let script = r#"
import errno, os, socket
path, attached = "/run/vchan/vchan.1.0.512.sock", 0
for _ in range(200):
    control = socket.socket(socket.AF_UNIX)
    while True:
        # The agent, which lost its line to us, may be faster with either.
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        try:
            control.bind(path)
            break
        except OSError as taken:
            if taken.errno != errno.EADDRINUSE:
                raise
    control.listen()
    control.settimeout(0.02)
    try:
        control.accept()
        attached += 1
    except OSError:
        pass
print(attached)
"#;
    let (code, said) = world
        .sh("work", &format!("python3 -c '{script}' 2>&1"))
        .await;
    assert_eq!(code, 0, "{said}");
    let attached: u32 = said.trim().parse().unwrap();
    assert!(attached < 40, "attached {attached} times of 200");
}
