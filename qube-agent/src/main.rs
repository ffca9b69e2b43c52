//! The agent in each qube: calls, services, QubesDB, file copy.

#![forbid(unsafe_code)]

fn main() {}
