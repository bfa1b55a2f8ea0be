//! The schema changes while an import runs: the column is named, and no key gets half of it.

use super::rig::Rig;

const ROWS: &str = "DROP TABLE IF EXISTS first, second;
CREATE TABLE first (id int PRIMARY KEY, status text);
CREATE TABLE second (id int PRIMARY KEY, status int);
INSERT INTO first SELECT n, 'status ' || n FROM generate_series(1, 100) n;
INSERT INTO second SELECT n, n FROM generate_series(1, 100) n;";

const BOTH: &str = "- {table: first, key: 'first:{{ id }}', type: string, value: status}
- {table: second, key: 'second:{{ id }}', type: json}";

#[test]
fn a_column_that_goes_or_becomes_another_between_two_tables_is_named_before_a_row_is_written() {
    let rig = Rig::start();
    for (change, named) in [
        ("DROP COLUMN status", "no column status any more"),
        ("RENAME status TO state", "no column status any more"),
        (
            "ALTER status TYPE text USING 'number ' || status",
            "its column status was of type",
        ),
    ] {
        rig.redis("FLUSHALL");
        rig.postgres.sql(ROWS);
        rig.mapping(BOTH);
        let act = rig.shell_sql(&format!("ALTER TABLE second {change}"));
        let variables = [
            ("INFRA_FAULT_ON", "between read and write of first"),
            ("INFRA_FAULT_RUN", act.as_str()),
        ];
        let ran = rig.infra_with(&["run"], &variables);
        assert_eq!(ran.code, 64, "{change}: {}", ran.text);
        assert!(ran.text.contains(named), "{change}: {}", ran.text);
        assert_eq!(
            rig.redis_text("DBSIZE"),
            "100",
            "{change}: only the first table is there"
        );
        // The mapping is checked against the new schema then.
        rig.mapping(&BOTH.replace("json", "hash"));
        let ran = rig.infra(&["run"]);
        assert_eq!(ran.code, 0, "{change}: {}", ran.text);
        assert_eq!(rig.infra(&["verify", "--rounds", "1"]).code, 0, "{change}");
    }
}

#[test]
fn a_change_in_the_middle_of_a_table_ends_the_run_and_the_next_one_names_the_column() {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    rig.mapping(BOTH);
    // The change waits for the run, and the run would wait for the change.
    let act = format!("({}) & sleep 1", rig.shell_sql("ALTER TABLE first DROP COLUMN status"));
    let variables = [
        ("INFRA_FAULT_ON", "between write and look of first"),
        ("INFRA_FAULT_RUN", act.as_str()),
    ];
    let ran = rig.infra_with(&["run"], &variables);
    assert_eq!(ran.code, 1, "{}", ran.text);
    assert!(ran.text.contains("somebody changes the schema"), "{}", ran.text);
    testkit::waiting::until("the column is gone", || {
        rig.postgres.sql(
            "SELECT count(*) FROM information_schema.columns WHERE table_name = 'first' AND column_name = 'status'",
        ) == "0"
    });
    let ran = rig.infra(&["run"]);
    assert_eq!(ran.code, 64, "{}", ran.text);
    assert!(ran.text.contains("status"), "{}", ran.text);
    assert_eq!(rig.redis_text("GET first:17"), "status 17", "what was written is whole");
    rig.mapping("- {table: second, key: 'second:{{ id }}', type: json}");
    assert_eq!(rig.infra(&["run"]).code, 0);
    assert_eq!(rig.infra(&["verify", "--rounds", "1"]).code, 0);
}

#[test]
fn a_type_that_changes_while_a_table_is_followed_or_compared_stops_that_by_name() {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    rig.mapping(BOTH);
    for arguments in [&["run"][..], &["follow", "--once"]] {
        let answer = rig.infra(arguments);
        assert_eq!(answer.code, 0, "{}", answer.text);
    }
    rig.postgres.sql("UPDATE second SET status = 700 WHERE id = 7");
    let act = rig.shell_sql("ALTER TABLE second ALTER status TYPE text USING 'number ' || status");
    let variables = [
        ("INFRA_FAULT_ON", "between watch and look of second"),
        ("INFRA_FAULT_RUN", act.as_str()),
    ];
    let followed = rig.infra_with(&["follow", "--once"], &variables);
    assert_eq!(followed.code, 64, "{}", followed.text);
    assert!(
        followed.text.contains("its column status was of type"),
        "{}",
        followed.text
    );
    assert_eq!(rig.redis_text("GET second:7"), r#"{"id":7,"status":7}"#);
    let followed = rig.infra(&["follow", "--once"]);
    assert_eq!(followed.code, 0, "{}", followed.text);
    assert_eq!(rig.redis_text("GET second:7"), r#"{"id":7,"status":"number 700"}"#);
    // Rows that were read before the change fit their keys, and later ones do not: the reason is told.
    let act = rig.shell_sql("ALTER TABLE second ALTER status TYPE integer USING 7");
    let variables = [
        ("INFRA_FAULT_ON", "between read and comparison of second"),
        ("INFRA_FAULT_RUN", act.as_str()),
    ];
    let compared = rig.infra_with(&["verify", "--rounds", "1"], &variables);
    assert_eq!(compared.code, 64, "{}", compared.text);
    assert!(
        compared.text.contains("was of type \"pg_catalog\".\"text\""),
        "{}",
        compared.text
    );
}
