//! The applications of this qube, as desktop entries describe them: which there are, and starting
//! one. Source: Desktop Entry Specification 1.5; wire page on guest services, section 3.
//!
//! - [`entry`]: what a file says (pure).
//! - [`command`]: its command line in words (pure).
//! - [`find`]: where the files are.
//! - [`list`]: the service `qubes.GetAppmenus`.
//! - [`start`]: the service `qubes.StartApp`, and `qubes-desktop-run`.

mod command;
mod entry;
mod find;
mod list;
mod start;

pub(crate) use list::get_appmenus;
pub(crate) use start::{desktop_run, start_app};
