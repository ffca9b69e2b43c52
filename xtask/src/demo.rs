//! `cargo xtask demo`: the main job, on the embedded backend, in a scratch folder.
//!
//! Every line comes from the real run: each step shows the command, its own output and its time,
//! and the demo fails where something that it claims does not hold.

mod desktop;
mod story;
mod windows;

use anyhow::Result;

use crate::images::{self, Profile};
use crate::process::Options;
use crate::setup;
use desktop::Desktop;

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    let mut options = Options::new(arguments);
    let keep = options.flag("--keep");
    let profile = if options.flag("--release") {
        Profile::Release
    } else {
        Profile::Dev
    };
    options.finish()?;

    setup::ensure()?;
    println!("Building (the first build takes some minutes) ...");
    let programs = images::build(profile)?;
    let mut desktop = Desktop::start(&programs)?;
    let told = story::tell(&mut desktop);
    if told.is_err() {
        desktop.show_log();
    }
    if keep && told.is_ok() {
        desktop.keep();
        return Ok(());
    }
    let stopped = desktop.stop();
    told.and(stopped)
}
