//! Machines on which something was done already, kept with all that runs on them.

use std::path::Path;

use anyhow::{Context, Result};
use bulkhead_templates::cache::{self, Key};
use bulkhead_templates::progress::step;

use crate::attempt::attempt;
use crate::machine::Saved;
use crate::scenario::{Preparation, World};

/// Form of what is kept.
const FORM: &str = "2";

/// `base` after a preparation, which is done once for each of its inputs. If it fails, what is left
/// is kept in the folder `logs`.
pub fn prepared(base: &Saved, preparation: &Preparation, logs: &Path) -> Result<Saved> {
    let Preparation { name, inputs, run } = preparation;
    let own = inputs()?;
    let key = Key::of([FORM, name, own.as_str(), base.key()]);
    let folder = cache::kept(&format!("prepared-{name}"), &key, |dir| {
        step(&format!("preparing a machine with {name}"), || {
            let world = attempt(name, || Ok(World::machine(base.resume()?)), *run, logs)?;
            let machine = world.into_machine();
            machine.context("it has no machine of its own")?.save(dir)
        })
    })?;
    Ok(base.changed(&folder))
}
