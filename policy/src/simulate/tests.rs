use super::*;
use crate::testing;

fn compared(old: &str, new: &str) -> Comparison {
    let (_, old, old_view) = testing::desktop(old);
    let (_, new, new_view) = testing::desktop(new);
    let old = Side {
        engine: &old,
        view: &old_view,
    };
    let new = Side {
        engine: &new,
        view: &new_view,
    };
    compare(old, new, None).unwrap()
}

const OLD: &str = "\
a.B * work vault ask
a.B * mail vault deny
a.C * @anyvm @default allow target=mail
";

#[test]
fn the_same_rules_elsewhere_change_nothing() {
    let moved = format!("# moved\n\n{OLD}a.D * work mail deny\n");
    let found = compared(OLD, &moved);
    assert!(found.changes.is_empty());
    insta::assert_snapshot!(found, @r"No decision changes, over 128 calls.");
}

#[test]
fn changes_are_grouped_by_service_and_sources() {
    let new = "\
a.B +x mail vault allow user=root
a.B * work vault deny
a.C * @anyvm @default allow target=mail
* * @tag:office @dispvm ask
";
    insta::assert_snapshot!(compared(OLD, new), @r"
    a.B with any other argument
      - work -> vault
          was ask: vault
              by a.policy:1: a.B * work vault ask
          is  deny: a rule denies it
              by a.policy:2: a.B * work vault deny
      ~ mail, work -> @dispvm
          was deny: no rule matches
          is  ask: @dispvm:fresh
              by a.policy:4: * * @tag:office @dispvm ask
    a.B+x
      - work -> vault
          was ask: vault
              by a.policy:1: a.B * work vault ask
          is  deny: a rule denies it
              by a.policy:2: a.B * work vault deny
      + mail -> vault
          was deny: a rule denies it
              by a.policy:2: a.B * mail vault deny
          is  allow as user root
              by a.policy:1: a.B +x mail vault allow user=root
      ~ work -> @dispvm
          was deny: no rule matches
          is  ask: @dispvm:fresh
              by a.policy:4: * * @tag:office @dispvm ask
      ~ mail -> @dispvm
          was deny: no rule matches
          is  ask: @dispvm:fresh, vault
              by a.policy:4: * * @tag:office @dispvm ask
    a.C
      ~ mail -> @dispvm
          was deny: no rule matches
          is  ask: @dispvm:fresh
              by a.policy:4: * * @tag:office @dispvm ask
      ~ work -> @dispvm
          was deny: no rule matches
          is  ask: @dispvm:fresh, mail
              by a.policy:4: * * @tag:office @dispvm ask
    any other service
      ~ mail, work -> @dispvm
          was deny: no rule matches
          is  ask: @dispvm:fresh
              by a.policy:4: * * @tag:office @dispvm ask
    11 of 128 decisions change.
    ");
}

#[test]
fn a_qube_that_is_new_counts() {
    let rules = "a.B * @anyvm vault allow\n";
    let (mut description, engine, view) = testing::desktop(rules);
    let gone = description.qubes.keys().next().unwrap().clone();
    description.qubes.remove(&gone);
    let less = SystemView::declared(&description).unwrap();
    let side = |view| Side {
        engine: &engine,
        view,
    };
    let found = compare(side(&less), side(&view), None).unwrap();
    insta::assert_snapshot!(found, @r"
    a.B
      + fresh -> vault
          was deny: the calling qube is unknown
          is  allow
              by a.policy:1: a.B * @anyvm vault allow
    1 of 64 decisions changes.
    ");
}

#[test]
fn more_than_can_be_decided_is_refused() {
    let qube = |number: usize| {
        let uuid = uuid::Uuid::from_u128(number as u128 + 1);
        QubeView::new(&format!("q{number}"), uuid, "AppVM")
    };
    let view = SystemView::new((0..4_500).map(qube)).unwrap();
    let (old, new) = (Engine::of_rules(Vec::new()), Engine::broken(Vec::new()));
    let side = |engine| Side {
        engine,
        view: &view,
    };
    let error = compare(side(&old), side(&new), None).unwrap_err();
    assert_eq!(error, SimulateError::TooMany(4_500 * 4_503));
}
