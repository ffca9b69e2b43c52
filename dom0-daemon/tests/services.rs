//! Calls of real qubes to services in dom0.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it fails"
)]

mod world;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use bulkhead_api::call::{Answer, AuditFilter, AuditRecord};
use bulkhead_testing::write_program;
use bulkheadd::calls::HOSTED_PER_QUBE;
use bulkheadd::runtime::Dependents;
use world::{Place, World, eventually, name, qube};

/// Rules, with the user that services run as here: an ordinary user's daemon runs them as that
/// user, and one of root needs a name.
fn policy() -> String {
    let user = if is_root() { "user=root" } else { "" };
    format!(
        "\
test.Plain * work @adminvm allow {user}
test.Sent * work vault allow target=@adminvm {user}
test.Asked * work @adminvm ask default_target=@adminvm {user}
test.Nobody * work @adminvm allow {}
test.Stranger * work @adminvm allow user=no-such-user
policy.EvalSimple +test.Plain work @adminvm allow
policy.List * work @adminvm allow
policy.Get * work @adminvm allow {user}
",
        if is_root() { "" } else { "user=root" }
    )
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

async fn running() -> World {
    let world = World::new(vec![qube("work"), qube("vault")], &policy()).await;
    world.start("work").await;
    world
}

fn service(world: &World, service: &str, script: &str) -> PathBuf {
    let path = world.dir.path().join("rpc").join(service);
    write_program(&path, &format!("#!/bin/sh\n{script}\n"));
    path
}

fn config(world: &World, service: &str, text: &str) {
    fs::write(world.dir.path().join("config").join(service), text).unwrap();
}

/// Calls a service of dom0 from `work`, without input.
async fn call(world: &World, service: &str) -> (i32, String) {
    let command = format!("qrexec-client-vm dom0 {service} </dev/null 2>&1");
    world.sh("work", &command).await
}

fn refused() -> (i32, String) {
    (126, "Request refused\n".to_owned())
}

fn last(world: &World) -> AuditRecord {
    let filter = AuditFilter {
        last: 8,
        qube: Some("work".to_owned()),
        ..AuditFilter::default()
    };
    let records = world.runtime.audit().tail(&filter).unwrap();
    let own = records.into_iter().rev().find(|r| r.source == "work");
    own.unwrap()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Whether a process is there and no zombie.
fn lives(pid: &str) -> bool {
    let stat = read(&PathBuf::from(format!("/proc/{}/stat", pid.trim())));
    let state = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with('Z'));
    state == Some(false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_in_dom0_gets_the_call_and_its_streams_and_exit_code_come_back() {
    let world = running().await;
    let script = "\
        echo out of $QREXEC_REMOTE_DOMAIN $QREXEC_SERVICE_FULL_NAME $QREXEC_SERVICE_ARGUMENT $1
        echo to $QREXEC_REQUESTED_TARGET_TYPE $QREXEC_REQUESTED_TARGET$QREXEC_REQUESTED_TARGET_KEYWORD
        cat
        echo err >&2
        exit 7";
    service(&world, "test.Plain", script);
    let special = "echo special; cat";
    service(&world, "test.Plain+x", special);
    let run = async |target: &str, service: &str| {
        let command = format!(
            "echo in | qrexec-client-vm {target} {service} 2>/run/err; code=$?; cat /run/err; exit $code"
        );
        world.sh("work", &command).await
    };
    let plain = "out of work test.Plain+a a a\nto keyword adminvm\nin\nerr\n";
    assert_eq!(run("@adminvm", "test.Plain+a").await, (7, plain.to_owned()));
    let named = plain.replace("keyword adminvm", "name dom0");
    assert_eq!(run("dom0", "test.Plain+a").await, (7, named));
    let special = "special\nin\n";
    assert_eq!(
        run("dom0", "test.Plain+x").await,
        (0, special.to_owned()),
        "the one for the argument comes first"
    );
    service(&world, "test.Sent", "echo sent");
    let (code, said) = run("vault", "test.Sent").await;
    assert_eq!(
        (code, said.as_str()),
        (0, "sent\n"),
        "the rule has a target"
    );
    let record = last(&world);
    let told = (record.decision.as_str(), record.target.as_str());
    assert_eq!(told, ("allow", "dom0"));
    assert_eq!(record.requested_target, "vault");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_data_passes_in_both_directions_whole() {
    let world = running().await;
    service(&world, "test.Plain", "tee \"$0.got\"");
    let (code, said) = world
        .sh(
            "work",
            "head -c 20000000 /dev/urandom >/tmp/data; \
             qrexec-client-vm dom0 test.Plain </tmp/data >/tmp/back || exit; \
             cmp /tmp/data /tmp/back && sha256sum </tmp/data",
        )
        .await;
    assert_eq!(code, 0, "{said}");
    let got = world.dir.path().join("rpc/test.Plain.got");
    let mut sum = std::process::Command::new("sha256sum");
    let sum = sum.stdin(fs::File::open(got).unwrap()).output().unwrap();
    assert_eq!(String::from_utf8(sum.stdout).unwrap(), said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_service_is_told_the_call_first_unless_its_configuration_says_otherwise() {
    let world = running().await;
    let listener = UnixListener::bind(world.dir.path().join("rpc/test.Plain")).unwrap();
    let answer = std::thread::spawn(move || {
        let mut told = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = [0; 256];
            let mut said = Vec::new();
            while !said.ends_with(b"in\n") {
                let n = stream.read(&mut got).unwrap();
                assert_ne!(n, 0, "{said:?}");
                said.extend_from_slice(&got[..n]);
            }
            stream.write_all(b"out\n").unwrap();
            told.push(String::from_utf8(said).unwrap());
        }
        told
    });
    let call = "echo in | qrexec-client-vm @adminvm test.Plain+a";
    assert_eq!(world.sh("work", call).await, (0, "out\n".to_owned()));
    config(&world, "test.Plain", "skip-service-descriptor = true\n");
    assert_eq!(world.sh("work", call).await, (0, "out\n".to_owned()));
    let told = answer.join().unwrap();
    assert_eq!(told, ["test.Plain+a work keyword adminvm\0in\n", "in\n"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_or_broken_is_told_by_the_reserved_exit_codes() {
    let world = running().await;
    assert_eq!(call(&world, "test.Plain").await, (127, String::new()));
    let record = last(&world);
    assert_eq!(record.decision, "allow", "policy did allow it");
    assert!(
        record.rule.contains("`test.Plain` is not installed"),
        "{record:?}"
    );
    let path = service(&world, "test.Plain", "");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(call(&world, "test.Plain").await.0, 125);
    assert!(last(&world).rule.contains("neither a program nor a socket"));
    service(&world, "test.Plain", "exit 3");
    config(&world, "test.Plain", "nonsense\n");
    assert_eq!(call(&world, "test.Plain").await.0, 125);
    config(&world, "test.Plain", "");
    fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    assert_eq!(call(&world, "test.Plain").await.0, 125);
    service(&world, "test.Plain", "kill -9 $$");
    assert_eq!(call(&world, "test.Plain").await.0, 137);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_nobody_may_run_is_refused_with_the_reason_in_the_log() {
    let world = running().await;
    service(&world, "test.Nobody", "echo ran");
    assert_eq!(call(&world, "test.Nobody").await, refused());
    let why = if is_root() {
        "nobody is declared to run services in dom0"
    } else {
        "cannot run as `root`"
    };
    eventually("the record", || last(&world).rule.contains(why)).await;
    assert_eq!(last(&world).decision, "deny");
    service(&world, "test.Stranger", "echo ran");
    assert_eq!(call(&world, "test.Stranger").await, refused());
    eventually("the record", || last(&world).rule.contains("no-such-user")).await;
    if is_root() {
        service(&world, "test.Nobody", "echo ran");
        config(&world, "test.Nobody", "force-user = 'root'\n");
        assert_eq!(call(&world, "test.Nobody").await.0, 126);
        let why = "`root` is root, which only a rule may say";
        eventually("the record", || last(&world).rule.contains(why)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_of_roots_daemon_names_the_user() {
    if !is_root() {
        return;
    }
    let policy = "test.Who * work @adminvm allow user=daemon\n";
    let world = World::new(vec![qube("work")], policy).await;
    world.start("work").await;
    let open = |path: &str| {
        let path = world.dir.path().join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).unwrap();
    };
    open("");
    open("rpc");
    service(
        &world,
        "test.Who",
        "id -un; id -u; id -Gn; echo $HOME $USER; ls /proc/self/fd | wc -l; env | grep -c ^BULK",
    );
    let (_, said) = call(&world, "test.Who").await;
    // Its streams and what `ls` itself has open.
    assert_eq!(said, "daemon\n1\ndaemon\n/usr/sbin daemon\n4\n0\n");
    config(&world, "test.Who", "force-user = 'nobody'\n");
    let (_, said) = call(&world, "test.Who").await;
    assert!(said.starts_with("nobody\n65534\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_names_the_user_of_roots_daemon_but_never_root() {
    if !is_root() {
        return;
    }
    let world = running().await;
    let dir = world.dir.path();
    for path in [dir.to_owned(), dir.join("rpc")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).unwrap();
    }
    service(&world, "test.Nobody", "id -un");
    fs::write(dir.join("service_user"), "daemon").unwrap();
    world.declare(&policy()).await.unwrap();
    let ran = (0, "daemon\n".to_owned());
    assert_eq!(call(&world, "test.Nobody").await, ran);
    fs::write(dir.join("service_user"), "root").unwrap();
    world.declare(&policy()).await.unwrap();
    assert_eq!(call(&world, "test.Nobody").await, refused());
    let why = "`root` is root, which only a rule may say";
    eventually("the record", || last(&world).rule.contains(why)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_person_is_asked_where_the_rule_says_so() {
    let world = running().await;
    service(&world, "test.Asked", "echo answered");
    for (answer, expect) in [
        (Answer::Allow, (0, "answered\n".to_owned())),
        (Answer::Deny, refused()),
    ] {
        let asked = async {
            eventually("the question", || !world.runtime.asks().is_empty()).await;
            let ask = world.runtime.asks().remove(0);
            assert_eq!(ask.default_target.as_deref(), Some("dom0"));
            world.runtime.answer(ask.id, answer, None, "me").unwrap();
        };
        let (called, ()) = tokio::join!(call(&world, "test.Asked"), asked);
        assert_eq!(called, expect);
        eventually("the record", || last(&world).by == "user:me").await;
    }
}

/// A service that says its process, waits, and notes that it was hung up on.
fn waiting(world: &World) -> (PathBuf, PathBuf) {
    let script = "\
        trap 'echo hup >\"$0.hup\"; exit 1' HUP
        echo $$ >\"$0.pid.new\"; mv \"$0.pid.new\" \"$0.pid\"
        exec 2>/dev/null
        while :; do sleep 0.1; done";
    let path = service(world, "test.Plain", script);
    let beside = |suffix: &str| path.with_file_name(format!("test.Plain.{suffix}"));
    (beside("pid"), beside("hup"))
}

const BACKGROUND: &str =
    "qrexec-client-vm dom0 test.Plain </dev/null >/dev/null 2>&1 & echo $! >/run/caller";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_hung_up_on_when_its_caller_is_killed() {
    let world = running().await;
    let (pid, hup) = waiting(&world);
    world.sh("work", BACKGROUND).await;
    eventually("the service", || pid.exists()).await;
    world.sh("work", "kill -9 $(cat /run/caller)").await;
    eventually("the signal", || read(&hup) == "hup\n").await;
    eventually("its end", || !lives(&read(&pid))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_stays_after_it_was_hung_up_on_is_killed_with_its_group() {
    let world = running().await;
    let script = "\
        trap '' HUP TERM
        sleep 600 & echo $! >\"$0.child\"
        echo $$ >\"$0.pid.new\"; mv \"$0.pid.new\" \"$0.pid\"
        wait; wait; sleep 600";
    let path = service(&world, "test.Plain", script);
    let pid = path.with_file_name("test.Plain.pid");
    world.sh("work", BACKGROUND).await;
    eventually("the service", || pid.exists()).await;
    let work = name("work");
    let killed = world.runtime.kill_qube(&work, Dependents::CutOff);
    killed.await.unwrap();
    let child = path.with_file_name("test.Plain.child");
    eventually("the end of both", || {
        !lives(&read(&pid)) && !lives(&read(&child))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_end_with_the_daemon() {
    let world = running().await;
    let (pid, hup) = waiting(&world);
    world.sh("work", BACKGROUND).await;
    eventually("the service", || pid.exists()).await;
    let world = world.reopen(&policy()).await;
    eventually("the signal", || read(&hup) == "hup\n").await;
    eventually("its end", || !lives(&read(&pid))).await;
    service(&world, "test.Plain", "echo again");
    eventually("the agent", || {
        let info = world.runtime.info(&name("work")).unwrap();
        info.agent_version.is_some()
    })
    .await;
    assert_eq!(call(&world, "test.Plain").await, (0, "again\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_too_many_is_refused_and_places_come_back() {
    let world = running().await;
    let hold = "while [ ! -e \"$0.go\" ]; do sleep 0.1; done; echo held";
    let path = service(&world, "test.Plain", hold);
    let script = format!(
        "rm -rf /tmp/r; mkdir /tmp/r; n=0; while [ $n -le {HOSTED_PER_QUBE} ]; do n=$((n+1)); (
            qrexec-client-vm dom0 test.Plain </dev/null 2>/dev/null
            [ $? = 126 ] && : >/tmp/r/$n
        ) & done; wait; ls /tmp/r | wc -l"
    );
    let release = async {
        eventually("a refusal", || {
            let filter = AuditFilter {
                last: 1,
                decision: Some("deny".to_owned()),
                ..AuditFilter::default()
            };
            let records = world.runtime.audit().tail(&filter).unwrap();
            records.first().is_some_and(|r| {
                r.by == "limit" && r.rule.contains("32 of its calls are served in dom0")
            })
        })
        .await;
        fs::write(path.with_file_name("test.Plain.go"), "").unwrap();
    };
    let ((), (code, said)) = tokio::join!(release, world.sh("work", &script));
    let held = "held\n".repeat(HOSTED_PER_QUBE);
    assert_eq!((code, said), (0, format!("{held}1\n")));
    assert_eq!(call(&world, "test.Plain").await, (0, "held\n".to_owned()));
}

/// Asks for a call of `test.Plain` as the agent's clients do, and speaks on the data channel itself.
const HOSTILE: &str = r#"
import os, socket, struct, sys, time
agent = socket.socket(socket.AF_UNIX)
agent.connect("/run/qubes/qrexec-agent")
body = b"".ljust(64, b"\0") + b"dom0".ljust(64, b"\0") + b"SOCKET".ljust(32, b"\0") + b"test.Plain\0"
agent.sendall(struct.pack("<II", 0x213, len(body)) + body)
answer = agent.recv(8)
domain, port = struct.unpack("<II", answer)
assert domain == 0, domain
if sys.argv[1] != "absent":
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"/run/vchan/vchan.1.0.{port}.sock")
    server.listen()
    channel, _ = server.accept()
    hello = struct.pack("<III", 0x300, 4, 3)
    said = {
        "garbage": os.urandom(4096),
        "huge": hello + struct.pack("<II", 0x190, 0xffffffff) + b"x" * 65536,
        "unknown": hello + struct.pack("<II", 0x999, 0),
        "old": struct.pack("<III", 0x300, 4, 1),
        "half": hello + b"\x90",
    }[sys.argv[1]]
    channel.sendall(said)
    if sys.argv[1] == "half":
        channel.close()
    else:
        try:
            while channel.recv(65536):
                pass
        except ConnectionResetError:
            pass
print("over")
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hostile_caller_sends_ends_its_call_and_nothing_else() {
    let world = running().await;
    let (code, said) = world.sh("work", "ls -l /run/qubes/qrexec-agent 2>&1").await;
    assert_eq!(code, 0, "{said}");
    for what in ["garbage", "huge", "unknown", "old", "half", "absent"] {
        let (pid, hup) = waiting(&world);
        let command = format!("python3 - {what} <<'EOF'\n{HOSTILE}\nEOF\n");
        assert_eq!(
            world.sh("work", &format!("{{ {command} }} 2>&1")).await,
            (0, "over\n".to_owned()),
            "{what}"
        );
        eventually("the service to be hung up on", || hup.exists()).await;
        eventually("its end", || !lives(&read(&pid))).await;
        fs::remove_file(&pid).unwrap();
        fs::remove_file(&hup).unwrap();
        service(&world, "test.Plain", "echo well");
        let well = (0, "well\n".to_owned());
        assert_eq!(call(&world, "test.Plain").await, well, "after {what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_services_answer_without_a_file_and_where_policy_lets_them() {
    let dir = Place::with_live_policy(&[("policy.d/30-user.policy", "# mine\n")]);
    let qubes = vec![qube("work"), qube("vault")];
    let world = World::open(dir, qubes, &policy()).await;
    world.start("work").await;
    let ask = async |service: &str, sent: &str| {
        let command = format!("printf '{sent}' | qrexec-client-vm dom0 {service} 2>&1");
        world.sh("work", &command).await
    };
    let said = |code: i32, text: &str| (code, text.to_owned());
    let evaluate = "policy.EvalSimple+test.Plain";
    assert_eq!(
        ask(evaluate, "work\\0dom0").await,
        said(0, "result=allow\n")
    );
    assert_eq!(
        ask(evaluate, "vault\\0dom0").await,
        said(0, "result=deny\n")
    );
    let (code, text) = ask(evaluate, "junk").await;
    assert_eq!((code, text.is_empty()), (1, false));
    assert_eq!(ask("policy.List", "").await, said(0, "30-user\n"));
    let (code, got) = ask("policy.Get+30-user", "").await;
    assert!(code == 0 && got.ends_with("\n# mine\n"), "{got}");
    let (code, why) = ask("policy.Get+none", "").await;
    assert_eq!(code, 1);
    assert!(
        why.starts_with("PolicyAdminFileNotFoundException "),
        "{why}"
    );
    for denied in [
        "policy.Replace+30-user",
        "policy.EvalSimple+other",
        "policy.EvalGUI+x",
    ] {
        assert_eq!(ask(denied, "").await, refused(), "{denied}");
    }
    let kept = world.dir.path().join("policy.d/30-user.policy");
    assert_eq!(read(&kept), "# mine\n");
    // What somebody has put into the folders is called instead.
    service(&world, "policy.Get", "echo another");
    assert_eq!(ask("policy.Get+30-user", "").await, said(0, "another\n"));
}
