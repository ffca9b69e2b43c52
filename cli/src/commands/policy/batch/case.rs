//! What is read of a line: the policy's files, the machine and the call.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bulkhead_policy::{Engine, Layout, MemoryFolders, QubeView, Request, SystemView};
use serde::de::{Deserialize, Deserializer, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::commands::policy::outcome::Outcome;

/// Where the files of a line seem to lie. Deep enough that `..` leads to folders that exist, and of
/// a name that no policy uses by chance.
const ROOT: &str = "/bulkhead-batch/policy";

#[derive(Debug, serde::Deserialize)]
struct Case<'a> {
    #[serde(borrow)]
    files: &'a RawValue,
    #[serde(borrow)]
    system_info: &'a RawValue,
    #[serde(borrow)]
    request: Call<'a>,
}

#[derive(Debug, serde::Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    service: Cow<'a, str>,
    #[serde(borrow)]
    argument: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    target: Cow<'a, str>,
    #[serde(borrow, default)]
    requested_source: Option<Cow<'a, str>>,
}

/// Answers lines. Policy and machine are kept for lines that repeat those of the line before.
#[derive(Debug, Default)]
pub(super) struct Judge {
    policy: Option<Kept<Engine>>,
    machine: Option<Kept<SystemView>>,
}

#[derive(Debug)]
struct Kept<T> {
    text: String,
    read: Result<T, String>,
}

impl<T> Kept<T> {
    fn renew<'a>(
        kept: &'a mut Option<Self>,
        raw: &RawValue,
        read: fn(&str) -> Result<T, String>,
    ) -> Result<&'a T, Outcome> {
        let text = raw.get();
        let old = kept.take().filter(|kept| kept.text == text);
        let new = || Self {
            text: text.to_owned(),
            read: read(text),
        };
        let read = &kept.insert(old.unwrap_or_else(new)).read;
        read.as_ref().map_err(Outcome::malformed)
    }
}

impl Judge {
    pub(super) fn answer(&mut self, line: &[u8]) -> Outcome {
        match self.judge(line) {
            Ok(outcome) | Err(outcome) => outcome,
        }
    }

    fn judge(&mut self, line: &[u8]) -> Result<Outcome, Outcome> {
        let case: Case<'_> =
            serde_json::from_slice(line).map_err(|error| Outcome::malformed(error.to_string()))?;
        let engine = Kept::renew(&mut self.policy, case.files, engine)?;
        if let Some(errors) = engine.errors() {
            return Ok(Outcome::of_errors(errors));
        }
        let view = Kept::renew(&mut self.machine, case.system_info, machine)?;
        if !case.request.argument.starts_with('+') {
            return Err(Outcome::Error { message: None });
        }
        let request = Request {
            service: &case.request.service,
            argument: &case.request.argument,
            source: &case.request.source,
            target: &case.request.target,
            requested_source: case.request.requested_source.as_deref().unwrap_or_default(),
        };
        Ok(Outcome::of(engine.decide(&request, view), engine))
    }
}

/// The bytes of a file. JSON can also write what is no text.
#[derive(Debug)]
struct Content(Vec<u8>);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the text of a file")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Content, E> {
                Ok(Content(bytes.to_owned()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content(text.as_bytes().to_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// The engine of some files; one that is broken if they are.
fn engine(text: &str) -> Result<Engine, String> {
    let files: BTreeMap<String, Content> =
        serde_json::from_str(text).map_err(|error| format!("`files`: {error}"))?;
    let root = Path::new(ROOT);
    let mut folders = MemoryFolders::default();
    for folder in ["run", "etc", "compat"] {
        folders.add_folder(root.join(folder));
    }
    for (path, Content(content)) in files {
        let full = root.join(&path);
        if Path::new(&path)
            .components()
            .any(|part| !matches!(part, std::path::Component::Normal(_)))
            || !folders.add(full, content)
        {
            return Err(format!("`files`: `{path}` cannot be the path of a file"));
        }
    }
    Ok(Engine::read(&folders, &Layout::under(root)).unwrap_or_else(Engine::broken))
}

#[derive(Debug, serde::Deserialize)]
struct SystemInfo {
    domains: BTreeMap<String, Domain>,
}

#[derive(Debug, serde::Deserialize)]
struct Domain {
    #[serde(rename = "type", default)]
    class: Option<String>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    template_for_dispvms: Value,
    #[serde(default)]
    default_dispvm: Option<String>,
    #[serde(default)]
    power_state: Value,
    #[serde(default)]
    internal: Value,
    #[serde(default)]
    guivm: Option<String>,
    #[serde(default)]
    uuid: Option<String>,
    #[serde(default)]
    relayvm: Option<String>,
    #[serde(default)]
    transport_rpc: Option<String>,
}

/// Whether a loosely typed switch is on.
fn is_on(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn machine(text: &str) -> Result<SystemView, String> {
    let told = |error: &dyn fmt::Display| format!("`system_info`: {error}");
    let info: SystemInfo = serde_json::from_str(text).map_err(|error| told(&error))?;
    let mut seen = HashSet::new();
    let mut odd = Vec::new();
    let mut qubes = Vec::new();
    for (number, (name, domain)) in (1_u128..).zip(info.domains) {
        let shared = |text: Option<String>| text.map(Arc::from);
        let canonical = (domain.uuid.as_deref())
            .and_then(|text| Some((text, Uuid::try_parse(text).ok()?)))
            .filter(|(text, uuid)| uuid.to_string() == *text && seen.insert(*uuid));
        if let (None, Some(text)) = (canonical, &domain.uuid) {
            odd.push((name.clone(), text.clone()));
        }
        // An identity that no text has, for a qube whose own is no UUID.
        let nowhere = Uuid::from_u128(u128::MAX - number);
        qubes.push(QubeView {
            name: name.into(),
            uuid: canonical.map_or(nowhere, |(_, uuid)| uuid),
            class: domain.class.unwrap_or_default().into(),
            tags: (domain.tags.into_iter().flatten()).map(Arc::from).collect(),
            running: domain.power_state == "Running",
            template_for_dispvms: is_on(&domain.template_for_dispvms),
            default_dispvm: shared(domain.default_dispvm),
            internal: is_on(&domain.internal),
            guivm: shared(domain.guivm),
            relayvm: shared(domain.relayvm),
            transport_rpc: shared(domain.transport_rpc),
        });
    }
    let mut view = SystemView::exactly(qubes).map_err(|error| told(&error))?;
    for (name, text) in odd {
        view.also_known_as(&name, &text);
    }
    Ok(view)
}
