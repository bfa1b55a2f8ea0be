//! The pair's life after the move: the role of master moves while the app writes, and the command that moves it is killed anywhere. `make test` takes a sample;
//! `make test-life` sets LIFE=all and kills at every point; LIFE=kept and the like do that to one part alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at what it did not expect"
)]

mod clock;
mod cut_off;
mod exporters;
mod grow;
mod hosts;
mod kept;
mod kill;
mod limits;
mod matrix;
mod network;
mod soak;
mod upgrade;
mod worst_day;

use hosts::Hosts;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::world::World;

/// Kills in `make test`; each takes about a minute.
const SAMPLE: usize = 1;

const PROMOTE: [&str; 4] = ["promote", "--confirm", "demo", "--json"];

/// Returns true if all is to be tried, and not only a sample; of the part that LIFE names, or of every part.
fn all() -> bool {
    std::env::var_os("LIFE").is_some()
}

/// Returns the one part that LIFE names.
fn chosen() -> Option<String> {
    std::env::var("LIFE").ok().filter(|word| word != "all")
}

/// Returns true for a part, unless another one is chosen.
fn plays(part: &str) -> bool {
    chosen().is_none_or(|chosen| chosen == part)
}

/// Returns the instance of each role, as the inventory and the state name them.
fn roles(world: &World) -> (String, String) {
    let inventory = std::fs::read_to_string(world.inventory()).unwrap();
    let of = |role: &str| {
        let host = inventory.split(&format!("{role}:\n")).nth(1).unwrap();
        let line = host.lines().find(|line| line.contains("infra_instance_id")).unwrap();
        line.rsplit(' ').next().unwrap().to_string()
    };
    (of("master"), of("replica"))
}

/// Looks at what must hold after every failover.
fn is_whole(world: &World, answer: &Value, before: &(String, String)) {
    assert_eq!(answer["master"], json!(before.1), "{answer}");
    assert_eq!(answer["replica"], json!(before.0), "{answer}");
    assert_eq!(roles(world), (before.1.clone(), before.0.clone()));
    let status = world.status();
    assert_eq!(status["drift"], json!([]), "{status}");
    assert_eq!(status["servers"]["master"]["role"], "master", "{status}");
    assert_eq!(status["servers"]["replica"]["link_up"], true, "{status}");
    assert_eq!(status["app"], "endpoint", "{status}");
    world.infra(&["up", "--yes"]).exits(0).says("nothing to change");
}

/// A forced failover; then the old master is started by somebody, takes no write, and becomes the replica.
fn the_master_is_replaced(world: &World, hosts: &Hosts) {
    let before = roles(world);
    let force = ["promote", "--force", "--confirm", "demo", "--json"];
    let answer = world.infra(&force).exits(0).json();
    println!(
        "the master was replaced: fenced after {} ms ({}), {} ms from there to the address",
        answer["fence_ms"], answer["proof"], answer["failover_ms"]
    );
    assert_eq!(answer["master"], json!(before.1), "{answer}");
    assert_eq!(answer["proof"], "EC2 says that it is stopped", "{answer}");
    world.wait_for_more_writes(200);
    world
        .infra(&["status", "--exit-code"])
        .exits(1)
        .says("has no replica since");
    // There is no replica to promote by now.
    world.infra(&force).exits(1).says("still to become the replica");
    hosts.start(&before.0);
    world.until(Duration::from_secs(120), "the old master to stay down", || {
        let said = world.infra(&["ssh", "replica", "sudo", "cat", "/var/lib/infra/refused"]);
        said.output().contains("is the master by now")
    });
    assert!(!hosts.both_take_writes());
    world.infra(&["up", "--yes"]).exits(0);
    is_whole(world, &answer_of(&before), &before);
}

/// The roles that a failover from `before` leads to, in the form of its answer.
fn answer_of(before: &(String, String)) -> Value {
    json!({ "master": before.1, "replica": before.0 })
}

/// The planned failovers, back and forth.
fn the_role_moves_back_and_forth(world: &World, hosts: &Hosts) {
    let vars = world.vars();
    let since = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap();
    world
        .infra(&["promote", "--dry-run"])
        .exits(0)
        .says("close the app's connections");
    for _ in 0..2 {
        let before = roles(world);
        let answer = world.infra(&PROMOTE).exits(0).json();
        println!(
            "the role moved: pause {} ms, {} of them to move the role, {} connections closed",
            answer["pause_ms"], answer["yield_ms"], answer["closed"]
        );
        assert!(answer["pause_ms"].as_u64().unwrap() < 3_000, "{answer}");
        assert!(answer["closed"].as_u64().unwrap() > 0, "{answer}");
        world.wait_for_more_writes(200);
        is_whole(world, &answer, &before);
        assert!(!hosts.both_take_writes());
    }
    assert_eq!(world.vars(), vars, "no var of the app has changed");
    // The app repeats what was not acknowledged. A write that was found done had an answer that was
    // lost: its connection was closed while it owed one.
    let ledger = world.ledger_since(since);
    assert_eq!(
        (&ledger["client_errors"], &ledger["found_done"]),
        (&json!(0), &json!(0)),
        "{ledger:#}"
    );
    assert!(
        ledger["repeated"].as_u64().unwrap() > 0,
        "no connection was closed: {ledger:#}"
    );
    world.nothing_was_lost(200);
}

#[test]
fn the_role_moves_to_the_other_host_and_back_while_the_app_writes() {
    let world = World::raise_as(300, &["--time-scale", "0.02"]);
    world.set_var("DEMO_SHUTDOWN_SECONDS", "1");
    world.set_var("DEMO_REPEATS", "1");
    // A connection that is cut hears nothing: the app goes on when its own patience ends.
    world.set_var("DEMO_RESPONSE_TIMEOUT", "5");
    world.infra(&["up", "--yes"]).exits(0);
    if all() && plays("worst-day") && grow::is_wanted("ways") {
        worst_day::a_pair_that_only_followed_is_not_restored(&world);
    }
    world
        .infra(&["switch-app", "--confirm", "demo", "--watch", "1s"])
        .exits(0);
    world.wait_for_more_writes(200);
    let mut hosts = Hosts::of(&world);
    if plays("moves") {
        the_role_moves_back_and_forth(&world, &hosts);
    }
    if plays("kills") {
        kill::table(&world, &hosts, SAMPLE);
        world.nothing_was_lost(200);
    }
    if plays("matrix") {
        matrix::table(&world, &hosts);
    }
    if all() && plays("soak") || soak::is_wanted() {
        soak::no_program_runs_out_of_memory(&world, &hosts);
    }
    if all() && plays("limits") {
        limits::are_measured(&world, &hosts);
    }
    world.nothing_was_lost(200);
    if plays("grow") {
        grow::grows_and_is_repaired(&world, &hosts);
    }
    if plays("replaced") {
        the_master_is_replaced(&world, &hosts);
        world.nothing_was_lost(200);
    }
    if plays("worst-day") {
        worst_day::is_over_with_one_command(&world);
        // Its secrets may be other ones.
        hosts = Hosts::of(&world);
        world.nothing_was_lost(200);
    }
    if plays("cut-off") {
        cut_off::a_master_that_only_the_app_reaches_takes_no_write_after(&world, &hosts);
    }
    if all() && plays("cut-off") {
        cut_off::a_master_whose_stop_hangs_is_cut_off(&world, &hosts);
    }
    if all() && plays("kept") {
        kept::exactly_what_was_lost_is_listed_and_kept(&world, &hosts);
    }
    world.no_secret_was_shown();
}
