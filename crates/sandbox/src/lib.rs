//! Confinement of the per-qube processes: seccomp, Landlock, namespaces.

pub mod confine;
pub mod guard;
pub mod inherit;
pub mod launch;
pub mod peer;
pub mod spawn;
pub mod user;
