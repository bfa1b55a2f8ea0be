use super::*;

/// Redis 6.0 as a master with one replica; the sections that are read.
const REDIS_6_0: &str = "# Server\r\nredis_version:6.0.16\r\nredis_mode:standalone\r\nrun_id:3c5e4aa9a0f4fb1e6d8a3c7b2f1d0e9c8b7a6f5e\r\ntcp_port:6379\r\n\
uptime_in_seconds:1234\r\n\r\n# Clients\r\nconnected_clients:7\r\nblocked_clients:1\r\n\r\n# Memory\r\nused_memory:1900544\r\nused_memory_human:1.81M\r\n\
total_system_memory:2084159488\r\nmaxmemory:104857600\r\nmaxmemory_policy:volatile-lru\r\n\r\n# Persistence\r\nloading:0\r\nrdb_bgsave_in_progress:0\r\n\
rdb_last_bgsave_status:ok\r\naof_enabled:0\r\naof_rewrite_in_progress:0\r\naof_last_write_status:ok\r\n\r\n# Stats\r\nevicted_keys:3\r\n\r\n\
# Replication\r\nrole:master\r\nconnected_slaves:1\r\nslave0:ip=10.0.0.9,port=6379,state=online,offset=560,lag=1\r\n\
master_replid:8371445ee67d4a1d5d6cb5c4a4b1c3f5d0b9a3b1\r\nmaster_replid2:0000000000000000000000000000000000000000\r\nmaster_repl_offset:574\r\n\
second_repl_offset:-1\r\nrepl_backlog_active:1\r\nrepl_backlog_size:1048576\r\nrepl_backlog_first_byte_offset:1\r\nrepl_backlog_histlen:574\r\n\r\n\
# Keyspace\r\ndb0:keys=12,expires=3,avg_ttl=9000\r\ndb15:keys=1,expires=0,avg_ttl=0\r\n";

/// Redis 7.0 as a replica in its first sync, the total known.
const REDIS_7_0_SYNCING: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:aaaa4aa9a0f4fb1e6d8a3c7b2f1d0e9c8b7a6f5e\r\nuptime_in_seconds:2\r\n\
used_memory:1000\r\nloading:1\r\nasync_loading:0\r\nrdb_bgsave_in_progress:1\r\naof_enabled:1\r\n# Replication\r\nrole:slave\r\nmaster_host:10.77.0.1\r\n\
master_port:6390\r\nmaster_link_status:down\r\nmaster_last_io_seconds_ago:-1\r\nmaster_sync_in_progress:1\r\nslave_read_repl_offset:99\r\nslave_repl_offset:1\r\n\
master_sync_total_bytes:5000\r\nmaster_sync_read_bytes:1200\r\nmaster_sync_left_bytes:3800\r\nmaster_sync_perc:24.00\r\nmaster_sync_last_io_seconds_ago:0\r\n\
master_link_down_since_seconds:4\r\nslave_priority:100\r\nslave_read_only:1\r\nreplica_announced:1\r\nconnected_slaves:0\r\nmaster_failover_state:no-failover\r\n\
master_replid:bbbb445ee67d4a1d5d6cb5c4a4b1c3f5d0b9a3b1\r\nmaster_replid2:cccc445ee67d4a1d5d6cb5c4a4b1c3f5d0b9a3b1\r\nmaster_repl_offset:1\r\n";

/// Redis 8.0: keyspace lines have more fields, databases are listed with `subexpiry`.
const REDIS_8_0: &str = "# Server\r\nredis_version:8.0.2\r\nrun_id:dddd4aa9a0f4fb1e6d8a3c7b2f1d0e9c8b7a6f5e\r\nuptime_in_seconds:55\r\nused_memory:2000\r\n\
maxmemory:0\r\nmaxmemory_policy:noeviction\r\nloading:0\r\nrole:master\r\nconnected_slaves:0\r\nmaster_replid:eeee445ee67d4a1d5d6cb5c4a4b1c3f5d0b9a3b1\r\n\
master_repl_offset:0\r\nrepl_backlog_active:0\r\nrepl_backlog_first_byte_offset:0\r\n# Keysizes\r\ndb0_distrib_strings_sizes:1=1\r\n# Keyspace\r\n\
db0:keys=5,expires=1,avg_ttl=0,subexpiry=2\r\n";

/// Valkey 8.0 says which Redis it is compatible with.
const VALKEY_8_0: &str = "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\nvalkey_release_stage:ga\r\n\
run_id:ffff4aa9a0f4fb1e6d8a3c7b2f1d0e9c8b7a6f5e\r\nuptime_in_seconds:9\r\nused_memory:1\r\nloading:0\r\nrole:slave\r\nmaster_host:::1\r\nmaster_port:6379\r\n\
master_link_status:up\r\nmaster_last_io_seconds_ago:0\r\nmaster_sync_in_progress:0\r\nslave_read_repl_offset:900\r\nslave_repl_offset:880\r\n\
master_replid:1111445ee67d4a1d5d6cb5c4a4b1c3f5d0b9a3b1\r\nmaster_repl_offset:900\r\n";

fn keyspace(keys: u64, expires: u64) -> Keyspace {
    Keyspace {
        keys,
        expires,
        expiring_fields: None,
    }
}

#[test]
fn removals_by_the_server_itself_and_hashes_with_expiring_fields_are_read_from_redis_and_valkey() {
    let valkey_9 = VALKEY_8_0.to_owned()
        + "expired_keys:4\r\nexpired_fields:8\r\nevicted_keys:2\r\ndb0:keys=5,expires=1,avg_ttl=0,keys_with_volatile_items=3\r\n";
    let info = Info::parse(&valkey_9).unwrap();
    let removals = OwnRemovals {
        expired_keys: 4,
        evicted_keys: 2,
        expired_fields: 8,
    };
    assert_eq!(
        (info.own_removals, info.keyspace[&0].expiring_fields),
        (removals, Some(3))
    );
    let info = Info::parse(&(REDIS_8_0.to_owned() + "expired_subkeys:7\r\n")).unwrap();
    assert_eq!(
        (info.own_removals.expired_fields, info.keyspace[&0].expiring_fields),
        (7, Some(2))
    );
    assert_eq!(Info::parse(REDIS_6_0).unwrap().keyspace[&0].expiring_fields, None);
    let reset = OwnRemovals::default().since(removals);
    assert_eq!(reset, OwnRemovals::default());
}

#[test]
fn a_master_of_6_0_is_read() {
    let info = Info::parse(REDIS_6_0).unwrap();
    assert_eq!(
        (info.engine, info.version, info.role),
        (Engine::Redis, Version::new(6, 0, 16), ServerRole::Master)
    );
    assert_eq!(
        (info.master_repl_offset, info.applied_offset, info.link),
        (574, None, None)
    );
    assert_eq!(
        (info.maxmemory, info.evicted_keys, info.previous_replid),
        (104_857_600, 3, None)
    );
    let replica = &info.replicas[0];
    assert_eq!(
        (replica.ip.as_str(), replica.state.as_str(), replica.offset),
        ("10.0.0.9", "online", 560)
    );
    assert_eq!(
        info.keyspace,
        BTreeMap::from([(0, keyspace(12, 3)), (15, keyspace(1, 0))])
    );
}

#[test]
fn a_syncing_replica_tells_how_far_it_is_and_what_it_applied() {
    let info = Info::parse(REDIS_7_0_SYNCING).unwrap();
    // It is not the 99 that the replica has read.
    assert_eq!(info.applied_offset, Some(1));
    assert!(info.loading && info.persistence.aof_enabled);
    let link = info.link.unwrap();
    assert!(!link.up);
    let sync = Sync {
        total_bytes: Some(5000),
        read_bytes: 1200,
        left_bytes: Some(3800),
    };
    assert_eq!(link.sync, Some(sync));
    assert!(info.previous_replid.is_some());
}

#[test]
fn a_sync_without_a_file_has_no_known_total() {
    let streamed = REDIS_7_0_SYNCING
        .replace("master_sync_total_bytes:5000", "master_sync_total_bytes:0")
        .replace("master_sync_left_bytes:3800", "master_sync_left_bytes:-1200");
    let sync = Info::parse(&streamed).unwrap().link.unwrap().sync.unwrap();
    assert_eq!((sync.total_bytes, sync.left_bytes, sync.read_bytes), (None, None, 1200));
}

#[test]
fn newer_fields_do_not_disturb() {
    let info = Info::parse(REDIS_8_0).unwrap();
    assert_eq!(
        (info.version, info.backlog_active, info.keys()),
        (Version::new(8, 0, 2), false, 5)
    );
}

#[test]
fn valkey_has_two_versions_and_its_applied_offset_is_not_the_read_one() {
    let info = Info::parse(VALKEY_8_0).unwrap();
    assert_eq!(
        (info.engine, info.version, info.own_version()),
        (Engine::Valkey, Version::new(7, 2, 4), Version::new(8, 0, 1))
    );
    assert_eq!(info.applied_offset, Some(880));
    let link = info.link.unwrap();
    assert_eq!(
        (link.host.as_str(), link.port, link.up, link.sync),
        ("::1", 6379, true, None)
    );
}

#[test]
fn what_proofs_rest_on_must_be_there() {
    for field in [
        "run_id",
        "role",
        "master_replid",
        "master_repl_offset",
        "redis_version",
        "used_memory",
    ] {
        let without: String = REDIS_6_0
            .lines()
            .filter(|line| !line.starts_with(&format!("{field}:")))
            .map(|line| format!("{line}\n"))
            .collect();
        let missing = Info::parse(&without).unwrap_err();
        assert!(missing.contains(field), "{field}: {missing}");
    }
    let without = REDIS_7_0_SYNCING.replace("slave_repl_offset", "renamed");
    assert!(Info::parse(&without).unwrap_err().contains("slave_repl_offset"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*", at in 0usize..REDIS_6_0.len()) {
        let _ = Info::parse(&text);
        let _ = Info::parse(&format!("{}{text}{}", &REDIS_6_0[..at], &REDIS_6_0[at..]));
    }
}

#[test]
fn an_append_only_log_is_relied_on_when_it_is_on_and_nothing_of_it_failed() {
    let log = |fields: &str| {
        let text = format!(
            "redis_version:7.0.15\r\nrun_id:a\r\nused_memory:1\r\nrole:master\r\nmaster_replid:b\r\nmaster_repl_offset:1\r\n{fields}"
        );
        Info::parse(&text).unwrap().persistence
    };
    let well = "aof_enabled:1\r\naof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\naof_last_bgrewrite_status:ok\r\naof_last_write_status:ok\r\n";
    assert_eq!(log(well).log_fault(), None);
    assert!(!log(well).log_is_rewritten());
    for (field, worse, fault) in [
        ("aof_enabled:1", "aof_enabled:0", "it is off"),
        ("bgrewrite_status:ok", "bgrewrite_status:err", "its last rewrite failed"),
        ("write_status:ok", "write_status:err", "its last write failed"),
    ] {
        assert_eq!(log(&well.replace(field, worse)).log_fault(), Some(fault));
    }
    assert_eq!(log("").log_fault(), Some("it is off"), "a server that tells nothing");
    for field in ["aof_rewrite_in_progress", "aof_rewrite_scheduled"] {
        let rewritten = log(&well.replace(&format!("{field}:0"), &format!("{field}:1")));
        assert!(
            rewritten.log_is_rewritten() && rewritten.log_fault().is_none(),
            "{field}"
        );
    }
}

#[test]
fn info_is_fuzzed() {
    let words = ["role:", "db1:keys=", "slave1:", "subexpiry=", "master_repl_offset:"];
    let valid = [REDIS_6_0, REDIS_7_0_SYNCING, REDIS_8_0, VALKEY_8_0];
    crate::fuzz::text(&valid, &words, |input| {
        if let Ok(info) = Info::parse(input) {
            let _ = (info.keys(), info.own_version().to_string());
            // A caller may add to the offset to ask for the rest of the stream, so the sum must not
            // overflow.
            assert!(info.master_repl_offset.checked_add(1 << 40).is_some());
        }
    });
}

#[test]
fn the_parts_of_info_that_a_server_gives_are_enough_for_a_copy() {
    let text = "# Server\r\nredis_version:7.2.4\r\nrun_id:a\r\n\r\n# Keyspace\r\ndb0:keys=5,expires=1\r\n";
    assert!(Info::parse(text).is_err());
    let info = Info::parse_parts(text).unwrap();
    assert_eq!(
        (info.run_id.as_str(), info.keys(), info.role),
        ("a", 5, ServerRole::Master)
    );
    assert_eq!((info.replid.as_str(), info.persistence.unsaved_changes), ("", None));
    // A version is asked for in any case: formats depend on it.
    assert!(Info::parse_parts("# Keyspace\r\n").is_err());
}
