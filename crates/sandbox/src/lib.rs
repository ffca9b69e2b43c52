//! Confinement of the per-qube processes: seccomp, Landlock, namespaces; and what of the kernel else
//! can be had only unsafely.

pub mod confine;
pub mod guard;
pub mod inherit;
pub mod launch;
pub mod loops;
pub mod peer;
pub mod spawn;
pub mod user;
