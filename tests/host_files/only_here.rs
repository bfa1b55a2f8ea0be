//! A replaced master's last writes, held against the new master with real engines.

use super::failover::Pair;
use super::host::{Host, templates};
use super::log::until;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// Stands for programs that would change this computer; `runuser` runs what it is given.
fn stubs(host: &Host) {
    std::fs::create_dir_all(host.path("stubs")).unwrap();
    for (name, text) in [
        ("systemctl", "exit 0"),
        ("chown", "exit 0"),
        ("runuser", "shift 3; exec \"$@\""),
    ] {
        let path = host.path(&format!("stubs/{name}"));
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
}

/// Runs the script on the old master, whose engine is down.
fn only_here(pair: &Pair, seconds: u64) -> (bool, String) {
    stubs(&pair.old);
    let script = std::fs::read_to_string(templates().join("only-here.sh")).unwrap();
    let script = format!(
        "PEER=127.0.0.1\nPEER_PORT={}\nSECONDS_AT_STAKE={seconds}\n{}",
        pair.new.port,
        pair.old.moved(&script)
    );
    let path = format!(
        "{}:{}",
        pair.old.path("stubs").display(),
        std::env::var("PATH").unwrap()
    );
    std::fs::write(pair.old.path("script"), script).unwrap();
    let output = Command::new("bash")
        .arg(pair.old.path("script"))
        .env("PATH", path)
        .env("INFRA_ONLY_HERE", pair.old.path("list"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Writes on the old master, until the replica has all.
fn replicated(pair: &Pair, lines: &[&str]) {
    for line in lines {
        pair.old.say(line);
    }
    pair.old.say("SET mark 1");
    until("the replica to have all", || pair.new.ask(&["GET", "mark"]) == "1");
}

#[test]
fn exactly_the_keys_that_differ_are_listed_and_the_data_stays_as_it_is() {
    let mut pair = Pair::start();
    replicated(
        &pair,
        &[
            "SET same 1",
            "HSET hash a 1 b 2",
            "SADD set a b c",
            "ZADD zset 1 a 2 b",
            "RPUSH list a b",
            "XADD stream 1-1 f v",
            "SET gone 1",
            "SET counter 5",
        ],
    );
    assert!(pair.new.role(&["prepare"]).0 && pair.new.role(&["promote"]).0);
    // From here on each side has writes of its own.
    for line in [
        "SET same 1",
        "HSET hash b 2",
        "INCR counter",
        "SADD set d",
        "RPUSH list c",
        "XADD stream 2-1 f w",
        "DEL gone",
        "SELECT 3\nSET \"a key\\xff\" 1",
    ] {
        pair.old.say(line);
    }
    pair.new.ask(&["SET", "new", "1"]);
    pair.old.crash();
    let before = std::fs::read_to_string(pair.old.path("data/appendonlydir/appendonly.aof.manifest")).unwrap();
    let (done, text) = only_here(&pair, 60);
    assert!(done, "{text}");
    let lines: BTreeSet<&str> = text.lines().collect();
    let kept = format!("kept {}", pair.old.path("list").display());
    let expected = [
        "0 string string \"counter\"",
        "0 set set \"set\"",
        "0 list list \"list\"",
        "0 stream stream \"stream\"",
        "0 none string \"gone\"",
        "3 string none \"a\\x20key\\xff\"",
        &kept,
    ];
    assert_eq!(lines, BTreeSet::from(expected), "{text}");
    assert!(!pair.old.path("data/only-here").exists());
    let after = std::fs::read_to_string(pair.old.path("data/appendonlydir/appendonly.aof.manifest")).unwrap();
    assert_eq!(after, before, "the data is not touched");
    // The same again, with the engine that has the data.
    pair.old.start();
    assert_eq!(pair.old.ask(&["GET", "counter"]), "6");
}

#[test]
fn a_host_that_follows_already_and_a_master_that_is_equal_have_nothing_to_list() {
    let mut pair = Pair::start();
    replicated(&pair, &["SET a 1"]);
    pair.old.crash();
    // Most sources have as many databases as by default, and then the setting is absent.
    let config = pair.old.text("etc/redis/redis.conf");
    let without: Vec<&str> = config.lines().filter(|line| !line.starts_with("databases ")).collect();
    assert_ne!(without.len(), config.lines().count());
    std::fs::write(pair.old.path("etc/redis/redis.conf"), without.join("\n") + "\n").unwrap();
    let (done, text) = only_here(&pair, 60);
    assert!(done && text.lines().count() == 1 && text.starts_with("kept "), "{text}");
    let config = pair.old.text("etc/redis/redis.conf") + "replicaof 127.0.0.1 1\n";
    std::fs::write(pair.old.path("etc/redis/redis.conf"), config).unwrap();
    assert_eq!(only_here(&pair, 60), (true, "no-data\n".into()));
}

#[test]
fn a_new_master_that_does_not_answer_is_an_error() {
    let mut pair = Pair::start();
    replicated(&pair, &["SET a 1"]);
    pair.old.crash();
    pair.new.crash();
    let (done, text) = only_here(&pair, 60);
    assert!(!done && text.contains("only-here: "), "{text}");
    assert!(!pair.old.path("data/only-here").exists());
}
