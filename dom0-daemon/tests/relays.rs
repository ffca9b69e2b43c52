//! What becomes of a qube whose relay dies. Alone in its program: a relay is found as a child of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it fails"
)]

mod world;

use bulkhead_api::qube::QubeState;
use world::{World, eventually, name, qube};

fn state(world: &World, text: &str) -> QubeState {
    world.runtime.info(&name(text)).unwrap().row.state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_dies_is_replaced_and_the_qube_goes_on() {
    let world = World::new(vec![qube("work")], "").await;
    world.start("work").await;
    let relay = world.relay_pid("work");
    rustix::process::kill_process(relay, rustix::process::Signal::KILL).unwrap();
    eventually("another relay", || {
        world.try_relay_pid("work").is_some_and(|pid| pid != relay)
    })
    .await;
    eventually("the agent to be back", || {
        state(&world, "work") == QubeState::Running
    })
    .await;
    assert_eq!(world.sh("work", "echo on").await, (0, "on\n".to_owned()));
}
