//! `infra import` against a real PostgreSQL and a real Redis on loopback, by the real program.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod differences;
mod dual_writes;
mod follow;
mod hosted;
mod large;
mod meanwhile;
mod queries;
mod random;
mod refusals;
mod resume;
mod rig;
mod schema;
mod types;
mod watch;

use rig::Rig;

const MARKERS: &str =
    "CREATE TABLE markers (user_id bigint PRIMARY KEY, status text, seen timestamptz, ends timestamptz);
INSERT INTO markers SELECT n, 'status ' || n, '2026-01-31 10:15:00+00'::timestamptz + n * interval '1 second',
 CASE WHEN n % 2 = 0 THEN '2100-01-01'::timestamptz END FROM generate_series(1, 5000) n;
ANALYZE markers;";

#[test]
fn a_table_becomes_keys_and_both_are_proven_identical() {
    let rig = Rig::start();
    rig.postgres.sql(MARKERS);
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status, expires_at: ends}");
    let before = rig.catalogue();
    let ran = rig.infra(&["run", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.text);
    assert_eq!(ran.json["tables"]["markers"]["written"], 5000);
    assert_eq!(rig.redis_text("GET marker:17"), "status 17");
    assert_eq!(rig.redis_text("PEXPIRETIME marker:18"), "4102444800000");
    assert_eq!(rig.redis_text("PEXPIRETIME marker:17"), "-1");
    let verified = rig.infra(&["verify", "--json"]);
    assert_eq!(verified.code, 0, "{}", verified.text);
    assert_eq!(verified.json["verdict"]["rows"]["markers"], 5000);
    assert_eq!(verified.json["verdict"]["keys"]["markers"], 5000);
    let again = rig.infra(&["run", "--json"]);
    assert_eq!(again.json["tables"]["markers"]["same"], 5000, "{}", again.text);
    assert_eq!(rig.catalogue(), before, "an import changes nothing in PostgreSQL");
}

#[test]
fn any_redis_can_be_the_target_by_its_url() {
    let rig = Rig::start();
    rig.postgres.sql(MARKERS);
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}");
    let file = std::fs::read_to_string(rig.path("import.yml")).unwrap();
    let file = file.replace("{redis: hosted}", "{url_env: OTHER_URL}");
    std::fs::write(rig.path("import.yml"), file).unwrap();
    let missing = rig.infra(&["run"]);
    assert_eq!(missing.code, 64, "{}", missing.text);
    assert!(missing.text.contains("set OTHER_URL"), "{}", missing.text);
    // The source of infra.yml is a server that is not there.
    let variables = [("OTHER_URL", &*rig.redis_url()), ("REDIS_URL", "redis://127.0.0.1:1")];
    for verb in [&["plan"][..], &["run"], &["follow", "--once"], &["verify"], &["finish"]] {
        let answer = rig.infra_with(verb, &variables);
        assert_eq!(answer.code, 0, "{verb:?}: {}", answer.text);
    }
    assert_ne!(rig.redis_text("DBSIZE"), "0");
}

#[test]
fn a_first_file_is_written_from_the_schema_and_works_as_it_is() {
    let rig = Rig::start();
    rig.postgres.sql(MARKERS);
    rig.postgres.sql("CREATE TABLE log (line text); CREATE TYPE pair AS (a int, b int); CREATE TABLE odd (id int PRIMARY KEY, p pair)");
    let written = rig.infra(&["init", "--url-env", "DATABASE_URL"]);
    assert_eq!(written.code, 0, "{}", written.text);
    let file = std::fs::read_to_string(rig.path("import.yml")).unwrap();
    assert!(file.contains("# log: ") && file.contains("no primary key"), "{file}");
    assert!(file.contains("p is left out"), "{file}");
    let planned = rig.infra(&["plan", "--json"]);
    assert_eq!(planned.code, 0, "{}", planned.text);
    assert_eq!(planned.json["tables"][0]["rows"], 5000);
    assert_eq!(rig.redis_text("DBSIZE"), "0", "a plan writes nothing");
    assert_eq!(rig.infra(&["run"]).code, 0);
    assert_eq!(rig.redis_text("HGET markers:17 seen"), "2026-01-31T10:15:17Z");
    let used: u64 = rig.redis_text("MEMORY USAGE markers:17 SAMPLES 0").parse().unwrap();
    let estimated = planned.json["tables"][0]["memory_bytes"].as_u64().unwrap() / 5000;
    assert!(
        estimated.abs_diff(used) * 4 < used,
        "estimated {estimated}, used {used}"
    );
    assert_eq!(rig.infra(&["verify"]).code, 0);
    let again = rig.infra(&["init", "--url-env", "DATABASE_URL"]);
    assert_eq!(again.code, 64, "a file that exists is left: {}", again.text);
}

#[test]
fn no_secret_is_shown_in_any_output() {
    let rig = Rig::start();
    rig.postgres.sql(MARKERS);
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}");
    let password = rig
        .postgres
        .url()
        .split(':')
        .nth(2)
        .unwrap()
        .split('@')
        .next()
        .unwrap()
        .to_owned();
    assert!(password.len() > 8, "{password}");
    for arguments in [&["plan", "-vv"][..], &["run", "-vv"], &["verify", "--json", "-vv"]] {
        let answer = rig.infra(arguments);
        assert!(!answer.text.contains(&password), "{}", answer.text);
    }
}
