//! What a template is made of, as people write it: `templates/NAME/recipe.ron`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ron::extensions::Extensions;
use serde::Deserialize;

use crate::lock::Lock;

/// A recipe and the folder that it is in.
#[derive(Debug, Clone)]
pub struct Recipe {
    folder: PathBuf,
    pub(crate) written: Written,
}

/// What it comes to, with what its base says.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// Release of Debian.
    pub(crate) suite: String,
    /// Packages beside Debian's essential ones and apt.
    pub(crate) packages: Vec<String>,
    /// Packages of this workspace.
    pub(crate) own: Vec<String>,
    /// Drivers that the kernel needs before it has a root, without those that they need.
    pub(crate) early_modules: Vec<String>,
    /// Units that never run.
    pub(crate) masked: Vec<String>,
    /// Size of the root.
    pub(crate) size_mib: u64,
}

/// The file itself. With a base, what is listed is added to that, and what is left out is as there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    /// A recipe beside this one.
    base: Option<String>,
    suite: Option<String>,
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default)]
    own: Vec<String>,
    #[serde(default)]
    early_modules: Vec<String>,
    #[serde(default)]
    masked: Vec<String>,
    size_mib: Option<u64>,
}

impl Recipe {
    /// The recipe in `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        Ok(Self {
            folder: folder.to_owned(),
            written: written(folder)?,
        })
    }

    /// The files of its packages of this workspace, in the order in which they can be installed.
    pub(crate) fn own_packages(&self, folder: &Path) -> Vec<PathBuf> {
        let names = self.written.own.iter();
        names
            .map(|name| folder.join(format!("{name}.deb")))
            .collect()
    }

    fn lock_file(&self) -> PathBuf {
        self.folder.join("packages.lock")
    }

    pub(crate) fn lock(&self) -> Result<Lock> {
        let path = self.lock_file();
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}; `--update-lock` makes it", path.display()))?;
        Lock::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Writes down which packages Debian has now; how many there are.
    pub fn update_lock(&self) -> Result<usize> {
        let lock = Lock::resolve(&self.written.suite, &self.written.packages)?;
        fs::write(self.lock_file(), lock.to_text())?;
        Ok(lock.packages.len())
    }
}

/// What the recipe in `folder` says, and its base.
fn written(folder: &Path) -> Result<Written> {
    let path = folder.join("recipe.ron");
    let text = text(&path)?;
    let base = match &text.base {
        None => None,
        Some(name) => {
            let base = folder.with_file_name(name);
            let below = self::text(&base.join("recipe.ron"))?;
            ensure!(
                below.base.is_none(),
                "{name}, the base of {}, has a base itself",
                path.display()
            );
            Some(below)
        }
    };
    let of_base =
        |pick: fn(&Text) -> &Vec<String>| base.as_ref().map_or(&[][..], |base| pick(base));
    let both = |pick: fn(&Text) -> &Vec<String>| [of_base(pick), pick(&text)].concat();
    let suite = text.suite.as_ref();
    let suite = suite.or(base.as_ref().and_then(|base| base.suite.as_ref()));
    let size_mib = text
        .size_mib
        .or(base.as_ref().and_then(|base| base.size_mib));
    let missing = |field| format!("`{field}` is missing in {}", path.display());
    Ok(Written {
        suite: suite.with_context(|| missing("suite"))?.clone(),
        packages: both(|text| &text.packages),
        own: both(|text| &text.own),
        early_modules: both(|text| &text.early_modules),
        masked: both(|text| &text.masked),
        size_mib: size_mib.with_context(|| missing("size_mib"))?,
    })
}

fn text(path: &Path) -> Result<Text> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let options = ron::Options::default().with_default_extension(Extensions::IMPLICIT_SOME);
    let parsed = options.from_str(&text);
    parsed.with_context(|| format!("in {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipes(all: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in all {
            let own = folder.path().join(name);
            fs::create_dir(&own).unwrap();
            fs::write(own.join("recipe.ron"), text).unwrap();
        }
        folder
    }

    const BASE: (&str, &str) = (
        "base",
        r#"(suite: "trixie", packages: ["a"], own: ["x"], masked: ["m"], size_mib: 7)"#,
    );

    #[test]
    fn a_recipe_adds_to_its_base() {
        let folder = recipes(&[
            BASE,
            (
                "more",
                r#"(base: "base", packages: ["b"], own: ["y"], size_mib: 9)"#,
            ),
        ]);
        let more = Recipe::read(&folder.path().join("more")).unwrap().written;
        assert_eq!(more.suite, "trixie");
        assert_eq!(more.packages, ["a", "b"]);
        assert_eq!(more.own, ["x", "y"]);
        assert_eq!(more.masked, ["m"]);
        assert_eq!(more.size_mib, 9);
        let base = Recipe::read(&folder.path().join("base")).unwrap().written;
        assert_eq!((base.packages, base.size_mib), (vec!["a".to_owned()], 7));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_file() {
        let folder = recipes(&[
            BASE,
            ("more", r#"(base: "base")"#),
            ("most", r#"(base: "more")"#),
            ("none", r#"(base: "nobody")"#),
            ("nameless", "(size_mib: 1)"),
            ("sizeless", r#"(suite: "trixie")"#),
        ]);
        let error = |name: &str| {
            let error = Recipe::read(&folder.path().join(name)).unwrap_err();
            error.to_string()
        };
        assert!(
            error("most").contains("more, the base of"),
            "{}",
            error("most")
        );
        assert!(
            error("none").contains("nobody/recipe.ron"),
            "{}",
            error("none")
        );
        assert!(error("nameless").contains("`suite` is missing in"));
        assert!(error("sizeless").contains("`size_mib` is missing in"));
    }
}
