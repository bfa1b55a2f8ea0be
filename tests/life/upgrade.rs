//! The distribution has a newer engine: `status` asks for the upgrade, and one command does it while the app writes.

use super::hosts::Hosts;
use super::roles;
use serde_json::{Value, json};
use testkit::world::World;

/// The engine, and the package that it needs in the same version.
const PACKAGES: [&str; 2] = ["redis-server", "redis-tools"];
const ENDING: &str = "+newer1";

/// Returns what `status` wants of each host.
fn upkeep(world: &World) -> Vec<String> {
    let status = world.status();
    let lines = status["upkeep"].as_array().unwrap();
    lines.iter().map(|line| line.as_str().unwrap().to_string()).collect()
}

#[test]
fn a_newer_engine_is_installed_on_one_host_after_the_other_and_nothing_is_lost() {
    if !(crate::all() && crate::plays("upgrade")) {
        return;
    }
    let world = World::raise_as(300, &["--time-scale", "0.02"]);
    world.set_var("DEMO_SHUTDOWN_SECONDS", "1");
    world.set_var("DEMO_RESPONSE_TIMEOUT", "5");
    world.infra(&["up", "--yes"]).exits(0);
    world
        .infra(&["switch-app", "--confirm", "demo", "--watch", "1s"])
        .exits(0);
    world.wait_for_more_writes(200);
    let hosts = Hosts::of(&world);
    assert_eq!(upkeep(&world), [] as [&str; 0]);
    world
        .infra(&["upgrade", "--confirm", "demo"])
        .exits(0)
        .says("nothing to upgrade");

    let (before, old) = (roles(&world), world.version_of("master", PACKAGES[0]));
    for host in ["master", "replica"] {
        world.offer_newer(host, ENDING, &PACKAGES);
    }
    let newer = format!("{old}{ENDING}");
    let asked = upkeep(&world);
    for host in ["master", "replica"] {
        let wanted = format!("{host}: redis-server {old} could become {newer}");
        assert!(asked.iter().any(|line| line.starts_with(&wanted)), "{asked:#?}");
    }
    let answer: Value = world.infra(&["upgrade", "--confirm", "demo", "--json"]).exits(0).json();
    println!(
        "upgraded in {} s; pause {} ms",
        answer["seconds"], answer["failovers"][0]["pause_ms"]
    );
    assert_eq!(answer["done"], json!([before.1, before.0]), "{answer}");
    assert_eq!(answer["failovers"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(roles(&world), (before.1, before.0));
    for host in ["master", "replica"] {
        assert_eq!(world.version_of(host, PACKAGES[0]), newer);
    }
    let status = world.status();
    assert_eq!(status["upkeep"], json!([]), "{status}");
    assert_eq!(status["drift"], json!([]), "{status}");
    assert_eq!(status["servers"]["replica"]["link_up"], true, "{status}");
    assert!(!hosts.both_take_writes());
    world.wait_for_more_writes(200);
    world.nothing_was_lost(200);
    world
        .infra(&["upgrade", "--confirm", "demo"])
        .exits(0)
        .says("nothing to upgrade");
    crate::exporters::answer_where_they_should_and_are_stopped_again(&world);
    world.nothing_was_lost(200);
}
