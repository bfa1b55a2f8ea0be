//! Tries the protections from the side of whoever should not get through: real machines, real
//! credentials of the hosts, a real engine.
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
mod tunnel;
mod unit;
mod users;
mod watch;

use testkit::world::World;

/// Returns how often the app's clients saw something go wrong: refused commands and failed connections.
fn client_errors(world: &World) -> (u64, u64) {
    let ledger = world.ledger();
    let count = |name: &str| ledger[name].as_u64().unwrap();
    (count("client_errors"), count("connection_errors"))
}

#[test]
fn a_pair_keeps_out_everybody_who_has_no_business_there() {
    let by_name = ["--time-scale", "0.1", "--addon-name", "--addon-tls", "authority"];
    let world = World::raise_as(2_000, &by_name);
    network::lets_in_two_ranges(&world);
    world.infra(&["up", "--yes"]).exits(0);
    tunnel::says_what_changed_under_it(&world);
    unit::says_itself_why_it_does_not_start(&world);
    network::strangers_find_the_ports_of_the_rules_and_behind_them_nothing_without_a_password(&world);
    iam::a_hosts_credentials_make_backups_and_nothing_else(&world);
    leaks::a_planted_one_is_found(&world);
    impostor::no_password_is_told_to_a_server_that_another_authority_vouches_for(&world);
    impostor::nobody_begins_to_log_in_where_another_key_is_shown(&world);
}

#[test]
fn an_app_on_its_own_redis_is_safe_in_front_of_anyone() {
    let world = World::raise(2_000);
    world.infra(&["up", "--yes"]).exits(0);
    tunnel::says_that_the_pinned_certificate_changed(&world);
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
