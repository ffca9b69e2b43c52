//! Applications in a qube, as a daemon sees them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a fixture cannot do ends the test that uses it"
)]

mod composing;
mod desk;
mod drag;
mod firefox;
mod gtk;
mod icons;
mod libreoffice;
mod notifications;
mod pictures;
mod qt;
mod reconnect;
mod scale;
mod selection;
mod session;
mod wayland;
mod x11;
mod x_drags;
