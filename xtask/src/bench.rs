//! `cargo xtask bench`: every benchmark, measured on what ships.

use anyhow::Result;

use crate::images::{self, Profile};
use crate::process::{Options, cargo, run};
use crate::setup;

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    Options::new(arguments).finish()?;
    setup::ensure()?;
    let programs = images::build(Profile::Release)?;
    run(cargo()
        .args(["bench", "--workspace", "--benches"])
        .env("BULKHEAD_LIBEXEC", programs))
}
