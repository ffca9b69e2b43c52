//! Builds a template: `cargo xtask template NAME`.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use bulkhead_templates::image::Image;
use bulkhead_templates::recipe::Recipe;

const USAGE: &str = "\
usage: bulkhead-template RECIPE --update-lock
       bulkhead-template RECIPE PACKAGE
       bulkhead-template RECIPE PACKAGE --twice

RECIPE is a recipe's folder, PACKAGE the file bulkhead-guest.deb; what is built is in the folder
that is printed. --twice builds it two times from nothing and compares.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [recipe, "--update-lock"] => update(Path::new(recipe)),
        [recipe, package] => build(Path::new(recipe), Path::new(package)),
        [recipe, package, "--twice"] => twice(Path::new(recipe), Path::new(package)),
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

fn build(recipe: &Path, package: &Path) -> Result<()> {
    let image = Image::kept(&Recipe::read(recipe)?, package)?;
    println!("{}", image.folder().display());
    Ok(())
}

fn twice(recipe: &Path, package: &Path) -> Result<()> {
    let recipe = Recipe::read(recipe)?;
    let sums = |_| {
        let folder = tempfile::tempdir_in("/var/tmp")?;
        Image::anew(&recipe, package, folder.path())?;
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
