//! Every developer command: set-up, demo, test, check, bench.

#![forbid(unsafe_code)]

fn main() {}
