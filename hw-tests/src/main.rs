//! Runs the scenarios: `cargo xtask test --xen`.

#![forbid(unsafe_code)]

mod scenarios;

use std::env::VarError;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use bulkhead_hw_tests::attempt::attempt;
use bulkhead_hw_tests::machine::Saved;
use bulkhead_hw_tests::prepared::prepared;
use bulkhead_hw_tests::reset::Reset;
use bulkhead_hw_tests::scenario::{Need, Place, Scenario, Start, When, World};
use bulkhead_hw_tests::scratch::Scratch;
use bulkhead_hw_tests::spawned::Spawned;
use bulkhead_hw_tests::stock;
use bulkhead_templates::progress::step;
use libtest_mimic::{Arguments, Completion, Trial};

/// What is missing where somebody starts this by hand.
const BY_XTASK: &str = "run this by `cargo xtask test --xen`";

/// Why programs of Qubes are not there.
const NO_SOURCES: &str = "no sources of Qubes are given (`--qubes-sources DIR`)";

/// Where there is this variable, scenarios run that take long.
const ALL: &str = "BULKHEAD_HW_ALL";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("caused by: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    // Two processors: a second machine beside the first only slows both.
    arguments.test_threads.get_or_insert(1);
    let logs = setting("BULKHEAD_HW_LOGS").context(BY_XTASK)?;
    let worlds = if arguments.list {
        None
    } else {
        Some(Arc::new(Worlds::find(&logs)?))
    };
    let trials = scenarios::all().map(|scenario| trial(scenario, worlds.clone(), &logs));
    Ok(libtest_mimic::run(&arguments, trials.collect()).exit_code())
}

/// Where worlds for scenarios come from.
enum Worlds {
    /// Machines of their own.
    Qemu { saved: Saved, logs: PathBuf },
    /// This machine.
    Embedded,
    /// A bench machine, and how it is brought back where it may be.
    Host(Spawned, Option<Reset>),
}

impl Worlds {
    fn find(logs: &Path) -> Result<Self> {
        let place = std::env::var("BULKHEAD_HW_PLACE").context(BY_XTASK)?;
        Ok(match place.as_str() {
            "qemu" => Self::Qemu {
                saved: Saved::booted(&setting("BULKHEAD_HAND").context(BY_XTASK)?)?,
                logs: logs.to_owned(),
            },
            "embedded" => Self::Embedded,
            address => {
                let reset = match std::env::var("BULKHEAD_HW_RESET") {
                    Ok(command) => Some(Reset::by(command)),
                    Err(VarError::NotPresent) => None,
                    Err(error) => return Err(error).context("BULKHEAD_HW_RESET"),
                };
                Self::Host(Spawned::at(address)?, reset)
            }
        })
    }

    fn kind(&self) -> Place {
        match self {
            Self::Qemu { .. } => Place::Qemu,
            Self::Embedded => Place::Embedded,
            Self::Host(_, reset) => Place::Host {
                throwaway: reset.is_some(),
            },
        }
    }

    /// A world in which nothing was done but what the scenario begins with.
    fn begin(&self, scenario: &Scenario) -> Result<World> {
        match (self, scenario.from) {
            (Self::Qemu { saved, .. }, Start::Bare) => Ok(World::machine(saved.resume()?)),
            (Self::Qemu { saved, .. }, Start::Iommu) => {
                Ok(World::machine(saved.boot_with_iommu()?))
            }
            (Self::Qemu { saved, logs }, Start::Prepared(by)) => {
                let saved = prepared(saved, by, &logs.join(by.name))?;
                Ok(World::machine(saved.resume()?))
            }
            (Self::Embedded, Start::Bare | Start::Iommu) => {
                let environment = Vec::new();
                let here = Spawned::Here { environment };
                Ok(World::line(self.kind(), Box::new(here)))
            }
            (Self::Embedded, Start::Prepared(by)) => {
                let world = World::scratch(Scratch::new()?);
                (by.run)(&world)?;
                Ok(world)
            }
            (Self::Host(line, reset), from) => {
                if let Some(reset) = reset.as_ref().filter(|_| scenario.harms()) {
                    step("bringing the machine back", || reset.run(line))?;
                }
                let world = World::line(self.kind(), Box::new(line.clone()));
                if let Start::Prepared(by) = from {
                    (by.run)(&world)?;
                }
                Ok(world)
            }
        }
    }
}

fn setting(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

fn trial(scenario: Scenario, worlds: Option<Arc<Worlds>>, logs: &Path) -> Trial {
    let logs = logs.join(scenario.name);
    let waits = match scenario.when {
        When::Always => false,
        When::All => setting(ALL).is_none(),
        When::Named => true,
    };
    Trial::ignorable_test(scenario.name, move || {
        let worlds = worlds
            .as_ref()
            .ok_or("nothing runs when scenarios are listed")?;
        let lacks = |&need| match need {
            Need::QubesSources if stock::sources().is_none() => Some(NO_SOURCES),
            need => worlds.kind().lacks(need),
        };
        if let Some(why) = scenario.needs.iter().find_map(lacks) {
            return Ok(Completion::ignored_with(why));
        }
        attempt(
            scenario.name,
            || worlds.begin(&scenario),
            scenario.run,
            &logs,
        )
        .map(|_| Completion::Completed)
        .map_err(|error| {
            // At once: the summary comes when the last scenario has ended.
            eprintln!("{}: {error}", scenario.name);
            error.to_string().into()
        })
    })
    .with_ignored_flag(waits)
}
