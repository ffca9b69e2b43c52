//! What others ask the policy over sockets, as bytes: no I/O here.
//!
//! Two forms, those of the public policy daemon (`qrexec-policy-daemon`). A *request* is lines of
//! `key=value` up to an empty one or the end; an *evaluation* is what a socket service of dom0 gets:
//! a descriptor up to a NUL, then source, NUL and target up to the end. Whatever breaks the form
//! gets no answer at all, there as here.

use std::fmt::Write as _;

use crate::decision::{Allow, Ask, Decision, Destination};
use crate::engine::Engine;
use crate::request::Request;
use crate::token::is_dom0;
use crate::view::SystemView;

/// Most bytes of a request: the longest service with its argument has 65,000, names 63.
pub const REQUEST_BYTES_MAX: usize = 66_000;

/// Most bytes after the descriptor of an evaluation: two names and the NUL between, as there.
pub const NAMES_BYTES_MAX: usize = 96;

/// Longest source that is asked about.
const SOURCE_MAX: usize = 31;

/// Longest target that is asked about: `@dispvm:` and a name, with room.
const TARGET_MAX: usize = 63;

/// What breaks the form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// More bytes than any request has.
    #[error("it is longer than {REQUEST_BYTES_MAX} bytes")]
    TooLong,
    /// A byte that is not ASCII, or none that text has.
    #[error("it has bytes that are not text")]
    NotText,
    /// A line without `=`.
    #[error("a line has no `=`")]
    NoValue,
    /// A key twice.
    #[error("key `{0}` is given twice")]
    Twice(&'static str),
    /// A key that no request has.
    #[error("it has a key that no request has")]
    UnknownKey,
    /// A switch that is neither yes nor no.
    #[error("key `{0}` is neither `yes` nor `no`")]
    NotYesOrNo(&'static str),
    /// A key that every request has is not there.
    #[error("key `{0}` is missing")]
    Missing(&'static str),
    /// A descriptor of another service, or of none.
    #[error("the descriptor is not that of the service")]
    Descriptor,
    /// A name of a wrong length or with other characters.
    #[error("the {0} is no name")]
    Name(&'static str),
}

/// What to do about an `ask`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnAsk {
    /// Ask the person.
    #[default]
    Person,
    /// Take it as answered with the requested target.
    AssumeYes,
    /// Deny.
    Deny,
}

/// How much is told of an `allow`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Told {
    /// Everything that is needed to connect.
    #[default]
    Everything,
    /// That it is allowed.
    Verdict,
}

/// One question to the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// The qube that calls.
    pub source: String,
    /// What it asked for.
    pub target: String,
    /// Service with its argument, if there is one.
    pub service: String,
    /// The remote qube on whose behalf; empty for none.
    pub requested_source: String,
    /// What to do about an `ask`.
    pub on_ask: OnAsk,
    /// How much to tell.
    pub told: Told,
}

/// The answer, as far as policy alone has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// What to write, and what was decided.
    Done(String, Box<Decision>),
    /// The person is to be asked; then [`Query::allowed`] or [`DENIED`].
    Ask(Box<Ask>),
}

/// The answer for everything that is refused.
pub const DENIED: &str = "result=deny";

const KEYS: [&str; 6] = [
    "source",
    "intended_target",
    "service_and_arg",
    "requested_source",
    "assume_yes_for_ask",
    "just_evaluate",
];

/// Takes the bytes of one request, in whatever pieces they come.
#[derive(Debug, Default)]
pub struct RequestReader {
    bytes: Vec<u8>,
    done: bool,
}

impl RequestReader {
    /// Takes what came; true once the request is whole. What comes after its end is passed over.
    ///
    /// # Errors
    /// Where it is too long.
    pub fn push(&mut self, piece: &[u8]) -> Result<bool, QueryError> {
        for byte in piece {
            if self.done {
                break;
            }
            if *byte == b'\n' && (self.bytes.is_empty() || self.bytes.ends_with(b"\n")) {
                self.done = true;
                break;
            }
            if self.bytes.len() == REQUEST_BYTES_MAX {
                return Err(QueryError::TooLong);
            }
            self.bytes.push(*byte);
        }
        Ok(self.done)
    }

    /// Reads what came, after its end or that of the connection.
    ///
    /// # Errors
    /// Where it breaks the form.
    pub fn finish(self) -> Result<Query, QueryError> {
        let text = std::str::from_utf8(&self.bytes).ok();
        let text = text.filter(|text| {
            text.bytes()
                .all(|b| (b' '..0x7f).contains(&b) || b == b'\n')
        });
        let text = text.ok_or(QueryError::NotText)?;
        let mut values: [Option<&str>; KEYS.len()] = [None; KEYS.len()];
        for line in text.lines() {
            let (key, value) = line.split_once('=').ok_or(QueryError::NoValue)?;
            let mut known = KEYS.iter().zip(values.iter_mut());
            let (key, slot) = known
                .find(|(known, _)| **known == key)
                .ok_or(QueryError::UnknownKey)?;
            if slot.replace(value).is_some() {
                return Err(QueryError::Twice(key));
            }
        }
        let [
            source,
            target,
            service,
            requested_source,
            assume_yes,
            just_evaluate,
        ] = values;
        let given =
            |value: Option<&str>, key| value.map(ToOwned::to_owned).ok_or(QueryError::Missing(key));
        let is_yes = |value: Option<&str>, key| match value {
            None | Some("no") => Ok(false),
            Some("yes") => Ok(true),
            Some(_) => Err(QueryError::NotYesOrNo(key)),
        };
        let just_evaluate = is_yes(just_evaluate, "just_evaluate")?;
        Ok(Query {
            source: given(source, "source")?,
            target: given(target, "intended_target")?,
            service: given(service, "service_and_arg")?,
            requested_source: requested_source.unwrap_or_default().to_owned(),
            on_ask: match (is_yes(assume_yes, "assume_yes_for_ask")?, just_evaluate) {
                (true, _) => OnAsk::AssumeYes,
                (false, true) => OnAsk::Deny,
                (false, false) => OnAsk::Person,
            },
            told: if just_evaluate {
                Told::Verdict
            } else {
                Told::Everything
            },
        })
    }
}

/// An evaluation that a qube asks for through a socket service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// The qube that asks.
    pub caller: String,
    /// What it asks.
    pub query: Query,
}

/// Reads the bytes of a whole connection of socket service `service`: descriptor, NUL, source, NUL,
/// target.
///
/// # Errors
/// Where they break the form.
pub fn read_evaluation(service: &str, bytes: &[u8]) -> Result<Evaluation, QueryError> {
    let nul = |bytes: &[u8]| bytes.iter().position(|byte| *byte == 0);
    let end = nul(bytes).ok_or(QueryError::Descriptor)?;
    let (descriptor, names) = bytes.split_at_checked(end).ok_or(QueryError::Descriptor)?;
    let descriptor = std::str::from_utf8(descriptor).map_err(|_| QueryError::Descriptor)?;
    let mut words = descriptor.split(' ');
    let (called, caller) = (words.next(), words.next());
    let queried = called
        .and_then(|called| called.strip_prefix(service)?.strip_prefix('+'))
        .filter(|queried| !queried.is_empty() && !queried.starts_with('+'))
        .filter(|queried| queried.bytes().all(|b| is_name_byte(b) || b == b'+'))
        .ok_or(QueryError::Descriptor)?;
    let caller = caller.ok_or(QueryError::Descriptor)?;
    let names = names.get(1..).unwrap_or_default();
    let names = names.get(..NAMES_BYTES_MAX).unwrap_or(names);
    let middle = nul(names).ok_or(QueryError::Name("target"))?;
    let (source, target) = names.split_at_checked(middle).unwrap_or_default();
    let name = |bytes: &[u8], longest, what| {
        let fits = (1..=longest).contains(&bytes.len()) && bytes.iter().all(|b| is_name_byte(*b));
        let text = std::str::from_utf8(bytes).ok().filter(|_| fits);
        text.map(ToOwned::to_owned).ok_or(QueryError::Name(what))
    };
    Ok(Evaluation {
        caller: caller.to_owned(),
        query: Query {
            source: name(source, SOURCE_MAX, "source")?,
            target: name(target.get(1..).unwrap_or_default(), TARGET_MAX, "target")?,
            service: queried.to_owned(),
            requested_source: String::new(),
            on_ask: OnAsk::AssumeYes,
            told: Told::Verdict,
        },
    })
}

/// Longest useful connection of [`read_evaluation`]: what comes later is not looked at.
pub const EVALUATION_BYTES_MAX: usize = REQUEST_BYTES_MAX + NAMES_BYTES_MAX;

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"@_-.".contains(&byte)
}

impl Evaluation {
    /// Whether the caller shows the windows of both qubes, as `policy.EvalGUI` wants it.
    pub fn is_of_gui_domain(&self, view: &SystemView) -> bool {
        let tag = format!("guivm-{}", self.caller);
        [&self.query.source, &self.query.target].iter().all(|name| {
            let qubes = view.qubes().iter();
            let mut named = qubes.filter(|qube| *qube.name == ***name);
            named.any(|q| q.guivm.as_deref() == Some(&self.caller) || q.has_tag(&tag))
        })
    }
}

impl Query {
    /// Answers from policy.
    pub fn answer(&self, engine: &Engine, view: &SystemView) -> Reply {
        let request = Request::new(&self.service, &self.source, &self.target)
            .on_behalf_of(&self.requested_source);
        let decided = match engine.decide(&request, view) {
            Decision::Ask(ask) => match self.on_ask {
                OnAsk::Person => return Reply::Ask(Box::new(ask)),
                OnAsk::Deny => Decision::Deny(ask.refuse()),
                OnAsk::AssumeYes => match ask.answer(&requested(&ask, view), view) {
                    Ok(allow) => Decision::Allow(allow),
                    Err(deny) => Decision::Deny(deny),
                },
            },
            decided => decided,
        };
        let text = match &decided {
            Decision::Allow(allow) => self.allowed(allow),
            Decision::Ask(_) | Decision::Deny(_) => DENIED.to_owned(),
        };
        Reply::Done(text, Box::new(decided))
    }

    /// The answer for a call that is allowed.
    pub fn allowed(&self, allow: &Allow) -> String {
        match self.told {
            Told::Everything => allowed(allow, !self.requested_source.is_empty()),
            Told::Verdict => "result=allow".to_owned(),
        }
    }
}

/// The requested target in the words in which it is offered.
fn requested(ask: &Ask, view: &SystemView) -> String {
    let wanted = ask.requested_target.as_str();
    if is_dom0(wanted) || wanted == "@adminvm" {
        return "dom0".to_owned();
    }
    let index = view.find(wanted);
    index.map_or_else(
        || wanted.to_owned(),
        |index| view.get(index).name.to_string(),
    )
}

/// The lines that tell how to connect.
fn allowed(allow: &Allow, is_relayed: bool) -> String {
    let user = allow.user.as_deref().unwrap_or("DEFAULT");
    let mut text = format!("user={user}\nresult=allow\ntarget={}", allow.target);
    let uuid = match &allow.target {
        Destination::Qube { uuid, .. } => Some(format!("uuid:{uuid}")),
        Destination::NewDisposable { uuid, .. } => Some(format!("@dispvm:uuid:{uuid}")),
        Destination::Dom0 | Destination::Nothing { .. } => None,
    };
    if let Some(uuid) = &uuid {
        // Writing to a String cannot fail.
        let _ = write!(text, "\ntarget_uuid={uuid}");
    }
    let autostart = if allow.autostart { "True" } else { "False" };
    let requested = &allow.requested_target;
    let _ = write!(
        text,
        "\nautostart={autostart}\nrequested_target={requested}"
    );
    if let Some(service) = &allow.relayed_service {
        let _ = write!(text, "\nservice={service}");
    }
    if is_relayed && uuid.is_some() {
        let _ = write!(text, "\npolicy_source={}", allow.source);
    }
    text
}

#[cfg(test)]
mod tests {
    use bulkhead_model::qube::PolicyText;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::view::QubeView;

    fn view() -> SystemView {
        let qube = |number: u128, name: &str, class: &str| {
            QubeView::new(name, Uuid::from_u128(number), class)
        };
        let work = QubeView {
            default_dispvm: Some("dvm".into()),
            guivm: Some("gui".into()),
            ..qube(1, "work", "AppVM")
        };
        let dvm = QubeView {
            template_for_dispvms: true,
            ..qube(2, "dvm", "AppVM")
        };
        let far = QubeView {
            relayvm: Some("relay".into()),
            transport_rpc: Some("t.T".into()),
            ..qube(3, "far", "RemoteVM")
        };
        let vault = QubeView {
            guivm: Some("gui".into()),
            ..qube(5, "vault", "AppVM")
        };
        SystemView::new([work, dvm, far, qube(4, "relay", "AppVM"), vault]).unwrap()
    }

    fn engine() -> Engine {
        let text = "\
            a.Allow * * vault allow user=root\n\
            a.Disp * * @dispvm allow autostart=yes\n\
            a.Dom0 * * @adminvm allow\n\
            a.Far * * far allow autostart=yes\n\
            a.Near * far work allow\n\
            a.Ask * * vault ask\n";
        Engine::parse(&[PolicyText {
            origin: "t".into(),
            first_line: 1,
            text: text.into(),
        }])
        .unwrap()
    }

    fn read(text: &str) -> Result<Query, QueryError> {
        let mut reader = RequestReader::default();
        reader.push(text.as_bytes())?;
        reader.finish()
    }

    #[track_caller]
    fn answer(text: &str) -> String {
        match read(text).unwrap().answer(&engine(), &view()) {
            Reply::Done(text, _) => text,
            Reply::Ask(ask) => format!("asks with {:?}", ask.targets.len()),
        }
    }

    fn request(source: &str, target: &str, service: &str, more: &str) -> String {
        format!("source={source}\nintended_target={target}\nservice_and_arg={service}\n{more}\n")
    }

    #[test]
    fn what_is_allowed_is_told_as_far_as_it_is_asked_for() {
        let answers = [
            answer(&request("work", "vault", "a.Allow+x", "")),
            answer(&request("work", "@dispvm", "a.Disp", "")),
            answer(&request("work", "dom0", "a.Dom0", "")),
            answer(&request("work", "far", "a.Far+x", "")),
            answer(&request(
                "relay",
                "work",
                "a.Near",
                "requested_source=far\n",
            )),
            answer(&request("work", "vault", "a.Allow", "just_evaluate=yes\n")),
            answer(&request("work", "vault", "a.None", "")),
            answer(&request("work", "work", "a.Allow", "")),
        ];
        insta::assert_snapshot!(answers.join("\n--\n"), @r"
        user=root
        result=allow
        target=vault
        target_uuid=uuid:00000000-0000-0000-0000-000000000005
        autostart=True
        requested_target=vault
        --
        user=DEFAULT
        result=allow
        target=@dispvm:dvm
        target_uuid=@dispvm:uuid:00000000-0000-0000-0000-000000000002
        autostart=True
        requested_target=@dispvm
        --
        user=DEFAULT
        result=allow
        target=dom0
        autostart=True
        requested_target=dom0
        --
        user=DEFAULT
        result=allow
        target=relay
        target_uuid=uuid:00000000-0000-0000-0000-000000000004
        autostart=True
        requested_target=far
        service=t.T+far+a.Far+x
        --
        user=DEFAULT
        result=allow
        target=work
        target_uuid=uuid:00000000-0000-0000-0000-000000000001
        autostart=True
        requested_target=work
        policy_source=far
        --
        result=allow
        --
        result=deny
        --
        result=deny
        ");
    }

    #[test]
    fn questions_are_asked_assumed_or_denied() {
        let ask = |more: &str| answer(&request("work", "vault", "a.Ask", more));
        assert_eq!(ask(""), "asks with 1");
        assert_eq!(ask("just_evaluate=yes\n"), DENIED);
        assert_eq!(
            ask("just_evaluate=yes\nassume_yes_for_ask=yes\n"),
            "result=allow"
        );
        assert!(ask("assume_yes_for_ask=yes\n").contains("target=vault\n"));
        let by_uuid = format!("uuid:{}", Uuid::from_u128(5));
        let by_uuid = request("work", &by_uuid, "a.Ask", "assume_yes_for_ask=yes\n");
        assert!(answer(&by_uuid).contains("target=vault\n"));
    }

    #[test]
    fn whatever_breaks_the_form_is_told_apart() {
        let good = "source=a\nintended_target=b\nservice_and_arg=c\n";
        assert!(read(good).is_ok(), "the end of the connection ends it");
        assert!(read(&format!("{good}\nignored")).is_ok());
        for (text, error) in [
            (format!("{good}source=a\n"), QueryError::Twice("source")),
            (format!("domain_id=1\n{good}"), QueryError::UnknownKey),
            (
                "source=a\n\n".into(),
                QueryError::Missing("intended_target"),
            ),
            (
                format!("{good}just_evaluate=1\n"),
                QueryError::NotYesOrNo("just_evaluate"),
            ),
            (format!("{good}nothing\n"), QueryError::NoValue),
            (good.replace('b', "\u{e9}"), QueryError::NotText),
            (good.replace('b', "\u{1b}"), QueryError::NotText),
            (String::new(), QueryError::Missing("source")),
        ] {
            assert_eq!(read(&text), Err(error), "{text}");
        }
        let mut reader = RequestReader::default();
        assert_eq!(reader.push(&vec![b'a'; REQUEST_BYTES_MAX]), Ok(false));
        assert_eq!(reader.push(b"a"), Err(QueryError::TooLong));
    }

    #[test]
    fn an_evaluation_is_read_and_bound_to_the_gui_domain() {
        let read = |bytes: &[u8]| read_evaluation("policy.EvalGUI", bytes);
        let good = read(b"policy.EvalGUI+a.Allow+x gui keyword adminvm\0work\0vault").unwrap();
        assert_eq!(good.query.service, "a.Allow+x");
        assert!(good.is_of_gui_domain(&view()));
        let other = read(b"policy.EvalGUI+a.Allow work\0work\0vault").unwrap();
        assert!(!other.is_of_gui_domain(&view()));
        let reply = good.query.answer(&engine(), &view());
        assert!(matches!(reply, Reply::Done(text, _) if text == "result=allow"));
        for bad in [
            &b"policy.EvalGUI gui\0work\0vault"[..],
            b"policy.EvalGUI+ gui\0work\0vault",
            b"policy.EvalGUI++x gui\0work\0vault",
            b"policy.EvalSimple+a gui\0work\0vault",
            b"policy.EvalGUI+a\0work\0vault",
            b"policy.EvalGUI+a gui\0work",
            b"policy.EvalGUI+a gui\0\0vault",
            b"policy.EvalGUI+a gui\0work\0",
            b"policy.EvalGUI+a gui\0wo rk\0vault",
            b"policy.EvalGUI+a gui\0work\0va\0ult",
            b"",
        ] {
            assert!(read(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let long = [&b"policy.EvalGUI+a gui\0work\0"[..], &[b'a'; 64]].concat();
        assert_eq!(read(&long), Err(QueryError::Name("target")));
        assert!(read(&long[..long.len() - 1]).is_ok());
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(text in "[a-z_=\n]{0,200}", cuts in prop::collection::vec(1usize..9, 0..40)) {
            let mut pieces = RequestReader::default();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                pieces.push(now).unwrap();
                rest = later;
            }
            pieces.push(rest).unwrap();
            prop_assert_eq!(pieces.finish(), read(&text));
        }
    }
}
