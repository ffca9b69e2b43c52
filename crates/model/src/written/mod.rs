//! The written form: what may stand in a file, before imports, profiles and defaults are merged.
//!
//! Every option of the description is defined here and nowhere else.

mod assertion;
mod policy;
mod qube;
mod remote;
mod system;
mod template;

pub(crate) use assertion::{Assertion, Condition, OneOrMany, Selector};
pub(crate) use policy::{LiveOptions, PolicyEntry, TestEntry};
pub(crate) use qube::{QubeOptions, VolumeOptions};
pub(crate) use remote::RemoteOptions;
pub(crate) use system::{Dom0Options, LabelOptions, SystemOptions};
pub(crate) use template::{Source, TemplateOptions};
