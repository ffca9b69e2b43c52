//! The policy engine: parse, decide, explain.
//!
//! [`Engine::parse`] turns policy text (format 5.0) into an engine or into every error it has at
//! once; [`Engine::decide`] answers one call against one [`SystemView`]; [`Ask::answer`] turns a
//! person's choice into an allow or a deny. Rules are tried in order, the first that matches
//! speaks, and what no rule speaks of is denied. An engine made of text that did not parse
//! ([`Engine::broken`]) denies everything.
//!
//! Qubes are compared by identity and never by spelling: `work`, `uuid:<its uuid>` and a rule
//! that uses either form mean the same qube. This is stricter than the Qubes engine, where a
//! call to one's own `uuid:` passed the loopback check.
//!
//! Nothing here does I/O or knows the time. Facts: the public Qubes policy format 5.0.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod ask;
mod decision;
mod engine;
mod error;
mod index;
mod load;
mod parse;
mod request;
mod rule;
mod token;
mod view;

pub use decision::{Allow, Ask, Decision, Deny, DenyReason, Destination};
pub use engine::Engine;
pub use error::{PolicyError, PolicyErrorKind};
pub use load::load;
pub use request::Request;
pub use rule::{Action, Origin, Rule};
pub use token::{QubeRef, RedirectToken, SourceToken, TargetToken, TokenError};
pub use view::{QubeView, SystemView, SystemViewError};
