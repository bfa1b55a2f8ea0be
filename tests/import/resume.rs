//! A run that is killed goes on where it stopped, wherever that was.

use super::rig::Rig;

const ROWS: &str = "CREATE TABLE markers (user_id bigint PRIMARY KEY, status text);
INSERT INTO markers SELECT n, 'status ' || n FROM generate_series(1, 45000) n; ANALYZE markers;";

#[test]
fn a_run_that_is_killed_at_each_step_goes_on_and_ends_identical() {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    rig.mapping("- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}");
    let seen = rig.path("seen");
    let seen = seen.to_str().unwrap();
    let mut killed = 0;
    let ran = loop {
        let ran = rig.infra_with(&["run", "--json"], &[("INFRA_FAULT_NEW", seen)]);
        if ran.code != -1 {
            break ran;
        }
        killed += 1;
        assert!(killed < 50, "{}", ran.text);
    };
    assert!(killed >= 4, "it was killed only {killed} times");
    assert_eq!(ran.code, 0, "{}", ran.text);
    assert_eq!(rig.redis_text("DBSIZE"), "45000");
    assert_eq!(rig.infra(&["verify"]).code, 0);
    assert!(
        !rig.path("import.yml.progress").exists(),
        "a complete run leaves no progress"
    );
}

#[test]
fn what_an_earlier_run_did_is_not_read_again() {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    rig.mapping_with(
        "limits: {parallel: 1}",
        "- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}",
    );
    let log = rig.path("points");
    let at = [("INFRA_FAULT_LOG", log.to_str().unwrap())];
    let killing = rig.path("seen");
    std::fs::write(
        &killing,
        "between read and write of markers\nbetween write and look of markers\nbefore noting a range of markers\n",
    )
    .unwrap();
    let first = rig.infra_with(&["run"], &[("INFRA_FAULT_NEW", killing.to_str().unwrap())]);
    assert_eq!(first.code, -1, "{}", first.text);
    assert_eq!(rig.redis_text("DBSIZE"), "20000", "one range was written");
    rig.redis("FLUSHALL");
    let second = rig.infra_with(&["run", "--json"], &at);
    assert_eq!(second.json["tables"]["markers"]["rows"], 45000, "{}", second.text);
    assert_eq!(rig.redis_text("DBSIZE"), "25000", "only the other ranges are written");
    let verified = rig.infra(&["verify", "--rounds", "1", "--json"]);
    assert_eq!(verified.code, 5);
    assert_eq!(rig.infra(&["run", "--restart"]).code, 0);
    assert_eq!(rig.infra(&["verify"]).code, 0);
}

#[test]
fn no_more_rows_are_read_in_a_second_than_the_limit_says() {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    let tables = "- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}";
    // 45,000 rows: 1.8 s to read the rows behind the first window, and as much for the keys.
    rig.mapping_with("limits: {rows_per_s: 22500}", tables);
    for (verb, least) in [("run", 1.8), ("verify", 3.6)] {
        let begun = std::time::Instant::now();
        assert_eq!(rig.infra(&[verb]).code, 0);
        let took = begun.elapsed().as_secs_f64();
        assert!((least..least + 6.0).contains(&took), "{verb}: {took} s");
    }
    for (wrong, said) in [("0", "integer `0`"), ("fast", "string \"fast\"")] {
        rig.mapping_with(&format!("limits: {{rows_per_s: {wrong}}}"), tables);
        let answer = rig.infra(&["plan"]);
        assert_eq!(answer.code, 64, "{}", answer.text);
        assert!(
            answer.text.contains(said) && answer.text.contains("or `unlimited`"),
            "{}",
            answer.text
        );
    }
}

#[test]
fn a_server_that_is_restarted_is_an_error_with_a_next_step_and_the_next_run_goes_on() {
    let mut rig = Rig::start();
    rig.postgres.sql(ROWS);
    rig.mapping_with(
        "limits: {rows_per_s: 10000}",
        "- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}",
    );
    let mut running = rig.command(&["run"], &[]);
    running
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null());
    let running = running.spawn().unwrap();
    testkit::waiting::until("some rows are written", || rig.redis_text("DBSIZE") != "0");
    rig.postgres.crash();
    let ended = running.wait_with_output().unwrap();
    let text = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{text}");
    assert!(text.contains("next:"), "{text}");
    rig.postgres.resume();
    assert_eq!(rig.infra(&["run"]).code, 0);
    assert_eq!(rig.infra(&["verify"]).code, 0);
}
