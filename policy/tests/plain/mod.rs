//! The plainest evaluator there is: words compared as words, every rule tried in turn, prompts
//! collected backwards as the format describes it. The engine must answer as this does.

#![allow(dead_code, unreachable_pub, reason = "shared between targets")]

use std::collections::BTreeSet;

use bulkhead_model::qube::PolicyText;
use bulkhead_policy::{Action, Decision, DenyReason, Engine, QubeView, Request, Rule, SystemView};

pub const DOM0_UUID: &str = "uuid:00000000-0000-0000-0000-000000000000";

/// Why there is no allow: a refusal of which the person is told or not, or no answer at all.
enum No {
    Deny(bool),
    Fault,
}

pub struct Machine<'a>(pub &'a [QubeView]);

pub fn is_dom0(word: &str) -> bool {
    ["@adminvm", "dom0", DOM0_UUID].contains(&word)
}

impl Machine<'_> {
    fn find(&self, word: &str) -> Option<&QubeView> {
        let is = |qube: &&QubeView| *qube.name == *word || uuid_of(qube) == word;
        self.0.iter().find(is)
    }

    /// Whether two words, neither of them a keyword of dom0, mean one qube.
    fn same(&self, one: &str, other: &str) -> bool {
        let uuid = |word: &str| self.find(word).map(uuid_of);
        match (one.strip_prefix("uuid:"), other.strip_prefix("uuid:")) {
            (Some(_), None) => uuid(other).as_deref() == Some(one),
            (None, Some(_)) => uuid(one).as_deref() == Some(other),
            _ => one == other,
        }
    }

    fn base_of(&self, source: &str) -> Result<Option<String>, No> {
        let own = self
            .find(source)
            .and_then(|qube| qube.default_dispvm.as_deref());
        match own {
            Some(base) if base.is_empty() || base.starts_with('@') => Err(No::Deny(true)),
            own => Ok(own.map(|base| format!("@dispvm:{base}"))),
        }
    }

    fn has_tag(&self, word: &str, tag: &str) -> bool {
        let has = |qube: &QubeView| qube.tags.iter().any(|own| **own == *tag);
        self.find(word).is_some_and(has)
    }

    fn is_of(&self, word: &str, class: &str) -> bool {
        self.find(word).is_some_and(|qube| *qube.class == *class)
    }

    fn is_base(&self, word: &str) -> bool {
        (self.find(word)).is_some_and(|qube| qube.template_for_dispvms)
    }

    fn runs(&self, word: &str) -> Result<bool, No> {
        if is_dom0(word) {
            return Ok(true);
        }
        if word.starts_with("@dispvm") {
            return Ok(false);
        }
        self.find(word).map(|qube| qube.running).ok_or(No::Fault)
    }
}

fn uuid_of(qube: &QubeView) -> String {
    format!("uuid:{}", qube.uuid)
}

fn matches_source(token: &str, source: &str, machine: &Machine<'_>) -> bool {
    match token {
        "*" => true,
        "@anyvm" => !is_dom0(source),
        _ if is_dom0(token) => is_dom0(source),
        _ if token.starts_with("@dispvm:") => false,
        _ => match (token.strip_prefix("@tag:"), token.strip_prefix("@type:")) {
            (Some(tag), _) => machine.has_tag(source, tag),
            (_, Some(class)) => machine.is_of(source, class),
            _ => machine.same(token, source),
        },
    }
}

fn matches_target(
    token: &str,
    wanted: &str,
    source: &str,
    machine: &Machine<'_>,
) -> Result<bool, No> {
    if let Some(tag) = token.strip_prefix("@dispvm:@tag:") {
        let own = (wanted == "@dispvm").then(|| machine.base_of(source));
        let base = own.unwrap_or_else(|| Ok(Some(wanted.to_owned())))?;
        let Some(base) = base
            .as_deref()
            .and_then(|base| base.strip_prefix("@dispvm:"))
        else {
            return Ok(false);
        };
        machine.find(base).ok_or(No::Fault)?;
        return Ok(machine.is_base(base) && machine.has_tag(base, tag));
    }
    if let Some(base) = token.strip_prefix("@dispvm:") {
        if wanted == "@dispvm" {
            return Ok(machine.base_of(source)?.ok_or(No::Fault)? == token);
        }
        let wanted = wanted.strip_prefix("@dispvm:");
        return Ok(wanted.is_some_and(|wanted| machine.same(base, wanted)));
    }
    Ok(match token {
        "*" => true,
        "@anyvm" => !is_dom0(wanted),
        _ if is_dom0(token) => is_dom0(wanted),
        "@default" | "@dispvm" => token == wanted,
        _ => match (token.strip_prefix("@tag:"), token.strip_prefix("@type:")) {
            (Some(tag), _) => machine.has_tag(wanted, tag),
            (_, Some(class)) => machine.is_of(wanted, class),
            _ => !wanted.starts_with('@') && machine.same(token, wanted),
        },
    })
}

fn expand(token: &str, machine: &Machine<'_>) -> Result<BTreeSet<String>, No> {
    let names = |fits: &dyn Fn(&QubeView) -> bool| -> BTreeSet<String> {
        let fitting = machine.0.iter().filter(|qube| fits(qube));
        fitting.map(|qube| qube.name.to_string()).collect()
    };
    let bases = |fits: &dyn Fn(&QubeView) -> bool| -> BTreeSet<String> {
        let fitting = names(&|qube| qube.template_for_dispvms && fits(qube));
        fitting
            .iter()
            .map(|name| format!("@dispvm:{name}"))
            .collect()
    };
    if let Some(tag) = token.strip_prefix("@dispvm:@tag:") {
        return Ok(bases(&|qube| machine.has_tag(&qube.name, tag)));
    }
    if let Some(base) = token.strip_prefix("@dispvm:") {
        let base = machine.find(base).ok_or(No::Fault)?;
        return Ok(bases(&|qube| qube.name == base.name));
    }
    if let Some(tag) = token.strip_prefix("@tag:") {
        return Ok(names(&|qube| machine.has_tag(&qube.name, tag)));
    }
    if let Some(class) = token.strip_prefix("@type:") {
        return Ok(names(&|qube| *qube.class == *class));
    }
    Ok(match token {
        "*" | "@anyvm" => {
            let mut all = names(&|qube| token == "*" || &*qube.name != "dom0");
            all.extend(bases(&|_| true));
            all.insert("@dispvm".to_owned());
            all
        }
        "@dispvm" | "@adminvm" => [token.to_owned()].into(),
        "@default" => BTreeSet::new(),
        _ => machine
            .find(token)
            .map(|qube| qube.name.to_string())
            .into_iter()
            .collect(),
    })
}

/// The columns and parameters of a rule, as words.
struct Words {
    service: String,
    argument: String,
    source: String,
    target: String,
    action: String,
    params: Vec<(String, String)>,
}

impl Words {
    fn of(rule: &Rule) -> Self {
        let line = rule.to_string();
        let mut words = line.split(' ').map(str::to_owned);
        let mut next = || words.next().unwrap();
        let (service, argument, source, target, action) = (next(), next(), next(), next(), next());
        let split = |word: String| {
            let (name, value) = word.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        Self {
            service,
            argument,
            source,
            target,
            action,
            params: words.map(split).collect(),
        }
    }

    fn param(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| &**value)
    }

    fn notify(&self) -> bool {
        self.param("notify")
            .map_or(self.action == "deny", |value| value == "yes")
    }

    fn autostart(&self) -> bool {
        self.param("autostart") != Some("no")
    }

    fn matches_but_target(
        &self,
        request: &Request<'_>,
        source: &str,
        machine: &Machine<'_>,
    ) -> bool {
        (self.service == "*" || self.service == request.service)
            && (self.argument == "*" || self.argument == request.argument)
            && matches_source(&self.source, source, machine)
    }
}

/// What `rules` decide, in words.
pub fn decide(rules: &[Rule], request: &Request<'_>, machine: &Machine<'_>) -> String {
    let mut at = "-".to_owned();
    match try_decide(rules, request, machine, &mut at) {
        Ok(decision) => decision,
        Err(No::Deny(notify)) => format!("deny {at} notify={notify}"),
        Err(No::Fault) => "fault".to_owned(),
    }
}

fn try_decide(
    rules: &[Rule],
    request: &Request<'_>,
    machine: &Machine<'_>,
    at: &mut String,
) -> Result<String, No> {
    let mut wanted = if request.target.is_empty() {
        "@default"
    } else {
        request.target
    };
    if let Some(base) = wanted.strip_prefix("@dispvm:") {
        if base.starts_with('@') || !machine.is_base(base) {
            return Err(No::Deny(true));
        }
    } else if wanted == "*" || wanted.starts_with('@') {
        if !["@default", "@dispvm", "@adminvm"].contains(&wanted) {
            return Err(No::Deny(true));
        }
    } else if machine.find(wanted).is_none() {
        wanted = "@default";
    }
    let mut source = request.source;
    if !request.requested_source.is_empty() {
        source = request.requested_source;
        let remote = machine.find(source).ok_or(No::Deny(true))?;
        if &*remote.class != "RemoteVM" || remote.relayvm.as_deref() != Some(request.source) {
            return Err(No::Deny(true));
        }
    }
    let words: Vec<Words> = rules.iter().map(Words::of).collect();
    for (number, rule) in words.iter().enumerate() {
        if !rule.matches_but_target(request, source, machine) {
            continue;
        }
        let matched = matches_target(&rule.target, wanted, source, machine);
        if !matches!(matched, Ok(false)) {
            *at = number.to_string();
            matched?;
            return match &*rule.action {
                "deny" => Err(No::Deny(rule.notify())),
                "allow" => allow(rule, number, request, source, wanted, machine),
                _ => ask(&words, number, request, source, machine),
            };
        }
    }
    Err(No::Deny(true))
}

fn allow(
    rule: &Words,
    number: usize,
    request: &Request<'_>,
    source: &str,
    wanted: &str,
    machine: &Machine<'_>,
) -> Result<String, No> {
    let mut target = rule.param("target").unwrap_or(wanted).to_owned();
    match &*target {
        "@default" => return Err(No::Deny(true)),
        "@dispvm" => target = machine.base_of(source)?.ok_or(No::Deny(true))?,
        "@adminvm" => target = "dom0".to_owned(),
        word => match word.strip_prefix("@dispvm:") {
            Some(base) if machine.is_base(base) => {}
            None if machine.find(word).is_some() => {}
            _ => return Err(No::Deny(true)),
        },
    }
    if !rule.autostart() && !machine.runs(&target)? {
        return Err(No::Deny(rule.notify()));
    }
    if source == target {
        return Err(No::Deny(true));
    }
    let mut relayed = String::new();
    if let Some(base) = target.strip_prefix("@dispvm:") {
        machine.find(base).ok_or(No::Fault)?;
    } else if !is_dom0(&target) {
        let qube = machine.find(&target).ok_or(No::Fault)?;
        if &*qube.class == "RemoteVM" {
            let set = |word: &Option<std::sync::Arc<str>>| {
                word.clone()
                    .filter(|word| !word.is_empty())
                    .ok_or(No::Deny(true))
            };
            let (relay, transport) = (set(&qube.relayvm)?, set(&qube.transport_rpc)?);
            machine.find(&relay).ok_or(No::Fault)?;
            relayed = format!(
                " via {relay} {transport}+{}+{}{}",
                wanted_word(request, machine),
                request.service,
                request.argument
            );
        }
    }
    // By identity: the one place where more is refused than by comparing words.
    let itself = machine.find(source).map(uuid_of);
    let by_uuid = itself.is_some() && machine.find(&target).map(uuid_of) == itself;
    if by_uuid || is_dom0(source) && is_dom0(&target) {
        return Err(No::Deny(true));
    }
    let (autostart, notify) = (rule.autostart(), rule.notify());
    Ok(format!(
        "allow {number} {target}{relayed} autostart={autostart} notify={notify}"
    ))
}

fn wanted_word<'a>(request: &Request<'a>, machine: &Machine<'_>) -> &'a str {
    let word = request.target;
    if word.is_empty() || (!word.starts_with('@') && machine.find(word).is_none()) {
        return "@default";
    }
    word
}

fn ask(
    rules: &[Words],
    number: usize,
    request: &Request<'_>,
    source: &str,
    machine: &Machine<'_>,
) -> Result<String, No> {
    let rule = &rules[number];
    let mut choices = BTreeSet::new();
    match rule.param("target") {
        Some(only) if is_dom0(only) => drop(choices.insert("dom0".to_owned())),
        Some(only) => drop(choices.insert(only.to_owned())),
        None => choices = collect(rules, request, source, machine)?,
    }
    if !rule.autostart() {
        let mut running = BTreeSet::new();
        for choice in choices {
            if machine.runs(&choice)? {
                running.insert(choice);
            }
        }
        choices = running;
    }
    if choices.is_empty() {
        return Err(No::Deny(true));
    }
    let preselected = match rule.param("default_target") {
        Some("@dispvm") => machine.base_of(source)?,
        Some(word) if is_dom0(word) => Some("dom0".to_owned()),
        word => word.map(str::to_owned),
    };
    let preselected = preselected.filter(|word| choices.contains(word));
    let (autostart, notify) = (rule.autostart(), rule.notify());
    Ok(format!(
        "ask {number} {choices:?} {preselected:?} autostart={autostart} notify={notify}"
    ))
}

fn collect(
    rules: &[Words],
    request: &Request<'_>,
    source: &str,
    machine: &Machine<'_>,
) -> Result<BTreeSet<String>, No> {
    let own = machine.find(source).ok_or(No::Fault)?;
    let mut choices = BTreeSet::new();
    for rule in rules.iter().rev() {
        if !rule.matches_but_target(request, source, machine) {
            continue;
        }
        let named = expand(rule.param("target").unwrap_or(&rule.target), machine)?;
        if rule.action == "deny" {
            choices.retain(|choice| !named.contains(choice));
        } else {
            choices.extend(named);
        }
    }
    if choices.remove("@dispvm") {
        choices.extend(machine.base_of(source)?);
    }
    if choices.remove("@adminvm") {
        choices.insert("dom0".to_owned());
    }
    choices.remove(&*own.name);
    for choice in choices.clone() {
        let name = choice.strip_prefix("@dispvm:").unwrap_or(&choice);
        if machine.find(name).ok_or(No::Fault)?.internal {
            choices.remove(&choice);
        }
    }
    Ok(choices)
}

/// The engine's answer in the words of [`decide`].
pub fn engine(engine: &Engine, request: &Request<'_>, view: &SystemView) -> String {
    let decision = engine.decide(request, view);
    let number = decision.number();
    let rule = number.map(|number| &engine.rules()[number]);
    match decision {
        Decision::Allow(allow) => {
            let relayed = allow
                .relayed_service
                .map(|service| format!(" via {} {service}", allow.target));
            format!(
                "allow {} {}{} autostart={} notify={}",
                allow.number,
                allow.named,
                relayed.unwrap_or_default(),
                allow.autostart,
                allow.notify
            )
        }
        Decision::Ask(ask) => {
            let only = rule
                .and_then(|rule| rule.action.redirect())
                .map(ToString::to_string);
            let only = only.filter(|only| !is_dom0(only));
            let word = |target: &bulkhead_policy::Destination| {
                only.clone().unwrap_or_else(|| target.to_string())
            };
            let shown: Vec<String> = ask.targets.iter().map(word).collect();
            let choices: BTreeSet<String> = shown.iter().cloned().collect();
            assert!(shown.is_sorted(), "choices are sorted");
            assert_eq!(shown.len(), choices.len(), "no choice comes twice");
            for choice in ask.targets.iter() {
                // Whatever is chosen, an answer is decided and never panics.
                let _ = ask.answer(&choice.to_string(), view);
            }
            let preselected = ask.default_target.as_ref().map(word);
            format!(
                "ask {} {choices:?} {preselected:?} autostart={} notify={}",
                ask.number, ask.autostart, ask.notify
            )
        }
        Decision::Deny(deny) if deny.reason.is_fault() => "fault".to_owned(),
        Decision::Deny(deny) => {
            // Other reasons, such as a base that is no name, are always told.
            if let (Some(rule), DenyReason::Rule) = (rule, deny.reason) {
                assert!(
                    matches!(rule.action, Action::Deny { notify } if notify == deny.notify),
                    "a deny rule tells as it says"
                );
            }
            let at = number.map_or("-".to_owned(), |number| number.to_string());
            format!("deny {at} notify={}", deny.notify)
        }
    }
}

/// Rules of lines, if they parse.
pub fn parse(lines: &[String]) -> Option<Engine> {
    Engine::parse(&[PolicyText {
        origin: "p".to_owned(),
        first_line: 1,
        text: lines.join("\n"),
    }])
    .ok()
}
