//! The whole way on the sandbox, as a user walks it: real machines, real Redis, a real app under load, the built binaries.
//!
//! Needs root, as the sandbox does. The tests raise one sandbox after the other; there is room for one on a computer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at what it did not expect"
)]

mod codes;
mod contract;
mod past;
mod tables;

use serde_json::Value;
use std::time::Duration;
use testkit::world::World;

fn plan_lines(plan: &Value) -> Vec<String> {
    let cloud = plan["plan"]["cloud"].to_string();
    let hosts = plan["plan"]["hosts"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|steps| steps.as_array().unwrap().clone());
    std::iter::once(cloud)
        .chain(hosts.map(|step| step.to_string()))
        .collect()
}

fn as_many_changes_are_made_as_were_planned(printed: &str) {
    let first_number = |line: &str| line.split_whitespace().find_map(|word| word.parse::<u64>().ok());
    let of = |words: &str| printed.lines().find(|line| line.contains(words)).and_then(first_number);
    let (planned, made) = (of("In all: "), of(" changes made"));
    assert!(planned.is_some() && planned == made, "{planned:?} {made:?} {printed}");
}

#[test]
fn an_app_moves_with_one_command_and_nothing_is_lost() {
    // AWS, platform and machines answer late, throttled and in another order; see docs/sandbox.md.
    let world = World::raise_alternating_as(5_000, 0, &["--time-scale", "0.1", "--knobs"]);

    // A dry run plans and makes nothing: the second one finds as much to do as the first.
    for _ in 0..2 {
        let plan = world
            .infra(&["up", "--dry-run", "--detailed-exitcode", "--json"])
            .exits(2)
            .json();
        assert!(plan_lines(&plan)[0].contains("t3.micro"), "{plan}");
    }

    as_many_changes_are_made_as_were_planned(&world.infra(&["up", "--yes"]).exits(0).printed());
    let status = world.status();
    assert_eq!(status["phase"], "following");
    assert_eq!(status["app"], "source");
    assert_eq!(status["drift"], serde_json::json!([]), "{status}");
    for server in ["master", "replica"] {
        assert_eq!(status["servers"][server]["role"], "replica", "{status}");
        assert_eq!(status["servers"][server]["link_up"], true, "{status}");
    }
    assert!(status["backup"]["keys"].as_u64().unwrap() >= 4_000, "{status}");

    unchanged_twice_and_then_just_what_was_edited(&world);
    differences_are_found_both_ways(&world);
    roles_survive_a_reboot(&world, "replica");
    world.infra(&["verify"]).exits(0);

    // App access is closed before the promotion, and the wrong name opens nothing.
    world.infra(&["switch-app", "--confirm", "someone-else"]).exits(64);
    world.infra(&["switch-app"]).exits(64).says("--confirm demo");
    let moved = world
        .infra(&["switch-app", "--confirm", "demo", "--json"])
        .exits(0)
        .json();
    assert_eq!(moved["late_writes"], 0, "{moved}");
    assert!(moved["keys_compared"].as_u64().unwrap() > 4_000, "{moved}");
    assert!(moved["fenced_ms"].as_u64().unwrap() < 10_000, "{moved}");

    let status = world.status();
    assert_eq!(
        (&status["phase"], &status["app"]),
        (&"settled".into(), &"endpoint".into()),
        "{status}"
    );
    assert_eq!(status["servers"]["master"]["role"], "master", "{status}");
    assert!(
        world.vars().contains_key("HOSTED_REDIS_URL"),
        "the add-on stays attached"
    );

    // A further run has nothing to change.
    assert_eq!(world.infra(&["up", "--yes", "--json"]).exits(0).json()["changes"], 0);
    world.infra(&["switch-app", "--confirm", "demo"]).exits(0);

    roles_survive_a_reboot(&world, "master");
    world.nothing_was_lost(2_000);
    codes::each_damage_has_its_own(&world);
    past::comes_back(&world);
    past::is_proven_on_the_replica(&world);
    past::comes_back_in_parts(&world);
    an_empty_master_does_not_start(&world);
    world.no_secret_was_shown();
    contract::is_kept(&world);
    going_down_is_refused_until_the_app_is_elsewhere(&world);
}

/// A provider that lets nobody replicate, but lets one download a file.
#[test]
fn a_pair_without_a_source_gets_its_first_data_from_a_file() {
    let world = World::raise_alternating(10, 1);
    world.scale(0, 0);
    world.without_a_source();
    world.infra(&["up", "--yes"]).exits(0);
    assert_eq!(world.infra(&["up", "--yes", "--json"]).exits(0).json()["changes"], 0);
    // There is no source to take over from, so a promotion is a failover.
    world
        .infra(&["promote", "--dry-run"])
        .exits(0)
        .says("give the role to the replica");
    let file = past::rdb_file(&world, "first", "data");
    world
        .infra(&["restore", "--from", &file, "--confirm", "demo"])
        .exits(0)
        .says("1 keys");
    world
        .infra(&["redis-cli", "replica", "GET", "first"])
        .exits(0)
        .says("data");
    let status = world.status();
    assert_eq!(
        (&status["phase"], &status["drift"]),
        (&"without a source".into(), &serde_json::json!([])),
        "{status}"
    );
    let switch = || world.infra(&["switch-app", "--confirm", "demo"]);
    switch().exits(1).says("heroku addons:detach REDIS -a demo");
    world.keep_the_addon_under_another_name();
    switch().exits(0);
    assert_eq!(world.status()["app"], "endpoint");
    switch().exits(0);
    roles_survive_a_reboot(&world, "master");
    world
        .infra(&["redis-cli", "master", "GET", "first"])
        .exits(0)
        .says("data");
    tables::reach_the_master(&world);
    past::mistake_is_taken_back(&world);
    past::file_goes_onto_an_instance(&world, &file);
    world.no_secret_was_shown();
}

/// The app takes a database into use that the pair does not have: the engine ends whenever it loads a full copy.
#[test]
fn an_engine_that_cannot_load_its_copy_stays_down_and_status_has_its_words() {
    let world = World::raise_alternating(10, 5);
    world.scale(0, 0);
    world.configure("redis: {settings: {databases: 2}}\n");
    world.infra(&["up", "--yes"]).exits(0);
    // The add-on knows a password alone, and redis-cli would send the name too.
    let url = world.vars()["REDIS_URL"].clone();
    let (scheme, rest) = url.split_once("://").unwrap();
    let url = format!("{scheme}://{}", rest.split_once(':').unwrap().1);
    world.in_the_sandbox(&format!("redis-cli --insecure -u '{url}' -n 5 SET elsewhere 1"));
    let engine = world.engine();
    let data = format!("/var/lib/{engine}/appendonlydir");
    let script = format!("'systemctl stop {engine}-server; rm -r {data}; systemctl --no-block start {engine}-server'");
    world.infra(&["ssh", "master", "sudo", "sh", "-c", &script]).exits(0);
    world.until(Duration::from_secs(60), "status to have the engine's words", || {
        let alarms = world.status()["alarms"].to_string();
        alarms.contains("ended twice") && alarms.contains("configured to handle more than 2 databases")
    });
    world.infra(&["up", "--yes"]).exits(1).says("databases to at least 6");
    world.configure("");
    world.infra(&["up", "--yes"]).exits(0);
    world
        .infra(&["redis-cli", "replica", "-n", "5", "GET", "elsewhere"])
        .exits(0)
        .says("1");
}

#[test]
fn a_rehearsal_finds_out_whether_the_app_gets_in() {
    let world = World::raise_alternating(1_000, 2);
    world
        .infra(&["switch-app", "--rehearse"])
        .exits(64)
        .says("INFRA_REHEARSAL_PREFIX");
    world.infra(&["up", "--yes"]).exits(0);
    for (mistake, reason) in [
        ("--without-tls", "speaks no TLS"),
        ("--without-authority", "does not trust the authority"),
        ("--without-user", "without the user name"),
        ("--with-keys", "runs KEYS and may not"),
    ] {
        world.rehearse_by(mistake);
        world.infra(&["switch-app", "--rehearse"]).exits(5).says(reason);
        // A way in that failed once is not tried on the live app.
        world.infra(&["switch-app", "--confirm", "demo"]).exits(5).says(reason);
    }
    world.rehearse_by("");
    let logs = r#"{"logs": {"late_seconds": 3, "endless": true}}"#;
    world.platform("POST", "/_sandbox/apps/demo/behaviour", logs);
    let passed = world.infra(&["switch-app", "--rehearse", "--json"]).exits(0).json();
    assert_eq!(passed["rehearsal"]["verdict"], "passed", "{passed}");
    let status = world.status();
    assert_eq!(
        (&status["phase"], &status["app"], &status["drift"]),
        (&"following".into(), &"source".into(), &serde_json::json!([])),
        "the port is closed again and nothing was switched: {status}"
    );
    let checked = world.infra(&["check", "--json"]).exits(0).json();
    let findings = checked["findings"].as_array().unwrap();
    assert!(
        findings
            .iter()
            .any(|finding| finding["id"] == "login" && finding["severity"] == "ok"),
        "{checked}"
    );
    // Now that it is known to get in, it may.
    world.infra(&["switch-app", "--confirm", "demo"]).exits(0);
    world.nothing_was_lost(1_000);
    world.no_secret_was_shown();
}

#[test]
fn promote_first_holds_the_source_until_the_switch() {
    let world = World::raise_alternating(2_000, 3);
    world.infra(&["up", "--yes"]).exits(0);
    let promoted = world.infra(&["promote", "--confirm", "demo", "--json"]).exits(0).json();
    assert!(promoted["held_until"].is_string(), "{promoted}");
    let status = world.status();
    assert_eq!(
        (&status["phase"], &status["app"]),
        (&"promoted".into(), &"source".into()),
        "{status}"
    );
    world.infra(&["switch-app", "--confirm", "demo"]).exits(0);
    world.nothing_was_lost(2_000);
}

#[test]
fn a_promotion_that_nobody_used_is_taken_back_and_repeated() {
    let world = World::raise_alternating(2_000, 4);
    world.infra(&["up", "--yes"]).exits(0);
    world.infra(&["promote", "--confirm", "demo", "--hold", "2s"]).exits(0);
    // The pause ends by itself and the app writes to its old side again: the promotion is worth nothing any more.
    world.wait_for_more_writes(1_000);
    world.infra(&["switch-app", "--confirm", "demo"]).exits(0);
    world.nothing_was_lost(2_000);
}

fn unchanged_twice_and_then_just_what_was_edited(world: &World) {
    assert_eq!(world.infra(&["up", "--yes", "--json"]).exits(0).json()["changes"], 0);
    world.infra(&["up", "--dry-run", "--detailed-exitcode"]).exits(0);
    world.configure("redis: {maxmemory: 300mb}\n");
    let plan = world.infra(&["up", "--dry-run", "--json"]).exits(0).json();
    let steps: Vec<String> = plan_lines(&plan)[1..].to_vec();
    assert!(
        !steps.is_empty()
            && steps
                .iter()
                .all(|step| step.contains(&format!("{}.conf", world.engine())) || step.contains("maxmemory")),
        "{steps:?}"
    );
    let run_id = world.status()["servers"]["master"]["run_id"].clone();
    world.infra(&["up", "--yes"]).exits(0);
    let master = world.status()["servers"]["master"].clone();
    assert_eq!(master["maxmemory"], 300 << 20, "{master}");
    assert_eq!(master["run_id"], run_id, "a limit is changed without a restart");
    assert_eq!(world.infra(&["up", "--yes", "--json"]).exits(0).json()["changes"], 0);
}

fn differences_are_found_both_ways(world: &World) {
    world.infra(&["verify"]).exits(0);
    let redis = |arguments: &[&str]| world.infra(&[&["redis-cli", "master"], arguments].concat()).exits(0);
    redis(&["CONFIG", "SET", "replica-read-only", "no"]);
    redis(&["SET", "sneaked-in", "1"]);
    let found = world.infra(&["verify", "--rounds", "2", "--pause", "200ms"]).exits(5);
    found.says("sneaked-in");
    redis(&["DEL", "sneaked-in"]);
    redis(&["CONFIG", "SET", "replica-read-only", "yes"]);
    world.infra(&["verify"]).exits(0);
}

/// Each host in turn. It comes back in its role, and whoever followed somebody follows again.
fn roles_survive_a_reboot(world: &World, role_of_master: &str) {
    for host in ["replica", "master"] {
        let before = world.status()["servers"][host]["run_id"].clone();
        // The connection ends with the machine, so its exit code says nothing.
        world.infra(&["ssh", host, "sudo", "systemctl", "reboot"]);
        world.until(Duration::from_secs(90), &format!("the {host} to be back"), || {
            let servers = &world.status()["servers"];
            let is_as_before = |name: &str, role: &str| {
                servers[name]["role"] == role && (role == "master" || servers[name]["link_up"] == true)
            };
            servers[host]["run_id"].is_string()
                && servers[host]["run_id"] != before
                && is_as_before("master", role_of_master)
                && is_as_before("replica", "replica")
        });
    }
}

/// A master whose data is gone would empty its replica within a second: it is not started, and `status` says why.
fn an_empty_master_does_not_start(world: &World) {
    let keys = |status: &Value| -> u64 {
        let databases = status["servers"]["replica"]["keys"].as_object().unwrap();
        databases
            .values()
            .map(|database| database["keys"].as_u64().unwrap())
            .sum()
    };
    let before = keys(&world.status());
    let engine = world.engine();
    let data = format!("/var/lib/{engine}/appendonlydir");
    world.infra(&[
        "ssh",
        "master",
        "sudo",
        "sh",
        "-c",
        &format!("'systemctl stop {engine}-server; mv {data} {data}.gone; sync; systemctl reboot'"),
    ]);
    let mut told = Value::Null;
    world.until(Duration::from_secs(90), "status to say why", || {
        told = world.status();
        told["alarms"].to_string().contains("was not started")
    });
    // Some of them have an end of their own.
    assert!(keys(&told) + before / 50 >= before, "{before} before: {told}");
    assert!(told["servers"]["master"]["error"].is_string(), "{told}");
    // It is tried for ever: whoever puts the data back has no more to do.
    world
        .infra(&["ssh", "master", "sudo", "mv", &format!("{data}.gone"), &data])
        .exits(0);
    world.until(Duration::from_secs(60), "the master to serve again", || {
        let status = world.status();
        status["servers"]["master"]["role"] == "master" && status["servers"]["replica"]["link_up"] == true
    });
}

fn going_down_is_refused_until_the_app_is_elsewhere(world: &World) {
    world
        .infra(&["down", "--confirm", "demo"])
        .exits(1)
        .says("names its endpoint");
    world.scale(0, 0);
    let hosted = world.vars()["HOSTED_REDIS_URL"].clone();
    world.set_var("REDIS_URL", &hosted);
    world.infra(&["down", "--confirm", "demo"]).exits(0).says("backups");
    world.infra(&["down", "--confirm", "demo"]).exits(0);
    assert!(!world.inventory().exists());
}
