//! Mappings and rows that are refused before anything is written, and their errors.

use super::rig::{Answer, Rig};

fn refused(rig: &Rig, tables: &str) -> Answer {
    rig.mapping(tables);
    let ran = rig.infra(&["run"]);
    assert_ne!(ran.code, 0, "{tables}: {}", ran.text);
    assert_eq!(rig.redis_text("DBSIZE"), "0", "nothing is written: {tables}");
    assert!(ran.text.contains("next:"), "{}", ran.text);
    ran
}

#[test]
fn names_that_are_misspelt_come_with_the_nearest_right_one() {
    let rig = Rig::start();
    rig.postgres
        .sql("CREATE TABLE markers (user_id int PRIMARY KEY, status text)");
    for (tables, near, code) in [
        (
            "- {table: markers, key: 'm:{{ user_idx }}', type: string, value: status}",
            "did you mean user_id?",
            64,
        ),
        (
            "- {table: markers, key: 'm:{{ user_id }}', type: string, value: statusx}",
            "did you mean status?",
            64,
        ),
        (
            "- {table: marker, key: 'm:{{ user_id }}', type: string, value: status}",
            "did you mean public.markers?",
            64,
        ),
    ] {
        let ran = refused(&rig, tables);
        assert_eq!(ran.code, code, "{}", ran.text);
        assert!(ran.text.contains(near), "{}", ran.text);
    }
}

#[test]
fn a_target_that_follows_another_server_is_refused_before_anything_is_read() {
    let rig = Rig::start();
    rig.postgres
        .sql("CREATE TABLE markers (user_id bigint PRIMARY KEY, status text)");
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}");
    rig.redis("REPLICAOF 127.0.0.1 1");
    for verb in [&["plan"][..], &["run"], &["follow", "--once"]] {
        let answer = rig.infra(verb);
        assert_eq!(answer.code, 64, "{}", answer.text);
        assert!(answer.text.contains("it follows another server"), "{}", answer.text);
    }
    assert_eq!(
        rig.postgres
            .superuser_sql("SELECT count(*) FROM pg_replication_slots")
            .trim(),
        "0"
    );
    rig.redis("REPLICAOF NO ONE");
    assert_eq!(rig.infra(&["run"]).code, 0);
}

#[test]
fn rows_that_would_become_one_key_are_both_named() {
    let rig = Rig::start();
    rig.postgres.sql("CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'ada'), (2, 'bob'), (3, 'ada')");
    let ran = refused(&rig, "- {table: users, key: 'u:{{ name }}', type: string, value: id}");
    assert!(
        ran.text.contains("id=1 of users and id=3 of users both become u:ada"),
        "{}",
        ran.text
    );
    let ran = refused(
        &rig,
        "- {table: users, key: 'u:{{ id % 2 }}', type: string, value: name}",
    );
    assert!(ran.text.contains("both become u:1"), "{}", ran.text);
}

#[test]
fn a_row_that_violates_the_template_is_named() {
    let rig = Rig::start();
    rig.postgres
        .sql("CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'ada'), (7, NULL)");
    let ran = refused(&rig, "- {table: users, key: 'u:{{ name }}', type: string, value: id}");
    assert!(
        ran.text.contains("id=7 of users") && ran.text.contains("name, which is NULL"),
        "{}",
        ran.text
    );
}

#[test]
fn a_server_whose_certificate_nobody_vouches_for_is_refused() {
    let rig = Rig::start();
    rig.postgres.sql("CREATE TABLE users (id int PRIMARY KEY, name text)");
    rig.mapping("- {table: users, key: 'u:{{ id }}', type: string, value: name}");
    let ran = rig.infra_with(&["run"], &[("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")]);
    assert_eq!(ran.code, 1, "{}", ran.text);
    assert!(
        ran.text.contains("authority that is not trusted") && ran.text.contains("tls_pin"),
        "{}",
        ran.text
    );
}
