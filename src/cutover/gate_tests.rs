use super::*;

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
