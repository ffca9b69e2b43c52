//! What people read when a policy does not parse.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use bulkhead_model::qube::PolicyText;
use bulkhead_policy::{Decision, DenyReason, Engine, PolicyError, Request, SystemView};

fn text(origin: &str, first_line: u32, text: &str) -> PolicyText {
    PolicyText {
        origin: origin.to_owned(),
        first_line,
        text: text.to_owned(),
    }
}

fn errors(texts: &[PolicyText]) -> String {
    let errors = Engine::parse(texts).unwrap_err();
    let line = |error: &PolicyError| format!("{error}; {}\n", error.remedy());
    errors.iter().map(line).collect()
}

fn errors_of(rules: &str) -> String {
    errors(&[text("a.policy", 1, rules)])
}

#[test]
fn every_error_of_every_file_is_reported_at_once() {
    let texts = [
        text(
            "10-a.policy",
            1,
            "# fine\ndemo.Ping * work mail alow\n  demo.Ping x @dispvm mail deny",
        ),
        text(
            "system.ron",
            40,
            "demo.Ping * work mail allow\n\ndemo.Ping work mail deny",
        ),
    ];
    insta::assert_snapshot!(errors(&texts), @r"
    10-a.policy:2:23: unknown action `alow`; did you mean `allow`?
    10-a.policy:3:13: argument `x` does not start with `+`; write `+x`, `+` for no argument or `*` for any
    10-a.policy:3:15: `@dispvm` cannot be used as a source; use a qube's name, `@anyvm`, `@adminvm`, `@type:` or `@tag:`
    system.ron:42:1: rule has 4 of the five fields it needs; write `SERVICE ARGUMENT SOURCE TARGET ACTION`, with `*` for any argument
    ");
}

#[test]
fn each_error_names_the_place_and_the_remedy() {
    let rules = "\
demo.Ping+x * work mail allow
demo/Ping * work mail allow
demo.Ping +a/b work mail allow
demo.Ping a work mail allow
* +a work mail allow
demo.Ping * @default mail allow
demo.Ping * @anyvn mail allow
demo.Ping * work @tag: allow
demo.Ping * work @dispvm:@type:x allow
demo.Ping * work mail Allow
demo.Ping * work mail allow,target=vault
demo.Ping * work mail allow # why
demo.Ping * work mail allow target
demo.Ping * work mail allow user=a user=b
demo.Ping * work mail allow default_target=vault
demo.Ping * work mail deny target=vault
demo.Ping * work mail ask defualt_target=vault
demo.Ping * work mail allow notify=true autostart=
demo.Ping * work mail allow target=@anyvm
demo.Ping * work mail allow target=
demo.Ping * work @default allow
demo.Ping * work
!include other
!compat-4.0
!inklude other
";
    insta::assert_snapshot!(errors_of(rules), @r"
    a.policy:1:1: service `demo.Ping+x` contains `+`; put the argument in a column of its own, as `SERVICE +ARGUMENT ...`
    a.policy:2:1: service `demo/Ping` contains `/`; use letters, digits, `-`, `.` and `_`, or `*` for every service
    a.policy:3:11: argument `+a/b` contains `/`; use letters, digits, `-`, `.`, `_` and `+` after the leading `+`
    a.policy:4:11: argument `a` does not start with `+`; write `+a`, `+` for no argument or `*` for any
    a.policy:5:3: service `*` cannot be limited to argument `+a`; write `* *`, or name the service
    a.policy:6:13: `@default` cannot be used as a source; use a qube's name, `@anyvm`, `@adminvm`, `@type:` or `@tag:`
    a.policy:7:13: `@anyvn` cannot be used as a source; did you mean `@anyvm`?
    a.policy:8:18: `@tag:` names nothing; write the name, class or tag after it
    a.policy:9:18: `@dispvm:@type:x` cannot be used as a target; use a qube's name, `@anyvm`, `@adminvm`, `@default`, `@dispvm`, `@type:` or `@tag:`
    a.policy:10:23: unknown action `Allow`; did you mean `allow`?
    a.policy:11:23: unknown action `allow,target=vault`; separate parameters with blanks, not commas
    a.policy:12:29: parameter `#` has no value; put the comment on a line of its own
    a.policy:13:29: parameter `target` has no value; write `name=value`, without blanks
    a.policy:14:36: parameter `user` is given twice; keep one of them
    a.policy:15:29: action `allow` has no parameter `default_target`; `allow` takes `target`, `user`, `notify`, `autostart`
    a.policy:16:28: action `deny` has no parameter `target`; `deny` takes `notify`
    a.policy:17:27: action `ask` has no parameter `defualt_target`; did you mean `default_target`?
    a.policy:18:29: parameter `notify` is `true`, not `yes` or `no`; write `notify=yes` or `notify=no`
    a.policy:18:41: parameter `autostart` is ``, not `yes` or `no`; write `autostart=yes` or `autostart=no`
    a.policy:19:29: `@anyvm` cannot be used as a `target=`; use a qube's name, `@adminvm`, `@dispvm` or `@dispvm:BASE`
    a.policy:20:29: `target=` names nothing; write the name, class or tag after it
    a.policy:21:18: rule allows `@default` but names no destination; add `target=` with the qube to call
    a.policy:22:1: rule has 3 of the five fields it needs; write `SERVICE ARGUMENT SOURCE TARGET ACTION`, with `*` for any argument
    a.policy:23:1: `other` cannot be read: nothing can be included here; make it readable, or remove what names it
    a.policy:24:1: `compat` cannot be read: nothing can be included here; make it readable, or remove what names it
    a.policy:25:1: unknown directive `!inklude`; did you mean `!include`?
    ");
}

#[test]
fn columns_count_characters_and_lines_end_in_three_ways() {
    let rules = "# ä\r\n\rdemo.Ping\u{a0}*\twörk  mail\x1cnope\n";
    insta::assert_snapshot!(errors_of(rules), @"a.policy:3:24: unknown action `nope`; write `allow`, `ask` or `deny`");
}

#[test]
fn blanks_comments_and_empty_lines_are_no_rules() {
    let rules =
        "\n   \n# demo.Ping * work mail allow,\n\t# x\n\r\n demo.Ping  *\twork mail  allow \n";
    let engine = Engine::parse(&[text("a", 1, rules)]).unwrap();
    let printed: Vec<String> = engine.rules().iter().map(ToString::to_string).collect();
    assert_eq!(printed, ["demo.Ping * work mail allow"]);
    assert_eq!(engine.rules()[0].origin.to_string(), "a:6");
}

#[test]
fn rules_print_in_one_form_that_parses_to_the_same() {
    let rules = [
        "* * * * deny",
        "demo.Ping + @adminvm @dispvm allow notify=yes",
        "demo.Ping +a+b @tag:x @dispvm:@tag:y deny notify=no",
        "demo.Ping * @type:AppVM @default allow target=@dispvm user=root autostart=no",
        "demo.Ping * uuid:00000000-0000-0000-0000-000000000000 dom0 allow target=dom0,x user=",
        "demo.Ping * work mail ask target=@adminvm default_target=@dispvm:base user=u notify=yes",
    ];
    let engine = Engine::parse(&[text("a", 1, &rules.join("\n"))]).unwrap();
    let printed: Vec<String> = engine.rules().iter().map(ToString::to_string).collect();
    assert_eq!(printed, rules);
}

#[test]
fn a_broken_policy_denies_even_what_its_good_rules_allow() {
    let broken = [text("a", 1, "* * * * allow"), text("b", 1, "nonsense")];
    let engine = Engine::load(&broken);
    assert_eq!(engine.errors().unwrap().len(), 1);
    assert!(engine.rules().is_empty());
    let view = SystemView::new([]).unwrap();
    let decision = engine.decide(&Request::new("demo.Ping", "dom0", "dom0"), &view);
    let Decision::Deny(deny) = decision else {
        unreachable!("a broken policy allowed a call");
    };
    assert_eq!(deny.reason, DenyReason::BrokenPolicy);
    assert!(deny.notify);
}
