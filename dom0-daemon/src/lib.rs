//! The daemon: description to plan to running domains.
//!
//! `description` (load) → `lock` (template names to image digests) → `observe` (what runs, what is
//! stored) → `plan` (pure) → `apply` (journaled, undoable) → `generation` (numbered, kept). All of
//! it is behind [`ops::Operations`], which the faces (`bus`) call and add no logic to. What an
//! apply does to the machine goes through two traits, [`machine::Machine`] (qubes that run) and
//! [`storage::Storage`] (what is on disk); below `Machine` lies [`hypervisor::Hypervisor`].

#![forbid(unsafe_code)]

mod address;
mod aio;
pub mod apply;
pub mod audit;
mod bounded_log;
pub mod bus;
pub mod calls;
pub mod clipboard;
pub mod daemon;
pub mod db;
pub mod description;
mod fault;
pub mod generation;
pub mod hypervisor;
pub mod instance;
pub mod journal;
mod link;
pub mod lock;
pub mod machine;
mod meeting;
pub mod notifications;
pub mod observe;
pub mod ops;
pub mod plan;
mod policy;
pub mod relays;
pub mod runtime;
pub mod status;
pub mod storage;
mod timer;
mod whole_file;
pub mod windows;
