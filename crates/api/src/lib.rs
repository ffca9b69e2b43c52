//! What bulkheadd says to its clients over D-Bus: interface and reply types.

#![forbid(unsafe_code)]
