//! Calls between real qubes through real relays and agents.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it fails"
)]

mod world;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use bulkhead_api::call::{Announced, Answer, Ask, AuditFilter, CallRequest};
use bulkhead_api::event::Event;
use bulkhead_api::qube::QubeState;
use bulkhead_model::qube::{Qube, QubeKind, Remote};
use bulkheadd::machine::Machine;
use bulkheadd::runtime::Dependents;
use world::{Place, World, eventually, name, qube, running, serve};

const POLICY: &str = "\
test.Echo * work vault allow
test.Asked * work @anyvm ask default_target=vault
qubes.Filecopy * work vault ask
test.Start * work personal allow
test.Halted * work personal allow autostart=no
test.Self * work work allow
test.Disp * work @dispvm allow
";

fn qubes() -> Vec<Qube> {
    let dvm = Qube {
        kind: QubeKind::DisposableTemplate,
        ..qube("dvm")
    };
    vec![qube("work"), qube("vault"), qube("personal"), dvm]
}

async fn two_running() -> World {
    let world = World::new(qubes(), POLICY).await;
    world.start("work").await;
    world.start("vault").await;
    world
}

fn last_rule(world: &World) -> (String, String, String) {
    // The command of dom0 that makes the call may be recorded after it.
    let filter = AuditFilter {
        last: 8,
        qube: Some("work".to_owned()),
        ..AuditFilter::default()
    };
    let records = world.runtime.audit().tail(&filter).unwrap();
    let own = records.into_iter().rev().find(|r| r.source == "work");
    own.map(|record| (record.decision, record.by, record.rule))
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_and_its_output_and_exit_code_come_back() {
    let world = World::new(qubes(), POLICY).await;
    // Started because the request says so.
    let (code, said) = world.sh("work", "id -un; hostname; exit 7").await;
    assert_eq!((code, said.as_str()), (7, "user\nwork\n"));
    let row = &world.runtime.list()[3];
    assert_eq!((row.name.as_str(), row.state), ("work", QubeState::Running));
    assert!(world.runtime.info(&name("work")).unwrap().agent_version >= Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowed_call_reaches_the_service_and_its_answer_the_caller() {
    let world = two_running().await;
    let script = "echo from $QREXEC_REMOTE_DOMAIN arg $1; cat";
    world.service("vault", "test.Echo", script).await;
    let call = "echo hello | qrexec-client-vm vault test.Echo+x cat";
    let (code, said) = world
        .sh("work", "echo hello | qrexec-client-vm vault test.Echo+x")
        .await;
    assert_eq!(
        (code, said.as_str()),
        (0, "from work arg x\nhello\n"),
        "{call}"
    );
    assert_eq!(last_rule(&world).0, "allow");
    nothing_is_left(&world).await;
}

/// Of connections, in the folders of both qubes.
async fn nothing_is_left(world: &World) {
    let left = |qube: &str| {
        let dir = world.dir.path().join("run/qubes").join(qube).join("vchan");
        let names = std::fs::read_dir(dir).unwrap();
        let names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
        names
            .filter(|n| !n.contains(".111.") && !n.contains(".512."))
            .collect::<Vec<_>>()
    };
    eventually("both folders to be clean", || {
        left("work").is_empty() && left("vault").is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_a_qube_of_another_machine_goes_through_its_relay() {
    let world = two_running().await;
    let script = "echo $QREXEC_SERVICE_FULL_NAME; qubesdb-read /remote/far; cat";
    world.service("vault", "test.Tunnel", script).await;
    let mut declared = world.describe("test.Echo * work far allow").await;
    let far = Remote {
        name: name("far"),
        label: "red".to_owned(),
        relayvm: name("vault"),
        transport_rpc: "test.Tunnel".to_owned(),
        remote_name: name("work-there"),
        tags: Default::default(),
    };
    let description = std::sync::Arc::make_mut(&mut declared.description);
    description.remotes.insert(name("far"), far);
    world.runtime.declare(declared).await.unwrap();
    let rows = world.runtime.list();
    let row = rows.iter().find(|row| row.name == "far").unwrap();
    assert_eq!(
        (row.state, row.kind.as_str()),
        (QubeState::Remote, "remote")
    );

    // What a qube's database holds reaches the qube a moment after it is declared.
    let waits =
        |key: &str| format!("for _ in $(seq 200); do {key} && exit; sleep 0.05; done; exit 1");
    let known = waits("qubesdb-read /remote/far");
    assert_eq!(world.sh("vault", &known).await.0, 0);
    let call = "echo hello | qrexec-client-vm far test.Echo+x";
    let (code, said) = world.sh("work", call).await;
    let told = "test.Tunnel+far+test.Echo+x\nwork-there\nhello\n";
    assert_eq!((code, said.as_str()), (0, told));
    assert_eq!(last_rule(&world).0, "allow");
    // It is nobody's to start, and gone with its declaration.
    assert!(world.runtime.start_qube(&name("far")).await.is_err());
    world.declare(POLICY).await.unwrap();
    assert_eq!(world.sh("work", call).await.0, 126);
    let gone = waits("! qubesdb-read /remote/far");
    assert_eq!(world.sh("vault", &gone).await.0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_calls_use_the_same_ports_again_and_again() {
    let world = two_running().await;
    world.service("vault", "test.Echo", "cat").await;
    let before = world.runtime.info(&name("vault")).unwrap().row.domid;
    // Eight times as many as there are ports, four at a time.
    let script = "for caller in 1 2 3 4; do (
            n=0; while [ $n -lt 512 ]; do
                n=$((n+1)); said=$(echo $caller.$n | qrexec-client-vm vault test.Echo) || exit 1
                [ \"$said\" = $caller.$n ] || exit 2
                [ $((n % 64)) != 0 ] || echo so far
            done; echo all
        ) & done; wait";
    let (code, said) = world.sh("work", script).await;
    let all = said.lines().filter(|line| *line == "all").count();
    assert_eq!((code, all), (0, 4), "{said}");
    nothing_is_left(&world).await;
    let after = world.runtime.info(&name("vault")).unwrap().row.domid;
    assert_eq!(before, after, "it is still the same qube");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_past_the_last_port_is_refused_and_the_ports_come_back() {
    let world = two_running().await;
    let hold = "while [ ! -e /tmp/go ]; do sleep 0.1; done; echo held";
    world.service("vault", "test.Echo", hold).await;
    // Of the 256 ports, half are for calls in this direction.
    let (calls, ports) = (140, 128);
    let script = format!(
        "mkdir /tmp/refused; n=0; while [ $n -lt {calls} ]; do n=$((n+1)); (
            qrexec-client-vm vault test.Echo </dev/null 2>/dev/null
            [ $? = 126 ] && : >/tmp/refused/$n
        ) & done; wait; ls /tmp/refused | wc -l"
    );
    let enough = format!(
        "until [ $(ls /tmp/refused | wc -l) -ge {} ]; do sleep 0.1; done",
        calls - ports
    );
    let release = async {
        // Until then the call of it would start before what it waits for.
        let made = "until [ -e /tmp/refused ]; do sleep 0.1; done; ";
        assert_eq!(world.sh("work", &format!("{made}{enough}")).await.0, 0);
        let (decision, by, rule) = last_rule(&world);
        assert_eq!(
            (decision.as_str(), by.as_str()),
            ("deny", "policy"),
            "{rule}"
        );
        assert!(
            rule.contains("no port is free between it and vault"),
            "{rule}"
        );
        world.sh("vault", "touch /tmp/go").await;
    };
    let ((), (code, said)) = tokio::join!(release, world.sh("work", &script));
    assert_eq!(code, 0);
    let held = said.matches("held\n").count();
    let refused: usize = said.trim_start_matches("held\n").trim().parse().unwrap();
    assert_eq!(held + refused, calls, "each is answered: {said}");
    // dom0's own calls take a port or two of them.
    assert!((ports - 3..=ports).contains(&held), "{held} were held");
    nothing_is_left(&world).await;
    let call = "qrexec-client-vm vault test.Echo </dev/null";
    assert_eq!(world.sh("work", call).await, (0, "held\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_policy_does_not_allow_is_refused_with_126_and_recorded() {
    let world = two_running().await;
    world.service("vault", "test.Secret", "echo secret").await;
    for (command, why) in [
        ("qrexec-client-vm vault test.Secret", "no rule matches"),
        ("qrexec-client-vm work test.Self", "cannot call itself"),
        ("qrexec-client-vm personal test.Halted", "does not run"),
    ] {
        let (code, said) = world.sh("work", command).await;
        assert_eq!((code, said.as_str()), (126, ""), "{command}");
        // The caller is told before the record is written.
        eventually(why, || {
            let (decision, _, rule) = last_rule(&world);
            decision == "deny" && rule.contains(why)
        })
        .await;
    }
    // vault may not call at all.
    let (code, _) = world.sh("vault", "qrexec-client-vm work test.Echo").await;
    assert_eq!(code, 126);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_waits_for_its_answer() {
    let world = two_running().await;
    world.service("vault", "test.Asked", "echo answered").await;
    for (answer, expect) in [
        (Answer::Allow, (0, "answered\n")),
        (Answer::Deny, (126, "")),
    ] {
        let asked = async {
            eventually("the question", || !world.runtime.asks().is_empty()).await;
            let ask = world.runtime.asks().remove(0);
            assert_eq!(ask.source, "work");
            assert_eq!(ask.default_target.as_deref(), Some("vault"));
            // A target that was not offered leaves the question open.
            let wrong = world
                .runtime
                .answer(ask.id, Answer::Allow, Some("dom0"), "me");
            assert!(wrong.is_err());
            world.runtime.answer(ask.id, answer, None, "me").unwrap();
            assert!(world.runtime.answer(ask.id, answer, None, "me").is_err());
        };
        let call = world.sh("work", "qrexec-client-vm @default test.Asked");
        let ((code, said), ()) = tokio::join!(call, asked);
        assert_eq!((code, said.as_str()), expect);
        assert_eq!(last_rule(&world).1, "user:me");
    }
}

/// Denies the question that comes, and returns it.
async fn denied(world: &World) -> Ask {
    eventually("the question", || !world.runtime.asks().is_empty()).await;
    let ask = world.runtime.asks().remove(0);
    let denied = world.runtime.answer(ask.id, Answer::Deny, None, "me");
    denied.unwrap();
    ask
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_service_wakes_only_the_thread_for_signals() {
    let world = World::new(qubes(), POLICY).await;
    // SIGCHLD is the 17th signal.
    let heeding = "for t in /proc/1/task/*; do b=$(sed -n 's/^SigBlk:.//p' $t/status); \
                   [ $((0x$b & 0x10000)) != 0 ] || cat $t/comm; done";
    let heeding = world.sh("work", heeding).await;
    assert_eq!(heeding, (0, "signals\n".to_owned()));
    let blocked = world.sh("work", "grep SigBlk /proc/self/status").await;
    assert_eq!(blocked, (0, "SigBlk:\t0000000000000000\n".to_owned()));
}

/// While its question waits, a client has no heap yet, which its C library would have made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_request_is_sent_before_the_c_library_starts() {
    let world = two_running().await;
    let heaps = "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline) in \
                 qrexec-client-vm*) grep -c heap $p/maps;; esac; done 2>/dev/null";
    for (call, expect) in [
        ("qrexec-client-vm vault test.Asked", "0\n"),
        // With an option it is for the program itself to ask.
        ("qrexec-client-vm -t vault test.Asked", "1\n"),
    ] {
        let asked = async {
            eventually("the question", || !world.runtime.asks().is_empty()).await;
            let (_, found) = world.sh("work", heaps).await;
            denied(&world).await;
            found
        };
        let ((code, _), found) = tokio::join!(world.sh("work", call), asked);
        assert_eq!((code, found.as_str()), (126, expect), "{call}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_files_announces_their_number_and_size() {
    let world = two_running().await;
    let make =
        "mkdir -p d/e && head -c 1000 /dev/zero >d/a && head -c 24 /dev/zero >d/e/b && echo hi >c";
    assert_eq!(world.sh("work", make).await.0, 0);
    let few = Announced {
        files: 3,
        folders: 2,
        bytes: 1027,
        at_least: false,
    };
    // Of so many not every size is looked up.
    let fill = "mkdir many; n=0; while [ $n -lt 5000 ]; do n=$((n+1)); echo x >many/$n; done; ";
    for (command, expect) in [
        ("qvm-copy-to-vm vault d c", Some(few)),
        ("qvm-move-to-vm vault d c", Some(few)),
        ("qrexec-client-vm vault qubes.Filecopy </dev/null", None),
    ] {
        let (ask, (code, _)) = tokio::join!(denied(&world), world.sh("work", command));
        assert_eq!((ask.announced, code), (expect, 126), "{command}");
        // It changes nothing about who decides what.
        assert_eq!(ask.targets, ["vault"], "{command}");
        eventually(command, || last_rule(&world).1 == "user:me").await;
    }
    let many = format!("{fill} qvm-copy-to-vm vault many");
    let (ask, _) = tokio::join!(denied(&world), world.sh("work", &many));
    let many = ask.announced.unwrap();
    assert_eq!((many.files, many.folders, many.at_least), (5000, 1, true));
    assert!((128..=8192).contains(&many.bytes), "{many}");
    let allow = async {
        eventually("the question", || !world.runtime.asks().is_empty()).await;
        let ask = world.runtime.asks().remove(0);
        let vault = Some("vault");
        let allowed = world.runtime.answer(ask.id, Answer::Allow, vault, "me");
        allowed.unwrap();
    };
    let copy = world.sh("work", "qvm-copy-to-vm vault d c");
    assert_eq!(tokio::join!(copy, allow).0.0, 0);
    let arrived = "cd QubesIncoming/work && find . -type f | wc -l";
    assert_eq!(world.sh("vault", arrived).await, (0, "3\n".to_owned()));
    nothing_is_left(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_withdrawn_when_its_qube_ends() {
    let world = two_running().await;
    let request = world.request("work", "qrexec-client-vm vault test.Asked");
    let connection = world.runtime.run_command(request, "me").await.unwrap();
    eventually("the question", || world.runtime.asks().len() == 1).await;
    world
        .runtime
        .kill_qube(&name("work"), Dependents::CutOff)
        .await
        .unwrap();
    assert!(world.runtime.asks().is_empty());
    drop(connection);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_person_is_told_of_what_the_rules_say_and_until_when_a_question_waits() {
    let policy = "\
        test.Quiet * work vault deny notify=no\n\
        test.Loud * work vault deny\n\
        test.Echo * work vault allow\n\
        test.Told * work vault allow notify=yes\n\
        test.Asked * work vault ask default_target=vault\n";
    let world = World::new(qubes(), policy).await;
    world.start("work").await;
    world.start("vault").await;
    for service in ["test.Echo", "test.Told"] {
        world.service("vault", service, "cat").await;
    }
    let call = |service: &str| format!("qrexec-client-vm vault {service} </dev/null; true");
    for (service, told) in [
        ("test.Quiet", false),
        ("test.Loud", true),
        ("test.Echo", false),
        ("test.Told", true),
    ] {
        assert_eq!(world.sh("work", &call(service)).await.0, 0);
        let filter = AuditFilter {
            last: 1,
            service: Some(service.to_owned()),
            ..AuditFilter::default()
        };
        let record = || world.runtime.audit().tail(&filter).unwrap().pop();
        eventually(service, || record().is_some()).await;
        let record = record().unwrap();
        assert_eq!(record.notify, told, "{record:?}");
    }
    let request = world.request("work", &call("test.Asked"));
    let connection = world.runtime.run_command(request, "me").await.unwrap();
    eventually("the question", || world.runtime.asks().len() == 1).await;
    let ask = world.runtime.asks().remove(0);
    assert_eq!(ask.expires, Some(ask.asked + world::PATIENCE.as_secs()));
    assert_eq!(ask.guivm, None);
    world
        .runtime
        .answer(ask.id, Answer::Deny, None, "me")
        .unwrap();
    drop(connection);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_withdrawn_when_its_caller_is_killed() {
    let world = two_running().await;
    world
        .service("vault", "test.Asked", "echo started >/run/started")
        .await;
    let mut events = world.events.subscribe();
    let begin = "qrexec-client-vm vault test.Asked >/dev/null 2>&1 & echo $! >/run/asker";
    assert_eq!(world.sh("work", begin).await, (0, String::new()));
    eventually("the question", || world.runtime.asks().len() == 1).await;
    let ask = world.runtime.asks().remove(0);
    let kill = "kill -9 $(cat /run/asker)";
    assert_eq!(world.sh("work", kill).await, (0, String::new()));
    eventually("its withdrawal", || world.runtime.asks().is_empty()).await;
    let outcome = loop {
        if let Event::AskRemoved { id, outcome } = events.recv().await.unwrap() {
            assert_eq!(id, ask.id);
            break outcome;
        }
    };
    assert_eq!(outcome, "withdrawn");
    let (decision, by, rule) = last_rule(&world);
    assert_eq!(
        (decision.as_str(), by.as_str()),
        ("deny", "caller"),
        "{rule}"
    );
    // Too late.
    let answer = world.runtime.answer(ask.id, Answer::Allow, None, "me");
    assert!(answer.is_err());
    let look = world.sh("vault", "ls /run/started 2>&1").await;
    assert_ne!(look.0, 0, "{look:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_withdrawn_when_the_command_that_made_the_caller_is_killed() {
    let world = two_running().await;
    // Not the process group: only the command that the person sees.
    let begin = "qvm-copy-to-vm vault /etc/hostname >/dev/null 2>&1 & echo $! >/run/asker";
    assert_eq!(world.sh("work", begin).await, (0, String::new()));
    eventually("the question", || world.runtime.asks().len() == 1).await;
    let kill = "kill -9 $(cat /run/asker)";
    assert_eq!(world.sh("work", kill).await, (0, String::new()));
    eventually("its withdrawal", || world.runtime.asks().is_empty()).await;
    eventually("its record", || {
        let (decision, by, _) = last_rule(&world);
        (decision.as_str(), by.as_str()) == ("deny", "caller")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_starts_its_target_where_the_rule_lets_it() {
    let world = World::new(qubes(), POLICY).await;
    world.start("work").await;
    let (code, _) = world
        .sh("work", "qrexec-client-vm personal test.Start")
        .await;
    // It was reached, and has no such service.
    assert_eq!(code, 127);
    assert!(running(&world).await.contains(&"personal".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disposable_serves_one_call_and_is_gone() {
    let world = World::new(qubes(), POLICY).await;
    world.start("work").await;
    let (code, _) = world.sh("work", "qrexec-client-vm @dispvm test.Disp").await;
    assert_eq!(code, 127);
    let gone = || {
        !world
            .runtime
            .list()
            .iter()
            .any(|row| row.kind == "disposable")
    };
    eventually("the disposable to be gone", gone).await;
    // And one for a command of dom0's.
    let mut request = world.request("dvm", "hostname; echo mark >/rw/mark");
    request.disposable = true;
    let connection = world.runtime.run_command(request, "me").await.unwrap();
    let disposable = connection.qube.clone();
    let (code, said) = serve(connection).await;
    assert_eq!((code, said), (0, format!("{disposable}\n")));
    eventually("the disposable to be gone", gone).await;
    eventually("its domain to be gone", || {
        !world
            .dir
            .path()
            .join("run/qubes")
            .join(&disposable)
            .exists()
    })
    .await;
    assert_eq!(running(&world).await, ["work"]);
    // Nor does what it said on its console stay.
    let logs = world.dir.path().join("state/log/qubes");
    assert!(logs.join("work.log").exists());
    assert!(!logs.join(format!("{disposable}.log")).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dom0_calls_a_service() {
    let world = two_running().await;
    world
        .service("vault", "test.Where", "echo $QREXEC_REMOTE_DOMAIN")
        .await;
    let request = CallRequest {
        qube: "vault".to_owned(),
        service: "test.Where".to_owned(),
        user: String::new(),
        disposable: false,
        autostart: false,
    };
    let connection = world.runtime.call_service(request, "me").await.unwrap();
    assert_eq!(serve(connection).await, (0, "dom0\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_hung_up_on_when_its_client_goes_away() {
    let world = World::new(qubes(), POLICY).await;
    world.start("work").await;
    let script = "\
        trap 'echo hup >/run/$1; exit' HUP
        # Or the shell says that its sleep was ended to whom nobody listens, and dies of that.
        exec 2>/dev/null
        echo ready
        while :; do sleep 0.1; done";
    world.service("work", "test.Wait", script).await;
    for (mark, input) in [("idle", 0), ("full", 4 << 20)] {
        let request = world.request("work", &format!("/run/qubes-rpc/test.Wait {mark}"));
        let connection = world.runtime.run_command(request, "me").await.unwrap();
        let begun = tokio::task::spawn_blocking(move || world::leave(connection, input));
        begun.await.unwrap();
        let look = format!("while [ ! -s /run/{mark} ]; do sleep 0.05; done; cat /run/{mark}");
        let (_, said) = world.sh("work", &look).await;
        assert_eq!(said, "hup\n", "{mark}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_with_errors_is_refused_and_at_first_start_denies_everything() {
    let world = two_running().await;
    world.service("vault", "test.Echo", "echo ok").await;
    let broken = "test.Echo * work vault perhaps\n";
    assert!(world.declare(broken).await.is_err());
    let (code, _) = world.sh("work", "qrexec-client-vm vault test.Echo").await;
    assert_eq!(code, 0, "the old policy stays in force");
    let world = world.reopen(broken).await;
    eventually("the agent", || {
        world
            .runtime
            .info(&name("work"))
            .unwrap()
            .agent_version
            .is_some()
    })
    .await;
    let (code, _) = world.sh("work", "qrexec-client-vm vault test.Echo").await;
    assert_eq!(code, 126);
    eventually("its record", || {
        last_rule(&world).2.contains("policy has errors")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qubes_outlive_the_daemon_and_go_on_calling() {
    let world = two_running().await;
    world.service("vault", "test.Echo", "echo still here").await;
    let before = world.runtime.info(&name("vault")).unwrap();
    let world = world.reopen(POLICY).await;
    let (code, said) = world.sh("work", "qrexec-client-vm vault test.Echo").await;
    assert_eq!((code, said.as_str()), (0, "still here\n"));
    let after = world.runtime.info(&name("vault")).unwrap();
    assert_eq!(
        (before.uuid, before.row.domid),
        (after.uuid, after.row.domid)
    );
    assert_eq!(before.started, after.started);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_a_qube_made_itself_is_no_connection_to_the_next_daemon() {
    let world = two_running().await;
    // What no rule allows: a way from work to vault, prepared before the daemon starts again.
    let bind = |port: u32| {
        format!(
            "python3 -c 'import socket,time; s=socket.socket(socket.AF_UNIX); \
             s.bind(\"/run/vchan/vchan.1.2.{port}.sock\"); s.listen(); time.sleep(99)' \
             >/dev/null 2>&1 & until [ -S /run/vchan/vchan.1.2.{port}.sock ]; do sleep 0.05; done; \
             ls /run/vchan"
        )
    };
    assert!(world.sh("work", &bind(513)).await.1.contains("1.2.513"));
    // And one that the target is to be led to later on, of its own making.
    world.sh("vault", "cd /run/vchan; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"vchan.1.2.515.sock\")'").await;
    let world = world.reopen(POLICY).await;
    let (_, said) = world.sh("vault", "ls /run/vchan").await;
    assert!(!said.contains("515"), "a leftover is removed: {said}");
    let again = format!("rm /run/vchan/vchan.1.2.513.sock; {}", bind(513));
    assert!(world.sh("work", &again).await.1.contains("1.2.513"));
    assert!(world.sh("work", &bind(515)).await.1.contains("1.2.515"));
    let (_, said) = world.sh("vault", "ls /run/vchan").await;
    assert!(!said.contains(".1.2."), "work reaches vault: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disposable_without_its_call_is_ended_by_the_next_daemon() {
    let world = World::new(qubes(), POLICY).await;
    let mut request = world.request("dvm", "rm /run/vchan/vchan.0.*.513.sock; sleep 99");
    request.disposable = true;
    let connection = world.runtime.run_command(request, "me").await.unwrap();
    let lasting = world.runtime.create_disposable(None).await.unwrap();
    let names = |world: &World| -> Vec<String> {
        let rows = world.runtime.list().into_iter();
        rows.filter(|row| row.kind == "disposable")
            .map(|row| row.name)
            .collect()
    };
    assert_eq!(names(&world).len(), 2);
    let sockets = world.dir.path().join("run/qubes").join(&connection.qube);
    let socket = format!("vchan/vchan.0.{}.513.sock", connection.domain);
    let socket = sockets.join(socket);
    eventually("its connection to be no more", || !socket.exists()).await;
    let world = world.reopen(POLICY).await;
    // Nothing is left of its connection that the next daemon could wait for the end of.
    let only = || names(&world) == [lasting.to_string()];
    eventually("one disposable to be gone", only).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disposable_whose_command_outlives_the_daemon_ends_with_it() {
    let world = World::new(qubes(), POLICY).await;
    let mut request = world.request("dvm", "sleep 99");
    request.disposable = true;
    let connection = world.runtime.run_command(request, "me").await.unwrap();
    let listener = UnixListener::from(OwnedFd::from(connection.listener));
    let (client, _) = listener.accept().unwrap();
    let disposables = |world: &World| -> Vec<String> {
        let rows = world.runtime.list().into_iter();
        let rows = rows.filter(|row| row.kind == "disposable");
        rows.map(|row| row.name).collect()
    };
    let world = world.reopen(POLICY).await;
    let all = disposables(&world);
    let [disposable] = all.as_slice() else {
        panic!("it goes on: {all:?}");
    };
    // Its agent speaks to this daemon: what it tells the relay of the one before is lost with that.
    assert_eq!(world.sh(disposable, "true").await.0, 0);
    drop(client);
    let gone = || disposables(&world).is_empty();
    eventually("the disposable to be gone", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_question_leaves_nothing_that_waits() {
    let world = two_running().await;
    world.service("vault", "test.Asked", "echo answered").await;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    for _ in 0..8 {
        let asked = async {
            eventually("the question", || !world.runtime.asks().is_empty()).await;
            let ask = world.runtime.asks().remove(0);
            world
                .runtime
                .answer(ask.id, Answer::Deny, None, "me")
                .unwrap();
        };
        let call = world.sh("work", "qrexec-client-vm @default test.Asked");
        tokio::join!(call, asked);
    }
    // Sooner than the first question would have been closed for want of an answer.
    let gone = eventually("the tasks of the questions to end", || tasks() < before + 8);
    let soon = tokio::time::timeout(world::PATIENCE / 2, gone).await;
    assert!(soon.is_ok(), "{before} tasks became {}", tasks());
}

fn uuid_of(world: &World, qube: &str) -> String {
    world.runtime.info(&name(qube)).unwrap().uuid.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_uuid_reaches_its_qube_and_is_no_way_to_oneself() {
    let world = two_running().await;
    world.service("vault", "test.Echo", "echo ok").await;
    world.service("work", "test.Self", "echo self").await;
    let (work, vault) = (uuid_of(&world, "work"), uuid_of(&world, "vault"));
    let call = |target: &str, service: &str| format!("qrexec-client-vm {target} {service}");
    let said = world
        .sh("work", &call(&format!("uuid:{vault}"), "test.Echo"))
        .await;
    assert_eq!(said, (0, "ok\n".to_owned()));
    for target in ["work".to_owned(), format!("uuid:{work}")] {
        let (code, said) = world.sh("work", &call(&target, "test.Self")).await;
        assert_eq!((code, said.as_str()), (126, ""), "{target}");
        // The caller is told before the record is written.
        let why = "test.policy:6: a qube cannot call itself";
        eventually(why, || last_rule(&world).2 == why).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_questions_neither_hides_nor_starves_another() {
    let policy = "test.Asked * @anyvm @anyvm ask\n";
    let world = World::new(qubes(), policy).await;
    world.start("work").await;
    world.start("vault").await;
    let mut refused = world.events.subscribe();
    let flood = "for n in $(seq 40); do qrexec-client-vm personal test.Asked+$n & done; wait";
    let flood = world.request("work", flood);
    let flood = world.runtime.run_command(flood, "me").await.unwrap();
    eventually("the flood", || world.runtime.asks().len() == 16).await;
    let mut over = 0;
    while over < 24 {
        if let Event::AuditRecorded(record) = refused.recv().await.unwrap() {
            if record.decision != "deny" {
                continue;
            }
            assert_eq!(record.by, "limit");
            assert!(
                record.rule.starts_with("test.policy:1: too many"),
                "{}",
                record.rule
            );
            over += record.count;
        }
    }
    let once = world.request("vault", "qrexec-client-vm personal test.Asked");
    let once = world.runtime.run_command(once, "me").await.unwrap();
    eventually("the other question", || world.runtime.asks().len() == 17).await;
    assert_eq!(
        world.runtime.asks()[1].source,
        "vault",
        "it is not below the flood"
    );
    drop((flood, once));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_refused_is_not_asked_again_at_once() {
    let dir = std::sync::Arc::new(Place::new());
    std::fs::write(dir.path().join("hold_back"), "").unwrap();
    let world = World::open(dir, qubes(), POLICY).await;
    world.start("work").await;
    world.start("vault").await;
    let refuse = async || {
        eventually("the question", || !world.runtime.asks().is_empty()).await;
        let ask = world.runtime.asks().remove(0);
        world
            .runtime
            .answer(ask.id, Answer::Deny, None, "me")
            .unwrap();
    };
    let ask = "qrexec-client-vm vault test.Asked+a";
    let (call, ()) = tokio::join!(world.sh("work", ask), refuse());
    assert_eq!(call.0, 126);
    let insist = format!("for n in $(seq 20); do {ask}; done");
    assert_eq!(world.sh("work", &insist).await.0, 126);
    assert!(world.runtime.asks().is_empty());
    let (_, by, rule) = last_rule(&world);
    assert_eq!(by, "limit");
    assert_eq!(
        rule,
        "test.policy:2: the same was refused less than 30 seconds ago"
    );
    // Another question is still asked.
    let other = world.sh("work", "qrexec-client-vm vault test.Asked+b");
    let (call, ()) = tokio::join!(other, refuse());
    assert_eq!(call.0, 126);
}
