//! Changes in PostgreSQL after an import reach Redis, and slot and publication are gone at the end.

use super::rig::Rig;
use testkit::postgres::Postgres;
use testkit::waiting;

const TABLES: &str = "CREATE TABLE markers (user_id bigint PRIMARY KEY, status text, note text, ends timestamptz);
CREATE TABLE members (team text, name text, PRIMARY KEY (team, name));
CREATE TABLE stats (hour text, app text, hits float8 NOT NULL, PRIMARY KEY (hour, app));
ALTER TABLE markers ALTER note SET STORAGE EXTERNAL;
INSERT INTO markers SELECT n, 'old ' || n, CASE WHEN n % 7 = 0 THEN repeat('x', 9000) END FROM generate_series(1, 3000) n;
INSERT INTO members SELECT 'team ' || n % 10, 'name ' || n FROM generate_series(1, 500) n;
INSERT INTO stats SELECT '2026-01-31T' || n % 24, 'app ' || n, n FROM generate_series(1, 500) n;";

const MAPPING: &str = "- {table: markers, key: 'marker:{{ user_id }}', type: hash, expires_at: ends}
- {table: members, key: 'team:{{ team }}', type: set, value: name}
- {table: stats, key: 'stats:{{ hour }}', type: sorted_set, value: app, score: hits}";

const CHANGES: &str = "INSERT INTO markers VALUES (5001, 'new', NULL, '2100-01-01'), (5002, NULL, 'a', NULL);
UPDATE markers SET status = 'changed' WHERE user_id BETWEEN 1 AND 50;
UPDATE markers SET user_id = user_id + 9000 WHERE user_id BETWEEN 100 AND 120;
UPDATE markers SET ends = now() - interval '1 hour' WHERE user_id = 200;
DELETE FROM markers WHERE user_id BETWEEN 300 AND 330;
UPDATE members SET team = 'team 0' WHERE team = 'team 1';
DELETE FROM members WHERE team = 'team 2';
INSERT INTO members VALUES ('team 99', 'ada');
UPDATE stats SET hits = hits + 0.5 WHERE app LIKE 'app 1%';
DELETE FROM stats WHERE app LIKE 'app 2%';";

fn prepared() -> Rig {
    let rig = Rig::start();
    rig.postgres.sql(TABLES);
    rig.mapping(MAPPING);
    rig
}

#[track_caller]
fn done(rig: &Rig, arguments: &[&str]) -> serde_json::Value {
    let answer = rig.infra(&[arguments, &["--json"]].concat());
    assert_eq!(answer.code, 0, "{arguments:?}: {}", answer.text);
    answer.json
}

#[test]
fn every_kind_of_change_reaches_redis_and_nothing_stays_in_postgresql() {
    let rig = prepared();
    let before = rig.catalogue();
    done(&rig, &["run"]);
    let first = done(&rig, &["follow", "--once"]);
    assert_eq!(first["follow"]["tables"]["markers"]["way"], "log");
    assert_eq!(first["follow"]["tables"]["markers"]["looked_at"], 3000);
    assert_ne!(rig.catalogue(), before, "slot and publication are there");
    rig.postgres.sql(CHANGES);
    assert_eq!(rig.infra(&["verify", "--rounds", "1"]).code, 5);
    let followed = done(&rig, &["follow", "--once"]);
    let looked_at = followed["follow"]["tables"]["markers"]["looked_at"].as_u64().unwrap();
    assert_eq!(
        looked_at,
        3000 + 2 + 50 + 21 + 1 + 31,
        "rows are looked at once, changes come after"
    );
    done(&rig, &["verify", "--rounds", "1"]);
    let status = done(&rig, &["status"]);
    assert_eq!(status["slot"]["lost"], false);
    assert!(status["seconds_since_caught_up"].as_u64().unwrap() < 60, "{status}");
    rig.postgres.sql("TRUNCATE markers");
    done(&rig, &["follow", "--once"]);
    assert_eq!(rig.redis_text("EXISTS marker:1 marker:9100 marker:5001"), "0");
    let finished = done(&rig, &["finish", "--rounds", "1"]);
    assert_eq!(finished["slot_removed"], true, "{finished}");
    assert_eq!(rig.catalogue(), before, "nothing is left in PostgreSQL");
    assert!(!rig.path("import.yml.follow").exists());
    done(&rig, &["finish"]);
}

#[test]
fn a_newer_value_of_the_app_is_never_overwritten_by_a_change_that_comes_late() {
    for (point, act) in [
        (
            "between look and write of markers",
            "UPDATE markers SET status = 'newest' WHERE user_id = 3",
        ),
        (
            "between look and write of markers",
            "DELETE FROM markers WHERE user_id = 3",
        ),
        (
            "between watch and look of markers",
            "UPDATE markers SET status = 'newest' WHERE user_id = 3",
        ),
    ] {
        let rig = prepared();
        rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}");
        done(&rig, &["run"]);
        done(&rig, &["follow", "--once"]);
        // This change was not made in Redis too, so it is to be brought there.
        rig.postgres.sql("UPDATE markers SET status = 'late' WHERE user_id = 3");
        let in_redis = if act.starts_with("DELETE") {
            "DEL marker:3"
        } else {
            "SET marker:3 newest"
        };
        let both = format!("{} && {}", rig.shell_sql(act), rig.shell_redis(in_redis));
        let variables = [("INFRA_FAULT_ON", point), ("INFRA_FAULT_RUN", both.as_str())];
        let followed = rig.infra_with(&["follow", "--once"], &variables);
        assert_eq!(followed.code, 0, "{}", followed.text);
        assert!(!followed.text.contains("the fault at"), "{}", followed.text);
        if act.starts_with("DELETE") {
            assert_eq!(rig.redis_text("EXISTS marker:3"), "0", "{point}");
        } else {
            assert_eq!(rig.redis_text("GET marker:3"), "newest", "{point}");
        }
        done(&rig, &["verify", "--rounds", "1"]);
    }
}

#[test]
fn a_follow_that_is_killed_at_any_point_goes_on_and_so_does_finish() {
    let rig = prepared();
    let before = rig.catalogue();
    done(&rig, &["run"]);
    let seen = rig.path("points").to_str().unwrap().to_owned();
    let mut kills = 0;
    for command in [&["follow", "--once"][..], &["finish"]] {
        for round in 0.. {
            assert!(round < 60, "{command:?} never came to its end");
            rig.postgres.sql(&format!(
                "UPDATE markers SET status = 'round {round}' WHERE user_id = {round} + 1"
            ));
            // A deletion before there is a slot reaches Redis by the app alone.
            if rig.path("import.yml.follow").exists() {
                rig.postgres
                    .sql(&format!("DELETE FROM markers WHERE user_id = {round} + 1001"));
            }
            if command[0] == "finish" {
                // The app's dual writes would have done this.
                rig.infra(&["follow", "--once"]);
            }
            let answer = rig.infra_with(command, &[("INFRA_FAULT_NEW", &seen)]);
            if answer.code == 0 {
                break;
            }
            assert_eq!(answer.code, -1, "{}", answer.text);
            kills += 1;
        }
        done(&rig, &["verify", "--rounds", "1"]);
    }
    assert!(kills > 5, "{kills} kills: {}", std::fs::read_to_string(&seen).unwrap());
    assert_eq!(rig.catalogue(), before);
}

#[test]
fn two_imports_between_the_same_servers_follow_by_slots_of_their_own() {
    let rig = prepared();
    let slots = || {
        rig.postgres
            .superuser_sql("SELECT slot_name FROM pg_replication_slots ORDER BY 1")
    };
    rig.mapping("- {table: markers, key: 'note:{{ user_id }}', type: string, value: note}");
    std::fs::rename(rig.path("import.yml"), rig.path("notes.yml")).unwrap();
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}");
    let notes = ["--file", "notes.yml"];
    for file in [&notes[..], &[]] {
        done(&rig, &[&["run"], file].concat());
        done(&rig, &[&["follow", "--once"], file].concat());
    }
    assert_eq!(slots().lines().count(), 2);
    rig.postgres
        .sql("UPDATE markers SET status = 'changed', note = 'changed' WHERE user_id < 100");
    for file in [&[][..], &notes] {
        done(&rig, &[&["follow", "--once"], file].concat());
    }
    for file in [&[][..], &notes] {
        done(&rig, &[&["verify", "--rounds", "1"], file].concat());
    }
    let finished = rig.infra(&["finish"]);
    assert_eq!(finished.code, 0, "{}", finished.text);
    let left = slots();
    assert_eq!(left.lines().count(), 1, "{left}");
    let said = format!("the slot {} of another import keeps", left.trim());
    assert!(finished.text.contains(&said), "{}", finished.text);
    done(&rig, &["finish", "--file", "notes.yml"]);
    assert_eq!(slots(), "");
}

#[test]
fn a_changed_mapping_is_followed_by_a_new_slot_and_the_earlier_one_goes() {
    let rig = prepared();
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}");
    done(&rig, &["run"]);
    done(&rig, &["follow", "--once"]);
    let slots = || rig.postgres.superuser_sql("SELECT slot_name FROM pg_replication_slots");
    let first = slots();
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: user_id}");
    let followed = done(&rig, &["follow", "--once"]);
    assert_eq!(followed["follow"]["tables"]["markers"]["written"], 3000, "{followed}");
    let second = slots();
    assert_ne!(first, second);
    assert_eq!(second.lines().count(), 1, "{second}");
    done(&rig, &["verify", "--rounds", "1"]);
    // Records of before had no name: their slots were named after the servers alone.
    let record = std::fs::read_to_string(rig.path("import.yml.follow")).unwrap();
    let unnamed = record.replace(&format!("\"{}\"", second.trim()), "null");
    assert_ne!(record, unnamed);
    std::fs::write(rig.path("import.yml.follow"), unnamed).unwrap();
    let followed = done(&rig, &["follow", "--once"]);
    assert_eq!(followed["follow"]["tables"]["markers"]["looked_at"], 3000, "{followed}");
    assert_eq!(slots(), second);
    done(&rig, &["finish", "--rounds", "1"]);
    assert_eq!(slots(), "");
}

#[test]
fn only_one_session_follows_by_a_slot() {
    let rig = prepared();
    done(&rig, &["run"]);
    let mut first = rig.command(&["follow", "--for", "60s"], &[]).spawn().unwrap();
    waiting::until("the first one follows", || {
        std::fs::read_to_string(rig.path("import.yml.follow")).is_ok_and(|record| record.contains("caught_up\":\"2"))
    });
    for command in [&["follow", "--once"][..], &["finish"]] {
        let second = rig.infra(command);
        assert_eq!(second.code, 3, "{}", second.text);
        assert!(second.text.contains("another session follows by it"), "{}", second.text);
    }
    first.kill().unwrap();
    first.wait().unwrap();
    done(&rig, &["follow", "--once"]);
}

#[test]
fn many_small_transactions_between_two_looks_are_all_followed() {
    let rig = prepared();
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}");
    done(&rig, &["run"]);
    done(&rig, &["follow", "--once"]);
    // Each of these statements is a transaction of its own; together they are more than the server gives at once.
    let updates = (0..5_000).map(|number| {
        let id = number % 3000 + 1;
        format!("UPDATE markers SET status = 'changed {number}' WHERE user_id = {id};")
    });
    rig.postgres.sql(&updates.collect::<String>());
    let followed = done(&rig, &["follow", "--once"]);
    assert_eq!(
        followed["follow"]["tables"]["markers"]["looked_at"],
        3000 + 5000,
        "{followed}"
    );
    done(&rig, &["verify", "--rounds", "1"]);
}

#[test]
fn a_slot_that_is_gone_is_made_again_and_every_row_is_looked_at() {
    let rig = prepared();
    done(&rig, &["run"]);
    done(&rig, &["follow", "--once"]);
    rig.postgres
        .superuser_sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
    rig.postgres
        .sql("UPDATE markers SET status = 'missed' WHERE user_id < 500");
    let followed = done(&rig, &["follow", "--once"]);
    assert_eq!(followed["follow"]["tables"]["markers"]["written"], 499, "{followed}");
    done(&rig, &["verify", "--rounds", "1"]);
}

#[test]
fn a_slot_that_makes_the_source_keep_too_much_is_dropped() {
    let rig = prepared();
    rig.mapping_with("follow: {max_log: 1mb}", MAPPING);
    done(&rig, &["run"]);
    done(&rig, &["follow", "--once"]);
    // The server keeps the log from the beginning of its oldest open transaction on.
    let open = "BEGIN; INSERT INTO members VALUES ('open', 'one'); SELECT pg_sleep(60)";
    let mut session = std::process::Command::new("sh")
        .args(["-c", &rig.shell_sql(open)])
        .spawn()
        .unwrap();
    waiting::until("a transaction is open", || {
        rig.postgres
            .superuser_sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
            == "1"
    });
    rig.postgres
        .sql("CREATE TABLE other AS SELECT repeat('x', 500) AS filler FROM generate_series(1, 20000)");
    let followed = rig.infra(&["follow", "--for", "30s"]);
    assert_eq!(followed.code, 5, "{}", followed.text);
    assert!(followed.text.contains("the slot is dropped"), "{}", followed.text);
    assert_eq!(
        rig.postgres.superuser_sql("SELECT count(*) FROM pg_replication_slots"),
        "0"
    );
    rig.postgres
        .superuser_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
    session.wait().unwrap();
}

#[test]
fn a_server_without_replication_is_followed_by_a_column_that_grows() {
    let rig = Rig::on(Postgres::without_replication());
    rig.postgres.sql(
        "CREATE TABLE markers (user_id bigint PRIMARY KEY, status text, updated_at timestamptz NOT NULL DEFAULT now());
         INSERT INTO markers SELECT n, 'old' FROM generate_series(1, 1000) n;",
    );
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}");
    done(&rig, &["run"]);
    let refused = rig.infra(&["follow", "--once"]);
    assert_eq!(refused.code, 64, "{}", refused.text);
    assert!(
        refused
            .text
            .contains("markers: the user of the URL may make no replication slot"),
        "{}",
        refused.text
    );
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status, grows: updated}");
    let misspelt = rig.infra(&["follow", "--once"]);
    assert!(
        misspelt.code == 64 && misspelt.text.contains("did you mean updated_at?"),
        "{}",
        misspelt.text
    );
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status, grows: updated_at}");
    let first = rig.infra(&["follow", "--once"]);
    assert_eq!(first.code, 0, "{}", first.text);
    assert!(
        first.text.contains("what is deleted in PostgreSQL stays in Redis"),
        "{}",
        first.text
    );
    rig.postgres.sql("UPDATE markers SET status = 'new', updated_at = now() WHERE user_id < 100; INSERT INTO markers VALUES (5000, 'new')");
    let followed = done(&rig, &["follow", "--once"]);
    assert_eq!(followed["follow"]["tables"]["markers"]["written"], 100, "{followed}");
    done(&rig, &["verify", "--rounds", "1"]);
    rig.postgres.sql("DELETE FROM markers WHERE user_id = 7");
    done(&rig, &["follow", "--once"]);
    let verified = rig.infra(&["verify", "--rounds", "1"]);
    assert!(
        verified.code == 5 && verified.text.contains("marker:7"),
        "{}",
        verified.text
    );
}

#[test]
fn a_transaction_that_sets_the_column_long_before_it_commits_is_not_missed() {
    let rig = Rig::on(Postgres::without_replication());
    rig.postgres.sql(
        "CREATE TABLE markers (user_id bigint PRIMARY KEY, status text, updated_at timestamptz NOT NULL DEFAULT now());
         INSERT INTO markers SELECT n, 'old' FROM generate_series(1, 100) n;",
    );
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status, grows: updated_at}");
    done(&rig, &["run"]);
    done(&rig, &["follow", "--once"]);
    let slow =
        "BEGIN; UPDATE markers SET status = 'slow', updated_at = now() WHERE user_id = 7; SELECT pg_sleep(4); COMMIT";
    let mut session = std::process::Command::new("sh")
        .args(["-c", &rig.shell_sql(slow)])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    waiting::until("a transaction is open", || {
        let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        rig.postgres.superuser_sql(asleep) == "1"
    });
    rig.postgres
        .sql("UPDATE markers SET status = 'quick', updated_at = now() WHERE user_id = 8");
    done(&rig, &["follow", "--once"]);
    assert_eq!(rig.redis_text("GET marker:8"), "quick");
    assert_eq!(rig.redis_text("GET marker:7"), "old", "it is not committed yet");
    assert!(session.wait().unwrap().success());
    done(&rig, &["follow", "--once"]);
    assert_eq!(rig.redis_text("GET marker:7"), "slow");
}

#[test]
fn a_schema_that_loses_a_column_of_the_key_stops_the_follow_by_name() {
    let rig = prepared();
    done(&rig, &["run"]);
    done(&rig, &["follow", "--once"]);
    rig.postgres
        .sql("ALTER TABLE markers ADD COLUMN more int DEFAULT 7; UPDATE markers SET status = 'more' WHERE user_id = 1");
    rig.postgres.sql("ALTER TABLE stats RENAME app TO application");
    let followed = rig.infra(&["follow", "--once"]);
    assert_eq!(followed.code, 64, "{}", followed.text);
    assert!(followed.text.contains("did you mean application?"), "{}", followed.text);
    rig.postgres.sql("ALTER TABLE stats RENAME application TO app");
    done(&rig, &["follow", "--once"]);
    assert_eq!(rig.redis_text("HGET marker:1 status"), "more");
}
