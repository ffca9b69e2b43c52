//! Byte channels between domains: the transport trait and its Unix-socket flavour.

pub mod seqpacket;
