//! The life of qubes: implements [`crate::machine::Machine`] over a hypervisor and storage.
