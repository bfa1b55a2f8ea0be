//! What is protected, tried from the side of whoever should not get through: real machines, real credentials of the hosts, a real engine.
//!
//! Each of these is seen to fail when its defence is taken away. Needs root, as the sandbox does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at what it did not expect"
)]

mod certificate;
mod hosts;
mod iam;
mod impostor;
mod leaks;
mod machine;
mod network;
mod policy;
mod rotation;
mod rules;
mod scan;
mod ssh;
mod users;
mod watch;

use testkit::world::World;

/// What the app's clients ever saw go wrong: refused commands and failed connections.
fn client_errors(world: &World) -> (u64, u64) {
    let ledger = world.ledger();
    let count = |name: &str| ledger[name].as_u64().unwrap();
    (count("client_errors"), count("connection_errors"))
}

#[test]
fn an_app_on_its_own_redis_is_safe_in_front_of_anyone() {
    let world = World::raise(2_000);
    world.infra(&["up", "--yes"]).exits(0);
    world
        .infra(&["switch-app", "--confirm", "demo", "--watch", "1s"])
        .exits(0);
    world.wait_for_more_writes(2_000);
    users::nobody_gets_further_than_their_own(&world);
    certificate::is_renewed_under_load(&world);
    rotation::of_everybody_is_not_noticed(&world);
    world.nothing_was_lost(2_000);
    world.no_secret_was_shown();
}
