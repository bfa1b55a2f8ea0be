//! One planted change is found, in each type of key and in both directions.

use super::rig::Rig;

const ROWS: &str = "CREATE TABLE t (id int PRIMARY KEY, name text, tags text[], score float8, ends timestamptz);
INSERT INTO t SELECT n, 'name ' || n, ARRAY['a', 'b' || n], n / 7.0, '2100-01-01' FROM generate_series(1, 3000) n;
CREATE TABLE s (user_id int, item text, score float8, PRIMARY KEY (user_id, item));
INSERT INTO s SELECT n % 100, 'item ' || n, n / 7.0 FROM generate_series(1, 3000) n;";

const TABLES: &str = "- {table: t, name: strings, key: 'string:{{ id }}', type: string, value: name}
- {table: t, name: hashes, key: 'hash:{{ id }}', type: hash, fields: [name, score]}
- {table: t, name: jsons, key: 'json:{{ id }}', type: json}
- {table: t, name: lists, key: 'list:{{ id }}', type: list, value: tags, expires_at: ends}
- {table: t, name: arrays, key: 'array:{{ id }}', type: set, value: tags}
- {table: s, name: sets, key: 'set:{{ user_id }}', type: set, value: item}
- {table: s, name: scores, key: 'score:{{ user_id }}', type: sorted_set, value: item, score: score}
- {table: t, name: calculated, key: 'calculated:{{ id + 1 }}', keys: 'calculated:*', type: string, value: name}";

#[test]
fn one_planted_change_is_found_in_each_type_and_in_both_directions() {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    rig.mapping(TABLES);
    let ran = rig.infra(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.text);
    let verified = rig.infra(&["verify"]);
    assert_eq!(verified.code, 0, "{}", verified.text);
    for (change, undo, key) in [
        ("SET string:17 other", "SET string:17 name@17", "string:17"),
        ("DEL string:17", "SET string:17 name@17", "string:17"),
        ("SET string:99999 x", "DEL string:99999", "string:99999"),
        ("SET string:x x", "DEL string:x", "string:x"),
        ("SET string:017 name@17", "DEL string:017", "string:017"),
        ("EXPIRE string:17 1000", "PERSIST string:17", "string:17"),
        ("HSET hash:17 name other", "HSET hash:17 name name@17", "hash:17"),
        ("HSET hash:17 more x", "HDEL hash:17 more", "hash:17"),
        ("HDEL hash:17 name", "HSET hash:17 name name@17", "hash:17"),
        ("APPEND json:17 x", "SETRANGE json:17 0 {", "json:17"),
        ("RPUSH list:17 more", "RPOP list:17", "list:17"),
        ("PERSIST list:17", "PEXPIREAT list:17 4102444800000", "list:17"),
        ("SADD array:17 more", "SREM array:17 more", "array:17"),
        ("SREM array:17 a", "SADD array:17 a", "array:17"),
        ("SADD set:17 more", "SREM set:17 more", "set:17"),
        ("SREM set:17 item@17", "SADD set:17 item@17", "set:17"),
        ("SADD set:1000 more", "DEL set:1000", "set:1000"),
        ("ZADD score:17 1 more", "ZREM score:17 more", "score:17"),
        ("ZINCRBY score:17 1 item@17", "ZINCRBY score:17 -1 item@17", "score:17"),
        ("SET calculated:9999 x", "DEL calculated:9999", "calculated:9999"),
        ("DEL calculated:18", "SET calculated:18 name@17", "calculated:18"),
    ] {
        planted(&rig, change);
        let verified = rig.infra(&["verify", "--rounds", "2", "--pause", "10ms", "--json"]);
        assert_eq!(verified.code, 5, "{change}: {}", verified.text);
        let verdict = &verified.json["verdict"];
        assert_eq!(verdict["differing"], 1, "{change}: {}", verified.text);
        assert_eq!(verdict["first"][0]["key"], key, "{change}: {}", verified.text);
        if change.starts_with("APPEND") {
            rig.redis("DEL json:17");
            assert_eq!(rig.infra(&["run", "jsons"]).code, 0);
        } else {
            planted(&rig, undo);
        }
    }
    let verified = rig.infra(&["verify"]);
    assert_eq!(verified.code, 0, "{}", verified.text);
}

/// Runs a command in which `@` stands for a space inside a word.
fn planted(rig: &Rig, words: &str) {
    let mut command = redis::Cmd::new();
    for word in words.split(' ') {
        command.arg(word.replace('@', " "));
    }
    let _: redis::Value = rig.redis_query(&command);
}

#[test]
fn a_difference_that_converges_is_none() {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    rig.mapping("- {table: t, key: 'string:{{ id }}', type: string, value: name}");
    assert_eq!(rig.infra(&["run"]).code, 0);
    rig.redis("DEL string:17");
    rig.redis("SET string:9999 x");
    let mut verifying = rig.command(&["verify", "--rounds", "600", "--pause", "100ms", "--json"], &[]);
    let verifying = verifying
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    rig.postgres
        .sql("DELETE FROM t WHERE id = 17; INSERT INTO t VALUES (9999, 'x')");
    let verified = verifying.wait_with_output().unwrap();
    assert_eq!(verified.status.code(), Some(0));
    let verdict: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert!(verdict["verdict"]["rounds"].as_array().unwrap().len() > 1, "{verdict}");
}
