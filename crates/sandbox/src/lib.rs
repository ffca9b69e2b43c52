//! Confinement of the per-qube processes: seccomp, Landlock, namespaces.

pub mod launch;
pub mod peer;
