use super::baseline::only_hot;
use super::*;
use crate::effects::redis::compare::Comparison;
use crate::effects::redis::key::Key;
use crate::effects::redis::tap::DirtyKeys;
use std::collections::BTreeMap;

const REPLID: &str = "8371445ee67d4a1d5d6cb5c4a4b1c3f5d0b9a3b1";

fn master(keys: u64) -> Info {
    Info::parse(&format!(
        "redis_version:7.0.15\r\nrun_id:one\r\nused_memory:1\r\nrole:master\r\nmaster_replid:{REPLID}\r\nmaster_repl_offset:900\r\n\
         repl_backlog_active:1\r\nrepl_backlog_first_byte_offset:1\r\ndb0:keys={keys},expires=0,avg_ttl=0\r\n"
    ))
    .unwrap()
}

fn follower(link: &str, applied: u64) -> Info {
    Info::parse(&format!(
        "redis_version:7.0.15\r\nrun_id:two\r\nused_memory:1\r\nrole:slave\r\nmaster_host:h\r\nmaster_port:1\r\nmaster_link_status:{link}\r\n\
         slave_repl_offset:{applied}\r\nmaster_replid:{REPLID}\r\nmaster_repl_offset:{applied}\r\nrepl_backlog_active:1\r\n\
         repl_backlog_first_byte_offset:1\r\n"
    ))
    .unwrap()
}

fn objections(source: &Info, first: &Info, second: &Info) -> Vec<String> {
    let keys = BTreeMap::from([(0, 1000)]);
    Ground {
        run_id: "one",
        replid: REPLID,
        keys: &keys,
        removed: 0,
        offset: 900,
    }
    .objections(source, first, second)
}

#[test]
fn the_gate_holds_when_all_is_as_it_was_compared() {
    assert_eq!(
        objections(&master(1000), &follower("up", 900), &follower("up", 914)),
        Vec::<String>::new()
    );
    assert_eq!(
        objections(&master(901), &follower("up", 900), &follower("up", 900)),
        Vec::<String>::new()
    );
}

#[test]
fn a_small_database_may_lose_a_few_keys() {
    let well = follower("up", 900);
    let found = |before: u64, now: u64, removed: u64| {
        Ground {
            run_id: "one",
            replid: REPLID,
            keys: &BTreeMap::from([(0, before)]),
            removed,
            offset: 900,
        }
        .objections(&master(now), &well, &well)
    };
    for (before, now) in [(7, 6), (1, 0), (7, 2), (20, 15)] {
        assert_eq!(found(before, now, 0), Vec::<String>::new(), "{before} {now}");
    }
    assert_eq!(found(20, 14, 0).len(), 1);
    // Keys that expired or were deleted are not lost.
    assert_eq!(found(1_000, 500, 400), Vec::<String>::new());
    assert_eq!(found(1_000, 500, 399).len(), 1);
}

#[test]
fn a_source_that_was_demoted_is_named() {
    let well = follower("up", 900);
    let demoted = Info {
        role: ServerRole::Replica,
        ..master(1000)
    };
    assert_eq!(
        objections(&demoted, &well, &well),
        ["the source follows another server"]
    );
}

#[test]
fn each_thing_that_changed_is_named() {
    let (well, source) = (follower("up", 900), master(1000));
    let restarted = Info {
        run_id: "three".into(),
        ..source.clone()
    };
    let renamed = Info {
        replid: "other".into(),
        ..source.clone()
    };
    let foreign = Info {
        replid: "other".into(),
        ..well.clone()
    };
    for (found, word) in [
        (objections(&restarted, &well, &well), "restarted"),
        (objections(&renamed, &well, &well), "replication id"),
        (
            objections(&source, &foreign, &well),
            "master has another replication id",
        ),
        (
            objections(&source, &well, &foreign),
            "replica has another replication id",
        ),
        (objections(&source, &follower("down", 900), &well), "link of the master"),
        (
            objections(&source, &well, &follower("down", 900)),
            "link of the replica",
        ),
        (
            objections(&source, &follower("up", 899), &well),
            "master has not applied",
        ),
        (
            objections(&source, &well, &follower("up", 899)),
            "replica has not applied",
        ),
        (objections(&source, &source, &well), "master follows nobody"),
        (objections(&master(899), &well, &well), "has 899 keys"),
        (
            objections(
                &Info {
                    keyspace: BTreeMap::new(),
                    ..source.clone()
                },
                &well,
                &well,
            ),
            "has 0 keys",
        ),
    ] {
        assert!(found.iter().any(|line| line.contains(word)), "{word}: {found:?}");
    }
}

fn comparison(differing: &[(u32, &str)]) -> Comparison {
    use crate::effects::redis::compare::{DifferenceKind, DifferingKey};
    Comparison {
        databases: BTreeMap::new(),
        compared: 10,
        missing: 0,
        extra: 0,
        different: differing.len() as u64,
        uncomparable: 0,
        expired: 0,
        counts_are_approximate: false,
        first: differing
            .iter()
            .map(|(database, key)| DifferingKey {
                database: *database,
                key: (*key).into(),
                kind: DifferenceKind::Different,
                reason: String::new(),
            })
            .collect(),
        rounds: vec![],
        expiry_tolerance_ms: 0,
        expire_later: 0,
        expire_later_by_ms: 0,
        not_compared: vec![],
        seconds: 0.0,
    }
}

#[test]
fn only_keys_that_the_stream_shows_may_differ_when_following_is_compared() {
    let dirty = DirtyKeys {
        keys: vec![Key {
            database: 1,
            name: b"hot".to_vec(),
        }],
        ..DirtyKeys::default()
    };
    assert!(only_hot(&comparison(&[(1, "hot")]), &dirty, &[0, 1]));
    assert!(!only_hot(&comparison(&[(0, "hot")]), &dirty, &[0, 1]));
    assert!(!only_hot(&comparison(&[(1, "hot"), (1, "cold")]), &dirty, &[0, 1]));
    let uncounted = Comparison {
        different: 2,
        ..comparison(&[(1, "hot")])
    };
    assert!(
        !only_hot(&uncounted, &dirty, &[0, 1]),
        "one that is not shown may be cold"
    );
    let module = Comparison {
        uncomparable: 1,
        ..comparison(&[(1, "hot")])
    };
    assert!(!only_hot(&module, &dirty, &[0, 1]));
    let lost = DirtyKeys {
        everything: true,
        ..DirtyKeys::default()
    };
    assert!(!only_hot(&comparison(&[(1, "hot")]), &lost, &[0, 1]));
}
