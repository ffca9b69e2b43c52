//! A denied call costs no memory: a caller that floods calls which are refused cannot make the
//! daemon allocate.

use bulkhead_model::qube::PolicyText;
use bulkhead_policy::{Decision, Engine, QubeView, Request, SystemView};
use uuid::Uuid;

#[test]
fn a_denial_allocates_nothing() {
    let engine = Engine::parse(&[PolicyText {
        origin: "p".to_owned(),
        first_line: 1,
        text: "s.A * work vault deny\ns.A +x @tag:t1 @tag:t2 deny notify=no\n\
               s.B * work @anyvm allow\ns.C * work @anyvm allow autostart=no\n"
            .to_owned(),
    }])
    .unwrap();
    let view = SystemView::new(
        ["work", "vault"]
            .into_iter()
            .zip(1..)
            .map(|(name, number)| QubeView {
                tags: (0..9).map(|tag| format!("t{tag}").into()).collect(),
                ..QubeView::new(name, Uuid::from_u128(number), "AppVM")
            }),
    )
    .unwrap();
    let by_uuid = format!("uuid:{}", Uuid::from_u128(2));
    for (call, target) in [
        ("s.A", "vault"),
        ("s.A", &by_uuid),
        ("s.A+x", "work"),
        ("s.A+y", "ghost"),
        ("s.Other+argument", "vault"),
        ("s.A", "@anyvm"),
        ("s.A", "@dispvm"),
        ("s.B", ""),
        ("s.B", "@dispvm"),
    ] {
        let request = Request::new(call, "work", target);
        let mut denied = false;
        let used = allocation_counter::measure(|| {
            denied = matches!(engine.decide(&request, &view), Decision::Deny(_));
        });
        assert!(denied, "{call} to {target}");
        assert_eq!(used.count_total, 0, "{call} to {target}");
    }
    // The counter counts.
    let allowed = allocation_counter::measure(|| {
        drop(engine.decide(&Request::new("s.B", "work", "vault"), &view));
    });
    assert!(allowed.count_total > 0);
}
