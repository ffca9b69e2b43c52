use super::*;
use crate::testing;

fn found(rules: &str) -> String {
    let (description, engine, view) = testing::desktop(rules);
    let shown = lint(&engine, &description, &view);
    shown.iter().map(ToString::to_string).collect()
}

#[test]
fn rules_that_are_never_reached_are_named_with_what_takes_their_calls() {
    insta::assert_snapshot!(found("\
qubes.Filecopy * @anyvm vault deny
qubes.Filecopy +x work vault allow
qubes.Filecopy * @tag:office vault deny
qubes.OpenURL * work @anyvm allow target=mail
qubes.OpenURL * work @default allow target=vault
"), @r"
    warning: rule is never reached: a.policy:1 takes every call: qubes.Filecopy * @anyvm vault deny
      --> a.policy:2: qubes.Filecopy +x work vault allow
      = help: put it before that rule if it is to be an exception, or remove it
    warning: rule is never reached: a.policy:1 takes every call: qubes.Filecopy * @anyvm vault deny
      --> a.policy:3: qubes.Filecopy * @tag:office vault deny
      = help: remove it, or make the earlier rule narrower
    warning: rule is never reached: a.policy:4 takes every call: qubes.OpenURL * work @anyvm allow target=mail
      --> a.policy:5: qubes.OpenURL * work @default allow target=vault
      = help: remove it, or make the earlier rule narrower
    ");
}

#[test]
fn what_only_looks_shadowed_is_left_alone() {
    // Neither takes all calls of a later one, or a prompt still needs it.
    assert_eq!(
        found(
            "\
qubes.Gpg * @anyvm vault deny
qubes.Gpg * dom0 vault allow
qubes.Gpg * work @type:AppVM deny
qubes.Gpg * work mail ask
qubes.GetDate + work vault deny
qubes.GetDate * work vault allow
qubes.OpenURL * work mail ask
qubes.OpenURL * work @anyvm ask target=mail
qubes.OpenURL * work vault deny
"
        ),
        ""
    );
}

#[test]
fn a_rule_that_earlier_ones_leave_no_call_of_this_machine_is_noted() {
    insta::assert_snapshot!(found("\
qubes.Filecopy * vault work deny
qubes.Filecopy * vault mail allow
qubes.Filecopy * vault @tag:office ask target=mail
qubes.Filecopy * work @tag:office allow
qubes.Filecopy * work mail allow
"), @r"
    note: rule is never reached on this machine: a.policy:1, a.policy:2 take every call
      --> a.policy:3: qubes.Filecopy * vault @tag:office ask target=mail
      = help: put it before them if it is to be an exception, or remove it
    note: rule is never reached on this machine: a.policy:4 takes every call
      --> a.policy:5: qubes.Filecopy * work mail allow
      = help: put it before them if it is to be an exception, or remove it
    ");
    // The person may be offered what the rule names.
    assert_eq!(
        found(
            "\
qubes.Gpg * mail work deny
qubes.Gpg * mail @tag:office allow target=vault
qubes.Gpg * mail @default ask
"
        ),
        ""
    );
}

#[test]
fn names_of_nothing_are_named() {
    insta::assert_snapshot!(found("\
qubes.FileCopy * wrok vault deny
qubes.Gpg * @tag:ofice @type:AppVm deny
qubes.Gpg * mail @dispvm:work deny
qubes.Gpg * mail @dispvm:@tag:none deny
my.Own * debian uuid:00000000-0000-4000-8000-000000000000 deny
qubes.Gpg * disp123 vault deny
qubes.GetDate * work @anyvm ask target=vualt default_target=@dispvm:frsh
"), @r"
warning: there is no service `qubes.FileCopy`
  --> a.policy:1: qubes.FileCopy * wrok vault deny
  = help: did you mean `qubes.Filecopy`?
warning: there is no qube `wrok`
  --> a.policy:1: qubes.FileCopy * wrok vault deny
  = help: did you mean `work`?
warning: no qube has the tag `ofice`
  --> a.policy:2: qubes.Gpg * @tag:ofice @type:AppVm deny
  = help: did you mean `office`?
warning: there is no class `AppVm`
  --> a.policy:2: qubes.Gpg * @tag:ofice @type:AppVm deny
  = help: did you mean `AppVM`?
warning: no disposable can be made of `work`
  --> a.policy:3: qubes.Gpg * mail @dispvm:work deny
  = help: give `work` `kind: DisposableTemplate`, or name a qube of that kind
warning: no qube has the tag `none`
  --> a.policy:4: qubes.Gpg * mail @dispvm:@tag:none deny
  = help: give it to a qube, or remove the rule
note: `my.Own` is no service of Bulkhead or Qubes
  --> a.policy:5: my.Own * debian uuid:00000000-0000-4000-8000-000000000000 deny
  = help: nothing, if a qube brings it; otherwise check its name
warning: `debian` is a template image, which takes part in no call
  --> a.policy:5: my.Own * debian uuid:00000000-0000-4000-8000-000000000000 deny
  = help: name a qube, for example one of kind `Template` made of it
warning: there is no qube `vualt`
  --> a.policy:7: qubes.GetDate * work @anyvm ask target=vualt default_target=@dispvm:frsh
  = help: did you mean `vault`?
warning: there is no qube `frsh`
  --> a.policy:7: qubes.GetDate * work @anyvm ask target=vualt default_target=@dispvm:frsh
  = help: did you mean `fresh`?
warning: `@dispvm:frsh` is never among the choices, so nothing is preselected
  --> a.policy:7: qubes.GetDate * work @anyvm ask target=vualt default_target=@dispvm:frsh
  = help: add a rule that asks about it or allows it, or change `default_target=`
");
}

#[test]
fn rules_that_are_wide_are_told() {
    insta::assert_snapshot!(found("\
qubes.Gpg * work * ask
* * mail dom0 allow
qubes.Filecopy * @anyvm @anyvm allow
qubes.OpenURL * work @anyvm allow
qubes.GetDate * @anyvm vault allow
"), @r"
warning: rule asks about calls to dom0: target `*` includes it
  --> a.policy:1: qubes.Gpg * work * ask
  = help: write `@anyvm` for every qube but dom0
warning: rule allows every service of dom0
  --> a.policy:2: * * mail dom0 allow
  = help: name the services that dom0 is to offer
warning: every qube may call every other, and nobody is asked
  --> a.policy:3: qubes.Filecopy * @anyvm @anyvm allow
  = help: name sources or targets, or let it `ask`
warning: `work` may call every qube, and nobody is asked
  --> a.policy:4: qubes.OpenURL * work @anyvm allow
  = help: name the targets, or let it `ask`
note: every qube may make this call, and nobody is asked
  --> a.policy:5: qubes.GetDate * @anyvm vault allow
  = help: nothing, if the service may hear from any qube; otherwise name the sources
");
}

#[test]
fn rules_that_connect_nothing_are_told() {
    insta::assert_snapshot!(found("\
qubes.Gpg * @dispvm:fresh vault allow
qubes.Gpg * work work allow
qubes.Gpg * vault @dispvm allow
qubes.OpenURL * work @dispvm allow autostart=no
qubes.OpenURL * mail vault ask target=@dispvm
qubes.Filecopy * work vault ask default_target=mail
qubes.OpenInVM * mail mail ask
"), @r"
warning: no caller is ever `@dispvm:fresh`
  --> a.policy:1: qubes.Gpg * @dispvm:fresh vault allow
  = help: name disposables by tag, as `@tag:NAME`, or by class, as `@type:DispVM`
warning: rule matches calls and denies each: a qube cannot call itself
  --> a.policy:2: qubes.Gpg * work work allow
  = help: name another target: no qube calls itself
warning: rule matches calls and denies each: the rule allows a disposable, but the caller has no default disposable template
  --> a.policy:3: qubes.Gpg * vault @dispvm allow
  = help: give the callers a `default_dispvm`
warning: rule never connects: a new disposable does not run, and `autostart=no`
  --> a.policy:4: qubes.OpenURL * work @dispvm allow autostart=no
  = help: remove `autostart=no`
warning: what the prompt offers can never be chosen: `@dispvm` has no base there
  --> a.policy:5: qubes.OpenURL * mail vault ask target=@dispvm
  = help: write `target=@dispvm:BASE`
warning: `mail` is never among the choices, so nothing is preselected
  --> a.policy:6: qubes.Filecopy * work vault ask default_target=mail
  = help: add a rule that asks about it or allows it, or change `default_target=`
warning: rule matches calls and denies each: the rule asks, but there is no target to choose
  --> a.policy:7: qubes.OpenInVM * mail mail ask
  = help: add a rule that asks about or allows a target for these callers
");
}

#[test]
fn a_rule_is_judged_by_the_arguments_that_are_left_to_it() {
    // Without argument only the caller itself is left to the second rule; with one, mail is.
    assert_eq!(
        found(
            "\
qubes.Gpg + work mail deny
qubes.Gpg * work @tag:office allow
"
        ),
        ""
    );
}

#[test]
fn a_large_policy_is_read_soon() {
    let rules: String = (0..2_000)
        .map(|n| format!("qubes.Gpg +a{n} work vault deny\nqubes.Gpg +a{n} @anyvm vault deny\n"))
        .collect();
    assert_eq!(found(&rules), "");
}
