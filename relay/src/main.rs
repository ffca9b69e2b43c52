//! One per qube: decodes what the guest sends, holds no privilege.

#![forbid(unsafe_code)]

fn main() {}
