//! Every type, end and database arrives as it is.

use super::rig::{Copying, Redis, until};
use infra_agent::copy::Request;
use redis::cmd;
use sandbox::addon::Engine;
use std::time::Duration;

const EVERY_TYPE: &str = "
    SET string value
    SET ends value PX 3600000
    SET counter 41
    SETRANGE bytes 3 x
    RPUSH list a b c
    SADD numbers 1 2 3
    SADD words alpha beta gamma
    ZADD scores 1.5 one -2 two 3 three
    HSET hash field value other 2
    XADD stream 5-1 a 1
    XADD stream 5-2 a 2
    XDEL stream 5-1
    XGROUP CREATE stream readers 0
    XREADGROUP GROUP readers one COUNT 1 STREAMS stream >
    PFADD visitors a b c
    GEOADD places 13.36 38.11 Palermo
    SELECT 3
    SET elsewhere here
    RPUSH many a";

/// All ends of keys, which the digest does not hold.
fn ends(redis: &Redis) -> Vec<i64> {
    let mut connection = redis.connection();
    let ask = |key: &str| cmd("PEXPIRETIME").arg(key).clone();
    ["ends", "string"]
        .iter()
        .map(|key| ask(key).query(&mut connection).unwrap())
        .collect()
}

#[test]
fn every_type_and_database_arrives_with_its_end() {
    for (from, to) in [
        (Engine::Redis7, Engine::Redis8),
        (Engine::Redis8, Engine::Redis8),
        (Engine::Valkey8, Engine::Valkey8),
        (Engine::Redis7, Engine::Valkey8),
    ] {
        let (source, target) = (Redis::start(from), Redis::start(to));
        source.script(EVERY_TYPE);
        let library = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";
        source.say(&["FUNCTION", "LOAD", library]);
        let copying = Copying::start(&source, &target);
        let report = copying.sweep();
        assert_eq!((report.keys, report.refused, report.held), (14, 0, 0), "{report:?}");
        assert_eq!(ends(&target), ends(&source), "{from:?} to {to:?}");
        assert_eq!(target.digest(), source.digest(), "{from:?} to {to:?}");
        let functions = ["FUNCTION", "LIST", "WITHCODE"];
        assert_eq!(target.say(&functions), source.say(&functions));
        assert_eq!(
            target.text(&["XINFO", "GROUPS", "stream"]),
            source.text(&["XINFO", "GROUPS", "stream"])
        );
    }
}

#[test]
fn names_and_values_are_bytes_and_may_be_large() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis7));
    let mut connection = source.connection();
    for (key, value) in [
        (&b"\r\n\0\xff"[..], vec![0, 255, 13, 10]),
        (b"", b"an empty name".to_vec()),
        (b"large", vec![b'x'; 9 << 20]),
    ] {
        cmd("SET").arg(key).arg(value).exec(&mut connection).unwrap();
    }
    let copying = Copying::start(&source, &target);
    let report = copying.sweep();
    assert_eq!((report.keys, report.refused), (3, 0), "{report:?}");
    assert!(report.largest > 9 << 20, "{report:?}");
    assert_eq!(target.digest(), source.digest());
}

#[test]
fn fields_that_end_keep_their_ends() {
    let (source, target) = (Redis::start(Engine::Redis8), Redis::start(Engine::Redis8));
    source.script("HSET hash stays 1 ends 2\nHPEXPIRE hash 3600000 FIELDS 1 ends");
    let copying = Copying::start(&source, &target);
    copying.sweep();
    let ask = ["HPEXPIRETIME", "hash", "FIELDS", "2", "stays", "ends"];
    assert_eq!(target.say(&ask), source.say(&ask));
}

#[test]
fn an_old_source_gives_ends_by_its_own_clock() {
    let (source, target) = (Redis::start(Engine::Redis62), Redis::start(Engine::Redis8));
    source.script("SET a 1 PX 3600000\nSET b 2\nRPUSH c x");
    let copying = Copying::start(&source, &target);
    let report = copying.sweep();
    assert_eq!((report.keys, report.refused), (3, 0), "{report:?}");
    let left = |redis: &Redis| redis.text(&["PTTL", "a"]).parse::<i64>().unwrap();
    assert!((left(&source) - left(&target)).abs() < 1000);
    assert_eq!(target.text(&["PTTL", "b"]), "-1");
    let writes = target.number("total_commands_processed");
    // Two readings of the clock differ a little, and that is no change.
    assert_eq!(copying.sweep().changed, 0, "after {writes} commands");
}

#[test]
fn a_source_that_allows_little_more_than_reading_is_copied() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis8));
    source.script(EVERY_TYPE);
    source.script("ACL SETUSER default -@admin -@dangerous -@scripting -memory -client");
    let copying = Copying::start(&source, &target);
    let report = copying.sweep();
    assert_eq!(
        (report.keys, report.refused, report.functions),
        (14, 0, false),
        "{report:?}"
    );
    assert_eq!(report.source_run_id, "", "INFO was forbidden");
    assert_eq!(target.keys(), 12);
}

#[test]
fn an_unchanged_key_is_not_written_again() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis7));
    source.fill(3000, 20);
    let copying = Copying::start(&source, &target);
    assert_eq!(copying.sweep().keys, 3000);
    assert_eq!(copying.sweep().changed, 0);
    source.script("SET key:5 other\nEXPIRE key:6 1000\nSET new 1\nDEL key:7\nRPUSH list a");
    let report = copying.sweep();
    assert_eq!((report.changed, report.deleted), (4, 1), "{report:?}");
    assert_eq!(target.digest(), source.digest());
}

#[test]
fn writes_all_the_time_converge_once_they_stop() {
    let (source, target) = (Redis::start(Engine::Redis8), Redis::start(Engine::Redis8));
    source.fill(2000, 10);
    let copying = Copying::start(&source, &target);
    let mut connection = source.connection();
    let mut state = 42_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..20_000 {
        let key = format!("key:{}", random(2500));
        let mut command = match random(8) {
            0 => cmd("DEL").arg(&key).clone(),
            1 => cmd("SET")
                .arg(&key)
                .arg(random(1000))
                .arg("PX")
                .arg(1 + random(300))
                .clone(),
            2 => cmd("RENAME").arg(&key).arg(format!("key:{}", random(2500))).clone(),
            3 => cmd("RPUSH").arg(format!("list:{}", random(50))).arg(random(10)).clone(),
            4 => cmd("LPOP").arg(format!("list:{}", random(50))).clone(),
            5 => cmd("HSET")
                .arg(format!("hash:{}", random(50)))
                .arg(random(10))
                .arg(random(10))
                .clone(),
            6 => cmd("PERSIST").arg(&key).clone(),
            _ => cmd("SET").arg(&key).arg(random(1000)).clone(),
        };
        // A key may be missing, or of another type.
        let _ = command.arg(&[] as &[&str]).query::<redis::Value>(&mut connection);
    }
    // Keys that are about to end would differ by who removes them first.
    std::thread::sleep(Duration::from_millis(400));
    until("expired keys are gone", || {
        source.say(&["DBSIZE"]);
        let accepted = Request {
            accept_deletions: true,
            ..Request::default()
        };
        copying.ask(accepted).unwrap();
        target.digest() == source.digest()
    });
}

#[test]
fn a_value_that_the_master_does_not_know_is_named() {
    let (source, target) = (Redis::start(Engine::Redis8), Redis::start(Engine::Redis7));
    source.script("HSET hash ends 2\nHPEXPIRE hash 3600000 FIELDS 1 ends\nSET a 1");
    let copying = Copying::start(&source, &target);
    let report = copying.sweep();
    assert!(report.refused >= 1, "{report:?}");
    assert!(
        report.first_refused.unwrap().contains("database 0 key"),
        "no key is named"
    );
}

#[test]
fn a_sweep_that_looks_at_the_master_between_its_writes_refuses_nothing() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis7));
    source.fill(6000, 1000);
    // It takes longer than the two seconds after which both sides are looked at again. A value of one
    // letter over and over is short as a payload.
    let copying = Copying::with(&source, &target, 80 << 10, None);
    until("a gentle sweep has ended", || copying.status().sweeps > 0);
    let report = copying.status().last_sweep.unwrap();
    assert!(report.ms > 2500, "{report:?}");
    assert_eq!((report.keys, report.refused), (6000, 0), "{report:?}");
    assert_eq!(target.digest(), source.digest());
}

#[test]
fn a_lease_that_was_renewed_a_moment_later_ends_when_it_ends_on_the_source() {
    let (source, target) = (Redis::start(Engine::Redis7), Redis::start(Engine::Redis7));
    source.script("SET ends value PX 3600000\nSET string value PX 3600000");
    let copying = Copying::start(&source, &target);
    copying.sweep();
    for (key, end) in ["ends", "string"].iter().zip(ends(&source)) {
        source.say(&["PEXPIREAT", key, &(end + 22).to_string()]);
    }
    copying.sweep();
    assert_eq!(ends(&target), ends(&source));
}
