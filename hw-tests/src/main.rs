//! Runs the scenarios: `cargo xtask test --xen`.

#![forbid(unsafe_code)]

mod scenarios;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bulkhead_hw_tests::machine::Saved;
use bulkhead_hw_tests::scenario::{Place, Scenario, World};
use bulkhead_hw_tests::spawned::Spawned;
use libtest_mimic::{Arguments, Completion, Trial};

/// What is missing where somebody starts this by hand.
const BY_XTASK: &str = "run this by `cargo xtask test --xen`";

/// What begins so takes minutes and says how long things take; it runs where it is asked for.
const MEASURES: &str = "measure::";

/// Times that a scenario may begin: QEMU's emulation of nested domains loses one now and then.
const TRIES: u32 = 5;

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
    world: impl Fn() -> Result<World> + Send + 'static,
    logs: PathBuf,
) -> Trial {
    let measures = scenario.name.starts_with(MEASURES);
    Trial::ignorable_test(scenario.name, move || {
        if let Some(why) = scenario.needs.iter().find_map(|&need| place.lacks(need)) {
            return Ok(Completion::ignored_with(why));
        }
        let mut left = TRIES;
        loop {
            left -= 1;
            match attempt(scenario, &world, &logs) {
                Ok(()) => return Ok(Completion::Completed),
                Err(lost) if lost.by_emulator && left > 0 => {
                    eprintln!("{}: the emulator lost a domain; again", scenario.name);
                }
                Err(lost) => return Err(lost.told.into()),
            }
        }
    })
    .with_ignored_flag(measures)
}

/// A scenario that did not come to its end.
struct Lost {
    told: String,
    by_emulator: bool,
}

fn attempt(
    scenario: Scenario,
    world: &impl Fn() -> Result<World>,
    logs: &Path,
) -> Result<(), Lost> {
    let mut world = world().map_err(|error| Lost {
        told: format!("{error:?}"),
        by_emulator: false,
    })?;
    (scenario.run)(&world).map_err(|error| {
        let by_emulator = world.lost_by_emulator();
        let kept = match world.keep_logs(logs) {
            Ok(()) => format!("logs are in {}", logs.display()),
            Err(error) => format!("logs could not be kept: {error:#}"),
        };
        Lost {
            told: format!("{error:?}\n{kept}"),
            by_emulator,
        }
    })
}
