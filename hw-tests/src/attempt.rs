//! Doing something in a world, again where the emulator spoilt it.

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::scenario::World;

/// Times that something may begin: QEMU's emulation of nested domains loses one now and then.
const TRIES: u32 = 5;

/// Does `run`, called `name`, in a new world; the world as it is then. Where it fails, what is left
/// of it is kept in the folder `logs`.
pub fn attempt(
    name: &str,
    world: impl Fn() -> Result<World>,
    run: fn(&World) -> Result<()>,
    logs: &Path,
) -> Result<World> {
    let mut left = TRIES;
    loop {
        left -= 1;
        let mut world = world()?;
        let Err(error) = run(&world) else {
            return Ok(world);
        };
        let by_emulator = world.lost_by_emulator();
        let kept = match world.keep_logs(logs) {
            Ok(()) => format!("logs are in {}", logs.display()),
            Err(error) => format!("logs could not be kept: {error:#}"),
        };
        if !by_emulator || left == 0 {
            return Err(anyhow!("{error:?}\n{kept}"));
        }
        eprintln!("{name}: the emulator lost a domain; again");
    }
}
