//! The verified examples of the policy format page, as one table.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use bulkhead_model::qube::PolicyText;
use bulkhead_policy::{Decision, Destination, Engine, QubeView, Request, SystemView};
use uuid::Uuid;

fn machine() -> SystemView {
    let mut next = 0;
    let mut qube = |name: &str, class: &str, tags: &[&str], base: Option<&str>, running: bool| {
        next += 1;
        QubeView {
            tags: tags.iter().map(|tag| (*tag).into()).collect(),
            default_dispvm: base.map(Into::into),
            running,
            ..QubeView::new(name, Uuid::from_u128(next), class)
        }
    };
    let template = |qube: QubeView| QubeView {
        template_for_dispvms: true,
        ..qube
    };
    let remote = |qube: QubeView, transport: Option<&str>| QubeView {
        relayvm: Some("relay".into()),
        transport_rpc: transport.map(Into::into),
        ..qube
    };
    let qubes = [
        qube(
            "work",
            "AppVM",
            &["office", "trusted"],
            Some("disp-office"),
            true,
        ),
        qube("mail", "AppVM", &["office"], Some("disp-net"), false),
        qube("web", "AppVM", &["net"], Some("disp-net"), true),
        qube("vault", "AppVM", &[], None, false),
        template(qube("disp-net", "AppVM", &["net"], None, false)),
        template(qube("disp-office", "AppVM", &["office"], None, false)),
        qube("tpl-fedora", "TemplateVM", &[], None, false),
        qube("sys-net", "AppVM", &[], None, true),
        qube("relay", "AppVM", &[], None, true),
        QubeView {
            internal: true,
            ..qube("mgmt", "AppVM", &[], None, false)
        },
        remote(
            qube("far-work", "RemoteVM", &[], None, false),
            Some("bulk.Tunnel"),
        ),
        remote(qube("far-broken", "RemoteVM", &[], None, false), None),
    ];
    SystemView::new(qubes).unwrap()
}

fn text(rules: &str) -> PolicyText {
    PolicyText {
        origin: "example.policy".to_owned(),
        first_line: 1,
        text: rules.replace("; ", "\n"),
    }
}

/// `deny`, `deny silently`, `allow TARGET [service=S] [user=U] [as SOURCE]` or
/// `ask TARGET... [> PRESELECTED]`.
fn describe(decision: &Decision) -> String {
    match decision {
        Decision::Allow(allow) => {
            let mut line = format!("allow {}", allow.target);
            if let Some(service) = &allow.relayed_service {
                line += &format!(" service={service}");
            }
            if let Some(user) = &allow.user {
                line += &format!(" user={user}");
            }
            if &*allow.source != "work" && &*allow.source != "mail" {
                line += &format!(" as {}", allow.source);
            }
            line
        }
        Decision::Ask(ask) => {
            let mut line = "ask".to_owned();
            for target in ask.targets.iter() {
                line += &format!(" {target}");
            }
            if let Some(preselected) = &ask.default_target {
                line += &format!(" > {preselected}");
            }
            line
        }
        Decision::Deny(deny) if deny.notify => "deny".to_owned(),
        Decision::Deny(_) => "deny silently".to_owned(),
    }
}

const QUBE_UUID: &str = "uuid:0abcdef0-9abc-4def-8012-3456789abcde";

const PING_DEFAULT: &str = "demo.Ping * work @default allow target=sys-net";
const VIEW_TAG: &str = "demo.View * @anyvm @dispvm:@tag:net allow";
const FROM_FAR: &str = "demo.Ping * far-work work allow";

/// Number, rules, caller (`relay:far-work` claims), call, target, decision.
#[rustfmt::skip]
const EXAMPLES: [(u32, &str, &str, &str, &str, &str); 32] = [
    (1, "demo.Ping * work mail allow", "work", "demo.Ping", "mail", "allow mail"),
    (2, "demo.Ping * work mail deny; demo.Ping * @anyvm @anyvm allow", "work", "demo.Ping", "mail", "deny"),
    (3, "demo.Ping * work mail allow", "web", "demo.Ping", "mail", "deny"),
    (4, "demo.Read +a work mail allow; demo.Read * work mail deny", "work", "demo.Read+ab", "mail", "deny"),
    (5, "demo.Read + work mail allow", "work", "demo.Read+x", "mail", "deny"),
    (6, "demo.Ping * @anyvm @anyvm allow", "work", "demo.Ping", "dom0", "deny"),
    (7, "demo.Ping * * * allow", "work", "demo.Ping", "dom0", "allow dom0"),
    (8, "demo.Ping * work dom0 allow", "work", "demo.Ping", "@adminvm", "allow dom0"),
    (9, PING_DEFAULT, "work", "demo.Ping", "", "allow sys-net"),
    (10, PING_DEFAULT, "work", "demo.Ping", "nosuch", "allow sys-net"),
    (11, "demo.Ping * work @anyvm allow", "work", "demo.Ping", "", "deny"),
    (12, "demo.Ping * work mail allow target=ghost", "work", "demo.Ping", "mail", "deny"),
    (13, "demo.View * work @dispvm allow", "work", "demo.View", "@dispvm", "allow @dispvm:disp-office"),
    (14, "demo.View * vault @dispvm allow", "vault", "demo.View", "@dispvm", "deny"),
    (15, "demo.View * work @dispvm allow", "work", "demo.View", "@dispvm:disp-office", "deny"),
    (16, "demo.View * work @dispvm:disp-office allow", "work", "demo.View", "@dispvm", "allow @dispvm:disp-office"),
    (17, VIEW_TAG, "mail", "demo.View", "@dispvm", "allow @dispvm:disp-net"),
    (18, VIEW_TAG, "work", "demo.View", "@dispvm", "deny"),
    (19, "demo.View * work @anyvm allow", "work", "demo.View", "@dispvm:vault", "deny"),
    (20, "demo.Ping * work mail allow autostart=no", "work", "demo.Ping", "mail", "deny silently"),
    (21, "demo.Ping * work sys-net allow autostart=no", "work", "demo.Ping", "sys-net", "allow sys-net"),
    (22, "demo.Send * work vault deny; demo.Send * work @tag:net deny; demo.Send * work @dispvm deny; demo.Send * work @anyvm ask",
        "work", "demo.Send", "",
        "ask @dispvm:disp-net @dispvm:disp-office disp-office far-broken far-work mail relay sys-net tpl-fedora"),
    (23, "demo.Send * work @anyvm ask target=vault", "work", "demo.Send", "mail", "ask vault"),
    (24, "demo.Send * work @anyvm ask autostart=no", "work", "demo.Send", "", "ask relay sys-net web"),
    (25, "demo.Send * work @tag:net ask default_target=vault", "work", "demo.Send", "web", "ask disp-net web"),
    (26, "demo.Send * work mgmt ask", "work", "demo.Send", "mgmt", "deny"),
    (27, "demo.Ping * work @anyvm allow", "work", "demo.Ping", "work", "deny"),
    (28, "demo.Ping * work far-work allow user=root", "work", "demo.Ping+x", "far-work",
        "allow relay service=bulk.Tunnel+far-work+demo.Ping+x"),
    (29, "demo.Ping * work far-broken allow", "work", "demo.Ping", "far-broken", "deny"),
    (30, FROM_FAR, "relay:far-work", "demo.Ping", "work", "allow work as far-work"),
    (31, FROM_FAR, "web:far-work", "demo.Ping", "work", "deny"),
    (32, "demo.Ping * work mail allow,target=vault", "work", "demo.Ping", "mail", "deny"),
];

#[test]
fn every_worked_example_is_decided_as_written() {
    let view = machine();
    let mut wrong = Vec::new();
    for (number, rules, caller, call, target, expected) in EXAMPLES {
        let engine = Engine::load(&[text(rules)]);
        assert_eq!(engine.errors().is_some(), number == 32, "example {number}");
        let (caller, claimed) = caller.split_once(':').unwrap_or((caller, ""));
        let request = Request::new(call, caller, target).on_behalf_of(claimed);
        let found = describe(&engine.decide(&request, &view));
        if found != expected {
            wrong.push(format!("{number}: expected `{expected}`, found `{found}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[track_caller]
fn decide(rules: &str, caller: &str, call: &str, target: &str) -> Decision {
    let engine = Engine::parse(&[text(rules)]).unwrap();
    engine.decide(&Request::new(call, caller, target), &machine())
}

#[test]
fn a_qube_cannot_reach_itself_by_its_uuid() {
    let own = format!("uuid:{}", Uuid::from_u128(1));
    for target in ["work", &own] {
        let decision = decide("demo.Ping * * * allow", "work", "demo.Ping", target);
        assert_eq!(describe(&decision), "deny", "calling {target}");
    }
    let redirected = format!("demo.Ping * work mail allow target={own}");
    let decision = decide(&redirected, "work", "demo.Ping", "mail");
    assert_eq!(describe(&decision), "deny");
}

#[test]
fn a_relay_that_calls_its_own_remote_qube_is_connected_to_itself() {
    // The destination is the remote qube; whether a relay can serve itself is the relay's affair.
    let rules = "demo.Ping * * * allow";
    let decision = decide(rules, "relay", "demo.Ping", "far-work");
    assert_eq!(
        describe(&decision),
        "allow relay service=bulk.Tunnel+far-work+demo.Ping+ as relay"
    );
}

#[test]
fn a_rule_by_uuid_and_a_request_by_name_meet() {
    let mail = format!("uuid:{}", Uuid::from_u128(2));
    for (ruled, asked) in [("mail", &*mail), (&*mail, "mail"), (&*mail, &*mail)] {
        let rules = format!("demo.Ping * work {ruled} deny notify=no; demo.Ping * * * allow");
        let decision = decide(&rules, "work", "demo.Ping", asked);
        assert_eq!(describe(&decision), "deny silently", "{ruled} and {asked}");
    }
}

#[test]
fn a_uuid_in_capitals_names_nothing() {
    let upper = QUBE_UUID.to_uppercase().replace("UUID", "uuid");
    let qube = QubeView::new("mail", QUBE_UUID[5..].parse().unwrap(), "AppVM");
    let caller = QubeView::new("work", Uuid::from_u128(1), "AppVM");
    let view = SystemView::new([qube, caller]).unwrap();
    for (word, expected) in [(QUBE_UUID, "allow mail"), (&*upper, "deny")] {
        let engine = Engine::load(&[text(&format!("demo.Ping * work {word} allow"))]);
        for asked in [word, "mail"] {
            let decision = engine.decide(&Request::new("demo.Ping", "work", asked), &view);
            assert_eq!(describe(&decision), expected, "{word} and {asked}");
        }
    }
}

#[test]
fn the_rule_that_spoke_is_named() {
    let rules = "# why\n\ndemo.Ping * work mail allow";
    let decision = decide(rules, "work", "demo.Ping", "mail");
    assert_eq!(decision.rule().unwrap().to_string(), "example.policy:3");
    let decision = decide(rules, "work", "demo.Ping", "web");
    assert_eq!(decision.rule(), None);
}

#[test]
fn a_keyword_only_rules_may_use_is_refused_as_a_request() {
    for target in [
        "@anyvm",
        "*",
        "@tag:net",
        "@type:AppVM",
        "@dispvm:@tag:net",
        "@x",
    ] {
        let decision = decide("* * * * allow", "work", "demo.Ping", target);
        assert_eq!(describe(&decision), "deny", "{target}");
    }
}

#[test]
fn a_disposable_of_what_is_no_disposable_template_is_refused_where_it_is_named() {
    let qubes = [
        QubeView {
            default_dispvm: Some("vault".into()),
            ..QubeView::new("work", Uuid::from_u128(1), "AppVM")
        },
        QubeView::new("vault", Uuid::from_u128(2), "AppVM"),
    ];
    let view = SystemView::new(qubes).unwrap();
    for (rules, target, expected) in [
        ("* * * * allow", "@dispvm:vault", "deny"),
        ("* * work * allow target=@dispvm:vault", "@dispvm", "deny"),
        // The caller's own base is taken as it is; making the disposable checks it.
        ("* * * * allow", "@dispvm", "allow @dispvm:vault"),
        ("* * work @dispvm ask", "@dispvm", "ask @dispvm:vault"),
    ] {
        let engine = Engine::parse(&[text(rules)]).unwrap();
        let decision = engine.decide(&Request::new("demo.View", "work", target), &view);
        assert_eq!(describe(&decision), expected, "{rules}");
    }
}

fn ask(rules: &str, target: &str) -> bulkhead_policy::Ask {
    match decide(rules, "work", "demo.Send+x", target) {
        Decision::Ask(ask) => ask,
        other => panic!("expected an ask, got {other:?}"),
    }
}

#[test]
fn an_answer_among_the_choices_becomes_an_allow() {
    let ask = ask("demo.Send * work @anyvm ask user=root", "web");
    let allow = ask.answer("vault", &machine()).unwrap();
    assert_eq!(allow.target.to_string(), "vault");
    assert_eq!(allow.user.as_deref(), Some("root"));
    assert_eq!(allow.requested_target, "web");
    let relayed = ask.answer("far-work", &machine()).unwrap();
    assert_eq!(
        relayed.relayed_service.as_deref(),
        Some("bulk.Tunnel+web+demo.Send+x")
    );
    let disposable = ask.answer("@dispvm:disp-net", &machine()).unwrap();
    assert!(matches!(
        disposable.target,
        Destination::NewDisposable { .. }
    ));
}

#[test]
fn an_answer_that_was_not_offered_is_refused() {
    let ask = ask(
        "demo.Send * work vault deny; demo.Send * work @anyvm ask",
        "",
    );
    for answer in ["vault", "work", "mgmt", "dom0", "@dispvm", "nosuch", ""] {
        let deny = ask.answer(answer, &machine()).unwrap_err();
        assert_eq!(
            deny.reason.to_string(),
            "the answer is not one of the choices"
        );
    }
    assert!(!ask.refuse().notify);
}

#[test]
fn an_answer_whose_qube_was_replaced_meanwhile_is_refused() {
    let ask = ask("demo.Send * work @anyvm ask", "");
    let later = SystemView::new([
        QubeView::new("work", Uuid::from_u128(1), "AppVM"),
        QubeView::new("vault", Uuid::from_u128(99), "AppVM"),
    ])
    .unwrap();
    let deny = ask.answer("vault", &later).unwrap_err();
    assert_eq!(
        deny.reason.to_string(),
        "the chosen target does not exist any more"
    );
}

#[test]
fn an_unchecked_only_choice_is_offered_and_then_refused() {
    for only in ["ghost", "@dispvm", "@dispvm:vault"] {
        let ask = ask(&format!("demo.Send * work mail ask target={only}"), "mail");
        assert_eq!(ask.targets[0].to_string(), only);
        assert!(ask.answer(only, &machine()).is_err());
    }
    let decision = decide(
        "demo.Send * work mail ask target=ghost autostart=no",
        "work",
        "demo.Send",
        "mail",
    );
    assert_eq!(describe(&decision), "deny");
}
