//! `up` and `down`: killed at every effect in turn, each time brought on by the same command; and `up` killed once, in an empty account. What stands in the
//! end is what an undisturbed run makes, and nothing beside it.

use crate::points;
use crate::sides::{Account, Sides};
use std::time::{Duration, Instant};
use testkit::answers::Answer;
use testkit::world::World;

const UP: &[&str] = &["up", "--yes"];
const DOWN: &[&str] = &["down", "--confirm", "demo", "--delete-backups", "demo"];
/// More rounds than there are effects would mean that it does not come on.
const MOST_ROUNDS: usize = 400;

/// The result of an undisturbed run.
fn shape(world: &World, account: &Account) -> String {
    world.infra(UP).exits(0);
    account.shape()
}

fn complete(world: &World, account: &Account, clean: &str) {
    let again = world.infra(&["up", "--yes", "--json"]).exits(0);
    assert_eq!(again.json()["changes"], 0, "{}", again.printed());
    let status = world.status();
    assert_eq!(status["drift"], serde_json::json!([]), "{status}");
    assert_eq!(account.shape(), clean);
    assert_eq!(account.machines(), 2, "a machine that no tag leads to");
    let sides = Sides::of(world);
    world.until(Duration::from_secs(30), "both hosts to follow", || {
        sides.both_follow(world)
    });
}

/// Each point of a run, once, with the same command right after it.
pub fn in_turn() {
    let world = crate::raise(300, "default");
    let account = Account::new();
    let clean = shape(&world, &account);
    world.infra(DOWN).exits(0);
    assert!(account.is_empty(), "{}", account.shape());

    let made = until_it_is_done(&world, "up", UP);
    complete(&world, &account, &clean);
    // Only as long as there are secrets to look for.
    world.no_secret_was_shown();
    let removed = until_it_is_done(&world, "down", DOWN);
    assert!(account.is_empty(), "{}", account.shape());
    assert_eq!(account.machines(), 0);
    println!("killed and run again: up at {made} points, down at {removed}");
    world.wait_for_more_writes(500);
}

fn until_it_is_done(world: &World, name: &str, command: &[&str]) -> usize {
    let new = world.folder().join(format!("{name}.points"));
    let mut rounds = 0;
    loop {
        let begun = Instant::now();
        let answer = world.infra_under(&[("INFRA_FAULT_NEW", new.to_str().unwrap())], command);
        let seconds = begun.elapsed().as_secs_f64();
        let seen = points::read(&new);
        if !answer.was_killed() {
            answer.exits(0);
            println!("{name}: done after {} kills", seen.len());
            return seen.len();
        }
        println!(
            "{:>3} {name} killed {:<60} {seconds:>5.1} s",
            seen.len(),
            seen.last().unwrap()
        );
        rounds += 1;
        assert!(rounds < MOST_ROUNDS, "`infra {name}` does not come to its end");
    }
}

/// Once at a point of a sample, which is not known to be one of the last: a run that passes fewer of them than that is done.
pub fn killed_once(world: &World) {
    let number = points::choose(100, 1)[0].to_string();
    let log = world.folder().join("points.log");
    let killed = world.infra_under(
        &[("INFRA_FAULT_LOG", log.to_str().unwrap()), ("INFRA_FAULT_AT", &number)],
        UP,
    );
    assert!(killed.was_killed(), "{}", killed.printed());
    println!("up killed {}", points::read(&log).pop().unwrap_or_default());
    world.infra(UP).exits(0);
    let account = Account::new();
    complete(world, &account, &account.shape());
}

/// Each point of a run, in an account that is empty every time.
pub fn each_point() {
    let world = crate::raise(300, "default");
    let account = Account::new();
    let log = world.folder().join("points.log");
    let log_path = log.to_str().unwrap().to_string();
    let begun = Instant::now();
    world.infra_under(&[("INFRA_FAULT_LOG", &log_path)], UP).exits(0);
    let count = points::read(&log).len();
    println!("`infra up`: {count} points in {:.1} s", begun.elapsed().as_secs_f64());
    let clean = account.shape();
    let numbers = points::choose(count, 0);
    for number in &numbers {
        world.infra(DOWN).exits(0);
        assert!(account.is_empty(), "{}", account.shape());
        let _ = std::fs::remove_file(&log);
        let text = number.to_string();
        let killed: Answer = world.infra_under(&[("INFRA_FAULT_LOG", &log_path), ("INFRA_FAULT_AT", &text)], UP);
        assert!(killed.was_killed(), "{}", killed.printed());
        let point = points::read(&log).pop().unwrap_or_default();
        let second = Instant::now();
        world.infra(UP).exits(0);
        let seconds = second.elapsed().as_secs_f64();
        complete(&world, &account, &clean);
        println!("{number:>3} {point:<60} {seconds:>5.1} s  ok");
    }
    println!("`infra up` killed and run again: {0} of {0}", numbers.len());
}
