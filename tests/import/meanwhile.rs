//! The app writes and deletes while its rows are imported. It commits in PostgreSQL first,
//! then in Redis.

use super::rig::{Answer, Rig};

const ROWS: &str = "CREATE TABLE markers (user_id bigint PRIMARY KEY, status text, tags text[]);
INSERT INTO markers SELECT n, 'old', ARRAY['a', 'b'] FROM generate_series(1, 10) n;";

/// Imports with one act of the app at a point.
fn with_act(rig: &Rig, point: &str, act: &str) -> Answer {
    let variables = [("INFRA_FAULT_ON", point), ("INFRA_FAULT_RUN", act)];
    let ran = rig.infra_with(&["run", "--json"], &variables);
    assert_eq!(ran.code, 0, "{}", ran.text);
    assert!(!ran.text.contains("the fault at"), "{}", ran.text);
    ran
}

const BEFORE_WRITE: &str = "between read and write of markers";
const AFTER_WRITE: &str = "between write and look of markers";

#[test]
fn a_value_that_the_app_wrote_between_read_and_write_is_left() {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}");
    let act = format!(
        "{} && {}",
        rig.shell_sql("UPDATE markers SET status = 'new' WHERE user_id = 3"),
        rig.shell_redis("SET marker:3 new")
    );
    let ran = with_act(&rig, BEFORE_WRITE, &act);
    assert_eq!(ran.json["tables"]["markers"]["left"], 1, "{}", ran.text);
    assert_eq!(rig.redis_text("GET marker:3"), "new");
    assert_eq!(rig.infra(&["verify"]).code, 0);
}

#[test]
fn a_row_that_the_app_deleted_between_read_and_write_does_not_come_back() {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    for (kind, value) in [
        ("string", "value: status"),
        ("hash", "fields: [status]"),
        ("list", "value: tags"),
        ("set", "value: tags"),
    ] {
        rig.redis("FLUSHALL");
        rig.postgres
            .sql("INSERT INTO markers VALUES (3, 'old', '{a,b}') ON CONFLICT DO NOTHING");
        rig.mapping(&format!(
            "- {{table: markers, key: 'marker:{{{{ user_id }}}}', type: {kind}, {value}}}"
        ));
        let act = format!(
            "{} && {}",
            rig.shell_sql("DELETE FROM markers WHERE user_id = 3"),
            rig.shell_redis("DEL marker:3")
        );
        let ran = with_act(&rig, BEFORE_WRITE, &act);
        assert_eq!(ran.json["tables"]["markers"]["taken_back"], 1, "{}", ran.text);
        assert_eq!(rig.redis_text("EXISTS marker:3"), "0", "{kind}");
        assert_eq!(rig.redis_text("DBSIZE"), "9");
        assert_eq!(rig.infra(&["verify"]).code, 0);
    }
}

#[test]
fn a_row_that_was_deleted_and_made_again_keeps_what_the_app_wrote() {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}");
    let act = format!(
        "{} && {} && {}",
        rig.shell_sql("DELETE FROM markers WHERE user_id = 3; INSERT INTO markers VALUES (3, 'again')"),
        rig.shell_redis("DEL marker:3"),
        rig.shell_redis("SET marker:3 again")
    );
    with_act(&rig, AFTER_WRITE, &act);
    assert_eq!(rig.redis_text("GET marker:3"), "again");
    assert_eq!(rig.infra(&["verify"]).code, 0);
}

#[test]
fn a_field_that_the_app_removed_and_a_member_that_it_renamed_do_not_come_back() {
    let rig = Rig::start();
    rig.postgres.sql(
        "CREATE TABLE markers (user_id int, hour int, hits int, note text, PRIMARY KEY (user_id, hour));
         INSERT INTO markers SELECT 1, n, n, 'x' FROM generate_series(1, 5) n",
    );
    rig.mapping("- {table: markers, key: 'm:{{ user_id }}:{{ hour }}', type: hash, fields: [hits, note]}");
    let removed = format!(
        "{} && {}",
        rig.shell_sql("UPDATE markers SET note = NULL WHERE hour = 2"),
        rig.shell_redis("HDEL m:1:2 note")
    );
    with_act(&rig, BEFORE_WRITE, &removed);
    assert_eq!(rig.redis_text("HEXISTS m:1:2 note"), "0");
    assert_eq!(rig.redis_text("HGET m:1:2 hits"), "2");
    assert_eq!(rig.infra(&["verify"]).code, 0);

    rig.redis("FLUSHALL");
    rig.mapping("- {table: markers, key: 'm:{{ user_id }}', type: sorted_set, value: hour, score: hits}");
    let renamed = format!(
        "{} && {} && {}",
        rig.shell_sql("UPDATE markers SET hour = 9 WHERE hour = 2"),
        rig.shell_redis("ZREM m:1 2"),
        rig.shell_redis("ZADD m:1 2 9")
    );
    with_act(&rig, BEFORE_WRITE, &renamed);
    assert_eq!(rig.redis_text("ZSCORE m:1 9"), "2");
    assert_eq!(rig.redis_text("ZCARD m:1"), "5");
    assert_eq!(rig.infra(&["verify"]).code, 0);
}

#[test]
fn a_list_that_the_app_makes_while_it_is_looked_at_is_left_as_it_is() {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: list, value: tags}");
    let act = format!(
        "{} && {}",
        rig.shell_sql("UPDATE markers SET tags = '{new}' WHERE user_id = 3"),
        rig.shell_redis("RPUSH marker:3 new")
    );
    let ran = with_act(&rig, "between look and making of keys", &act);
    assert_eq!(ran.json["tables"]["markers"]["left"], 1, "{}", ran.text);
    assert_eq!(rig.redis_text("LLEN marker:3"), "1");
    assert_eq!(rig.infra(&["verify", "--rounds", "1"]).code, 0);
}

#[test]
fn a_row_whose_time_is_over_is_not_written() {
    let rig = Rig::start();
    rig.postgres.sql(
        "CREATE TABLE markers (user_id bigint PRIMARY KEY, status text, ends timestamptz);
         INSERT INTO markers VALUES (1, 'a', '2000-01-01'), (2, 'b', '2100-01-01'), (3, 'c', NULL)",
    );
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: hash, fields: [status], expires_at: ends}");
    let ran = rig.infra(&["run", "--json"]);
    let counts = &ran.json["tables"]["markers"];
    assert_eq!(
        (&counts["expired"], &counts["written"]),
        (&1.into(), &2.into()),
        "{}",
        ran.text
    );
    assert_eq!(rig.redis_text("EXISTS marker:1"), "0");
    assert_eq!(rig.infra(&["verify", "--rounds", "1"]).code, 0);
}

#[test]
fn what_the_app_wrote_over_an_imported_value_is_not_taken_away_with_it() {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}");
    let act = format!(
        "{} && {}",
        rig.shell_sql("DELETE FROM markers WHERE user_id = 3"),
        rig.shell_redis("SET marker:3 theirs")
    );
    with_act(&rig, AFTER_WRITE, &act);
    assert_eq!(rig.redis_text("GET marker:3"), "theirs");
}

#[test]
fn a_row_that_is_made_again_while_its_key_is_taken_away_gets_its_key_back() {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}");
    // Redis holds the removal back until the row is there again.
    let act = format!(
        "{} && {}; (sleep 1.5; {}) &",
        rig.shell_sql("DELETE FROM markers WHERE user_id = 3"),
        rig.shell_redis("CLIENT PAUSE 3000 WRITE"),
        rig.shell_sql("INSERT INTO markers VALUES (3, 'old')")
    );
    let ran = with_act(&rig, AFTER_WRITE, &act);
    assert_eq!(ran.json["tables"]["markers"]["taken_back"], 1, "{}", ran.text);
    assert_eq!(rig.redis_text("GET marker:3"), "old");
    assert_eq!(rig.infra(&["verify", "--rounds", "1"]).code, 0);
}

#[test]
fn another_value_is_replaced_only_when_asked_and_by_the_newest_row() {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}");
    rig.redis("SET marker:3 theirs");
    assert_eq!(rig.infra(&["run"]).code, 0);
    assert_eq!(rig.redis_text("GET marker:3"), "theirs");
    assert_eq!(rig.infra(&["verify", "--rounds", "1"]).code, 5);
    let act = rig.shell_sql("UPDATE markers SET status = 'new' WHERE user_id = 3");
    let variables = [("INFRA_FAULT_ON", BEFORE_WRITE), ("INFRA_FAULT_RUN", act.as_str())];
    let ran = rig.infra_with(&["run", "--replace", "--json"], &variables);
    assert_eq!(ran.json["tables"]["markers"]["replaced"], 1, "{}", ran.text);
    assert_eq!(rig.redis_text("GET marker:3"), "new");
    assert_eq!(rig.infra(&["verify"]).code, 0);
}
