//! Recovery, proven: every command is killed before and after each of its effects, and everything goes wrong around it at each phase of a cutover. It must
//! be brought to its end by the same command again, with nothing lost, nothing done twice, and never both sides that take writes.
//!
//! All of it takes hours and is `make test-cutover`, which sets RECOVERY=all. Without that, a sample is taken by a seed that is printed; RECOVERY_SEED
//! takes the same one again, and RECOVERY_POINTS=3,17 those numbers. FOLLOW=copy does it to a source that lets nobody replicate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at what it did not expect"
)]

mod copied;
mod faults;
mod frozen;
mod kill;
mod points;
mod refusals;
mod restore;
mod rotate;
mod sides;
mod source;
mod up;
mod way;
mod writable;

use kill::{Fence, Order};
use sides::{Sides, forget_the_ledgers, stop_the_app};
use source::Source;
use std::sync::Mutex;
use testkit::world::World;
use way::Way;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A sandbox in which nothing takes long, to be had by one test at a time.
fn raise(keys: u32, profile: &str) -> World {
    let world = World::raise_as(keys, &["--time-scale", "0.02", "--addon-profile", profile]);
    world.set_var("DEMO_SHUTDOWN_SECONDS", "1");
    world
}

/// The same, with the source in the test's own hands.
fn raise_with_source(keys: u32) -> (World, Source) {
    let world = raise(10, Way::wanted().profile(Fence::Pause));
    stop_the_app(&world);
    let source = Source::take_over(&world);
    forget_the_ledgers();
    world.sandbox(&["app", "seed", "--keys", &keys.to_string()]);
    world.scale(2, 1);
    (world, source)
}

fn alone(full: bool, test: impl FnOnce()) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if full == points::is_full() {
        test();
    } else if full {
        println!("a sample of this is taken by another test; `make test-cutover` does all of it");
    } else {
        println!("all of it is done by the other tests");
    }
}

fn every_point(order: Order) {
    for fence in Fence::wanted() {
        let world = raise(300, Way::wanted().profile(fence));
        world.infra(&["up", "--yes"]).exits(0);
        let sides = Sides::of(&world);
        sides.begin(&world);
        kill::table(&world, &sides, order, fence, 0);
        world.no_secret_was_shown();
    }
}

#[test]
fn a_sample_of_what_can_happen_ends_right() {
    alone(false, || {
        let (world, source) = raise_with_source(300);
        up::killed_once(&world);
        let sides = Sides::of(&world);
        sides.begin(&world);
        kill::table(&world, &sides, Order::SwitchAlone, Fence::Pause, 2);
        sides.back_to_following(&world);
        kill::table(&world, &sides, Order::PromoteFirst, Fence::Pause, 1);
        sides.back_to_following(&world);
        frozen::table(&world, &sides);
        faults::matrix(&world, &sides, &source, 2);
        refusals::six(&world, &sides);
        world.no_secret_was_shown();
    });
}

#[test]
fn a_switch_that_was_killed_anywhere_is_finished_by_the_next() {
    alone(true, || every_point(Order::SwitchAlone));
}

#[test]
fn a_promotion_that_was_killed_anywhere_is_finished_by_the_next_and_then_switched() {
    alone(true, || every_point(Order::PromoteFirst));
}

#[test]
fn a_way_back_from_a_promotion_that_was_killed_anywhere_is_finished_by_the_next() {
    alone(true, || every_point(Order::BackFromPromotion));
}

#[test]
fn a_way_back_from_a_switch_that_was_killed_anywhere_is_finished_by_the_next() {
    alone(true, || every_point(Order::BackFromSwitch));
}

#[test]
fn an_up_and_a_down_that_were_killed_everywhere_come_to_their_end() {
    alone(true, up::in_turn);
}

#[test]
fn an_up_that_was_killed_anywhere_in_an_empty_account_is_finished_by_the_next() {
    alone(true, up::each_point);
}

#[test]
fn a_live_restore_that_was_killed_anywhere_is_finished_by_the_next() {
    alone(true, || {
        let world = raise(300, "default");
        world.infra(&["up", "--yes"]).exits(0);
        world
            .infra(&["switch-app", "--confirm", "demo", "--watch", "1s"])
            .exits(0);
        restore::table(&world, 0);
        world.no_secret_was_shown();
    });
}

#[test]
fn a_rotation_that_was_killed_anywhere_is_finished_by_the_next() {
    alone(true, || rotations(0));
}

#[test]
fn a_rotation_that_was_killed_somewhere_is_finished_by_the_next() {
    alone(false, || rotations(3));
}

fn rotations(sample: usize) {
    let world = raise(300, "default");
    world.infra(&["up", "--yes"]).exits(0);
    world
        .infra(&["switch-app", "--confirm", "demo", "--watch", "1s"])
        .exits(0);
    world.wait_for_more_writes(200);
    rotate::table(&world, sample);
    world.nothing_was_lost(200);
    world.no_secret_was_shown();
}

#[test]
fn whatever_goes_wrong_around_it_a_switch_ends_right() {
    alone(true, || {
        let (world, source) = raise_with_source(300);
        world.infra(&["up", "--yes"]).exits(0);
        let sides = Sides::of(&world);
        sides.begin(&world);
        faults::matrix(&world, &sides, &source, 0);
        world.no_secret_was_shown();
    });
}
