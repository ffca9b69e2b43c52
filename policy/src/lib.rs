//! The policy engine: parse, decide, explain.
//!
//! [`Engine::parse`] turns policy text (format 5.0) into an engine or into every error it has at
//! once, and [`Engine::read`] does it for the files of folders; [`Engine::decide`] answers one
//! call against one [`SystemView`]; [`Ask::answer`] turns a person's choice into an allow or a
//! deny. Rules are tried in order, the first that matches speaks, and what no rule speaks of is
//! denied. An engine made of text that did not parse ([`Engine::broken`]) denies everything.
//!
//! It decides as the Qubes engine does, but that a qube cannot reach itself by another spelling of
//! its own name.
//!
//! Files are read through [`PolicyFolders`] alone, when an engine is made; deciding does no I/O
//! and knows no time. Facts: the public Qubes policy format 5.0.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod admin;
mod ask;
mod convert;
mod decision;
mod declared;
mod engine;
mod error;
mod expect;
mod explain;
mod folders;
mod graph;
mod index;
mod lint;
mod live;
mod load;
mod offer;
mod parse;
mod query;
mod read;
mod request;
mod rule;
mod say;
mod simulate;
mod space;
#[cfg(test)]
mod testing;
mod token;
mod view;
mod why;

pub use admin::{ADMIN_SERVICES, AdminError, AdminRequest, PAYLOAD_BYTES_MAX, PolicyStore, token};
pub use convert::{Converted, convert};
pub use decision::{Allow, Ask, Decision, Deny, DenyReason, Destination};
pub use engine::Engine;
pub use error::{ErrorClass, PolicyError, PolicyErrorKind};
pub use expect::{
    Checked, EXPECTATIONS_MAX, Expectation, ExpectationError, Expected, expectations,
};
pub use explain::Fit;
pub use folders::{DiskFolders, FolderError, Layout, MemoryFolders, PolicyFolders};
pub use graph::{EDGES_MAX, Edge, Graph, GraphError, How, Node};
pub use lint::{Finding, LintKind, LintSeverity, lint};
pub use live::{LiveChange, LiveEntry, LivePolicy, Reading, read_live};
pub use load::{load, load_with_tests, unmet_expectations};
pub use offer::{Choice, Fate};
pub use query::{
    DENIED, EVALUATION_BYTES_MAX, Evaluation, NAMES_BYTES_MAX, OnAsk, Query, QueryError,
    REQUEST_BYTES_MAX, Reply, RequestReader, Told, read_evaluation,
};
pub use read::{FILES_MAX, INCLUDE_DEPTH_MAX, RULES_MAX, TEXT_BYTES_MAX};
pub use request::Request;
pub use rule::{Action, Origin, Rule};
pub use simulate::{CALLS_MAX, Change, Comparison, Side, SimulateError, Verdict, compare};
pub use token::{QubeRef, RedirectToken, SourceToken, TargetToken, TokenError};
pub use view::{QubeView, SystemView, SystemViewError};
