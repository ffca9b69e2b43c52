//! Runs the scenarios: `cargo xtask test --xen`.

#![forbid(unsafe_code)]

mod scenarios;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bulkhead_hw_tests::machine::Saved;
use bulkhead_hw_tests::scenario::{Place, Scenario, World};
use bulkhead_hw_tests::spawned::Spawned;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// What is missing where somebody starts this by hand.
const BY_XTASK: &str = "run this by `cargo xtask test --xen`";

/// What begins so takes minutes and says how long things take; it runs where it is asked for.
const MEASURES: &str = "measure::";

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
    let place = place()?;
    let worlds: Box<dyn Fn() -> Result<World> + Send + Sync> = match &place {
        _ if arguments.list => Box::new(|| bail!("nothing runs when scenarios are listed")),
        At::Qemu { hand } => {
            let saved = Saved::booted(hand)?;
            Box::new(move || Ok(World::machine(saved.resume()?)))
        }
        At::Line(kind, line) => {
            let (kind, line) = (*kind, line.clone());
            Box::new(move || Ok(World::line(kind, Box::new(line.clone()))))
        }
    };
    let worlds = Arc::new(worlds);
    let trials = scenarios::all().map(|scenario| {
        let worlds = Arc::clone(&worlds);
        trial(
            scenario,
            place.kind(),
            move || worlds(),
            logs.join(scenario.name),
        )
    });
    Ok(libtest_mimic::run(&arguments, trials.collect()).exit_code())
}

/// Where the scenarios shall run.
enum At {
    Qemu { hand: PathBuf },
    Line(Place, Spawned),
}

impl At {
    fn kind(&self) -> Place {
        match self {
            Self::Qemu { .. } => Place::Qemu,
            Self::Line(kind, _) => *kind,
        }
    }
}

fn place() -> Result<At> {
    let place = std::env::var("BULKHEAD_HW_PLACE").context(BY_XTASK)?;
    Ok(match place.as_str() {
        "qemu" => At::Qemu {
            hand: setting("BULKHEAD_HAND").context(BY_XTASK)?,
        },
        "embedded" => At::Line(Place::Embedded, Spawned::Here),
        address => At::Line(Place::Host, Spawned::at(address)?),
    })
}

fn setting(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

fn trial(
    scenario: Scenario,
    place: Place,
    world: impl FnOnce() -> Result<World> + Send + 'static,
    logs: PathBuf,
) -> Trial {
    let measures = scenario.name.starts_with(MEASURES);
    Trial::ignorable_test(scenario.name, move || {
        if let Some(why) = scenario.needs.iter().find_map(|&need| place.lacks(need)) {
            return Ok(Completion::ignored_with(why));
        }
        let mut world = world().map_err(|error| Failed::from(format!("{error:?}")))?;
        (scenario.run)(&world).map_err(|error| {
            let kept = match world.keep_logs(&logs) {
                Ok(()) => format!("logs are in {}", logs.display()),
                Err(error) => format!("logs could not be kept: {error:#}"),
            };
            Failed::from(format!("{error:?}\n{kept}"))
        })?;
        Ok(Completion::Completed)
    })
    .with_ignored_flag(measures)
}
