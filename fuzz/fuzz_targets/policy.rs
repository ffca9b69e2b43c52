//! Policy text: what does not parse denies everything, no decision takes a qube to itself, and
//! none panics.
#![no_main]

use bulkhead_model::qube::PolicyText;
use bulkhead_policy::{Decision, Destination, Engine, QubeView, Request, SystemView};
use libfuzzer_sys::fuzz_target;

/// Whether a call so decided may end in `qube`: a rule may send it elsewhere than it asked for.
fn reaches(decision: &Decision, qube: &str) -> bool {
    let is = |to: &Destination| matches!(to, Destination::Qube { name, .. } if **name == *qube);
    match decision {
        Decision::Allow(allow) => is(&allow.target),
        Decision::Ask(ask) => ask.targets.iter().any(is),
        Decision::Deny(_) => false,
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let engine = Engine::load(&[PolicyText {
        origin: "30-user".into(),
        first_line: 1,
        text: text.into(),
    }]);
    let qubes = ["work", "vault", "untrusted"]
        .into_iter()
        .zip(1..)
        .map(|(name, n)| {
            let id = format!("00000000-0000-4000-8000-{n:012}");
            QubeView::new(name, id.parse().expect("a uuid"), "AppVM")
        });
    let view = SystemView::new(qubes).expect("distinct");
    for call in ["qubes.Filecopy", "qubes.VMShell+x", "*", ""] {
        for target in ["vault", "@default", "@dispvm", "dom0", "work", "nobody", ""] {
            let decision = engine.decide(&Request::new(call, "work", target), &view);
            let denied = matches!(decision, Decision::Deny(_));
            assert!(
                engine.errors().is_none() || denied,
                "broken policy let a call pass"
            );
            assert!(!reaches(&decision, "work"), "a qube reached itself");
        }
    }
});
