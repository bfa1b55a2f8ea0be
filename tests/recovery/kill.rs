//! The table: at each point the command dies as by `kill -9`, a write is tried on each side, and the same command is run again.

use crate::doors::{self, Doors};
use crate::points;
use crate::sides::{Sides, stop_the_app};
use crate::world::World;
use infra::plan::teardown::Standing;
use std::time::{Duration, Instant};

const PROMOTE: &[&str] = &["promote", "--confirm", "demo", "--hold", "30s"];
const SWITCH: &[&str] = &["switch-app", "--confirm", "demo"];
/// The source's pause ends by itself some seconds after whoever renewed it died.
const LAPSED: Duration = Duration::from_millis(3500);

/// Which command is killed, and what the app takes to the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    SwitchAlone,
    PromoteFirst,
}

impl Order {
    fn killed(self) -> &'static [&'static str] {
        match self {
            Order::SwitchAlone => SWITCH,
            Order::PromoteFirst => PROMOTE,
        }
    }

    fn finish(self, world: &World) {
        world.infra(self.killed()).exits(0);
        if self == Order::PromoteFirst {
            world.infra(SWITCH).exits(0);
        }
    }
}

struct Row {
    number: usize,
    point: String,
    doors: String,
    second_s: f64,
    /// Nothing, or what is wrong.
    wrong: Vec<String>,
}

/// On a sandbox where the pair follows and the app writes; leaves it with the app stopped on the endpoint.
pub fn table(world: &World, sides: &Sides, order: Order, sample: usize) {
    let log = world.folder().join("points.log");
    let log_path = log.to_str().unwrap().to_string();

    // What a run without any fault passes, and what it leaves.
    let begun = Instant::now();
    world
        .infra_under(&[("INFRA_FAULT_LOG", &log_path)], order.killed())
        .exits(0);
    let passed = points::read(&log);
    println!(
        "`infra {}`: {} points in {:.1} s",
        order.killed().join(" "),
        passed.len(),
        begun.elapsed().as_secs_f64()
    );
    order.finish(world);
    let clean = sides.standing();
    let mut wrong = proven(world, sides, &clean);
    assert!(wrong.is_empty(), "without any fault: {wrong:?}");

    let mut rows = Vec::new();
    for number in points::choose(passed.len(), sample) {
        let begun = Instant::now();
        sides.back_to_following(world);
        let reset = begun.elapsed().as_secs_f64();
        let _ = std::fs::remove_file(&log);
        let number_text = number.to_string();
        let killed = world.infra_under(
            &[("INFRA_FAULT_LOG", &log_path), ("INFRA_FAULT_AT", &number_text)],
            order.killed(),
        );
        let names = points::read(&log);
        let mut row = Row {
            number,
            point: names.last().cloned().unwrap_or_default(),
            doors: String::new(),
            second_s: 0.0,
            wrong: Vec::new(),
        };
        if !killed.was_killed() {
            row.wrong
                .push(format!("not killed, {} points: {}", names.len(), killed.printed()));
        }
        let seen = look_at_doors(sides, &names, number);
        row.doors = seen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" then ");
        if seen.iter().any(|doors| doors.both_open()) {
            row.wrong.push("both doors were open".into());
        }
        let second = Instant::now();
        let finished = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| order.finish(world)));
        row.second_s = second.elapsed().as_secs_f64();
        match finished {
            Ok(()) => row.wrong.extend(proven(world, sides, &clean)),
            Err(_) => row.wrong.push("the second run failed, as printed above".into()),
        }
        println!(
            "{:>3} {:<52} {:<22} {:>5.1} s  {}  (reset {reset:.1} s, round {:.1} s)",
            row.number,
            row.point,
            row.doors,
            row.second_s,
            if row.wrong.is_empty() {
                "ok".to_string()
            } else {
                format!("WRONG: {}", row.wrong.join("; "))
            },
            begun.elapsed().as_secs_f64()
        );
        rows.push(row);
    }
    let good = rows.iter().filter(|row| row.wrong.is_empty()).count();
    println!(
        "`infra {}` killed and run again: {good} of {}",
        order.killed()[0],
        rows.len()
    );
    wrong.extend(
        rows.into_iter()
            .filter(|row| !row.wrong.is_empty())
            .map(|row| format!("{} {}: {}", row.number, row.point, row.wrong.join("; "))),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// At once, and at every second point also when the pause has ended by itself.
fn look_at_doors(sides: &Sides, passed: &[String], number: usize) -> Vec<Doors> {
    let released = passed.iter().any(|name| name == "before unpause");
    let mut seen = vec![doors::try_both(sides, !released)];
    if number.is_multiple_of(2) && passed.iter().any(|name| name == "after fence") && !released {
        std::thread::sleep(LAPSED);
        seen.push(doors::try_both(sides, true));
    }
    seen
}

/// What is wrong at the end: nothing, if the app writes to the endpoint, its ledgers are clean, and the account holds what a clean run leaves.
fn proven(world: &World, sides: &Sides, clean: &Standing) -> Vec<String> {
    let mut wrong = Vec::new();
    let status = world.status();
    if (&status["phase"], &status["app"]) != (&"settled".into(), &"endpoint".into()) {
        wrong.push(format!(
            "it ended as {} with the app on {}",
            status["phase"], status["app"]
        ));
    }
    world.wait_for_more_writes(500);
    stop_the_app(world);
    let ledger = world.ledger();
    if (&ledger["lost"], &ledger["duplicated"]) != (&0.into(), &0.into()) {
        wrong.push(format!(
            "lost {}, doubled {}: {}",
            ledger["lost"], ledger["duplicated"], ledger["findings"]
        ));
    }
    let standing = sides.standing();
    if standing != *clean {
        wrong.push(format!("the account holds {standing:?} and not {clean:?}"));
    }
    wrong
}
