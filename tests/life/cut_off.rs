//! Forced failovers whose old master goes on: its stop hangs, or only the app still gets through to it.

use crate::hosts::Hosts;
use crate::network::{Cut, Network, OPERATOR};
use crate::{answer_of, is_whole, roles};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::access;
use testkit::world::World;

fn force(world: &World, timeout: &str) -> Value {
    let words = [
        "promote",
        "--force",
        "--confirm",
        "demo",
        "--json",
        "--fence-timeout",
        timeout,
    ];
    let answer = world.infra(&words).exits(0).json();
    println!(
        "forced: {} after {} ms, {} ms from there to the address; writes of {} s may be missing",
        answer["proof"], answer["fence_ms"], answer["failover_ms"], answer["missing_s"]
    );
    answer
}

/// A stop that hangs: the old master goes on, and a network ACL is the fence.
pub fn a_master_whose_stop_hangs_is_cut_off(world: &World, hosts: &Hosts) {
    let (master, replica) = roles(world);
    access::turn(&json!({ "stop_hangs": true }));
    let mut app = hosts.connect(&master);
    assert!(hosts.takes(&mut app), "the app is connected to the old master");
    let answer = force(world, "30s");
    assert_eq!(answer["fenced_by"], "network-acl", "{answer}");
    assert!(answer["failover_ms"].as_u64().unwrap() < 5_000, "{answer}");
    assert!(!hosts.takes(&mut app), "a connection from before still writes");
    assert!(!hosts.both_take_writes());
    world.wait_for_more_writes(200);
    // It may still run, so it stays cut off.
    world.infra(&["up", "--yes"]).exits(1).says("EC2 says that");
    assert!(!hosts.takes(&mut app));
    access::turn(&json!({ "stop_hangs": false }));
    world.until(Duration::from_secs(60), "the old master to stop", || {
        hosts.state(&master) == "stopped"
    });
    world.infra(&["up", "--yes"]).exits(0).says("network ACL");
    is_whole(
        world,
        &answer_of(&(master.clone(), replica.clone())),
        &(master, replica),
    );
}

/// The operator and the other host no longer reach the master, and the app does: it takes writes
/// that nobody else has until it is fenced, and none after.
pub fn a_master_that_only_the_app_reaches_takes_no_write_after(world: &World, hosts: &Hosts) {
    let (master, replica) = roles(world);
    let network = Network::of(&master);
    let peer = hosts.addresses(&replica);
    let mut app = hosts.connect(&master);
    assert!(network.cut(&Cut::AllButConnected(&peer)));
    assert!(hosts.takes(&mut app), "the app is cut off too");
    let answer = force(world, "5m");
    assert_eq!(answer["fenced_by"], "stop", "{answer}");
    assert!(!hosts.takes(&mut app), "a connection from before still writes");
    // Somebody starts it again, and it still reaches neither.
    hosts.start(&master);
    let cut_from = [peer, vec![OPERATOR.to_string()]].concat();
    world.until(
        Duration::from_secs(60),
        "the old master's network to be cut again",
        || network.cut(&Cut::AllButConnected(&cut_from)),
    );
    world.until(Duration::from_secs(120), "the old master to stay down", || {
        hosts
            .file(&master, "/var/lib/infra/refused")
            .contains("leads to another host")
    });
    network.heal();
    assert!(!hosts.both_take_writes());
    world.infra(&["up", "--yes"]).exits(0);
    is_whole(
        world,
        &answer_of(&(master.clone(), replica.clone())),
        &(master, replica),
    );
}
