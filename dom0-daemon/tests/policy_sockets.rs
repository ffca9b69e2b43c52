//! Programs of dom0 that ask the policy, and those that change its files.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it fails"
)]

mod world;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use bulkhead_api::call::{Answer, AuditFilter};
use bulkhead_api::event::Event;
use bulkhead_model::qube::{Qube, QubeKind};
use bulkheadd::bus::Gate;
use world::{Place, World, eventually, name, qube};

const POLICY: &str = "\
test.Allow * work vault allow notify=yes
test.Asked * work @anyvm ask default_target=vault
";

fn dvm() -> Qube {
    Qube {
        kind: QubeKind::DisposableTemplate,
        ..qube("dvm")
    }
}

async fn serving(dir: Arc<Place>) -> World {
    let world = World::open(dir, vec![qube("work"), qube("vault"), dvm()], POLICY).await;
    let gate = Gate::of_this_process();
    world.runtime.serve_policy(&folder(&world), gate).unwrap();
    world
}

async fn plain() -> World {
    serving(Arc::new(Place::new())).await
}

fn folder(world: &World) -> PathBuf {
    world.dir.path().join("run")
}

/// Sends everything, ends, and reads everything.
async fn say(world: &World, socket: &str, bytes: &[u8]) -> Vec<u8> {
    let (path, bytes) = (folder(world).join(socket), bytes.to_vec());
    let said = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(path).unwrap();
        // One who was told no may have hung up already.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        said
    });
    said.await.unwrap()
}

async fn request(world: &World, text: &str) -> String {
    String::from_utf8(say(world, "policy.sock", text.as_bytes()).await).unwrap()
}

fn last_rule(world: &World) -> (String, String) {
    let filter = AuditFilter {
        last: 1,
        ..AuditFilter::default()
    };
    let record = world.runtime.audit().tail(&filter).unwrap().remove(0);
    (record.decision, record.rule)
}

fn call(service: &str, more: &str) -> String {
    format!("source=work\nintended_target=vault\nservice_and_arg={service}\n{more}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_and_recorded_with_their_rule() {
    let world = plain().await;
    let uuid = world.runtime.info(&name("vault")).unwrap().uuid.unwrap();
    let said = request(&world, &call("test.Allow+x", "")).await;
    let expected = format!(
        "user=DEFAULT\nresult=allow\ntarget=vault\ntarget_uuid=uuid:{uuid}\nautostart=True\n\
         requested_target=vault"
    );
    assert_eq!(said, expected);
    assert_eq!(
        last_rule(&world),
        ("allow".to_owned(), "test.policy:1".to_owned())
    );
    assert_eq!(request(&world, &call("test.None", "")).await, "result=deny");
    assert_eq!(
        last_rule(&world),
        ("deny".to_owned(), "no rule matches".to_owned())
    );
    let just = call("test.Allow", "just_evaluate=yes\n");
    assert_eq!(request(&world, &just).await, "result=allow");
    let assumed = call("test.Asked", "assume_yes_for_ask=yes\njust_evaluate=yes\n");
    assert_eq!(request(&world, &assumed).await, "result=allow");
    assert_eq!(
        last_rule(&world).1,
        "no rule matches",
        "an evaluation is no call"
    );
    for broken in ["source=work\n\n", "domain_id=1\n\n", "\n", "x\n\n"] {
        assert_eq!(request(&world, broken).await, "", "{broken}");
    }
    let evaluation = b"policy.EvalSimple+test.Allow dom0 keyword adminvm\0work\0vault";
    assert_eq!(
        say(&world, "policy.EvalSimple", evaluation).await,
        b"result=allow\n"
    );
    let evaluation = b"policy.EvalGUI+test.Allow vault keyword adminvm\0work\0vault";
    assert_eq!(say(&world, "policy.EvalGUI", evaluation).await, b"");
    for socket in [
        "policy.sock",
        "policy.EvalSimple",
        "policy.EvalGUI",
        "policy.admin",
    ] {
        let mode = fs::metadata(folder(&world).join(socket))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660, "{socket}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_asks_waits_for_the_person() {
    let world = plain().await;
    for (answer, expected) in [
        (Answer::Allow, "result=allow\ntarget=vault"),
        (Answer::Deny, "result=deny"),
    ] {
        let asked = async {
            eventually("the question", || !world.runtime.asks().is_empty()).await;
            let ask = world.runtime.asks().remove(0);
            assert_eq!(
                (ask.source.as_str(), ask.service.as_str()),
                ("work", "test.Asked")
            );
            world.runtime.answer(ask.id, answer, None, "me").unwrap();
        };
        let call = call("test.Asked+a", "");
        let (said, ()) = tokio::join!(request(&world, &call), asked);
        assert!(said.contains(expected), "{said}");
    }
    // A flood of them has the limits of the qube that it names.
    let mut flood = Vec::new();
    for number in 0..20 {
        let mut stream = UnixStream::connect(folder(&world).join("policy.sock")).unwrap();
        let call = call(&format!("test.Asked+{number}"), "");
        stream.write_all(call.as_bytes()).unwrap();
        flood.push(stream);
    }
    eventually("all of the flood", || {
        let filter = AuditFilter {
            last: 100,
            decision: Some("deny".to_owned()),
            ..AuditFilter::default()
        };
        let records = world.runtime.audit().tail(&filter).unwrap();
        records
            .iter()
            .filter(|r| r.rule.ends_with("too many questions are open"))
            .count()
            == 4
    })
    .await;
    assert_eq!(world.runtime.asks().len(), 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_withdrawn_when_the_client_that_asks_hangs_up() {
    let world = plain().await;
    let mut events = world.events.subscribe();
    let ask = |service: &str| {
        let mut stream = UnixStream::connect(folder(&world).join("policy.sock")).unwrap();
        stream.write_all(call(service, "").as_bytes()).unwrap();
        stream
    };
    let (stays, leaves) = (ask("test.Asked+stays"), ask("test.Asked+leaves"));
    // One that has sent everything and says so still listens.
    stays.shutdown(Shutdown::Write).unwrap();
    eventually("both questions", || world.runtime.asks().len() == 2).await;
    let asks = world.runtime.asks();
    let left = asks.iter().find(|ask| ask.argument == "leaves").unwrap();
    drop(leaves);
    eventually("its withdrawal", || world.runtime.asks().len() == 1).await;
    assert_eq!(world.runtime.asks()[0].argument, "stays");
    let outcome = loop {
        if let Event::AskRemoved { id, outcome } = events.recv().await.unwrap() {
            assert_eq!(id, left.id);
            break outcome;
        }
    };
    assert_eq!(outcome, "withdrawn");
    let (decision, rule) = last_rule(&world);
    assert_eq!(decision, "deny");
    assert!(rule.ends_with("its caller went away"), "{rule}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_replaced_counts_and_one_with_errors_is_refused() {
    let world = serving(Place::with_live_policy(&[])).await;
    let admin = async |call: &str, payload: &str| {
        let request = format!("{call} work\0{payload}");
        String::from_utf8(say(&world, "policy.admin", request.as_bytes()).await).unwrap()
    };
    assert_eq!(admin("policy.List", "").await, "0\0");
    let text = "test.Live * work vault allow\n";
    assert_eq!(
        admin("policy.Replace+30-user", &format!("new\n{text}")).await,
        "0\0"
    );
    assert_eq!(last_rule(&world).0, "allow");
    eventually("the new rule", || world.runtime.policy_status().rules == 3).await;
    assert!(
        request(&world, &call("test.Live", ""))
            .await
            .contains("result=allow")
    );
    assert_eq!(last_rule(&world).1, "policy.d/30-user.policy:1");
    let got = admin("policy.Get+30-user", "").await;
    let (token, got) = got.strip_prefix("0\0").unwrap().split_once('\n').unwrap();
    assert_eq!(got, text);
    let refused = admin("policy.Replace+30-user", &format!("{token}\nnonsense\n")).await;
    assert!(
        refused.starts_with("1\0PolicyAdminSyntaxException "),
        "{refused}"
    );
    let (decision, why) = last_rule(&world);
    assert_eq!(decision, "deny");
    assert!(why.contains("policy.d/30-user.policy:1:1"), "{why}");
    assert_eq!(
        admin("policy.GetFiles+test.Live", "").await,
        "0\0\u{33}0-user\n"
    );
    assert_eq!(admin("policy.Remove+30-user", token).await, "0\0");
    eventually("the rule to be gone", || {
        world.runtime.policy_status().rules == 2
    })
    .await;
    assert_eq!(
        admin("policy.RegisterArgument+x", "").await,
        "1\0PolicyAdminProtocolException unrecognized method: policy.RegisterArgument"
    );
    assert_eq!(say(&world, "policy.admin", b"no end").await, b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn argument_registration_is_denied_unless_a_rule_names_it() {
    let world = plain().await;
    let text = call("policy.RegisterArgument+x", "just_evaluate=yes\n");
    assert_eq!(
        request(&world, &text.replace("=vault", "=dom0")).await,
        "result=deny"
    );
}
