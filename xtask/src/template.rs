//! `cargo xtask template NAME`: a template image from its recipe.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::deb;
use crate::images::Profile;
use crate::process::{Options, cargo, root, run};

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    let mut options = Options::new(arguments);
    let update = options.flag("--update-lock");
    let twice = options.flag("--twice");
    let name = options.word();
    options.finish()?;
    let recipe = recipe(name.context("`template` needs the name of a recipe")?)?;
    let mut builder = cargo();
    builder
        .args(["run", "--quiet", "-p", "bulkhead-templates", "--"])
        .arg(recipe);
    if update {
        return run(builder.arg("--update-lock"));
    }
    builder.arg(deb::build(Profile::Release)?);
    if twice {
        builder.arg("--twice");
    }
    run(&mut builder)
}

/// The folder of a recipe.
fn recipe(name: &str) -> Result<PathBuf> {
    let folder = root().join("templates").join(name);
    ensure!(
        folder.join("recipe.ron").is_file(),
        "there is no recipe {}",
        folder.join("recipe.ron").display()
    );
    Ok(folder)
}

/// Builds a template twice from nothing; fails if one byte differs.
pub(crate) fn reproducible(name: &str) -> Result<()> {
    let packages = deb::build(Profile::Dev)?;
    run(cargo()
        .args(["run", "--quiet", "-p", "bulkhead-templates", "--"])
        .arg(recipe(name)?)
        .arg(packages)
        .arg("--twice"))
}
