use serde_json::{Value, json};

use super::*;

fn machine() -> Value {
    let qube = |number: u32, more: Value| {
        let mut qube = json!({
            "type": "AppVM", "tags": [], "template_for_dispvms": false, "default_dispvm": null,
            "power_state": "Halted", "internal": false, "icon": "x", "label": "red",
            "guivm": null, "uuid": format!("00000000-0000-4000-8000-{number:012}"),
        });
        for (key, value) in more.as_object().unwrap() {
            qube[key] = value.clone();
        }
        qube
    };
    json!({"domains": {
        "dom0": qube(0, json!({"type": "AdminVM", "uuid": "00000000-0000-0000-0000-000000000000"})),
        "work": qube(1, json!({"default_dispvm": "base", "power_state": "Running"})),
        "vault": qube(2, json!({})),
        "base": qube(3, json!({"template_for_dispvms": true})),
        "relay": qube(4, json!({})),
        "far": qube(5, json!({"type": "RemoteVM", "relayvm": "relay", "transport_rpc": "t.T"})),
        "odd": qube(6, json!({"uuid": "odd", "default_dispvm": "gone", "internal": null})),
    }})
}

fn call(words: &str) -> Value {
    let mut words = words.split(' ');
    let (source, service, target) = (words.next(), words.next().unwrap(), words.next());
    let (service, argument) = service.split_at(service.find('+').unwrap());
    json!({
        "service": service, "argument": argument, "source": source, "target": target,
        "requested_source": words.next(),
    })
}

fn line(files: &Value, request: &Value) -> String {
    json!({"files": files, "system_info": machine(), "request": request}).to_string() + "\n"
}

fn answers(input: &str) -> Vec<Value> {
    let mut output = Vec::new();
    answer_all(BufReader::new(input.as_bytes()), &mut output).unwrap();
    let text = String::from_utf8(output).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[track_caller]
fn judged(rules: &str, words: &str, expected: Value) {
    let files = json!({"etc/a.policy": rules});
    assert_eq!(
        answers(&line(&files, &call(words))),
        [expected],
        "{rules}: {words}"
    );
}

#[test]
fn every_decision_is_told_whole() {
    let rule = "etc/a.policy:1";
    let denied = json!({"kind": "deny", "notify": true, "rule": rule});
    let allowed = |target: &str, user: Value| {
        json!({
            "kind": "allow", "target": target, "user": user, "notify": false, "autostart": true,
            "rule": rule,
        })
    };
    judged(
        "* * work vault allow user=u",
        "work s.A+ vault",
        allowed("vault", json!("u")),
    );
    judged(
        "* * work vault allow user=",
        "work s.A+ vault",
        allowed("vault", json!("")),
    );
    judged(
        "* * * * allow",
        "work s.A+ @adminvm",
        allowed("dom0", Value::Null),
    );
    judged(
        "* * * * allow",
        "work s.A+ @dispvm",
        allowed("@dispvm:base", Value::Null),
    );
    judged(
        "* * * uuid:odd allow",
        "work s.A+ odd",
        allowed("odd", Value::Null),
    );
    judged(
        "* * * * allow",
        "work s.A+ uuid:odd",
        allowed("uuid:odd", Value::Null),
    );
    judged("* * work * deny", "work s.A+ vault", denied.clone());
    judged("* * work * allow", "work s.A+ work", denied);
    judged(
        "* * work vault allow autostart=no",
        "work s.A+ vault",
        json!({"kind": "deny", "notify": false, "rule": rule}),
    );
    judged(
        "* * vault * allow",
        "work s.A+ vault",
        json!({"kind": "deny", "notify": true, "rule": null}),
    );
    judged(
        "* * work @anyvm ask default_target=vault notify=yes",
        "work s.A+ vault",
        json!({
            "kind": "ask", "targets": ["@dispvm:base", "base", "far", "odd", "relay", "vault"],
            "default_target": "vault", "user": null, "notify": true, "autostart": true,
            "rule": rule,
        }),
    );
    judged(
        "* * work * allow user=root",
        "work s.A+x far",
        json!({
            "kind": "allow", "target": "far", "user": "root", "notify": false, "autostart": true,
            "relay": "relay", "service": "t.T+far+s.A+x", "rule": rule,
        }),
    );
    judged(
        "* * far work allow",
        "relay s.A+ work far",
        allowed("work", Value::Null),
    );
}

#[test]
fn what_policy_and_machine_leave_open_is_an_error() {
    let fault = json!({"kind": "error"});
    // A base that the caller does not have cannot be compared; one that does not exist not made.
    judged(
        "* * vault @dispvm:base deny",
        "vault s.A+ @dispvm",
        fault.clone(),
    );
    judged("* * odd @dispvm allow", "odd s.A+ @dispvm", fault.clone());
    judged(
        "* * * @dispvm:gone deny\n* * * * ask",
        "work s.A+ vault",
        fault,
    );
}

#[test]
fn a_policy_that_does_not_load_is_told_by_its_first_error() {
    let ask = call("work s.A+ vault");
    for (files, expected) in [
        (
            json!({"etc/b.policy": "#\n!include nope", "etc/a.policy": "* * * * allow\n\n  x"}),
            json!({"kind": "syntax-error", "file": "etc/a.policy", "line": 3}),
        ),
        (
            json!({"run/b.policy": "!include i/c", "run/i/c": "\nx"}),
            json!({"kind": "syntax-error", "file": "run/i/c", "line": 2}),
        ),
        (json!({"etc/B.policy": "x"}), json!({"kind": "load-denied"})),
        (
            json!({"etc/a.policy": "!include a.policy"}),
            json!({"kind": "error"}),
        ),
    ] {
        assert_eq!(answers(&line(&files, &ask)), [expected], "{files}");
    }
}

#[test]
fn text_that_is_no_text_is_a_fault_of_the_policy() {
    let files = json!({"etc/a.policy": "TEXT"});
    let odd = line(&files, &call("work s.A+ vault")).replace("TEXT", "\\udcff");
    assert_eq!(answers(&odd), [json!({"kind": "error"})]);
}

#[test]
fn every_line_is_answered_in_order() {
    let files = json!({"etc/a.policy": "* * work * allow"});
    let good = line(&files, &call("work s.A+ vault"));
    let lines = [
        "\n",
        "nonsense\n",
        "{}\n",
        &good,
        &good.replace("\"AppVM\"", "7"),
        &good.replace("\"+\"", "\"\""),
        &good.replace("etc/a.policy", "../a.policy"),
        &good.replace("etc/a.policy", "/etc/a.policy"),
        good.trim_end(),
    ];
    let answers = answers(&lines.concat());
    let kinds: Vec<&str> = answers
        .iter()
        .map(|answer| answer["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "error", "error", "error", "allow", "error", "error", "error", "error", "allow"
        ]
    );
    for (number, (answer, kind)) in answers.iter().zip(kinds).enumerate() {
        // That an argument begins with `+` is the policy's affair, not that of the line.
        let told = kind == "error" && number != 5;
        assert_eq!(answer["message"].is_string(), told, "{answer}");
    }
}

#[test]
fn a_line_is_judged_by_its_own_policy_and_machine() {
    let request = call("work s.A+ vault");
    let allow = json!({"etc/a.policy": "* * work * allow"});
    let deny = json!({"etc/a.policy": "* * work * deny"});
    let running = line(
        &json!({"etc/a.policy": "* * work * allow autostart=no"}),
        &request,
    );
    let lines = [
        line(&allow, &request),
        line(&deny, &request),
        line(&allow, &request),
        running.clone(),
        running.replace("Halted", "Running"),
    ];
    let kinds: Vec<Value> = answers(&lines.concat())
        .iter()
        .map(|answer| answer["kind"].clone())
        .collect();
    assert_eq!(kinds, ["allow", "deny", "allow", "deny", "allow"]);
}

#[test]
fn one_byte_too_many_is_answered_by_an_error_and_the_next_line_is_read() {
    let read = |bytes: usize| {
        let long = io::Read::take(io::repeat(b' '), bytes as u64);
        let mut output = Vec::new();
        let input = io::Read::chain(long, &b"\n7\n"[..]);
        answer_all(BufReader::new(input), &mut output).unwrap();
        String::from_utf8(output).unwrap()
    };
    assert!(!read(LINE_BYTES_MAX).contains("is longer than"));
    let told = read(LINE_BYTES_MAX + 1);
    assert!(
        told.lines().next().unwrap().contains("is longer than"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 2);
}
