//! The engine against the plain evaluator, over random rules, machines and calls.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod plain;

use bulkhead_model::qube::{Description, PolicyText};
use bulkhead_policy::{
    Decision, Engine, Fate, Finding, LintKind, QubeView, Request, Rule, Side, SystemView, compare,
    lint,
};
use proptest::prelude::*;
use uuid::Uuid;

use plain::{DOM0_UUID, Machine};

const NAMES: [&str; 7] = ["work", "mail", "vault", "base", "spare", "far", "relay"];

fn uuid_of(number: usize) -> Uuid {
    Uuid::from_u128(0xabc0_0000 + number as u128)
}

/// A word for a qube, by name or UUID, sometimes of none.
fn qube_word() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0..NAMES.len()).prop_map(|at| NAMES[at].to_owned()),
        3 => (0..NAMES.len()).prop_map(|at| format!("uuid:{}", uuid_of(at))),
        1 => (0..NAMES.len()).prop_map(|at| format!("uuid:{}", uuid_of(at).to_string().to_uppercase())),
        2 => prop::sample::select(vec!["dom0", DOM0_UUID, "ghost", "uuid:nonsense", "uuid:"])
            .prop_map(str::to_owned),
    ]
}

fn words(more: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![
        4 => qube_word(),
        1 => qube_word().prop_map(|word| format!("@dispvm:{word}")),
        4 => prop::sample::select(more).prop_map(str::to_owned),
    ]
}

const SOURCES: &[&str] = &[
    "*",
    "@anyvm",
    "@anyvm",
    "@adminvm",
    "@tag:a",
    "@tag:b",
    "@type:AppVM",
    "@type:AdminVM",
    "@dispvm:@tag:a",
];
const TARGETS: &[&str] = &[
    "*",
    "@anyvm",
    "@anyvm",
    "@adminvm",
    "@tag:a",
    "@tag:b",
    "@type:AppVM",
    "@type:AdminVM",
    "@type:RemoteVM",
    "@default",
    "@dispvm",
    "@dispvm",
    "@dispvm:base",
    "@dispvm:spare",
    "@dispvm:@tag:a",
];
const REDIRECTS: &[&str] = &["@adminvm", "@dispvm", "@dispvm:base", "@dispvm:ghost"];
const REQUESTS: &[&str] = &[
    "",
    "@default",
    "@dispvm",
    "@dispvm",
    "@dispvm:base",
    "@dispvm:vault",
    "@adminvm",
    "@anyvm",
    "*",
    "@tag:a",
    "@dispvm:@tag:a",
];

prop_compose! {
    fn rule()(
        service in prop::sample::select(vec!["*", "s.A", "s.A", "s.B"]),
        argument in prop::sample::select(vec!["*", "*", "+", "+x"]),
        source in words(SOURCES),
        target in words(TARGETS),
        action in prop::sample::select(vec!["allow", "ask", "ask", "deny"]),
        redirect in prop::option::weighted(0.2, words(REDIRECTS)),
        default_target in prop::option::weighted(0.3, words(REDIRECTS)),
        user in prop::option::weighted(0.1, prop::sample::select(vec!["", "root"])),
        autostart in prop::option::weighted(0.3, any::<bool>()),
        notify in prop::option::weighted(0.3, any::<bool>()),
    ) -> String {
        let argument = if service == "*" { "*" } else { argument };
        let mut line = format!("{service} {argument} {source} {target} {action}");
        let switch = |on: bool| if on { "yes" } else { "no" };
        if action != "deny" {
            if let Some(redirect) = redirect {
                line += &format!(" target={redirect}");
            } else if action == "allow" && target == "@default" {
                line += " target=mail";
            }
            line += &user.map(|user| format!(" user={user}")).unwrap_or_default();
            line += &autostart.map(|on| format!(" autostart={}", switch(on))).unwrap_or_default();
        }
        if let (Some(preselected), "ask") = (default_target, action) {
            line += &format!(" default_target={preselected}");
        }
        line + &notify.map(|on| format!(" notify={}", switch(on))).unwrap_or_default()
    }
}

prop_compose! {
    fn machine()(
        tags in prop::collection::vec(prop::sample::subsequence(vec!["a", "b"], 0..=2), NAMES.len()),
        flags in prop::collection::vec(any::<[bool; 3]>(), NAMES.len()),
        bases in prop::collection::vec(
            prop::option::of(prop::sample::select(vec!["base", "base", "work", "spare", "ghost", "", "@x"])),
            NAMES.len(),
        ),
        relay in prop::option::of(prop::sample::select(vec!["relay", "relay", "work", "ghost", ""])),
        transport in prop::option::of(prop::sample::select(vec!["t.T", "t.T", ""])),
    ) -> Vec<QubeView> {
        let mut qubes: Vec<QubeView> = (0..NAMES.len()).map(|at| QubeView {
            tags: tags[at].iter().map(|tag| (*tag).into()).collect(),
            running: flags[at][0],
            internal: flags[at][1] && NAMES[at] == "spare",
            template_for_dispvms: flags[at][2] && at < 5 || NAMES[at] == "base",
            default_dispvm: bases[at].map(Into::into),
            ..QubeView::new(NAMES[at], uuid_of(at), "AppVM")
        }).collect();
        qubes[5] = QubeView {
            class: "RemoteVM".into(),
            relayvm: relay.map(Into::into),
            transport_rpc: transport.map(Into::into),
            ..qubes[5].clone()
        };
        qubes.insert(0, QubeView::dom0());
        qubes
    }
}

#[derive(Debug, Clone)]
struct Call {
    service: &'static str,
    argument: &'static str,
    source: String,
    target: String,
    claimed: &'static str,
}

prop_compose! {
    fn call()(
        service in prop::sample::select(vec!["s.A", "s.A", "s.B", "s.C"]),
        argument in prop::sample::select(vec!["+", "+x", "+xy"]),
        source in prop_oneof![
            9 => prop::sample::select(&NAMES[..]).prop_map(str::to_owned),
            1 => qube_word(),
        ],
        target in words(REQUESTS),
        claimed in prop::sample::select(vec!["", "", "", "", "", "far", "work", "ghost"]),
    ) -> Call {
        Call { service, argument, source, target, claimed }
    }
}

fn request(call: &Call) -> Request<'_> {
    Request {
        service: call.service,
        argument: call.argument,
        source: &call.source,
        target: &call.target,
        requested_source: call.claimed,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(512)
    })]

    #[test]
    fn the_engine_decides_as_the_plain_evaluator(
        rules in prop::collection::vec(rule(), 0..25),
        calls in prop::collection::vec(call(), 1..12),
        qubes in machine(),
    ) {
        let engine = plain::parse(&rules).unwrap();
        let view = SystemView::exactly(qubes.clone()).unwrap();
        for call in calls {
            let request = request(&call);
            prop_assert_eq!(
                plain::engine(&engine, &request, &view),
                plain::decide(engine.rules(), &request, &Machine(&qubes)),
                "{:?}", call
            );
            // What people are told is what is done.
            let told = engine.fits(&request, &view).ok();
            let told = told.and_then(|mut fits| fits.position(|(_, fit)| fit.decides()));
            let decision = engine.decide(&request, &view);
            prop_assert_eq!(told, decision.number(), "{:?}", call);
            let offered: Vec<_> = (engine.choices(&request, &view).into_iter())
                .filter(|choice| choice.fate == Fate::Offered)
                .map(|choice| choice.target)
                .collect();
            match decision {
                Decision::Ask(ask) => prop_assert_eq!(&*offered, &*ask.targets, "{:?}", call),
                Decision::Allow(_) => prop_assert!(offered.is_empty()),
                Decision::Deny(_) => {}
            }
        }
    }

    /// Taking away what is said never to be reached changes nothing, whatever the call.
    #[test]
    fn no_rule_that_matters_is_said_to_be_shadowed(
        rules in prop::collection::vec(rule(), 2..25),
        calls in prop::collection::vec(call(), 1..12),
        qubes in machine(),
    ) {
        let engine = plain::parse(&rules).unwrap();
        let view = SystemView::new(qubes).unwrap();
        let found = lint(&engine, &Description::default(), &view);
        let shadowed = |rule: &&Rule| {
            let is = |f: &Finding| f.kind == LintKind::Shadowed && f.origin == rule.origin;
            found.iter().any(is)
        };
        let kept = engine.rules().iter().filter(|rule| !shadowed(rule)).cloned().collect();
        let kept = Engine::of_rules(kept);
        for call in calls {
            let request = request(&call);
            let (all, less) = (engine.decide(&request, &view), kept.decide(&request, &view));
            prop_assert!(all.lets_the_same_happen(&less), "{:?}: {} and {}", call, all, less);
        }
    }

    /// Where no change is told there is none, whatever the call.
    #[test]
    fn no_changed_decision_is_overlooked(
        rules in prop::collection::vec(rule(), 1..8),
        more in prop::collection::vec(rule(), 0..2),
        calls in prop::collection::vec(call(), 1..12),
        qubes in machine(),
    ) {
        let old = plain::parse(&rules).unwrap();
        let new = plain::parse(&[more, rules].concat()).unwrap();
        let view = SystemView::new(qubes).unwrap();
        let side = |engine| Side { engine, view: &view };
        let changes = compare(side(&old), side(&new), None).unwrap();
        for call in calls.iter().filter(|call| call.claimed.is_empty()) {
            let request = request(call);
            let (before, after) = (old.decide(&request, &view), new.decide(&request, &view));
            if !before.lets_the_same_happen(&after) && !plain::is_dom0(&call.source) {
                prop_assert!(changes.differing > 0, "{:?}: {} and {}", call, before, after);
            }
        }
    }

    #[test]
    fn rules_print_as_what_parses_to_the_same(rules in prop::collection::vec(rule(), 1..25)) {
        let engine = plain::parse(&rules).unwrap();
        let printed: Vec<String> = engine.rules().iter().map(ToString::to_string).collect();
        let again = plain::parse(&printed).unwrap();
        prop_assert_eq!(again.rules(), engine.rules());
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        let _ = Engine::load(&[PolicyText { origin: "p".to_owned(), first_line: u32::MAX, text }]);
    }
}
