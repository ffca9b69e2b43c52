//! The per-qube relays: start, supervise, replace.
