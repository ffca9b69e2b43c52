//! Trigger messages: how a guest asks for a call.
//!
//! | version | body |
//! |---|---|
//! | 2 | service (64), target (32), ident (32) |
//! | 3 | target (64), ident (32), service and NUL (1 to 65,000) |
//! | 4 | source (64), target (64), ident (32), service and NUL (1 to 65,000) |
//!
//! In dom0 every byte of it is hostile: [`UntrustedTrigger::validate`] is the only way to a
//! [`Trigger`]. An agent passes on what its callers send, in the form that the link's version
//! has ([`UntrustedTrigger::forward`]).

use super::frame::message;
use super::{CONTROL_BODY_MAX, FrameError, IDENT_LEN, Ident, Kind, SERVICE_FIELD_MAX, Version};
use thiserror::Error;

/// Service that takes back the request of the same identifier, whose caller is gone. It is asked
/// for like any other, so that a dom0 which does not know it refuses a call that nobody waits for
/// and the link goes on; one that knows it answers nothing.
pub const WITHDRAW: &str = "bulkhead.Withdraw";

const NAME_LEN: usize = 64;
const V2_SERVICE_LEN: usize = 64;
const V2_TARGET_LEN: usize = 32;

/// A trigger as it came, only cut into its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UntrustedTrigger {
    version: Version,
    untrusted_source: [u8; NAME_LEN],
    untrusted_target: [u8; NAME_LEN],
    untrusted_ident: [u8; IDENT_LEN],
    /// With its NUL in versions 3 and 4; the whole field in version 2.
    untrusted_service: Vec<u8>,
}

/// A request for a call whose fields cannot surprise anybody downstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Claimed source of a relayed call; empty if there is none.
    pub source: String,
    /// Wanted target, `[A-Za-z0-9_.@:-]`, possibly empty.
    pub target: String,
    /// Service, with `+argument` if there is one, `[A-Za-z0-9_.+-]`.
    pub service: String,
    /// To be handed back in the answer.
    pub ident: Ident,
}

/// A trigger that cannot be taken or sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TriggerError {
    /// Not a trigger.
    #[error("message {0:?} is no trigger")]
    Kind(Kind),
    /// Not a possible length.
    #[error("trigger {kind:?} of {len} bytes has no valid length")]
    Length {
        /// The kind.
        kind: Kind,
        /// Bytes of its body.
        len: usize,
    },
    /// The service field is not one NUL-terminated string.
    #[error("service name in a trigger is not terminated at its end")]
    Unterminated,
    /// No service.
    #[error("service name in a trigger is empty")]
    NoService,
    /// The request identifier has bytes it may not have.
    #[error("request identifier in a trigger is malformed")]
    Ident,
    /// A field is longer than the version can carry.
    #[error("{field} of {len} bytes does not fit a trigger of version {}", version.number())]
    TooLong {
        /// Which.
        field: &'static str,
        /// Its bytes.
        len: usize,
        /// Of the link.
        version: Version,
    },
    /// A relayed call on a link that cannot carry its source.
    #[error("a source can be named from version 4 on, the link has {}", version.number())]
    SourceUnsupported {
        /// Of the link.
        version: Version,
    },
}

impl UntrustedTrigger {
    /// Cuts a body into its fields.
    ///
    /// # Errors
    /// [`TriggerError::Kind`] and [`TriggerError::Length`].
    pub fn parse(kind: Kind, body: &[u8]) -> Result<Self, TriggerError> {
        let bad = TriggerError::Length {
            kind,
            len: body.len(),
        };
        let mut it = Self {
            version: Version::V2,
            untrusted_source: [0; NAME_LEN],
            untrusted_target: [0; NAME_LEN],
            untrusted_ident: [0; IDENT_LEN],
            untrusted_service: Vec::new(),
        };
        match kind {
            Kind::Trigger2 => {
                let (service, rest) = body.split_first_chunk::<V2_SERVICE_LEN>().ok_or(bad)?;
                let (target, rest) = rest.split_first_chunk::<V2_TARGET_LEN>().ok_or(bad)?;
                let ident: &[u8; IDENT_LEN] = rest.try_into().map_err(|_| bad)?;
                it.untrusted_service = service.to_vec();
                if let Some(front) = it.untrusted_target.first_chunk_mut() {
                    *front = *target;
                }
                // The field is shorter than ours: its last byte is where the NUL must be.
                if let Some(last) = it.untrusted_target.get_mut(V2_TARGET_LEN - 1) {
                    *last = 0;
                }
                it.untrusted_ident = *ident;
                return Ok(it);
            }
            Kind::Trigger3 => it.version = Version::V3,
            Kind::Trigger4 => it.version = Version::V4,
            other => return Err(TriggerError::Kind(other)),
        }
        let mut rest = body;
        if it.version == Version::V4 {
            let (source, after) = rest.split_first_chunk::<NAME_LEN>().ok_or(bad)?;
            it.untrusted_source = *source;
            rest = after;
        }
        let (target, rest) = rest.split_first_chunk::<NAME_LEN>().ok_or(bad)?;
        let (ident, service) = rest.split_first_chunk::<IDENT_LEN>().ok_or(bad)?;
        if service.is_empty() || service.len() > SERVICE_FIELD_MAX {
            return Err(bad);
        }
        it.untrusted_target = *target;
        it.untrusted_ident = *ident;
        it.untrusted_service = service.to_vec();
        Ok(it)
    }

    /// The version whose form the message had.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Checks and cleans every field (dom0's side).
    ///
    /// # Errors
    /// [`TriggerError`] for what cannot be cleaned.
    pub fn validate(self) -> Result<Trigger, TriggerError> {
        let ident = Ident::from_field(&self.untrusted_ident).ok_or(TriggerError::Ident)?;
        let service = match self.version {
            Version::V2 => until_nul(&self.untrusted_service, V2_SERVICE_LEN - 1),
            Version::V3 | Version::V4 => match self.untrusted_service.split_last() {
                Some((0, text)) if !text.contains(&0) => text,
                _ => return Err(TriggerError::Unterminated),
            },
        };
        if matches!(service.first(), None | Some(b'+')) {
            return Err(TriggerError::NoService);
        }
        Ok(Trigger {
            source: clean(until_nul(&self.untrusted_source, NAME_LEN - 1), b"_.-@:"),
            target: clean(until_nul(&self.untrusted_target, NAME_LEN - 1), b"_.-@:"),
            service: clean(service, b"_.-+"),
            ident,
        })
    }

    /// The same request under another identifier, in the form of `version` (an agent's side).
    ///
    /// # Errors
    /// [`TriggerError`] if that version cannot say it.
    pub fn forward(&self, version: Version, ident: &Ident) -> Result<Vec<u8>, TriggerError> {
        let source = until_nul(&self.untrusted_source, NAME_LEN);
        let target = until_nul(&self.untrusted_target, NAME_LEN);
        let service = match self.version {
            Version::V2 => until_nul(&self.untrusted_service, V2_SERVICE_LEN),
            Version::V3 | Version::V4 => match self.untrusted_service.split_last() {
                Some((0, text)) => text,
                _ => return Err(TriggerError::Unterminated),
            },
        };
        encode(version, source, target, service, ident)
    }
}

impl Trigger {
    /// A request as a caller makes it: `$` in the target is the old spelling of `@`.
    #[must_use]
    pub fn ask(source: &str, target: &str, service: &str) -> Self {
        Self {
            source: source.into(),
            target: target.replace('$', "@"),
            service: service.into(),
            ident: Ident::placeholder(),
        }
    }

    /// The message in the form of `version`.
    ///
    /// # Errors
    /// [`TriggerError`] if that version cannot say it.
    pub fn encode(&self, version: Version) -> Result<Vec<u8>, TriggerError> {
        let (source, target) = (self.source.as_bytes(), self.target.as_bytes());
        encode(
            version,
            source,
            target,
            self.service.as_bytes(),
            &self.ident,
        )
    }
}

fn encode(
    version: Version,
    source: &[u8],
    target: &[u8],
    service: &[u8],
    ident: &Ident,
) -> Result<Vec<u8>, TriggerError> {
    if service.is_empty() || service.starts_with(b"+") {
        return Err(TriggerError::NoService);
    }
    if service.contains(&0) {
        return Err(TriggerError::Unterminated);
    }
    if !source.is_empty() && version < Version::V4 {
        return Err(TriggerError::SourceUnsupported { version });
    }
    let fit = |field: &'static str, bytes: &[u8], size: usize| {
        // One byte stays for the NUL.
        if bytes.len() < size {
            let mut out = bytes.to_vec();
            out.resize(size, 0);
            Ok(out)
        } else {
            Err(TriggerError::TooLong {
                field,
                len: bytes.len(),
                version,
            })
        }
    };
    let ident = ident.encode();
    let service_len = (service.len() + 1).min(SERVICE_FIELD_MAX);
    let (kind, parts) = match version {
        Version::V2 => (
            Kind::Trigger2,
            [
                fit("service", service, V2_SERVICE_LEN)?,
                fit("target", target, V2_TARGET_LEN)?,
                ident.to_vec(),
                Vec::new(),
            ],
        ),
        Version::V3 => (
            Kind::Trigger3,
            [
                fit("target", target, NAME_LEN)?,
                ident.to_vec(),
                fit("service", service, service_len)?,
                Vec::new(),
            ],
        ),
        Version::V4 => (
            Kind::Trigger4,
            [
                fit("source", source, NAME_LEN)?,
                fit("target", target, NAME_LEN)?,
                ident.to_vec(),
                fit("service", service, service_len)?,
            ],
        ),
    };
    let [a, b, c, d] = &parts;
    message(kind, CONTROL_BODY_MAX, &[a, b, c, d]).map_err(|error| match error {
        FrameError::TooLong { len, .. } => TriggerError::TooLong {
            field: "trigger",
            len: len as usize,
            version,
        },
        FrameError::UnknownKind { .. } => TriggerError::Kind(kind),
    })
}

/// Text up to the first NUL, at most `max` bytes.
fn until_nul(field: &[u8], max: usize) -> &[u8] {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    field.get(..end.min(max)).unwrap_or(field)
}

/// Replaces whatever is not alphanumeric or in `also` by `_`.
fn clean(untrusted: &[u8], also: &[u8]) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || also.contains(&b);
    untrusted
        .iter()
        .map(|&b| if keep(b) { char::from(b) } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(kind: Kind, len: usize) -> Result<UntrustedTrigger, TriggerError> {
        UntrustedTrigger::parse(kind, &vec![0; len])
    }

    fn trigger3(service: &[u8]) -> Result<Trigger, TriggerError> {
        let mut body = vec![0; 96];
        body[..6].copy_from_slice(b"a b/$c");
        body[64] = b'S';
        body.extend_from_slice(service);
        UntrustedTrigger::parse(Kind::Trigger3, &body)?.validate()
    }

    #[test]
    fn lengths_are_exact() {
        for (kind, fixed) in [(Kind::Trigger3, 96), (Kind::Trigger4, 160)] {
            assert!(body(kind, fixed).is_err());
            assert!(body(kind, fixed + 1).is_ok());
            assert!(body(kind, fixed + SERVICE_FIELD_MAX).is_ok());
            assert!(body(kind, fixed + SERVICE_FIELD_MAX + 1).is_err());
        }
        assert!(body(Kind::Trigger2, 127).is_err());
        assert!(body(Kind::Trigger2, 128).is_ok());
        assert!(body(Kind::Trigger2, 129).is_err());
        assert_eq!(body(Kind::Stdin, 128), Err(TriggerError::Kind(Kind::Stdin)));
    }

    #[test]
    fn hostile_fields_are_cleaned_or_refused() {
        let it = trigger3(b"qubes.X+a b/c\xff\0").unwrap();
        assert_eq!(
            (it.target.as_str(), it.service.as_str()),
            ("a_b__c", "qubes.X+a_b_c_")
        );
        assert_eq!(trigger3(b"\0"), Err(TriggerError::NoService));
        assert_eq!(trigger3(b"+x\0"), Err(TriggerError::NoService));
        assert_eq!(trigger3(b"x"), Err(TriggerError::Unterminated));
        assert_eq!(trigger3(b"x\0\0"), Err(TriggerError::Unterminated));
        assert_eq!(trigger3(b"x\0y\0"), Err(TriggerError::Unterminated));
    }

    #[test]
    fn unterminated_names_lose_their_last_byte() {
        let mut body = vec![b'a'; 128];
        body.extend_from_slice(&Ident::for_slot(1).encode());
        body.extend_from_slice(b"s\0");
        let it = UntrustedTrigger::parse(Kind::Trigger4, &body)
            .unwrap()
            .validate()
            .unwrap();
        assert_eq!((it.source.len(), it.target.len()), (63, 63));
        let mut body = vec![b'a'; 96];
        body.extend_from_slice(&Ident::for_slot(1).encode());
        let it = UntrustedTrigger::parse(Kind::Trigger2, &body)
            .unwrap()
            .validate()
            .unwrap();
        assert_eq!((it.service.len(), it.target.len()), (63, 31));
    }

    #[test]
    fn a_source_needs_version_four() {
        let ask = Trigger::ask("relay", "$adminvm", "qubes.X");
        assert!(ask.encode(Version::V4).is_ok());
        let error = TriggerError::SourceUnsupported {
            version: Version::V3,
        };
        assert_eq!(ask.encode(Version::V3), Err(error));
    }

    #[test]
    fn fields_fill_their_room_and_no_more() {
        let service = |n: usize, v| Trigger::ask("", "t", &"s".repeat(n)).encode(v).is_ok();
        assert!(service(63, Version::V2) && !service(64, Version::V2));
        let max = SERVICE_FIELD_MAX - 1;
        assert!(service(max, Version::V3) && !service(max + 1, Version::V3));
        assert!(service(max, Version::V4) && !service(max + 1, Version::V4));
        let target = |n: usize, v| Trigger::ask("", &"t".repeat(n), "s").encode(v).is_ok();
        assert!(target(31, Version::V2) && !target(32, Version::V2));
        assert!(target(63, Version::V3) && !target(64, Version::V3));
    }

    proptest! {
        #[test]
        fn decode_of_encode_is_identity(
            v in prop::sample::select(vec![Version::V2, Version::V3, Version::V4]),
            source in "[a-z@:._-]{0,63}", target in "[A-Z0-9@:._-]{0,31}",
            service in "[a-z][a-zA-Z0-9.+_-]{0,62}", slot in any::<u32>(),
        ) {
            let source = if v == Version::V4 { source } else { String::new() };
            let it = Trigger { source, target, service, ident: Ident::for_slot(slot) };
            let bytes = it.encode(v).unwrap();
            let (head, body) = bytes.split_first_chunk().unwrap();
            let kind = super::super::Header::decode(*head).unwrap().kind;
            let raw = UntrustedTrigger::parse(kind, body).unwrap();
            prop_assert_eq!(&raw.forward(v, &it.ident).unwrap(), &bytes);
            prop_assert_eq!(raw.validate().unwrap(), it);
        }

        #[test]
        fn whatever_validates_is_clean(body in prop::collection::vec(any::<u8>(), 90..240)) {
            for kind in [Kind::Trigger2, Kind::Trigger3, Kind::Trigger4] {
                let Ok(raw) = UntrustedTrigger::parse(kind, &body) else { continue };
                let Ok(it) = raw.validate() else { continue };
                let ok = |s: &str, also: &str| {
                    s.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
                };
                prop_assert!(ok(&it.source, "_.-@:") && ok(&it.target, "_.-@:"));
                prop_assert!(ok(&it.service, "_.-+") && !it.service.starts_with('+'));
                prop_assert!(!it.service.is_empty());
            }
        }
    }
}
