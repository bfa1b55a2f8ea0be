//! Keys that are copied in parts.

use super::contents::{self, Depth};
use super::interruptions::program;
use super::rig::{Copying, QUICK, RIGHTS, Redis, places, until};
use infra_agent::copy::{self, Request};
use infra_agent::record::SweepReport;
use redis::{Value, cmd};
use sandbox::addon::Engine;
use std::fs;
use std::time::Duration;

/// The most memory that a copy may have.
const MOST_MB: u64 = 64;

/// Adds a string and a hash of about this many bytes each.
pub fn fill(redis: &Redis, megabytes: u64) {
    let mut connection = redis.connection();
    redis.say(&["SETRANGE", "string", &((megabytes << 20) - 6).to_string(), "ending"]);
    for from in (0..megabytes * 1024).step_by(1024) {
        let mut command = cmd("HSET");
        command.arg("hash");
        for at in from..from + 1024 {
            command.arg(format!("field:{at}")).arg(format!("{at:0>960}"));
        }
        command.exec(&mut connection).unwrap();
    }
}

fn peak_mb(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

pub fn temporary(redis: &Redis) -> Vec<Vec<u8>> {
    let mut connection = redis.connection();
    cmd("KEYS").arg("infra:copying:*").query(&mut connection).unwrap()
}

#[test]
fn memory_stays_flat_however_large_a_key_is_and_however_it_is_read() {
    for to in [Engine::Redis8, Engine::Redis7] {
        let (source, target) = (Redis::start(Engine::Redis8), Redis::start(to));
        fill(&source, 80);
        source.fill(150, 900_000);
        let (report, peak) = copied_by_a_process(&source, &target);
        assert_eq!(
            (report.keys, report.in_parts, report.refused),
            (152, 2, 0),
            "{report:?}"
        );
        assert_eq!(target.digest(), source.digest());
        assert!(peak <= MOST_MB, "to {to:?} it took {peak} MB");
        assert_eq!(temporary(&target), Vec::<Vec<u8>>::new());
    }
}

/// Adds one key of about this many bytes, which is of this type.
fn fill_one(redis: &Redis, kind: &str, megabytes: u64) {
    let mut connection = redis.connection();
    if kind == "string" {
        redis.say(&["SETRANGE", "key", &((megabytes << 20) - 6).to_string(), "ending"]);
        return;
    }
    for from in (0..megabytes * 1024).step_by(1024) {
        let mut command = cmd(match kind {
            "hash" => "HSET",
            "list" => "RPUSH",
            "set" => "SADD",
            _ => "ZADD",
        });
        command.arg("key");
        for at in from..from + 1024 {
            let element = format!("{at:0>960}");
            match kind {
                "hash" => command.arg(format!("field:{at}")).arg(element),
                "zset" => command.arg(at).arg(element),
                _ => command.arg(element),
            };
        }
        command.exec(&mut connection).unwrap();
    }
}

/// `COPY_LARGE` is the size of each key in MB.
#[test]
fn a_key_of_any_type_is_copied_in_little_memory() {
    let megabytes = std::env::var("COPY_LARGE").map_or(8, |text| text.parse().unwrap());
    for kind in ["string", "hash", "list", "set", "zset"] {
        let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis7));
        fill_one(&source, kind, megabytes);
        let (report, peak) = copied_by_a_process(&source, &target);
        assert_eq!((report.in_parts, report.refused), (1, 0), "{kind}: {report:?}");
        assert_eq!(target.digest(), source.digest(), "{kind}");
        eprintln!("a {kind} of {megabytes} MB took {peak} MB, and {} ms", report.ms);
        assert!(peak <= MOST_MB, "a {kind} of {megabytes} MB took {peak} MB");
    }
}

/// Makes one sweep by the program. Returns its report, and the most memory that the program had, in MB.
fn copied_by_a_process(source: &Redis, target: &Redis) -> (SweepReport, u64) {
    target.script(&format!("ACL SETUSER copy on >copy-secret {RIGHTS}"));
    let folder = tempfile::tempdir().unwrap();
    let mut child = program(source.port, target, folder.path(), QUICK);
    let control = places(folder.path()).1;
    let mut last = None;
    until("the copy answers", || {
        last = copy::ask(&control, Request::default()).ok();
        last.is_some()
    });
    let peak = peak_mb(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    (last.unwrap(), peak)
}

#[test]
fn an_element_that_is_too_long_is_refused_by_the_name_of_its_key() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis7));
    source.fill(10, 10);
    let value = vec![b'x'; 101 << 20];
    let mut connection = source.connection();
    cmd("HSET")
        .arg("vast")
        .arg("field")
        .arg(value)
        .exec(&mut connection)
        .unwrap();
    let (report, peak) = copied_by_a_process(&source, &target);
    assert_eq!((report.keys, report.refused), (10, 1), "{report:?}");
    let why = report.first_refused.unwrap();
    assert!(why.contains("key vast") && why.contains("more than 100 MB"), "{why}");
    assert!(peak <= MOST_MB, "it took {peak} MB");
}

#[test]
fn a_copy_that_is_killed_within_a_large_key_leaves_nothing_behind() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis7));
    fill(&source, 24);
    target.script(&format!("ACL SETUSER copy on >copy-secret {RIGHTS}\nSET hash old"));
    let folder = tempfile::tempdir().unwrap();
    let mut child = program(source.port, &target, folder.path(), 4 << 20);
    until("a key is copied in parts", || !temporary(&target).is_empty());
    assert_eq!(target.text(&["GET", "hash"]), "old", "a key was there in part");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!temporary(&target).is_empty(), "it was not killed within a key");
    let mut child = program(source.port, &target, folder.path(), 4 << 20);
    until("the new copy has begun", || places(folder.path()).2.exists());
    until("what the old copy left is gone", || temporary(&target).len() <= 1);
    let control = places(folder.path()).1;
    until("the copy answers", || copy::ask(&control, Request::default()).is_ok());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(target.digest(), source.digest());
    assert_eq!(temporary(&target), Vec::<Vec<u8>>::new());
}

#[test]
fn a_large_key_that_changes_while_it_is_read_is_read_anew() {
    let (source, target) = (Redis::start(Engine::Redis8), Redis::start(Engine::Redis8));
    fill(&source, 8);
    let copying = Copying::with(&source, &target, 16 << 20, None);
    until("a key is copied in parts", || !temporary(&target).is_empty());
    // The lengths stay the same, so no cheap look shows these.
    for at in 0..20 {
        source.say(&["HSET", "hash", &format!("field:{}", at * 400), "other"]);
        source.say(&["SETRANGE", "string", &(at * 400_000).to_string(), "x"]);
        std::thread::sleep(Duration::from_millis(10));
    }
    until("both keys are the same", || target.digest() == source.digest());
    let report = copying.sweep();
    assert_eq!((report.keys, report.changed, report.in_parts), (2, 0, 2), "{report:?}");
}

#[test]
fn a_key_that_the_app_left_alone_looks_so_on_both_sides() {
    let (source, target) = (Redis::start(Engine::Redis8), Redis::start(Engine::Redis8));
    for redis in [&source, &target] {
        redis.say(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    }
    source.script("SET old text\nSET new text");
    std::thread::sleep(Duration::from_millis(3200));
    source.say(&["GET", "new"]);
    let copying = Copying::start(&source, &target);
    copying.sweep();
    let idle = |redis: &Redis, key: &str| match redis.say(&["OBJECT", "IDLETIME", key]) {
        Value::Int(idle) => idle,
        other => panic!("{other:?}"),
    };
    assert!(idle(&source, "old") >= 3 && idle(&source, "new") < 3);
    assert!(idle(&target, "old") >= 3 && idle(&target, "new") < 3);
    contents::assert_same(&source, &target, Depth::Whole, "used keys");
}

#[test]
fn how_often_a_key_is_used_comes_along() {
    let (source, target) = (Redis::start(Engine::Redis8), Redis::start(Engine::Redis8));
    for redis in [&source, &target] {
        redis.say(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
    }
    source.script("SET seldom text\nSET often text");
    source.script(&"GET often\n".repeat(3000));
    Copying::start(&source, &target).sweep();
    let often = |redis: &Redis, key: &str| redis.text(&["OBJECT", "FREQ", key]).parse::<u64>().unwrap();
    assert!(often(&source, "often") > often(&source, "seldom") + 5);
    assert_eq!(often(&target, "often"), often(&source, "often"));
    assert_eq!(often(&target, "seldom"), often(&source, "seldom"));
}
