//! The daemon: description to plan to running domains.

#![forbid(unsafe_code)]

fn main() {}
