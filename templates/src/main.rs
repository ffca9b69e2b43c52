//! Builds a template: `cargo xtask template NAME`.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use bulkhead_templates::image::Image;
use bulkhead_templates::recipe::Recipe;

const USAGE: &str = "\
usage: bulkhead-template RECIPE --update-lock
       bulkhead-template RECIPE PACKAGES
       bulkhead-template RECIPE PACKAGES --twice

RECIPE is a recipe's folder, PACKAGES the one with this workspace's packages; what is built is in
the folder that is printed. --twice builds it two times from nothing and compares.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [recipe, "--update-lock"] => update(Path::new(recipe)),
        [recipe, packages] => build(Path::new(recipe), Path::new(packages)),
        [recipe, packages, "--twice"] => twice(Path::new(recipe), Path::new(packages)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("caused by: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn update(recipe: &Path) -> Result<()> {
    println!("{} packages", Recipe::read(recipe)?.update_lock()?);
    Ok(())
}

fn build(recipe: &Path, packages: &Path) -> Result<()> {
    let image = Image::kept(&Recipe::read(recipe)?, packages)?;
    println!("{}", image.folder().display());
    Ok(())
}

fn twice(recipe: &Path, packages: &Path) -> Result<()> {
    let recipe = Recipe::read(recipe)?;
    let sums = |_| {
        let folder = tempfile::tempdir_in("/var/tmp")?;
        Image::anew(&recipe, packages, folder.path())?;
        let sums: PathBuf = folder.path().join(Image::SUMS);
        std::fs::read_to_string(&sums).with_context(|| format!("cannot read {}", sums.display()))
    };
    let [one, two]: [Result<String>; 2] = [1, 2].map(sums);
    let (one, two) = (one?, two?);
    ensure!(!one.is_empty(), "nothing was built");
    if one != two {
        bail!("two builds differ:\n{one}and\n{two}");
    }
    print!("{one}");
    Ok(())
}
