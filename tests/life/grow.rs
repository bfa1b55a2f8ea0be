//! The pair gets other machines while the app writes: resized, replaced and upgraded, each killed on the way and run again.

use super::hosts::Hosts;
use super::roles;
use serde_json::{Value, json};
use std::time::Instant;
use testkit::points;
use testkit::world::World;

/// The sizes between which the pair is resized.
const TYPES: [&str; 2] = ["t3.small", "t3.micro"];
/// As `redis.maxmemory` follows them.
const MEMORY: [&str; 2] = ["838860800", "419430400"];

/// Looks at what must hold after every such command: two hosts of one size, in sync, and nothing to do.
fn is_whole(world: &World, hosts: &Hosts, size: usize) {
    let types = hosts.types();
    assert_eq!(types, [TYPES[size]; 2], "{types:?}");
    let status = world.status();
    assert_eq!(status["drift"], json!([]), "{status}");
    assert_eq!(status["upkeep"], json!([]), "{status}");
    assert_eq!(status["servers"]["master"]["role"], "master", "{status}");
    assert_eq!(status["servers"]["replica"]["link_up"], true, "{status}");
    assert_eq!(status["app"], "endpoint", "{status}");
    world.infra(&["up", "--yes"]).exits(0).says("nothing to change");
    for host in ["master", "replica"] {
        let limit = ["redis-cli", host, "config", "get", "maxmemory"];
        world.infra(&limit).exits(0).says(MEMORY[size]);
    }
}

/// Kills a command at its Nth fault point and runs it again. Returns false if it has fewer points.
fn killed(world: &World, hosts: &Hosts, command: &[&str], number: usize) -> bool {
    let begun = Instant::now();
    let Some(point) = kill(world, command, number) else {
        return false;
    };
    let took = hosts.take_writes();
    let open = took.iter().filter(|(_, takes)| *takes).count();
    assert!(open <= 1, "{point}: {took:?}");
    world.infra(command).exits(0);
    println!(
        "{:<8} {number:>3} {point:<60} {:>5.1} s",
        command[0],
        begun.elapsed().as_secs_f64()
    );
    true
}

/// Kills a command at its Nth fault point; returns the point's name. `None` if it has fewer, and came to its end.
pub fn kill(world: &World, command: &[&str], number: usize) -> Option<String> {
    let log = world.folder().join("grow.points");
    let _ = std::fs::remove_file(&log);
    let variables = [
        ("INFRA_FAULT_LOG", log.to_str().unwrap()),
        ("INFRA_FAULT_AT", &number.to_string()),
    ];
    let answer = world.infra_under(&variables, command);
    if answer.was_killed() {
        return Some(points::read(&log).pop().unwrap_or_default());
    }
    answer.exits(0);
    None
}

/// Does something with every point from 1 on, or with those of LIFE_POINTS, until there are no more.
pub fn at_every_point(name: &str, mut kill_at: impl FnMut(usize) -> bool) {
    const MOST: usize = 1000;
    let named = points::named("LIFE_POINTS", MOST);
    let numbers = named.unwrap_or_else(|| (1..=MOST).collect());
    let killed = numbers.into_iter().take_while(|number| kill_at(*number)).count();
    println!("`infra {name}` killed and run again: {killed} of {killed}");
}

/// Returns true for a command, unless LIFE_COMMANDS names others only.
pub fn is_wanted(command: &str) -> bool {
    std::env::var("LIFE_COMMANDS").map_or(true, |names| names.split(',').any(|name| name == command))
}

fn resize(size: usize) -> [&'static str; 6] {
    ["resize", "--type", TYPES[size], "--confirm", "demo", "--json"]
}

const REPLACE: [[&str; 5]; 2] = [
    ["replace", "replica", "--confirm", "demo", "--json"],
    ["replace", "master", "--confirm", "demo", "--json"],
];
const UPGRADE: [&str; 4] = ["upgrade", "--confirm", "demo", "--json"];

/// Resizes both hosts; their disks too.
fn grows(world: &World, hosts: &Hosts) {
    let (before, vars) = (roles(world), world.vars());
    world.infra(&["resize"]).exits(0).says("nothing to change");
    world.infra(&["resize", "--type", "t4g.small"]).exits(1).says("aarch64");
    world
        .infra(&["resize", "--disk-gb", "8"])
        .exits(64)
        .says("can only grow");
    let arguments = [&resize(0)[..], &["--disk-gb", "20"]].concat();
    let answer: Value = world.infra(&arguments).exits(0).json();
    println!(
        "resized in {} s; pause {} ms",
        answer["seconds"], answer["failovers"][0]["pause_ms"]
    );
    assert_eq!(answer["master"], json!(before.1), "{answer}");
    assert_eq!(answer["done"], json!([before.1, before.0]), "{answer}");
    assert!(answer["failovers"][0]["pause_ms"].as_u64().unwrap() < 3_000, "{answer}");
    is_whole(world, hosts, 0);
    assert_eq!(world.vars(), vars, "no var of the app has changed");
}

/// Marks both hosts as in need of a reboot, as an upgrade of the kernel does.
fn want_reboots(world: &World) {
    for host in ["master", "replica"] {
        let touch = ["ssh", host, "--", "sudo", "touch", "/run/reboot-required"];
        world.infra(&touch).exits(0);
    }
}

/// Kills each command at every point. LIFE_COMMANDS=resize,upgrade takes only those.
fn all(world: &World, hosts: &Hosts) {
    let mut size = usize::from(!is_wanted("resize"));
    if is_wanted("resize") {
        at_every_point("resize", |number| {
            size = 1 - size;
            let more = killed(world, hosts, &resize(size), number);
            is_whole(world, hosts, size);
            more
        });
    }
    for (name, command) in [("replace replica", &REPLACE[0]), ("replace master", &REPLACE[1])] {
        if is_wanted(&name.replace(' ', "-")) {
            at_every_point(name, |number| {
                let more = killed(world, hosts, command, number);
                is_whole(world, hosts, size);
                more
            });
        }
    }
    if is_wanted("upgrade") {
        at_every_point("upgrade", |number| {
            want_reboots(world);
            let more = killed(world, hosts, &UPGRADE, number);
            is_whole(world, hosts, size);
            more
        });
    }
}

/// On a sandbox whose app was moved and runs. Ends with hosts of the first size.
pub fn grows_and_is_repaired(world: &World, hosts: &Hosts) {
    if is_wanted("resize") {
        grows(world, hosts);
        world.nothing_was_lost(200);
    }
    if crate::all() {
        all(world, hosts);
    } else {
        // One kill each, at a point of every run's own.
        let seed = usize::try_from(jiff::Timestamp::now().as_second()).unwrap();
        let number = 1 + seed % 60;
        println!("kills `resize` at its point {number}, and `replace` at half of that");
        assert!(killed(world, hosts, &resize(1), number));
        is_whole(world, hosts, 1);
        killed(world, hosts, &REPLACE[0], 1 + number / 2);
        is_whole(world, hosts, 1);
    }
    world.nothing_was_lost(200);
}
