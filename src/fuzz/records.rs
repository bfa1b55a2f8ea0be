//! Records that others may have written: files of people, objects of the bucket, the agent's. Each kind by the parser that reads it.

use super::{bytes, text};
use crate::effects::inventory::Inventory;
use crate::effects::state::LockRecord;
use crate::model::config::Config;
use crate::model::state::State;
use infra_agent::manifest::Manifest;
use infra_agent::name::Segment;
use infra_agent::record::{AgentStatus, Commit, Timeline};
use infra_agent::scan::{Boundary, Scanner};
use infra_agent::{pick, rdb};

fn json<T: serde::de::DeserializeOwned>(input: &[u8]) -> Option<T> {
    serde_json::from_slice(input).ok()
}

#[test]
fn infra_yml() {
    let whole = "name: demo\nregion: us-east-1\nsource: {config_var: REDIS_URL, tls_pin: \"sha256:abababababababababababababababababababababababababababababababab\"}\n\
                 app:\n  name: demo\n  also: [a, b]\nhosts: {disk_gb: 16, zones: [a, b], admin_cidrs: [203.0.113.7/32], app_cidrs: []}\n\
                 redis: {maxmemory: 400mb, settings: {a: b}, app_commands: [keys, client|list]}\nbackup: {every: 1h, rpo_s: 10, keep: {hourly: 1}}\n\
                 aws: {endpoint: \"http://127.0.0.1\"}\n";
    let aliases = "name: &a demo\nsource: {none: true}\napp: {name: *a, also: [*a, *a]}\n";
    text(
        &[whole, aliases],
        &[
            "name: ",
            "also: ",
            "[*a, *a, *a]",
            "{a: &b [*a]}",
            "!!binary ",
            "? ",
            "<<: ",
            "|\n ",
            "é/32",
            "1/33",
            "h",
            "m",
        ],
        |input| drop(Config::parse(input)),
    );
}

/// Of few bytes aliases can make many.
#[test]
fn a_laughing_infra_yml() {
    let mut laughs = String::from(
        "name: demo\nsource: {none: true}\napp: {name: demo}\nredis:\n  settings:\n    a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n",
    );
    for level in 1..12 {
        let again = vec![format!("*a{}", level - 1); 9].join(", ");
        laughs.push_str(&format!("    a{level}: &a{level} [{again}]\n"));
    }
    let long = "x".repeat(16 << 10);
    let strings = format!(
        "name: demo\nsource: {{none: true}}\napp: {{name: demo, also: [&a {long}{}]}}\n",
        ", *a".repeat(3_800)
    );
    let deep = format!("name: {}", "[".repeat(30_000));
    for (input, most) in [(laughs, 4 << 20), (strings, 128 << 20), (deep, 16 << 20)] {
        assert!(input.len() < 32 << 10, "{}", input.len());
        let held = super::held_by(|| drop(Config::parse(&input)));
        assert!(held < most, "held {held}");
    }
    assert!(Config::parse(&"# \n".repeat(20_000)).is_err());
}

#[test]
fn inventory() {
    let valid = include_str!("../../inventory/example.yml");
    text(&[valid], &["all: ", "hosts: ", "infra_role: ", "? "], |input| {
        drop(Inventory::parse(input))
    });
}

#[test]
fn state_and_lock() {
    let valid = r#"{"schema_version":1,"generation":7,"endpoint":"192.0.2.1","hosts":{"master":{"instance_id":"i-1","host_key":"k","next_host_key":null}},"phase":"following","source":{"settings":{"a":"b"}},"restored":{}}"#;
    bytes(&[valid], &["\"hosts\":", "\"master\""], |input| {
        drop(json::<State>(input))
    });
    let lock = r#"{"id":"a","who":"b","host":"c","process":7,"command":"infra up","since":"2026-01-01T00:00:00Z","until":"2026-01-01T00:01:00Z","renewals":3,"identity":{"boot_id":"a","pid_namespace":"b","pid":7,"started":9}}"#;
    bytes(&[lock], &["2026-13-45T99:99:99Z", "-009999-01-01T00:00:00Z"], |input| {
        if let Some(lock) = json::<LockRecord>(input) {
            let _ = (lock.to_string(), lock.identity.map(|process| process.is_dead()));
        }
    });
}

const COMMIT: &str = r#"{"schema_version":2,"place":"backups/production/hourly/t/g","class":"hourly","timeline":"t","generation":"g","host":"master","role":"master","version":"8.0.0","run_id":"r","replication_id":"i","offset":7,"start":{"increment":1,"offset":2},"covers_from":3,"rdb_version":12,"keys":4,"keyspace":{"0":4},"parts":[{"name":"base.00000.zst","sha256":"ab","bytes":5,"plain_bytes":6}],"bytes":5,"plain_sha256":"cd","plain_bytes":6,"started":"2026-01-01T00:00:00Z","finished":"2026-01-01T00:00:01Z","fell_from":null,"redis_conf":"port 0","users_acl":"user default off"}"#;

#[test]
fn records_of_backups() {
    bytes(&[COMMIT], &["\"parts\":[", "\"start\":"], |input| {
        drop(json::<Commit>(input))
    });
    let timeline = r#"{"schema_version":2,"id":"t","host":"master","run_id":"r","role":"master","version":"8.0.0","started_at":"2026-01-01T00:00:00Z","start":{"increment":1,"offset":2},"parent":{"timeline":"s","up_to":{"increment":1,"offset":9}},"gap":{"after":5,"why":"w"}}"#;
    bytes(&[timeline], &["\"parent\":"], |input| drop(json::<Timeline>(input)));
    let status = r#"{"schema_version":2,"version":"0.1.0","at":1,"timeline":"t","shipped_until":2,"shipped":{"increment":1,"offset":2},"backlog_pieces":0,"backlog_bytes":0,"puts":3,"gap":null,"troubles":["a"],"kept":{"at":1,"bytes":2,"folder":"f"}}"#;
    bytes(&[status], &["\"kept\":"], |input| drop(json::<AgentStatus>(input)));
}

#[test]
fn names_of_pieces() {
    let name = format!(
        "{:010}-{:06}-{:012}-{:012}-{:010}-{:010}-{:010}-w-{}.zst",
        7,
        12,
        100,
        200,
        1_700_000_000,
        1_700_000_005,
        1_700_000_004,
        "ab".repeat(32)
    );
    text(&[&name], &["-w-", ".zst"], |input| {
        if let Ok(segment) = input.parse::<Segment>() {
            // Whoever reckons with it does so in 63 bits.
            let _ = (
                segment.to * 2 + segment.number + segment.increment,
                segment.until + segment.first + segment.last,
            );
            assert_eq!(segment.to_string().parse(), Ok(segment));
        }
    });
}

#[test]
fn manifests_of_the_log() {
    text(
        &["file a.1.base.rdb seq 1 type b\nfile a.1.incr.aof seq 1 type i startoffset 5 endoffset 9\n"],
        &["file ", "seq ", "type b"],
        |input| {
            drop(Manifest::parse(input));
        },
    );
}

#[test]
fn the_log_itself() {
    let log = "#TS:1700000000\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n*1\r\n$4\r\nEXEC\r\n";
    bytes(&[log], &["*1\r\n", "$4\r\n", "#TS:", "MULTI", "EXEC"], |input| {
        for step in [1, 7, input.len().max(1)] {
            let mut scanner = Scanner::at(Boundary {
                offset: 1 << 60,
                second: None,
            });
            for piece in input.chunks(step) {
                if scanner.feed(piece).is_err() {
                    break;
                }
            }
        }
    });
}

#[test]
fn a_base_of_commands() {
    let base = "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n*3\r\n$9\r\nPEXPIREAT\r\n$1\r\na\r\n$13\r\n1700000000000\r\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    let wanted = pick::Wanted {
        keys: Some("a*[^b-d]?\\*".into()),
        shift_ms: i64::MAX,
        now_ms: 1,
    };
    bytes(&[base], &["*1\r\n", "$4\r\n", "PEXPIREAT", "XGROUP"], |input| {
        std::fs::write(file.path(), input).unwrap();
        let _ = pick::commands(file.path(), &wanted, &mut std::io::sink());
        let _ = pick::shift(file.path(), i64::MAX, &mut std::io::sink());
    });
}

#[test]
fn first_bytes_of_a_base() {
    bytes(
        &["REDIS0012\u{1f}redis-ver\u{5}8.0.0", "VALKEY080"],
        &["REDIS", "VALKEY", "\u{1f}ctime"],
        |input| {
            let _ = rdb::header(&mut &*input);
        },
    );
}
