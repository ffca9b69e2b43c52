//! The policy engine: parse, decide, explain.

#![forbid(unsafe_code)]
