//! A query that is read in ranges.

use super::rig::Rig;

const ROWS: &str = "CREATE TABLE timeline (user_id int, at int, item text, PRIMARY KEY (user_id, at));
INSERT INTO timeline SELECT n % 30000, n, 'item ' || n FROM generate_series(1, 60000) n; ANALYZE timeline;";

const QUERY: &str = "- query: SELECT user_id, array_agg(item ORDER BY at) AS items FROM timeline GROUP BY user_id
  name: timelines
  key_columns: [user_id]
  key: 'timeline:{{ user_id }}'
  type: list
  value: items
  ranges: true";

#[test]
fn a_query_is_read_in_ranges_and_a_row_that_goes_meanwhile_does_not_come_back() {
    let rig = Rig::start();
    rig.postgres.sql(ROWS);
    rig.mapping(QUERY);
    let planned = rig.infra(&["plan", "--json"]);
    assert_eq!(planned.json["tables"][0]["in_ranges"], true, "{}", planned.text);
    let act = format!(
        "{} && {}",
        rig.shell_sql("DELETE FROM timeline WHERE user_id = 3"),
        rig.shell_redis("DEL timeline:3")
    );
    let log = rig.path("points");
    let variables = [
        ("INFRA_FAULT_ON", "between read and write of timelines"),
        ("INFRA_FAULT_RUN", act.as_str()),
        ("INFRA_FAULT_LOG", log.to_str().unwrap()),
    ];
    let ran = rig.infra_with(&["run", "--json"], &variables);
    assert_eq!(ran.code, 0, "{}", ran.text);
    let counts = &ran.json["tables"]["timelines"];
    assert_eq!(
        (&counts["rows"], &counts["taken_back"]),
        (&30_000.into(), &1.into()),
        "{}",
        ran.text
    );
    let points = std::fs::read_to_string(&log).unwrap();
    let ranges = points
        .lines()
        .filter(|line| line.starts_with("before noting a range"))
        .count();
    assert_eq!(ranges, 2, "{points}");
    assert_eq!(rig.redis_text("DBSIZE"), "29999");
    let verified = rig.infra(&["verify", "--rounds", "1"]);
    assert_eq!(verified.code, 0, "{}", verified.text);
}

#[test]
fn a_row_that_is_in_no_range_since_its_key_is_null_is_an_error() {
    let rig = Rig::start();
    rig.postgres
        .sql("CREATE TABLE pages (id int, body text); INSERT INTO pages VALUES (1, 'a'), (NULL, 'b')");
    rig.mapping("- {table: pages, key_columns: [id], key: 'page:{{ id }}', type: string, value: body, ranges: true}");
    for verb in ["run", "verify"] {
        let answer = rig.infra(&[verb]);
        assert_eq!(answer.code, 1, "{}", answer.text);
        assert!(answer.text.contains("a key column of a row is NULL"), "{}", answer.text);
    }
    assert_eq!(rig.redis_text("DBSIZE"), "0");
}
