//! The engine against the plainest evaluator there is: words compared as words, every rule tried,
//! prompts collected backwards as the format describes it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::BTreeSet;

use bulkhead_model::qube::PolicyText;
use bulkhead_policy::{Decision, Engine, QubeView, Request, SystemView};
use proptest::prelude::*;
use uuid::Uuid;

const NAMES: [&str; 6] = ["work", "mail", "vault", "base", "spare", "far"];
const DOM0_UUID: &str = "uuid:00000000-0000-0000-0000-000000000000";

/// A machine as plain data.
#[derive(Debug, Clone)]
struct Machine {
    qubes: Vec<QubeView>,
}

impl Machine {
    /// A qube by any of its spellings.
    fn find(&self, word: &str) -> Option<&QubeView> {
        self.qubes.iter().find(|qube| {
            *qube.name == *word
                || format!("uuid:{}", qube.uuid) == word
                || (&*qube.name == "dom0" && word == "@adminvm")
        })
    }

    fn same(&self, one: &str, other: &str) -> bool {
        match (self.find(one), self.find(other)) {
            (Some(one), Some(other)) => one.name == other.name,
            _ => false,
        }
    }

    fn base_of(&self, source: &str) -> Option<&QubeView> {
        let base = self.find(self.find(source)?.default_dispvm.as_deref()?)?;
        base.template_for_dispvms.then_some(base)
    }
}

/// One rule as words.
#[derive(Debug, Clone)]
struct Words {
    service: String,
    argument: String,
    source: String,
    target: String,
    action: String,
    redirect: Option<String>,
    default_target: Option<String>,
    autostart: bool,
    notify: bool,
}

impl Words {
    fn line(&self) -> String {
        let mut line = format!(
            "{} {} {} {} {}",
            self.service, self.argument, self.source, self.target, self.action
        );
        if self.action != "deny" {
            if let Some(redirect) = &self.redirect {
                line += &format!(" target={redirect}");
            }
            if !self.autostart {
                line += " autostart=no";
            }
        }
        if let (Some(preselected), "ask") = (&self.default_target, &*self.action) {
            line += &format!(" default_target={preselected}");
        }
        line += if self.notify {
            " notify=yes"
        } else {
            " notify=no"
        };
        line
    }

    fn redirect(&self) -> Option<&str> {
        self.redirect.as_deref().filter(|_| self.action != "deny")
    }
}

fn matches_but_target(rule: &Words, call: &Call, machine: &Machine) -> bool {
    let source = machine.find(&call.source).unwrap();
    (rule.service == "*" || rule.service == call.service)
        && (rule.argument == "*" || rule.argument == call.argument)
        && match rule.source.as_str() {
            "*" => true,
            "@anyvm" => &*source.name != "dom0",
            word => match (word.strip_prefix("@tag:"), word.strip_prefix("@type:")) {
                (Some(tag), _) => source.tags.iter().any(|own| **own == *tag),
                (_, Some(class)) => *source.class == *class,
                _ => machine.same(word, &source.name),
            },
        }
}

fn matches_target(word: &str, wanted: &str, call: &Call, machine: &Machine) -> bool {
    let is_dom0 = machine.same(wanted, "dom0");
    let base = match wanted.strip_prefix("@dispvm") {
        Some("") => machine.base_of(&call.source),
        Some(base) => machine.find(&base[1..]),
        None => None,
    };
    let qube = machine.find(wanted);
    if let Some(tag) = word.strip_prefix("@dispvm:@tag:") {
        return base.is_some_and(|base| base.tags.iter().any(|own| **own == *tag));
    }
    if let Some(named) = word.strip_prefix("@dispvm:") {
        return base.is_some_and(|base| machine.same(&base.name, named));
    }
    if let Some(tag) = word.strip_prefix("@tag:") {
        return qube.is_some_and(|qube| qube.tags.iter().any(|own| **own == *tag));
    }
    if let Some(class) = word.strip_prefix("@type:") {
        return qube.is_some_and(|qube| *qube.class == *class);
    }
    match word {
        "*" => true,
        "@anyvm" => !is_dom0,
        "@default" | "@dispvm" => word == wanted,
        _ => machine.same(word, wanted),
    }
}

#[derive(Debug, Clone)]
struct Call {
    service: String,
    argument: String,
    source: String,
    target: String,
}

fn expand(word: &str, machine: &Machine) -> BTreeSet<String> {
    let qubes = || machine.qubes.iter();
    let disposable = |qube: &QubeView| format!("@dispvm:{}", qube.name);
    let tagged = |tag: &str| -> Vec<&QubeView> {
        qubes()
            .filter(|qube| qube.tags.iter().any(|own| **own == *tag))
            .collect()
    };
    let named = |qube: &QubeView| qube.name.to_string();
    if let Some(tag) = word.strip_prefix("@dispvm:@tag:") {
        let bases = tagged(tag)
            .into_iter()
            .filter(|qube| qube.template_for_dispvms);
        return bases.map(disposable).collect();
    }
    if let Some(base) = word.strip_prefix("@dispvm:") {
        let base = machine.find(base).filter(|base| base.template_for_dispvms);
        return base.map(disposable).into_iter().collect();
    }
    if let Some(tag) = word.strip_prefix("@tag:") {
        return tagged(tag).into_iter().map(named).collect();
    }
    if let Some(class) = word.strip_prefix("@type:") {
        return qubes()
            .filter(|qube| *qube.class == *class)
            .map(named)
            .collect();
    }
    match word {
        "*" | "@anyvm" => {
            let reach = |qube: &&QubeView| word == "*" || &*qube.name != "dom0";
            let mut all: BTreeSet<String> = qubes().filter(reach).map(named).collect();
            all.extend(
                qubes()
                    .filter(|qube| qube.template_for_dispvms)
                    .map(disposable),
            );
            all.insert("@dispvm".to_owned());
            all
        }
        "@dispvm" => ["@dispvm".to_owned()].into(),
        "@default" => BTreeSet::new(),
        _ => machine.find(word).map(named).into_iter().collect(),
    }
}

fn runs(choice: &str, machine: &Machine) -> bool {
    machine.find(choice).is_some_and(|qube| qube.running)
}

fn linear(rules: &[Words], call: &Call, machine: &Machine) -> String {
    let mut wanted = if call.target.is_empty() {
        "@default"
    } else {
        &*call.target
    }
    .to_owned();
    if let Some(base) = wanted.strip_prefix("@dispvm:") {
        if !machine
            .find(base)
            .is_some_and(|base| base.template_for_dispvms)
        {
            return "deny notify=true".to_owned();
        }
    } else if !wanted.starts_with('@') && machine.find(&wanted).is_none() {
        wanted = "@default".to_owned();
    }
    let matching = rules.iter().position(|rule| {
        matches_but_target(rule, call, machine)
            && matches_target(&rule.target, &wanted, call, machine)
    });
    let Some(position) = matching else {
        return "deny notify=true".to_owned();
    };
    let rule = &rules[position];
    let at = format!("p:{}", position + 1);
    match &*rule.action {
        "deny" => format!("deny {at} notify={}", rule.notify),
        "allow" => allow(rule, &wanted, call, machine, &at),
        _ => ask(rules, rule, call, machine, &at),
    }
}

fn allow(rule: &Words, wanted: &str, call: &Call, machine: &Machine, at: &str) -> String {
    let refused = format!("deny {at} notify=true");
    let target = rule.redirect().unwrap_or(wanted);
    let target = match target {
        "@default" => None,
        "@dispvm" => machine
            .base_of(&call.source)
            .map(|base| format!("@dispvm:{}", base.name)),
        _ => match target.strip_prefix("@dispvm:") {
            Some(base) => machine
                .find(base)
                .filter(|base| base.template_for_dispvms)
                .map(|base| format!("@dispvm:{}", base.name)),
            None => machine.find(target).map(|qube| qube.name.to_string()),
        },
    };
    let Some(target) = target else {
        return refused;
    };
    if !rule.autostart && !runs(&target, machine) {
        return format!("deny {at} notify={}", rule.notify);
    }
    if target == call.source {
        return refused;
    }
    format!(
        "allow {at} {target} autostart={} notify={}",
        rule.autostart, rule.notify
    )
}

fn ask(rules: &[Words], rule: &Words, call: &Call, machine: &Machine, at: &str) -> String {
    let mut choices = BTreeSet::new();
    if let Some(only) = rule.redirect() {
        let known = machine.find(only).map(|qube| qube.name.to_string());
        let base = only
            .strip_prefix("@dispvm:")
            .and_then(|base| machine.find(base));
        let base = base
            .filter(|base| base.template_for_dispvms)
            .map(|base| format!("@dispvm:{}", base.name));
        choices.insert(known.or(base).unwrap_or_else(|| only.to_owned()));
    } else {
        for rule in rules
            .iter()
            .rev()
            .filter(|rule| matches_but_target(rule, call, machine))
        {
            let named = expand(rule.redirect().unwrap_or(&rule.target), machine);
            if rule.action == "deny" {
                choices.retain(|choice| !named.contains(choice));
            } else {
                choices.extend(named);
            }
        }
        if choices.remove("@dispvm") {
            let base = machine.base_of(&call.source);
            choices.extend(base.map(|base| format!("@dispvm:{}", base.name)));
        }
        choices.remove(&call.source);
        choices.retain(|choice| {
            let name = choice.strip_prefix("@dispvm:").unwrap_or(choice);
            !machine.find(name).unwrap().internal
        });
    }
    choices.retain(|choice| rule.autostart || runs(choice, machine));
    if choices.is_empty() {
        return format!("deny {at} notify=true");
    }
    let preselected = rule.default_target.as_deref().and_then(|word| match word {
        "@dispvm" => machine
            .base_of(&call.source)
            .map(|base| format!("@dispvm:{}", base.name)),
        _ => match word.strip_prefix("@dispvm:") {
            Some(base) => machine
                .find(base)
                .map(|base| format!("@dispvm:{}", base.name)),
            None => machine.find(word).map(|qube| qube.name.to_string()),
        },
    });
    let preselected = preselected.filter(|word| choices.contains(word));
    format!(
        "ask {at} {choices:?} {preselected:?} autostart={} notify={}",
        rule.autostart, rule.notify
    )
}

/// The engine's answer in the words of the evaluator above.
fn engine(rules: &[Words], call: &Call, machine: &Machine) -> String {
    let text: Vec<String> = rules.iter().map(Words::line).collect();
    let engine = Engine::parse(&[PolicyText {
        origin: "p".to_owned(),
        first_line: 1,
        text: text.join("\n"),
    }])
    .unwrap();
    let view = SystemView::new(machine.qubes.iter().cloned()).unwrap();
    let name = format!("{}{}", call.service, call.argument);
    match engine.decide(&Request::new(&name, &call.source, &call.target), &view) {
        Decision::Allow(allow) => format!(
            "allow {} {} autostart={} notify={}",
            allow.rule, allow.target, allow.autostart, allow.notify
        ),
        Decision::Ask(ask) => {
            let shown: Vec<String> = ask.targets.iter().map(ToString::to_string).collect();
            let choices: BTreeSet<String> = shown.iter().cloned().collect();
            assert!(shown.is_sorted(), "choices are sorted");
            assert_eq!(shown.len(), choices.len(), "no choice comes twice");
            for choice in &shown {
                // Whatever is chosen, an answer is decided and never panics.
                let _ = ask.answer(choice, &view);
            }
            let preselected = ask.default_target.map(|target| target.to_string());
            format!(
                "ask {} {choices:?} {preselected:?} autostart={} notify={}",
                ask.rule, ask.autostart, ask.notify
            )
        }
        Decision::Deny(deny) => match deny.rule {
            Some(rule) => format!("deny {rule} notify={}", deny.notify),
            None => format!("deny notify={}", deny.notify),
        },
    }
}

fn uuid_of(number: usize) -> Uuid {
    Uuid::from_u128(number as u128 + 1)
}

/// A word for a qube, by name or UUID, sometimes of none.
fn qube_word() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (0..NAMES.len()).prop_map(|at| NAMES[at].to_owned()),
        2 => (0..NAMES.len()).prop_map(|at| format!("uuid:{}", uuid_of(at))),
        1 => prop::sample::select(vec!["dom0", DOM0_UUID, "ghost", "uuid:nonsense"])
            .prop_map(str::to_owned),
    ]
}

fn words(more: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => qube_word(),
        2 => prop::sample::select(more).prop_map(str::to_owned),
    ]
}

const SOURCES: &[&str] = &[
    "*",
    "@anyvm",
    "@adminvm",
    "@tag:a",
    "@tag:b",
    "@type:AppVM",
    "@type:AdminVM",
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
    "@default",
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
    "@dispvm:base",
    "@dispvm:vault",
    "@adminvm",
];

prop_compose! {
    fn rule()(
        service in prop::sample::select(vec!["*", "s.A", "s.B"]),
        argument in prop::sample::select(vec!["*", "*", "+", "+x"]),
        source in words(SOURCES),
        target in words(TARGETS),
        action in prop::sample::select(vec!["allow", "ask", "ask", "deny"]),
        redirect in prop::option::weighted(0.2, words(REDIRECTS)),
        default_target in prop::option::weighted(0.3, words(REDIRECTS)),
        autostart in prop::bool::weighted(0.8),
        notify in any::<bool>(),
    ) -> Words {
        let mut rule = Words {
            service: service.to_owned(),
            argument: if service == "*" { "*" } else { argument }.to_owned(),
            source,
            target,
            action: action.to_owned(),
            redirect,
            default_target,
            autostart,
            notify,
        };
        if rule.target == "@default" && rule.action == "allow" && rule.redirect.is_none() {
            rule.redirect = Some("mail".to_owned());
        }
        rule
    }
}

prop_compose! {
    fn machine()(
        tags in prop::collection::vec(prop::sample::subsequence(vec!["a", "b"], 0..=2), NAMES.len()),
        flags in prop::collection::vec(any::<[bool; 3]>(), NAMES.len()),
        bases in prop::collection::vec(prop::option::of(0..NAMES.len()), NAMES.len()),
    ) -> Machine {
        let mut qubes: Vec<QubeView> = (0..NAMES.len()).map(|at| QubeView {
            tags: tags[at].iter().map(|tag| (*tag).into()).collect(),
            running: flags[at][0],
            internal: flags[at][1] && NAMES[at] == "spare",
            template_for_dispvms: flags[at][2] || NAMES[at] == "base",
            default_dispvm: bases[at].map(|base| NAMES[base].into()),
            ..QubeView::new(NAMES[at], uuid_of(at), "AppVM")
        }).collect();
        qubes.push(QubeView::dom0());
        Machine { qubes }
    }
}

prop_compose! {
    fn call()(
        service in prop::sample::select(vec!["s.A", "s.B", "s.C"]),
        argument in prop::sample::select(vec!["+", "+x", "+xy"]),
        source in 0..NAMES.len(),
        target in words(REQUESTS),
    ) -> Call {
        Call {
            service: service.to_owned(),
            argument: argument.to_owned(),
            source: NAMES[source].to_owned(),
            target,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_engine_decides_as_the_plain_evaluator(
        rules in prop::collection::vec(rule(), 0..25),
        calls in prop::collection::vec(call(), 1..8),
        machine in machine(),
    ) {
        for call in calls {
            prop_assert_eq!(
                engine(&rules, &call, &machine),
                linear(&rules, &call, &machine),
                "{:?}", call
            );
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        let _ = Engine::load(&[PolicyText { origin: "p".to_owned(), first_line: u32::MAX, text }]);
    }
}
