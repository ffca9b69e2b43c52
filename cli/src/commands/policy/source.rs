//! Where the policy comes from that a command is about.

use std::path::Path;

use bulkhead_model::qube::Description;
use bulkhead_model::source::DiskReader;
use bulkhead_policy::{DiskFolders, Engine, LivePolicy, PolicyError, SystemView};
use serde::Deserialize;

use crate::args::{From, Global};
use crate::client::with_client;
use crate::commands::check::{color, find_system};
use crate::failure::Failure;
use crate::output::note;
use crate::output::style;

/// A policy and the machine that it is for.
#[derive(Debug)]
pub(super) struct Policy {
    /// What it is called: a file or a generation.
    pub(super) name: String,
    pub(super) description: Description,
    pub(super) engine: Engine,
}

/// What counts where nothing is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usual {
    /// The description that `check` takes.
    Description,
    /// The current generation.
    Generation,
}

/// A generation as the daemon sends it, as far as it is needed here.
#[derive(Debug, Deserialize)]
struct Stored {
    number: u64,
    description: Description,
}

fn of_errors<'a>(
    name: &str,
    problem: &str,
    errors: impl Iterator<Item = &'a PolicyError>,
) -> Failure {
    let failure = Failure::new(format!("the policy of {name} {problem}"));
    errors.fold(failure, |failure, error| failure.cause(error.to_string()))
}

impl Policy {
    pub(super) fn find(global: &Global, from: &From, usual: Usual) -> Result<Self, Failure> {
        match (&from.system, from.generation) {
            (_, Some(number)) => Self::of_generation(global, number),
            (Some(system), None) => Self::of_description(Some(system)),
            (None, None) => match usual {
                Usual::Description => Self::of_description(None),
                Usual::Generation => Self::of_generation(global, 0).map_err(|failure| {
                    failure.hint("With --system FILE it is about a description, without a daemon.")
                }),
            },
        }
    }

    /// Reads a description. Expectations that it does not meet are no reason to be silent about it.
    pub(super) fn of_description(asked: Option<&Path>) -> Result<Self, Failure> {
        let system = find_system(asked)?;
        let loaded = bulkhead_policy::load_with_tests(&system, &DiskReader);
        let (loaded, engine, _) = loaded.map_err(|diagnostics| {
            note(&diagnostics.render(color(style::stderr())));
            Failure::new(format!(
                "the description `{}` has errors, so its policy denies every call",
                system.display()
            ))
        })?;
        Ok(Self {
            name: format!("`{}`", system.display()),
            description: loaded.description,
            engine,
        })
    }

    /// Asks the daemon for a generation; 0 is the current one. Folders that are read live are read
    /// as they are now.
    pub(super) fn of_generation(global: &Global, number: u64) -> Result<Self, Failure> {
        let stored: Stored = with_client(global, |client| async move {
            let text = client.proxy.generation(number).await?;
            Ok(bulkhead_api::from_json(&text)?)
        })?;
        let name = format!("generation {}", stored.number);
        let policy = LivePolicy::read(&stored.description, &DiskFolders);
        let policy = policy.map_err(|errors| of_errors(&name, "does not parse", errors.iter()))?;
        if policy.denies_all() {
            let problem = "has folders that cannot be read";
            return Err(of_errors(&name, problem, policy.errors())
                .hint("`bulkhead status` tells which rules are in force."));
        }
        Ok(Self {
            name,
            engine: policy.engine(),
            description: stored.description,
        })
    }

    /// Its machine with every qube running.
    pub(super) fn view(&self) -> Result<SystemView, Failure> {
        SystemView::declared(&self.description)
            .map_err(|error| Failure::new("the description has no one view").because(&error))
    }
}
